"""Encoding symbols for which their block has no place left: in memory, and bounded.

A block has a place for each of its source symbols. It takes a few symbols more to decode it, and
some more than that to find the forged ones among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from pgmlite.wire.batch import Flags, Octets
from pgmlite.wire.request import Symbols

CHUNK_BYTES = 256
"""What some symbols of one block cost beside their own bytes, about."""

LOOKED_AT = 8
"""Blocks that are asked in one go whether theirs may be thrown away."""


@dataclass(slots=True, eq=False)
class _Pile:
    """The symbols of one block: (n, symbol_size) and (n,) encoding symbol ids."""

    payload: Octets
    esis: Symbols

    @property
    def cost(self) -> int:
        return self.payload.nbytes + CHUNK_BYTES


class Surplus:
    """Symbols without a place, by block."""

    def __init__(self, symbol_size: int, limit: int) -> None:
        """
        Args:
            limit: Bytes, of all blocks together.
        """
        self._symbol_size = symbol_size
        self._limit = limit
        self._used = 0
        self._piles: dict[int, _Pile] = {}
        self._nothing = _Pile(np.zeros((0, symbol_size), np.uint8), np.zeros(0, np.int64))

    def count(self, block: int) -> int:
        """Return how many symbols of a block are kept."""
        return len(self._piles.get(block, self._nothing).esis)

    def of(self, block: int) -> tuple[Octets, Symbols]:
        """Return the symbols of a block: (n, symbol_size) and (n,) encoding symbol ids."""
        pile = self._piles.get(block, self._nothing)
        return pile.payload, pile.esis

    def room(self, block: int, wanted: int, may_go: Callable[[int], bool]) -> tuple[int, list[int]]:
        """Make room for `wanted` symbols of a block.

        Args:
            may_go: Whether a block can do without its symbols: others are not thrown away.

        Returns:
            How many there is room for, and the blocks whose symbols are to go: `drop` them.
        """
        going: list[int] = []
        used = self._used
        for other in list(islice(self._piles, LOOKED_AT)) if self._fits(used) < wanted else ():
            if self._fits(used) >= wanted:
                break
            pile = self._piles.pop(other)
            self._piles[other] = pile  # so that others are looked at next time
            if other != block and may_go(other):
                going.append(other)
                used -= pile.cost
        return min(wanted, self._fits(used)), going

    def _fits(self, used: int) -> int:
        return max(0, self._limit - used - CHUNK_BYTES) // self._symbol_size

    def add(self, block: int, payload: Octets, esis: Symbols) -> None:
        """Keep a copy of (n, width) symbols, short ones filled up with zeros; there is room."""
        old = self._piles.pop(block, self._nothing)
        short = self._symbol_size - payload.shape[1]
        padded = np.pad(payload, ((0, 0), (0, short))) if short else payload
        pile = _Pile(np.concatenate((old.payload, padded)), np.concatenate((old.esis, esis)))
        self._used += pile.cost - (old.cost if old is not self._nothing else 0)
        self._piles[block] = pile

    def drop(self, block: int) -> Symbols:
        """Throw away what is kept of a block; return which (n,) symbols that was."""
        pile = self._piles.pop(block, None)
        if pile is None:
            return self._nothing.esis
        self._used -= pile.cost
        return pile.esis

    def forget(self, block: int, esis: Symbols) -> None:
        """Throw away some symbols of a block, those of them that are kept."""
        payload, kept = self.of(block)
        stays: Flags = ~np.isin(kept, esis)
        if not stays.all():
            self.drop(block)
            if stays.any():
                self.add(block, payload[stays], kept[stays])
