"""What is there of an object with repair symbols, and where it is put (spec: FEC-6).

Any symbol of a block may lie in any place of it, so that what is lost leaves no hole: a source
symbol goes to its own place if that is free; any other symbol goes to a free one, from the top of
the block down. Nothing is ever moved. When all places of a block are taken, what comes beside is
kept in memory (`surplus`), as far as the block may still need it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pgmlite.core.machine import Placed
from pgmlite.core.receive.blocks import HeldBefore, Kept, runs_of
from pgmlite.core.receive.counts import EXTRA, BlockCounts, BlockEvent, BlockState
from pgmlite.core.receive.places import Places
from pgmlite.core.receive.surplus import Surplus
from pgmlite.wire.batch import Flags, Octets, stretches
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.request import Symbols

SPARE_SYMBOLS = 8
"""Symbols beyond K that a block may have: more are needed once in 2^7 times, and come later."""

SUSPECT_SYMBOLS = 64
"""And one that has forged ones among them: they are found by what the others say."""


class _Found(NamedTuple):
    """(n,) symbols of a batch, ascending and distinct.

    Attributes:
        keys: Block times the longest ring, plus encoding symbol id.
        rows: Of the batch; None: they are all of it, in its order.
    """

    keys: Symbols
    blocks: Symbols
    esis: Symbols
    rows: Symbols | None

    def select(self, mask: Flags) -> _Found:
        """Return some of them."""
        rows = np.flatnonzero(mask) if self.rows is None else self.rows[mask]
        return _Found(self.keys[mask], self.blocks[mask], self.esis[mask], rows)


class CodedBlocks:
    """Which encoding symbols of an object are held, and where they are.

    Attributes:
        counts: How many symbols each block has, and where it is on its way.
        places: What lies where.
        suspects: Blocks that have a forged symbol.
    """

    def __init__(self, geometry: Geometry, max_surplus: int) -> None:
        """
        Args:
            max_surplus: Bytes in memory for symbols that have no place, at most.
        """
        self.geometry = geometry
        self.symbols = geometry.symbols
        self.counts = BlockCounts(geometry)
        self.suspects: set[int] = set()
        self.places = Places(geometry, self.counts)
        self._surplus = Surplus(geometry.symbol_size, max_surplus)

    @property
    def stored(self) -> int:
        """How much of the object is held, in source symbols."""
        return self.counts.stored

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The (start, stop) byte ranges of the object's source symbols that are not held."""
        return self.places.gaps

    def is_whole(self, block: int) -> bool:
        """Whether every source symbol of `block` lies in its place, and waits to be verified."""
        return self.counts.state(block) is BlockState.WHOLE

    def hold(self, before: HeldBefore) -> None:
        """Mark what a record has as held; where something lies already, that stays."""
        self.places.hold(before)

    def holds(self, block: int, esis: Symbols) -> Flags:
        """Return whether each of (n,) symbols of a block is held."""
        return self.places.holds(block, esis)

    def hold_each(self, ids: Ids) -> Flags:
        """Return whether each of (n,) symbols is held."""
        held: Flags = self.places.held[ids.blocks * self.places.stride + ids.esis]
        return held

    def held(self, block: int) -> Symbols:
        """Return the encoding symbol ids of what is held of a block."""
        start = block * self.places.stride
        return np.flatnonzero(self.places.held[start : start + self.places.stride])

    def look(self) -> tuple[list[int], list[int]]:
        """Return the blocks that are whole, and others that have enough symbols."""
        return self._look_at(np.arange(self.geometry.blocks))

    # What comes.

    def add(self, ids: Ids, payload: Octets) -> Kept:
        """Find places for (n,) symbols, of any order, and mark them as held.

        Args:
            payload: (n, width); what finds no place is copied, as far as there is room.
        """
        found, duplicates = self._fresh(ids)
        states = self.counts.states[found.blocks]
        unneeded = 0
        if states.any():
            wanted = (states == BlockState.OPEN) | (states == BlockState.DECODING)
            found, states = found.select(wanted), states[wanted]
            unneeded = len(wanted) - len(states)
        if not len(states):
            return Kept(slice(0), found.keys, duplicates=duplicates, unneeded=unneeded)
        places = self._own_places(found, states)
        are_placed = places >= 0
        are_own, spare = bool(are_placed.all()), 0
        if not are_own:
            spare, dropped = self._settle(found, places, payload)
            unneeded += dropped
            are_placed = places >= 0
        starts = np.flatnonzero(np.diff(found.blocks, prepend=-1))
        touched = found.blocks[starts]
        self.counts.add(touched, np.add.reduceat(are_placed.astype(np.int32), starts))
        if not are_placed.all():
            found, places = found.select(are_placed), places[are_placed]
        self.places.held[found.keys] = True
        whole, enough = self._look_at(touched)
        esis = None if are_own else found.esis
        rows = slice(0, len(ids)) if found.rows is None else found.rows
        if not are_own and not (places[1:] > places[:-1]).all():
            order = np.argsort(places)
            places, rows, esis = places[order], np.arange(len(ids))[rows][order], found.esis[order]
        return Kept(rows, places, esis, duplicates, unneeded, spare, tuple(whole), tuple(enough))

    def _fresh(self, ids: Ids) -> tuple[_Found, int]:
        """Return the symbols of a batch that are not held, and how many others there are."""
        keys = ids.blocks * self.places.stride + ids.esis
        rows: Symbols | None = None
        if not (keys[1:] > keys[:-1]).all():
            # Blocks take turns in a tile.
            rows = np.argsort(keys, kind="stable")
            keys = keys[rows]
        fresh = ~self.places.held[keys]
        fresh[1:] &= keys[1:] != keys[:-1]
        blocks = ids.blocks if rows is None else ids.blocks[rows]
        found = _Found(keys, blocks, keys - blocks * self.places.stride, rows)
        if fresh.all():
            return found, 0
        found = found.select(fresh)
        return found, len(keys) - len(found.keys)

    def _own_places(self, found: _Found, states: npt.NDArray[np.uint8]) -> Symbols:
        """Return the own places of those that are source symbols and may go there, now taken by
        them; of others -1.
        """
        places = found.blocks * self.geometry.block_symbols + found.esis
        places[found.esis >= self.counts.sources[found.blocks]] = -1
        is_taken = self.places.lying[places] != 0
        is_taken |= states == BlockState.DECODING
        places[is_taken] = -1
        own = places >= 0
        if own.all():
            self.places.lying[places] = found.esis + 1
        else:
            self.places.lying[places[own]] = found.esis[own] + 1
        return places

    def _settle(self, found: _Found, places: Symbols, payload: Octets) -> tuple[int, int]:
        """Give those that have no place (-1) a free one of their block; keep some of the others.

        Returns:
            How many are kept in memory, and how many are not.
        """
        spare = dropped = 0
        homeless = np.flatnonzero(places < 0)
        blocks = found.blocks[homeless]
        for start, stop in stretches(np.diff(blocks) != 0):
            some, block = homeless[start:stop], int(blocks[start])
            free = self._free(block, len(some))
            settled, rest = some[: len(free)], some[len(free) :]
            places[settled] = free
            self.places.lying[free] = found.esis[settled] + 1
            if len(rest):
                kept = self._spare(block, rest, found, payload)
                spare, dropped = spare + kept, dropped + len(rest) - kept
        return spare, dropped

    def _free(self, block: int, most: int) -> Symbols:
        """Return free places of a block, ascending, the uppermost ones."""
        counts = self.counts
        placed = int(counts.had[block]) - self._surplus.count(block)
        # While it is decoded its places stay as they are.
        if placed >= counts.sources[block] or counts.states[block] == BlockState.DECODING:
            return np.zeros(0, np.int64)
        return self.places.free(block, most)

    def _spare(self, block: int, some: Symbols, found: _Found, payload: Octets) -> int:
        """Keep `some` of the symbols found, of one block, in memory; return how many."""
        most = SUSPECT_SYMBOLS
        if block not in self.suspects:
            beyond = int(self.counts.needed[block] - self.counts.sources[block])
            most = min(most, max(SPARE_SYMBOLS, beyond))
        wanted = min(len(some), most - self._surplus.count(block))
        if wanted <= 0:
            return 0
        count, going = self._surplus.room(block, wanted, self._can_wait)
        for other in going:
            self._unhold(other, self._surplus.drop(other))
        some = some[:count]
        if len(some):
            rows = some if found.rows is None else found.rows[some]
            self._surplus.add(block, payload[rows], found.esis[some])
            self.places.held[found.keys[some]] = True
            self.counts.set(block, int(self.counts.had[block]) + count)
        return count

    def _can_wait(self, block: int) -> bool:
        """Whether a block has to wait for more symbols anyway."""
        state = self.counts.state(block)
        return state is BlockState.OPEN and not self.counts.is_enough(block)

    def _unhold(self, block: int, esis: Symbols) -> None:
        """Mark (n,) symbols of a block as not held."""
        gone = self.places.forget(block, esis)
        self.counts.set(block, int(self.counts.had[block]) - gone)

    # What blocks have.

    def _look_at(self, blocks: Symbols) -> tuple[list[int], list[int]]:
        """Return which of (n,) blocks are whole now, and which others have enough symbols."""
        whole: list[int] = []
        enough: list[int] = []
        counts = self.counts
        for block in blocks[counts.had[blocks] >= counts.sources[blocks]].tolist():
            if counts.state(block) is not BlockState.OPEN:
                continue
            if block not in self.suspects and self.places.are_own(block):
                counts.move(block, BlockEvent.IN_PLACE)
                whole.append(block)
            elif self.is_enough(block):
                enough.append(block)
        return whole, enough

    def is_enough(self, block: int) -> bool:
        """Whether a block is open and has enough symbols to be decoded, or to be searched."""
        counts = self.counts
        if counts.state(block) is not BlockState.OPEN:
            return False
        if counts.is_enough(block):
            return True
        return block not in self.suspects and not self.places.missing(block)

    def surplus(self, block: int) -> tuple[Octets, Symbols]:
        """Return the symbols of a block that are in memory: (n, symbol_size), (n,) their ids."""
        return self._surplus.of(block)

    def runs(self, places: Symbols, *, may_fill: bool) -> list[list[Placed]]:
        """Return where rows belong, as `Store` has it.

        Args:
            places: (n,) ascending.
            may_fill: Gaps may be written over; False: bytes of an earlier run may be in them.
        """
        return runs_of(self.geometry, places, self.places.lying, may_fill=may_fill)

    # What becomes of blocks.

    def fill(self, block: int) -> None:
        """Mark a block as right: every source symbol lies in its place, nothing else is needed."""
        self.places.fill(block)
        self._surplus.drop(block)
        self.suspects.discard(block)
        self.counts.set(block, int(self.counts.sources[block]))
        if self.counts.state(block) is not BlockState.DONE:
            self.counts.move(block, BlockEvent.RIGHT)

    def drop(self, block: int) -> None:
        """Mark every symbol of a block as missing."""
        counts = self.counts
        self.places.clear(block)
        self._surplus.drop(block)
        counts.set(block, 0)
        self.reopen(block, int(counts.sources[block]) + EXTRA, is_suspect=False)

    def reopen(self, block: int, needed: int, *, is_suspect: bool) -> None:
        """Let a block wait for symbols until it has `needed`.

        Args:
            is_suspect: It has a forged one among those that it has.
        """
        counts = self.counts
        state = counts.state(block)
        if state is not BlockState.OPEN:
            is_done = state is BlockState.DONE
            counts.move(block, BlockEvent.SPOILT if is_done else BlockEvent.NOT_YET)
        counts.needed[block] = needed
        (self.suspects.add if is_suspect else self.suspects.discard)(block)

    def forget(self, block: int, esis: Symbols) -> None:
        """Throw (n,) symbols of a block away; their places are free again."""
        self._surplus.forget(block, esis)
        self._unhold(block, esis)
