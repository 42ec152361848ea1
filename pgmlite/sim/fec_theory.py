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

from pgmlite.sim.rounds import VISIT, Counts, Ring, Rounds
from pgmlite.sim.theory import NEGLIGIBLE, Losses

Shares = npt.NDArray[np.float64]

LOG_NEVER = -1e6
"""Stands for the logarithm of 0."""

MOST_EXTRA = 60
"""More symbols too many are as likely as one in 2**60."""

FEW = 24
"""From so many missing symbols on the shares are those of any more, to seven digits."""

SETTLED = 64
"""From so many missing symbols on the number of symbols too many no longer depends on it."""


def undecodable(missing: int, extra: int) -> float:
    """Return the probability that `missing` + `extra` repair symbols do not give `missing` ones.

    Of (missing + extra) x missing coefficients, each 0 or 1 by the toss of a coin, it is
    1 - product over i = extra + 1 to extra + missing of (1 - 2**-i).
    """
    powers = np.arange(extra + 1, extra + min(missing, SETTLED) + 1)
    return -math.expm1(float(np.log1p(-(2.0**-powers)).sum()))


FAILING = np.array(
    [[undecodable(missing, extra) for extra in range(MOST_EXTRA)] for missing in range(SETTLED + 1)]
)
"""(missing, extra): `undecodable`."""

EXTRA_SHARES = -np.diff(FAILING, axis=1, prepend=1.0)
"""(missing, extra): how likely exactly so many symbols are too many."""


def extra_symbols(missing: Counts, luck: Shares) -> Counts:
    """Return (n,) how many symbols too many decoding takes.

    Args:
        luck: (n,) 0 to 1, equally likely to be anything.
    """
    extra: Counts = np.searchsorted(-FAILING[SETTLED], -luck).astype(np.int64)
    few = np.flatnonzero(missing < FEW)
    for number in np.unique(missing[few]).tolist():
        mine = few[missing[few] == number]
        extra[mine] = np.searchsorted(-FAILING[number], -luck[mine])
    return extra


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


def failing(source: Sequence[int], repair: Sequence[int], loss: float) -> float:
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


def _log_all(source: Sequence[int], repair: Sequence[int], losses: Losses) -> float:
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
    """What is known of all receivers after so many symbols of each block."""

    def __init__(self, rounds: Rounds, losses: Losses, joined: int) -> None:
        self._losses = losses
        self._rounds = rounds
        self._turns = [np.concatenate(rounds.esis(ring)) for ring in rounds.kinds]
        starts = np.cumsum(rounds.sizes, axis=1) - rounds.sizes
        places = [(begin + joined) % len(rounds) for begin in rounds.begins]
        self._starts = starts[:, places].tolist()
        self._sent = [0] * len(rounds.kinds)
        self._number: list[int] = np.bincount(rounds.kind_of).tolist()
        self._place = places[0]
        self.log_done = lru_cache(None)(self._log_done)

    def _log_done(self, kind: int, sent: int) -> float:
        """Return ln P(all receivers have a block of which each sender sent so many symbols)."""
        turn, source = self._turns[kind], self._rounds.kinds[kind][0]
        turns, rest = divmod(sent, len(turn))
        times = np.full(len(turn), turns * len(self._starts[kind]), np.int64)
        for start in self._starts[kind]:
            times[turn[(start + np.arange(rest)) % len(turn)]] += 1
        counts = np.bincount(times[:source]).tolist(), np.bincount(times[source:]).tolist()
        return max(LOG_NEVER, _log_all(*counts, self._losses))

    def total(self) -> float:
        """Return ln P(all receivers have all blocks)."""
        total = 0.0
        for kind, (number, sent) in enumerate(zip(self._number, self._sent, strict=True)):
            total += number * self.log_done(kind, sent)
        return total

    def visit(self) -> Shares:
        """Return ln P(all receivers have all blocks) after each symbol of one more visit."""
        visit = self._place % len(self._rounds)
        block, number = self._rounds.sequence(visit)
        gains = np.zeros((len(self._sent), VISIT + 1))
        before = self.total()
        for kind, size in enumerate(self._rounds.sizes[:, visit].tolist()):
            sent = self._sent[kind]
            logs = [self.log_done(kind, sent + more) for more in range(size + 1)]
            gains[kind, :size] = np.diff(logs)
            self._sent[kind] += size
        self._place += 1
        logs_after: Shares = before + np.cumsum(gains[self._rounds.kind_of[block], number])
        # What is nearly 0 at the end is not the difference of what was large before.
        logs_after += (self.total() - logs_after[-1]) if len(logs_after) else 0.0
        return logs_after


def fec_completion(
    rings: Sequence[Ring], losses: Losses, *, senders: int = 1, joined: int = 0
) -> Completion:
    """Return when all receivers have all blocks from a carousel in rounds.

    ln P(all done) is the sum over receivers and blocks of ln(1 - the probability that the block
    fails); each symbol sent changes one term. Whether a first pass sends the source block after
    block makes no difference to who is there from the start.

    Args:
        rings: Of the blocks.
        senders: Of one rate, each beginning at its sector of the ring.
        joined: Visits that had been sent when the receivers began to listen.
    """
    carousel = _Carousel(Rounds(rings, senders), losses, joined)
    first = 0
    parts: list[Shares] = []
    while carousel.total() < -NEGLIGIBLE:
        done = np.exp(np.minimum(carousel.visit(), 0.0))
        if parts or done[-1] > 0:
            parts.append(done)
        else:
            first += len(done)
    return Completion(sum(ring[0] for ring in rings), first, np.concatenate(parts))


def nak_count_sent(ring: Ring, losses: Losses) -> float:
    """Return the mean object lengths sent of a block if whoever lacks symbols asks for a count.

    The mean of the largest of as many times as there are receivers until a block's symbols and
    those too many came, while each symbol sent is a new one: the least that any repair can do.
    """
    source, sent, total = ring[0], ring[0], 0.0
    while True:
        unfinished = -math.expm1(_log_all([0, source], [0, sent - source], losses))
        total += unfinished
        if unfinished < NEGLIGIBLE:
            return (source + total) / source
        sent += 1
