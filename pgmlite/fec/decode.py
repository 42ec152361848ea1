"""The way back: first the rank, before any byte is touched, then the symbols that are missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pgmlite.fec.code import Bits, Esis, Rows, check, repair_coefficients
from pgmlite.fec.elimination import eliminate
from pgmlite.fec.encode import add_repairs, parities_of
from pgmlite.fec.sums import Bytes, Plan, add_combined, add_up, plans

SURPLUS = 32
"""Repair symbols beyond the missing ones that are looked at first: they are enough but once in
2^32 times."""

DIRECT = 30
"""So few repair symbols are freed of what is known one by one, not by way of the parities."""


@dataclass(frozen=True, slots=True, eq=False)
class Inverse:
    """How the missing source symbols follow from repair symbols.

    Attributes:
        rank: Of the repair symbols on the missing source symbols.
        repairs: (n,) the ESIs of these repair symbols.
        sums: (missing, ceil(n / 8)) packed: the missing symbols as sums of them, freed of what is
            known; none without full rank.
        known: What is known, in sums that free them; none: by the parities.
    """

    rank: int
    repairs: Esis
    sums: Bits
    known: tuple[Plan, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """What the symbols of a block that are held are good for.

    Attributes:
        k: Source symbols of the block.
        missing: (d,) ESIs of those that are not held, ascending.
        lacks: Symbols that are needed at least before all of them can be decoded; 0: none.
        rows: (k,) which row of the held symbols is which source symbol; of missing ones any.
        repair_rows: (n,) which rows are the repair symbols that are used, as `inverse` has them.
        inverse: What decoding needs; None: nothing is missing, or there is no data to decode.
    """

    k: int
    missing: Esis
    lacks: int
    rows: Rows
    repair_rows: Rows
    inverse: Inverse | None


@dataclass(frozen=True, slots=True, eq=False)
class Sorted:
    """The symbols that are held of a block, by what they are.

    Attributes:
        rows: (k,) which row of the held symbols is which source symbol; 0 of missing ones.
        missing: (d,) ESIs of source symbols, ascending.
        repairs: (n,) ESIs of repair symbols, ascending.
        repair_rows: (n,) which rows these are.
    """

    rows: Rows
    missing: Esis
    repairs: Esis
    repair_rows: Rows


def sort(k: int, esis: Esis) -> Sorted:
    """Return what is held, and what is missing.

    Raises:
        ValueError: K or an ESI is out of range, or one is there twice.
    """
    check(k, esis)
    order = np.argsort(esis, kind="stable")
    held = esis[order]
    if (held[1:] == held[:-1]).any():
        raise ValueError("an ESI is there twice")
    sources = int(np.searchsorted(held, k))
    rows = np.full(k, -1, np.intp)
    rows[held[:sources]] = order[:sources]
    missing = np.flatnonzero(rows < 0)
    rows[missing] = 0
    return Sorted(rows, missing, held[sources:], order[sources:])


@lru_cache(maxsize=8)
def inverse_of(k: int, missing: bytes, repairs: bytes) -> Inverse:
    """Return the inverse; who joins late and loses nothing asks for the same for every block."""
    lost, esis = np.frombuffer(missing, np.int64), np.frombuffer(repairs, np.int64)
    found = eliminate(repair_coefficients(k, esis, lost))
    known: tuple[Plan, ...] = ()
    if found.rank == len(lost) and len(esis) <= DIRECT:
        bits = repair_coefficients(k, esis, np.arange(k))
        powers = np.uint64(1) << np.arange(len(esis), dtype=np.uint64)
        known = plans(np.bitwise_or.reduce(bits * powers[:, None], axis=0), len(esis))
    return Inverse(found.rank, esis, found.inverse, known)


def solve(k: int, esis: Esis) -> Solution:
    """Return what held symbols are good for, by their (n,) ESIs in any order.

    Raises:
        ValueError: K or an ESI is out of range, or one is there twice.
    """
    held = sort(k, esis)
    d, n = len(held.missing), len(held.repairs)
    if not d:
        return Solution(k, held.missing, 0, held.rows, held.repair_rows[:0], None)
    for count in sorted({min(n, d + SURPLUS), n}):
        found = inverse_of(k, held.missing.tobytes(), held.repairs[:count].tobytes())
        if found.rank == d:
            break
    used = held.repair_rows[: len(found.repairs)]
    return Solution(k, held.missing, d - found.rank, held.rows, used, found)


def check_solved(solution: Solution) -> None:
    """Check that a block can be decoded.

    Raises:
        ValueError: Symbols are lacking.
    """
    if solution.lacks:
        raise ValueError(f"{solution.lacks} symbols are lacking")


def decode(solution: Solution, symbols: Bytes) -> Bytes:
    """Return the missing source symbols, (d, T), in ascending order.

    Args:
        solution: Of `solve`, which lacks nothing.
        symbols: (n, T) the held symbols, in the order of their ESIs.

    Raises:
        ValueError: Symbols are lacking.
    """
    check_solved(solution)
    # Of a missing symbol, whatever is in its row is taken for known: its difference is decoded.
    out = symbols[solution.rows[solution.missing]]
    if solution.inverse is not None:
        unknown = symbols[solution.repair_rows]
        _free(symbols, solution.rows, solution.inverse, unknown)
        add_combined(unknown, solution.inverse.sums, out)
    return out


def _free(symbols: Bytes, rows: Rows, inverse: Inverse, out: Bytes) -> None:
    """Free repair symbols of what is known."""
    if inverse.known:
        np.bitwise_xor(out, add_up(symbols, rows, inverse.known), out=out)
    else:
        add_repairs(symbols, rows, parities_of(symbols, rows), inverse.repairs, out)
