"""What is missing of a block comes back, or what is lacking is said."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.fec import decode as decoding
from pgmlite.fec.decode import DIRECT, SURPLUS, decode, solve
from pgmlite.fec.encode import encode, parities
from pgmlite.wire.geometry import most_repairs
from tests.support import fec_by_the_page as page

SIZES = st.one_of(st.integers(1, 60), st.sampled_from([64, 100, 300, 700, 1_024]))


def block(rng: np.random.Generator, k: int, size: int) -> np.ndarray:
    return rng.integers(0, 256, (k, size), dtype=np.uint8)


@given(st.integers(0, 2**32 - 1), SIZES, st.sampled_from([1, 4, 12, 64, 1_404]), st.data())
def test_what_was_lost_comes_back(seed: int, k: int, size: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    source = block(rng, k, size)
    lost = data.draw(st.integers(0, min(k, 200)))
    more = data.draw(st.integers(0, 8))
    held = np.delete(np.arange(k), rng.permutation(k)[:lost])
    repairs = k + rng.permutation(most_repairs(k))[: lost + more]
    esis = rng.permutation(np.concatenate((held, repairs)))
    symbols = encode(source, esis)
    before = symbols.copy()
    solution = solve(k, esis)
    keep = sum(1 << int(j) for j in solution.missing)
    rank = page.rank([page.coefficients(k, int(e)) & keep for e in repairs[:40]]) if lost < 8 else 0
    if lost < 8:
        assert solution.lacks == lost - rank
    if not solution.lacks:
        assert (decode(solution, symbols) == source[solution.missing]).all()
    assert sorted({*held.tolist(), *solution.missing.tolist()}) == list(range(k))
    assert (symbols == before).all()


@pytest.mark.parametrize("k", [1, 48, 49, 300, 1_024])
@pytest.mark.parametrize("repairs", [1, DIRECT, DIRECT + 1, 1_100])
def test_every_way_of_decoding(k: int, repairs: int) -> None:
    rng = np.random.default_rng(k)
    source = block(rng, k, 12)
    lost = min(k, max(1, repairs - 12))
    esis = np.concatenate((np.arange(lost, k), k + np.arange(lost + 12)))
    symbols = encode(source, esis)
    solution = solve(k, esis)
    assert solution.lacks == 0
    assert (decode(solution, symbols) == source[:lost]).all()


def test_nothing_is_lacking_of_a_block_that_is_whole() -> None:
    source = block(np.random.default_rng(1), 9, 8)
    esis = np.arange(12)
    solution = solve(9, esis)
    assert (solution.lacks, len(solution.missing)) == (0, 0)
    assert decode(solution, encode(source, esis)).shape == (0, 8)


def test_what_is_lacking_is_said_before_anything_is_decoded() -> None:
    # spec/vectors/fec.json: 16 source symbols, of which 12 are missing: rank 11.
    esis = np.concatenate((np.arange(4), np.arange(70, 82)))
    solution = solve(16, esis)
    assert solution.lacks == 1
    with pytest.raises(ValueError, match="1 symbols are lacking"):
        decode(solution, np.zeros((16, 4), np.uint8))
    assert solve(16, np.arange(3)).lacks == 13


def test_a_symbol_that_is_there_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="twice"):
        solve(9, np.array([1, 2, 10, 2]))


def test_repair_symbols_far_beyond_what_is_missing_count() -> None:
    """Those that are looked at first say nothing of what is missing; one behind them does."""
    k = 64
    silent = [e for e in range(k, 8 * k) if not page.coefficients(k, e) & 1][: 1 + SURPLUS]
    telling = next(e for e in range(8 * k, 9 * k) if page.coefficients(k, e) & 1)
    source = block(np.random.default_rng(2), k, 4)
    esis = np.array([*range(1, k), *silent])
    assert solve(k, esis).lacks == 1
    esis = np.array([*range(1, k), *silent, telling])
    solution = solve(k, esis)
    assert solution.lacks == 0
    assert (decode(solution, encode(source, esis)) == source[:1]).all()


def test_equal_losses_are_solved_once() -> None:
    """A late joiner without losses has the same ones in every block, in whatever order they lie."""
    rng = np.random.default_rng(3)
    esis = np.arange(400, 1_400)
    with patch.object(decoding, "eliminate", wraps=decoding.eliminate) as eliminate:
        for _ in range(3):
            order = rng.permutation(esis)
            source = block(rng, 977, 8)
            solution = solve(977, order)
            assert not solution.lacks
            assert (decode(solution, encode(source, order)) == source[:400]).all()
    assert eliminate.call_count == 1


@pytest.mark.parametrize("k", [7, 48, 49, 1_024])
def test_kept_parities_give_the_same_symbols(k: int) -> None:
    source = block(np.random.default_rng(k), k, 20)
    esis = np.arange(k - 3, k + 40)
    kept = parities(source)
    assert kept.shape == (min(k, 48), 20)
    assert (encode(source, esis, kept) == encode(source, esis)).all()
    assert (encode(source, esis, ~kept) != encode(source, esis)).any()
    assert encode(source, esis[:0], kept).shape == (0, 20)
    with pytest.raises(ValueError, match="1024"):
        parities(np.zeros((1_025, 4), np.uint8))
