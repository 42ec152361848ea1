"""Which symbols of a block are forged, by what surplus repair symbols say.

The method of Metzner and Kapturowski for symbols that are vectors: errors that are independent span
the syndromes, and what no valid equation touches is in error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pgmlite.fec.code import Bits, Esis, repair_coefficients
from pgmlite.fec.decode import Sorted, sort
from pgmlite.fec.elimination import eliminate, pack
from pgmlite.fec.encode import add_repairs, parities_of
from pgmlite.fec.sums import Bytes, add_combined

MARGIN = 20
"""Surplus beyond the forged symbols: an honest one is accused once in 2^20 times."""

MOST_SURPLUS = 128
"""Repair symbols beyond the missing ones that are looked at, the lowest: it bounds the work."""


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """Symbols that are forged.

    Attributes:
        esis: (t,) ascending; none: all that was looked at agrees.
    """

    esis: Esis


def locate(k: int, esis: Esis, symbols: Bytes) -> Located | None:
    """Return which held symbols are forged, source or repair; None: that can't be said.

    It can be said of t symbols with t + 20 more than are needed to decode, unless their errors
    depend on each other. Whoever forges all that is held alike is not found.

    Args:
        esis: (n,) of what is held.
        symbols: (n, T) in the same order.

    Raises:
        ValueError: K or an ESI is out of range, or one is there twice.
    """
    held = sort(k, esis)
    d = len(held.missing)
    repairs = held.repairs[: d + MOST_SURPLUS]
    full = repair_coefficients(k, repairs, np.arange(k))
    checks = eliminate(full[:, held.missing])
    surplus = len(repairs) - d
    if checks.rank < d or surplus <= MARGIN:
        return None
    valid = _valid(_syndromes(symbols, held, repairs, checks.checks))
    errors = surplus - len(valid)
    if errors > surplus - MARGIN:
        return None
    kept = _product(valid, checks.checks)
    touched = _product(kept, np.packbits(full, axis=1, bitorder="little"))
    suspects = _untouched(touched, k)
    is_held = ~np.isin(suspects, held.missing)
    accused = np.concatenate((suspects[is_held], repairs[_untouched(kept, len(repairs))]))
    return Located(accused) if len(accused) == errors else None


def _syndromes(symbols: Bytes, held: Sorted, repairs: Esis, checks: Bits) -> Bytes:
    """Return sums of symbols that would be zero if none were forged: (surplus, T)."""
    dense = parities_of(symbols, held.rows)
    # Whatever is in the row of a missing symbol is taken for known: no check has it.
    unknown = symbols[held.repair_rows[: len(repairs)]]
    add_repairs(symbols, held.rows, dense, repairs, unknown)
    syndromes = np.zeros((len(checks), symbols.shape[1]), np.uint8)
    add_combined(unknown, checks, syndromes)
    return syndromes


def _valid(syndromes: Bytes) -> Bits:
    """Return the sums of syndromes that are zero, as many as are independent: packed bits."""
    count, width = syndromes.shape
    both = np.concatenate((syndromes, pack(np.eye(count, dtype=np.uint8), -(-count // 64))), axis=1)
    is_valid = np.zeros(count, bool)
    for row in range(count):
        at = int((both[row, :width] != 0).argmax())
        value = int(both[row, at])
        if not (width and value):
            is_valid[row] = True
            continue
        below = row + 1 + np.flatnonzero(both[row + 1 :, at] & np.uint8(value & -value))
        both[below] ^= both[row]
    return both[is_valid, width : width - (-count // 8)]


def _product(left: Bits, right: Bits) -> Bits:
    """Return the product of packed bits: sums of the rows of `right` that `left` names."""
    out = np.zeros((len(left), right.shape[1]), np.uint8)
    add_combined(right, left, out)
    return out


def _untouched(packed: Bits, count: int) -> Esis:
    """Return which of `count` columns are zero in every row."""
    either = np.bitwise_or.reduce(packed, axis=0)
    return np.flatnonzero(np.unpackbits(either, count=count, bitorder="little") == 0)
