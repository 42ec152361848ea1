"""Closed forms of repair symbols: when a block decodes, and when a carousel of them is done.

The model: losses that do not depend on one another, no delays, and a code that behaves as random
coefficients in GF(2) do. Within it the forms are exact. Lengths are in object lengths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pgmlite.core.receive.counts import EXTRA
from pgmlite.core.ring import Ring
from pgmlite.sim.theory import NEGLIGIBLE, Losses
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import VISIT_SYMBOLS, Order

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]

LOG_NEVER = -1e6
"""Stands for the logarithm of 0."""

MOST_EXTRA = 60
"""More symbols too many are as likely as one in 2**60."""

SETTLED = 64
"""From so many missing symbols on the number of symbols too many no longer depends on it."""


def undecodable(missing: int, extra: int) -> float:
    """Return the probability that `missing` + `extra` repair symbols do not give `missing` ones.

    Of (missing + extra) x missing coefficients, each 0 or 1 by the toss of a coin, it is
    1 - product over i = extra + 1 to extra + missing of (1 - 2**-i).
    """
    powers = np.arange(extra + 1, extra + min(missing, SETTLED) + 1)
    return -math.expm1(float(np.log1p(-(2.0**-powers)).sum()))


def _extra_shares() -> Shares:
    """Return (missing, extra): how likely exactly so many symbols are too many."""
    failing = [
        [1.0] * (1 + EXTRA) + [undecodable(missing, extra) for extra in range(EXTRA, MOST_EXTRA)]
        for missing in range(SETTLED + 1)
    ]
    return -np.diff(np.array(failing))


EXTRA_SHARES = _extra_shares()


@lru_cache(4_096)
def _binomial(count: int, share: float) -> Shares:
    """Return (count + 1,) how likely each number of `count` is, each with probability `share`."""
    if share in {0.0, 1.0}:
        certain = np.zeros(count + 1)
        certain[round(count * share)] = 1
        return certain
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))
    numbers = np.arange(count + 1)
    exponents = logs[-1] - logs - logs[::-1]
    likely: Shares = np.exp(
        exponents + numbers * math.log(share) + numbers[::-1] * math.log1p(-share)
    )
    likely /= likely.sum()
    return likely


def _sum_of(parts: Iterator[tuple[int, float]]) -> Shares:
    """Return the distribution of a sum of binomial numbers."""
    total = np.ones(1)
    for count, share in parts:
        if count:
            total = np.convolve(total, _binomial(count, share))
    return total


@lru_cache(65_536)
def failing(source: tuple[int, ...], repair: tuple[int, ...], loss: float) -> float:
    """Return the probability that a receiver can't decode a block yet.

    Args:
        source: [times]: how many of the source symbols were sent so many times.
        repair: The same of the repair symbols.
        loss: Probability that a packet is lost, 0 to less than 1.
    """
    missing = _sum_of((count, loss**times) for times, count in enumerate(source))
    came = _sum_of((count, 1 - loss**times) for times, count in enumerate(repair))
    fewer = np.concatenate(([0.0], np.cumsum(came), np.ones(1)))  # [n]: fewer than n came
    counts = np.flatnonzero(missing[1:] > NEGLIGIBLE**2) + 1
    needed = np.minimum(counts[:, None] + np.arange(MOST_EXTRA), len(came))
    lacking = (EXTRA_SHARES[np.minimum(counts, SETTLED)] * fewer[needed]).sum(axis=1)
    return float(missing[counts] @ lacking)


def _log_all(source: tuple[int, ...], repair: tuple[int, ...], losses: Losses) -> float:
    """Return ln P(all receivers can decode a block); arguments as of `failing`."""
    logs = 0.0
    for loss, receivers in losses:
        share = failing(source, repair, loss)
        logs += receivers * math.log1p(-share) if share < 1 else -math.inf
    return logs


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """When the last of all receivers is done.

    Attributes:
        symbols: Of the object.
        first: Symbols before which nobody is.
        done: (n,), the probability that all are after `first` + 1, + 2 ... symbols of one sender.
    """

    symbols: int
    first: int
    done: Shares

    @property
    def mean(self) -> float:
        """Object lengths that one sender sends, on average."""
        return (self.first + 1 + float((1 - self.done).sum())) / self.symbols

    def quantile(self, share: float = 0.5) -> float:
        """Return the object lengths within which all are done with probability `share`."""
        return (self.first + 1 + int(np.searchsorted(self.done, share))) / self.symbols


class _Carousel:
    """What is known of all receivers after so many symbols of each block.

    All blocks but the last are alike, and so is what was sent of them at the end of a visit.
    """

    def __init__(self, rings: Sequence[Ring], losses: Losses, joined: int) -> None:
        """
        Args:
            rings: Of the senders.
            joined: Place of their carousels at which the receivers begin to listen.
        """
        geometry = rings[0].geometry
        self._ring = rings[0]
        self._losses = losses
        self._place = joined
        self._kinds = [0, geometry.blocks - 1]
        self._source = [geometry.source(block) for block in self._kinds]
        self._turns = [[_turn_of(ring, block, joined) for ring in rings] for block in self._kinds]
        self._sent: Counts = np.zeros(geometry.blocks, np.int64)
        self.log_done = lru_cache(None)(self._log_done)

    def _log_done(self, kind: int, sent: int) -> float:
        """Return ln P(all receivers have a block of which each sender sent so many symbols)."""
        turns, source = self._turns[kind], self._source[kind]
        whole, rest = divmod(sent, len(turns[0]))
        times = np.full(len(turns[0]), whole * len(turns), np.int64)
        for turn in turns:
            times[turn[:rest]] += 1
        counts = [tuple(np.bincount(part).tolist()) for part in (times[:source], times[source:])]
        return max(LOG_NEVER, _log_all(counts[0], counts[1], self._losses))

    def total(self) -> float:
        """Return ln P(all receivers have all blocks)."""
        *others, last = self._sent.tolist()
        return sum((self.log_done(0, sent) for sent in others), self.log_done(1, last))

    def go_on(self) -> Shares:
        """Return ln P(all receivers have all blocks) after each symbol of some more."""
        before = self.total()
        blocks = self._ring.ids(self._place, VISIT_SYMBOLS * len(self._sent)).blocks
        self._place += len(blocks)
        order = np.argsort(blocks, kind="stable")
        counts = np.bincount(blocks, minlength=len(self._sent))
        sent = np.empty(len(blocks), np.int64)
        sent[order] = np.arange(len(blocks)) - np.repeat(np.cumsum(counts) - counts, counts)
        sent += self._sent[blocks]
        gains = np.empty(len(blocks))
        for kind, is_mine in enumerate((blocks < self._kinds[1], blocks == self._kinds[1])):
            numbers, places = np.unique(sent[is_mine], return_inverse=True)
            steps = [
                self.log_done(kind, one + 1) - self.log_done(kind, one) for one in numbers.tolist()
            ]
            gains[is_mine] = np.array(steps)[places]
        self._sent += counts
        logs: Shares = before + np.cumsum(gains)
        # What is nearly 0 at the end is not the difference of what was large before.
        logs += self.total() - logs[-1]
        return logs


def _turn_of(ring: Ring, block: int, joined: int) -> Counts:
    """Return the encoding symbol ids of a block in the order of sending from a place on."""
    count = ring.geometry.ring(block)
    ids = Ids(np.full(count, block, np.int64), np.arange(count, dtype=np.int64))
    return np.argsort(ring.places(ids, joined))


def fec_completion(
    geometry: Geometry, losses: Losses, *, senders: int = 1, joined: int = 0
) -> Completion:
    """Return when all receivers have all blocks from a carousel in rounds.

    ln P(all done) is the sum over receivers and blocks of ln(1 - the probability that the block
    fails); each symbol sent changes one term. Whether a first pass sends the source block after
    block makes no difference to who is there from the start.

    Args:
        senders: Of one rate, each beginning at its share of the ring.
        joined: Place at which the receivers began to listen; their time counts from there.
    """
    rings = [Ring.of_sector(geometry, Order.ROUNDS, number, senders) for number in range(senders)]
    carousel = _Carousel(rings, losses, joined)
    first = 0
    parts: list[Shares] = []
    while carousel.total() < -NEGLIGIBLE:
        done = np.exp(np.minimum(carousel.go_on(), 0.0))
        if parts or done[-1] > 0:
            parts.append(done)
        else:
            first += len(done)
    return Completion(geometry.symbols, first, np.concatenate(parts))


def nak_count_sent(source: int, losses: Losses) -> float:
    """Return the mean object lengths sent of a block if whoever lacks symbols asks for a count.

    The mean of the largest of as many times as there are receivers until a block's symbols and
    those too many came, while each symbol sent is a new one: the least that any repair can do.

    Args:
        source: Symbols of the block.
    """
    sent, total = source, 0.0
    while True:
        unfinished = -math.expm1(_log_all((0, source), (0, sent - source), losses))
        total += unfinished
        if unfinished < NEGLIGIBLE:
            return (source + total) / source
        sent += 1
