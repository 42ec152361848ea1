"""Needs that come and go, many at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pgmlite.core.needs import Exact


class Pool:
    """The needs that are there for one reason: asked and changed at the cost of one of them."""

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
