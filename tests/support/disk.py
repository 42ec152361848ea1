"""A disk in memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pgmlite.core.machine import Held, Prepare
from pgmlite.sim.memory import MemoryStore
from pgmlite.wire.digests import block_digest
from pgmlite.wire.geometry import Sizes


class Disk(MemoryStore):
    """A file with holes, as receivers have it: a forged size takes no memory."""

    PAGE = 4_096
    SHOWN = 1 << 20

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._pages: dict[int, bytearray] = {}
        self._put(0, data)

    @property
    def data(self) -> bytearray:  # type: ignore[override]
        """What is at the start: all of any sample, not all of a forged size."""
        return bytearray(self._get(0, min(self.size, self.SHOWN)))

    def prepare(self, wanted: Prepare) -> Held:
        """Grow to the object's size; return the extents below the size before."""
        self._sizes = Sizes(wanted.size, wanted.symbol_size)
        end, self.size = min(self.size, wanted.size), max(self.size, wanted.size)
        starts = sorted(page * self.PAGE for page in self._pages)
        return Held(
            extents=[(start, min(start + self.PAGE, end)) for start in starts if start < end]
        )

    def write(self, runs: Sequence[tuple[int, memoryview]]) -> None:
        """Write the bytes of `runs`, and what is worth nothing between them."""
        for (offset, run), (after, _) in pairwise(runs):
            end = offset + len(run)
            self._put(end, b"\xa5" * (after - end))
        for offset, run in runs:
            self._put(offset, bytes(run))

    def read(self, offset: int, length: int) -> bytes:
        """Return what lies somewhere."""
        return self._get(offset, length)

    def matches(self, offset: int, length: int, expected: bytes) -> bool:
        """Whether the stored bytes have the digest `expected`."""
        return block_digest(self._get(offset, length), self._sizes.symbol_size) == expected

    def _note(self, *_: Any) -> None:
        """Keep no record of it."""

    def _put(self, offset: int, data: bytes) -> None:
        while data:
            page, at = divmod(offset, self.PAGE)
            part, data = data[: self.PAGE - at], data[self.PAGE - at :]
            held = self._pages.setdefault(page, bytearray(self.PAGE))
            held[at : at + len(part)] = part
            offset += len(part)

    def _get(self, offset: int, length: int) -> bytes:
        first, last = offset // self.PAGE, (offset + length) // self.PAGE
        hole = bytes(self.PAGE)
        joined = b"".join(self._pages.get(page, hole) for page in range(first, last + 1))
        return joined[offset % self.PAGE :][:length]
