"""Pacing: exact over time, gentle at every instant, whatever the jitter of the machine."""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.machine import MS, SECOND
from pgmlite.core.timing import LEAST_BACKOFF, MOST_BACKOFF, Pacer, backoff_factor, gsize_of
from pgmlite.sim.theory import backoff_shape, nb_expected

JITTER = 400_000
"""ns; how late a machine wakes up, less than what the pacer makes up for."""


def sends(pacer: Pacer, packet: int, limit: int, jitter: Random) -> Iterator[tuple[int, int]]:
    """Yield (now, bits) of every burst, woken up to JITTER ns late."""
    now = 0
    while True:
        if pacer.due > now:
            now = pacer.due + jitter.randint(0, JITTER)
        wire_bytes = packet * pacer.burst(packet, limit)
        pacer.sent(now, wire_bytes)
        yield now, 8 * wire_bytes


RATES = st.integers(100_000, 2_000_000_000)
PACKETS = st.integers(112, 1_548)
LIMITS = st.sampled_from([1, 20, 44, 64])


@given(RATES, PACKETS, LIMITS, st.integers(0, 1 << 32))
def test_rate_holds_in_every_window_and_at_every_instant(
    rate: int, packet: int, limit: int, seed: int
) -> None:
    # All in bits times SECOND, so that nothing is rounded here.
    # spec: SND-3
    pacer = Pacer(rate, 0, burst_time=MS // 2)
    at_once = max(8 * packet * SECOND, rate * MS)
    depth = max(8 * packet * SECOND, rate * MS // 2) + rate * MS // 2
    lowest = sent = instant = last = 0
    for number, (now, bits) in enumerate(sends(pacer, packet, limit, Random(seed))):
        # The window in which most was sent began where least had been sent for the time.
        lowest = min(lowest, sent - rate * now)
        sent += bits * SECOND
        # An ns is lost to rounding at each burst, at most.
        assert sent - rate * now - lowest <= depth + rate * (number + 1)
        instant = bits * SECOND + (instant if now == last and number else 0)
        assert instant <= at_once
        last = now
        if number > 1_500:
            break


@given(RATES, PACKETS, st.sampled_from([20, 44, 64]), st.integers(0, 1 << 32))
def test_rate_is_exact_over_time(rate: int, packet: int, limit: int, seed: int) -> None:
    total = 0
    for number, (now, bits) in enumerate(
        sends(Pacer(rate, 0, burst_time=MS // 2), packet, limit, Random(seed))
    ):
        if now >= SECOND and number > 500:
            break
        total += bits
    assert total * SECOND / now == pytest.approx(rate, rel=0.001)


def test_a_pause_is_not_made_up_for() -> None:
    pacer = Pacer(8_000_000, 0, burst_time=MS // 2)
    pacer.sent(10 * SECOND, 1_000)
    assert pacer.due == 10 * SECOND + MS // 2
    pacer.sent(10 * SECOND, 1_000)
    assert pacer.due == 10 * SECOND + 3 * MS // 2


@pytest.mark.parametrize(
    ("rate", "packet", "limit", "count"),
    [
        (1_000, 1_500, 44, 1),
        (23_999_999, 1_500, 44, 1),
        (48_000_000, 1_500, 44, 2),
        (1_000_000_000, 1_500, 44, 41),
        (10_000_000_000, 1_500, 44, 44),
        (10_000_000_000, 70_000, 1, 1),
        (None, 1_500, 704, 704),
    ],
)
def test_a_burst_is_half_a_millisecond_or_a_packet(
    rate: int | None, packet: int, limit: int, count: int
) -> None:
    assert Pacer(rate, 0, burst_time=MS // 2).burst(packet, limit) == count


def test_without_a_rate_there_is_no_wait() -> None:
    pacer = Pacer(None, 5, burst_time=MS // 2)
    assert pacer.due == 5
    pacer.sent(9, 1 << 40)
    assert pacer.due == 9


@pytest.mark.parametrize("gsize", sorted(gsize_of(bits) for bits in range(7)))
def test_small_groups_wait_less_and_ask_no_more(gsize: int) -> None:
    # spec: REP-6
    factor = backoff_factor(gsize)
    assert factor <= MOST_BACKOFF
    asked = nb_expected(gsize, backoff_shape(gsize), factor, 1)
    assert asked < 5 or factor == MOST_BACKOFF
    assert nb_expected(gsize, backoff_shape(gsize), factor - 1, 1) > 5


@pytest.mark.parametrize("asking", range(1, 11))
def test_the_smallest_groups_are_announced_as_ten(asking: int) -> None:
    # spec: REP-6
    factor = backoff_factor(asking)
    assert LEAST_BACKOFF <= factor <= backoff_factor(10)
    assert nb_expected(asking, backoff_shape(10), factor, 1) < 5
