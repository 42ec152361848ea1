"""``repair``: a repairer beside the receivers, with its own copy of the file."""

from __future__ import annotations

import select
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

import click

from pgmlite.cli import options
from pgmlite.cli.output import Output, SendReport, oid_text
from pgmlite.cli.send import hashing, open_ear, open_sender
from pgmlite.cli.values import parse_rate
from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.human import human_bytes, human_rate
from pgmlite.core.send.repairer import Repairer
from pgmlite.errors import NetworkError, ObjectError, PgmliteError, RefusedPacket
from pgmlite.net.address import resolve
from pgmlite.net.loop import EXPECTED_SYMBOL_SIZE, Stop
from pgmlite.net.receiving import REJOIN_AFTER
from pgmlite.net.sending import SendLoop
from pgmlite.net.udp import MAX_SEGMENTS, ReceiverSocket
from pgmlite.storage.source import SourceFile
from pgmlite.wire import batch as wire
from pgmlite.wire.control import Manifest, parse_manifest, parse_spm
from pgmlite.wire.layout import MAX_PACKET, PacketType

MOST_STRANGERS = 1_000
"""Objects that are not ours and are remembered, and told of."""

EXAMPLES = """\b
Examples:
  pgmlite repair firmware.bin -i eth0 -r 20M --listen :28776
then, at the receivers:
  pgmlite recv -o firmware.bin -i eth0 --repairer [fd01::2]:28776
"""


@click.command(epilog=EXAMPLES, short_help="Answer NAKs from a copy of FILE.")
@options.file
@options.group
@options.port
@options.interface
@options.rate
@options.hops
@options.listen
@options.as_json
def repair(
    file: Path,
    group: str,
    port: int,
    interface: str | None,
    rate: str,
    hops: int,
    listen: str | None,
    as_json: bool,
) -> None:
    """Answer NAKs from a copy of FILE, while a sender that hears nothing loops it.

    Waits for the sender's manifest, makes sure that FILE is what it announces, and then repeats
    what receivers lost. Receivers ask it if the manifest names it (`send --repairer`) or if they
    were told (`recv --repairer`). Several may run.
    """
    stop = Stop()
    stop.install()
    source = SourceFile(file)
    bits = parse_rate(rate)
    channel = resolve(group, port, interface)
    output = Output(as_json=as_json)
    ear = open_ear(channel, listen, stop=stop, say=output.say)
    ear_of_group = ReceiverSocket(channel)
    socket = open_sender(channel, hops, ear, stop=stop, say=output.say)
    with output:
        output.say(f"waiting for a sender of {file} on {channel}")
        manifest = _recognise(source, ear_of_group, output, stop)
        burst = min(MAX_SEGMENTS, MAX_PACKET // (wire.HEADER_SIZE + manifest.symbol_size))
        config = SenderConfig(rate=bits, packet_overhead=channel.overhead, max_burst=burst)
        machine = Repairer(config, manifest, repair=RepairConfig(port=ear.port), rng=SystemRandom())
        report = SendReport(output, machine)
        output.event(
            "start",
            f"repairing {manifest.name}, {human_bytes(manifest.size)}, object "
            f"{oid_text(manifest.oid)}, at {human_rate(bits)}; NAKs at port {ear.port}",
            oid=oid_text(manifest.oid),
            name=manifest.name,
            size=manifest.size,
            group=channel.group,
            port=channel.port,
            interface=channel.interface,
            rate=bits or 0,
            nak_port=ear.port,
        )
        buffer = wire.SendBuffer(manifest.symbol_size, config.transmit_limit)
        try:
            SendLoop(
                machine, [socket], source, buffer, burst, report, stop, (ear, ear_of_group)
            ).run()
        except PgmliteError as error:
            report.stopped(error)
            raise


def _recognise(source: SourceFile, group: ReceiverSocket, output: Output, stop: Stop) -> Manifest:
    """Wait for a manifest that describes `source`; return it."""
    digests: dict[tuple[int, int], bytes] = {}
    buffer = wire.ReceiveBuffer(EXPECTED_SYMBOL_SIZE)
    strangers: set[int] = set()
    heard = time.monotonic_ns()
    while True:
        stop.check()
        if select.select([group], (), (), 0.1)[0]:
            heard = time.monotonic_ns()
        elif time.monotonic_ns() - heard >= REJOIN_AFTER:
            # spec: NET-7: its interface may have come back as another one.
            heard = time.monotonic_ns()
            with suppress(NetworkError):  # not yet
                group.rejoin()
        while (room := buffer.room()) and (arrival := group.read_into(room)):
            if arrival.length:
                buffer.add(arrival.length, arrival.stride, arrival.source)
        for batch in buffer.batches(Counter()):
            if batch.kind is not PacketType.SPM:
                continue
            try:
                manifest = parse_manifest(parse_spm(batch.payload[0].tobytes()).manifest)
            except (RefusedPacket, ObjectError):
                continue
            if manifest.oid in strangers:
                continue
            reason = f"it has {manifest.size} bytes, not {source.size}"
            if manifest.size == source.size:
                shape = (manifest.symbol_size, manifest.block_symbols)
                if shape not in digests:
                    described, _ = source.describe(*shape, hashing(output, stop))
                    digests[shape] = described.tree_digest
                if digests[shape] == manifest.tree_digest:
                    return manifest
                reason = "it has another content"
            if len(strangers) < MOST_STRANGERS:
                strangers.add(manifest.oid)
                output.warn(
                    f"object {oid_text(manifest.oid)} is not {source.path}, {reason}: waiting on"
                )
