"""How many symbols too many a receiver needs, who hears a ring from anywhere on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from pgmlite.core.ring import Ring
from pgmlite.core.send.rings import has_territories
from pgmlite.fec.code import MAX_SOURCE, coefficients
from pgmlite.wire.geometry import LEAST_REPAIRS, Geometry

MOST_TOO_MANY = 21
"""Of all windows of all rings, as `tests.bench.fec_windows` found them: the code has no dice."""

MOST_IN_TERRITORY = 32
"""Of windows of territories, which are too many to look at them all: 21 of the 284 000 tried."""


def default_repairs(k: int) -> int:
    """Return M that is taken for blocks of `k` source symbols, where nothing else is said."""
    return max(-(-k // 2), LEAST_REPAIRS)


def last_repairs(k: int) -> int:
    """Return M of a last block of `k` source symbols behind one of 1024."""
    full = default_repairs(MAX_SOURCE)
    return Geometry((MAX_SOURCE + k) * 64, 64, MAX_SOURCE, full).repairs(1)


def vectors(k: int, esis: npt.NDArray[np.int64]) -> list[int]:
    """Return coefficients, the bits of a number for each symbol."""
    packed = np.packbits(coefficients(k, esis), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


class Basis:
    """Vectors over GF(2) that were heard one after the other, each replaced by later ones.

    Those that were heard since any time span what all that was heard since then spans.
    """

    def __init__(self) -> None:
        self._by_bit: dict[int, tuple[int, int]] = {}

    def add(self, now: int, vector: int) -> int | None:
        """Hear a vector; return when the one was heard that is superfluous now; None: none is."""
        by_bit = self._by_bit
        while vector:
            bit = vector.bit_length()
            held = by_bit.get(bit)
            if held is None:
                by_bit[bit] = now, vector
                return None
            if held[0] < now:
                by_bit[bit] = now, vector
                now, vector = held[0], held[1] ^ vector
            else:
                vector ^= held[1]
        return now

    @property
    def rank(self) -> int:
        """Of all that was heard."""
        return len(self._by_bit)

    @property
    def oldest(self) -> int:
        """When the oldest vector of the basis was heard."""
        return min(time for time, _ in self._by_bit.values())


def territories(k: int, channels: int) -> Iterator[range]:
    """Yield the ESIs of a full block of `k` source symbols in each channel's territory."""
    geometry = Geometry.laddered(k * 64, 64, MAX_SOURCE, channels)
    if has_territories(geometry, channels):
        for number in range(channels):
            ring = Ring.in_territory(geometry, number, channels)
            yield range(ring.lowest(0), ring.lowest(0) + ring.turn_of.full)


def too_many(k: int, esis: range) -> list[int]:
    """Return how many symbols beyond K the window has that begins at each of some ESIs.

    The window goes round within them, and ends where it can be decoded.
    """
    size = len(esis)
    heard = vectors(k, np.array(esis))
    basis = Basis()
    found: list[int] = []
    oldest = -1
    for now in range(2 * size):
        dropped = basis.add(now, heard[now % size])
        if basis.rank < k:
            continue
        if oldest in {-1, dropped}:
            oldest = basis.oldest
        # Windows that begin at the oldest or before it can be decoded now.
        while len(found) <= min(oldest, size - 1):
            found.append(now + 1 - len(found) - k)
    return found


def needed(k: int, esis: Iterable[int], heard: list[int]) -> int | None:
    """Return how many symbols beyond K are needed in some order; None: all are not enough."""
    basis = Basis()
    for now, esi in enumerate(esis):
        basis.add(-now, heard[esi])
        if basis.rank == k:
            return now + 1 - k
    return None
