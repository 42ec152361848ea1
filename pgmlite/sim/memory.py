"""What a simulated receiver has in place of a disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pgmlite.core.decode import Decoded, decode
from pgmlite.core.machine import LYING, Action, Decode, Held, Lying, Prepare, Store, Verify, own_at
from pgmlite.core.receive.receiver import Receiver
from pgmlite.wire.digests import block_digest
from pgmlite.wire.geometry import Geometry, Sizes
from pgmlite.wire.layout import MAX_BLOCK_SYMBOLS

OWN = np.iinfo(LYING).max
"""A place has its own symbol, before it is known how many symbols blocks have."""


class MemoryStore:
    """What a simulated receiver has on its disk, and its record of what lies in which place."""

    def __init__(self, data: bytes = b"") -> None:
        """
        Args:
            data: What an earlier run left.
        """
        self.data = bytearray(data)
        self._object: Prepare | None = None
        self._sizes = Sizes(0, 1)
        self._lying: Lying = np.zeros(0, LYING)
        self._block_symbols = MAX_BLOCK_SYMBOLS

    def prepare(self, wanted: Prepare) -> Held:
        """Grow to the object's size; return what was there."""
        if wanted == self._object:
            own = own_at(np.arange(len(self._lying)), self._block_symbols)
            lying = np.where(self._lying == OWN, own, self._lying)
            return Held([(0, lying)], self._block_symbols)
        self._object = wanted
        self._sizes = Sizes(wanted.size, wanted.symbol_size)
        self._lying = np.zeros(self._sizes.symbols, LYING)
        held = len(self.data)
        # Whole symbols: any of a block may lie in the last place.
        whole = self._sizes.symbols * wanted.symbol_size
        self.data.extend(bytes(max(0, whole - held)))
        extent = (0, min(held, wanted.size))
        return Held(extents=[extent] if extent[1] else [])

    def begin(self, geometry: Geometry) -> None:
        """Learn how many places a block has."""
        self._block_symbols = geometry.block_symbols

    def store(self, action: Store) -> None:
        """Write symbols, and note what they are."""
        for runs in action.pieces():
            self.write(runs)
        for offset, start, stop in (run for together in action.runs for run in together):
            values = OWN if action.esis is None else action.esis[start:stop] + 1
            self._note(self._sizes.number(offset), stop - start, values)

    def _note(self, first: int, count: int, values: int | npt.NDArray[np.int64]) -> None:
        self._lying[first : first + count] = values

    def write(self, runs: Sequence[tuple[int, memoryview]]) -> None:
        """Write the bytes of (offset, bytes) `runs`."""
        for offset, run in runs:
            self.data[offset : offset + len(run)] = run

    def read(self, offset: int, length: int) -> bytes:
        """Return what lies somewhere."""
        return bytes(memoryview(self.data)[offset : offset + length])

    def matches(self, offset: int, length: int, expected: bytes) -> bool:
        """Whether the stored bytes have the digest `expected`."""
        size = self._object.symbol_size if self._object else 1
        return block_digest(self.read(offset, length), size) == expected

    def decode(self, action: Decode) -> Decoded:
        """Decode a block and put it in its place."""

        def fill(piece: memoryview, offset: int) -> None:
            found = self.read(offset, len(piece))
            piece[: len(found)] = found

        decoded = decode(fill, action)
        if decoded.ok:
            first = action.block * action.geometry.block_symbols
            for place, symbol in zip(decoded.places.tolist(), decoded.symbols, strict=True):
                self.write([(self._offset(first + place), symbol.data)])
                self._note(first + place, 1, OWN)
        return decoded

    def _offset(self, place: int) -> int:
        return place * self._sizes.symbol_size


def answer(
    machine: Receiver, store: MemoryStore, action: Prepare | Verify | Decode
) -> list[Action]:
    """Do what a receiver asks of its disk and give it the answer; return what it says to that."""
    match action:
        case Prepare():
            return machine.resume(action.oid, store.prepare(action))
        case Verify():
            ok = store.matches(action.offset, action.length, action.digest)
            return machine.verified(action.oid, action.block, ok=ok)
        case Decode():
            done = store.decode(action)
            return machine.decoded(
                action.oid, action.block, lacks=done.lacks, forged=done.forged, ok=done.ok
            )
