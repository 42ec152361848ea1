"""What of an object is there: symbols, blocks (spec/protocol.md section 4).

Of objects without repair symbols, and of all objects until the manifest says what they have: a
symbol lies in its own place, or it is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pgmlite.core.machine import Lying, Placed, own_at
from pgmlite.core.ranges import runs
from pgmlite.wire.batch import Flags, stretches
from pgmlite.wire.geometry import Geometry, Ids, Sizes
from pgmlite.wire.request import Symbols

Chosen = npt.NDArray[np.intp] | slice

FILL_BYTES = 8 << 10
"""A gap of this many bytes costs less to write over than a second call."""

STRETCH = 1 << 16
"""Symbols that are looked at in one go."""

FILL_SYMBOLS = 8
"""Symbols that are looked at in a gap, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What of a batch of symbols is kept.

    Attributes:
        rows: (n,) rows of the batch that are to be stored, in the order of their places; a slice:
            they stand in it in this order.
        places: (n,) where they belong, ascending and distinct.
        esis: (n,) what they are; None: each is the source symbol whose place it is.
        duplicates: Symbols of the batch that were there already.
        unneeded: Others, of blocks that need none.
        spare: Symbols that are kept in memory: they found no place.
        whole: Blocks that have all source symbols in their places now.
        enough: Blocks that have enough symbols to be decoded now.
    """

    rows: Chosen
    places: Symbols
    esis: Symbols | None = None
    duplicates: int = 0
    unneeded: int = 0
    spare: int = 0
    whole: tuple[int, ...] = ()
    enough: tuple[int, ...] = ()


NO_PLACES: Symbols = np.zeros(0, np.int64)


class HeldBefore(NamedTuple):
    """What a record of an earlier run says of some places, as `Held` has it."""

    first: int
    lying: Lying
    block_symbols: int

    def cut(self, start: int, stop: int) -> HeldBefore:
        """Return the places from `start` to `stop`."""
        lying = self.lying[start : max(start, stop)]
        return HeldBefore(self.first + start, lying, self.block_symbols)

    @property
    def own(self) -> Flags:
        """(n,) whether each place has its own symbol."""
        places = np.arange(self.first, self.first + len(self.lying))
        flags: Flags = self.lying == own_at(places, self.block_symbols)
        return flags


def runs_of(
    sizes: Sizes, places: Symbols, taken: Flags | Lying, *, may_fill: bool
) -> list[list[Placed]]:
    """Return where (n,) rows belong, as `Store` has it.

    Args:
        places: (n,) ascending.
        taken: (symbols,) what is not 0 where a symbol lies.
        may_fill: Gaps may be written over; False: bytes of an earlier run may be in them.
    """
    if not len(places):
        return []
    starts = np.concatenate(([0], np.flatnonzero(places[1:] - places[:-1] != 1) + 1))
    stops = np.append(starts[1:], len(places))
    offsets = sizes.offsets(places[starts]).tolist()
    runs_ = list(zip(offsets, starts.tolist(), stops.tolist(), strict=True))
    if not may_fill:
        return [[run] for run in runs_]
    apart = ~_are_free(sizes, taken, places[stops[:-1] - 1] + 1, places[starts[1:]])
    return [runs_[start:stop] for start, stop in stretches(apart)]


def _are_free(sizes: Sizes, taken: Flags | Lying, starts: Symbols, stops: Symbols) -> Flags:
    """Return of (n,) gaps whether they are short and nothing lies in them."""
    most = min(FILL_BYTES // sizes.symbol_size, FILL_SYMBOLS)
    lengths = stops - starts
    free: Flags = lengths <= most
    short = np.flatnonzero(free)
    if len(short):
        inside = np.arange(most) < lengths[short, None]
        places = np.minimum(starts[short, None] + np.arange(most), sizes.symbols - 1)
        free[short] = ~((taken[places] != 0) & inside).any(axis=1)
    return free


class Blocks:
    """Which symbols of an object are in their places, and which blocks that makes whole.

    Blocks are unknown until the manifest comes: until then only symbols are counted.

    Attributes:
        have: (symbols,) which are in their places.
        lacks: (blocks,) how many are not; only once the blocks are known.
        foreign: What a record says of places that have another symbol than their own: of use,
            perhaps, once the manifest is there.
        touched: Stretches of the object (`STRETCH`) in which something may be stored; only until
            the blocks are known.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.symbols = sizes.symbols
        self._sizes = sizes
        # Pages of zeros cost nothing until a symbol arrives: a forged size costs no memory.
        self.have: Flags = np.zeros(self.symbols, np.bool_)
        self.stored = 0
        self.lacks: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._geometry: Geometry | None = None
        self.foreign: list[HeldBefore] = []
        # Of a size that is made up nothing is walked through but where something came.
        self.touched: set[int] = set()

    def hold(self, before: HeldBefore) -> None:
        """Mark symbols as stored, before the first packet."""
        before = before.cut(0, self.symbols - before.first)
        has_foreign = False
        for start in range(0, len(before.lying), STRETCH):
            part = before.cut(start, min(start + STRETCH, len(before.lying)))
            own = part.own
            span = self.have[part.first : part.first + len(own)]
            fresh = np.flatnonzero(own & ~span) + part.first
            span |= own
            self.stored += len(fresh)
            self._discount(fresh)
            has_foreign |= bool(np.count_nonzero(part.lying) > np.count_nonzero(own))
        if has_foreign:
            self.foreign.append(before)

    def group(self, geometry: Geometry) -> None:
        """Group the symbols in blocks."""
        size = geometry.block_symbols
        starts = np.arange(0, self.symbols, size)
        self.foreign.clear()
        self._geometry = geometry
        self.lacks = np.minimum(size, self.symbols - starts).astype(np.int32)
        for stretch in self.touched:
            first = stretch * STRETCH
            self._discount(np.flatnonzero(self.have[first : first + STRETCH]) + first)
        self.touched.clear()

    def _discount(self, symbols: Symbols) -> None:
        """Note that (n,) symbols, ascending, are there from now on."""
        if not len(symbols):
            return
        if self._geometry is None:
            self.touched.update(np.unique(symbols // STRETCH).tolist())
            return
        blocks = self._geometry.blocks_of(symbols)
        numbers = np.bincount(blocks - blocks[0]).astype(np.int32)
        self.lacks[blocks[0] : blocks[0] + len(numbers)] -= numbers

    def look(self) -> tuple[list[int], list[int]]:
        """Return the blocks that have all their symbols; and that no others have enough."""
        return np.flatnonzero(self.lacks == 0).tolist(), []

    def add(self, symbols: Symbols) -> Kept:
        """Mark source `symbols`, (n,) of any order, as stored."""
        held = self.have[symbols]
        if held.all():
            return Kept(slice(0), NO_PLACES, duplicates=len(symbols))
        if not held.any() and bool((symbols[1:] > symbols[:-1]).all()):
            return Kept(slice(0, len(symbols)), symbols, whole=self._mark(symbols))
        _, rows = np.unique(symbols, return_index=True)
        rows = rows[~held[rows]]
        fresh = symbols[rows]
        duplicates = len(symbols) - len(fresh)
        return Kept(rows, fresh, duplicates=duplicates, whole=self._mark(fresh))

    def forget(self, symbols: Symbols) -> None:
        """Mark (n,) symbols that are stored as missing."""
        self.have[symbols] = False
        self.stored -= len(symbols)
        if self._geometry:
            np.add.at(self.lacks, self._geometry.blocks_of(symbols), 1)

    def _mark(self, fresh: Symbols) -> tuple[int, ...]:
        """Mark `fresh`, (n,) ascending, none of them stored; return the blocks made whole."""
        self.have[fresh] = True
        self.stored += len(fresh)
        geometry = self._geometry
        if geometry is None:
            self._discount(fresh)
            return ()
        blocks = geometry.blocks_of(fresh)
        whole = []
        for start, stop in stretches(np.diff(blocks) != 0):
            block = int(blocks[start])
            self.lacks[block] -= stop - start
            if not self.lacks[block]:
                whole.append(block)
        return tuple(whole)

    def runs(self, places: Symbols, *, may_fill: bool) -> list[list[Placed]]:
        """Return where rows belong, as `Store` has it.

        Args:
            places: (n,) ascending.
            may_fill: Gaps may be written over; False: bytes of an earlier run may be in them.
        """
        return runs_of(self._sizes, places, self.have, may_fill=may_fill)

    def is_whole(self, block: int) -> bool:
        """Whether every symbol of `block` is stored; only once the blocks are known."""
        return not self.lacks[block]

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The (start, stop) byte ranges of the object that are not stored."""
        return gaps_at(self._sizes, np.flatnonzero(~self.have))

    def fill(self, block: int) -> None:
        """Mark every symbol of `block` as stored."""
        self._set(block, True)

    def drop(self, block: int) -> None:
        """Mark every symbol of `block` as missing."""
        self._set(block, False)

    def _set(self, block: int, have: bool) -> None:
        geometry = self._geometry
        span = geometry.span(block, block + 1) if geometry else slice(0)
        flags = self.have[span]
        before = int(np.count_nonzero(flags))
        flags[:] = have
        after = len(flags) if have else 0
        self.stored += after - before
        self.lacks[block] = len(flags) - after

    @property
    def had(self) -> npt.NDArray[np.int32]:
        """(blocks,) symbols of each block that are in their places."""
        geometry, blocks = self._geometry, np.arange(len(self.lacks))
        return geometry.sources(blocks).astype(np.int32) - self.lacks if geometry else self.lacks

    def held(self, block: int) -> Symbols:
        """Return the encoding symbol ids of what is in its place of a block."""
        span = self._geometry.span(block, block + 1) if self._geometry else slice(0)
        return np.flatnonzero(self.have[span])

    def hold_each(self, ids: Ids) -> Flags:
        """Return whether each of (n,) source symbols is in its place."""
        size = self._geometry.block_symbols if self._geometry else 0
        held: Flags = self.have[ids.blocks * size + ids.esis]
        return held

    def holds(self, block: int, esis: Symbols) -> Flags:
        """Return whether each of (n,) symbols of a block is in its place."""
        first = self._geometry.span(block, block + 1).start if self._geometry else 0
        held: Flags = self.have[first + esis]
        return held


def gaps_at(sizes: Sizes, gone: Symbols) -> list[tuple[int, int]]:
    """Return the (start, stop) byte ranges of (n,) source symbols, ascending."""
    stretches_ = runs(gone) if len(gone) else ()
    return [sizes.bytes_of(int(gone[a]), int(gone[b - 1]) + 1) for a, b in stretches_]
