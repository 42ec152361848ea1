"""The loop of a sender or repairer: machine to socket, NAKs to machine."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from pgmlite.core.causes import Fact
from pgmlite.core.events import Encoding, SendProgress, Tell, Warned
from pgmlite.core.figures import RepairFigures, SendFigures
from pgmlite.core.machine import MS, SECOND, Action, Finished, Transmit
from pgmlite.core.send.sender import Sender
from pgmlite.core.speed import Speed
from pgmlite.errors import NetworkError
from pgmlite.net.address import Channel, interface_mtu
from pgmlite.net.loop import EXPECTED_SYMBOL_SIZE, REPORT_EVERY
from pgmlite.net.nak_socket import NakSocket
from pgmlite.net.rate import RateWatch
from pgmlite.net.receiver_socket import ReceiverSocket
from pgmlite.net.sender_socket import LINK_ERRORS, REFUSALS, STRANGERS, SenderSocket
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.storage.symbols import SymbolFile
from pgmlite.wire import batch as wire
from pgmlite.wire.buffers import ReceiveBuffer, SendBuffer
from pgmlite.wire.endpoint import Endpoint

LISTEN_TIME = MS // 4
"""Packets that are there are taken for so long, even if that makes a burst late."""

LISTEN_LATE = 8 * MS
"""A sender that is behind its rate listens no more often: a flood of NAKs must not cost the
carousel its share."""


REFUSED_NAP = 1 * MS
"""Without a rate to keep, what is refused would else be refused as fast as this machine can ask."""

TELL_EVERY = 10 * SECOND
"""How often a refusal that goes on is told."""

Pieces = Sequence[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Call:
    """Packets that one system call sends.

    Attributes:
        pieces: Header, payload, header ...
        rows: The headers.
    """

    socket: SenderSocket
    pieces: Pieces
    rows: wire.Rows

    @property
    def size(self) -> int:
        """Payload bytes of its first packet."""
        return len(self.pieces[1])

    @property
    def channel(self) -> int:
        """Of the session, by number."""
        return int(self.rows["channel"][0])

    @property
    def length(self) -> int:
        """Bytes of all packets."""
        return sum(map(len, self.pieces))


def why_not(error: OSError, call: Call) -> str:
    """Say why packets are not sent."""
    if error.errno == errno.EMSGSIZE:
        return _too_large(call)
    if error.errno == errno.EPERM:
        return f"{error.strerror} (a filter of this machine?)"
    if error.errno in (errno.EINVAL, errno.EADDRNOTAVAIL):
        return call.socket.why_not_here() or error.strerror or str(error)
    return error.strerror or str(error)


def _too_large(call: Call) -> str:
    channel = call.socket.channel
    octets = wire.HEADER_SIZE + call.size + channel.overhead
    try:
        mtu = interface_mtu(channel)
    except NetworkError as error:
        return str(error)
    return (
        f"packets of {octets} bytes do not fit {channel.interface}, whose "
        f"MTU is {mtu} now: raise that, or send with an MTU of {mtu}"
    )


class Refusals:
    """Packets that the system does not take, one by one (spec: SND-11): told, but not each."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told_at: dict[int, int] = {}
        self._untold = 0
        self._since: int | None = None
        """When one was refused; None since as large a packet was taken."""

        self._smallest = 0

    def refused(self, now: int, error: OSError, why: str, packets: int, size: int) -> None:
        """Note that packets of `size` bytes were refused; say so at once, later now and then."""
        number = error.errno or 0
        if self._since is None:
            self._since, self._smallest = now, size
        self._smallest = min(self._smallest, size)
        self._untold += packets
        told_at = self._told_at.get(number)
        if told_at is not None and now - told_at < TELL_EVERY:
            return
        if told_at is None:
            self._tell(f"{why}; trying on")
        else:
            seconds = (now - told_at) / SECOND
            self._tell(f"{why}: {self._untold} packets were not sent in {seconds:.0f} s")
        self._told_at[number], self._untold = now, 0

    def taken(self, now: int, size: int) -> None:
        """Note that packets of `size` bytes were sent; say so if that was long impossible."""
        if self._since is None or size < self._smallest:
            return
        if now - self._since >= SECOND:
            self._tell(f"sending again after {(now - self._since) / SECOND:.1f} s")
            self._told_at.clear()
            self._untold = 0
        self._since = None


