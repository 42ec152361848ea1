"""Token buckets, and how long small groups wait."""

import pytest

from pgmlite.core.machine import MS, SECOND
from pgmlite.core.timing import (
    LEAST_BACKOFF,
    MOST_BACKOFF,
    TokenBucket,
    backoff_factor,
    cost_of,
    gsize_of,
)
from pgmlite.sim.theory import backoff_shape, nb_expected


class TestTokenBucket:
    def test_gives_what_has_come_and_no_more(self) -> None:
        bucket = TokenBucket(SECOND, due=-SECOND)
        assert bucket.take(0, 300, cost_of(250)) == 250
        assert bucket.take(0, 1, cost_of(250)) == 0
        assert bucket.take(4 * MS - 1, 1, cost_of(250)) == 0
        assert bucket.take(4 * MS, 5, cost_of(250)) == 1
        # It holds one second's, however long nobody takes any.
        assert bucket.take(90 * SECOND, 300, cost_of(250)) == 250

    def test_is_overdrawn_below_nothing_and_not_at_it(self) -> None:
        bucket = TokenBucket(SECOND, due=0)
        bucket.spend(SECOND, SECOND)
        assert not bucket.is_overdrawn(SECOND)
        bucket.spend(SECOND, 1)
        assert bucket.is_overdrawn(SECOND)
        assert bucket.take(SECOND, 5, 1) == 0
        assert not bucket.is_overdrawn(SECOND + 1)

    def test_what_costs_nothing_is_there_without_end(self) -> None:
        bucket = TokenBucket(SECOND, due=0)
        assert bucket.take(0, 1 << 40, cost_of(4e9)) == 1 << 40


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
