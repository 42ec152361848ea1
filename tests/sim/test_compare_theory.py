"""Closed forms against published and tabulated values, and against throws of dice."""

import math

import pytest

from pgmlite.sim.theory import EM_nofec, backoff_shape, carousel_time, nb_expected, nb_first


@pytest.mark.parametrize(
    ("symbols", "loss", "receivers", "cycles"),
    [
        (100, 0.01, 1, 1.38),
        (100, 0.1, 1_000, 5.43),
        (100, 0.05, 10, 2.733),
        (1_000, 0.05, 1, 2.73),
        (1_000, 0.05, 1_000, 5.03),
        (1_000, 0.2, 10_000, 10.50),
        (50, 0.0, 1_000, 1.0),
    ],
)
def test_carousel_time_is_as_tabulated(
    symbols: int, loss: float, receivers: int, cycles: float
) -> None:
    assert carousel_time(symbols, [(loss, receivers)]) == pytest.approx(cycles, abs=0.006)


@pytest.mark.parametrize(
    ("loss", "receivers", "times"),
    [
        (0.01, 1, 1.010),
        (0.01, 10, 1.097),
        (0.01, 100, 1.644),
        (0.01, 1_000, 2.096),
        (0.01, 1_000_000, 3.642),
        (0.05, 100, 2.23),
        (0.2, 1_000_000, 9.45),
        (0.0, 10, 1.0),
    ],
)
def test_em_nofec_is_as_tabulated(loss: float, receivers: int, times: float) -> None:
    assert EM_nofec([(loss, receivers)]) == pytest.approx(times, abs=0.006)


@pytest.mark.parametrize("form", [EM_nofec, lambda losses: carousel_time(500, losses)])
def test_receivers_of_one_loss_may_be_named_apart(form: object) -> None:
    assert form([(0.05, 3), (0.05, 7)]) == pytest.approx(form([(0.05, 10)]))
    # The bad ones decide, and the others hardly add to it.
    assert form([(0.3, 1)]) < form([(0.01, 20), (0.3, 1)]) < form([(0.3, 2)])


@pytest.mark.parametrize(
    ("receivers", "ratio", "naks"),
    [(10, 6, 2.01), (100, 6, 3.12), (1_000, 4, 9.51), (1_000, 6, 4.74), (10_000, 6, 7.13)],
)
def test_nb_expected_is_as_tabulated(receivers: int, ratio: int, naks: float) -> None:
    assert nb_expected(receivers, backoff_shape(receivers), ratio, 1) == pytest.approx(
        naks, abs=0.01
    )


@pytest.mark.parametrize(("gsize", "factor"), [(10_000, 4), (10_000, 6), (1_000, 4)])
def test_nb_expected_is_near_the_estimate_of_rfc_5401(gsize: int, factor: int) -> None:
    # Section 3.2.2: N = exp(1.2 L / (2 T / GRTT)), for NAKs heard after half a GRTT.
    estimate = math.exp(1.2 * backoff_shape(gsize) / (2 * factor))
    assert nb_expected(gsize, backoff_shape(gsize), factor, 0.5) == pytest.approx(
        estimate, rel=0.04
    )


@pytest.mark.parametrize(
    ("receivers", "share"), [(10, 0.314), (100, 0.195), (1_000, 0.139), (10_000, 0.107)]
)
def test_nb_first_is_as_tabulated(receivers: int, share: float) -> None:
    first = nb_first(receivers, backoff_shape(receivers), 6)
    assert first / 6 == pytest.approx(share, abs=0.001)
