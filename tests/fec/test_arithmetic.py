"""Sums of rows and elimination, against the plainest way to do them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.fec.elimination import eliminate
from pgmlite.fec.sums import add_combined, add_picked, add_up, plans
from tests.support import fec_by_the_page as page

SEEDS = st.integers(0, 2**32 - 1)


def product(bits: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return sums of rows, (n, T), that (n, r) bits name."""
    sums = np.zeros((len(bits), rows.shape[1]), np.uint8)
    for at, row in zip(bits.T, rows, strict=True):
        sums ^= at[:, None] * row
    return sums


def packed(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits, axis=1, bitorder="little")


def unpacked(bits: np.ndarray, count: int) -> np.ndarray:
    return np.unpackbits(bits, axis=1, count=count, bitorder="little")


def ranks(bits: np.ndarray) -> int:
    return page.rank([int.from_bytes(row.tobytes()) for row in np.packbits(bits, axis=1)])


@given(SEEDS, st.integers(1, 300), st.integers(1, 64), st.integers(1, 9))
def test_sums_by_buckets(seed: int, rows: int, count: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, 256, (rows + 3, width), dtype=np.uint8)
    where = rng.permutation(rows + 3)[:rows]
    bits = rng.integers(0, 2, (rows, count), dtype=np.uint8)
    powers = np.uint64(1) << np.arange(count, dtype=np.uint64)
    patterns = np.bitwise_or.reduce(bits * powers, axis=1)
    found = add_up(symbols, where, plans(patterns, count))
    assert (found == product(bits.T, symbols[where])).all()


def test_sums_of_nothing_are_zero() -> None:
    symbols = np.ones((5, 4), np.uint8)
    assert not add_up(symbols, np.arange(5), plans(np.zeros(5, np.uint64), 7)).any()


@given(SEEDS, st.integers(1, 90), st.sampled_from([1, 2, 17, 99, 100, 101, 300]))
def test_sums_by_tables(seed: int, rows: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, 256, (rows, 5), dtype=np.uint8)
    bits = rng.integers(0, 2, (count, rows), dtype=np.uint8)
    before = rng.integers(0, 256, (count, 5), dtype=np.uint8)
    out = before.copy()
    add_combined(symbols, packed(bits), out)
    assert (out == before ^ product(bits, symbols)).all()


@given(SEEDS, st.integers(1, 40), st.integers(0, 16))
def test_sums_of_picks(seed: int, count: int, ways: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = rng.integers(0, 256, (50, 5), dtype=np.uint8)
    picked = rng.integers(0, 50, (count, ways))
    out = np.zeros((count, 5), np.uint8)
    add_picked(symbols, picked, out)
    expected = np.zeros((count, 5), np.uint8)
    for way in picked.T:
        expected ^= symbols[way]
    assert (out == expected).all()


@given(SEEDS, st.integers(0, 90), st.integers(0, 9), st.integers(0, 4))
def test_elimination(seed: int, columns: int, more: int, dull: int) -> None:
    """With rows in which the first `dull` columns, and every eighth of the others, say nothing."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (columns + more, columns), dtype=np.uint8)
    if dull:
        bits[:, :dull] = 0
        bits[: columns // 2] = 0
    found = eliminate(bits)
    assert found.rank == ranks(bits)
    if found.rank < columns:
        assert not len(found.inverse)
        return
    n = len(bits)
    inverse, checks = unpacked(found.inverse, n), unpacked(found.checks, n)
    assert (product(inverse, bits) == np.eye(columns)).all()
    assert not product(checks, bits).any()
    assert (len(checks), ranks(np.concatenate((inverse, checks)))) == (more, n)


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 3), (2, 70)])
def test_elimination_of_too_little(shape: tuple[int, int]) -> None:
    found = eliminate(np.ones(shape, np.uint8))
    assert found.rank == (1 if min(shape) else 0)


def test_pivots_that_come_late_are_found() -> None:
    bits = np.zeros((700, 20), np.uint8)
    bits[-20:] = np.eye(20)[::-1]
    found = eliminate(bits)
    assert found.rank == 20
    assert (product(unpacked(found.inverse, 700), bits) == np.eye(20)).all()
