"""Pacing: exact over time, gentle at every instant, whatever the jitter of the machine."""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.machine import MS, SECOND
from pgmlite.core.send.rate import Fixed, Pacer

JITTER = 400_000
"""ns; how late a machine wakes up, less than what the pacer makes up for."""


def pacer_at(rate: int | None) -> Pacer:
    """Return a pacer whose rate never changes."""
    return Pacer(Fixed(rate), burst_time=MS // 2)


def sends(pacer: Pacer, packet: int, limit: int, jitter: Random) -> Iterator[tuple[int, int]]:
    """Yield (now, bits) of every burst, woken up to JITTER ns late."""
    now = 0
    while True:
        if pacer.due > now:
            now = pacer.due + jitter.randint(0, JITTER)
        wire_bytes = packet * pacer.burst(now, packet, limit)
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
    pacer = pacer_at(rate)
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
    for number, (now, bits) in enumerate(sends(pacer_at(rate), packet, limit, Random(seed))):
        if now >= SECOND and number > 500:
            break
        total += bits
    assert total * SECOND / now == pytest.approx(rate, rel=0.001)


def test_a_pause_is_not_made_up_for() -> None:
    pacer = pacer_at(8_000_000)
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
    assert pacer_at(rate).burst(0, packet, limit) == count


def test_without_a_rate_there_is_no_wait() -> None:
    pacer = pacer_at(None)
    pacer.start(5)
    assert pacer.due == 5
    pacer.sent(9, 1 << 40)
    assert pacer.due == 9


class Halving:
    """A rate that is halved after one second."""

    def rate(self, now: int) -> int | None:
        return 8_000_000 if now < SECOND else 4_000_000


def test_a_rate_may_change() -> None:
    pacer = Pacer(Halving(), burst_time=MS // 2)
    sent = []
    for now, bits in sends(pacer, 1_000, 44, Random(1)):
        if now >= 2 * SECOND:
            break
        sent.append((now, bits))
    first = sum(bits for now, bits in sent if now < SECOND)
    assert first == pytest.approx(8_000_000, rel=0.01)
    assert sum(bits for _, bits in sent) - first == pytest.approx(4_000_000, rel=0.01)


def test_what_takes_a_share_of_the_rate_takes_longer() -> None:
    assert pacer_at(8_000_000).takes(0, 1_000) == MS
    assert pacer_at(8_000_000).takes(0, 1_000, 0.05) == 20 * MS
    assert pacer_at(None).takes(0, 1_000, 0.05) == 0
