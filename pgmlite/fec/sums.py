"""XOR of many rows of bytes, which ones given by bits: the work of encoding and decoding.

The rows of a symbol each are long, so that numpy is quick at it, and every operation is short
enough that a thread beside it hardly waits: 0.3 ms at most, 256 or 512 rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pgmlite.fec.code import Bits, Rows, Words

Bytes = npt.NDArray[np.uint8]
"""(rows, T): a symbol, or a sum of symbols, to a row."""

BUCKET_BITS = 6
"""Sums that `add_up` makes together: 64 buckets for six."""

GATHERED = 256
"""Rows that are copied together before they are added up."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How sums of many rows are made: rows of the same pattern are added up in a bucket first.

    Attributes:
        count: Sums.
        order: Where each bucket is; the fullest come first.
        rounds: Of each round the row that is added to the first bucket, the second, and so on.
    """

    count: int
    order: Rows
    rounds: tuple[Rows, ...]


def plan(patterns: Words, count: int) -> Plan:
    """Return how to make `count` sums.

    Args:
        patterns: (n,) of each row which sums it goes into, bit i is sum i.
    """
    groups = -(-count // BUCKET_BITS)
    size = 1 << BUCKET_BITS
    shifts = np.arange(groups, dtype=np.uint64)[:, None] * np.uint64(BUCKET_BITS)
    kinds = (patterns >> shifts & np.uint64(size - 1)).astype(np.intp)
    buckets = (kinds + np.arange(groups)[:, None] * size).ravel()
    rows = np.tile(np.arange(len(patterns)), groups)[kinds.ravel() > 0]
    buckets = buckets[kinds.ravel() > 0]
    sizes = np.bincount(buckets, minlength=groups * size)
    fullest = np.argsort(-sizes, kind="stable")
    order = np.empty_like(fullest)
    order[fullest] = np.arange(len(fullest))
    by_bucket = np.argsort(buckets, kind="stable")
    starts = np.cumsum(sizes) - sizes
    turns = np.arange(len(rows)) - starts[buckets[by_bucket]]
    by_turn = np.lexsort((order[buckets[by_bucket]], turns))
    ends = np.cumsum(np.bincount(turns)) if len(rows) else np.zeros(0, np.intp)
    return Plan(count, order, tuple(np.split(rows[by_bucket][by_turn], ends[:-1])))


def add_up(symbols: Bytes, rows: Rows, plan: Plan) -> Bytes:
    """Return the sums of a plan: (count, T).

    Args:
        rows: Which row of `symbols` is which one of the plan.
    """
    width = symbols.shape[1]
    piles = np.zeros((len(plan.order), width), np.uint8)
    taken = np.empty_like(piles)
    for picked in plan.rounds:
        some = taken[: len(picked)]
        np.take(symbols, rows[picked], axis=0, out=some, mode="clip")
        pile = piles[: len(picked)]
        np.bitwise_xor(pile, some, out=pile)
    np.take(piles, plan.order, axis=0, out=taken, mode="clip")
    buckets = taken.reshape(-1, 1 << BUCKET_BITS, width)
    sums = np.empty((len(buckets), BUCKET_BITS, width), np.uint8)
    for bit in reversed(range(BUCKET_BITS)):
        low, high = buckets[:, : 1 << bit], buckets[:, 1 << bit : 2 << bit]
        np.bitwise_xor.reduce(high, axis=1, out=sums[:, bit])
        if bit:
            np.bitwise_xor(low, high, out=low)
    return sums.reshape(-1, width)[: plan.count]


def add_combined(rows: Bytes, bits: Bits, out: Bytes) -> None:
    """Add sums of `rows` to `out`, by tables of all combinations of a few (four Russians).

    Args:
        rows: (r, T).
        bits: (n, ceil(r / 8)) packed: which rows are added to each of the n.
        out: (n, T).
    """
    count, width = rows.shape
    (n, _), few = bits.shape, len(out) < 100
    # Together, what each choice costs: a table for 4 rows is small, one for 8 is used more.
    group, groups = (4, 8) if few else (8, 1)
    kinds = np.stack((bits & 15, bits >> 4), axis=2).reshape(n, -1) if few else bits
    tables = np.empty((groups, 1 << group, width), np.uint8)
    tables[:, 0] = 0
    taken = np.empty((groups, n, width), np.uint8)
    at = np.arange(groups) << group
    for first in range(0, count, group * groups):
        some = rows[first : first + group * groups]
        if len(some) < group * groups:
            some = np.concatenate((some, np.zeros((-len(some) % group, width), np.uint8)))
        some = some.reshape(-1, group, width)
        m = len(some)
        for bit in range(group):
            low, high = tables[:m, : 1 << bit], tables[:m, 1 << bit : 2 << bit]
            np.bitwise_xor(low, some[:, bit : bit + 1], out=high)
        which = kinds[:, first // group : first // group + m].T + at[:m, None]
        flat = taken[:m].reshape(m * n, width)
        np.take(tables.reshape(-1, width), which.ravel(), axis=0, out=flat, mode="clip")
        for part in taken[:m]:
            np.bitwise_xor(out, part, out=out)


def add_picked(symbols: Bytes, picked: Rows, out: Bytes) -> None:
    """Add to each row of `out`, (n, T), the rows of `symbols` that `picked`, (n, W), names."""
    n, ways = picked.shape
    if not ways:
        return
    step = GATHERED // ways
    taken = np.empty((ways, min(n, step), out.shape[1]), np.uint8)
    for first in range(0, n, step):
        sums = out[first : first + step]
        some = taken[:, : len(sums)]
        if len(sums) < len(taken[0]):
            some = np.empty((ways, len(sums), out.shape[1]), np.uint8)
        flat = some.reshape(-1, out.shape[1])
        np.take(symbols, picked[first : first + step].T.ravel(), axis=0, out=flat, mode="clip")
        for part in some:
            np.bitwise_xor(sums, part, out=sums)
