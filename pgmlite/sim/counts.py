"""Any number of receivers as counts: how many symbols each one lacks, and not which.

Where losses do not depend on one another, the symbols that a receiver lacks are as likely to be any
of their kind as any others, so that counts say when it is done. What is left out is delays, nodes
of the tree and SPMs. A million receivers take seconds, and some tens of bytes each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np
import numpy.typing as npt

from pgmlite.sim.fec_theory import extra_symbols
from pgmlite.sim.rounds import Ring, Rounds

Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Shares = npt.NDArray[np.float64]


def plain_carousel(symbols: int, losses: Shares, rng: np.random.Generator) -> Counts:
    """Return (receivers,) after how many symbols each is done, of a carousel without repairs.

    Args:
        losses: (receivers,), the probability with which each one loses a packet.
    """
    done = np.zeros(len(losses), np.int64)
    left = np.arange(len(losses))
    missing = np.full(len(losses), symbols, np.int64)
    cycle = 0
    while len(left):
        lost = rng.binomial(missing, losses[left])
        ends = lost == 0
        # The last of so many places that are any of a cycle: right to less than one symbol.
        draws = rng.random(np.count_nonzero(ends)) ** (1 / missing[ends])
        done[left[ends]] = cycle * symbols + np.ceil(symbols * draws if cycle else symbols)
        left, missing = left[~ends], lost[~ends]
        cycle += 1
    return done


def fec_carousel(rings: Sequence[Ring], losses: Shares, rng: np.random.Generator) -> Counts:
    """Return (receivers,) after how many symbols each is done, of a carousel in rounds.

    Args:
        losses: (receivers,), the probability with which each one loses a packet.
    """
    rounds = Rounds(rings)
    done = np.zeros(len(losses), np.int64)
    for block, ring in enumerate(rings):
        _Block(rounds, block, ring, losses, rng).run(done)
    return done


@lru_cache(64)
def _nth(sent: int) -> Shares:
    """Return for each (came, n) how likely the n-th of those that came is within so many places.

    Any `came` of `sent` symbols are as likely as any others. To each row of `sent` + 1 its number
    is added, so that all rows ascend as one.
    """
    rows = np.ones((sent + 1, sent + 1, sent + 1))
    for came in range(1, sent + 1):
        for wanted in range(1, came + 1):
            for places in range(sent + 1):
                rows[came, wanted, places] = sum(
                    comb(places, some) * comb(sent - places, came - some)
                    for some in range(wanted, min(came, places) + 1)
                ) / comb(sent, came)
    numbers = np.arange((sent + 1) ** 2).reshape(sent + 1, sent + 1, 1)
    ascending: Shares = rows + numbers
    return ascending.ravel()


LEFT = np.dtype(
    [
        ("number", np.int32),
        ("loss", np.float32),
        ("luck", np.float32),
        ("missing", np.int32),
        ("extra", np.int32),
        ("repairs", np.int32),
        ("ahead", np.int32),
    ]
)
"""A receiver that is not done with a block: which one it is; its share of packets lost; what
decides about, and how many symbols too many it needs; source symbols missing; repair symbols that
came; and
lacking symbols of this part of the ring that were not sent in this turn."""


class _Block:
    """What all receivers that are not done with a block lack of it."""

    def __init__(
        self, rounds: Rounds, block: int, ring: Ring, losses: Shares, rng: np.random.Generator
    ) -> None:
        self._rounds = rounds
        self._block = block
        self._ring = ring
        self._rng = rng
        self._sizes: list[int] = rounds.sizes[rounds.kind_of[block]].tolist()
        self._left = np.zeros(len(losses), LEFT)
        self._left["number"] = np.arange(len(losses))
        self._left["loss"] = losses
        self._left["luck"] = rng.random(len(losses))
        self._unsent = 0
        """Symbols of this part of the ring that were not sent in this turn."""

    def run(self, done: Counts) -> None:
        """Send the block until everybody has it; raise `done` to when that is."""
        before = self._pass_source(done)
        visit = self._rounds.source
        while len(self._left):
            place = visit % len(self._rounds)
            sequence, _ = self._rounds.sequence(place)
            if place in {0, self._rounds.source}:
                self._begin_part(is_source=place == 0)
            if size := self._sizes[place]:
                ends, number = self._send(size, is_source=place < self._rounds.source)
                mine = np.flatnonzero(sequence == self._block)
                self._end(done, ends, before + mine[number] + 1)
            before += len(sequence)
            visit += 1

    def _pass_source(self, done: Counts) -> int:
        """Send all source symbols once; return how many symbols of all blocks that takes."""
        *most, last = (self._rounds.sequence(place)[0] for place in range(self._rounds.source))
        before = sum(map(len, most))
        left = self._left
        left["missing"] = self._rng.binomial(self._ring[0], left["loss"])
        left["extra"] = extra_symbols(left["missing"], left["luck"])
        latest = before + np.flatnonzero(last == self._block)[-1:] + 1
        self._end(done, left["missing"] == 0, latest)
        return before + len(last)

    def _end(self, done: Counts, ends: Flags, when: Counts) -> None:
        """Note when receivers had the block, and forget them."""
        who = self._left["number"][ends]
        done[who] = np.maximum(done[who], when)
        self._left = self._left[~ends]

    def _begin_part(self, *, is_source: bool) -> None:
        """Begin with all source, or all repair symbols, of which those that came are of no use."""
        left = self._left
        left["ahead"] = left["missing"] if is_source else self._ring[1] - left["repairs"]
        self._unsent = self._ring[not is_source]

    def _send(self, size: int, *, is_source: bool) -> tuple[Flags, Counts]:
        """Send a visit; return whom it completes, and with which of its symbols, from 0."""
        left = self._left
        wanted = left["missing"] - left["repairs"] + left["extra"]
        if is_source:
            wanted = np.minimum(wanted, left["missing"])
        wanted = np.maximum(1, wanted)
        others = self._unsent - left["ahead"]
        sent = self._rng.hypergeometric(left["ahead"], others, size) if others.any() else size
        came = self._rng.binomial(sent, 1 - left["loss"])
        self._unsent -= size
        left["ahead"] -= sent
        if is_source:
            left["missing"] -= came
            left["extra"] = extra_symbols(left["missing"], left["luck"])
        else:
            left["repairs"] += came
        ends: Flags = came >= wanted
        rows = came[ends] * (size + 1) + wanted[ends]
        draws = 1 - self._rng.random(len(rows))
        return ends, np.searchsorted(_nth(size), rows + draws) - rows * (size + 1) - 1
