"""Listening: what comes to a receiver, and what comes to the interfaces and not to it.

What comes is judged by the machine that receives files, here without a disk: it takes an object
and stores nothing. Other groups and interfaces are heard by machines that take no object; they
tell which are announced. Strangers choose what there is to hear, so that all that is kept of it
is counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import numpy as np

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Adopted
from pgmlite.core.machine import SECOND, Action, Held, Prepare
from pgmlite.core.receive.offers import Answer, Offer, OneObject, Ongoing
from pgmlite.core.receive.offers import Wait as NotNow
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import NetworkError
from pgmlite.net.address import Channel
from pgmlite.net.doctor.place import Place
from pgmlite.net.doctor.routes import dropped_by_filter
from pgmlite.net.doctor.tap import Datagram, Query, Tap, why_no_tap
from pgmlite.net.loop import EXPECTED_SYMBOL_SIZE
from pgmlite.net.receiver_socket import ReceiverSocket, read_all
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.wire import batch as wire
from pgmlite.wire.buffers import ReceiveBuffer
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import DATA_TYPES

MOST_STREAMS = 16
"""Groups, ports and interfaces that are told apart on the wire."""

MOST_SOURCES = 16
MOST_QUERIES = 16
MOST_ELSEWHERE = 8
"""Other interfaces that are listened on."""

TAP_READS = 64
"""Packets of the wire between two looks at the receiver's own."""

QUIET_SHARE = 0.5
"""Of the time: when nothing came by then, the other interfaces are listened on as well."""


class TakeNothing:
    """The policy of who only wants to know what is announced."""

    def offer(self, now: int, offer: Offer, transfers: Mapping[int, Ongoing]) -> Answer:
        """Answer that it is not taken now."""
        return NotNow()


class Ear:
    """Hears one stream of packets, whatever it is of.

    Attributes:
        machine: What knows packets and objects.
        packets: Valid ones.
        data: Those of them that carry symbols.
        sources: Addresses that they came from, and how many from each.
        rate: bit/s that the sender of the object announces; None: nothing was taken yet.
        first: When the first valid one came, ns; None: never.
        heard: When a valid one came last, ns; None: never.
    """

    def __init__(self, oid: int | None, *, takes: bool) -> None:
        """
        Args:
            oid: The only object that is wanted; None: any.
            takes: Receive an object, as far as can be without a disk.
        """
        config = ReceiverConfig(oid=oid, naks=False)
        policy = OneObject(oid, config.switch_after) if takes else TakeNothing()
        self.machine = Receiver(config, rng=SystemRandom(), policy=policy)
        self.packets = self.data = 0
        self.sources: dict[str, int] = {}
        self.rate: int | None = None
        self.first: int | None = None
        self.heard: int | None = None

    def take(self, now: int, batch: wire.PacketBatch) -> Sequence[Action]:
        """Take packets; return what the machine says, for those who lay out buffers."""
        count = len(batch)
        self.first = now if self.first is None else self.first
        self.heard = now
        self.packets += count
        self.data += count if batch.kind in DATA_TYPES else 0
        address = batch.source.address
        if address in self.sources or len(self.sources) < MOST_SOURCES:
            self.sources[address] = self.sources.get(address, 0) + count
        actions = self.machine.receive(now, batch)
        for action in actions:
            if isinstance(action, Prepare):
                self.machine.resume(action.oid, Held())
            elif isinstance(action, Adopted):
                self.rate = action.rate
        return actions

    @property
    def refused(self) -> Counter[str]:
        """Packets that were not valid, or of no use, by reason."""
        return self.machine.counters.refused

    @property
    def objects(self) -> list[str]:
        """The objects that were announced, for people."""
        return [str(other) for other in self.machine.evidence.others.values()]


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """What comes in by one interface for one group and port."""

    interface: str
    group: str
    port: int


