"""What a lane sends by itself, and what of it comes when."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from pgmlite.core.needs import Exact
from pgmlite.errors import UsageError
from pgmlite.wire.geometry import Geometry, Ids


class Coming(Protocol):
    """What will be sent without being asked for, by this session or by another one."""

    def later(self, need: Exact, than: float) -> Exact:
        """Return what of `need` more than `than` other symbols come before."""


class Schedule(Coming, Protocol):
    """What one lane sends, symbol by symbol, source and repair symbols alike."""

    sent: int
    """Symbols since the start."""

    @property
    def cycles(self) -> float:
        """Object lengths since the start."""

    @property
    def head(self) -> tuple[int, int]:
        """Block and encoding symbol id of what comes next."""

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""

    def next(self, most: int) -> Ids:
        """Go on by up to `most` symbols, at least one; return these."""

    def back(self, count: int) -> None:
        """Take the latest `count` symbols back: they did not leave."""


class Carousel:
    """Sends the source symbols one after the other, round and round (spec: SND-6)."""

    def __init__(self, geometry: Geometry, start: int, cycles: int | None) -> None:
        """
        Args:
            start: Byte offset at which the first cycle starts; rounded down to a symbol.
            cycles: So many whole ones; None: without end.

        Raises:
            UsageError: The start lies outside the object.
        """
        if start and start >= geometry.size:
            raise UsageError(f"start at byte {start}: the object has {geometry.size} bytes")
        self._geometry = geometry
        self._head = start // geometry.symbol_size
        self._goal = None if cycles is None else cycles * geometry.symbols
        self.sent = 0

    @property
    def cycles(self) -> float:
        """Object lengths since the start."""
        return self.sent / self._geometry.symbols if self._geometry.symbols else 0.0

    @property
    def head(self) -> tuple[int, int]:
        """Block and encoding symbol id of what comes next."""
        return divmod(self._head, self._geometry.block_symbols)

    @property
    def is_over(self) -> bool:
        """Whether all cycles were sent."""
        return self._goal is not None and self.sent >= self._goal

    def next(self, most: int) -> Ids:
        """Go on by up to `most` symbols, at least one; return these, one run of the object."""
        stop = min(self._head + most, self._geometry.symbols)
        if self._goal is not None:
            stop = min(stop, self._head + self._goal - self.sent)
        symbols = np.arange(self._head, stop, dtype=np.int64)
        self.sent += len(symbols)
        self._head = stop % self._geometry.symbols
        return self._geometry.ids(symbols)

    def back(self, count: int) -> None:
        """Take the latest `count` symbols back: they did not leave."""
        if count:
            self._head = (self._head - count) % self._geometry.symbols
            self.sent -= count

    def later(self, need: Exact, than: float) -> Exact:
        """Return what of `need` more than `than` other symbols come before."""
        return later_than(self._head, need, than, self._geometry)


def later_than(head: int, need: Exact, than: float, geometry: Geometry) -> Exact:
    """Return what of `need` more than `than` symbols come before, in a carousel at `head`."""
    ahead = (need.symbols - head) % geometry.symbols
    return Exact(need.symbols[ahead > than])
