"""How many symbols too many the code needs, for every K: windows of the ring, and losses.

    python -m tests.bench.fec_windows [FIRST [LAST]]

takes every window of the ring of each K, with its own default M and as the last block behind one of
1024, and every window of each territory of 3 channels, then one run with losses for each K, rate
and kind. All: some ten minutes of two cores. The exit code is 1 if one of the bounds below is
broken.
"""

from __future__ import annotations

import sys
from collections import Counter
from multiprocessing import Pool

import numpy as np
import numpy.typing as npt

from pgmlite.fec.code import MAX_SOURCE
from tests.support.fec_windows import (
    MOST_IN_TERRITORY,
    default_repairs,
    last_repairs,
    needed,
    territories,
    too_many,
    vectors,
)

MEAN, OVER_6, OVER_10 = 1.7, 0.02, 0.002
"""Bounds of the windows: the mean, and the shares with more than 6 and 10 too many."""

LOSSES = (0.01, 0.05, 0.1, 0.2, 0.33)
BURST = 20
"""Symbols of a burst, on average."""

LOSSY_MEAN, LOSSY_OVER_10 = 2.0, 0.003
"""Bounds of the runs with losses."""


def lost(rng: np.random.Generator, size: int, rate: float, burst: int) -> npt.NDArray[np.bool_]:
    """Return which of `size` packets are lost, in bursts of about so many."""
    found = np.zeros(size, bool)
    at = 0
    while rate > 0 and at < size:
        at += int(rng.geometric(min(1.0, rate / (burst * (1 - rate)))))
        length = int(rng.geometric(1 / burst))
        found[at : at + length] = True
        at += length
    return found


def windows(k: int) -> Counter[int]:
    """Return how often so many symbols are too many, of all windows of a K."""
    rings = [range(k + repairs) for repairs in {default_repairs(k), last_repairs(k)}]
    rings += territories(k, 3)
    return Counter(more for esis in rings for more in too_many(k, esis))


def runs(k: int) -> dict[str, Counter[int | None]]:
    """Return the same of one run of each kind with losses; None: a turn was not enough."""
    rng = np.random.default_rng(k)
    size = k + default_repairs(k)
    heard = vectors(k, np.arange(size))
    found: dict[str, Counter[int | None]] = {}
    for rate in LOSSES:
        for burst in (1, BURST):
            arrived = np.flatnonzero(~lost(rng, size, rate, burst)).tolist()
            kind = f"{rate:.0%} lost" + f" in bursts of {burst}" * (burst > 1)
            found[kind] = Counter([needed(k, arrived, heard)])
    any_order = rng.permutation(size).tolist()
    found["the ring in any order"] = Counter([needed(k, any_order, heard)])
    many = k + np.arange(2 * k + 64)
    found["repair symbols alone"] = Counter([needed(k, range(len(many)), vectors(k, many))])
    return found


def both(k: int) -> tuple[int, Counter[int], dict[str, Counter[int | None]]]:
    """Return what is found for a K."""
    return k, windows(k), runs(k)


def line(name: str, counts: Counter[int]) -> tuple[float, float, float]:
    """Print a distribution; return its mean, and the shares above 6 and 10."""
    total = sum(counts.values())
    mean = sum(more * times for more, times in counts.items()) / total
    over = [sum(n for more, n in counts.items() if more > most) / total for most in (3, 6, 10)]
    shares = "".join(f"{share:8.2%}" for share in over[:2]) + f"{over[2]:9.3%}"
    print(f"{name:<32}{total:>9}{mean:>7.2f}{shares}{max(counts):>5}", flush=True)
    return mean, over[1], over[2]


def main(first: int = 1, last: int = MAX_SOURCE) -> int:
    """Print the distributions; return 1 if a bound is broken."""
    title = f"symbols too many, K = {first} to {last}"
    print(f"{title:<32}{'runs':>9}{'mean':>7}{'> 3':>8}{'> 6':>8}{'> 10':>9}{'most':>5}")
    means: list[tuple[float, int]] = []
    all_windows: Counter[int] = Counter()
    all_runs: dict[str, Counter[int | None]] = {}
    # The slow ones first, so that no process waits for the other in the end.
    with Pool(2) as pool:
        for k, found, lossy in pool.imap_unordered(both, range(last, first - 1, -1)):
            all_windows += found
            means.append((sum(n * times for n, times in found.items()) / found.total(), k))
            for kind, counts in lossy.items():
                all_runs.setdefault(kind, Counter()).update(counts)
    mean, over_6, over_10 = line("every window of the ring", all_windows)
    good = mean <= MEAN and over_6 <= OVER_6 and over_10 <= OVER_10
    good &= max(all_windows) <= MOST_IN_TERRITORY
    lossy_all: Counter[int] = Counter()
    for kind, counts in all_runs.items():
        ended = Counter({more: times for more, times in counts.items() if more is not None})
        line(kind, ended)
        print(f"{'':<32}{counts[None]:>9} need more than one turn" * bool(counts[None]), end="")
        print("\n" * bool(counts[None]), end="")
        lossy_all += ended
    mean, _, over_10 = line("all with losses", lossy_all)
    good &= mean <= LOSSY_MEAN and over_10 <= LOSSY_OVER_10
    print("windows by K: worst means", [(round(m, 2), k) for m, k in sorted(means)[-5:]])
    print("within the bounds" if good else "OUT OF BOUNDS")
    return not good


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
