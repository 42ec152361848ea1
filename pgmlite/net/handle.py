"""What a call returns: work that is used to the end or event by event, blocking or with asyncio."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
)
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from pgmlite.core.events import Event, Tell
from pgmlite.errors import UsageError
from pgmlite.net.waiting import Stop, Waits, Work

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Handle(Iterator[Event], AsyncIterator[Event], Awaitable[T], Generic[T]):
    """A sender, receiver or repairer: used once, and in one of three ways.

    `run` blocks to the end. Iteration gives events, and blocks between them; what happens while
    the program is busy with one waits in the system's buffers. ``await`` and ``async for`` do
    the same and let the event loop go on; their disk work is done in its thread, batch by batch.
    As a context, of either kind, it is closed at the end: sockets too, and what came is kept. A
    task that is cancelled is so when that is done.

    Attributes:
        start: Makes the work, given what takes its events: for who makes one of several.
        began: When it was made, in ns of the clock of its events.
    """

    def __init__(
        self,
        start: Callable[[Tell], Waits[T]],
        *,
        began: int | None = None,
        reload: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            start: Makes the work, given what takes its events.
            began: ns on the clock of the events; None: now, of the system's.
            reload: Has the work look anew at what it was given; None: it can't.
        """
        self.start = start
        self._reload = reload
        self.began = time.monotonic_ns() if began is None else began
        happened: deque[Event] = deque()
        self._stop = Stop()
        self._work = Work(start(happened.append), happened, self._stop)
        self._blocking: Generator[Event, None, None] | None = None
        self._async: AsyncGenerator[Event, None] | None = None
        self._turn: asyncio.Lock | None = None
        """Held by the task that waits for the next event."""

    @property
    def result(self) -> T:
        """What it came to: its last event, once that is there.

        Raises:
            UsageError: It has not ended, or an error ended it.
        """
        if self._work.result is None:
            raise UsageError("there is no result: it has not ended, or an error ended it")
        return self._work.result

    def stop(self, reason: str = "stopped") -> None:
        """Have it end soon, with `Interrupted`; from another thread or a signal handler, too."""
        self._stop.ask(reason)

    def reload(self) -> None:
        """Have a receiver that follows read its keys anew, soon; as `stop`, from anywhere."""
        if self._reload:
            self._reload()

    # By blocking.

    def run(self) -> T:
        """Go on to the end.

        Raises:
            PgmliteError: It came to no good end.
        """
        for _ in self:
            pass
        return self.result

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if self._blocking is None:
            self._blocking = self._work.run()
        return next(self._blocking)

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._blocking is not None:
            self._blocking.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # With asyncio.

    def __await__(self) -> Generator[object, None, T]:
        return self._to_the_end().__await__()

    async def _to_the_end(self) -> T:
        async with self:
            async for _ in self:
                pass
        return self.result

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        # Imported where it is used: whoever blocks starts sooner without it.
        import asyncio

        if self._async is None or self._turn is None:
            self._async, self._turn = self._work.arun(), asyncio.Lock()
        async with self._turn:
            return await anext(self._async)

    async def aclose(self) -> None:
        """End it, if it has not ended; another task may be at it, or be ending it."""
        if self._async is None or self._turn is None:
            return
        self._stop.ask("closed")
        async with self._turn:
            await self._async.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
