"""Needs that come and go, many at a time."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pgmlite.core.needs import Count, Exact, Need

N = TypeVar("N", bound=Need)


class Pool(Protocol[N]):
    """The needs that are there for one reason: asked and changed at the cost of one of them."""

    size: int
    """Symbols in it."""

    def add(self, need: N) -> None:
        """Put `need` in it."""

    def remove(self, need: N) -> None:
        """Take `need` out once."""

    def lacks(self, need: N) -> N:
        """Return what of `need` is not in it."""


class ExactPool:
    """Symbols by name."""

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
    """Numbers of symbols of blocks."""

    def __init__(self, blocks: int) -> None:
        """
        Args:
            blocks: Blocks in the object.
        """
        self._numbers: npt.NDArray[np.int64] = np.zeros(blocks, np.int64)
        self.size = 0

    def of(self, blocks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how many symbols of each of (n,) blocks are in it."""
        numbers: npt.NDArray[np.int64] = self._numbers[blocks]
        return numbers

    def add(self, need: Count) -> None:
        """Put `need` in it."""
        self._numbers[need.blocks] += need.numbers
        self.size += len(need)

    def remove(self, need: Count) -> None:
        """Take `need` out, as far as it is in it."""
        gone = np.minimum(self._numbers[need.blocks], need.numbers)
        self._numbers[need.blocks] -= gone
        self.size -= int(gone.sum())

    def lacks(self, need: Count) -> Count:
        """Return of each block how many symbols more `need` takes than are in it."""
        return need.less(Count(need.blocks, self._numbers[need.blocks]))
