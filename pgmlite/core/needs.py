"""What receivers lack, as NAKs and NCFs say it: who asks and who repairs know no more of it.

`Exact` names source symbols. A `Need` is never changed: each operation gives another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from pgmlite.wire.request import MAX_REQUESTED, Symbols, build_request, request_size


class Need(Protocol):
    """What is asked for, confirmed or repaired of one object."""

    def __bool__(self) -> bool:
        """Whether anything is needed."""

    def __len__(self) -> int:
        """Symbols that it takes."""

    def less(self, other: Self) -> Self:
        """Return what is left of it beside `other`."""

    def joined(self, other: Self) -> Self:
        """Return what serves both."""

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

    def less(self, other: Exact) -> Exact:
        """Return the symbols that are not among those of `other`."""
        if not self or not other:
            return self
        return Exact(self.symbols[~is_in(self.symbols, other.symbols)])

    def joined(self, other: Exact) -> Exact:
        """Return the symbols of both."""
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


def is_in(symbols: Symbols, others: Symbols) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return whether each of (n,) `symbols` is among `others`; both ascending."""
    if not len(others):
        return np.zeros(len(symbols), np.bool_)
    places = np.minimum(np.searchsorted(others, symbols), len(others) - 1)
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = others[places] == symbols
    return found
