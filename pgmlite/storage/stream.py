"""Blocks that are hashed while they are written, so that they need not be read back."""

from __future__ import annotations

from blake3 import blake3


class BlockStream:
    """Hashes blocks that are written in order.

    A block that came in pieces, or not from its start, is not here: the caller reads it.
    """

    KEPT = 64
    """Finished blocks whose digests wait to be asked for."""

    def __init__(self) -> None:
        self._block_size = 0
        self._start = self._next = -1
        self._hasher = blake3()
        self._digests: dict[int, tuple[int, bytes]] = {}

    def begin(self, block_size: int) -> None:
        """Cut what follows into blocks of `block_size` bytes."""
        self._block_size = block_size
        self._start = self._next = -1
        self._digests.clear()

    def update(self, offset: int, run: memoryview) -> None:
        """Take bytes that are written at `offset`."""
        while run and self._block_size:
            start = offset - offset % self._block_size
            self._digests.pop(start, None)
            part = run[: start + self._block_size - offset]
            if offset == start:
                self._start, self._next, self._hasher = start, start, blake3()
            if offset == self._next:
                self._hasher.update(part)
                self._next += len(part)
                self._keep(self._next - self._start)
            elif start == self._start:
                self._start = self._next = -1  # a hole, or bytes behind us replaced
            offset, run = offset + len(part), run[len(part) :]

    def _keep(self, length: int) -> None:
        if length == self._block_size:
            while len(self._digests) >= self.KEPT:
                self._digests.pop(next(iter(self._digests)))
            self._digests[self._start] = (length, self._hasher.digest())
            self._start = self._next = -1

    def pop(self, offset: int, length: int) -> bytes | None:
        """Return the digest of `length` bytes at `offset` if they were written in order."""
        if self._start == offset and self._next - offset == length:
            self._start = self._next = -1
            return self._hasher.digest()
        kept = self._digests.pop(offset, None)
        return kept[1] if kept and kept[0] == length else None
