"""Loops without processes: stand-ins for sockets, what a loop tells, and how to drive it."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from pgmlite.core.events import Event, Tell, Warned
from pgmlite.core.machine import Action, Complete
from pgmlite.core.receive.listening import Membership
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import Interrupted, NetworkError, PgmliteError
from pgmlite.net.address import Channel
from pgmlite.net.loop import attend
from pgmlite.net.udp import Arrival
from pgmlite.net.waiting import Stop, Waits, Work
from pgmlite.storage.contract import Part
from pgmlite.wire.endpoint import Endpoint
from tests.support.builders import fill

T = TypeVar("T")
E = TypeVar("E", bound=Event)

CHANNEL = Channel("239.0.0.1", 5, "none0", 1)


class Until(Stop):
    """Interrupts work when something is so, without waiting for time to pass."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        super().__init__()
        self._condition = condition

    def check(self) -> None:
        super().check()
        if self._condition():
            raise Interrupted("seen")


def perform(
    actions: Sequence[Action], machine: Receiver, part: Part, tell: Tell
) -> Complete | None:
    """Do what a receiver says; return what is whole and settled, if that comes of it."""
    todo = list(actions)
    while todo:
        after: list[Action] = []
        for action in todo:
            if not isinstance(action, Complete):
                after += attend(action, machine, part, tell)
            elif bad := part.settle(action):
                after += machine.doubt(action.oid, bad)
            else:
                return action
        todo = after
    return None


class Heard:
    """What a loop tells, in notes."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def warnings(self) -> list[str]:
        """What was warned of, in words."""
        return [event.warning for event in self.of(Warned)]

    def told(self, cause: str) -> list[str]:
        """Return what was said of a cause."""
        return [event.warning for event in self.of(Warned) if event.cause == cause]


def to_the_end(waits: Waits[T], stop: Stop | None = None) -> T:
    """Do work to its end; return what it returns."""
    work = Work(waits, deque(), stop or Stop())
    for _ in work.run():
        pass
    return cast("T", work.result)  # that may be None


class FakeSenderSocket:
    """Takes packets; raises the errors given, one a call, first."""

    channel = CHANNEL
    address, port = "192.0.2.1", 4_000
    has_segmentation = True

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.sent: list[bytes] = []
        self.reopened = 0
        self.after: Callable[[], object] = lambda: None

    def send(self, pieces: Sequence[bytes | memoryview], stride: int) -> None:
        if self.numbers:
            number = self.numbers.pop(0)
            raise OSError(number, os.strerror(number))
        flat = b"".join(pieces)
        step = stride if len(pieces) > 2 else len(flat)
        self.sent += [flat[at : at + step] for at in range(0, len(flat), step)]
        self.after()

    def why_not_here(self) -> str:
        return ""

    def reopen(self) -> None:
        self.reopened += 1
        if self.reopened == 1:
            raise NetworkError("not back yet")


GROUP = Endpoint(CHANNEL.group, CHANNEL.port)


class FakeMemberships:
    """One group that can be joined, and is heard through a stand-in for its socket."""

    kernel_drops = property(lambda self: self.socket.kernel_drops)
    granted = property(lambda self: self.socket.granted)
    wanted = property(lambda self: self.socket.wanted)

    def __init__(self, socket: FakeReceiverSocket) -> None:
        self.socket = socket
        self.channel: Channel | None = None
        self.joined: list[Membership] = []
        self.refusals: list[PgmliteError] = []
        """What the next joins come to."""

    @property
    def fds(self) -> list[int]:
        return [self.socket.fileno()]

    def in_turn(self) -> list[FakeReceiverSocket]:
        return [self.socket]

    def join(self, group: Endpoint, source: str) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.channel = CHANNEL
        self.joined.append((group, source))

    def leave(self, group: Endpoint, source: str) -> bool:
        self.joined.remove((group, source))
        return True

    def rejoin(self) -> None:
        self.socket.rejoin()

    def retry(self) -> list[Membership]:
        return []

    def close(self) -> list[Membership]:
        self.socket.close()
        left, self.joined = self.joined, []
        return left


class FakeReceiverSocket:
    """A pair of local sockets in the place of the network."""

    channel = CHANNEL
    kernel_drops = 0

    def __init__(self, granted: int = 1 << 20) -> None:
        self.granted = self.wanted = granted
        self._mine, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._mine.setblocking(False)
        self._theirs.settimeout(30)
        self.arrivals: list[tuple[bytes, int] | None] = []
        self.errors: list[int] = []
        self.rejoins: list[NetworkError | None] = []
        self.closed = False

    def put(self, *packets: bytes, stride: int = 0) -> None:
        """Let packets arrive, each in a read of its own."""
        for data in packets:
            self._put((data, stride or len(data)))

    def pause(self) -> None:
        """Let the queue be empty for a moment."""
        self._put(None)

    def _put(self, arrival: tuple[bytes, int] | None) -> None:
        if not self.arrivals:
            self._theirs.send(b"!")
        self.arrivals.append(arrival)

    def fileno(self) -> int:
        return self._mine.fileno()

    def read_into(self, pieces: Sequence[memoryview | bytearray]) -> Arrival | None:
        if self.errors:
            raise OSError(self.errors[0], os.strerror(self.errors.pop(0)))
        if not self.arrivals:
            return None
        arrival = self.arrivals.pop(0)
        if not self.arrivals:
            self._mine.recv(1)
        if arrival is None:
            return None
        data, stride = arrival
        fill(pieces, data)
        return Arrival(len(data), stride, Endpoint("192.0.2.1", 7))

    def rejoin(self) -> None:
        self.rejoins.append(None)
        if len(self.rejoins) < 3:
            raise NetworkError("interface none0: not found")

    def close(self) -> None:
        self.closed = True
        self.release()

    def release(self) -> None:
        self._mine.close()
        self._theirs.close()
