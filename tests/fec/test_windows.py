"""Who hears a ring from anywhere on can decode after K symbols and a few more."""

import os
from datetime import UTC, datetime

import numpy as np
import pytest

from tests.support.fec_windows import (
    MOST_IN_TERRITORY,
    MOST_TOO_MANY,
    default_repairs,
    last_repairs,
    territories,
    too_many,
)

SEED = int(os.environ.get("PGMLITE_FEC_SEED", datetime.now(tz=UTC).date().toordinal()))
"""Other blocks every day; `tests.bench.fec_windows` has all of them."""

SAMPLE = sorted(np.random.default_rng(SEED).choice(np.arange(3, 1_024), 8, replace=False).tolist())


@pytest.mark.parametrize("k", [1, 2, 16, 48, 49, 64, *SAMPLE])
def test_every_window_of_a_ring_can_be_decoded(k: int) -> None:
    for repairs in {default_repairs(k), last_repairs(k)}:
        found = too_many(k, range(k + repairs))
        assert len(found) == k + repairs
        assert max(found) <= MOST_TOO_MANY, f"PGMLITE_FEC_SEED={SEED}"
        assert np.mean(found) <= 2.5, f"PGMLITE_FEC_SEED={SEED}"


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_every_window_of_a_territory_can_be_decoded(channels: int) -> None:
    # spec: FEC-1
    k = SAMPLE[-1]
    for esis in territories(k, channels):
        assert len(esis) >= 5 * k / 4
        found = too_many(k, esis)
        assert max(found) <= MOST_IN_TERRITORY, f"PGMLITE_FEC_SEED={SEED}"
        assert np.mean(found) <= 3, f"PGMLITE_FEC_SEED={SEED}"


def test_windows_are_as_solving_each_of_them_finds() -> None:
    from pgmlite.fec.decode import solve

    k, repairs = 50, 64
    found = too_many(k, range(k + repairs))
    for first, more in enumerate(found):
        window = (first + np.arange(k + more)) % (k + repairs)
        assert solve(k, window).lacks == 0
        assert solve(k, window[:-1]).lacks == 1
