"""Repair symbols of a block."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pgmlite.fec.code import (
    PARITIES,
    Bits,
    Esis,
    Rows,
    check,
    columns,
    masks,
    picks,
)
from pgmlite.fec.sums import Bytes, Plan, add_combined, add_picked, add_up, plans


@lru_cache(maxsize=8)
def _parity_plans(k: int) -> tuple[Plan, ...]:
    return plans(columns(k), PARITIES)


def parities(source: Bytes) -> Bytes:
    """Return the dense parities of a block, to be kept: (min(K, 48), T).

    Args:
        source: (K, T).

    Raises:
        ValueError: K is out of range.
    """
    check(len(source), np.zeros(0, np.int64))
    return parities_of(source, np.arange(len(source)))


def parities_of(symbols: Bytes, rows: Rows) -> Bytes:
    """Return the dense parities of a block whose source symbols are in any order.

    Args:
        rows: (K,) which row of `symbols` is which source symbol.
    """
    k = len(rows)
    return symbols[rows] if k <= PARITIES else add_up(symbols, rows, _parity_plans(k))


def add_repairs(symbols: Bytes, rows: Rows, dense: Bytes, repairs: Esis, out: Bytes) -> None:
    """Add repair symbols to the rows of `out`, (n, T).

    Args:
        rows: (K,) which row of `symbols` is which source symbol.
        dense: The parities.
    """
    k = len(rows)
    add_combined(dense, _packed_masks(k, repairs), out)
    add_picked(symbols, rows[picks(k, repairs)], out)


def _packed_masks(k: int, repairs: Esis) -> Bits:
    packed: Bits = masks(k, repairs).astype("<u8").view(np.uint8).reshape(-1, 8)
    return packed[:, : -(-min(k, PARITIES) // 8)]


def encode(source: Bytes, esis: Esis, dense: Bytes | None = None) -> Bytes:
    """Return encoding symbols of a block: (n, T), source symbols as they are.

    Args:
        source: (K, T); a short last symbol is filled up with zeros.
        dense: The block's parities, where they were kept; otherwise they are made anew.

    Raises:
        ValueError: K or an ESI is out of range.
    """
    k = len(source)
    check(k, esis)
    rows = np.arange(k)
    out = np.zeros((len(esis), source.shape[1]), np.uint8)
    is_repair = esis >= k
    out[~is_repair] = source[esis[~is_repair]]
    if is_repair.any():
        dense = parities_of(source, rows) if dense is None else dense
        sums = np.zeros((int(is_repair.sum()), source.shape[1]), np.uint8)
        add_repairs(source, rows, dense, esis[is_repair], sums)
        out[is_repair] = sums
    return out
