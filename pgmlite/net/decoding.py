"""Decoding beside reception: in a thread of its own, so that packets are read meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from pgmlite.core.decode import Decoded
from pgmlite.core.machine import Decode


class Decoder:
    """Decodes blocks one after another, in the order in which they are given.

    The thread begins with the first block: who loses nothing has none.
    """

    def __init__(self, decode: Callable[[Decode], Decoded]) -> None:
        """
        Args:
            decode: Is called in the thread; it may read, but change nothing.
        """
        self._decode = decode
        self._fd = -1
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: list[Future[Decoded]] = []

    @property
    def fds(self) -> tuple[int, ...]:
        """What to wait for while blocks are under way: it can be read when one is through."""
        return (self._fd,) if self._under_way else ()

    def add(self, action: Decode) -> None:
        """Have a block decoded."""
        if self._pool is None:
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._pool = ThreadPoolExecutor(1, "decode")
        future = self._pool.submit(self._decode, action)
        self._under_way.append(future)
        future.add_done_callback(self._wake)

    def _wake(self, _: Future[Decoded]) -> None:
        os.eventfd_write(self._fd, 1)

    def take(self) -> list[Decoded]:
        """Return the blocks that are through, in order."""
        if not self._under_way:
            return []
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        decoded = []
        while self._under_way and self._under_way[0].done():
            decoded.append(self._under_way.pop(0).result())
        return decoded

    def forget(self) -> None:
        """Want no answer any more to what was given."""
        under_way, self._under_way = self._under_way, []
        for future in under_way:
            future.cancel()

    def close(self) -> None:
        """End, as soon as the block under way is through."""
        self.forget()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
            os.close(self._fd)
