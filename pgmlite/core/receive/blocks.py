"""What of an object is there: source blocks and symbols (spec/protocol.md section 4)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pgmlite.core.machine import Run
from pgmlite.wire.batch import stretches
from pgmlite.wire.request import Symbols

Places = npt.NDArray[np.intp] | slice

FILL_BYTES = 8 << 10
"""A gap of this many bytes costs less to write over than a second call."""

FILL_SYMBOLS = 8
"""Symbols that are looked at in a gap, at most."""


class SymbolMap:
    """Which symbols of an object are stored, and which blocks that makes whole.

    Blocks are unknown until the manifest comes: until then only symbols are counted.
    """

    def __init__(self, size: int, symbol_size: int) -> None:
        """
        Args:
            size: Bytes in the object.
            symbol_size: Bytes in a symbol.
        """
        self.symbols = -(-size // symbol_size)
        self._symbol_size = symbol_size
        # Pages of zeros cost nothing until a symbol arrives: a forged size costs no memory.
        self.have: npt.NDArray[np.bool_] = np.zeros(self.symbols, np.bool_)
        """(symbols,): whether each one is stored; others may read it."""

        self.stored = 0
        self._block_symbols = 0
        self._missing: npt.NDArray[np.int32] = np.zeros(0, np.int32)

    def hold(self, first: int, held: npt.NDArray[np.bool_]) -> None:
        """Mark symbols from `first` on as stored where (n,) `held` says so; before `set_blocks`."""
        span = self.have[first : first + len(held)]
        self.stored += int(np.count_nonzero(held[: len(span)] & ~span))
        span |= held[: len(span)]

    def set_blocks(self, block_symbols: int) -> list[int]:
        """Group the symbols in blocks; return the blocks that are whole already."""
        starts = np.arange(0, self.symbols, block_symbols)
        self._block_symbols = block_symbols
        self._missing = np.minimum(block_symbols, self.symbols - starts).astype(np.int32)
        whole = self.symbols // block_symbols
        matrix = self.have[: whole * block_symbols].reshape(whole, block_symbols)
        self._missing[:whole] -= np.count_nonzero(matrix, axis=1).astype(np.int32)
        if whole < len(starts):
            self._missing[-1] -= np.count_nonzero(self.have[whole * block_symbols :])
        return [int(block) for block in np.flatnonzero(self._missing == 0)]

    def add(self, symbols: Symbols) -> tuple[Places, list[int]]:
        """Mark `symbols`, (n,) of any order, as stored.

        Returns:
            The places in `symbols` that are new, in ascending order of symbols (a slice if that
            is all of them), and the blocks that became whole.
        """
        held = self.have[symbols]
        if held.all():
            return np.zeros(0, np.intp), []
        if not held.any() and bool((symbols[1:] > symbols[:-1]).all()):
            return slice(0, len(symbols)), self._mark(symbols)
        _, places = np.unique(symbols, return_index=True)
        places = places[~held[places]]
        return places, self._mark(symbols[places])

    def _mark(self, fresh: Symbols) -> list[int]:
        """Mark `fresh`, (n,) ascending, none of them stored; return the blocks made whole."""
        self.have[fresh] = True
        self.stored += len(fresh)
        if not self._block_symbols:
            return []
        blocks = fresh // self._block_symbols
        whole = []
        for start, stop in stretches(np.diff(blocks) != 0):
            block = int(blocks[start])
            self._missing[block] -= stop - start
            if not self._missing[block]:
                whole.append(block)
        return whole

    def runs(self, symbols: Symbols, places: Places, *, may_fill: bool) -> list[list[Run]]:
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
        offsets = (fresh[starts] * self._symbol_size).tolist()
        runs = list(zip(offsets, rows.tolist(), (rows + stops - starts).tolist(), strict=True))
        if not may_fill:
            return [[run] for run in runs]
        apart = ~self._are_free(fresh[stops[:-1] - 1] + 1, fresh[starts[1:]])
        return [runs[start:stop] for start, stop in stretches(apart)]

    def _are_free(self, starts: Symbols, stops: Symbols) -> npt.NDArray[np.bool_]:
        """Return of (n,) gaps whether they are short and nothing in them is stored."""
        most = min(FILL_BYTES // self._symbol_size, FILL_SYMBOLS)
        steps = np.arange(most)
        lengths = stops - starts
        inside = steps < lengths[:, None]
        places = np.minimum(starts[:, None] + steps, self.symbols - 1)
        free: npt.NDArray[np.bool_] = ~(self.have[places] & inside).any(axis=1)
        return free & (lengths <= most)

    def is_whole(self, block: int) -> bool:
        """Whether every symbol of `block` is stored; only once the blocks are known."""
        return not self._missing[block]

    def fill(self, block: int) -> None:
        """Mark every symbol of `block` as stored."""
        self._set(block, True)

    def drop(self, block: int) -> None:
        """Mark every symbol of `block` as missing."""
        self._set(block, False)

    def _set(self, block: int, have: bool) -> None:
        start = block * self._block_symbols
        span = self.have[start : start + self._block_symbols]
        before = int(np.count_nonzero(span))
        span[:] = have
        after = len(span) if have else 0
        self.stored += after - before
        self._missing[block] = len(span) - after
