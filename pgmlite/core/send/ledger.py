"""What is asked for on one lane, from a NAK to the symbols that leave: by name, or by count.

By name, a symbol is queued once, whoever asks. By count, each block has a cursor (`cursor`): a NAK
asks for so many of its next steps, and serves whoever asked for less. What the asker had not seen
when it asked has left already, so that many fewer are to come.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from pgmlite.core.config import RepairConfig
from pgmlite.core.cursor import first_of
from pgmlite.core.needs import Count, Exact
from pgmlite.core.ring import Ring
from pgmlite.core.send.confirmations import CountConfirmations, ExactConfirmations
from pgmlite.core.send.log import CountLog, ExactLog
from pgmlite.core.send.queue import CountQueue, ExactQueue
from pgmlite.core.send.schedule import Coming
from pgmlite.core.tiles import tiles_of
from pgmlite.core.visits import Visits, visits_of
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.request import Counts, Nak, Symbols, expand, parse_request


class ExactLedger:
    """Of a plain object: source symbols by name."""

    def __init__(self, config: RepairConfig, geometry: Geometry, *, by_tile: bool = False) -> None:
        """
        Args:
            by_tile: Send tile by tile: each has a leaf.
        """
        self._geometry = geometry
        self.symbols = geometry.symbols
        """Source symbols in the object."""

        self.log = ExactLog(geometry, longest=config.max_in_flight)
        self.confirmations = ExactConfirmations(geometry.symbols, burst=config.ncf_burst)
        self._queue = ExactQueue(
            geometry.symbols,
            max_held=config.max_held,
            tiles_of=self._tiles_of if by_tile else None,
        )

    def _tiles_of(self, symbols: Symbols) -> Symbols:
        return tiles_of(self._geometry).of(self._geometry.ids(symbols))

    @property
    def waiting(self) -> int:
        """Symbols in the queue."""
        return self._queue.waiting

    @property
    def tile(self) -> int | None:
        """The tile of what goes out next, if that is known; None: nothing waits."""
        return self._queue.tile

    @property
    def tiles(self) -> int:
        """How many tiles have to be begun for all that waits, at most."""
        return self._queue.tiles

    @property
    def queued(self) -> Exact:
        """What waits to be repeated, ascending."""
        return self._queue.queued

    def take_nak(
        self,
        now: int,
        nak: Nak,
        heard: int,
        last: int,
        *,
        coming: Coming | None,
        than: float,
        most: Callable[[int], int],
    ) -> bool:
        """Queue and confirm what a NAK asks for; return whether something was queued already.

        Args:
            heard: The highest sqn that its sender saw; `last` is the latest sent.
            coming: What is sent unasked; None: nothing.
            than: What comes before so many other symbols of that need not be queued.
            most: Returns how many of so many symbols may be queued.
        """
        need = Exact(nak.symbols)
        is_known = self._queue.has_any(need)
        # spec: REP-4: what is queued, on its way, or repaired a moment ago is not queued again.
        wanted = self._queue.missing(now, self.log.not_in_flight(need, heard, last))
        # spec: REP-5: nor what comes anyway before the queue would bring it.
        if coming:
            wanted = coming.later(wanted, than)
        served, left = wanted.cut(most(len(wanted)))
        self._queue.add(served)
        self.confirmations.add(need.less(left))
        return is_known

    def take(self, now: int, limit: int, hold_off: int) -> Ids:
        """Return up to `limit` symbols to send now, ascending."""
        return self._geometry.ids(self._queue.take(now, limit, hold_off).symbols)

    def hear_data(self, now: int, ids: Ids, hold_off: int) -> None:
        """Take note of RDATA of another repairer."""
        symbols = np.unique(self._geometry.symbols_of(ids))
        self._queue.hold(now, Exact(symbols), hold_off)

    def hear_ncf(self, now: int, body: bytes, hold_off: int) -> None:
        """Take note of an NCF of another repairer.

        Raises:
            RefusedPacket: reason ``request``.
        """
        named = Exact(parse_request(body, self._geometry.symbols))
        self._queue.hold(now, named, hold_off)


class CountLedger:
    """Of an object with repair symbols: so many of a block, whichever they are."""

    def __init__(
        self,
        config: RepairConfig,
        geometry: Geometry,
        ring: Ring | None = None,
        *,
        by_tile: bool = False,
    ) -> None:
        """
        Args:
            ring: Of the lane's carousel; None: it has none.
            by_tile: Send tile by tile: each has a leaf.
        """
        self._geometry = geometry
        self.symbols = geometry.symbols
        """Source symbols in the object."""

        self._by_tile = by_tile
        self.log = CountLog(longest=config.max_in_flight, kept=config.max_logged)
        self.confirmations = CountConfirmations(self._coming, burst=config.ncf_burst)
        self._queue = CountQueue(geometry.blocks, max_held=config.max_held)
        blocks = geometry.blocks
        self._cursors: Symbols = np.full(blocks, first_of(geometry, 0, ring), np.int64)
        """(blocks,) the encoding symbol id that is sent next of each block."""

        self._cursors[-1] = first_of(geometry, blocks - 1, ring)

    @property
    def waiting(self) -> int:
        """Symbols in the queue."""
        return self._queue.waiting

    @property
    def tile(self) -> int | None:
        """The tile of what goes out next, if that is known; None: nothing waits."""
        need = self._queue.first if self._by_tile else None
        return self._first_tile(need)[0] if need else None

    @property
    def tiles(self) -> int:
        """How many tiles have to be begun for all that waits, at most."""
        geometry = self._geometry
        last = geometry.blocks - 1
        tiles = 0
        for need in self._queue.pending:
            least = np.where(need.blocks == last, self._least[1], self._least[0])
            tiles += int(np.minimum(need.numbers, need.numbers // least + 2).sum())
        return tiles

    @cached_property
    def _least(self) -> tuple[int, int]:
        """Symbols in a visit of a full block, and of the last one, at least; 1 where it is none."""
        full, last = (max(1, int(np.diff(edges).min())) for edges in self._visits.edges)
        return full, last

    @property
    def _visits(self) -> Visits:
        return visits_of(self._geometry)

    def _first_tile(self, need: Count) -> tuple[int, Count]:
        """Return the tile with which `need` begins, and what of it is in there.

        It is of the first block's group: its blocks go on together, those ahead waiting.
        """
        geometry = self._geometry
        group = int(need.blocks[0]) // geometry.tile_blocks
        several = int(np.searchsorted(need.blocks, (group + 1) * geometry.tile_blocks))
        blocks = need.blocks[:several]
        esis = self._cursors[blocks]
        visits = self._visits.visits_of(Ids(blocks, esis))
        visit = int(visits.max())
        full, last = (int(edges[visit]) for edges in self._visits.edges)
        left = esis + 1 - np.where(blocks == geometry.blocks - 1, last, full)
        are_there = visits == visit
        numbers = np.minimum(need.numbers[:several], left)
        tile = tiles_of(geometry).number(visit, group)
        return tile, Count(blocks[are_there], numbers[are_there])

    def _take_first_tile(self, limit: int) -> Count:
        need = self._queue.first
        if need:
            need, _ = self._first_tile(need)[1].cut(limit)
            self._queue.take_first(need)
        return need

    @property
    def queued(self) -> Count:
        """How many symbols of which blocks wait."""
        return self._queue.queued

    def take_nak(
        self,
        now: int,
        nak: Nak,
        heard: int,
        last: int,
        *,
        coming: Coming | None,
        than: float,
        most: Callable[[int], int],
    ) -> bool:
        """Queue and confirm what a NAK asks for; return whether something was queued already.

        What carousels bring of a block anyway is the asker's to know: it asks only where that takes
        twice as long as a repair (spec: NAK-7).
        """
        if nak.counts is None:
            return False
        need = Count(nak.counts.blocks, nak.counts.counts)
        is_known = self._queue.has_any(need)
        # spec: REP-4, REP-12
        coming_still = self.log.not_in_flight(need, heard, last)
        wanted = self._queue.missing(now, coming_still)
        served, _ = wanted.cut(most(len(wanted)))
        self._queue.add(served)
        under_way = need.numbers - coming_still.of(need.blocks) + self._queue.of(need.blocks)
        numbers = np.minimum(need.numbers, under_way)
        self.confirmations.add(Count(need.blocks[numbers > 0], numbers[numbers > 0]))
        return is_known

    def _coming(self, need: Count) -> Counts:
        """Return what an NCF says of blocks of which so much was asked for and is under way."""
        waiting = self._queue.of(need.blocks)
        # What left since who asked saw anything of us.
        gone = np.maximum(need.numbers - waiting, 0)
        rings = self._geometry.rings.of(need.blocks)
        counts = np.minimum(gone + waiting, rings)
        return Counts(need.blocks, (self._cursors[need.blocks] + gone) % rings, counts)

    def take(self, now: int, limit: int, hold_off: int) -> Ids:
        """Return up to `limit` symbols to send now, those of several blocks in turn."""
        need = self._take_first_tile(limit) if self._by_tile else self._queue.take(limit)
        rings = self._geometry.rings
        blocks = np.repeat(need.blocks, need.numbers)
        steps = expand(np.zeros_like(need.numbers), need.numbers)
        esis = (self._cursors[blocks] - steps) % rings.of(blocks)
        after = self._cursors[need.blocks] - need.numbers
        self._cursors[need.blocks] = after % rings.of(need.blocks)
        # The object's last source symbol, which may be short, has to be the last of all.
        are_last = self._geometry.are_last(Ids(blocks, esis))
        order = np.lexsort((blocks, steps, are_last))
        ids = Ids(blocks[order], esis[order])
        self.log.repaired(ids)
        return ids

    def hear_data(self, now: int, ids: Ids, hold_off: int) -> None:
        """Take note of RDATA of another repairer: its NCFs said so before."""

    def hear_ncf(self, now: int, body: bytes, hold_off: int) -> None:
        """Take note of an NCF of another repairer: what it sends is not to be sent from here.

        Raises:
            RefusedPacket: reason ``request``.
        """
        counts = parse_request(body, self._geometry.symbols, self._geometry.rings)
        self._queue.hold(now, Count(counts.blocks, counts.counts), hold_off)


Ledger = ExactLedger | CountLedger


def ledger_for(
    config: RepairConfig, geometry: Geometry, ring: Ring | None, *, by_tile: bool
) -> Ledger:
    """Return where it is kept what is asked for of an object.

    Args:
        ring: Of the lane's carousel; None: it has none.
        by_tile: Send tile by tile: each has a leaf.
    """
    if geometry.is_coded:
        return CountLedger(config, geometry, ring, by_tile=by_tile)
    return ExactLedger(config, geometry, by_tile=by_tile)
