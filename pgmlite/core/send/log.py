"""What the latest packets carried (spec: REP-4)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pgmlite.core import serial
from pgmlite.core.needs import Count, Exact
from pgmlite.wire.geometry import Geometry, Ids


class SentLog:
    """How many packets of a lane left, and how many of these a receiver has not seen yet."""

    def __init__(self, *, longest: int) -> None:
        """
        Args:
            longest: Packets that can be on their way.
        """
        self._longest = longest
        self._packets = 0

    def count(self, packets: int) -> None:
        """Note that so many packets left."""
        self._packets += packets

    def unseen(self, heard: int, last: int) -> int:
        """Return how many packets were sent after sqn `heard`; `last` is the latest.

        0: none, or more than can be on their way.
        """
        ago = serial.distance(heard, last)
        return min(ago, self._packets) if 0 < ago <= self._longest else 0


class ExactLog(SentLog):
    """Which packet of a lane carried each source symbol last."""

    def __init__(self, geometry: Geometry, *, longest: int) -> None:
        """
        Args:
            longest: Packets that can be on their way.
        """
        super().__init__(longest=longest)
        self._geometry = geometry
        # Modulo 2**32, like sqns: what it can't tell apart is four thousand million packets ago.
        self._carried_by: npt.NDArray[np.uint32] = np.zeros(geometry.symbols, np.uint32)

    def carried(self, ids: Ids) -> None:
        """Note that the latest packets carried `ids`, (n,) in their order."""
        first = self._packets - len(ids) + 1
        numbers = np.arange(first, self._packets + 1).astype(np.uint32)
        self._carried_by[self._geometry.symbols_of(ids)] = numbers

    def not_in_flight(self, need: Exact, heard: int, last: int) -> Exact:
        """Return what of `need` was not sent after sqn `heard`; `last` is the latest."""
        unseen = self.unseen(heard, last)
        if not unseen:
            return need
        since = np.uint32(self._packets % serial.MODULUS) - self._carried_by[need.symbols]
        return Exact(need.symbols[since >= unseen])


class CountLog(SentLog):
    """Of which blocks the latest repairs of a lane were, and which packets carried them."""

    def __init__(self, *, longest: int, kept: int) -> None:
        """
        Args:
            longest: Packets that can be on their way.
            kept: Repairs that are remembered.
        """
        super().__init__(longest=longest)
        self._blocks: npt.NDArray[np.int64] = np.zeros(kept, np.int64)
        self._carried_by: npt.NDArray[np.int64] = np.full(kept, -1, np.int64)
        self._next = 0

    def carried(self, ids: Ids) -> None:
        """Note what the latest packets carried; what carousels send no cursor has sent."""

    def repaired(self, ids: Ids) -> None:
        """Note that the next packets will carry repairs, (n,) in their order."""
        places = (self._next + np.arange(len(ids))) % len(self._blocks)
        self._blocks[places] = ids.blocks
        self._carried_by[places] = self._packets + 1 + np.arange(len(ids))
        self._next = (self._next + len(ids)) % len(self._blocks)

    def not_in_flight(self, need: Count, heard: int, last: int) -> Count:
        """Return of each block how many more symbols `need` takes than cursors sent after sqn
        `heard`; `last` is the latest.
        """
        unseen = self.unseen(heard, last)
        if not unseen:
            return need
        sent = np.sort(self._blocks[self._carried_by > self._packets - unseen])
        firsts, ends = (np.searchsorted(sent, need.blocks, side) for side in ("left", "right"))
        return need.less(Count(need.blocks, (ends - firsts).astype(np.int64)))
