"""A stranger poisons a carousel; `python -m tests.bench.poison` does it at full size.

One of the shares of forged symbols is tried in each run of the suite, by the day of the year.
"""

from __future__ import annotations

import time
from functools import lru_cache

import pytest

from tests.support.builders import make_object
from tests.support.poison import SENDER, STRANGER, Attack, receive
from tests.support.signed import SignedSample, make_signed

SHARES = (0.001, 0.01, 0.1, 1.0)
TODAY = SHARES[time.gmtime().tm_yday % len(SHARES)]
RATE = 50_000_000


@lru_cache
def signed() -> SignedSample:
    return make_signed(
        288 * 256 * 4 - 9, symbol_size=288, block_symbols=256, repair_symbols=128, tile_blocks=2
    )


@pytest.mark.parametrize("source", [SENDER, STRANGER], ids=["spoofed", "another"])
def test_a_signed_object_takes_hardly_longer(source: object) -> None:
    # spec: RCV-19, RCV-20
    attack = Attack(TODAY, 10, source)
    outcome = receive(signed(), attack, rate=RATE)
    assert outcome.is_right
    assert outcome.wrong == 0
    assert outcome.cycles <= 1.05


def test_with_losses_neither() -> None:
    without = receive(signed(), Attack(), loss=0.05, rate=RATE)
    outcome = receive(signed(), Attack(TODAY, 10), loss=0.05, rate=RATE)
    assert outcome.is_right
    assert outcome.wrong == 0
    assert outcome.cycles <= 1.3 * without.cycles  # of one seed


@pytest.mark.parametrize("repairs", [0, 128])
def test_an_unsigned_one_takes_at_most_two_cycles(repairs: int) -> None:
    # spec: RCV-24
    sample = make_object(64 * 256 * 4, block_symbols=256, repair_symbols=repairs, tile_blocks=1)
    outcome = receive(sample, Attack(0.01, 0, STRANGER), rate=10_000_000)
    assert outcome.is_complete
    assert outcome.is_right
    assert outcome.cycles <= 2.05
