"""How a network loses packets, drawn for all receivers of a group at once.

Every model gives a matrix (receivers, packets) of bool, True where a packet does not arrive, and
draws only from the generator that it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pgmlite.wire.batch import Flags, PacketBatch
from pgmlite.wire.layout import PacketType
from pgmlite.wire.manifest import Manifest

Shares = npt.NDArray[np.float32]


class LossModel(Protocol):
    """What loses the packets on the way to a group."""

    def draw(self, batch: PacketBatch) -> Flags:
        """Return (receivers, packets) for the batch sent next: True where a packet is lost."""


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

    def draw(self, batch: PacketBatch) -> Flags:
        """Return (receivers, packets): True where a packet is lost."""
        shape = len(self._shares), len(batch)
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

    def draw(self, batch: PacketBatch) -> Flags:
        """Return (receivers, packets): True where a packet is lost."""
        (first, links), *rest = self._levels
        lost: Flags = first.draw(batch)[links]
        for model, behind in rest:
            lost |= model.draw(batch)[behind]
        return lost


class GilbertElliott:
    """Losses in bursts: a link that is good for a while loses nothing, then it loses everything.

    The chain of Gilbert: both states last for a geometric number of packets (Gilbert 1960; Elliott
    1963 with loss 0 and 1 in the two states).
    """

    def __init__(self, receivers: int, mean: float, burst: float, rng: np.random.Generator) -> None:
        """
        Args:
            mean: Share of the packets that is lost in the long run, 0 to less than 1.
            burst: Mean length of a burst of losses, packets, at least 1.
        """
        self._rng = rng
        self._end = 1 / burst
        self._begin = mean / (1 - mean) / burst
        self._is_bad: Flags = rng.random(receivers) < mean

    def draw(self, batch: PacketBatch) -> Flags:
        """Return (receivers, packets): True where a packet is lost."""
        draws = self._rng.random((len(batch), len(self._is_bad)), dtype=np.float32)
        lost = np.empty(draws.shape, np.bool_)
        for place, row in enumerate(draws):
            lost[place] = self._is_bad
            # Where it is bad it stays so unless the draw is low; where it is good, the reverse.
            self._is_bad = np.where(self._is_bad, row >= self._end, row < self._begin)
        return np.ascontiguousarray(lost.T)


class OncePerBlock:
    """Every receiver loses the same symbols, once: the middle one of each block but two.

    What suppression is measured with. The first block is spared, because a sender is not asked
    before it has sent some packets; the last one, because nothing follows that shows its end.
    """

    def __init__(
        self, receivers: int, manifest: Manifest, *, tolerance: int, clock: Callable[[], int]
    ) -> None:
        """
        Args:
            tolerance: How many later packets a receiver waits for before it takes one for lost.
            clock: Tells the time, ns.
        """
        self._receivers = receivers
        self._tolerance = tolerance
        self._clock = clock
        self.passed: list[int] = []
        """When each block had been sent so far that its losses can be told, ns."""

        self._symbol_size = manifest.symbol_size
        per_block = self._per_block = manifest.block_symbols
        self._due: Flags = np.zeros(manifest.symbols, np.bool_)
        self._due[per_block + per_block // 2 : -per_block : per_block] = True

    def draw(self, batch: PacketBatch) -> Flags:
        """Return (receivers, packets): True where a packet is lost."""
        hit = np.zeros(len(batch), np.bool_)
        if batch.kind is PacketType.ODATA:
            symbols = batch.offsets // self._symbol_size
            hit = self._due[symbols]
            self._due[symbols] = False
            known = int(symbols[-1]) + 1 - self._tolerance
            while len(self.passed) < known // self._per_block:
                self.passed.append(self._clock())
        return np.broadcast_to(hit, (self._receivers, len(batch)))
