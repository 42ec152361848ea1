"""In which order a carousel sends an object: the only owner of that arithmetic (spec: FEC-3 on).

Every block has a ring of encoding symbols, its source symbols and its repair symbols. It is cut
into *visits* of about 16 symbols, as many visits for a short last block as for any other, so that
all blocks advance alike. In *rounds* a visit is sent of every block before the next visit is. A
*group* is some neighbouring blocks; one visit of a group is a *tile*, which is sent symbol by
symbol in turn, so that a burst of losses is spread over its blocks.

Which visit follows which is the session's choice, and its SPMs say it. A place is a number of
symbols since the carousel's start: what is at a place, and where a symbol comes next, are functions
of it, whoever asks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from random import Random

import numpy as np

from pgmlite.core.visits import Visits, visits_of
from pgmlite.errors import UsageError
from pgmlite.wire.control import SpmPosition
from pgmlite.wire.digests import digest
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import Order
from pgmlite.wire.request import Rings, Symbols

NEVER = np.iinfo(np.int64).max
"""A place that does not come."""

MOST_SENT = 1 << 62
"""Symbols that no carousel has sent: with room for a turn beyond it."""

MOST_SECTORS = 255
"""n of i/n, at most: it has one byte in SPMs."""

NONE: Symbols = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Lead:
    """The pass that stands before the rounds: all source symbols, group after group.

    Attributes:
        groups: (n,) in their order.
        edges: (n + 1,) places at which they begin and end.
    """

    groups: Symbols
    edges: Symbols

    @property
    def length(self) -> int:
        """Symbols of the pass."""
        return int(self.edges[-1])


@dataclass(frozen=True)
class Ring:
    """The order in which one session's carousel sends an object.

    Attributes:
        order: Of what.
        first: Where it begins: a group (blocks), a source visit (rounds), a visit (territory), or
            what the order of visits is drawn from (random).
        sector: i of i/n, the sector with which it begins, or the territory that it sends.
        sectors: n of i/n.

    Raises:
        UsageError: There is no such place to begin.
    """

    geometry: Geometry
    order: Order = Order.ROUNDS
    first: int = 0
    sector: int = 0
    sectors: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.sector < self.sectors <= MOST_SECTORS:
            raise UsageError(f"start {self.sector}/{self.sectors}: the share must be 0/n to n-1/n")
        if not self.geometry.symbols or self.order is Order.RANDOM:
            return
        firsts = self._firsts
        if not firsts:
            raise UsageError(f"start: there is no territory {self.sector} of {self.sectors}")
        if self.first not in firsts:
            raise UsageError(f"start at {self.first}: must be {firsts.start} to {firsts.stop - 1}")

    @classmethod
    def at(cls, geometry: Geometry, position: SpmPosition) -> Ring | None:
        """Return what an SPM says; None: this version does not know the order.

        Raises:
            UsageError: No carousel can be there.
        """
        if position.order not in tuple(Order):
            return None
        if position.place >= MOST_SENT:
            raise UsageError(f"place {position.place}: no carousel has sent so much")
        order = Order(position.order)
        return _ring(geometry, order, position.first, position.sector, position.sectors)

    @classmethod
    def of_sector(cls, geometry: Geometry, order: Order, sector: int, sectors: int) -> Ring:
        """Return the ring of the sender that begins with `sector` of `sectors`.

        Raises:
            UsageError: There is no such sector.
        """
        total = geometry.groups if order is Order.BLOCKS else geometry.source_visits
        first = sector * total // sectors if 0 <= sector < sectors else 0
        return cls(geometry, order, first, sector, sectors)

    @classmethod
    def anywhere(cls, geometry: Geometry, order: Order, rng: Random) -> Ring:
        """Return the ring of a sender that nobody has told where to begin (spec: SND-6)."""
        if order is Order.RANDOM:
            return cls(geometry, order, rng.getrandbits(32))
        total = geometry.groups if order is Order.BLOCKS else geometry.source_visits
        return cls(geometry, order, rng.randrange(max(1, total)))

    @classmethod
    def in_territory(
        cls, geometry: Geometry, territory: int, territories: int, sector: int = 0, sectors: int = 1
    ) -> Ring:
        """Return the ring of a carousel that sends one territory, and nothing else.

        Args:
            sector: Of `sectors`, into which the territory is cut: where it begins.

        Raises:
            UsageError: There is no such territory.
        """
        visits = _share(geometry.visits, territory, max(1, territories))
        first = visits[sector * len(visits) // sectors] if visits else 0
        return cls(geometry, Order.TERRITORY, first, territory, territories)

    def position(self, place: int) -> SpmPosition:
        """Return what an SPM says at `place`."""
        return SpmPosition(place, self.order, self.sector, self.sectors, self.first)

    @property
    def _firsts(self) -> range:
        """Where it may begin."""
        if self.order is Order.TERRITORY:
            # Without repair symbols no part of a block says what another one does.
            return self._share(self.geometry.visits) if self.geometry.repair_symbols else range(0)
        if self.order is Order.BLOCKS:
            return self._share(self.geometry.groups) or range(self.geometry.groups)
        return self._share(self.geometry.source_visits) or range(self.geometry.source_visits)

    def _share(self, total: int, sector: int | None = None) -> range:
        """Return which of `total` things are those of a sector, by default of its own."""
        return _share(total, self.sector if sector is None else sector, self.sectors)

    @cached_property
    def _layout(self) -> Visits:
        return visits_of(self.geometry)

    # How long things are.

    @cached_property
    def _visits(self) -> list[int]:
        """The visits in their order."""
        geometry = self.geometry
        source, visits = geometry.source_visits, geometry.visits
        if self.order is Order.RANDOM:
            seed = self.first.to_bytes(4, "big")
            keys = [digest(seed + visit.to_bytes(4, "big")) for visit in range(visits)]
            return sorted(range(visits), key=keys.__getitem__)
        if self.order is Order.TERRITORY:
            return _from(self._share(visits), self.first)
        ordered: list[int] = []
        for step in range(self.sectors):
            sector = (self.sector + step) % self.sectors
            some = list(self._share(source, sector))
            if not step and self.order is Order.ROUNDS:
                some = _from(some, self.first)
            repairs = [source + visit for visit in self._share(visits - source, sector)]
            ordered += repairs + some if self.order is Order.BLOCKS else some + repairs
        return ordered

    @cached_property
    def _starts(self) -> list[int]:
        """Places in a turn at which the visits begin, in their order; then its end."""
        full, last = (np.diff(edges) for edges in self._layout.edges)
        sizes: Symbols = max(0, self.geometry.blocks - 1) * full + last
        return [0, *np.cumsum(sizes[self._visits]).tolist()]

    @cached_property
    def _start_of(self) -> Symbols:
        """(visits,) the place in a turn at which each visit begins; `NEVER`: it has none."""
        found = np.full(self.geometry.visits, NEVER)
        found[self._visits] = self._starts[:-1]
        return found

    @cached_property
    def _lead(self) -> _Lead | None:
        geometry = self.geometry
        if self.order is not Order.BLOCKS or not geometry.groups:
            return None
        # Without repair symbols there are no rounds behind it: it goes round for ever.
        mine = range(geometry.groups) if self.is_endless else self._share(geometry.groups)
        if not mine:
            return None
        groups = np.roll(np.arange(mine.start, mine.stop), mine.start - self.first)
        firsts = groups * geometry.tile_blocks
        stops = np.minimum(firsts + geometry.tile_blocks, geometry.blocks)
        counts = (
            np.minimum(stops * geometry.block_symbols, geometry.symbols)
            - firsts * geometry.block_symbols
        )
        return _Lead(groups, np.concatenate(([0], np.cumsum(counts))))

    @property
    def is_endless(self) -> bool:
        """Whether it never comes to rounds: blocks in order, without repair symbols."""
        return self.order is Order.BLOCKS and not self.geometry.repair_symbols

    @cached_property
    def lead(self) -> int:
        """Symbols that it sends block after block, before its first round."""
        return self._lead.length if self._lead and not self.is_endless else 0

    @cached_property
    def turn(self) -> int:
        """Symbols after which it comes round, once the rounds have begun."""
        if self.is_endless:
            return self.geometry.symbols
        return self._starts[-1]

    @property
    def visits(self) -> int:
        """Visits of a turn."""
        return len(self._visits)

    @cached_property
    def turn_of(self) -> Rings:
        """How many encoding symbols of each block a turn has."""
        sent = np.array(self._visits, np.int64)
        full, last = (int(np.diff(edges)[sent].sum()) for edges in self._layout.edges)
        return Rings(self.geometry.blocks, full, last)

    def lowest(self, block: int) -> int:
        """Return the lowest encoding symbol id of a block that it sends."""
        full, last = self._layout.edges
        return int((last if block == self.geometry.blocks - 1 else full)[min(self._visits)])

    # What is at a place.

    def ids(self, place: int, count: int) -> Ids:
        """Return the `count` symbols that are sent from `place` on; the object is not empty."""
        blocks: list[Symbols] = []
        esis: list[Symbols] = []
        while count:
            group, start, stop = self._stretch_at(place)
            stop = min(stop, start + count)
            pattern = self._layout.pattern(group)
            blocks.append(pattern.blocks[start:stop] + group * self.geometry.tile_blocks)
            esis.append(pattern.esis[start:stop])
            place, count = place + stop - start, count - (stop - start)
        if len(blocks) == 1:
            return Ids(blocks[0], esis[0])
        return Ids(np.concatenate([NONE, *blocks]), np.concatenate([NONE, *esis]))

    def tile_at(self, place: int) -> tuple[int, int, int]:
        """Return the tile of the symbol at `place`, and the places at which it begins and ends."""
        group, at, _ = self._stretch_at(place)
        starts = self._layout.pattern(group).starts
        visit = int(np.searchsorted(starts, at, side="right")) - 1
        begin = place - at + int(starts[visit])
        size = int(starts[visit + 1] - starts[visit])
        return visit * self.geometry.groups + group, begin, begin + size

    def _stretch_at(self, place: int) -> tuple[int, int, int]:
        """Return a group, and from where to where in its pattern what follows stands."""
        lead, geometry = self._lead, self.geometry
        if self.is_endless:
            place %= self.turn
        if lead and place < lead.length:
            at = int(np.searchsorted(lead.edges, place, side="right")) - 1
            group = int(lead.groups[at])
            stop = int(self._layout.pattern(group).starts[geometry.source_visits])
            return group, place - int(lead.edges[at]), stop
        skip = (place - self.lead) % self.turn
        at = bisect_right(self._starts, skip) - 1
        visit = self._visits[at]
        skip -= self._starts[at]
        full = self._layout.patterns[0].starts
        size = int(full[visit + 1] - full[visit])
        group = min(skip // size, geometry.groups - 1)
        starts = self._layout.pattern(group).starts
        return group, int(starts[visit]) + skip - group * size, int(starts[visit + 1])

    # Where a symbol is.

    def visits_of(self, ids: Ids) -> Symbols:
        """Return the visit of the ring in which each of (n,) symbols is sent."""
        return self._layout.visits_of(ids)

    def places(self, ids: Ids, after: int) -> Symbols:
        """Return the first place, `after` or later, at which each of (n,) symbols is sent.

        `NEVER` for what it does not send.
        """
        geometry = self.geometry
        visits = self.visits_of(ids)
        groups = ids.blocks // geometry.tile_blocks
        inside = self._layout.inside(ids, visits, groups)
        if self.is_endless:
            return _next(self._in_lead(visits, groups) + inside, after, self.turn)
        sizes = np.diff(self._layout.edges[0])[visits] * geometry.tile_blocks
        starts = self._start_of[visits]
        is_sent = starts < NEVER
        begins = self.lead + np.where(is_sent, starts, 0) + groups * sizes
        places = np.where(is_sent, _next(begins + inside, after, self.turn), NEVER)
        if self.lead > after:
            early = self._in_lead(visits, groups) + inside
            is_source = (visits < geometry.source_visits) & (early >= after) & (early < self.lead)
            places = np.where(is_source, early, places)
        return places

    def _in_lead(self, visits: Symbols, groups: Symbols) -> Symbols:
        """Return the place in the lead at which tiles begin; beyond it: they are not in it."""
        lead, geometry = self._lead, self.geometry
        if lead is None:
            return np.full(len(visits), NEVER >> 1)
        starts = np.full(geometry.groups, NEVER >> 1)
        starts[lead.groups] = lead.edges[:-1]
        visits = np.minimum(visits, geometry.source_visits - 1)
        full, last = (pattern.starts for pattern in self._layout.patterns)
        within = np.where(groups == geometry.groups - 1, last[visits], full[visits])
        found: Symbols = starts[groups] + within
        return found


def _share(total: int, sector: int, sectors: int) -> range:
    """Return which of `total` things are those of a sector."""
    return range(sector * total // sectors, (sector + 1) * total // sectors)


def _from(visits: Sequence[int], first: int) -> list[int]:
    """Return visits from one of them on, and round; as they are if it is none of them."""
    turn = visits.index(first) if first in visits else 0
    return [*visits[turn:], *visits[:turn]]


@lru_cache(maxsize=64)
def _ring(geometry: Geometry, order: Order, first: int, sector: int, sectors: int) -> Ring:
    """Return one ring for all that ask for it: what is worked out of it is worked out once."""
    return Ring(geometry, order, first, sector, sectors)


def _next(places: Symbols, after: int, turn: int) -> Symbols:
    """Return the first of `places`, and of what comes whole turns later, from `after` on."""
    late = np.maximum(0, after - places)
    found: Symbols = places + -(-late // max(1, turn)) * turn
    return found
