"""The bytes of encoding symbols that are sent, whatever their order.

Carousels send blocks in turn, symbol by symbol; files like to be read in stretches. So symbols are
read by strips, of which the latest are kept, and put in their order in memory.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from pgmlite.storage.encoded import EncodedSymbols
from pgmlite.storage.source import SourceFile
from pgmlite.wire.batch import Octets
from pgmlite.wire.geometry import Geometry, Named, pieces
from pgmlite.wire.layout import STRIP_SYMBOLS
from pgmlite.wire.request import Symbols

STRIPS = 64
"""Strips that are kept, at most: four tiles of eight blocks, and what repairs take beside."""

LEAST_STRIPS = 8

KEPT_BYTES = 4 << 20
"""Bytes that they take, as far as that is enough for the least of them."""

FEW = 8
"""Symbols up to which it is faster to look at each than to look for those of one strip."""

LONG_RUN = 8
"""Symbols in a row, in the mean, from which on they are read where they belong at once."""


Number = TypeVar("Number", int, Symbols)


class SymbolFile:
    """What a sender sends of one object, source and repair symbols."""

    def __init__(
        self, source: SourceFile, geometry: Geometry, encoded: EncodedSymbols | None = None
    ) -> None:
        """
        Args:
            encoded: Its repair symbols; None: it has none.
        """
        self._source = source
        self._geometry = geometry
        self._encoded = encoded
        size = STRIP_SYMBOLS * geometry.symbol_size
        self._most = min(STRIPS, max(LEAST_STRIPS, KEPT_BYTES // size))
        self._rows: Octets = np.zeros((self._most * STRIP_SYMBOLS, geometry.symbol_size), np.uint8)
        self._bytes = self._rows.reshape(-1).data
        self._slots: dict[int, int] = {}
        """Which strip is where, the one used last at the end."""

        # Source strips of a block come before its repair strips, whatever its K.
        self._source_strips = pieces(geometry.block_symbols, STRIP_SYMBOLS)
        self._block_strips = self._source_strips + pieces(geometry.repair_symbols, STRIP_SYMBOLS)

    @property
    def encoding(self) -> tuple[int, int] | None:
        """Repair symbols that are computed and how many will be, while they are; else None."""
        encoded = self._encoded
        return (encoded.made, encoded.total) if encoded and encoded.is_at_work else None

    @property
    def occupied(self) -> int:
        """Bytes of the disk that repair symbols take."""
        return self._encoded.occupied if self._encoded else 0

    def check(self) -> None:
        """Make sure the source is still what was hashed (spec: SND-7).

        Raises:
            DiskError: It changed.
        """
        self._source.check()

    def take_warnings(self) -> list[str]:
        """Return what the user should know, once."""
        if not self._encoded or not self._encoded.warnings:
            return []
        warnings, self._encoded.warnings = self._encoded.warnings, []
        return warnings

    def fill(self, buffer: memoryview, ids: Named) -> None:
        """Fill `buffer` with (n,) symbols in their order; a short last one is followed by zeros.

        Args:
            buffer: It has room for n whole symbols.

        Raises:
            DiskError: The source can't be read, or changed.
        """
        if self._encoded:
            self._encoded.passing(len(ids))
        if len(ids) == 1:
            self._fill_one(buffer, ids)
            return
        if self._are_in_order(ids):
            self._source.gather(buffer, self._geometry.extents(ids))
            return
        size = self._geometry.symbol_size
        rows = np.frombuffer(buffer, np.uint8, len(ids) * size).reshape(-1, size)
        for start in range(0, len(ids), self._most):
            some = ids.cut(start, start + self._most)
            np.take(self._rows, self._find(some), axis=0, out=rows[start : start + len(some)])

    def _fill_one(self, buffer: memoryview, ids: Named) -> None:
        """Fill `buffer` with one symbol: what slow channels send in one go, so without arrays."""
        block, place = int(ids.blocks[0]), int(ids.esis[0])
        is_repair = bool(ids.are_repairs[0])
        if is_repair:
            place -= self._geometry.source(block)
        strip, inside = divmod(place, STRIP_SYMBOLS)
        (slot,) = self._slots_of([self._key(block, strip, is_repair * self._source_strips)])
        size = self._geometry.symbol_size
        start = (slot * STRIP_SYMBOLS + inside) * size
        buffer[:size] = self._bytes[start : start + size]

    def _are_in_order(self, ids: Named) -> bool:
        """Whether they are source symbols that stand in long runs in the file."""
        if ids.are_repairs.any():
            return False
        step = self._geometry.symbol_size
        breaks = int(np.count_nonzero(ids.offsets[1:] - ids.offsets[:-1] != step))
        return (breaks + 1) * LONG_RUN <= len(ids)

    def _find(self, ids: Named) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return in which row each of (n,) symbols is; at most as many as strips are kept."""
        places, are_repairs = ids.esis, ids.are_repairs
        if are_repairs.any():
            places = places - np.where(are_repairs, self._geometry.sources(ids.blocks), 0)
        strips, inside = np.divmod(places, STRIP_SYMBOLS)
        keys = self._key(ids.blocks, strips, are_repairs * self._source_strips)
        if len(keys) <= FEW:
            return np.array(self._slots_of(keys.tolist())) * STRIP_SYMBOLS + inside
        wanted, inverse = np.unique(keys, return_inverse=True)
        return np.array(self._slots_of(wanted.tolist()))[inverse] * STRIP_SYMBOLS + inside

    def _key(self, blocks: Number, strips: Number, before: Number) -> Number:
        """Return the numbers of strips in the object.

        Args:
            before: Source strips of the block, if these are repair strips; else 0.
        """
        return blocks * self._block_strips + strips + before

    def _slots_of(self, keys: list[int]) -> list[int]:
        """Return where strips are, which are read if they are not there."""
        slots = self._slots
        missing = [key for key in keys if key not in slots]
        for key in keys if missing else ():
            if key in slots:
                slots[key] = slots.pop(key)  # these must not make room
        for key in missing:
            if key not in slots:
                slot = len(slots) if len(slots) < self._most else slots.pop(next(iter(slots)))
                self._read(key, slot)
                slots[key] = slot
        return [slots[key] for key in keys]

    def _read(self, key: int, slot: int) -> None:
        geometry = self._geometry
        block, strip = divmod(key, self._block_strips)
        rows = self._rows[slot * STRIP_SYMBOLS : (slot + 1) * STRIP_SYMBOLS]
        if strip >= self._source_strips and self._encoded:
            first = (strip - self._source_strips) * STRIP_SYMBOLS
            count = min(STRIP_SYMBOLS, geometry.repairs(block) - first)
            rows[:count] = self._encoded.read(block, first, count)
            return
        span = geometry.span(block, block + 1)
        first = span.start + strip * STRIP_SYMBOLS
        offset, end = geometry.bytes_of(first, min(first + STRIP_SYMBOLS, span.stop))
        octets = rows.reshape(-1)
        octets[end - offset :] = 0
        self._source.read_into(octets[: end - offset].data, offset)
