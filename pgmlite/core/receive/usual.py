"""Which loss is usual, and which is more than that (spec: RTE-11)."""

from __future__ import annotations

from collections import deque
from math import sqrt

from pgmlite.core.receive.traffic import Seen

LOOKS = 32
"""Latest looks that say what loss is usual: a quarter of them had no more. Losses that somebody
else's try causes, for a dozen looks, are not."""

CHANCE = 3.0
"""Standard deviations by which a share may be off by chance."""


class UsualLoss:
    """The share of packets that is lost whatever a receiver hears.

    Attributes:
        share: 0 to 1.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self._latest: deque[float] = deque(maxlen=LOOKS)

    def add(self, loss: float) -> None:
        """Take one more look."""
        self._latest.append(loss)
        self.share = sorted(self._latest)[len(self._latest) // 4]

    def settle(self, loss: float) -> None:
        """Take a loss for usual that there is nothing to do about."""
        self._latest.extend([loss] * LOOKS)
        self.share = loss

    def is_exceeded(self, seen: Seen, allowed: float) -> bool:
        """Whether more was lost than what is usual, `allowed` besides, and chance."""
        number = max(1, seen.packets)
        likely = min(max(self.share, 1 / number), 1.0)
        chance = CHANCE * sqrt(likely * (1 - likely) / number)
        return seen.loss > self.share + allowed + chance
