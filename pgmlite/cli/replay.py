"""``replay``: a capture instead of a network."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import click

from pgmlite.api import Handle
from pgmlite.capture.file import Capture
from pgmlite.capture.job import ReplayJob
from pgmlite.capture.replay import Choice, find_group
from pgmlite.cli import options
from pgmlite.cli.json_lines import by_capture
from pgmlite.cli.options import PATH, option
from pgmlite.cli.output import Output
from pgmlite.cli.signals import Signals
from pgmlite.cli.values import parse_share
from pgmlite.core.config import ReceiverConfig
from pgmlite.errors import UsageError
from pgmlite.net.arguments import (
    check_beside_keys,
    check_moment,
    check_pattern,
    parse_oid,
    parse_repairer,
)

EXAMPLES = """\b
Examples:
  pgmlite replay site.pcap -o firmware.bin
  pgmlite replay site.pcapng -o fw.bin --port 4000 --drop 5% --seed 7 --json
"""


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
@options.captured_output
@option("-g", "--group", metavar="ADDR", help="Destination of the packets; default: the first.")
@option("-p", "--port", type=click.IntRange(1, 65_535), metavar="PORT", help="Their UDP port.")
@option("--object", "oid", metavar="ID", help="Take this object only; `info` names them.")
@options.keys
@options.stream
@options.object_name
@options.duration(
    "--from",
    "start",
    default=0.0,
    help="Begin so long after the first packet.",
)
@options.duration(
    "--until",
    "stop_at",
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
    output: str,
    group: str | None,
    port: int | None,
    oid: str | None,
    keys: tuple[Path, ...],
    stream: str | None,
    object_name: str | None,
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
    """Receive a file into PATH, or a folder into DIR/, from CAPTURE (pcap, pcapng), as `recv` does
    from a network.

    CAPTURE may be compressed or damaged: what can be read of it is used.

    Writes it, or says which bytes of it are missing. NAKs that the receiver would send are
    listed. What came is kept in PATH.part: the replay of another capture goes on from there.
    """
    signals = Signals()
    signals.install()
    check_beside_keys(keys, stream=stream, allow_rollback=False)
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
    job = ReplayJob(
        capture=capture,
        group=destination,
        output=output,
        choice=choice,
        config=config,
        keys=keys,
        stream=stream or "",
        object_name=check_pattern(object_name),
        seed=seed,
        loss=dropped,
        reorder=late,
        realtime=realtime,
    )
    handle = Handle(job.run, began=capture.first or 0)
    signals.stop(handle)
    Output(as_json=as_json, unix_time=by_capture).follow(handle)
