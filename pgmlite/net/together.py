"""Several pieces of work in one thread, as one: each goes on when what it waits for is there.

Each is resumed once in a turn, so that none starves the others. What interrupts one interrupts all;
an error ends the one that raises it, and the others go on: so an event says it, then and there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pgmlite.core.events import Event, Failed, Stopped, Tell
from pgmlite.errors import (
    DiskError,
    HookError,
    Interrupted,
    NetworkError,
    ObjectError,
    PgmliteError,
    TimedOut,
    UsageError,
)
from pgmlite.net.waiting import POLL, Wait, Waits

Start = Callable[[Tell], Waits[Any]]
"""Makes work, given what takes its events."""

WORSE = (UsageError, NetworkError, ObjectError, TimedOut, Interrupted, DiskError, HookError)
"""Kinds of errors: the later, the worse."""


class _Part:
    """One piece of the work.

    Attributes:
        wait: What it waits for; None: it has ended.
        deadline: When it goes on whatever happens, ns.
        result: What it returned, if it did.
        error: What ended it, if that is an error of ours.
    """

    def __init__(self, name: str, start: Start, tell: Tell) -> None:
        self._name, self._tell = name, tell
        self._told: PgmliteError | None = None
        self._waits = start(self._tell_of)
        self.wait: Wait | None = Wait(0)
        self.deadline = 0
        self.result: Any = None
        self.error: PgmliteError | None = None
        self._has_begun = False

    @property
    def fds(self) -> Sequence[int]:
        """Descriptors that it waits for."""
        return self.wait.fds if self.wait else ()

    def look(self, now: int, readable: Collection[int]) -> None:
        """Go on, if what it waits for is there."""
        mine = [fd for fd in self.fds if fd in readable]
        if mine or now >= self.deadline:
            self._go_on(partial(self._waits.send, mine) if self._has_begun else self._begin)

    def interrupt(self, interruption: PgmliteError) -> None:
        """Have it end."""
        self._go_on(partial(self._waits.throw, interruption))

    def _begin(self) -> Wait:
        self._has_begun = True
        return next(self._waits)

    def _go_on(self, step: Callable[[], Wait]) -> None:
        self.wait = None
        try:
            self.wait = step()
            self.deadline = time.monotonic_ns() + max(0, min(self.wait.time, POLL))
        except StopIteration as end:
            self.result = end.value
        except PgmliteError as error:
            self.error = error
            if error is not self._told:
                self._tell_of(Failed(time.monotonic_ns(), error))

    def _tell_of(self, event: Event) -> None:
        if isinstance(event, Failed | Stopped):
            self._told = event.error
        self._tell(replace(event, job=self._name))


def together(jobs: Mapping[str, Start], tell: Tell) -> Waits[tuple[Any, ...]]:
    """Return what each of some jobs returns, once all have ended.

    Args:
        jobs: By their names, which their events have.

    Raises:
        PgmliteError: It ended one of them: the worst, if there are several.
    """
    waits = _all([_Part(name, start, tell) for name, start in jobs.items()])
    next(waits)  # so that what interrupts it before it begins comes to all of them
    return waits


def _all(parts: Sequence[_Part]) -> Waits[tuple[Any, ...]]:
    while waiting := [part for part in parts if part.wait is not None]:
        try:
            ready = yield _shortest(waiting)
        except PgmliteError as interruption:
            for part in waiting:
                part.interrupt(interruption)
            continue
        readable, now = set(ready or ()), time.monotonic_ns()
        for part in waiting:
            part.look(now, readable)
    errors = [part.error for part in parts if part.error]
    if errors:
        raise max(errors, key=_badness)
    return tuple(part.result for part in parts)


def _shortest(parts: Sequence[_Part]) -> Wait:
    """Return what all of them wait for, as one."""
    left = min(part.deadline for part in parts) - time.monotonic_ns()
    return Wait(max(0, left), tuple({fd: None for part in parts for fd in part.fds}))


def _badness(error: PgmliteError) -> int:
    return next((place for place, kind in enumerate(WORSE) if isinstance(error, kind)), len(WORSE))
