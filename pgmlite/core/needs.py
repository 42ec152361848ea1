"""What receivers lack, as NAKs and NCFs say it: who asks and who repairs know no more of it.

`Exact` names source symbols, `Count` says how many symbols of which blocks, whichever they are. A
`Need` is never changed: each operation gives another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from pgmlite.wire.batch import Flags
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.request import (
    MAX_REQUESTED,
    Counts,
    Symbols,
    build_counts,
    build_request,
    counts_size,
    request_size,
)

MANY = 256
"""Numbers from which on numpy is faster than a set."""


class Need(Protocol):
    """What is asked for, confirmed or repaired of one object."""

    def __bool__(self) -> bool:
        """Whether anything is needed."""

    def __len__(self) -> int:
        """Symbols that it takes."""

    @property
    def bounds(self) -> tuple[int, int]:
        """The lowest and the highest place that it names; two needs may have something in common
        only where their bounds overlap. It must not be empty.
        """

    def blocks_of(self, geometry: Geometry) -> list[int]:
        """Return the blocks that it has something of, ascending."""

    def less(self, other: Self) -> Self:
        """Return what is left of it beside `other`."""

    def joined(self, other: Self) -> Self:
        """Return what serves both."""

    def cut(self, count: int) -> tuple[Self, Self]:
        """Return `count` symbols of it, or all, and the rest."""

    def fits(self, room: int) -> bool:
        """Whether one request of `room` bytes says all of it."""

    def pack(self, room: int) -> tuple[bytes, Self]:
        """Return a request of at most `room` bytes, and what it does not say."""


NO_SYMBOLS: Symbols = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Exact:
    """Source symbols: (n,) numbers, ascending and distinct."""

    symbols: Symbols

    def __bool__(self) -> bool:
        return len(self.symbols) > 0

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def bounds(self) -> tuple[int, int]:
        """The lowest and the highest symbol."""
        return int(self.symbols[0]), int(self.symbols[-1])

    def blocks_of(self, geometry: Geometry) -> list[int]:
        """Return the blocks that the symbols are of."""
        numbers = geometry.blocks_of(self.symbols)
        if len(numbers) > MANY:
            numbers = numbers[np.diff(numbers, prepend=-1) != 0]
        return sorted(set(numbers.tolist()))

    def less(self, other: Exact) -> Exact:
        """Return the symbols that are not among those of `other`."""
        if not self or not other:
            return self
        return Exact(self.symbols[~is_in(self.symbols, other.symbols)])

    def joined(self, other: Exact) -> Exact:
        """Return the symbols of both."""
        if not self or not other or self.symbols[-1] < other.symbols[0]:
            return Exact(np.concatenate((self.symbols, other.symbols)))
        return Exact(np.union1d(self.symbols, other.symbols))

    @classmethod
    def union(cls, needs: Sequence[Exact]) -> Exact:
        """Return the symbols of all `needs`, which have none in common."""
        if len(needs) == 1:
            return needs[0]
        return cls(np.sort(np.concatenate([NO_SYMBOLS, *(need.symbols for need in needs)])))

    def cut(self, count: int) -> tuple[Exact, Exact]:
        """Return the lowest `count` symbols of it, and the rest."""
        return Exact(self.symbols[:count]), Exact(self.symbols[count:])

    def fits(self, room: int) -> bool:
        """Whether one request of `room` bytes names all of them."""
        return len(self) <= MAX_REQUESTED and request_size(self.symbols) <= room

    def pack(self, room: int) -> tuple[bytes, Exact]:
        """Return a request that names the lowest of them, as many as `room` bytes take."""
        body, count = build_request(self.symbols, room)
        return body, Exact(self.symbols[count:])


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """How many symbols of which blocks: (n,) blocks, ascending and distinct, and (n,) numbers."""

    blocks: Symbols
    numbers: Symbols

    def __bool__(self) -> bool:
        return len(self.blocks) > 0

    def __len__(self) -> int:
        return int(self.numbers.sum())

    @property
    def bounds(self) -> tuple[int, int]:
        """The lowest and the highest block."""
        return int(self.blocks[0]), int(self.blocks[-1])

    def blocks_of(self, geometry: Geometry) -> list[int]:
        """Return the blocks."""
        blocks: list[int] = self.blocks.tolist()
        return blocks

    def less(self, other: Count) -> Count:
        """Return of each block how many symbols more it takes than `other`."""
        numbers = self.numbers - other.of(self.blocks)
        return Count(self.blocks[numbers > 0], numbers[numbers > 0])

    def joined(self, other: Count) -> Count:
        """Return of each block the larger number: any symbols serve both."""
        blocks = np.union1d(self.blocks, other.blocks)
        return Count(blocks, np.maximum(self.of(blocks), other.of(blocks)))

    @classmethod
    def union(cls, needs: Sequence[Count]) -> Count:
        """Return of each block the sum of what `needs` take."""
        if len(needs) == 1:
            return needs[0]
        blocks = np.concatenate([NO_SYMBOLS, *(need.blocks for need in needs)])
        blocks, places = np.unique(blocks, return_inverse=True)
        numbers = np.zeros(len(blocks), np.int64)
        np.add.at(numbers, places, np.concatenate([NO_SYMBOLS, *(one.numbers for one in needs)]))
        return Count(blocks, numbers)

    def cut(self, count: int) -> tuple[Count, Count]:
        """Return `count` symbols of it, or all, and the rest.

        They are spread over the blocks, so that a burst of losses is.
        """
        if count >= len(self):
            return self, Count(NO_SYMBOLS, NO_SYMBOLS)
        level = count // max(1, len(self.blocks))
        first = np.minimum(self.numbers, level)
        more = self.numbers - first
        first += np.clip(count - int(first.sum()) - (np.cumsum(more) - more), 0, more)
        rest = self.numbers - first
        return (
            Count(self.blocks[first > 0], first[first > 0]),
            Count(self.blocks[rest > 0], rest[rest > 0]),
        )

    def fits(self, room: int) -> bool:
        """Whether one request of `room` bytes says all of it."""
        return len(self) <= MAX_REQUESTED and counts_size(len(self.blocks)) <= room

    def pack(self, room: int) -> tuple[bytes, Count]:
        """Return a request that says the lowest blocks, as many as `room` bytes take."""
        counts = Counts(self.blocks, np.zeros(len(self.blocks), np.int64), self.numbers)
        body, named = build_counts(counts, room)
        return body, Count(self.blocks[named:], self.numbers[named:])

    def of(self, blocks: Symbols) -> Symbols:
        """Return how many symbols it takes of each of `blocks`, ascending."""
        if not self:
            return np.zeros(len(blocks), np.int64)
        places = np.minimum(np.searchsorted(self.blocks, blocks), len(self.blocks) - 1)
        numbers: Symbols = np.where(self.blocks[places] == blocks, self.numbers[places], 0)
        return numbers


def is_in(symbols: Symbols, others: Symbols) -> Flags:
    """Return whether each of (n,) `symbols` is among `others`; both ascending."""
    if not len(others):
        return np.zeros(len(symbols), np.bool_)
    places = np.minimum(np.searchsorted(others, symbols), len(others) - 1)
    found: Flags = others[places] == symbols
    return found