class Hearing:
    """Listens, and has what was heard.

    Attributes:
        main: What came to the receiver.
        streams: What came to the interfaces, as far as the wire may be looked at.
        elsewhere: What came to other interfaces, where the group was joined there.
        queries: Of MLD and IGMP.
        no_tap: Why the wire can't be looked at; empty: it can.
        refusal: Why the receiver's socket could not be opened; None: it could.
        granted: Receive buffer in bytes that the system allows; `wanted`: what was asked for.
        dropped_by_filter: Packets that the reverse path filter dropped meanwhile.
        began: When listening began, `ended` when it did, ns.
    """

    def __init__(
        self, place: Place, channel: Channel | None, others: Collection[Channel], proc: Path
    ) -> None:
        """
        Args:
            channel: Where a receiver listens; None: nowhere, as things are.
            others: The group on other interfaces.
        """
        self.main = Ear(place.oid, takes=True)
        self.streams: dict[Stream, Ear] = {}
        self.elsewhere: dict[str, Ear] = {}
        self.queries: set[Query] = set()
        self.no_tap = ""
        self.refusal: NetworkError | None = None
        self.granted = self.wanted = 0
        self.dropped_by_filter = 0
        self.began = self.ended = 0
        self._place = place
        self._channel = channel
        self._others = list(others)[:MOST_ELSEWHERE]
        self._proc = proc
        self._open: list[tuple[ReceiverSocket, Ear, ReceiveBuffer]] = []
        self._tap: Tap | None = None

    def listen(self, time_limit: int) -> Waits[None]:
        """Listen for so many ns.

        Raises:
            Interrupted: It was asked to stop.
        """
        with ExitStack() as opened:
            self.began = now = time.monotonic_ns()
            before = dropped_by_filter(self._proc)
            self._open_tap(opened)
            if self._channel:
                try:
                    socket = self._join(opened, self._channel, self.main)
                    self.granted, self.wanted = socket.granted, socket.wanted
                except NetworkError as error:
                    self.refusal = error
            self.main.machine.start(now)
            end, look_around = now + time_limit, now + int(time_limit * QUIET_SHARE)
            if not self._channel:
                look_around = now
            while now < end:
                if self._others and now >= look_around and not self.main.packets:
                    self._listen_elsewhere(opened)
                fds = [socket.fileno() for socket, *_ in self._open]
                fds += [self._tap.fileno()] if self._tap else []
                yield Wait(min(POLL, end - now), fds)
                now = time.monotonic_ns()
                self._read(now)
            self.ended = now
            self.dropped_by_filter = max(0, dropped_by_filter(self._proc) - before)

    # Opening.

    def _open_tap(self, opened: ExitStack) -> None:
        here = [self._channel] if self._channel else []
        try:
            self._tap = Tap(self._place.port, [one.index for one in (*here, *self._others)])
        except OSError as error:
            self.no_tap = why_no_tap(error)
        else:
            opened.callback(self._tap.close)

    def _join(self, opened: ExitStack, channel: Channel, ear: Ear) -> ReceiverSocket:
        socket = ReceiverSocket(channel, map(str, self._place.sources))
        opened.callback(socket.close)
        self._open.append((socket, ear, ReceiveBuffer(EXPECTED_SYMBOL_SIZE)))
        return socket

    def _listen_elsewhere(self, opened: ExitStack) -> None:
        """Join the group on the other interfaces: it may come in there."""
        for channel in self._others:
            ear = Ear(self._place.oid, takes=False)
            try:
                self._join(opened, channel, ear)
            except NetworkError:  # nor would a receiver hear anything there
                continue
            self.elsewhere[channel.interface] = ear
        self._others = []

    # Reading.

    def _read(self, now: int) -> None:
        for socket, ear, buffer in self._open:
            self._read_socket(now, socket, ear, buffer)
        if self._tap:
            for interface, what in self._tap.read(TAP_READS):
                self.take(now, interface, what)

    def take(self, now: int, interface: str, what: Query | Datagram) -> None:
        """Take what came in by an interface."""
        if isinstance(what, Datagram):
            self._take_datagram(now, interface, what)
        elif len(self.queries) < MOST_QUERIES:
            self.queries.add(what)

    def _read_socket(
        self, now: int, socket: ReceiverSocket, ear: Ear, buffer: ReceiveBuffer
    ) -> None:
        # If the interface went away, it is looked at again.
        read_all(socket, buffer, ear.refused)
        for batch in buffer.batches(ear.refused, now):
            for action in ear.take(now, batch):
                if isinstance(action, Prepare):
                    buffer.expect(action.symbol_size)

    def _take_datagram(self, now: int, interface: str, datagram: Datagram) -> None:
        stream = Stream(interface, datagram.group, datagram.port)
        ear = self.streams.get(stream)
        if ear is None:
            if len(self.streams) >= MOST_STREAMS:
                return
            ear = self.streams[stream] = Ear(None, takes=False)
        octets = np.frombuffer(first_packet(datagram.payload), np.uint8)
        if not len(octets):
            ear.refused["short"] += 1
            return
        # The port that it came from is of no interest here.
        source = Endpoint(datagram.source, 0)
        for batch in wire.read(octets, len(octets), source, ear.refused, at=now):
            ear.take(now, batch)

    @property
    def seconds(self) -> float:
        """For how long it listened."""
        return (self.ended - self.began) / SECOND


def first_packet(payload: bytes) -> bytes:
    """Return the first packet of a datagram: the system may have joined some of one length."""
    if len(payload) < wire.HEADER_SIZE:
        return payload
    row = np.frombuffer(payload, wire.HEADER_DTYPE, 1)[0]
    if int(row["type"]) not in DATA_TYPES:
        return payload
    return payload[: wire.HEADER_SIZE + int(row["symbol_size"])]
