"""The group's round-trip time and size as few bits, and back-offs drawn by them."""

import math
from random import Random

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pgmlite.core.machine import MS, SECOND
from pgmlite.core.timing import (
    draw_backoff,
    grtt_of,
    gsize_of,
    quantise_grtt,
    quantise_gsize,
)


class TestRoundTripTime:
    @pytest.mark.parametrize(
        ("grtt", "bits", "read"),
        [
            (SECOND // 4, 148, 0.266),
            (SECOND, 166, 1.064),
            (1_000, 0, 1e-6),
            (32_000, 31, 32e-6),
            (1_000 * SECOND, 255, 1_000.0),
        ],
    )
    def test_values_of_the_rfc(self, grtt: int, bits: int, read: float) -> None:
        assert quantise_grtt(grtt) == bits
        assert grtt_of(bits) / SECOND == pytest.approx(read, rel=2e-3)

    def test_what_is_out_of_range_is_brought_into_it(self) -> None:
        assert quantise_grtt(0) == quantise_grtt(-5) == 0
        assert quantise_grtt(1 << 62) == 255

    def test_every_code_comes_back(self) -> None:
        times = [grtt_of(bits) for bits in range(256)]
        assert times == sorted(set(times))
        assert [quantise_grtt(time) for time in times] == list(range(256))

    @given(st.integers(1_000, 1_000 * SECOND))
    @example(32_500)
    @example(33_000)
    def test_is_never_too_short_and_hardly_too_long(self, grtt: int) -> None:
        read = grtt_of(quantise_grtt(grtt))
        assert grtt <= read <= max(grtt + 4_000, 1.0801 * grtt)

    @given(st.integers(0, 1_000 * SECOND), st.integers(0, 1_000 * SECOND))
    def test_is_monotone(self, one: int, other: int) -> None:
        assume(one <= other)
        assert quantise_grtt(one) <= quantise_grtt(other)


class TestGroupSize:
    @pytest.mark.parametrize(
        ("bits", "size"), [(0x0, 10), (0x8, 50), (0x3, 10**4), (0x7, 10**8), (0xF, 5 * 10**8)]
    )
    def test_values_of_the_rfc(self, bits: int, size: int) -> None:
        assert gsize_of(bits) == size
        assert quantise_gsize(size) == bits

    @given(st.floats(0, 5e8))
    def test_is_rounded_up(self, size: float) -> None:
        read = gsize_of(quantise_gsize(size))
        assert size <= read <= max(10, 5 * size)

    def test_the_largest_stands_for_all_above(self) -> None:
        assert quantise_gsize(1e12) == 0xF


class TestBackOff:
    LONGEST = 60 * MS

    @pytest.mark.parametrize("gsize", [10, 50, 10_000, 5 * 10**8])
    def test_distribution(self, gsize: int) -> None:
        # F(t) = (e^(Lt/T) - 1) / (e^L - 1), RFC 5401 section 3.2.2
        # spec: NAK-4
        shape = math.log(gsize) + 1
        rng, count = Random(5), 20_000
        drawn = sorted(draw_backoff(rng, self.LONGEST, gsize) for _ in range(count))
        assert drawn[0] >= 0
        assert drawn[-1] <= self.LONGEST
        for place in range(0, count, 500):
            below = math.expm1(shape * drawn[place] / self.LONGEST) / math.expm1(shape)
            # Four deviations of the worst quantile; a wrong L would be off by ten.
            assert below == pytest.approx(place / count, abs=2 / math.sqrt(count))

    @pytest.mark.parametrize("gsize", [10, 10_000])
    def test_most_are_long_and_few_are_short(self, gsize: int) -> None:
        rng = Random(6)
        drawn = [draw_backoff(rng, self.LONGEST, gsize) for _ in range(5_000)]
        early = sum(time < self.LONGEST / 6 for time in drawn) / len(drawn)
        assert early < 1 / 6 / 2

    def test_without_a_round_trip_there_is_nothing_to_wait_for(self) -> None:
        assert draw_backoff(Random(1), 0, 10) == 0

    def test_same_seed_same_draws(self) -> None:
        first, second = ([draw_backoff(Random(n), MS, 10) for n in range(9)] for _ in range(2))
        assert first == second