def send_figures(
    machine: Sender, speed: Speed, now: int, seconds: float
) -> tuple[SendFigures, RepairFigures | None]:
    """Return what a sender has counted by `now` ns, `seconds` after its start."""
    counters = machine.counters
    figures = SendFigures(
        seconds=round(seconds, 3),
        cycles=round(machine.cycles, 4),
        packets=counters.packets,
        bytes=counters.bytes,
        odata=counters.odata,
        unsent=counters.unsent,
        achieved_rate=machine.achieved_rate if machine.has_schedule else None,
        rate=speed.rate(now, machine.wire_bytes),
    )
    if not machine.answers_naks:
        return figures, None
    return figures, RepairFigures(
        rdata=counters.rdata,
        naks_received=counters.naks_received,
        ncfs_sent=counters.ncfs_sent,
        grtt=machine.grtt(now) / SECOND,
        refused=dict(sorted(machine.refused.items())),
    )


def _names(sockets: Sequence[SenderSocket]) -> str:
    """Return where all channels go, for people."""
    return ", ".join(str(socket.channel) for socket in sockets)


def _places(sockets: Sequence[SenderSocket]) -> list[Endpoint]:
    """Return the address and port of the session on each channel."""
    return [Endpoint(socket.address, socket.port) for socket in sockets]


