"""What a service manager is told: that it is ready, how it goes, and that it is alive (sd_notify).

Datagrams to the socket that the environment names, as of sd_notify(3); nothing is awaited, and
nothing depends on them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar

from pgmlite.core.events import (
    Adopted,
    Completed,
    Event,
    Failed,
    Hooked,
    InPlace,
    ReceiveProgress,
    ReceiveStarted,
    SendStarted,
    Tell,
    Waiting,
    Warned,
)
from pgmlite.core.human import human_list
from pgmlite.core.machine import SECOND
from pgmlite.errors import PgmliteError
from pgmlite.net.handle import Handle
from pgmlite.net.waiting import Wait, Waits

T = TypeVar("T")

STATUS_EVERY = 5 * SECOND

MOST_NAMED = 8
"""Jobs that a status names."""

MOST_CHARACTERS = 60
"""Of an object's name in a status: it is a stranger's."""


@dataclass(slots=True)
class _Job:
    """What is known of one job.

    Attributes:
        is_ready: It listens or sends, or waits for what it needs.
        is_over: An error has ended it.
        place: What is in place.
        doing: What it is doing.
    """

    is_ready: bool = False
    is_over: bool = False
    place: str = ""
    doing: str = "starting"

    def take(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case ReceiveStarted():
                self.doing = "waiting"
            case SendStarted(manifest=manifest):
                self.doing = f"sending {_short(manifest.name)}"
            case Waiting() | Warned(cause="retry"):
                self.doing = "trying again"
            case Hooked(phase="started"):
                self.doing = "running the command"
            case Hooked(phase=phase):
                self.doing = "waiting" if phase == "done" else "the command failed"
            case InPlace(name=name, release=release):
                self.place = _short(name, release)
            case Adopted(manifest=manifest):
                self.doing = f"receiving {_short(manifest.name)}"
            case ReceiveProgress(stored=stored, symbols=symbols) if symbols:
                self.doing = f"{self.doing.partition(', ')[0]}, {stored / symbols:.0%}"
            case Failed():
                self.doing, self.is_over = "has failed", True
                return
            case Completed(manifest=manifest, signed_by=signed_by):
                number = manifest.release.number if manifest.release and signed_by else 0
                self.place, self.doing = _short(manifest.name, number), "waiting"
            case _:
                return
        self.is_ready = self.is_ready or not isinstance(event, InPlace)

    def __str__(self) -> str:
        return f"{self.place} in place; {self.doing}" if self.place else self.doing


def _short(name: str, release: int = 0) -> str:
    if len(name) > MOST_CHARACTERS:
        name = f"{name[: MOST_CHARACTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
    return f"{name} (release {release})" if release else name


class Notifier:
    """Tells the service manager of some jobs."""

    def __init__(self, address: str, jobs: tuple[str, ...], watchdog: int | None = None) -> None:
        """
        Args:
            address: A path, or ``@`` and a name that is none.
            jobs: Their names; empty ones, too.
            watchdog: ns within which a sign of life is expected; None: none is.
        """
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._jobs = {name: _Job() for name in jobs}
        self._every = None if watchdog is None else watchdog // 2
        self._alive_at = self._status_at = 0
        self._status = ""
        self._is_ready = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @classmethod
    def of(cls, environment: Mapping[str, str], jobs: tuple[str, ...]) -> Self | None:
        """Return what tells whoever the environment names; None: nobody."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):
            return None
        watchdog = None
        if environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            with suppress(ValueError):
                usec = int(environment.get("WATCHDOG_USEC", "0"))
                watchdog = usec * 1_000 if usec > 0 else None
        return cls(address, jobs, watchdog)

    def take(self, event: Event) -> None:
        """Take note of an event; once all jobs are ready that is told."""
        job = self._jobs.get(event.job)
        if job is None:
            return
        job.take(event)
        self._tell_of_ready()

    def _tell_of_ready(self) -> None:
        jobs = self._jobs.values()
        # One that can't begin must not have the manager end the others for being late.
        if (
            not self._is_ready
            and all(one.is_ready or one.is_over for one in jobs)
            and not all(one.is_over for one in jobs)
        ):
            self._is_ready = self._say("READY=1")

    def live(self, now: int) -> None:
        """Say what is due at `now` ns: a sign of life, and how it goes."""
        self._tell_of_ready()  # it may not have been taken
        if self._every is not None and now >= self._alive_at:
            self._alive_at = now + self._every
            self._say("WATCHDOG=1")
        if now >= self._status_at:
            self._status_at = now + STATUS_EVERY
            if (status := self._words()) != self._status:
                self._status = status
                self._say(f"STATUS={status}")

    def stopping(self) -> None:
        """Say that it ends."""
        self._say("STOPPING=1")

    def close(self) -> None:
        """Say nothing any more."""
        self._socket.close()

    def _words(self) -> str:
        named = [f"{name}: {job}" if name else str(job) for name, job in self._jobs.items()]
        return human_list(named, MOST_NAMED, " | ") if len(named) > 1 else named[0]

    def _say(self, text: str) -> bool:
        """Return whether it was taken: a manager that is gone, or busy, is no reason to end."""
        try:
            self._socket.sendto(text.encode(errors="replace"), self._address)
        except OSError:
            return False
        return True


def notified(
    start: Callable[[Tell], Waits[Any]], notifier: Notifier
) -> Callable[[Tell], Waits[Any]]:
    """Return what makes the same work, and tells the service manager of it."""

    def begin(tell: Tell) -> Waits[Any]:
        def both(event: Event) -> None:
            notifier.take(event)
            tell(event)

        waits = _attend(start(both), notifier)
        next(waits)  # what interrupts it before it begins is passed on, too
        return waits

    return begin


def _attend(waits: Waits[Any], notifier: Notifier) -> Waits[Any]:
    """Let work go on, and give signs of life where it waits: one that hangs gives none."""
    wait = Wait(0)
    try:
        while True:
            step: Callable[[], Wait]
            try:
                step = partial(waits.send, (yield wait))
            except PgmliteError as interruption:
                notifier.stopping()
                step = partial(waits.throw, interruption)
            try:
                wait = step()
            except StopIteration as end:
                return end.value
            notifier.live(time.monotonic_ns())
    finally:
        waits.close()
        notifier.close()


def told_of(
    handle: Handle[T], environment: Mapping[str, str], jobs: tuple[str, ...] = ("",)
) -> Handle[T]:
    """Return what is used in place of `handle`, so that the service manager is told of it.

    Args:
        environment: Says whether there is a service manager, and what it wants.
        jobs: The names that events have.
    """
    notifier = Notifier.of(environment, jobs)
    if notifier is None:
        return handle
    start = notified(handle.start, notifier)
    return Handle(start, began=handle.began, reload=handle.reload)
