"""What of an object is there and what was lost: symbols, blocks (spec/protocol.md section 4)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pgmlite.core.machine import Lying, Placed
from pgmlite.core.needs import NO_SYMBOLS, Exact
from pgmlite.core.ranges import runs
from pgmlite.core.receive import policy
from pgmlite.wire.batch import Flags, stretches
from pgmlite.wire.geometry import Geometry, Sizes
from pgmlite.wire.request import Symbols

Places = npt.NDArray[np.intp] | slice

FILL_BYTES = 8 << 10
"""A gap of this many bytes costs less to write over than a second call."""

FILL_SYMBOLS = 8
"""Symbols that are looked at in a gap, at most."""


class Inventory:
    """Which source symbols of an object are there, and which were lost.

    It is what the NAK machine knows of symbols: what is lost comes to it as needs.
    """

    nothing = Exact(NO_SYMBOLS)

    def __init__(self, there: Flags) -> None:
        """
        Args:
            there: (symbols,), whether each is stored; whoever made it goes on to mark what comes.
        """
        self._there = there
        # Pages of zeros cost nothing until a symbol is lost.
        self._lost: Flags = np.zeros(len(there), np.bool_)
        self.geometry: Geometry | None = None
        """Before the manifest came there are symbols, and no blocks."""

    def __len__(self) -> int:
        return len(self._there)

    def lose(self, start: int, stop: int) -> None:
        """Note that what is missing of symbols `start` to `stop` was lost."""
        span = slice(start, stop)
        self._lost[span] |= ~self._there[span]

    def forgive(self, span: slice) -> None:
        """Note that of these symbols none counts as lost any more."""
        self._lost[span] = False

    def losing(self, blocks: range) -> list[int]:
        """Return which of consecutive blocks something is lost of."""
        geometry = self.geometry
        if geometry is None or not blocks:
            return []
        span = geometry.span(blocks.start, blocks.stop)
        lost = self._lost[span] & ~self._there[span]
        if not lost.any():
            return []
        flags = np.logical_or.reduceat(lost, np.arange(0, len(lost), geometry.block_symbols))
        losing: list[int] = (np.flatnonzero(flags) + blocks.start).tolist()
        return losing

    def lost(self, geometry: Geometry, block: int) -> Exact:
        """Return what is lost of a block and did not come since."""
        span = geometry.span(block, block + 1)
        lost = np.flatnonzero(self._lost[span] & ~self._there[span])
        return Exact(lost.astype(np.int64) + span.start)

    def lacking(self, need: Exact) -> Exact:
        """Return what of `need`, which was lost, did not come since."""
        symbols = need.symbols
        lacks = self._lost[symbols] & ~self._there[symbols]
        return need if lacks.all() else Exact(symbols[lacks])

    def beyond(self, need: Exact, passed: int, symbol_time: float, limit: float) -> Exact:
        """Return what of `need` a carousel does not bring within `limit` ns (spec: NAK-7).

        Args:
            passed: The last symbol that went by.
            symbol_time: ns from symbol to symbol.
        """
        ahead = (need.symbols - passed - 1) % len(self) + 1
        soon = policy.comes_soon(ahead, symbol_time, limit)
        return Exact(need.symbols[~soon]) if soon.any() else need


class Blocks:
    """Which symbols of an object are stored, and which blocks that makes whole.

    Blocks are unknown until the manifest comes: until then only symbols are counted.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.symbols = sizes.symbols
        self._sizes = sizes
        # Pages of zeros cost nothing until a symbol arrives: a forged size costs no memory.
        self._have: Flags = np.zeros(self.symbols, np.bool_)
        self.inventory = Inventory(self._have)
        self.stored = 0
        self._missing: npt.NDArray[np.int32] = np.zeros(0, np.int32)

    def hold(self, first: int, lying: Lying, block_symbols: int) -> None:
        """Mark symbols as stored, before `group`.

        Args:
            lying: (n,) what lies in the places from `first` on.
            block_symbols: Places of a block, as `lying` has it.
        """
        held: Flags = lying == np.arange(first, first + len(lying)) % block_symbols + 1
        span = self._have[first : first + len(held)]
        self.stored += int(np.count_nonzero(held[: len(span)] & ~span))
        span |= held[: len(span)]

    def group(self, geometry: Geometry) -> list[int]:
        """Group the symbols in blocks; return the blocks that are whole already."""
        size = geometry.block_symbols
        starts = np.arange(0, self.symbols, size)
        self.inventory.geometry = geometry
        self._missing = np.minimum(size, self.symbols - starts).astype(np.int32)
        whole = self.symbols // size
        matrix = self._have[: whole * size].reshape(whole, size)
        self._missing[:whole] -= np.count_nonzero(matrix, axis=1).astype(np.int32)
        if whole < len(starts):
            self._missing[-1] -= np.count_nonzero(self._have[whole * size :])
        return [int(block) for block in np.flatnonzero(self._missing == 0)]

    def add(self, symbols: Symbols) -> tuple[Places, list[int]]:
        """Mark `symbols`, (n,) of any order, as stored.

        Returns:
            The places in `symbols` that are new, in ascending order of symbols (a slice if that
            is all of them), and the blocks that became whole.
        """
        held = self._have[symbols]
        if held.all():
            return np.zeros(0, np.intp), []
        if not held.any() and bool((symbols[1:] > symbols[:-1]).all()):
            return slice(0, len(symbols)), self._mark(symbols)
        _, places = np.unique(symbols, return_index=True)
        places = places[~held[places]]
        return places, self._mark(symbols[places])

    def _mark(self, fresh: Symbols) -> list[int]:
        """Mark `fresh`, (n,) ascending, none of them stored; return the blocks made whole."""
        self._have[fresh] = True
        self.stored += len(fresh)
        geometry = self.inventory.geometry
        if geometry is None:
            return []
        blocks = geometry.blocks_of(fresh)
        whole = []
        for start, stop in stretches(np.diff(blocks) != 0):
            block = int(blocks[start])
            self._missing[block] -= stop - start
            if not self._missing[block]:
                whole.append(block)
        return whole

    def runs(self, symbols: Symbols, places: Places, *, may_fill: bool) -> list[list[Placed]]:
        """Return where those of (n,) `symbols` belong that are at `places`, as `Store` has it.

        Args:
            may_fill: Gaps may be written over; False: bytes of an earlier run may be in them.
        """
        fresh = symbols[places]
        if not len(fresh):
            return []
        breaks = fresh[1:] - fresh[:-1] != 1
        if not isinstance(places, slice):
            breaks |= places[1:] - places[:-1] != 1
        starts = np.concatenate(([0], np.flatnonzero(breaks) + 1))
        stops = np.append(starts[1:], len(fresh))
        rows = starts if isinstance(places, slice) else places[starts]
        offsets = self._sizes.offsets(fresh[starts]).tolist()
        runs = list(zip(offsets, rows.tolist(), (rows + stops - starts).tolist(), strict=True))
        if not may_fill:
            return [[run] for run in runs]
        apart = ~self._are_free(fresh[stops[:-1] - 1] + 1, fresh[starts[1:]])
        return [runs[start:stop] for start, stop in stretches(apart)]

    def _are_free(self, starts: Symbols, stops: Symbols) -> Flags:
        """Return of (n,) gaps whether they are short and nothing in them is stored."""
        most = min(FILL_BYTES // self._sizes.symbol_size, FILL_SYMBOLS)
        steps = np.arange(most)
        lengths = stops - starts
        inside = steps < lengths[:, None]
        places = np.minimum(starts[:, None] + steps, self.symbols - 1)
        free: Flags = ~(self._have[places] & inside).any(axis=1)
        return free & (lengths <= most)

    def is_whole(self, block: int) -> bool:
        """Whether every symbol of `block` is stored; only once the blocks are known."""
        return not self._missing[block]

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The (start, stop) byte ranges of the object that are not stored."""
        gone = np.flatnonzero(~self._have)
        stretches_ = runs(gone) if len(gone) else ()
        return [self._sizes.bytes_of(int(gone[a]), int(gone[b - 1]) + 1) for a, b in stretches_]

    def fill(self, geometry: Geometry, block: int) -> None:
        """Mark every symbol of `block` as stored."""
        self._set(geometry, block, True)

    def drop(self, geometry: Geometry, block: int) -> None:
        """Mark every symbol of `block` as missing, but none as lost (spec: NAK-2)."""
        self.inventory.forgive(self._set(geometry, block, False))

    def _set(self, geometry: Geometry, block: int, have: bool) -> slice:
        """Mark every symbol of `block`; return which those are."""
        span = geometry.span(block, block + 1)
        flags = self._have[span]
        before = int(np.count_nonzero(flags))
        flags[:] = have
        after = len(flags) if have else 0
        self.stored += after - before
        self._missing[block] = len(flags) - after
        return span
