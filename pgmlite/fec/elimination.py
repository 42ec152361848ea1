"""Gauss-Jordan over GF(2) on packed bits: the rank, the inverse, and what is left over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pgmlite.fec.code import Bits, Words

STRIP = 8
"""Columns that are cleared together: a byte of each row."""

UNITS = np.uint8(1) << np.arange(STRIP, dtype=np.uint8)
COUNTED = np.arange(1 << STRIP).astype(np.uint8)

ONES = {1 << n: int.from_bytes(b"\1" * (1 << n), "little") for n in range(STRIP)}
"""By length: times a byte it is that byte as often."""


@dataclass(frozen=True, slots=True, eq=False)
class Elimination:
    """What became of an (n, d) matrix.

    Attributes:
        rank: Its rank.
        inverse: (d, ceil(n / 8)) packed: sums of rows that are unit vectors; not of less rank.
        checks: (n - d, ceil(n / 8)) packed: sums of rows that are zero; not of less rank.
    """

    rank: int
    inverse: Bits
    checks: Bits


def pack(bits: Bits, words: int) -> Bits:
    """Return (n, d) bits packed, the lowest bit first, as (n, 8 * words) bytes."""
    packed = np.zeros((len(bits), 8 * words), np.uint8)
    packed[:, : -(-bits.shape[1] // 8)] = np.packbits(bits, axis=1, bitorder="little")
    return packed


def eliminate(bits: Bits) -> Elimination:
    """Return what elimination finds in (n, d) bits: 8 columns at a time, by a table of sums."""
    n, d = bits.shape
    left = -(-d // 64)
    packed = np.concatenate(
        (pack(bits, left), pack(np.eye(n, dtype=np.uint8), -(-n // 64))), axis=1
    )
    words: Words = packed.view(np.uint64)
    rank = 0
    for strip in range(-(-d // STRIP)):
        width = min(STRIP, d - strip * STRIP)
        pivots, sums = _pivots(packed[rank:, strip], width)
        if pivots:
            _clear(words[:, strip // 8 :], packed[:, strip].copy(), rank, pivots, sums)
        rank += len(pivots)
    traces = packed[: n if rank == d else 0, 8 * left : 8 * left - (-n // 8)]
    return Elimination(rank, traces[:d], traces[d:])


def _pivots(strip: Bits, width: int) -> tuple[list[int], bytes]:
    """Return the first rows of a strip that are independent, and all their sums.

    Sum number c is that of the rows whose bits are set in c.
    """
    rows: list[int] = []
    sums = b"\0"
    for row, value in enumerate(strip.tolist()):
        if value not in sums:
            rows.append(row)
            others = int.from_bytes(sums, "little") ^ value * ONES[len(sums)]
            sums += others.to_bytes(len(sums), "little")
            if len(rows) == width:
                break
    return rows, sums


def _clear(words: Words, strip: Bits, rank: int, pivots: list[int], sums: bytes) -> None:
    """Clear a strip in all rows, and move its pivots below those of the strips before it.

    Args:
        words: From the strip on.
        strip: Its byte of each row.
        pivots: Rows, counted from `rank`.
        sums: All that they add up to, by number.
    """
    count = len(pivots)
    which = np.zeros(1 << STRIP, np.uint8)
    which[np.frombuffer(sums, np.uint8)] = COUNTED[: len(sums)]
    table = np.zeros((1 << count, words.shape[1]), np.uint64)
    for bit, row in enumerate(pivots):
        np.bitwise_xor(table[: 1 << bit], words[rank + row], out=table[1 << bit : 2 << bit])
    words ^= table[which[strip]]
    # The pivots are zero now; rows that are in their way take their places.
    ahead = [rank + row for row in range(count) if row not in pivots]
    if ahead:
        words[[rank + row for row in pivots if row >= count]] = words[ahead]
    words[rank : rank + count] = table[which[UNITS[:count]]]
