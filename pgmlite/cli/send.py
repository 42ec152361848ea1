"""``send``: the carousel, and on demand the answers to NAKs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

import click

from pgmlite.cli import options
from pgmlite.cli.options import option
from pgmlite.cli.output import Output, SendReport, oid_text
from pgmlite.cli.values import (
    check_seconds,
    choose_symbol_size,
    draw_start,
    name_repairers,
    parse_endpoint,
    parse_rate,
    parse_share,
    parse_start,
)
from pgmlite.core.config import DEFAULT_BLOCK_SYMBOLS, RepairConfig, SenderConfig
from pgmlite.core.human import human_bytes, human_rate, human_time
from pgmlite.core.send.sender import Sender
from pgmlite.errors import PgmliteError, UsageError
from pgmlite.net.address import Channel, await_addresses, check_own, interface_mtu, resolve
from pgmlite.net.loop import Stop
from pgmlite.net.sending import SendLoop
from pgmlite.net.udp import MAX_SEGMENTS, NakSocket, SenderSocket
from pgmlite.storage.source import SourceFile
from pgmlite.wire.batch import HEADER_SIZE, SendBuffer
from pgmlite.wire.control import Manifest
from pgmlite.wire.layout import MAX_PACKET

MAX_PORT = 65_535

EXAMPLES = """\b
Examples:
  pgmlite send firmware.bin -i eth0 -r 50M
  pgmlite send image.iso -g 239.1.2.3 -i eth0 -r 200M --hops 8
  pgmlite send firmware.bin -i eth0 --start 0%
  pgmlite send firmware.bin -i eth0 --start 50%   (a second sender, half a cycle ahead)
"""


def open_ear(
    channel: Channel, listen: str | None, *, stop: Stop, say: Callable[[str], None]
) -> NakSocket:
    """Open the socket that takes NAKs, once its address may be used.

    Raises:
        UsageError: `listen` is no address and port, or the group's port.
        NetworkError: The port is taken, or the address is not the interface's.
        Interrupted: A signal came.
    """
    if listen is None and channel.port == MAX_PORT:
        raise UsageError(f"port {MAX_PORT}: none comes after it for NAKs; name one with --listen")
    address, port = (
        parse_endpoint("--listen", listen, channel) if listen else ("", channel.port + 1)
    )
    if port == channel.port:
        raise UsageError(f"--listen {listen}: that port is the group's; NAKs need one of their own")
    if address:
        check_own(address, channel)
        await_addresses(channel, address, stop=stop, say=say)
    return NakSocket(channel, port, address)


def open_sender(
    channel: Channel, hops: int, ear: NakSocket | None, *, stop: Stop, say: Callable[[str], None]
) -> SenderSocket:
    """Open the socket that packets go out by: from where NAKs are taken, if that is one address.

    Raises:
        NetworkError: The system refuses it.
        Interrupted: A signal came.
    """
    source = ear.address if ear else ""
    await_addresses(channel, source, stop=stop, say=say)
    return SenderSocket(channel, hops=hops, source=source)


def hashing(output: Output, stop: Stop) -> Callable[[int, int], None]:
    """Return what shows how far the hashing of a source is, and lets a signal end it."""

    def hashed(done: int, total: int) -> None:
        stop.check()
        output.hashing(done, total)

    return hashed


@click.command(epilog=EXAMPLES)
@options.file
@options.group
@options.port
@options.interface
@options.rate
@options.hops
@option(
    "--start",
    metavar="SHARE|BYTES",
    help="Where the first cycle starts, such as 50%; default: somewhere, at random.",
)
@option("--cycles", type=click.IntRange(1), metavar="N", help="Stop after N whole cycles.")
@option("--duration", type=float, metavar="SECONDS", help="Stop after this time.")
@option(
    "--mtu",
    type=int,
    metavar="BYTES",
    envvar="PGMLITE_MTU",
    help="Largest IP packet. Default: the interface's up to 1500 on one link "
    "(--hops 1), else 1280. Senders of one object must use the same.",
)
@option(
    "--symbol-size",
    type=int,
    metavar="BYTES",
    help="Bytes of the file in a packet; overrides --mtu.",
)
@option("--repair", is_flag=True, help="Answer NAKs: repeat at once what receivers say they lost.")
@options.listen
@option(
    "--repair-share",
    metavar="SHARE",
    help="Share of the rate that repairs may take, 5% to 90%; default: 50%.",
)
@option(
    "--repairer",
    multiple=True,
    metavar="ADDR:PORT",
    help="Name a stand-alone repairer in the manifest; repeatable.",
)
@options.as_json
def send(
    file: Path,
    group: str,
    port: int,
    interface: str | None,
    rate: str,
    hops: int,
    start: str | None,
    cycles: int | None,
    duration: float | None,
    mtu: int | None,
    symbol_size: int | None,
    repair: bool,
    listen: str | None,
    repair_share: str | None,
    repairer: tuple[str, ...],
    as_json: bool,
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
    repairers = name_repairers(repairer, channel)
    for name, value in (("--listen", listen), ("--repair-share", repair_share)):
        if value is not None and not repair:
            raise UsageError(f"{name}: goes with --repair")
    share = RepairConfig().share
    if repair_share is not None:
        share = parse_share("--repair-share", repair_share)
    output = Output(as_json=as_json)
    ear = open_ear(channel, listen, stop=stop, say=output.say) if repair else None
    repairs = RepairConfig(port=ear.port, share=share) if ear else None
    config = SenderConfig(
        rate=bits,
        packet_overhead=channel.overhead,
        max_burst=burst,
        start=(
            draw_start(source.size, size, SystemRandom())
            if start is None
            else parse_start(start, source.size)
        ),
        cycles=cycles,
        duration=check_seconds("--duration", duration),
    )
    socket = open_sender(channel, hops, ear, stop=stop, say=output.say)
    with output:
        manifest, tree = source.describe(
            size, DEFAULT_BLOCK_SYMBOLS, hashing(output, stop), repairers=repairers
        )
        machine = Sender(config, manifest, tree, repair=repairs, rng=SystemRandom())
        report = SendReport(output, machine)
        _announce(output, manifest, config, channel)
        buffer = SendBuffer(size, config.transmit_limit)
        try:
            ears = [ear] if ear else []
            SendLoop(machine, [socket], source, buffer, burst, report, stop, ears).run()
        except PgmliteError as error:
            report.stopped(error)
            raise
        report.stopped()


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
        tree_digest=manifest.tree_digest.hex(),
        symbol_size=manifest.symbol_size,
        blocks=manifest.blocks,
        group=channel.group,
        port=channel.port,
        interface=channel.interface,
        rate=config.rate or 0,
        start=config.start,
    )
