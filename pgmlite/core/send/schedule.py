"""What a lane sends by itself, and what of it comes when."""

from __future__ import annotations

from bisect import bisect_right
from typing import Protocol

import numpy as np

from pgmlite.core.needs import NO_SYMBOLS, Exact
from pgmlite.core.ring import Ring
from pgmlite.core.tiles import tiles_of
from pgmlite.wire.control import SpmPosition
from pgmlite.wire.geometry import Named

LOOK_AHEAD = 512
"""Symbols of a carousel that are worked out at once, at least: bursts may be of one."""


class Coming(Protocol):
    """What will be sent without being asked for, by this session or by another one."""

    def later(self, need: Exact, than: float) -> Exact:
        """Return what of `need` more than `than` other symbols come before."""


class Schedule(Coming, Protocol):
    """What one lane sends, symbol by symbol, source and repair symbols alike."""

    ring: Ring
    """In which order."""

    sent: int
    """Symbols since the start."""

    @property
    def cycles(self) -> float:
        """Object lengths since the start."""

    @property
    def position(self) -> SpmPosition:
        """What an SPM says of it now."""

    @property
    def tile(self) -> tuple[int, int, int]:
        """The tile of the next symbol, the place at which it begins, and symbols left of it."""

    def tiles(self, count: int) -> int:
        """Return how many tiles `count` symbols in a row are of, at most."""

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""

    def next(self, most: int) -> Named:
        """Go on by up to `most` symbols, at least one; return these.

        The object's last source symbol, which may be short, is only the last of them.
        """

    def back(self, count: int) -> None:
        """Take the latest `count` symbols back: they did not leave."""


class Carousel:
    """Sends the symbols of an object in the order of a ring, round and round (spec: SND-6)."""

    def __init__(self, ring: Ring, cycles: int | None) -> None:
        """
        Args:
            cycles: So many object lengths; None: without end.
        """
        self.ring = ring
        self._geometry = ring.geometry
        self._goal = None if cycles is None else cycles * ring.geometry.symbols
        self.sent = 0
        self._ahead = Named(NO_SYMBOLS, NO_SYMBOLS, NO_SYMBOLS, NO_SYMBOLS != 0)
        """What is sent from place `_from` on: worked out for many bursts at once."""

        self._from = 0
        self._ends: list[int] = []
        """Places behind the object's last source symbol, and behind `_ahead`."""

        self._tile = 0, 0, 0
        """A tile, and the places at which it begins and ends."""

    @property
    def cycles(self) -> float:
        """Object lengths since the start."""
        return self.sent / self._geometry.symbols if self._geometry.symbols else 0.0

    @property
    def position(self) -> SpmPosition:
        """What an SPM says of it now."""
        return self.ring.position(self.sent)

    @property
    def tile(self) -> tuple[int, int, int]:
        """The tile of the next symbol, the place at which it begins, and symbols left of it."""
        tile, begin, end = self._tile
        if not begin <= self.sent < end:
            tile, begin, end = self._tile = self.ring.tile_at(self.sent)
        return tile, begin, end - self.sent

    def tiles(self, count: int) -> int:
        """Return how many tiles `count` symbols in a row are of, at most."""
        geometry = self._geometry
        full, last = (int(sizes[sizes > 0].min()) for sizes in tiles_of(geometry).sizes)
        if geometry.groups == 1:
            return min(count, count // last + 2)
        # Before and behind a tile of the last group, which may be short, is one of another; but in
        # the order blocks all source visits of the last group come in a row.
        in_a_row = min(geometry.source_visits, count // last) if self.ring.lead else 0
        return min(count, 2 * (count // full) + 3 + in_a_row)

    @property
    def is_over(self) -> bool:
        """Whether all cycles were sent."""
        return self._goal is not None and self.sent >= self._goal

    def next(self, most: int) -> Named:
        """Go on by up to `most` symbols, at least one; return these."""
        if self._goal is not None:
            most = min(most, self._goal - self.sent)
        if not self._from <= self.sent < self._from + len(self._ahead):
            self._look_ahead(max(most, LOOK_AHEAD))
        start = self.sent
        end = self._ends[bisect_right(self._ends, start)]
        self.sent = min(start + most, end)
        return self._ahead.cut(start - self._from, self.sent - self._from)

    def _look_ahead(self, count: int) -> None:
        geometry = self._geometry
        self._from = self.sent
        self._ahead = geometry.named(self.ring.ids(self.sent, count))
        ends = self._from + 1 + np.flatnonzero(geometry.are_last(self._ahead))
        self._ends = [*ends.tolist(), self._from + count]

    def back(self, count: int) -> None:
        """Take the latest `count` symbols back: they did not leave."""
        self.sent -= count

    def later(self, need: Exact, than: float) -> Exact:
        """Return what of `need` more than `than` other symbols come before."""
        return later_than(self.ring, self.sent, need, than)


def later_than(ring: Ring, place: int, need: Exact, than: float) -> Exact:
    """Return what of `need` more than `than` symbols come before, in a carousel at `place`."""
    ahead = ring.places(ring.geometry.ids(need.symbols), place) - place
    return Exact(need.symbols[ahead > than])
