"""A sender from its arguments to its end."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import SystemRandom

from pgmlite.core.config import DEFAULT_BLOCK_SYMBOLS, RepairConfig, SenderConfig
from pgmlite.core.events import RepairStarted, SendStarted, Stopped, Tell, Warned
from pgmlite.core.figures import SendChannel
from pgmlite.core.reach import is_near
from pgmlite.core.ring import Ring
from pgmlite.core.send.rate import Fixed
from pgmlite.core.send.rings import rings_of
from pgmlite.core.send.sender import Sender
from pgmlite.errors import PgmliteError, UsageError
from pgmlite.net.address import Channel, await_addresses, check_own, interface_mtu, resolve
from pgmlite.net.arguments import (
    DEFAULT_FEC,
    Sector,
    choose_symbol_size,
    name_repairers,
    parse_endpoint,
    parse_source,
)
from pgmlite.net.groups import MAX_PORT, is_for_routers
from pgmlite.net.hashing import hash_beside
from pgmlite.net.nak_socket import NakSocket
from pgmlite.net.sender_socket import MAX_SEGMENTS, SenderSocket
from pgmlite.net.sending import SendLoop
from pgmlite.net.waiting import Waits
from pgmlite.storage.encoded import EncodedSymbols
from pgmlite.storage.source import SourceFile
from pgmlite.storage.symbols import SymbolFile
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.buffers import SendBuffer
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry
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
    channels: tuple[tuple[str, int | None], ...]
    port: int
    interface: str | None
    source: str | None
    hops: int
    fec: float | None
    order: Order
    sector: Sector | None
    cycles: int | None
    duration: int | None
    mtu: int | None
    symbol_size: int | None
    repair: bool
    listen: str | None
    repair_share: float
    repairers: tuple[str, ...]

    def run(self, tell: Tell) -> Waits[Stopped]:
        """
        Raises:
            UsageError: An argument does not fit this machine, the group or the file.
            NetworkError: The network can't be used as asked.
            DiskError: The file can't be read, or changed.
            Interrupted: It was asked to stop.
        """
        with ExitStack() as opened:
            source = SourceFile(self.file)
            opened.callback(source.close)
            channels = self._resolve()
            channel = channels[0]
            size = choose_symbol_size(
                self.symbol_size, self.mtu, hops=self.hops, interface_mtu=interface_mtu(channel)
            )
            burst = packets_a_call(size)
            repairers = name_repairers(self.repairers, channel)
            naks, repairs = None, None
            if self.repair:
                naks = yield from open_nak_socket(channel, self.listen, tell)
                opened.callback(naks.close)
                repairs = RepairConfig(port=naks.port, share=self.repair_share)
            geometry = self._plan(source.size, size)
            rings = rings_of(geometry, len(channels), self.order, self.sector, SystemRandom())
            rates = [rate for _, rate in self.channels]
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
            manifest, tree = yield from hash_beside(
                lambda progress: source.describe(
                    geometry, progress, repairers=repairers, ladder=self._ladder(channels)
                ),
                tell,
            )
            machine = Sender(
                config,
                manifest,
                tree,
                rings=rings,
                repair=repairs,
                rng=SystemRandom(),
                rates=[Fixed(rate) for rate in rates],
            )
            buffer = SendBuffer(size, config.transmit_limit)
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
            far = next((one.group for one in channels if is_for_routers(one.group)), None)
            if self.hops == 1 and far:
                tell(Warned(time.monotonic_ns(), SHORT_WAY.format(far), "hops"))
            return (yield from to_its_end(loop, started, tell))

    def _resolve(self) -> list[Channel]:
        """Return where each channel goes, on one interface.

        Raises:
            UsageError: They can't be the channels of one sender.
            NetworkError: The interface is not there, or can't carry them.
        """
        channels = [resolve(group, self.port, self.interface) for group, _ in self.channels]
        for one, other in combinations(channels, 2):
            if one.family != other.family:
                raise UsageError(
                    f"channel {other.group}: {one.group} is of the other kind of IP addresses",
                    cause="channel",
                )
            if one.interface != other.interface:
                raise UsageError(
                    f"channel {other.group}: on {other.interface}, {one.group} on {one.interface}; "
                    "all go out by one",
                    cause="channel",
                )
            if one.group == other.group:
                raise UsageError(
                    f"channel {other.group}: twice; each needs a group of its own", cause="channel"
                )
            # spec: RTE-13
            if not is_near(*(Endpoint(far.group, far.port) for far in (other, one))):
                raise UsageError(
                    f"channel {other.group}: is assigned to others, or not of the same scope as "
                    f"{one.group}: receivers would not follow",
                    cause="channel",
                )
        return channels

    def _plan(self, octets: int, symbol_size: int) -> Geometry:
        """Return the sizes of an object of so many bytes."""
        count = len(self.channels)
        if self.fec is None and count > 1:
            return Geometry.laddered(octets, symbol_size, DEFAULT_BLOCK_SYMBOLS, count)
        fec = DEFAULT_FEC if self.fec is None else self.fec
        return Geometry.planned(octets, symbol_size, DEFAULT_BLOCK_SYMBOLS, fec)

    def _ladder(self, channels: list[Channel]) -> tuple[Rung, ...]:
        """Return what the manifest says of several channels."""
        if len(channels) == 1:
            return ()
        return tuple(
            Rung(rate or 0, Endpoint(one.group, one.port))
            for one, (_, rate) in zip(channels, self.channels, strict=True)
        )


def _started(channel: Channel, rate: int | None, ring: Ring) -> SendChannel:
    order = ring.order.name.lower()
    where = order, ring.first, ring.sector, ring.sectors
    return SendChannel(channel.group, channel.port, rate or 0, *where)
