"""Rates that are not reached are told of."""

import pytest

from pgmlite.core.machine import SECOND
from pgmlite.net.rate import RateWatch

RATE = 8_000_000
"""A million bytes a second."""


def told(*looks: tuple[float, float, int], rate: int | None = RATE, end: bool = False) -> list[str]:
    """Return what is said of (seconds, share of the rate so far, packets refused so far)."""
    said: list[str] = []
    watch = RateWatch(rate, lambda text, facts: said.append(text))
    for number, (seconds, share, unsent) in enumerate(looks, 1):
        octets = int(seconds * 1_000_000 * share)
        is_over = end and number == len(looks)
        watch.look((octets, int(seconds * SECOND)), unsent, is_over=is_over)
    return said


def test_every_ten_seconds() -> None:
    looks = [(float(second), 0.5, 0) for second in range(35)]
    line = (
        "asked for 8 Mbit/s, sent 4 Mbit/s in the last 10 s: this machine or its link is too slow"
    )
    assert told(*looks) == [line] * 3


def test_at_the_end() -> None:
    assert told((3, 0.5, 0)) == []
    (line,) = told((3, 0.5, 0), end=True)
    assert "sent 4 Mbit/s in the last 3 s" in line
    assert told((0.9, 0.5, 0), end=True) == []  # too short to tell
    (line,) = told((11, 1, 0), (15, (11 + 4 * 0.25) / 15, 0), end=True)
    assert "sent 2 Mbit/s in the last 4 s" in line


@pytest.mark.parametrize("share", [0.91, 1.0])
def test_a_rate_that_is_kept(share: float) -> None:
    assert told((20, share, 0), (40, share, 0), end=True) == []


def test_it_says_whose_rate_it_is() -> None:
    said: list[str] = []
    watch = RateWatch(RATE, lambda text, facts: said.append(text), "there: ")
    watch.look((1, 10 * SECOND), 0)
    assert said[0].startswith("there: asked for 8 Mbit/s, sent ")


def test_no_limit_can_not_be_missed() -> None:
    assert told((20, 0.1, 0), rate=None, end=True) == []


def test_what_is_refused_is_told_of_elsewhere() -> None:
    assert told((11, 0.5, 9), (22, 0.5, 10), (33, 0.5, 10)) == [
        "asked for 8 Mbit/s, sent 4 Mbit/s in the last 11 s: this machine or its link is too slow"
    ]


def test_nothing_moves() -> None:
    assert told(*[(0, 0, 0)] * 5, end=True) == []
