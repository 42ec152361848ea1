"""Closed forms of repair symbols against tables, against dice, and against counts."""

import math

import numpy as np
import pytest

from pgmlite.core.receive.counts import EXTRA
from pgmlite.core.ring import Ring
from pgmlite.fec.codec import too_many
from pgmlite.sim.counts import fec_carousel, plain_carousel
from pgmlite.sim.fec_theory import failing, fec_completion, nak_count_sent, undecodable
from pgmlite.sim.luck import extra_symbols
from pgmlite.sim.theory import carousel_time
from pgmlite.wire.geometry import Geometry


def geometry_of(block: int, repairs: int, blocks: int, last: int = 0) -> Geometry:
    """Return an object of full blocks, and a last one of `last` symbols."""
    symbols = block * blocks + last
    tile = min(8, blocks + bool(last))
    return Geometry(symbols * 64, 64, block, repairs, tile)


@pytest.mark.parametrize(
    ("block", "repairs", "loss", "receivers", "blocks", "lengths"),
    [
        (1024, 512, 0.01, 1, 55, 1.030),
        (1024, 512, 0.05, 3, 55, 1.078),
        (1024, 512, 0.05, 1_000, 55, 1.094),
        (1024, 512, 0.05, 1_000_000, 10, 1.108),
        (1024, 512, 0.2, 100, 55, 1.324),
        (1024, 512, 0.5, 3, 55, 2.687),  # the ring comes round
        (1024, 1024, 0.5, 3, 55, 2.235),
        (1024, 512, 0.05, 3, 1, 1.061),
        (300, 150, 0.2, 3, 3, 1.310),
        (100, 64, 0.05, 3, 1, 1.090),
    ],
)
def test_the_median_of_the_last_is_as_tabulated(
    block: int, repairs: int, loss: float, receivers: int, blocks: int, lengths: float
) -> None:
    done = fec_completion(geometry_of(block, repairs, blocks), [(loss, receivers)])
    assert done.quantile() == pytest.approx(lengths, abs=0.006)


@pytest.mark.parametrize(
    ("loss", "receivers", "lengths"),
    [
        (0.01, 1, 1.0117),
        (0.01, 1_000, 1.0255),
        (0.05, 3, 1.0607),
        (0.05, 100, 1.0743),
        (0.2, 1_000, 1.3114),
    ],
)
def test_what_counts_take_is_as_tabulated(loss: float, receivers: int, lengths: float) -> None:
    assert nak_count_sent(1024, [(loss, receivers)]) == pytest.approx(lengths, abs=0.0006)


def test_without_loss_it_takes_one_length() -> None:
    assert fec_completion(geometry_of(100, 64, 3, 7), [(0.0, 5)]).mean == 1.0
    assert nak_count_sent(100, [(0.0, 5)]) == 1.0


@pytest.mark.parametrize(("missing", "extra"), [(1, 0), (1, 3), (2, 1), (7, 0), (300, 2)])
def test_codes_fail_as_random_ones(missing: int, extra: int) -> None:
    # Two ways to the same odds: the closed form, and what the codec without symbols draws.
    draws = (np.arange(100_000) + 0.5) / 100_000
    failed = np.mean(too_many(draws, missing) > extra)
    assert failed == pytest.approx(undecodable(missing, extra), abs=1e-4)
    drawn = extra_symbols(np.full(len(draws), missing), draws)
    assert (drawn == np.maximum(EXTRA, too_many(draws, missing))).all()


def thrown(geometry: Geometry, loss: float, receivers: int, runs: int, joined: int) -> np.ndarray:
    """Return when all were done, of dice for every packet, in object lengths."""
    rng = np.random.default_rng(1)
    ring = Ring(geometry)
    sent = ring.ids(joined, 12 * ring.turn)
    ends = np.zeros((runs, receivers), np.int64)
    for block in range(geometry.blocks):
        source = geometry.source(block)
        places = np.flatnonzero(sent.blocks == block)
        esis = sent.esis[places]
        for run in range(runs):
            for receiver in range(receivers):
                kept = rng.random(len(esis)) >= loss
                came, first = np.unique(esis[kept], return_index=True)
                order = np.argsort(first)
                when, sources = places[kept][first[order]], np.cumsum(came[order] < source)
                had = np.arange(1, len(order) + 1)
                luck = np.full(len(order), rng.random())
                enough = had >= source + extra_symbols(source - sources, luck)
                done = when[np.argmax((sources == source) | enough)] + 1
                ends[run, receiver] = max(ends[run, receiver], done)
    return ends.max(axis=1) / geometry.symbols


