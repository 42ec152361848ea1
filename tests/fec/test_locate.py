"""Forged symbols are found by what the others say together."""

import numpy as np
import pytest

from pgmlite.fec.encode import encode
from pgmlite.fec.locate import MARGIN, MOST_SURPLUS, Located, locate

SIZE = 16


def forged(
    k: int, lost: int, surplus: int, repairs: int, sources: int, seed: int = 1
) -> tuple[Located | None, list[int]]:
    """Return what is located of so many forged symbols, and which they are."""
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, (k, SIZE), dtype=np.uint8)
    held = rng.permutation(k)[lost:]
    esis = np.concatenate((held, k + rng.permutation(7 * k + 64)[: lost + surplus]))
    esis = rng.permutation(esis)
    symbols = encode(source, esis)
    at = np.concatenate(
        (np.flatnonzero(esis >= k)[:repairs], np.flatnonzero(esis < k)[:sources])
    ).astype(int)
    symbols[at] ^= rng.integers(1, 256, (len(at), SIZE), dtype=np.uint8)
    return locate(k, esis, symbols), sorted(esis[at].tolist())


@pytest.mark.parametrize(
    ("k", "lost", "surplus", "repairs", "sources"),
    [
        (1_024, 51, 24, 1, 0),
        (1_024, 51, 24, 0, 1),
        (1_024, 51, 27, 3, 3),
        (1_024, 10, 24, 2, 1),
        (1_024, 51, 60, 30, 5),
        (1_024, 0, 22, 0, 1),
        (1_024, 51, 21, 0, 0),
        (300, 300, 30, 2, 0),
        (64, 5, 24, 1, 1),
        (40, 4, 28, 2, 2),
        (2, 0, 30, 0, 1),
        (1, 0, 30, 1, 1),
        (1, 1, 30, 1, 0),
    ],
)
def test_forged_symbols_are_located(
    k: int, lost: int, surplus: int, repairs: int, sources: int
) -> None:
    found, expected = forged(k, lost, surplus, repairs, sources)
    assert found is not None
    assert found.esis.tolist() == expected


@pytest.mark.parametrize(
    ("surplus", "repairs", "sources"),
    [
        pytest.param(MARGIN, 0, 0, id="no surplus"),
        pytest.param(30, 11, 0, id="a forged symbol too many"),
        pytest.param(40, 30, 5, id="far too many"),
        pytest.param(MOST_SURPLUS, MOST_SURPLUS - MARGIN + 1, 0, id="a few too many of many"),
    ],
)
def test_what_can_not_be_said_is_not_said(surplus: int, repairs: int, sources: int) -> None:
    found, _ = forged(1_024, 51, surplus, repairs, sources)
    assert found is None


def test_of_a_large_surplus_some_is_looked_at() -> None:
    found, expected = forged(1_024, 51, 1_000, 300, 1)
    assert found is not None
    source, *repairs = found.esis.tolist()
    assert source == expected[0]
    assert repairs == expected[1 : 1 + len(repairs)]
    assert repairs


def test_as_many_as_there_is_surplus_for_are_located() -> None:
    found, expected = forged(1_024, 51, 30, 5, 5)
    assert found is not None
    assert found.esis.tolist() == expected


def test_without_rank_nothing_is_said() -> None:
    assert locate(1_024, np.arange(30, 1_034), np.zeros((1_004, 4), np.uint8)) is None


def test_equal_errors_are_not_taken_for_one() -> None:
    rng = np.random.default_rng(5)
    source = rng.integers(0, 256, (100, SIZE), dtype=np.uint8)
    esis = np.arange(10, 140)
    symbols = encode(source, esis)
    symbols[[3, 100]] ^= np.uint8(1)
    assert locate(100, esis, symbols) is None
