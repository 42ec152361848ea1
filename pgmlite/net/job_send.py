"""A sender from its arguments to its end."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from random import SystemRandom

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.events import RepairStarted, SendStarted, Stopped, Tell, Warned
from pgmlite.core.figures import SendChannel
from pgmlite.core.ring import Ring
from pgmlite.core.send.rate import Fixed
from pgmlite.core.send.rings import rings_of
from pgmlite.core.send.sender import Sender
from pgmlite.errors import ObjectError, PgmliteError, UsageError
from pgmlite.net.address import Channel, await_addresses, check_own, interface_mtu, resolve
from pgmlite.net.arguments import (
    DEFAULT_GROUP,
    DEFAULT_PORT,
    DEFAULT_RATE,
    Sector,
    choose_symbol_size,
    parse_endpoint,
    parse_source,
)
from pgmlite.net.contents import open_content
from pgmlite.net.groups import MAX_PORT, is_for_routers
from pgmlite.net.hashing import hash_beside, hash_signed
from pgmlite.net.nak_socket import NakSocket
from pgmlite.net.planning import ObjectPlan, check_ladder, has_expired
from pgmlite.net.sender_socket import MAX_SEGMENTS, SenderSocket
from pgmlite.net.sending import SendLoop
from pgmlite.net.waiting import Waits
from pgmlite.storage.encoded import EncodedSymbols
from pgmlite.storage.signed import SignedFile, is_signed_name
from pgmlite.storage.source import SourceFile
from pgmlite.storage.symbols import SymbolFile
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.buffers import SendBuffer
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import MAX_PACKET, Order
from pgmlite.wire.manifest import Manifest, Rung

SHORT_WAY = (
    "group {} is source-specific, which is of use across routers, and packets with 1 hop stay on "
    "this link: give them more if receivers are behind routers"
)


def open_nak_socket(channel: Channel, listen: str | None, tell: Tell) -> Waits[NakSocket]:
    """Open the socket that takes NAKs, once its address may be used.

    Raises:
        UsageError: `listen` is no address and port, or the group's port.
        NetworkError: The port is taken, or the address is not the interface's.
    """
    if listen is None and channel.port == MAX_PORT:
        raise UsageError(
            f"listen: no port comes after {MAX_PORT} for NAKs; name one", cause="listen"
        )
    address, port = parse_endpoint("listen", listen, channel) if listen else ("", channel.port + 1)
    if port == channel.port:
        raise UsageError(
            f"listen {listen}: that port is the group's; NAKs need one of their own",
            cause="listen",
        )
    if address:
        check_own(address, channel)
        yield from await_addresses(channel, address, tell)
    return NakSocket(channel, port, address)


def open_sender(
    channel: Channel, hops: int, naks: NakSocket | None, tell: Tell, source: str = ""
) -> Waits[SenderSocket]:
    """Open the socket that packets go out by: from where NAKs are taken, if that is one address.

    Args:
        source: The address to send from; empty: any.

    Raises:
        UsageError: NAKs are taken at another address than `source`.
        NetworkError: The system refuses it, or the address is not the interface's.
    """
    taken = naks.address if naks else ""
    if source and taken not in ("", source):
        raise UsageError(
            f"listen {taken}: is not the source {source}; give the port alone", cause="listen"
        )
    if source:
        check_own(source, channel)
    source = source or taken
    yield from await_addresses(channel, source, tell)
    return SenderSocket(channel, hops=hops, source=source)


def packets_a_call(symbol_size: int) -> int:
    """Return how many packets one system call takes."""
    return min(MAX_SEGMENTS, MAX_PACKET // (HEADER_SIZE + symbol_size))


def open_symbols(
    opened: ExitStack, source: SourceFile, manifest: Manifest, machine: Sender
) -> SymbolFile:
    """Return what is sent of an object; `opened` closes it."""
    geometry = manifest.geometry
    if not geometry.is_coded:
        return SymbolFile(source, geometry)
    carousels = [
        (lane.schedule.ring, float(lane.rate(time.monotonic_ns()) or 1))
        for lane in machine.lanes
        if lane.schedule
    ]
    encoded = EncodedSymbols(source, geometry, carousels=carousels)
    opened.callback(encoded.close)
    return SymbolFile(source, geometry, encoded)


def to_its_end(loop: SendLoop, started: SendStarted | RepairStarted, tell: Tell) -> Waits[Stopped]:
    """Run a loop, with what is told of its beginning and its end.

    Raises:
        PgmliteError: As `SendLoop.run`.
    """
    tell(started)
    try:
        yield from loop.run()
    except PgmliteError as error:
        tell(_stopped(loop, str(error), error))
        raise
    stopped = _stopped(loop, "finished", None)
    tell(stopped)
    return stopped


def _stopped(loop: SendLoop, reason: str, error: PgmliteError | None) -> Stopped:
    loop.look_at_rate(is_over=True)
    now = time.monotonic_ns()
    return Stopped(now, reason, error, *loop.figures(now))


@dataclass(frozen=True, slots=True, kw_only=True)
class SendJob:
    """Arguments as of `pgmlite.send`; `duration` in ns.

    Attributes:
        channels: Group and rate of each, the slowest first; at least one.
        sector: i and n of i/n, with which it begins; None: somewhere.
    """

    file: Path
    content: Path | None
    plan: ObjectPlan
    channels: tuple[tuple[str, int | None], ...]
    port: int
    interface: str | None
    source: str | None
    hops: int
    order: Order
    sector: Sector | None
    cycles: int | None
    duration: int | None
    repair: bool
    listen: str | None
    repair_share: float
    spool: Path | None

    def run(self, tell: Tell) -> Waits[Stopped]:
        """
        Raises:
            UsageError: An argument does not fit this machine, the group or the file.
            NetworkError: The network can't be used as asked.
            ObjectError: What was signed is damaged, or is not of this content.
            DiskError: The file can't be read, or changed.
            Interrupted: It was asked to stop.
        """
        with ExitStack() as opened:
            signed = yield from open_signed(opened, self.file, self.content, self.plan, tell)
            source = yield from open_content(opened, self.file, self.content, self.spool, tell)
            places = self._places(signed)
            channels = self._resolve(places)
            channel = channels[0]
            rates = [rate for _, _, rate in places]
            manifest = self._planned(source, signed, channels, rates)
            burst = packets_a_call(manifest.symbol_size)
            naks, repairs = None, None
            if self.repair:
                naks = yield from open_nak_socket(channel, self.listen, tell)
                opened.callback(naks.close)
                repairs = RepairConfig(port=naks.port, share=self.repair_share)
            rings = rings_of(
                manifest.geometry, len(channels), self.order, self.sector, SystemRandom()
            )
            config = SenderConfig(
                rate=None if None in rates else sum(rate or 0 for rate in rates),
                packet_overhead=channel.overhead,
                max_burst=burst,
                cycles=self.cycles,
                duration=self.duration,
            )
            source_address = parse_source(self.source, channels[0]) if self.source else ""
            sockets = []
            for one in channels:
                sockets.append((yield from open_sender(one, self.hops, naks, tell, source_address)))
                opened.callback(sockets[-1].close)
            if signed:
                tree = yield from hash_signed(source, signed, tell)
            else:
                tree = yield from hash_beside(partial(source.block_tree, manifest.geometry), tell)
                manifest = replace(manifest, tree_digest=tree.root)
            self._warn_of_hops(channels, tell)
            machine = Sender(
                config,
                manifest,
                tree,
                rings=rings,
                repair=repairs,
                rng=SystemRandom(),
                rates=[Fixed(rate) for rate in rates],
                tiles=signed.tiles if signed else None,
                signatures=signed.signatures if signed else (),
            )
            buffer = SendBuffer(manifest.symbol_size, config.transmit_limit)
            inputs = [naks] if naks else []
            symbols = open_symbols(opened, source, manifest, machine)
            loop = SendLoop(machine, sockets, symbols, buffer, burst, tell, inputs)
            started = SendStarted(
                time.monotonic_ns(),
                manifest,
                channel.interface,
                sockets[0].address,
                tuple(map(_started, channels, rates, rings)),
            )
            return (yield from to_its_end(loop, started, tell))

    def _planned(
        self,
        source: SourceFile,
        signed: SignedFile | None,
        channels: list[Channel],
        rates: list[int | None],
    ) -> Manifest:
        """Return the manifest of what is sent; its digests are missing unless it was signed.

        Raises:
            UsageError: An argument is wrong, or packets are too large for the interface.
        """
        mtu = interface_mtu(channels[0])
        if signed:
            size = signed.manifest.symbol_size
            choose_symbol_size(size, None, hops=self.hops, interface_mtu=mtu)
            return signed.manifest
        size = self.plan.size(self.hops, mtu)
        return self.plan.manifest(source, size, _ladder(channels, rates), channel=channels[0])

    def _warn_of_hops(self, channels: list[Channel], tell: Tell) -> None:
        far = next((one.group for one in channels if is_for_routers(one.group)), None)
        if self.hops == 1 and far:
            tell(Warned(time.monotonic_ns(), SHORT_WAY.format(far), "hops"))

    def _places(self, signed: SignedFile | None) -> list[tuple[str, int, int | None]]:
        """Return group, port and rate of each channel.

        Raises:
            UsageError: What is signed has them, and others were given.
        """
        given = [(group, self.port, rate) for group, rate in self.channels]
        ladder = signed.manifest.ladder if signed else ()
        if not signed or not (ladder or len(given) > 1):
            return given
        if len(given) > 1:
            raise in_manifest("channel", signed.path)
        if given != [(DEFAULT_GROUP, DEFAULT_PORT, DEFAULT_RATE)]:
            raise UsageError(
                f"group, port, rate: {signed.path} has its channels; give no others",
            )
        if self.order is Order.BLOCKS:
            raise UsageError("order blocks: goes with one channel; leave it out", cause="order")
        return [(rung.group.address, rung.group.port, rung.rate) for rung in ladder]

    def _resolve(self, places: list[tuple[str, int, int | None]]) -> list[Channel]:
        """Return where each channel goes, on one interface.

        Raises:
            UsageError: They can't be the channels of one sender.
            NetworkError: The interface is not there, or can't carry them.
        """
        channels = [resolve(group, port, self.interface) for group, port, _ in places]
        for one, other in combinations(channels, 2):
            if one.interface != other.interface:
                raise UsageError(
                    f"channel {other.group}: on {other.interface}, {one.group} on {one.interface}; "
                    "all go out by one",
                    cause="channel",
                )
        check_ladder([Endpoint(one.group, one.port) for one in channels])
        return channels


def open_signed(
    opened: ExitStack, file: Path, content: Path | None, plan: ObjectPlan, tell: Tell
) -> Waits[SignedFile | None]:
    """Open a FILE.pglm, if that is what is to be sent; `opened` closes it.

    Raises:
        UsageError: Something was given that it has, or that belongs to one.
        ObjectError: It is damaged, or has no signature.
        DiskError: It can't be read.
        Interrupted: It was asked to stop.
    """
    if not is_signed_name(file):
        if content is not None:
            raise UsageError("content: goes with FILE.pglm", cause="content")
        return None
    if plan.given:
        raise in_manifest(plan.given[0], file)
    signed = yield from hash_beside(partial(SignedFile, file), tell)
    opened.callback(signed.close)
    # spec: SIG-5
    if not signed.signatures:
        raise ObjectError(f"{file}: has no signature yet; `pgmlite sign` adds one")
    if has_expired(signed.release):
        text = f"{file}: has expired: who has a key takes it no more"
        tell(Warned(time.monotonic_ns(), text))
    return signed


def in_manifest(name: str, file: Path) -> UsageError:
    """Return what to say of an argument that was signed, and is given once more."""
    return UsageError(
        f"{name}: is in {file} and signed; leave it out, or give it to `pgmlite sign`", cause=name
    )


def _ladder(channels: list[Channel], rates: list[int | None]) -> tuple[Rung, ...]:
    """Return what the manifest says of several channels."""
    if len(channels) == 1:
        return ()
    return tuple(
        Rung(rate or 0, Endpoint(one.group, one.port))
        for one, rate in zip(channels, rates, strict=True)
    )


def _started(channel: Channel, rate: int | None, ring: Ring) -> SendChannel:
    order = ring.order.name.lower()
    where = order, ring.first, ring.sector, ring.sectors
    return SendChannel(channel.group, channel.port, rate or 0, *where)
