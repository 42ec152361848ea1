"""XOR of many rows of bytes, which ones given by bits: the work of encoding and decoding.

A row is a symbol, long enough that numpy is quick at it. About 256 rows are handled at a time: that
fits a core's cache, and a thread that waits for the interpreter gets it within some 0.1 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pgmlite.fec.code import Bits, Rows, Words

Bytes = npt.NDArray[np.uint8]
"""(rows, T): a symbol, or a sum of symbols, to a row."""

AT_A_TIME = 256
"""Rows in a step."""

BUCKET_BITS = 6
"""Sums that share buckets: 64 for six."""

MANY = 100
"""Sums for which a table of the combinations of eight rows costs less than two of four."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How sums of many rows are made: rows that go into the same ones are added up first.

    Attributes:
        count: Sums.
        order: Where each bucket is; the fullest come first.
        rounds: Of each round the row that is added to the first bucket, the second, and so on.
    """

    count: int
    order: Rows
    rounds: tuple[Rows, ...]


def plans(patterns: Words, count: int) -> tuple[Plan, ...]:
    """Return how to make `count` sums, some of them in each plan.

    Args:
        patterns: (n,) of each row which sums it goes into, bit i is sum i.
    """
    together = BUCKET_BITS * (AT_A_TIME >> BUCKET_BITS)
    return tuple(
        _plan(patterns >> np.uint64(first), min(together, count - first))
        for first in range(0, count, together)
    )


def _plan(patterns: Words, count: int) -> Plan:
    """Return how to make the sums of the lowest bits."""
    size = 1 << BUCKET_BITS
    groups = np.arange(-(-count // BUCKET_BITS))
    wanted = patterns & np.uint64((1 << count) - 1)
    shifts = (groups * BUCKET_BITS).astype(np.uint64)
    kinds = (wanted >> shifts[:, None] & np.uint64(size - 1)).astype(np.intp)
    # Where bits are spare, other buckets hold the same: in fuller ones it would be row after row.
    spare = len(groups) * BUCKET_BITS - count
    others = np.arange(len(patterns)) % (1 << spare) << (BUCKET_BITS - spare)
    kinds[-1] += np.where(kinds[-1] > 0, others, 0)
    of_group, rows = np.nonzero(kinds)
    buckets = kinds[of_group, rows] + of_group * size
    sizes = np.bincount(buckets, minlength=len(groups) * size)
    fullest = np.argsort(-sizes, kind="stable")
    order = np.empty_like(fullest)
    order[fullest] = np.arange(len(fullest))
    places = order[buckets].astype(np.uint16)
    by_place = np.argsort(places, kind="stable")
    sizes = sizes[fullest]
    turns = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    by_turn = np.argsort(turns.astype(np.uint16), kind="stable")
    rows = rows[by_place][by_turn]
    ends = np.cumsum(np.bincount(turns))
    return Plan(count, order, tuple(np.split(rows, ends[:-1])))


def add_up(symbols: Bytes, rows: Rows, how: tuple[Plan, ...]) -> Bytes:
    """Return the sums of plans: (count, T).

    Args:
        rows: Which row of `symbols` is which one of the plans.
    """
    return np.concatenate([_add_up(symbols, rows, plan) for plan in how])


def _add_up(symbols: Bytes, rows: Rows, plan: Plan) -> Bytes:
    width = symbols.shape[1]
    piles = np.zeros((len(plan.order), width), np.uint8)
    taken = np.empty_like(piles)
    for picked in plan.rounds:
        some, pile = taken[: len(picked)], piles[: len(picked)]
        np.take(symbols, rows[picked], axis=0, out=some, mode="clip")
        np.bitwise_xor(pile, some, out=pile)
    np.take(piles, plan.order, axis=0, out=taken, mode="clip")
    buckets = taken.reshape(-1, 1 << BUCKET_BITS, width)
    sums = np.empty((len(buckets), BUCKET_BITS, width), np.uint8)
    for bit in reversed(range(BUCKET_BITS)):
        low, high = buckets[:, : 1 << bit], buckets[:, 1 << bit : 2 << bit]
        np.bitwise_xor.reduce(high, axis=1, out=sums[:, bit])
        np.bitwise_xor(low, high, out=low)
    return sums.reshape(-1, width)[: plan.count]


def add_combined(rows: Bytes, bits: Bits, out: Bytes) -> None:
    """Add sums of `rows` to `out`, by tables of all combinations of a few (four Russians).

    Args:
        rows: (r, T).
        bits: (n, ceil(r / 8)) packed: which rows are added to each of the n.
        out: (n, T).
    """
    n, width = out.shape
    if n < MANY:
        group, groups = 4, AT_A_TIME // 2 >> 4
        kinds = np.stack((bits & 15, bits >> 4), axis=2).reshape(n, -1)
    else:
        group, groups, kinds = 8, 1, bits
    table = np.zeros((groups, 1 << group, width), np.uint8)
    taken = np.empty((groups, n, width), np.uint8)
    for first in range(0, len(rows), group * groups):
        some = _grouped(rows[first : first + group * groups], group)
        m = len(some)
        for bit in range(group):
            low, high = table[:m, : 1 << bit], table[:m, 1 << bit : 2 << bit]
            np.bitwise_xor(low, some[:, bit : bit + 1], out=high)
        which = kinds[:, first // group : first // group + m].astype(np.intp)
        at = (which + (np.arange(m) << group)).T.ravel()
        np.take(table.reshape(-1, width), at, axis=0, out=taken[:m].reshape(-1, width), mode="clip")
        for part in taken[:m]:
            np.bitwise_xor(out, part, out=out)


def _grouped(rows: Bytes, group: int) -> Bytes:
    """Return rows in groups, (m, group, T), the last filled up with zeros."""
    if len(rows) % group:
        rows = np.concatenate((rows, np.zeros((-len(rows) % group, rows.shape[1]), np.uint8)))
    return rows.reshape(-1, group, rows.shape[1])


def add_picked(symbols: Bytes, picked: Rows, out: Bytes) -> None:
    """Add to each row of `out`, (n, T), the rows of `symbols` that `picked`, (n, W), names."""
    n, width = out.shape
    ways = picked.shape[1]
    step = AT_A_TIME // ways if ways else n
    taken = np.empty((ways * min(step, n), width), np.uint8)
    for first in range(0, n if ways else 0, step):
        sums = out[first : first + step]
        some = taken[: ways * len(sums)]
        np.take(symbols, picked[first : first + step].T.ravel(), axis=0, out=some, mode="clip")
        np.bitwise_xor(sums, np.bitwise_xor.reduce(some.reshape(ways, -1, width)), out=sums)
