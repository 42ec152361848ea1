"""Loss models lose as much as they say, and together what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.sim.loss import GilbertElliott, Independent, LossModel, OncePerBlock, Tree
from pgmlite.wire.batch import HEADER_DTYPE, PacketBatch
from pgmlite.wire.layout import PacketType
from tests.support.builders import make_object


def batch(count: int, *, first: int = 0) -> PacketBatch:
    rows = np.zeros(count, HEADER_DTYPE)
    offsets = np.arange(first, first + count, dtype=np.int64) * 64
    return PacketBatch(PacketType.ODATA, rows, offsets, np.zeros((count, 0), np.uint8), "S")


def lost(model: LossModel, packets: int, *, at_once: int = 50) -> np.ndarray:
    return np.hstack([model.draw(batch(at_once)) for _ in range(packets // at_once)])


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_each_loses_its_own_share() -> None:
    shares = [0.0, 0.02, 0.3]
    means = lost(Independent(shares, rng()), 40_000).mean(axis=1)
    assert means == pytest.approx(shares, abs=0.01)
    assert not means[0]


def test_one_does_not_lose_what_another_loses() -> None:
    matrix = lost(Independent([0.1] * 2, rng()), 40_000)
    assert abs(np.corrcoef(matrix)[0, 1]) < 0.03


def test_nothing_is_lost_without_loss() -> None:
    assert not lost(Independent([0.0] * 3, rng()), 100).any()


def test_what_the_first_link_loses_is_lost_by_all() -> None:
    matrix = lost(Tree(20, [0.05], rng()), 40_000)
    assert (matrix == matrix[0]).all()
    assert matrix[0].mean() == pytest.approx(0.05, abs=0.01)


def test_neighbours_in_a_tree_share_more() -> None:
    matrix = lost(Tree(64, [0.05, 0.05, 0.05], rng()), 40_000)
    assert matrix.mean() == pytest.approx(1 - 0.95**3, abs=0.01)
    together = np.corrcoef(matrix)
    # The middle level has eight links for 64 receivers: 0 to 7 share one, 8 has another.
    assert together[0, 7] > together[0, 8] + 0.2
    assert together[0, 8] == pytest.approx(together[0, 63], abs=0.05)
    assert together[0, 63] > 0.2


@pytest.mark.parametrize(("mean", "burst"), [(0.05, 20), (0.2, 3), (0.05, 1)])
def test_bursts_are_as_long_as_they_should(mean: float, burst: float) -> None:
    # One draw a packet, in batches of any size.
    matrix = lost(GilbertElliott(40, mean, burst, rng()), 20_000, at_once=25)
    assert matrix.mean() == pytest.approx(mean, rel=0.1)
    begins = np.count_nonzero(matrix[:, 1:] & ~matrix[:, :-1])
    assert matrix.sum() / begins == pytest.approx(burst / (1 if burst > 1 else 1 - mean), rel=0.1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_bursts_do_not_depend_on_how_packets_are_batched(counts: list[int]) -> None:
    total = sum(counts)
    pieces = GilbertElliott(3, 0.3, 4, rng())
    whole = GilbertElliott(3, 0.3, 4, rng()).draw(batch(total))
    assert (np.hstack([pieces.draw(batch(n)) for n in counts]) == whole).all()


def test_all_lose_one_symbol_of_a_block_once() -> None:
    sample = make_object(80 * 64, block_symbols=10)
    model = OncePerBlock(4, sample.manifest, tolerance=3, clock=lambda: 7)
    first, again = model.draw(batch(80)), model.draw(batch(80))
    assert np.flatnonzero(first[2]).tolist() == [15, 25, 35, 45, 55, 65]
    assert (first == first[0]).all()
    assert not again.any()
    # What is within the tolerance of the end is not known to be lost.
    assert model.passed == [7] * 7
