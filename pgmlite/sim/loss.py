"""How a network loses packets, drawn for all receivers of a group at once.

Every model gives a matrix (receivers, packets) of bool, True where a packet does not arrive, and
draws only from the generator that it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Shares = npt.NDArray[np.float32]


class LossModel(Protocol):
    """What loses the packets on the way to a group."""

    def draw(self, packets: int) -> Flags:
        """Return (receivers, packets) for the next packets sent: True where one is lost."""


class Independent:
    """Each receiver loses each packet by itself."""

    def __init__(self, shares: Sequence[float], rng: np.random.Generator) -> None:
        """
        Args:
            shares: (receivers,), the probability of each one's losses, 0 to 1.
        """
        self._shares: Shares = np.asarray(shares, np.float32)[:, None]
        self._is_clean = not self._shares.any()
        self._rng = rng

    def draw(self, packets: int) -> Flags:
        """Return (receivers, packets): True where one is lost."""
        shape = len(self._shares), packets
        if self._is_clean:
            return np.zeros(shape, np.bool_)
        lost: Flags = self._rng.random(shape, dtype=np.float32) < self._shares
        return lost


class Tree:
    """A tree of links: what a link loses is lost by every receiver behind it.

    The first link is one for all, the last is each receiver's own, and the levels between grow by
    equal factors. A tree with one level is the loss of the first link, shared by everybody.
    """

    def __init__(self, receivers: int, shares: Sequence[float], rng: np.random.Generator) -> None:
        """
        Args:
            shares: The probability that a link of each level loses a packet, the first link first.
        """
        self._levels = []
        steps = max(1, len(shares) - 1)
        for level, share in enumerate(shares):
            links = round(receivers ** (level / steps))
            self._levels.append(
                (Independent([share] * links, rng), np.arange(receivers) * links // receivers)
            )

    def draw(self, packets: int) -> Flags:
        """Return (receivers, packets): True where one is lost."""
        (first, links), *rest = self._levels
        lost: Flags = first.draw(packets)[links]
        for model, behind in rest:
            lost |= model.draw(packets)[behind]
        return lost


class GilbertElliott:
    """Losses in bursts: a link that is good for a while loses nothing, then it loses everything.

    The chain of Gilbert: both states last for a geometric number of packets (Gilbert 1960; Elliott
    1963 with loss 0 and 1 in the two states).
    """

    def __init__(
        self, receivers: int, mean: float, burst: float, rng: np.random.Generator
    ) -> None:
        """
        Args:
            mean: Share of the packets that is lost in the long run, 0 to less than 1.
            burst: Mean length of a burst of losses, packets, at least 1.
        """
        self._rng = rng
        self._end = 1 / burst
        self._begin = mean / (1 - mean) / burst
        self._is_bad: Flags = rng.random(receivers) < mean

    def draw(self, packets: int) -> Flags:
        """Return (receivers, packets): True where one is lost."""
        draws = self._rng.random((packets, len(self._is_bad)), dtype=np.float32)
        lost = np.empty(draws.shape, np.bool_)
        for place, row in enumerate(draws):
            lost[place] = self._is_bad
            # Where it is bad it stays so unless the draw is low; where it is good, the reverse.
            self._is_bad = np.where(self._is_bad, row >= self._end, row < self._begin)
        return np.ascontiguousarray(lost.T)


class OncePerBlock:
    """Every receiver loses the same packets: one in the middle of each stretch, from the second on.

    What suppression is measured with: a loss that all share, and time enough between two.
    """

    def __init__(self, receivers: int, stretch: int, stretches: int) -> None:
        """
        Args:
            stretch: Packets from one loss to the next.
            stretches: Losses in all.
        """
        self._receivers = receivers
        self._stretch = stretch
        self._last = stretch * (stretches + 1)
        self._sent = 0

    def draw(self, packets: int) -> Flags:
        """Return (receivers, packets): True where one is lost."""
        numbers = np.arange(self._sent, self._sent + packets)
        self._sent += packets
        hit = (numbers % self._stretch == self._stretch // 2) & (numbers >= self._stretch)
        hit &= numbers < self._last
        return np.broadcast_to(hit, (self._receivers, packets))
