"""A stand-alone repairer from its arguments to its end."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.events import RepairStarted, Stopped, Tell, Waiting, Warned
from pgmlite.core.send.repairer import Repairer
from pgmlite.errors import NetworkError, ObjectError, RefusedPacket
from pgmlite.net.address import resolve
from pgmlite.net.arguments import name_sources
from pgmlite.net.contents import open_content
from pgmlite.net.groups import check_sources
from pgmlite.net.hashing import hash_content, hash_signed
from pgmlite.net.loop import EXPECTED_SYMBOL_SIZE, REJOIN_AFTER
from pgmlite.net.outlet import open_nak_socket, open_sender, packets_a_call
from pgmlite.net.planning import ObjectPlan
from pgmlite.net.receiver_socket import ReceiverSocket
from pgmlite.net.sending import SendLoop
from pgmlite.net.session import open_signed, open_symbols, to_its_end
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.storage.signed import SignedFile
from pgmlite.storage.source import SourceFile
from pgmlite.wire.buffers import ReceiveBuffer, SendBuffer
from pgmlite.wire.control import parse_spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import PacketType
from pgmlite.wire.manifest import Manifest, parse_manifest

MOST_STRANGERS = 1_000
"""Objects that are not ours and are remembered, and told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairJob:
    """Arguments as of `pgmlite.repair`."""

    file: Path
    content: Path | None
    group: str
    port: int
    interface: str | None
    sources: tuple[str, ...]
    rate: int | None
    hops: int
    listen: str | None
    spool: Path | None

    def run(self, tell: Tell) -> Waits[Stopped]:
        """
        Raises:
            UsageError: An argument does not fit this machine or the group.
            NetworkError: The network can't be used as asked.
            ObjectError: What was signed is damaged, or is not of this content.
            DiskError: The file can't be read, or changed.
            Interrupted: It was asked to stop.
        """
        with ExitStack() as opened:
            signed = yield from open_signed(opened, self.file, self.content, ObjectPlan(), tell)
            channel = resolve(self.group, self.port, self.interface)
            sources = name_sources(self.sources, channel)
            check_sources(channel.group, sources)
            naks = yield from open_nak_socket(channel, self.listen, tell)
            opened.callback(naks.close)
            socket = yield from open_sender(channel, self.hops, naks, tell)
            opened.callback(socket.close)
            # It may take minutes: arguments are looked at before, and nobody listens meanwhile.
            source = yield from open_content(opened, self.file, self.content, self.spool, tell)
            if signed:
                yield from hash_signed(source, signed, tell)
            group = ReceiverSocket(channel, sources)
            opened.callback(group.close)
            tell(Waiting(time.monotonic_ns(), "sender", f"a sender of {self.file} on {channel}"))
            manifest = yield from recognise(source, group, tell, signed)
            if sources:
                hear_repairers(group, manifest, tell)
            burst = packets_a_call(manifest.symbol_size)
            config = SenderConfig(rate=self.rate, packet_overhead=channel.overhead, max_burst=burst)
            groups = [rung.group for rung in manifest.ladder]
            own = Endpoint(channel.group, channel.port)
            machine = Repairer(
                config,
                manifest,
                repair=RepairConfig(port=naks.port),
                rng=SystemRandom(),
                channel=groups.index(own) if own in groups else 0,
                tiles=signed.tiles if signed else None,
                signatures=signed.signatures if signed else (),
            )
            buffer = SendBuffer(manifest.symbol_size, config.transmit_limit)
            inputs = (naks, group)
            symbols = open_symbols(opened, source, manifest, machine)
            loop = SendLoop(machine, [socket], symbols, buffer, burst, tell, inputs)
            started = RepairStarted(
                time.monotonic_ns(),
                manifest,
                channel.group,
                channel.port,
                channel.interface,
                config.rate or 0,
                naks.port,
                sources,
            )
            return (yield from to_its_end(loop, started, tell))


def recognise(
    source: SourceFile, group: ReceiverSocket, tell: Tell, signed: SignedFile | None = None
) -> Waits[Manifest]:
    """Wait for a manifest that describes `source`; return it.

    Args:
        signed: What it is the content of: its manifest is the only one.

    Raises:
        DiskError: The file can't be read, or changed.
    """
    digests: dict[tuple[int, int], bytes] = {}
    buffer = ReceiveBuffer(EXPECTED_SYMBOL_SIZE)
    strangers: set[int] = set()
    heard = time.monotonic_ns()
    while True:
        if (yield Wait(POLL, (group.fileno(),))):
            heard = time.monotonic_ns()
        elif time.monotonic_ns() - heard >= REJOIN_AFTER:
            # spec: NET-7: its interface may have come back as another one.
            heard = time.monotonic_ns()
            with suppress(NetworkError):  # not yet
                group.rejoin()
        for manifest in _manifests(group, buffer):
            if manifest.oid in strangers:
                continue
            if signed:
                reason = "" if manifest.raw == signed.manifest.raw else "it was signed otherwise"
            else:
                reason = yield from _difference(source, manifest, digests, tell)
            if not reason:
                return manifest
            if len(strangers) < MOST_STRANGERS:
                strangers.add(manifest.oid)
                text = f"object {manifest.oid:016x} is not {source.path}, {reason}: waiting on"
                tell(Warned(time.monotonic_ns(), text))


def _difference(
    source: SourceFile, manifest: Manifest, digests: dict[tuple[int, int], bytes], tell: Tell
) -> Waits[str]:
    """Return why a manifest does not describe a file; empty: it does.

    Args:
        digests: Roots of its tree of blocks, by sizes of symbols and blocks; more are added.

    Raises:
        DiskError: The file can't be read, or changed.
    """
    if manifest.size != source.size:
        return f"it has {manifest.size} bytes, not {source.size}"
    if manifest.release:
        return "it is signed: give its .pglm"
    shape = (manifest.symbol_size, manifest.block_symbols)
    if shape not in digests:
        tree = yield from hash_content(source, manifest.geometry, tell)
        digests[shape] = tree.root
    return "" if digests[shape] == manifest.tree_digest else "it has another content"


def hear_repairers(group: ReceiverSocket, manifest: Manifest, tell: Tell) -> None:
    """Hear what other repairers send as well (spec: NET-13), but for those that can't be joined."""
    for address, _ in manifest.repairers:
        try:
            group.join(address)
        except NetworkError as error:
            tell(Warned(time.monotonic_ns(), f"{error}; going on without", "membership"))


def _manifests(group: ReceiverSocket, buffer: ReceiveBuffer) -> list[Manifest]:
    """Return the manifests among what can be read now."""
    while (room := buffer.room()) and (arrival := group.read_into(room)):
        if arrival.length:
            buffer.add(arrival.length, arrival.stride, arrival.source)
    found = []
    for batch in buffer.batches(Counter()):
        if batch.kind is PacketType.SPM:
            with suppress(RefusedPacket, ObjectError):
                found.append(parse_manifest(parse_spm(batch.payload[0].tobytes()).manifest))
    return found
