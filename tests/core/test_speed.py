"""Rates of the last seconds."""

from __future__ import annotations

from pgmlite.core.machine import SECOND
from pgmlite.core.speed import WINDOW, Speed


def test_a_steady_stream_has_its_rate_at_once() -> None:
    speed = Speed()
    assert speed.rate(0, 0) == 0
    assert {speed.rate(s * SECOND, s * 1_000) for s in range(1, 30)} == {8_000}


def test_what_is_long_ago_does_not_count() -> None:
    speed = Speed()
    for second in range(10):
        speed.rate(second * SECOND, second * 1_000_000)
    stands = [speed.rate(second * SECOND, 9_000_000) for second in range(10, 20)]
    assert stands == sorted(stands, reverse=True)
    assert stands[WINDOW // SECOND :] == [0] * (10 - WINDOW // SECOND)


def test_looks_that_follow_on_each_other_are_no_samples() -> None:
    speed = Speed()
    for step in range(1_000):
        rate = speed.rate(step * SECOND // 100, step * 10)
    assert rate == 8_000
    assert speed.rate(0, 0) == 0  # no time has passed, as far as it can tell
