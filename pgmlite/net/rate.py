"""Whether a sender keeps the rate that it was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pgmlite.core.causes import Fact
from pgmlite.core.human import human_rate
from pgmlite.core.machine import SECOND
from pgmlite.core.send.counters import rate_of

WINDOW = 10 * SECOND
"""ns: what is looked at, and how often a rate that is not reached is told."""

SHORTEST = 1 * SECOND
"""ns at the end that say something."""

REACHED = 0.9
"""Share of the rate from which on it counts as kept."""


class RateWatch:
    """Says when what goes out is less than was asked for: this machine, or its link, is slow."""

    def __init__(
        self, rate: int | None, warn: Callable[[str, Mapping[str, Fact]], None], name: str = ""
    ) -> None:
        """
        Args:
            rate: bit/s; None: no limit, and nothing to reach.
            warn: Takes words, and the figures in them.
            name: What the words begin with.
        """
        self._name = name
        self._rate = rate
        self._warn = warn
        self._since = (0, 0)
        self._unsent = 0

    def look(self, throughput: tuple[int, int], unsent: int, *, is_over: bool = False) -> None:
        """Compare: wire bytes since the start, and in how many ns (`Lane.throughput`).

        Args:
            unsent: Packets that were refused since the start: they are told of elsewhere.
            is_over: Look at what there is, though it is less than a window.
        """
        octets, elapsed = throughput[0] - self._since[0], throughput[1] - self._since[1]
        if self._rate is None or elapsed < (SHORTEST if is_over else WINDOW):
            return
        was_refused = unsent > self._unsent
        self._since, self._unsent = throughput, unsent
        achieved = rate_of(octets, elapsed)
        if achieved < REACHED * self._rate and not was_refused:
            self._warn(
                f"{self._name}asked for {human_rate(self._rate)}, sent {human_rate(achieved)} in "
                f"the last {elapsed / SECOND:.0f} s: this machine or its link is too slow",
                {"rate": self._rate, "achieved_rate": achieved},
            )
