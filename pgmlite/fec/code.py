"""The code by definition: which source symbols a repair symbol is the XOR of (spec/fec.md).

A precoded random linear code over GF(2), systematic. Everything is a function of K, the source
symbols of the block, and of the encoding symbol id (ESI): below K a source symbol, else a repair
symbol. Which block it is does not matter, nor how many repair symbols it has.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

PARITIES = 48
"""P: dense parities of a block; a block of so many source symbols or fewer has these instead."""

PICKS = 16
"""W: source symbols that go into a repair symbol one by one; picked twice, one cancels."""

MAX_SOURCE = 1024
"""Source symbols in a block at most: larger ones need other constants."""

MAX_ESI = 0xFFFF

COLUMN, MASK, PICK = 1, 2, 3
"""What a word of the generator is drawn for."""

Bits = npt.NDArray[np.uint8]
"""Zeros and ones, or eight to a byte, the lowest bit first."""
Esis = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.intp]


def mix(numbers: Words) -> Words:
    """Return outputs of SplitMix64 with seed 0, by number, counted from 0."""
    z = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _words(purpose: int, k: int, numbers: Words) -> Words:
    """Return what is drawn for something of blocks of `k` source symbols, by its numbers."""
    return mix(np.uint64(purpose << 48 | k << 32) | numbers)


def check(k: int, esis: Esis) -> None:
    """Check that there are such symbols.

    Raises:
        ValueError: K or an ESI is out of range.
    """
    if not 1 <= k <= MAX_SOURCE:
        raise ValueError(f"{k} source symbols in a block: not 1 to {MAX_SOURCE}")
    if len(esis) and not (esis.min() >= 0 and esis.max() <= MAX_ESI):
        raise ValueError(f"ESIs must be 0 to {MAX_ESI}")


@lru_cache(maxsize=8)
def columns(k: int) -> Words:
    """Return of each source symbol which parities it goes into: (k,), bit i is parity i."""
    numbers = np.arange(k, dtype=np.uint64)
    if k <= PARITIES:
        found = np.uint64(1) << numbers
    else:
        found = _words(COLUMN, k, numbers) & np.uint64((1 << PARITIES) - 1)
    found.flags.writeable = False
    return found


def masks(k: int, repairs: Esis) -> Words:
    """Return of each repair symbol which parities go into it: (n,), bit i is parity i."""
    words = _words(MASK, k, repairs.astype(np.uint64))
    if k <= PARITIES:
        return np.uint64(1) + words % np.uint64((1 << k) - 1)
    return words & np.uint64((1 << PARITIES) - 1)


def picks(k: int, repairs: Esis) -> Rows:
    """Return of each repair symbol its source symbols that are picked one by one: (n, W or 0)."""
    if k <= PARITIES:
        return np.empty((len(repairs), 0), np.intp)
    numbers = repairs[:, None] * PICKS + np.arange(PICKS)
    words = _words(PICK, k, numbers.astype(np.uint64))
    return ((words >> np.uint64(32)) * np.uint64(k) >> np.uint64(32)).astype(np.intp)


def repair_coefficients(k: int, repairs: Esis, sources: Rows) -> Bits:
    """Return which of the source symbols `sources`, (d,), go into repair symbols: (n, d) bits."""
    both = masks(k, repairs)[:, None] & columns(k)[sources]
    bits: Bits = np.bitwise_count(both) & np.uint8(1)
    at = np.full(k, -1, np.intp)
    at[sources] = np.arange(len(sources))
    picked = at[picks(k, repairs)]
    rows, ways = np.nonzero(picked >= 0)
    np.bitwise_xor.at(bits, (rows, picked[rows, ways]), np.uint8(1))
    return bits


def coefficients(k: int, esis: Esis) -> Bits:
    """Return which source symbols encoding symbols are the XOR of: (n, k) bits.

    Raises:
        ValueError: K or an ESI is out of range.
    """
    check(k, esis)
    bits = np.zeros((len(esis), k), np.uint8)
    (sources,), (repairs,) = np.nonzero(esis < k), np.nonzero(esis >= k)
    bits[sources, esis[sources]] = 1
    bits[repairs] = repair_coefficients(k, esis[repairs], np.arange(k))
    return bits
