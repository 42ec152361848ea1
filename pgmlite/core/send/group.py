"""What a repairer knows of those who hear one lane: how far away and how many (spec: REP-6)."""

from __future__ import annotations

from collections.abc import Callable

from pgmlite.core.config import RepairConfig
from pgmlite.core.timing import backoff_factor, gsize_of, quantise_grtt, quantise_gsize


class Group:
    """Estimates the group round-trip time and the group size from the NAKs that come."""

    def __init__(self, config: RepairConfig, *, packet_time: Callable[[int], int]) -> None:
        """
        Args:
            packet_time: Returns the ns that a full packet takes at the rate of now.
        """
        self._config = config
        self._packet_time = packet_time
        self._grtt = config.grtt_start
        self._is_measured = False
        self._grtt_peak = 0
        self._grtt_at = self._answered_at = 0
        self._gsize = float(config.gsize_start)
        self._gsize_at = 0
        self._overlaps = 0

    def grtt(self, now: int) -> int:
        """Group round-trip time, ns: no answer comes sooner than two packets take."""
        return max(self._grtt, self._config.grtt_min, 2 * self._packet_time(now))

    def announced(self, now: int) -> tuple[int, int]:
        """Return GRTT and group size as an SPM says them, quantised."""
        return quantise_grtt(self.grtt(now)), quantise_gsize(self._gsize)

    def backoff_factor(self, asking: int) -> int:
        """K for the group size, or for the `asking` if they are fewer than it starts at."""
        if self._config.backoff_factor:
            return self._config.backoff_factor
        is_small = asking and self._gsize <= self._config.gsize_start
        return backoff_factor(asking if is_small else gsize_of(quantise_gsize(self._gsize)))

    def measure(self, now: int, timestamp: int) -> None:
        """Take the echo of our clock in a NAK."""
        rtt = now - timestamp
        if not 0 < rtt <= self._config.grtt_max:
            return
        self._answered_at = now
        self._grtt_peak = max(self._grtt_peak, rtt)
        if not self._is_measured:
            # The start value was a guess: the first answer is better.
            self._grtt, self._is_measured = rtt, True
            self._grtt_at = self._gsize_at = now
        self._grtt = max(self._grtt, rtt)

    def overlap(self) -> None:
        """Note that a NAK asked for what is queued already."""
        self._overlaps += 1

    def age(self, now: int, asking: int) -> None:
        """Let time pass: call before each SPM.

        Args:
            asking: Sources that sent NAKs lately.
        """
        if not self._is_measured:
            return
        config = self._config
        probe_time = max(config.probe_time, config.probe_grtt * self._grtt)
        if now - self._grtt_at >= min(probe_time, config.probe_longest):
            # RFC 5401 section 3.7.1: up at once, down by a tenth.
            if self._grtt_peak:
                self._grtt = max(self._grtt * 9 // 10, self._grtt_peak)
            self._grtt_peak, self._grtt_at = 0, now
        if now - self._answered_at >= config.grtt_life:
            # With one that is too long nobody asks, and it would stay for ever.
            self._grtt = max(self._grtt // 2, min(self._grtt, config.grtt_start))
            self._answered_at = now
        if now - self._gsize_at >= config.gsize_time:
            # NAKs of independent losses overlap as well: those who asked say how far it may go.
            base = max(asking, config.gsize_start)
            grows = self._overlaps > config.overlaps_wanted
            grown = self._gsize * (2 if grows else 0.9)
            self._gsize = min(max(grown, base), config.most_silent * base)
            self._overlaps, self._gsize_at = 0, now
