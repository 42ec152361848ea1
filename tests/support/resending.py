"""Senders that follow a path, in this process, and who listens to them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pgmlite
from pgmlite.core.events import Event, SendStarted, Stopped, Warned
from pgmlite.errors import PgmliteError
from tests.support.loopback import HEADER, PATIENCE, Endpoint, raw_receiver

E = TypeVar("E", bound=Event)


class Following:
    """A sender that follows, in a thread; a context, so that it always ends."""

    def __init__(self, file: Path, place: Endpoint, **arguments: Any) -> None:
        given: dict[str, Any] = {"group": place.group, "port": place.port, "interface": "lo"}
        given |= arguments
        self._handle = pgmlite.send(file, follow=True, **given)
        self._events: list[Event] = []
        self._changed = threading.Condition(threading.RLock())
        self._error: PgmliteError | None = None
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self._handle:
                with self._changed:
                    self._events.append(event)
                    self._changed.notify_all()
        except PgmliteError as error:
            self._error = error
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._has_ended, PATIENCE)
            assert condition(), (self._error, self._events)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of a kind so far."""
        with self._changed:
            return [event for event in self._events if isinstance(event, kind)]

    def wait(self, kind: type[E], number: int = 1) -> E:
        """Wait for the n-th event of a kind; return it."""
        self._wait(lambda: len(self.of(kind)) >= number)
        return self.of(kind)[number - 1]

    def started(self, number: int = 1) -> SendStarted:
        """Wait until the n-th content is sent."""
        return self.wait(SendStarted, number)

    def warned(self, cause: str, number: int = 1) -> Warned:
        """Wait for the n-th warning of a cause."""
        self._wait(lambda: len(self.warnings(cause)) >= number)
        return self.warnings(cause)[number - 1]

    def warnings(self, cause: str) -> list[Warned]:
        """Return the warnings of a cause so far."""
        return [event for event in self.of(Warned) if event.cause == cause]

    def stop(self) -> Stopped:
        """Have it end, and return its last event."""
        self._handle.stop("stopped by the test")
        self._thread.join(PATIENCE)
        return self._handle.result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._handle.stop()
        self._thread.join(PATIENCE)


@dataclass(frozen=True, slots=True)
class Packet:
    """One that came.

    Attributes:
        at: In seconds of the system's monotonic clock.
    """

    at: float
    kind: int
    tsi: int
    oid: int
    source: tuple[str, int]


class Listening:
    """Hears a group, packet by packet, in a thread; a context."""

    def __init__(self, place: Endpoint) -> None:
        self.packets: list[Packet] = []
        self._open = raw_receiver(place)
        self._has_to_end = False
        self._sock = self._open.__enter__()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._sock.settimeout(0.05)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._has_to_end:
            try:
                data, source = self._sock.recvfrom(65_536)
            except TimeoutError:
                continue
            header = HEADER.unpack_from(data)
            self.packets.append(Packet(time.monotonic(), header[2], header[6], header[7], source))

    def of(self, oid: int) -> list[Packet]:
        """Return those of an object so far."""
        return [one for one in list(self.packets) if one.oid == oid]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._has_to_end = True
        self._thread.join(PATIENCE)
        self._open.__exit__(kind, value, traceback)