@dataclass(slots=True)
class SendLoop:
    """Drives a `Sender` until it is finished or stopped."""

    machine: Sender
    sockets: Sequence[SenderSocket]
    """Where packets leave, by lane."""

    symbols: SymbolFile
    buffer: SendBuffer
    call_packets: int
    """Packets one system call takes."""

    tell: Tell
    inputs: Sequence[NakSocket | ReceiverSocket] = ()
    """Where NAKs arrive, and for a stand-alone repairer the group; none for a pure carousel."""

    _outbox: deque[Call] = field(default_factory=deque)
    """What the latest bursts are in calls, until they are sent."""

    _down_since: int | None = None
    """Since when nothing can be sent at all; the machine stands still."""

    _try_at: int = 0
    _is_deaf: bool = False
    """Where NAKs arrive could not be opened anew."""

    _began: int = 0
    _now: int = 0
    """The time of the latest look at the clock, ns."""

    _rest: int = 0
    """ns to wait before more is sent."""

    _last_error: str = ""
    _places: list[Endpoint] = field(init=False)
    """The address and port of the session on each channel."""

    _refusals: list[Refusals] = field(init=False)
    """By channel, as the rates that are watched: one may be refused or over before another."""

    _rates: list[RateWatch] = field(init=False)
    _speed: Speed = field(default_factory=Speed)
    _heard: ReceiveBuffer = field(default_factory=lambda: ReceiveBuffer(EXPECTED_SYMBOL_SIZE))

    def __post_init__(self) -> None:
        now, lanes, sockets = self._look_at_clock(), self.machine.lanes, self.sockets
        self._refusals = [Refusals(partial(self._warn, channel=one.channel)) for one in sockets]
        names = [f"{one.channel}: " * (len(sockets) > 1) for one in sockets]
        rates = zip(lanes, names, strict=True)
        self._rates = [RateWatch(lane.rate(now), self._too_slow, name) for lane, name in rates]
        self._places = _places(self.sockets)

    def run(self) -> Waits[None]:
        """
        Raises:
            Interrupted: It was asked to stop.
            DiskError: The source changed or can't be read.
            NetworkError: Packets can't be sent, and waiting would not help; or nothing of the
                object could be sent until the end.
        """
        try:
            yield from self._run()
        finally:
            self._drop_outbox()
        self.symbols.check()
        if self.machine.has_sent_nothing:
            raise NetworkError(
                f"nothing could be sent to {_names(self.sockets)}: {self._last_error}"
            )

    def _run(self) -> Waits[None]:
        now = self._began = self._look_at_clock()
        self.machine.start(now)
        self._speed.rate(now, 0)
        report = now + REPORT_EVERY
        listen_at = now
        while True:
            if self._go_on(now):
                return
            if self._rest:
                rest, self._rest = self._rest, 0
                yield Wait(rest)
            now = self._look_at_clock()
            if now >= report:
                report = now + REPORT_EVERY
                self._look_around(now)
                now = self._look_at_clock()
            deadline = self.machine.deadline if self._down_since is None else self._try_at
            if self.inputs and (deadline is None or deadline > now or now >= listen_at):
                yield from self._listen(0 if deadline is None else deadline - now)
                now = self._look_at_clock()
                listen_at = now + LISTEN_LATE if self.machine.is_paced(now) else now
            else:
                yield Wait(0 if deadline is None else deadline - now)
                now = self._look_at_clock()

    def _go_on(self, now: int) -> bool:
        """Send what is due, or try whether that can be; return whether it was the last."""
        if self._down_since is not None and not self.machine.time_is_up(now):
            if now >= self._try_at:
                self._try_on(now)
            return False
        return self._perform(self.machine.tick(now), now)

    def _look_at_clock(self) -> int:
        self._now = time.monotonic_ns()
        return self._now

    def look_at_rate(self, *, is_over: bool = False) -> None:
        """Say so if a rate is not kept, `is_over` for the last time."""
        for watch, lane in zip(self._rates, self.machine.lanes, strict=True):
            watch.look(lane.throughput, lane.tally.counters.unsent, is_over=is_over)

    def figures(self, now: int) -> tuple[SendFigures, RepairFigures | None]:
        """Return the counters at `now` ns."""
        return send_figures(self.machine, self._speed, now, (now - self._began) / SECOND)

    def _look_around(self, now: int) -> None:
        """Do what is done about once a second."""
        self.symbols.check()
        whys = (socket.why_not_here() for socket in self.sockets)
        if self._down_since is None and (why := next(filter(None, whys), "")):
            self._stand(now, why)
            self._try_on(now)
        if self._is_deaf:
            self._rejoin()
        for text in self.symbols.take_warnings():
            self.tell(Warned(now, text))
        if encoding := self.symbols.encoding:
            self.tell(Encoding(now, *encoding))
        self.tell(SendProgress(now, *self.figures(now)))
        self.look_at_rate()

    def _perform(self, actions: list[Action], now: int) -> bool:
        """Do what the machine says; True if it has finished."""
        for action in actions:
            if isinstance(action, Finished):
                return True
            if isinstance(action, Transmit):
                self._transmit(action, now)
        return False

    def _listen(self, patience: int) -> Waits[None]:
        """Wait `patience` ns at most for packets; take what there is time for."""
        end = time.monotonic_ns() + max(patience, LISTEN_TIME)
        fds = yield Wait(patience, [one.fileno() for one in self.inputs])
        ready = [one for one in self.inputs if one.fileno() in fds]
        while ready:
            ready = [one for one in ready if self._take(one)]
            if time.monotonic_ns() >= end:
                break

    def _take(self, one: NakSocket | ReceiverSocket) -> bool:
        """Give the machine what a few reads bring; False if nothing is left."""
        arrival = None
        refused = self.machine.refused
        for _ in range(one.READS_AT_ONCE):
            room = self._heard.room()
            try:
                arrival = one.read_into(room) if room else None
            except OSError as error:
                self._warn(error.strerror or str(error))
                arrival = None
            if arrival is None:
                break
            if arrival.length:
                self._heard.add(arrival.length, arrival.stride, arrival.source)
            else:
                refused["short"] += 1
        now = time.monotonic_ns()
        for batch in self._heard.batches(refused):
            self._perform(self.machine.receive(now, batch), now)
        return arrival is not None

    def _transmit(self, burst: Transmit, now: int) -> None:
        payload, length, rows = burst.payload, burst.length, burst.rows
        socket = self.sockets[self.machine.lane_of(burst.channel)]
        if isinstance(payload, bytes):
            if len(rows) == 1:  # an SPM may be longer than a small symbol
                self._outbox.append(Call(socket, [rows.tobytes(), payload], rows))
                self._send_all(now)
                return
            self.buffer.payload[:length] = payload
        else:
            self.symbols.fill(self.buffer.payload, payload.ids)
        self.buffer.write_headers(rows)
        count = len(rows)
        # Where packets go out one by one, each is taken or refused for itself.
        step = self.call_packets if socket.has_segmentation else 1
        for start in range(0, count, step):
            stop = min(start + step, count)
            pieces = self.buffer.pieces(start, stop, length)
            self._outbox.append(Call(socket, pieces, rows[start:stop]))
        self._send_all(now)

    def _send_all(self, now: int) -> None:
        """Send what is in the outbox, as far as there is a link."""
        while self._outbox:
            call = self._outbox[0]
            try:
                self._send(call)
            except OSError as error:
                if error.errno in LINK_ERRORS:
                    self._stand(now, why_not(error, call))
                    return
                self._outbox.popleft()
                self._refuse(error, call, now)
            else:
                self._outbox.popleft()
                self._refusals[call.channel].taken(now, call.size)

    def _send(self, call: Call) -> None:
        try:
            call.socket.send(call.pieces, self.buffer.stride)
        except OSError:
            # spec: SND-10: it may be an ICMP message, true or forged, that waited for a call:
            # this call took it away, and sent nothing.
            call.socket.send(call.pieces, self.buffer.stride)

    def _refuse(self, error: OSError, call: Call, now: int) -> None:
        """Go on without packets that the system does not take.

        Raises:
            NetworkError: It will take none.
        """
        # spec: SND-11
        self.machine.unsent(call.rows, call.length)
        self._last_error = why = why_not(error, call)
        if error.errno in STRANGERS:
            return
        if error.errno not in REFUSALS:
            raise NetworkError(f"{call.socket.channel}: {why}") from error
        self._refusals[call.channel].refused(now, error, why, len(call.rows), call.size)
        if not self.machine.is_paced(now):
            self._rest += REFUSED_NAP

    def _warn(self, text: str, channel: Channel | None = None) -> None:
        self.tell(Warned(self._now, f"{channel or _names(self.sockets)}: {text}"))

    def _too_slow(self, text: str, facts: Mapping[str, Fact]) -> None:
        self.tell(Warned(self._now, text, "rate", facts))

    # A link that is down, an address that is no more.

    def _stand(self, now: int, why: str) -> None:
        """Stand still, and say so once: what could not be sent is sent first when it can be."""
        # spec: SND-10
        self._try_at = now + POLL
        self._last_error = why
        if self._down_since is None:
            self._down_since = now
            self._warn(f"{why}; trying on")

    def _try_on(self, now: int) -> None:
        """Go on where we stood, if there is a link and an address again."""
        self._try_at = now + POLL
        # A socket may be tied to an index or an address that is no more.
        try:
            for socket in self.sockets:
                socket.reopen()
        except NetworkError:  # still gone
            return
        places = _places(self.sockets)
        is_new = places != self._places
        if is_new:
            self._places = places
            self.machine.renew(now, self._drop_outbox())
        self._send_all(now)
        if self._outbox:
            return
        self._rejoin()
        since = now if self._down_since is None else self._down_since
        self._down_since = None
        self.machine.stood(now - since)
        whence = f", from {places[0].address} as a new session" if is_new else ""
        self._warn(f"sending again after {(now - since) / SECOND:.1f} s{whence}")

    def _drop_outbox(self) -> wire.Rows:
        """Count what waits as not sent; return its headers."""
        dropped = [call.rows for call in self._outbox]
        for call in self._outbox:
            self.machine.unsent(call.rows, call.length)
        self._outbox.clear()
        return np.concatenate(dropped) if dropped else np.zeros(0, wire.HEADER_DTYPE)

    def _rejoin(self) -> None:
        """Hear again, if the interface came back as another one; the carousel does not wait."""
        try:
            for one in self.inputs:
                one.rejoin()
            self._is_deaf = False
        except NetworkError as error:
            if not self._is_deaf:
                self._warn(f"{error}; trying on, and not hearing NAKs until then")
            self._is_deaf = True
