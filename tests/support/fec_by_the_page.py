"""The code once more, from ``spec/fec.md`` alone: slow, in plain numbers."""

from __future__ import annotations

from functools import reduce
from operator import xor

ALL = (1 << 64) - 1


def mix(x: int) -> int:
    z = (x + 1) * 0x9E3779B97F4A7C15 & ALL
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & ALL
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & ALL
    return z ^ (z >> 31)


def coefficients(k: int, esi: int) -> int:
    """Return which source symbols are in an encoding symbol, bit j for symbol j."""

    def word(purpose: int, n: int) -> int:
        return mix(purpose * 2**48 + k * 2**32 + n)

    if esi < k:
        return 1 << esi
    if k <= 48:
        return 1 + word(2, esi) % ((1 << k) - 1)
    mask = word(2, esi) % 2**48
    dense = sum(((mask & word(1, j)).bit_count() & 1) << j for j in range(k))
    picked = ((word(3, 16 * esi + t) // 2**32) * k // 2**32 for t in range(16))
    return reduce(xor, (1 << j for j in picked), dense)


def encode(source: list[bytes], esi: int) -> bytes:
    """Return an encoding symbol."""
    bits = coefficients(len(source), esi)
    numbers = (int.from_bytes(one) for j, one in enumerate(source) if bits >> j & 1)
    return reduce(xor, numbers, 0).to_bytes(len(source[0]))


def rank(rows: list[int]) -> int:
    """Return the rank of rows over GF(2), which are bits of numbers."""
    by_bit: dict[int, int] = {}
    for row in rows:
        left = row
        while left and left.bit_length() in by_bit:
            left ^= by_bit[left.bit_length()]
        if left:
            by_bit[left.bit_length()] = left
    return len(by_bit)
