"""What a carousel has left behind and what it is about to bring, of blocks, by its ring and place.

A ring says where single symbols are. Who asks for repairs, or sends them, wants to know it of all
blocks at once (spec: NAK-1, NAK-3, NAK-7).
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from pgmlite.core.ring import NEVER, Ring
from pgmlite.wire.batch import Flags
from pgmlite.wire.geometry import Ids
from pgmlite.wire.request import Symbols


@lru_cache(maxsize=1024)
def place_near(ring: Ring, block: int, esi: int, place: int) -> int:
    """Return at which place a symbol was sent that just came, of a carousel that was at `place`.

    It may have gone on by three quarters of a turn since, or the symbol be late by one. -1: that
    carousel does not send it.
    """
    ids = Ids(np.array([block], np.int64), np.array([esi], np.int64))
    after = max(0, place - ring.turn // 4)
    found = int(ring.places(ids, after)[0])
    if found == NEVER:
        return -1
    if after < ring.lead and found < place:
        # What a lead sends comes again after less than a turn.
        ahead = int(ring.places(ids, place)[0])
        return ahead if ahead - place < place - found else found
    return found


class Course:
    """What carousels with one ring bring of blocks."""

    def __init__(self, ring: Ring) -> None:
        """
        Args:
            ring: Of an object that is not empty.
        """
        self.ring = ring

    @property
    def _blocks(self) -> Symbols:
        """(blocks,) the numbers of all; not kept: many rings can be made up."""
        return np.arange(self.ring.geometry.blocks, dtype=np.int64)

    # Of objects without repair symbols: each block has one pass in a turn.

    def ended(self, start: int, stop: int, since: int) -> Symbols:
        """Return the blocks whose last symbol is at one of the places `start` to `stop`.

        Args:
            since: Only those whose first symbol of the same turn is at this place or later.
        """
        turn, (ends, spans, order) = self.ring.turn, self._passes
        first = start % turn
        last = first + min(stop - start, turn)
        low, high, wrapped = np.searchsorted(ends, (first, last, last - turn), side="right")
        if low == high and not wrapped:
            return order[:0]
        found = np.concatenate((np.arange(low, high), np.arange(wrapped)))
        begins = start + (ends[found] - first - 1) % turn + 1 - spans[found]
        blocks: Symbols = order[found[begins >= since]]
        return blocks

    @cached_property
    def _passes(self) -> tuple[Symbols, Symbols, Symbols]:
        """In order: where in a turn blocks end, after how many places, and which ones they are."""
        geometry, ring = self.ring.geometry, self.ring
        blocks = self._blocks
        firsts, lasts = np.zeros_like(blocks), np.zeros_like(blocks)
        # Every block but the last has its symbols in the same order.
        for block in {0, geometry.blocks - 1}:
            esis = np.arange(geometry.source(block), dtype=np.int64)
            places = ring.places(Ids(np.full_like(esis, block), esis), 0)
            like = slice(0, None) if not block else slice(block, None)
            firsts[like], lasts[like] = esis[places.argmin()], esis[places.argmax()]
        begins = ring.places(Ids(blocks, firsts), 0)
        ends = ring.places(Ids(blocks, lasts), 0) + 1
        order = np.argsort(ends)
        return ends[order], (ends - begins)[order], order.astype(np.int64)

    # Of objects with repair symbols: first a lead, if there is one, then rounds.

    def has_left(self, place: int) -> Flags:
        """Return (blocks,) whether nothing of a block comes before the first round."""
        if place >= self.ring.lead:
            return np.ones(self.ring.geometry.blocks, np.bool_)
        ends = self._lead_ends
        left: Flags = (ends <= place) | (ends > self.ring.lead)
        return left

    @cached_property
    def _lead_ends(self) -> Symbols:
        """(blocks,) places behind the last source symbol, in the lead or later."""
        blocks = self._blocks
        lasts = self.ring.geometry.sources(blocks) - 1
        ends: Symbols = self.ring.places(Ids(blocks, lasts), 0) + 1
        return ends

    def symbols_until(
        self, place: int, numbers: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Return (blocks,) how many symbols are sent in all until so many more of each block were.

        Args:
            place: Where the carousel is.
            numbers: (blocks,) symbols of each, in rounds.
        """
        ring, turn = self.ring, self.ring.turn_of
        visits = ring.visits
        sizes = np.full(len(numbers), turn.full / visits)
        sizes[-1:] = turn.last / visits
        # A short block may have nothing at all in a small territory.
        rounds = np.where(numbers > 0, np.inf, 0.0)
        np.divide(numbers, sizes, out=rounds, where=sizes > 0)
        return np.ceil(rounds) * (ring.turn / visits) + max(0, ring.lead - place)


@lru_cache(maxsize=16)
def course_of(ring: Ring) -> Course:
    """Return the course of a ring: receivers of a group share what is worked out of it."""
    return Course(ring)
