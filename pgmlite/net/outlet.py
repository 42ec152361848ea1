"""Where packets leave and NAKs arrive: what stays when the content of a sender is replaced."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from pgmlite.core.events import Tell
from pgmlite.errors import UsageError
from pgmlite.net.address import Channel, await_addresses, check_own, resolve
from pgmlite.net.arguments import (
    DEFAULT_GROUP,
    DEFAULT_PORT,
    DEFAULT_RATE,
    parse_endpoint,
    parse_source,
)
from pgmlite.net.groups import MAX_PORT
from pgmlite.net.nak_socket import NakSocket
from pgmlite.net.planning import check_ladder
from pgmlite.net.sender_socket import MAX_SEGMENTS, SenderSocket
from pgmlite.net.waiting import Waits
from pgmlite.storage.signed import SignedFile
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import MAX_PACKET, Order
from pgmlite.wire.manifest import Rung

Place = tuple[str, int, int | None]
"""Group, port and bit/s of a channel; None: as fast as this machine can."""


def nak_endpoint(channel: Channel, listen: str | None) -> Endpoint:
    """Return where NAKs are taken; an empty address: all of the interface.

    Raises:
        UsageError: `listen` is no address and port, or the group's port.
        NetworkError: The address is not the interface's.
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
    return Endpoint(address, port)


def open_nak_socket(channel: Channel, listen: str | None, tell: Tell) -> Waits[NakSocket]:
    """Open the socket that takes NAKs, once its address may be used.

    Raises:
        UsageError: As of `nak_endpoint`.
        NetworkError: The port is taken, or the address is not the interface's.
    """
    address, port = nak_endpoint(channel, listen)
    if address:
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


@dataclass(frozen=True, slots=True)
class Outlet:
    """Open sockets.

    Attributes:
        places: What they were opened for, the slowest first.
        channels: The same on this machine, all on one interface.
        sockets: One for each channel.
        naks: Where NAKs are taken; None: nowhere.
    """

    places: tuple[Place, ...]
    channels: tuple[Channel, ...]
    sockets: tuple[SenderSocket, ...]
    naks: NakSocket | None

    @property
    def rates(self) -> list[int | None]:
        """bit/s of each channel."""
        return [rate for _, _, rate in self.places]

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """What a manifest says of several channels."""
        if len(self.channels) == 1:
            return ()
        return tuple(
            Rung(rate or 0, Endpoint(one.group, one.port))
            for one, rate in zip(self.channels, self.rates, strict=True)
        )

    def close(self, heir: Outlet | None = None) -> None:
        """Close the sockets, but for what another outlet has taken over."""
        if heir is self:
            return
        for one in self.sockets:
            one.close()
        if self.naks and not (heir and heir.naks is self.naks):
            self.naks.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Arguments that say where a sender sends, as of `pgmlite.send`.

    Attributes:
        channels: Group and rate of each, the slowest first; at least one.
    """

    channels: tuple[tuple[str, int | None], ...]
    port: int
    interface: str | None
    source: str | None
    hops: int
    order: Order
    repair: bool
    listen: str | None

    def places(self, signed: SignedFile | None) -> tuple[Place, ...]:
        """Return group, port and rate of each channel.

        Raises:
            UsageError: What is signed has them, and others were given.
        """
        given = tuple((group, self.port, rate) for group, rate in self.channels)
        ladder = signed.manifest.ladder if signed else ()
        if not signed or not (ladder or len(given) > 1):
            return given
        if len(given) > 1:
            raise in_manifest("channel", signed.path)
        if given != ((DEFAULT_GROUP, DEFAULT_PORT, DEFAULT_RATE),):
            raise UsageError(
                f"group, port, rate: {signed.path} has its channels; give no others",
            )
        if self.order is Order.BLOCKS:
            raise UsageError("order blocks: goes with one channel; leave it out", cause="order")
        return tuple((rung.group.address, rung.group.port, rung.rate) for rung in ladder)

    def open(
        self,
        places: Sequence[Place],
        channels: Sequence[Channel],
        tell: Tell,
        before: Outlet | None = None,
    ) -> Waits[Outlet]:
        """Open what an object is sent by.

        Args:
            channels: The places, as `resolve` found them.
            before: What the object before it is sent by: it may serve as it is, or where NAKs
                arrive may.

        Raises:
            UsageError: An argument does not go with them.
            NetworkError: The network can't be used as asked.
        """
        if before and before.places == tuple(places):
            return before
        source = parse_source(self.source, channels[0]) if self.source else ""
        naks, sockets = None, []
        with ExitStack() as opened:
            if self.repair:
                naks = self._inherited(channels[0], before.naks if before else None)
                if naks is None:
                    naks = yield from open_nak_socket(channels[0], self.listen, tell)
                    opened.callback(naks.close)
            for one in channels:
                socket = yield from open_sender(one, self.hops, naks, tell, source)
                opened.callback(socket.close)
                sockets.append(socket)
            opened.pop_all()
        return Outlet(tuple(places), tuple(channels), tuple(sockets), naks)

    def _inherited(self, channel: Channel, naks: NakSocket | None) -> NakSocket | None:
        """Return a socket that is there already, if it takes NAKs where `channel` wants them."""
        if naks is None or naks.channel.family != channel.family:
            return None
        wanted = nak_endpoint(channel, self.listen)
        return naks if wanted == Endpoint(naks.address, naks.port) else None

    def resolve(self, places: Sequence[Place]) -> list[Channel]:
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


def in_manifest(name: str, file: Path) -> UsageError:
    """Return what to say of an argument that was signed, and is given once more."""
    return UsageError(
        f"{name}: is in {file} and signed; leave it out, or give it to `pgmlite sign`", cause=name
    )
