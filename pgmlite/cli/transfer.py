"""``send`` and ``recv``."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from random import Random, SystemRandom
from typing import Annotated

import typer

from pgmlite.cli.output import (
    Output,
    ReceiveReport,
    SendReport,
    oid_text,
)
from pgmlite.cli.values import (
    check_seconds,
    choose_symbol_size,
    human_bytes,
    human_rate,
    human_time,
    parse_endpoint,
    parse_oid,
    parse_rate,
    parse_repairer,
    parse_share,
    parse_start,
)
from pgmlite.core.config import (
    DEFAULT_BLOCK_SYMBOLS,
    ReceiverConfig,
    RepairConfig,
    SenderConfig,
)
from pgmlite.core.impair import Loss
from pgmlite.core.receiver import Receiver
from pgmlite.core.sender import Sender
from pgmlite.errors import HookError, PgmliteError, UsageError
from pgmlite.net.driver import ReceiveLoop, SendLoop, Stop
from pgmlite.net.storage import PartFile, SourceFile
from pgmlite.net.udp import (
    MAX_SEGMENTS,
    Channel,
    NakSocket,
    ReceiverSocket,
    SenderSocket,
    interface_mtu,
    resolve,
)
from pgmlite.wire.batch import HEADER_SIZE, SendBuffer
from pgmlite.wire.control import Manifest
from pgmlite.wire.layout import MAX_PACKET

DEFAULT_GROUP = "ff15::7067:6d"
DEFAULT_PORT = 28_775

Group = Annotated[
    str,
    typer.Option(
        "-g", "--group", metavar="ADDR[%IF]", envvar="PGMLITE_GROUP", help="Multicast group."
    ),
]
Port = Annotated[int, typer.Option("-p", "--port", envvar="PGMLITE_PORT", help="UDP port.")]
Interface = Annotated[
    str | None,
    typer.Option(
        "-i",
        "--interface",
        metavar="IF",
        envvar="PGMLITE_INTERFACE",
        help="Network interface by name; may be left out where only one can be meant.",
    ),
]
Rate = Annotated[
    str,
    typer.Option(
        "-r",
        "--rate",
        metavar="RATE|max",
        envvar="PGMLITE_RATE",
        help="Bits a second on the wire with IP headers: 500k, 10M, 2.5G; max: no limit.",
    ),
]
Hops = Annotated[
    int,
    typer.Option(min=1, max=255, envvar="PGMLITE_HOPS", help="Routers that may forward, plus 1."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print events as JSON, one a line, on stdout.")
]

Listen = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDR]:PORT",
        help="Where NAKs are taken; default: the interface, at the port after --port.",
    ),
]


def open_ear(channel: Channel, listen: str | None) -> NakSocket:
    """Open the socket that takes NAKs.

    Raises:
        UsageError: `listen` is no address and port.
        NetworkError: The port is taken, or the address is not this machine's.
    """
    address, port = parse_endpoint(listen) if listen else ("", channel.port + 1)
    return NakSocket(channel, port, address)


SEND_EXAMPLES = (
    "Examples:  pgmlite send firmware.bin -i eth0 -r 50M  ·  "
    "pgmlite send image.iso -g 239.1.2.3 -i eth0 -r 200M --hops 8  ·  "
    "pgmlite send firmware.bin -i eth0 --start 50%  (a second sender, half a cycle ahead)"
)
RECV_EXAMPLES = (
    "Examples:  pgmlite recv -o firmware.bin -i eth0  ·  "
    "pgmlite recv -o image.iso -g 239.1.2.3 -i eth0 --timeout 3600  ·  "
    "pgmlite recv -o fw.bin -i eth0 --on-complete 'rauc install'"
)


def send(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to send.")],
    group: Group = DEFAULT_GROUP,
    port: Port = DEFAULT_PORT,
    interface: Interface = None,
    rate: Rate = "10M",
    hops: Hops = 1,
    start: Annotated[
        str,
        typer.Option(metavar="SHARE|BYTES", help="Where the first cycle starts, such as 50%."),
    ] = "0%",
    cycles: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after N whole cycles.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop after this time.")
    ] = None,
    mtu: Annotated[
        int | None,
        typer.Option(
            metavar="BYTES",
            envvar="PGMLITE_MTU",
            help="Largest IP packet. Default: the interface's up to 1500 on one link "
            "(--hops 1), else 1280. Senders of one object must use the same.",
        ),
    ] = None,
    symbol_size: Annotated[
        int | None,
        typer.Option(metavar="BYTES", help="Bytes of the file in a packet; overrides --mtu."),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Answer NAKs: repeat at once what receivers say they lost."),
    ] = False,
    listen: Listen = None,
    repair_share: Annotated[
        str,
        typer.Option(metavar="SHARE", help="Share of the rate that repairs may take, 5% to 90%."),
    ] = "50%",
    repairer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDR:PORT", help="Name a stand-alone repairer in the manifest; repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send FILE for ever, to whoever listens.

    Packets go out at a steady rate, over and over. Without --repair nothing is ever read from
    the network: one receiver or a million cost the same. Press Ctrl-C to stop.
    """
    stop = Stop()
    stop.install()
    source = SourceFile(file)
    bits = parse_rate(rate)
    channel = resolve(group, port, interface)
    size = choose_symbol_size(symbol_size, mtu, hops=hops, interface_mtu=interface_mtu(channel))
    burst = min(MAX_SEGMENTS, MAX_PACKET // (HEADER_SIZE + size))
    repairers = tuple(parse_repairer(text) for text in repairer or ())
    if not repair and listen:
        raise UsageError("--listen: goes with --repair")
    share = parse_share(repair_share)
    ear = open_ear(channel, listen) if repair else None
    repairs = RepairConfig(port=ear.port, share=share) if ear else None
    config = SenderConfig(
        rate=bits,
        packet_overhead=channel.overhead,
        max_burst=burst,
        start=parse_start(start, source.size),
        cycles=cycles,
        duration=check_seconds("--duration", duration),
    )
    socket = SenderSocket(channel, hops=hops)
    with Output(as_json=as_json) as output:

        def hashed(done: int, total: int) -> None:
            stop.check()
            output.hashing(done, total)

        manifest, index = source.describe(size, DEFAULT_BLOCK_SYMBOLS, hashed, repairers=repairers)
        machine = Sender(config, manifest, index, repair=repairs, rng=SystemRandom())
        report = SendReport(output, machine)
        _announce(output, manifest, config, channel)
        buffer = SendBuffer(size, config.transmit_limit)
        try:
            ears = [ear] if ear else []
            SendLoop(machine, socket, source, buffer, burst, report, stop, ears).run()
        except PgmliteError as error:
            report.stopped(str(error))
            raise
        report.stopped("finished")


def _announce(output: Output, manifest: Manifest, config: SenderConfig, channel: Channel) -> None:
    cycle = ""
    if config.rate and manifest.size:
        packet = manifest.symbol_size + HEADER_SIZE + config.packet_overhead
        cycle = f"; a cycle takes {human_time(manifest.symbols * packet * 8 / config.rate)}"
    output.event(
        "start",
        f"sending {manifest.name}, {human_bytes(manifest.size)}, as object "
        f"{oid_text(manifest.oid)} to {channel} at {human_rate(config.rate)}{cycle}",
        oid=oid_text(manifest.oid),
        name=manifest.name,
        size=manifest.size,
        index_digest=manifest.index_digest.hex(),
        symbol_size=manifest.symbol_size,
        blocks=manifest.blocks,
        group=channel.group,
        port=channel.port,
        interface=channel.interface,
        rate=config.rate or 0,
    )


def recv(
    output_path: Annotated[
        Path, typer.Option("-o", "--output", metavar="PATH", help="The file to write.")
    ],
    group: Group = DEFAULT_GROUP,
    port: Port = DEFAULT_PORT,
    interface: Interface = None,
    oid: Annotated[
        str | None,
        typer.Option(
            "--object", metavar="ID", help="Take this object only, by the ID send prints."
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Give up after this time; what came is kept."),
    ] = None,
    no_nak: Annotated[
        bool,
        typer.Option("--no-nak", help="Never ask for repairs; use those that others ask for."),
    ] = False,
    repairer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDR:PORT",
            envvar="PGMLITE_REPAIRER",
            help="A stand-alone repairer that may be asked; repeatable.",
        ),
    ] = None,
    on_complete: Annotated[
        str | None,
        typer.Option(
            metavar="CMD",
            help="Run CMD, with PATH as its last argument, once the file is in place.",
        ),
    ] = None,
    drop: Annotated[
        str, typer.Option(metavar="SHARE", help="Lose packets on purpose, such as 5%: for tests.")
    ] = "0%",
    seed: Annotated[int, typer.Option(help="Seed of --drop.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Receive a file into PATH.

    Join at any time: what comes past is kept in PATH.part, and PATH is put in place when
    every byte has been verified. A receiver that was stopped goes on where it was.
    """
    stop = Stop()
    stop.install()
    limit = check_seconds("--timeout", timeout)
    config = ReceiverConfig(
        oid=None if oid is None else parse_oid(oid),
        naks=not no_nak,
        repairers=frozenset(parse_repairer(text) for text in repairer or ()),
    )
    share = parse_share(drop)
    command = _command(on_complete)
    channel = resolve(group, port, interface)
    machine = Receiver(config, rng=SystemRandom())
    part = PartFile(output_path)
    try:
        socket = ReceiverSocket(channel)
        with Output(as_json=as_json) as output:
            report = ReceiveReport(output, machine, socket)
            output.event(
                "start",
                f"waiting for {channel} (receive buffer {human_bytes(socket.granted)})",
                group=channel.group,
                port=channel.port,
                interface=channel.interface,
                buffer=socket.granted,
                output=str(output_path),
            )
            loop = ReceiveLoop(
                machine,
                socket,
                part,
                report,
                stop,
                timeout=limit,
                loss=Loss(share, Random(seed)) if share else None,
            )
            try:
                manifest = loop.run().manifest
            except PgmliteError as error:
                report.failed(error, str(part.path))
                raise
            report.complete(manifest, str(output_path))
            if command:
                _run_hook(command, output_path, manifest)
    finally:
        part.close()


def _command(text: str | None) -> list[str]:
    try:
        return shlex.split(text or "")
    except ValueError as error:
        raise UsageError(f"--on-complete {text}: {error}") from None


def _run_hook(command: list[str], path: Path, manifest: Manifest) -> None:
    """Run the user's command on the published file.

    Raises:
        HookError: It can't be started, or says that it failed.
    """
    facts = {
        "PGMLITE_PATH": str(path),
        "PGMLITE_NAME": manifest.name,
        "PGMLITE_SIZE": str(manifest.size),
        "PGMLITE_OBJECT_ID": oid_text(manifest.oid),
        "PGMLITE_INDEX_DIGEST": manifest.index_digest.hex(),
    }
    try:
        # Standard output is for our own events.
        code = subprocess.run(
            [*command, str(path)], env=os.environ | facts, stdout=sys.stderr, check=False
        ).returncode
    except OSError as error:
        raise HookError(
            f"--on-complete {command[0]}: {error.strerror}; {path} is in place"
        ) from error
    if code:
        raise HookError(f"--on-complete {command[0]}: exit code {code}; {path} is in place")
