"""Any number of receivers as counts: how many symbols each one lacks, and not which.

Where losses do not depend on one another, the symbols that a receiver lacks are as likely to be any
of their kind as any others, so that counts say when it is done. What is left out is delays, nodes
of the tree and SPMs. A million receivers take seconds, and some tens of bytes each.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from math import comb

import numpy as np
import numpy.typing as npt

from pgmlite.core.ring import Ring
from pgmlite.sim.luck import extra_symbols
from pgmlite.wire.geometry import Geometry, Ids

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


def fec_carousel(geometry: Geometry, losses: Shares, rng: np.random.Generator) -> Counts:
    """Return (receivers,) after how many symbols each is done, of a carousel in rounds.

    Args:
        losses: (receivers,), the probability with which each one loses a packet.
    """
    ring = Ring(geometry)
    done = np.zeros(len(losses), np.int64)
    for block in range(geometry.blocks):
        _Block(ring, block, losses, rng).run(done)
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


STEP = 16
"""Symbols of a block that are sent in one step."""

LEFT = np.dtype(
    [
        ("number", np.int32),
        ("loss", np.float32),
        ("luck", np.float64),
        ("missing", np.int32),
        ("extra", np.int32),
        ("repairs", np.int32),
        ("ahead", np.int32),
    ]
)
"""A receiver that is not done with a block: which one it is; its share of packets lost; what
decides about, and how many symbols too many it needs; source symbols missing; repair symbols that
came; and lacking symbols of this part of the ring that were not sent in this turn."""


class _Block:
    """What all receivers that are not done with a block lack of it."""

    def __init__(self, ring: Ring, block: int, losses: Shares, rng: np.random.Generator) -> None:
        geometry = ring.geometry
        self._rng = rng
        self._source, self._repairs = geometry.source(block), geometry.repairs(block)
        count = geometry.ring(block)
        ids = Ids(np.full(count, block, np.int64), np.arange(count, dtype=np.int64))
        self._places: Counts = ring.places(ids, 0) + 1
        self._turn = ring.turn
        self._left = np.zeros(len(losses), LEFT)
        self._left["number"] = np.arange(len(losses))
        self._left["loss"] = losses
        self._left["luck"] = rng.random(len(losses))
        self._unsent = 0
        """Symbols of this part of the ring that were not sent in this turn."""

    def run(self, done: Counts) -> None:
        """Send the block until everybody has it; raise `done` to when that is."""
        self._pass_source(done)
        parts = (range(self._source), range(self._source, self._source + self._repairs))
        for part in count(1):
            if not len(self._left):
                return
            esis = parts[part % 2]
            turns = part // 2 * self._turn
            is_source = not part % 2
            self._begin_part(is_source=is_source)
            for first in range(esis.start, esis.stop, STEP):
                size = min(STEP, esis.stop - first)
                ends, number = self._send(size, is_source=is_source)
                self._end(done, ends, turns + self._places[first + number])

    def _pass_source(self, done: Counts) -> None:
        """Send all source symbols once: nobody is done before the last of them."""
        left = self._left
        left["missing"] = self._rng.binomial(self._source, left["loss"])
        left["extra"] = extra_symbols(left["missing"], left["luck"])
        self._end(done, left["missing"] == 0, self._places[self._source - 1 : self._source])

    def _end(self, done: Counts, ends: Flags, when: Counts) -> None:
        """Note when receivers had the block, and forget them."""
        who = self._left["number"][ends]
        done[who] = np.maximum(done[who], when)
        self._left = self._left[~ends]

    def _begin_part(self, *, is_source: bool) -> None:
        """Begin with all source, or all repair symbols, of which those that came are of no use."""
        left = self._left
        left["ahead"] = left["missing"] if is_source else self._repairs - left["repairs"]
        self._unsent = self._source if is_source else self._repairs

    def _send(self, size: int, *, is_source: bool) -> tuple[Flags, Counts]:
        """Send some symbols; return whom they complete, and with which of them, from 0."""
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
