"""Pacing (spec: SND-3), the group round-trip time and the back-off (RFC 5401 sections 3.2, 3.7)."""

from __future__ import annotations

import math
from random import Random

from pgmlite.core.machine import SECOND


class Pacer:
    """A token bucket kept as the time at which the next burst is due."""

    def __init__(self, rate: int | None, now: int, *, burst_time: int) -> None:
        """
        Args:
            rate: bit/s; None: never wait.
            now: ns.
            burst_time: How much of the rate leaves at once, and is made up for, ns.
        """
        self._rate = rate
        self._burst_time = burst_time
        self.due = now

    def burst(self, packet_bytes: int, limit: int) -> int:
        """Return how many packets of `packet_bytes` bytes may leave at once, 1 to `limit`."""
        if self._rate is None:
            return limit
        packets = self._rate * self._burst_time // (8 * SECOND * packet_bytes)
        return max(1, min(packets, limit))

    def sent(self, now: int, wire_bytes: int) -> None:
        """Account for `wire_bytes` bytes, headers included, that left at `now`."""
        if self._rate is None:
            self.due = now
        else:
            start = max(self.due, now - self._burst_time)
            self.due = start + wire_bytes * 8 * SECOND // self._rate


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
