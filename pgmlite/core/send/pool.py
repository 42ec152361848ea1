"""Needs that come and go, many at a time: asked and changed at the cost of one of them."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pgmlite.core.needs import Count, Exact
from pgmlite.wire.request import Symbols

N = TypeVar("N", Exact, Count)


class Pool(Protocol[N]):
    """Needs that are there for one reason."""

    size: int
    """Symbols in it."""

    def add(self, need: N) -> None:
        """Put `need` in it."""

    def remove(self, need: N) -> None:
        """Take `need`, which is in it, out once."""

    def lacks(self, need: N) -> N:
        """Return what of `need` is not in it."""


class ExactPool:
    """Symbols that are there for one reason."""

    def __init__(self, symbols: int, *, most: int = 1) -> None:
        """
        Args:
            symbols: Source symbols in the object.
            most: How many times one symbol may be in it.
        """
        self._times: npt.NDArray[np.unsignedinteger] = np.zeros(symbols, np.min_scalar_type(most))
        self.size = 0
        """Symbols in it, each as many times as it is."""

    def add(self, need: Exact) -> None:
        """Put `need` in it."""
        self._times[need.symbols] += 1
        self.size += len(need)

    def remove(self, need: Exact) -> None:
        """Take `need`, which is in it, out once."""
        self._times[need.symbols] -= 1
        self.size -= len(need)

    def lacks(self, need: Exact) -> Exact:
        """Return what of `need` is not in it."""
        return Exact(need.symbols[self._times[need.symbols] == 0])


class CountPool:
    """Numbers of symbols of blocks that are there for one reason."""

    def __init__(self, blocks: int) -> None:
        """
        Args:
            blocks: Blocks in the object.
        """
        self._numbers: Symbols = np.zeros(blocks, np.int64)
        self.size = 0
        """Symbols in it."""

    @property
    def all(self) -> Count:
        """All that is in it."""
        blocks = np.flatnonzero(self._numbers).astype(np.int64)
        return Count(blocks, self._numbers[blocks])

    def of(self, blocks: Symbols) -> Symbols:
        """Return how many symbols of each of (n,) blocks are in it."""
        numbers: Symbols = self._numbers[blocks]
        return numbers

    def add(self, need: Count) -> None:
        """Put `need` in it."""
        self._numbers[need.blocks] += need.numbers
        self.size += len(need)

    def remove(self, need: Count) -> None:
        """Take `need`, which is in it, out."""
        self._numbers[need.blocks] -= need.numbers
        self.size -= len(need)

    def lacks(self, need: Count) -> Count:
        """Return of each block how many symbols more `need` takes than are in it."""
        return need.less(Count(need.blocks, self.of(need.blocks)))
