"""Which encoding symbols of an object are held, and what lies in which place of its blocks.

Any symbol of a block may lie in any place of it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pgmlite.core.machine import LYING, Lying
from pgmlite.core.receive.blocks import STRETCH, HeldBefore, gaps_at
from pgmlite.core.receive.counts import BlockCounts
from pgmlite.wire.batch import Flags
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.request import Symbols


class Places:
    """The places of all blocks, and the symbols that are held, in places or elsewhere.

    Whoever changes them counts the symbols, but for those of records.

    Attributes:
        stride: Encoding symbols of a block: the key of a symbol is its block times that, plus its
            encoding symbol id.
        lying: (symbols,) what lies in each place.
        held: Whether each encoding symbol is held, by key.
    """

    def __init__(self, geometry: Geometry, counts: BlockCounts) -> None:
        self._geometry = geometry
        self._counts = counts
        self.stride = geometry.rings.full
        # Pages of zeros cost nothing until a symbol arrives: a forged size costs no memory.
        self.lying: Lying = np.zeros(geometry.symbols, LYING)
        self.held: Flags = np.zeros(geometry.blocks * self.stride, np.bool_)
        self._own: Lying = np.arange(1, geometry.block_symbols + 1, dtype=LYING)

    # What earlier runs left.

    def hold(self, before: HeldBefore) -> None:
        """Mark what a record has as held, and count it; where something lies, that stays."""
        stop = min(len(before.lying), self._geometry.symbols - before.first)
        for start in range(0, stop, STRETCH):
            self._hold(before.cut(start, min(start + STRETCH, stop)))

    def _hold(self, before: HeldBefore) -> None:
        geometry, span = self._geometry, slice(before.first, before.first + len(before.lying))
        own = before.own
        is_there = (before.lying != 0) & (self.lying[span] == 0)
        if before.block_symbols != geometry.block_symbols:
            is_there &= own  # other symbols of other blocks
        values = before.lying.astype(np.int64) - 1
        places = np.flatnonzero(is_there) + before.first
        own, values = own[is_there], values[is_there]
        blocks = geometry.blocks_of(places)
        esis = np.where(own, geometry.esis(places), values)
        exists = esis < geometry.rings.of(blocks)
        keys = np.where(exists, blocks * self.stride + esis, 0)
        # Own symbols first: a record that has one twice is wrong about the other.
        order = np.argsort(~own, kind="stable")
        order = order[exists[order]]
        _, firsts = np.unique(keys[order], return_index=True)
        some = order[firsts]
        some = some[~self.held[keys[some]]]
        self.lying[places[some]] = esis[some] + 1
        self.held[keys[some]] = True
        self._count(blocks[some])

    def take(self, have: Flags, stretches: Iterable[int]) -> None:
        """Mark the source symbols of which `have`, (symbols,), says so as held in their places.

        Args:
            stretches: Those of `STRETCH` symbols in which there are some.
        """
        for stretch in stretches:
            start = stretch * STRETCH
            places = np.flatnonzero(have[start : start + STRETCH]) + start
            esis, blocks = self._geometry.esis(places), self._geometry.blocks_of(places)
            self.lying[places] = esis + 1
            self.held[blocks * self.stride + esis] = True
            self._count(blocks)

    def _count(self, blocks: Symbols) -> None:
        """Count symbols that are held from now on by their (n,) blocks, ascending."""
        if len(blocks):
            numbers = np.bincount(blocks - blocks[0])
            self._counts.add(np.arange(len(numbers)) + blocks[0], numbers)

    # What there is.

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The (start, stop) byte ranges of the object's source symbols that are not held."""
        held = self.held.reshape(-1, self.stride)[:, : self._geometry.block_symbols]
        gone = np.flatnonzero(~held)
        return gaps_at(self._geometry, gone[gone < self._geometry.symbols])

    def of(self, block: int) -> Lying:
        """Return what lies in the places of a block: (K of the block,), a view."""
        return self.lying[self._geometry.span(block, block + 1)]

    def are_own(self, block: int) -> bool:
        """Whether every place of a block has its own symbol."""
        lying = self.of(block)
        return bool((lying == self._own[: len(lying)]).all())

    def free(self, block: int, most: int) -> Symbols:
        """Return free places of a block, ascending, the uppermost ones."""
        span = self._geometry.span(block, block + 1)
        free: Symbols = np.flatnonzero(self.lying[span] == 0)[-most:] + span.start
        return free

    def holds(self, block: int, esis: Symbols) -> Flags:
        """Return whether each of (n,) symbols of a block is held."""
        flags: Flags = self.held[block * self.stride + esis]
        return flags

    def missing(self, block: int) -> int:
        """Return how many source symbols of a block are not held."""
        source, start = int(self._counts.sources[block]), block * self.stride
        return source - int(np.count_nonzero(self.held[start : start + source]))

    # What becomes of it.

    def fill(self, block: int) -> None:
        """Mark every source symbol of a block as held in its place."""
        source, start = int(self._counts.sources[block]), block * self.stride
        self.of(block)[:] = self._own[:source]
        self.held[start : start + source] = True

    def clear(self, block: int) -> None:
        """Mark nothing of a block as held."""
        start = block * self.stride
        self.of(block)[:] = 0
        self.held[start : start + self.stride] = False

    def forget(self, block: int, esis: Symbols) -> int:
        """Mark (n,) symbols of a block as not held; return how many were."""
        lying, keys = self.of(block), block * self.stride + esis
        lying[np.isin(lying, esis + 1)] = 0
        gone = int(np.count_nonzero(self.held[keys]))
        self.held[keys] = False
        return gone
