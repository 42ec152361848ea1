"""Pacing: when the next burst may leave (spec: SND-3)."""

from __future__ import annotations

from pgmlite.core.machine import MS, SECOND

BURST_TIME = MS // 2
"""A burst is half a millisecond of the rate and being late is made up for by as much again, so
that never more than 1 ms of the rate, or one packet, leaves at once."""


class Pacer:
    """A token bucket kept as the time at which the next burst is due."""

    def __init__(self, rate: int | None, now: int) -> None:
        """
        Args:
            rate: bit/s; None: never wait.
            now: ns.
        """
        self._rate = rate
        self.due = now

    def burst(self, packet_bytes: int, limit: int) -> int:
        """Return how many packets of `packet_bytes` bytes may leave at once, 1 to `limit`."""
        if self._rate is None:
            return limit
        packets = self._rate * BURST_TIME // (8 * SECOND * packet_bytes)
        return max(1, min(packets, limit))

    def sent(self, now: int, wire_bytes: int) -> None:
        """Account for `wire_bytes` bytes, headers included, that left at `now`."""
        if self._rate is None:
            self.due = now
        else:
            start = max(self.due, now - BURST_TIME)
            self.due = start + wire_bytes * 8 * SECOND // self._rate
