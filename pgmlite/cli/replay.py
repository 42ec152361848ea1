"""``replay``: a capture instead of a network."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from random import Random
from typing import Any

import click

from pgmlite.capture.file import Capture
from pgmlite.capture.notes import capture_facts, notes
from pgmlite.capture.replay import Choice, ReplayLoop, find_group
from pgmlite.cli import options
from pgmlite.cli.options import PATH, option
from pgmlite.cli.output import Output, ReceiveReport, oid_text
from pgmlite.cli.values import check_moment, parse_oid, parse_repairer, parse_share
from pgmlite.core.config import ReceiverConfig
from pgmlite.core.human import human_bytes
from pgmlite.core.impair import Loss, Reorder
from pgmlite.core.machine import SendNak
from pgmlite.core.ranges import runs
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import PgmliteError, UsageError
from pgmlite.net.loop import Stop
from pgmlite.storage.part import PartFile
from pgmlite.storage.record import remove_record
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.control import Manifest
from pgmlite.wire.layout import HEADER
from pgmlite.wire.request import parse_nak

EXAMPLES = """\b
Examples:
  pgmlite replay site.pcap -o firmware.bin
  pgmlite replay site.pcapng -o fw.bin --port 4000 --drop 5% --seed 7 --json
"""


class ReplayReport(ReceiveReport):
    """The listener of a replay."""

    def __init__(self, output: Output, machine: Receiver, capture: Capture) -> None:
        super().__init__(output, machine, None)
        self._capture = capture

    def counters(self) -> dict[str, Any]:
        """Counters as in ``--json``."""
        return {**super().counters(), **capture_facts(self._capture)}

    def nak(self, seconds: float, nak: SendNak) -> None:
        """Show a NAK that the receiver would send."""
        header = HEADER.parse(nak.packet)
        total = -(-header.size // header.symbol_size)
        symbols = parse_nak(nak.packet[HEADER_SIZE:], total).symbols
        ranges = [[int(symbols[start]), int(symbols[stop - 1])] for start, stop in runs(symbols)]
        named = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in ranges)
        address, port = nak.endpoint
        self._output.event(
            "nak",
            f"at {seconds:.6f} s would send a NAK to {address} port {port}: symbols {named}",
            at=round(seconds, 9),
            endpoint=[address, port],
            symbols=ranges,
            packet=nak.packet.hex(),
        )

    def replayed(self, manifest: Manifest, path: str) -> None:
        """Say that the object was verified and published."""
        counters = self.counters()
        self._output.event(
            "complete",
            f"complete: {path}, {human_bytes(manifest.size)} verified after "
            f"{counters['packets']} packets, {counters['cycles']:.2f} cycles, "
            f"{counters['lost']} packets lost",
            oid=oid_text(manifest.oid),
            path=path,
            size=manifest.size,
            tree_digest=manifest.tree_digest.hex(),
            **counters,
        )

    def incomplete(self, error: PgmliteError) -> None:
        """Tell programs what is missing; people read the error itself."""
        self._output.failed(
            "failed",
            "",
            error,
            missing=[list(one) for one in self._machine.missing],
            **self.counters(),
        )


def _address(text: str) -> str:
    """Return an address as captures name it.

    Raises:
        UsageError: It is none.
    """
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise UsageError(f"--group {text}: give an address") from None


@click.command(epilog=EXAMPLES, short_help="Receive a file into PATH from a capture.")
@click.argument("file", metavar="CAPTURE", type=PATH)
@options.output_path
@option("-g", "--group", metavar="ADDR", help="Destination of the packets; default: the first.")
@option("-p", "--port", type=click.IntRange(1, 65_535), metavar="PORT", help="Their UDP port.")
@option("--object", "oid", metavar="ID", help="Take this object only; `info` names them.")
@option(
    "--from",
    "start",
    type=float,
    default=0.0,
    metavar="SECONDS",
    help="Begin so long after the first packet.",
)
@option(
    "--until",
    "stop_at",
    type=float,
    metavar="SECONDS",
    help="End so long after the first packet.",
)
@option("--drop", default="0%", metavar="SHARE", help="Lose packets, such as 5%.")
@option(
    "--reorder",
    default="0%",
    metavar="SHARE",
    help="Let so many packets come up to 8 places too late.",
)
@option("--seed", type=int, default=0, help="Seed of --drop, --reorder and the waits before NAKs.")
@option("--realtime", is_flag=True, help="Take the time that the capture took.")
@option("--no-nak", is_flag=True, help="Never ask for repairs.")
@options.no_checksum
@option(
    "--repairer",
    multiple=True,
    metavar="ADDR:PORT",
    help="A stand-alone repairer that the receiver may ask; repeatable.",
)
@options.as_json
def replay(
    file: Path,
    output_path: Path,
    group: str | None,
    port: int | None,
    oid: str | None,
    start: float,
    stop_at: float | None,
    drop: str,
    reorder: str,
    seed: int,
    realtime: bool,
    no_nak: bool,
    no_checksum: bool,
    repairer: tuple[str, ...],
    as_json: bool,
) -> None:
    """Receive a file into PATH from CAPTURE (pcap, pcapng), as `recv` from a network.

    CAPTURE may be compressed or damaged: what can be read of it is used.

    Writes the file, or says which bytes of it are missing. NAKs that the receiver would send are
    listed. What came is kept in PATH.part: the replay of another capture goes on from there.
    """
    stop = Stop()
    stop.install()
    wanted = None if oid is None else parse_oid(oid)
    choice = Choice(
        None if group is None else _address(group),
        port,
        wanted,
        check_moment("--from", start),
        None if stop_at is None else check_moment("--until", stop_at),
    )
    config = ReceiverConfig(
        oid=wanted,
        naks=not no_nak,
        repairers=frozenset(parse_repairer(text, None) for text in repairer),
    )
    dropped, late = parse_share("--drop", drop), parse_share("--reorder", reorder)
    capture = Capture(file, checksums=not no_checksum)
    destination = find_group(capture, choice)
    machine = Receiver(config, rng=Random(f"{seed}/back-off"))
    part = PartFile(
        output_path,
        output_is_seed=False,
        before_rename=lambda _: remove_record(output_path),
    )
    try:
        with Output(as_json=as_json) as output:
            report = ReplayReport(output, machine, capture)
            output.event(
                "start",
                "",
                capture=str(file),
                group=destination[0],
                port=destination[1],
                output=str(output_path),
            )
            loop = ReplayLoop(
                machine,
                capture,
                part,
                report,
                stop,
                choice=choice,
                group=destination,
                loss=Loss(dropped, Random(seed)) if dropped else None,
                reorder=Reorder(late, Random(f"{seed}/reorder")) if late else None,
                realtime=realtime,
            )
            try:
                manifest = loop.run().manifest
            except PgmliteError as error:
                report.incomplete(error)
                raise
            for text in notes(capture):
                output.warn(f"{file}: {text}")
            report.replayed(manifest, str(output_path))
    finally:
        part.close()
