"""What passes verified blocks on while others come, in a thread of its own (spec: RCV-26).

Whatever was verified may have been changed since by somebody else who writes to the partial file:
so each block is read and hashed once more, and what is passed on are the very bytes that were
hashed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Condition

from pgmlite.errors import DiskError
from pgmlite.storage.seeds import Block, fill
from pgmlite.storage.system import reason
from pgmlite.wire.digests import block_digest

Give = Callable[[Block, memoryview], bool]
"""Passes a block on; False: it was told to stop before all of it was. Raises DiskError."""


def right_bytes(fd: int, block: Block, buffer: bytearray) -> memoryview | None:
    """Return the bytes of a block as a file has them; None: they are not those of its digest.

    Args:
        buffer: Holds them; it is made as long as the block.

    Raises:
        OSError: They can't be read.
    """
    if len(buffer) < block.length:
        buffer.extend(bytes(block.length - len(buffer)))
    data = memoryview(buffer)[: block.length]
    if fill(fd, data, block.offset) and block_digest(data, block.symbol_size) == block.digest:
        return data
    return None


class Pump:
    """Passes the blocks of one object on, each once.

    Attributes:
        fd: Can be read when something changed; whoever waits by it empties it (`calm`).
        done: Bytes that were passed on.
    """

    def __init__(self, give: Give, *, in_order: bool) -> None:
        """
        Args:
            in_order: From byte 0 on; otherwise as they come.
        """
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.done = 0
        self._give = give
        self._in_order = in_order
        self._part, self._name = -1, ""
        self._changed = Condition()
        self._waiting: dict[int, Block] = {}
        """By their offsets, in the order in which they were verified."""

        self._spoilt: list[Block] = []
        self._is_at_work = self._has_to_end = False
        self._pool = ThreadPoolExecutor(1, "pass")
        self._running: Future[None] | None = None
        self._buffer = bytearray()

    # What the loop asks; none of it waits for whoever takes the bytes, but `forget`.

    def begin(self, part: int, name: str) -> None:
        """Pass on an object from its first byte.

        Args:
            part: The partial file; it stays open until `forget` or `close`.
            name: What errors call it.
        """
        self.forget()
        self._part, self._name, self.done = part, name, 0

    def add(self, block: Block) -> None:
        """Pass a block on that was verified; one that is behind was passed on before."""
        with self._changed:
            if self._in_order and block.offset < self.done:
                return
            self._waiting[block.offset] = block
            self._changed.notify_all()
        if self._running is None:
            self._running = self._pool.submit(self._run)

    def check(self) -> None:
        """
        Raises:
            DiskError: A block could not be read, or not be passed on: none is any more.
        """
        if self._running and self._running.done():
            self._running.result()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing that can be passed on now."""
        with self._changed:
            return not self._is_at_work and self._next() is None

    def take_spoilt(self) -> list[Block]:
        """Return blocks that were not in the partial file any more, and were not passed on."""
        with self._changed:
            spoilt, self._spoilt = self._spoilt, []
            return spoilt

    def calm(self) -> None:
        """Take note of what changed."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)

    def forget(self) -> None:
        """Pass nothing on any more of what was added; returns when nothing is read any more."""
        with self._changed:
            self._waiting.clear()
            self._spoilt.clear()
            self._changed.wait_for(lambda: not self._is_at_work)

    def close(self) -> None:
        """End; whoever passes on has been told to stop."""
        with self._changed:
            self._has_to_end = True
            self._changed.notify_all()
        self._pool.shutdown()
        os.close(self.fd)

    # The thread.

    def _next(self) -> Block | None:
        if self._in_order:
            return self._waiting.get(self.done)
        return next(iter(self._waiting.values()), None)

    def _run(self) -> None:
        try:
            while (block := self._take()) is not None:
                self._pass_on(block)
        except OSError as error:
            raise DiskError(f"{self._name}: {reason(error)}") from error
        finally:
            with self._changed:
                self._has_to_end = True
            self._rest()

    def _take(self) -> Block | None:
        """Wait for a block; None: it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_to_end or self._next() is not None)
            block = None if self._has_to_end else self._next()
            if block is not None:
                del self._waiting[block.offset]
                self._is_at_work = True
            return block

    def _pass_on(self, block: Block) -> None:
        data = right_bytes(self._part, block, self._buffer)
        is_through = data is not None and self._give(block, data)
        with self._changed:
            if data is None:
                self._spoilt.append(block)
            if is_through:
                self.done += block.length
        self._rest()

    def _rest(self) -> None:
        with self._changed:
            self._is_at_work = False
            self._changed.notify_all()
        os.eventfd_write(self.fd, 1)
