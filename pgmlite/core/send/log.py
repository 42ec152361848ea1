"""What the latest packets carried (spec: REP-4)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pgmlite.core import serial
from pgmlite.core.needs import Exact
from pgmlite.wire.geometry import Geometry, Ids


class SentLog:
    """Which packet of a lane carried each symbol last."""

    def __init__(self, geometry: Geometry, *, longest: int) -> None:
        """
        Args:
            longest: Packets that can be on their way.
        """
        self._geometry = geometry
        self._longest = longest
        self._packets = 0
        # Modulo 2**32, like sqns: what it can't tell apart is four thousand million packets ago.
        self._carried_by: npt.NDArray[np.uint32] = np.zeros(geometry.symbols, np.uint32)

    def count(self, packets: int) -> None:
        """Note that so many packets left."""
        self._packets += packets

    def carried(self, ids: Ids) -> None:
        """Note that the latest packets carried `ids`, (n,) in their order."""
        first = self._packets - len(ids) + 1
        numbers = np.arange(first, self._packets + 1).astype(np.uint32)
        if self._geometry.repair_symbols:
            is_source = ~self._geometry.are_repairs(ids)
            ids, numbers = Ids(ids.blocks[is_source], ids.esis[is_source]), numbers[is_source]
        self._carried_by[self._geometry.symbols_of(ids)] = numbers

    def not_in_flight(self, need: Exact, heard: int, last: int) -> Exact:
        """Return what of `need` was not sent after sqn `heard`; `last` is the latest."""
        ago = serial.distance(heard, last)
        if not 0 < ago <= self._longest:
            return need
        since = np.uint32(self._packets % serial.MODULUS) - self._carried_by[need.symbols]
        return Exact(need.symbols[since >= min(ago, self._packets)])
