"""Work as a generator of waits, and the two that drive it: a thread that blocks, and asyncio.

What loops, starts and hooks do is the same for both; only how to wait differs. So they are
generators: each yields what it waits for, and is sent which descriptors can be read. A wait is the
only place where work is interrupted; after that it may wait again, to end in order.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from pgmlite.core.events import Event
from pgmlite.core.machine import MS, SECOND
from pgmlite.errors import Interrupted, PgmliteError

T = TypeVar("T")

POLL = 100 * MS
"""Longest wait before requests to stop and time limits are looked at again."""

SELECTABLE = 1_024
"""Descriptors from here on `select` does not take; it alone waits for less than 1 ms."""


class Wait(NamedTuple):
    """What work waits for: that time passes, or that one of some descriptors can be read."""

    time: int
    """ns; none if it is not positive, and never more than `POLL` at once."""

    fds: Sequence[int] = ()


Waits: TypeAlias = Generator[Wait, Sequence[int], T]
"""Work that returns a T."""


class Stop:
    """A request to stop: from a signal handler or another thread, too."""

    def __init__(self) -> None:
        self._reason = ""

    def ask(self, reason: str) -> None:
        """Have the work end at its next wait; the first reason counts."""
        self._reason = self._reason or reason

    def check(self) -> None:
        """
        Raises:
            Interrupted: It was asked for.
        """
        if self._reason:
            raise Interrupted(self._reason)


class Work(Generic[T]):
    """Work on its way to its end.

    Attributes:
        wait: What it waits for; None: it has ended.
        result: What it returned, if it did.
        error: What ended it, if that is an error of ours.
    """

    def __init__(self, waits: Waits[T], happened: deque[Event], stop: Stop) -> None:
        """
        Args:
            happened: Where the work leaves events.
        """
        self._waits = waits
        self._happened = happened
        self._stop = stop
        self._has_begun = self._is_interrupted = False
        self.wait: Wait | None = Wait(0)
        self.result: T | None = None
        self.error: PgmliteError | None = None

    def resume(self, ready: Sequence[int]) -> None:
        """Go on after a wait, with the descriptors that can be read."""
        self.wait = None
        try:
            if interruption := self._interruption():
                self.wait = self._waits.throw(interruption)
            elif self._has_begun:
                self.wait = self._waits.send(ready)
            else:
                self._has_begun = True
                self.wait = next(self._waits)
        except StopIteration as end:
            self.result = end.value
        except PgmliteError as error:
            self.error = error

    def _interruption(self) -> Interrupted | None:
        """Return what interrupts it now: once, for then it has to end."""
        if self._is_interrupted:
            return None
        try:
            self._stop.check()
        except Interrupted as interruption:
            self._is_interrupted = True
            return interruption
        return None

    def _told(self) -> Iterator[Event]:
        while self._happened:
            yield self._happened.popleft()

    def run(self) -> Generator[Event, None, None]:
        """Yield what happens, and block between; whoever stops to listen waits for its end.

        Raises:
            PgmliteError: It ended the work.
        """
        try:
            while self.wait is not None:
                self.resume(block(self.wait))
                yield from self._told()
        finally:
            self._stop.ask("closed")
            while self.wait is not None:
                self.resume(block(self.wait))
        if self.error:
            raise self.error

    async def arun(self) -> AsyncGenerator[Event, None]:
        """Yield what happens, and let the event loop go on between; else as `run`.

        Raises:
            PgmliteError: It ended the work.
        """
        try:
            while self.wait is not None:
                self.resume(await let_go(self.wait))
                for event in self._told():
                    yield event
        finally:
            self._stop.ask("closed")
            while self.wait is not None:
                self.resume(await let_go(self.wait))
        if self.error:
            raise self.error


def in_thread(call: Callable[[], T]) -> Waits[T]:
    """Return what `call` returns, which is done in a thread; what interrupts it waits for its end.

    Raises:
        PgmliteError: What interrupted it; the call has ended.
    """
    # Imported where it is used: a sender starts sooner without it.
    from concurrent.futures import ThreadPoolExecutor

    interruption: PgmliteError | None = None
    with ExitStack() as opened:
        fd = os.eventfd(0)
        opened.callback(os.close, fd)
        pool = opened.enter_context(ThreadPoolExecutor(1))  # it waits for its thread
        done = pool.submit(call)
        done.add_done_callback(lambda _: os.eventfd_write(fd, 1))
        while not done.done():
            try:
                yield Wait(POLL, (fd,))
            except PgmliteError as error:
                interruption = error
        if interruption:
            raise interruption
        return done.result()


def block(wait: Wait) -> Sequence[int]:
    """Wait in this thread; return the descriptors that can be read."""
    left = max(0, min(wait.time, POLL))
    if not wait.fds:
        if left:
            time.sleep(left / SECOND)
        return ()
    if max(wait.fds) < SELECTABLE:
        return select.select(wait.fds, (), (), left / SECOND)[0]
    return _poll(wait.fds, left)


def _poll(fds: Sequence[int], left: int) -> Sequence[int]:
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return [fd for fd, _ in poller.poll(left / MS)]


async def let_go(wait: Wait) -> Sequence[int]:
    """Wait in the running event loop; return the descriptors that can be read."""
    # Imported where it is used: whoever blocks starts sooner without it.
    import asyncio

    if wait.time <= 0:
        await asyncio.sleep(0)
        return _poll(wait.fds, 0) if wait.fds else ()
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    ready: list[int] = []

    def readable(fd: int) -> None:
        ready.append(fd)
        wake()

    def wake() -> None:
        if not over.done():
            over.set_result(None)

    timer = loop.call_later(min(wait.time, POLL) / SECOND, wake)
    for fd in wait.fds:
        loop.add_reader(fd, readable, fd)
    try:
        await over
    finally:
        timer.cancel()
        for fd in wait.fds:
            loop.remove_reader(fd)
    return ready