@pytest.mark.parametrize(
    ("geometry", "loss", "receivers", "joined"),
    [
        (geometry_of(20, 64, 1), 0.2, 3, 0),
        (geometry_of(32, 32, 2, 5), 0.1, 2, 0),
        (geometry_of(32, 32, 2, 5), 0.1, 2, 90),  # among the repair symbols
        (geometry_of(16, 16, 1), 0.55, 1, 0),  # round and round
    ],
)
def test_completion_against_dice(
    geometry: Geometry, loss: float, receivers: int, joined: int
) -> None:
    lengths = thrown(geometry, loss, receivers, 250, joined)
    done = fec_completion(geometry, [(loss, receivers)], joined=joined)
    error = lengths.std() / math.sqrt(len(lengths))
    assert done.mean == pytest.approx(lengths.mean(), abs=4 * error)


def test_two_senders_share_a_ring() -> None:
    geometry = geometry_of(128, 64, 4)
    assert fec_completion(geometry, [(0.0, 9)], senders=2).mean == 0.5
    alone = fec_completion(geometry, [(0.05, 9)]).mean
    assert fec_completion(geometry, [(0.05, 9)], senders=2).mean == pytest.approx(
        alone / 2, rel=0.02
    )


def test_a_symbol_that_is_sent_again_helps_who_lost_it() -> None:
    once = failing((0, 100), (20, 5), 0.1)
    again = failing((0, 50, 50), (20, 5), 0.1)
    assert 0.001 < again < once < 0.999
    # What was never sent is missing, and as many repair symbols and some more replace it.
    assert failing((30, 70), (0, 29), 0.0) == pytest.approx(1)
    assert failing((30, 70), (0, 50), 0.0) < 1e-5


class TestCounts:
    """Receivers as counts are as soon done as closed forms say."""

    @pytest.mark.parametrize(
        ("geometry", "loss", "receivers"),
        [
            (geometry_of(300, 150, 3), 0.05, 10),
            (geometry_of(300, 150, 2, 5), 0.1, 3),
            (geometry_of(128, 64, 3), 0.5, 10),  # the ring comes round
        ],
    )
    def test_of_repair_symbols(self, geometry: Geometry, loss: float, receivers: int) -> None:
        runs = 1_000
        losses = np.full(runs * receivers, loss)
        done = fec_carousel(geometry, losses, np.random.default_rng(2))
        lengths = done.reshape(runs, receivers).max(axis=1) / geometry.symbols
        form = fec_completion(geometry, [(loss, receivers)])
        error = lengths.std() / math.sqrt(runs)
        assert lengths.mean() == pytest.approx(form.mean, abs=4 * error)
        assert np.median(lengths) == pytest.approx(form.quantile(), abs=5 * error)

    def test_of_a_plain_carousel(self) -> None:
        runs, receivers = 2_000, 10
        losses = np.full(runs * receivers, 0.05)
        done = plain_carousel(500, losses, np.random.default_rng(2))
        lengths = done.reshape(runs, receivers).max(axis=1) / 500
        error = lengths.std() / math.sqrt(runs)
        assert lengths.mean() == pytest.approx(carousel_time(500, [(0.05, 10)]), abs=4 * error)

    def test_each_receiver_has_losses_of_its_own(self) -> None:
        losses = np.array([0.0, 0.0, 0.3, 0.0])
        for done in (
            plain_carousel(600, losses, np.random.default_rng(3)),
            fec_carousel(geometry_of(300, 150, 2), losses, np.random.default_rng(3)),
        ):
            assert (done[[0, 1, 3]] == 600).all()
            assert done[2] > 600
