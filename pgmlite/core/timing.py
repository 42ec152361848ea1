"""Token buckets, the group round-trip time and the back-off (RFC 5401 sections 3.2, 3.7)."""

from __future__ import annotations

import math
from random import Random

from pgmlite.core.machine import SECOND


def cost_of(per_second: float) -> int:
    """Return how many ns pass until another one comes, of so many a second."""
    return int(SECOND / per_second)


class TokenBucket:
    """A token bucket kept as a time: from `due` on there is something in it.

    What is in it at `now` is `now` - `due`, in the time that it takes to come, up to `depth`;
    taking something moves `due` on by what it costs.
    """

    def __init__(self, depth: int, due: int) -> None:
        """
        Args:
            depth: What it holds at most, ns.
            due: When there is something in it, ns; `depth` before now: it is full.
        """
        self._depth = depth
        self.due = due

    def spend(self, now: int, cost: int) -> None:
        """Take out what comes in `cost` ns, even if that is not there."""
        self.due = max(self.due, now - self._depth) + cost

    def take(self, now: int, wanted: int, cost: int) -> int:
        """Take out up to `wanted` things that cost as many ns each; return how many there were."""
        held = max(0, min(now - self.due, self._depth))
        taken = min(wanted, held // cost if cost else wanted)
        self.spend(now, taken * cost)
        return taken

    def is_overdrawn(self, now: int) -> bool:
        """Whether more was taken than there was."""
        return self.due > now


GRTT_MIN = 1_000
"""ns; RTT_MIN of RFC 5401 section 3.7.4."""

GRTT_MAX = 1_000 * SECOND
"""ns; RTT_MAX of RFC 5401 section 3.7.4."""


def quantise_grtt(grtt: int) -> int:
    """Return a round-trip time of `grtt` ns as 8 bits, rounded up (RFC 5401 section 3.7.4)."""
    grtt = min(max(grtt, GRTT_MIN), GRTT_MAX)
    if grtt < 33 * GRTT_MIN:
        return -(-grtt // GRTT_MIN) - 1
    return math.ceil(255 - 13 * math.log(GRTT_MAX / grtt))


def grtt_of(quantised: int) -> int:
    """Return the round-trip time in ns that 8 bits stand for."""
    if quantised <= 31:
        return (quantised + 1) * GRTT_MIN
    return int(GRTT_MAX / math.exp((255 - quantised) / 13))


def quantise_gsize(size: float) -> int:
    """Return a group size as 4 bits, rounded up: 10, 50, 100 ... 500 000 000 (RFC 5740 4.2.1)."""
    for bits in sorted(range(16), key=gsize_of):
        if gsize_of(bits) >= size:
            return bits
    return 0xF


def gsize_of(bits: int) -> int:
    """Return the group size that 4 bits stand for."""
    return (5 if bits & 8 else 1) * int(10 ** ((bits & 7) + 1))


LEAST_BACKOFF = 2
"""K for groups in which suppression gains nothing; who never asked so far may be many."""

MOST_BACKOFF = 6
"""K for NAKs that go to the sender alone (RFC 5401 section 3.2.2)."""


def backoff_factor(gsize: int) -> int:
    """Return K for a group of `gsize` (spec: REP-6).

    With K = ln(gsize) + 1 the chance that somebody asks grows by e every GRTT, whatever the size:
    four or five NAKs for a loss that all have in common. A small group need not wait for longer.
    """
    return min(max(int(math.log(gsize) + 1), LEAST_BACKOFF), MOST_BACKOFF)


def draw_backoff(rng: Random, longest: int, gsize: int) -> int:
    """Draw a back-off of 0 to `longest` ns: truncated exponential (RFC 5401 section 3.2.2).

    Most draws are long and a few are short, so that few answer before the first is heard.
    """
    # spec: NAK-4: never uniform: with uniform timers the answers grow with the group.
    shape = math.log(gsize) + 1
    return int(longest / shape * math.log1p(rng.random() * math.expm1(shape)))
