"""What the witness says of the code: it is written from ``spec/fec.md`` alone, in plain numbers."""

from __future__ import annotations

from functools import reduce
from operator import xor

from tests.witness_fec import coefficients, mix

__all__ = ["coefficients", "encode", "mix", "rank"]


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
