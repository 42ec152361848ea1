"""Who owns the rate of a lane, and what keeps it (spec: SND-3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pgmlite.core.machine import SECOND
from pgmlite.core.timing import TokenBucket


class RateControl(Protocol):
    """Owns a rate, which may change: who needs it asks each time."""

    def rate(self, now: int) -> int | None:
        """Return the bit/s that may be on the wire, IP headers included; None: not limited."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The rate that an operator named."""

    bits: int | None

    def rate(self, now: int) -> int | None:
        """Return that rate."""
        return self.bits


class Pacer:
    """Says when the next burst of a lane is due, and how large it may be."""

    def __init__(self, control: RateControl, *, burst_time: int) -> None:
        """
        Args:
            burst_time: How much of the rate leaves at once, and is made up for, ns.
        """
        self._control = control
        self._burst_time = burst_time
        self._bucket = TokenBucket(burst_time, 0)

    @property
    def due(self) -> int:
        """When the next burst may leave, ns."""
        return self._bucket.due

    def start(self, now: int) -> None:
        """Begin: a burst may leave at once."""
        self._bucket.due = now

    def stood(self, elapsed: int) -> None:
        """Note that nothing could leave for so many ns."""
        self._bucket.due += elapsed

    def rate(self, now: int) -> int | None:
        """bit/s; None: not limited."""
        return self._control.rate(now)

    def takes(self, now: int, wire_bytes: int, share: float = 1.0) -> int:
        """Return how many ns `wire_bytes` bytes take in `share` of the rate; 0: not limited."""
        rate = self.rate(now)
        return 0 if rate is None else int(wire_bytes * 8 * SECOND // (rate * share))

    def burst(self, now: int, packet_bytes: int, limit: int) -> int:
        """Return how many packets of `packet_bytes` bytes may leave at once, 1 to `limit`."""
        rate = self.rate(now)
        if rate is None:
            return limit
        packets = rate * self._burst_time // (8 * SECOND * packet_bytes)
        return max(1, min(packets, limit))

    def sent(self, now: int, wire_bytes: int) -> None:
        """Account for `wire_bytes` bytes, headers included, that left at `now`."""
        if self.rate(now) is None:
            self._bucket.due = now
        else:
            self._bucket.spend(now, self.takes(now, wire_bytes))
