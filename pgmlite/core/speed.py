"""How fast bytes went by of late."""

from __future__ import annotations

from collections import deque

from pgmlite.core.machine import MS, SECOND

WINDOW = 5 * SECOND
"""ns that count: long enough for the gaps between two reads, short enough to see a change."""

SAMPLE_EVERY = 500 * MS
"""ns between two samples that are kept."""


class Speed:
    """Bits a second of the last seconds, by a counter of bytes that is looked at now and then."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque()
        """(ns, bytes) of looks, the oldest of which is as old as `WINDOW`, or a little older."""

    def rate(self, now: int, total: int) -> int:
        """Return bit/s, `total` bytes having gone by at `now` ns; 0: no time has passed.

        The first look is the beginning.
        """
        samples = self._samples
        if not samples or now - samples[-1][0] >= SAMPLE_EVERY:
            samples.append((now, total))
        while len(samples) > 1 and now - samples[1][0] >= WINDOW:
            samples.popleft()
        then, before = samples[0]
        return (total - before) * 8 * SECOND // (now - then) if now > then else 0
