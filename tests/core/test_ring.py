"""The order of carousels: what is sent at a place, and at which place a symbol is sent next."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.ring import NEVER, Ring
from pgmlite.errors import UsageError
from pgmlite.wire.control import SpmPosition
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import Order

Named = tuple[int, int]

SYMBOL = 4
SMALL = Geometry(SYMBOL * 92 - 1, SYMBOL, 40, 64, 2)
"""Three blocks of 40, 40 and 12 source symbols; the last is a group of its own."""

PLAIN = Geometry(SYMBOL * 23 - 1, SYMBOL, 5)
ROUNDS, BLOCKS, RANDOM, TERRITORY = Order.ROUNDS, Order.BLOCKS, Order.RANDOM, Order.TERRITORY


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Draw the sizes of a small object with at least one symbol."""
    block = draw(st.sampled_from([1, 2, 5, 16, 17, 33, 50]))
    symbols = draw(st.integers(1, 3 * block + 1) | st.integers(1, 18 * block))
    repairs = draw(st.sampled_from([0, 0, 1, 64, block // 2 + 1, 3 * block]))
    if repairs:
        block = min(block, symbols)
    return Geometry(symbols * SYMBOL, SYMBOL, block, repairs, draw(st.sampled_from([1, 2, 8])))


@st.composite
def rings(draw: st.DrawFn) -> Ring:
    """Draw a ring: of a share, or of the whole from anywhere on."""
    geometry, order = draw(geometries()), draw(st.sampled_from([ROUNDS, BLOCKS, RANDOM]))
    sectors = draw(st.sampled_from([1, 1, 2, 3, 7]))
    if sectors > 1:
        return Ring.of_sector(geometry, order, draw(st.integers(0, sectors - 1)), sectors)
    firsts = {BLOCKS: geometry.groups, ROUNDS: geometry.source_visits, RANDOM: 1 << 32}
    return Ring(geometry, order, draw(st.integers(0, firsts[order] - 1)))


@st.composite
def territories(draw: st.DrawFn) -> list[Ring]:
    """Draw the rings of all territories of one object, from anywhere in them on."""
    geometry = draw(geometries().filter(lambda one: one.repair_symbols))
    count = draw(st.integers(1, min(6, geometry.visits)))
    begins = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    return [Ring.in_territory(geometry, t, count, begin, 7) for t, begin in enumerate(begins)]


def sent(ring: Ring, place: int, count: int) -> list[Named]:
    """Return block and ESI of what is sent from a place on."""
    ids = ring.ids(place, count)
    assert len(ids) == count
    return list(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True))


def symbols_of(geometry: Geometry, *, repairs: bool = True) -> list[Named]:
    """Return all symbols of an object, by block."""
    return [
        (block, esi)
        for block in range(geometry.blocks)
        for esi in range(geometry.ring(block) if repairs else geometry.source(block))
    ]


def ids_of(names: list[Named]) -> Ids:
    """Return named symbols as the ring takes them."""
    blocks, esis = np.array(names, np.int64).reshape(-1, 2).T
    return Ids(blocks, esis)


class TestOfAnyObject:
    @given(rings())
    def test_a_turn_has_every_symbol_once(self, ring: Ring) -> None:
        # spec: FEC-4
        everything = symbols_of(ring.geometry, repairs=not ring.is_endless)
        assert sorted(sent(ring, ring.lead, ring.turn)) == everything
        assert ring.turn == len(everything)
        # And it comes round.
        assert sent(ring, ring.lead + ring.turn, 9) == sent(ring, ring.lead, 9)

    @given(rings())
    def test_the_lead_is_every_source_symbol_of_a_share(self, ring: Ring) -> None:
        # spec: FEC-4
        lead = sent(ring, 0, ring.lead)
        if ring.lead:
            assert ring.order is BLOCKS
            shares = ring.geometry.groups
            groups = range(
                ring.sector * shares // ring.sectors, (ring.sector + 1) * shares // ring.sectors
            )
            assert sorted(lead) == [
                (block, esi)
                for block, esi in symbols_of(ring.geometry, repairs=False)
                if block // ring.geometry.tile_blocks in groups
            ]

    @given(rings(), st.data())
    def test_what_comes_does_not_depend_on_how_it_is_asked_for(
        self, ring: Ring, data: st.DataObject
    ) -> None:
        length = ring.lead + 2 * ring.turn + 7
        cuts = data.draw(st.lists(st.integers(1, length - 1), max_size=20))
        pieces = [sent(ring, a, b - a) for a, b in pairwise(sorted({0, *cuts, length}))]
        assert [*chain(*pieces)] == sent(ring, 0, length)

    @given(rings(), st.integers(0, 1 << 20))
    def test_a_symbol_is_where_it_is_said_to_come_next(self, ring: Ring, somewhere: int) -> None:
        # spec: FEC-5
        names = symbols_of(ring.geometry, repairs=not ring.is_endless)
        ids, end = ids_of(names), ring.lead + ring.turn
        for after in {0, ring.lead // 2, ring.lead, somewhere % end, end + somewhere % end}:
            # Each comes once in a turn; in the lead source symbols come once before.
            come = sent(ring, after, max(0, ring.lead - after) + ring.turn)
            first = {name: after + place for place, name in reversed(list(enumerate(come)))}
            assert ring.places(ids, after).tolist() == [first[name] for name in names]

    @given(rings(), st.data())
    def test_all_blocks_advance_alike(self, ring: Ring, data: st.DataObject) -> None:
        # spec: FEC-3
        geometry = ring.geometry
        start = ring.lead + data.draw(st.integers(0, ring.turn - 1))
        if ring.order is BLOCKS and not geometry.repair_symbols:
            return
        had = np.zeros(geometry.blocks, np.int64)
        blocks = ring.ids(start, ring.turn).blocks
        full = [b for b in range(geometry.blocks) if geometry.ring(b) == geometry.ring(0)]
        for block in blocks.tolist():
            had[block] += 1
            # Less than a visit of one apart, whose sizes differ by one; and the first is cut.
            assert had[full].max() - had[full].min() <= 17 + 16

    @given(rings(), st.integers(0, 1 << 63))
    def test_an_spm_says_which_it_is(self, ring: Ring, place: int) -> None:
        # spec: FEC-5
        position = ring.position(place)
        assert position.place == place
        again = Ring.at(ring.geometry, position)
        assert again == ring


class TestTerritories:
    @given(territories())
    def test_every_symbol_is_in_one_of_them(self, rings: list[Ring]) -> None:
        # spec: FEC-4
        turns = [sent(ring, 0, ring.turn) for ring in rings]
        assert sorted(chain(*turns)) == symbols_of(rings[0].geometry)
        for ring, turn in zip(rings, turns, strict=True):
            assert sent(ring, ring.turn, 9) == (turn * 9)[:9]
            assert (ring.lead, len(turn)) == (0, ring.turn)
            blocks = Counter(block for block, _ in turn)
            every = np.arange(ring.geometry.blocks)
            assert ring.turn_of.of(every).tolist() == [blocks[block] for block in every.tolist()]

    @given(territories(), st.integers(0, 1 << 20))
    def test_a_symbol_comes_next_where_it_is_said_to_or_never(
        self, rings: list[Ring], after: int
    ) -> None:
        # spec: FEC-5
        names = symbols_of(rings[0].geometry)
        for ring in rings:
            come = {name: after + place for place, name in enumerate(sent(ring, after, ring.turn))}
            places = ring.places(ids_of(names), after).tolist()
            assert places == [come.get(name, NEVER) for name in names]

    @given(territories(), st.integers(0, 1 << 61))
    def test_an_spm_says_which_it_is(self, rings: list[Ring], place: int) -> None:
        # spec: FEC-5
        for ring in rings:
            assert Ring.at(ring.geometry, ring.position(place)) == ring

    @pytest.mark.parametrize(
        ("ring", "visits"),
        [
            (Ring.in_territory(SMALL, 0, 2), [0, 1, 2]),
            (Ring.in_territory(SMALL, 1, 2), [3, 4, 5, 6]),
            (Ring.in_territory(SMALL, 1, 2, 1, 2), [5, 6, 3, 4]),
            (Ring.in_territory(SMALL, 1, 2, 254, 255), [6, 3, 4, 5]),
            (Ring.in_territory(SMALL, 2, 6), [2]),
            (Ring(SMALL, TERRITORY, 4, 2, 3), [4, 5, 6]),
        ],
    )
    def test_visits_of_a_turn(self, ring: Ring, visits: list[int]) -> None:
        # spec: FEC-4
        turn = ring.visits_of(ring.ids(0, ring.turn)).tolist()
        assert list(dict.fromkeys(turn)) == visits
        assert ring.visits == len(visits)

    @pytest.mark.parametrize(
        ("geometry", "first", "sector", "sectors"),
        [
            (SMALL, 3, 0, 2),
            (SMALL, 2, 1, 2),
            (SMALL, 0, 2, 2),
            (SMALL, 0, 0, 0),
            (SMALL, 0, 0, 8),  # of 7 visits
            (PLAIN, 0, 0, 1),  # no repair symbol tells what another territory has
        ],
    )
    def test_not_there(self, geometry: Geometry, first: int, sector: int, sectors: int) -> None:
        # spec: FEC-4, PKT-8
        with pytest.raises(UsageError, match="start"):
            Ring(geometry, TERRITORY, first, sector, sectors)
        with pytest.raises(UsageError, match="start"):
            Ring.at(geometry, SpmPosition(0, TERRITORY, sector, sectors, first))

    def test_none_can_be_named_of_an_object_without(self) -> None:
        with pytest.raises(UsageError, match="no territory 0 of 8"):
            Ring.in_territory(SMALL, 0, 8)
        with pytest.raises(UsageError, match="share"):
            Ring.in_territory(SMALL, 0, 0)


class TestVisits:
    def test_a_short_last_block_moves_at_its_own_pace(self) -> None:
        # spec: FEC-3
        ring = Ring(SMALL)
        edges = [(0, 0, 0), (1, 13, 4), (2, 26, 8), (3, 40, 12), (4, 56, 25), (5, 72, 38)]
        for visit, full, last in edges:
            ids = ids_of([(0, full), (1, full), (2, last)])
            assert ring.visits_of(ids).tolist() == [visit] * 3
            if visit:
                before = ids_of([(0, full - 1), (2, last - 1)])
                assert ring.visits_of(before).tolist() == [visit - 1] * 2

    def test_a_tile_is_sent_symbol_by_symbol_in_turn(self) -> None:
        # spec: FEC-3
        joint = Geometry(SYMBOL * 92, SYMBOL, 40, 64, 3)
        tile = sent(Ring(joint), 0, 30)
        in_turn = [(block, esi) for esi in range(4) for block in range(3)]
        assert tile == in_turn + [(block, esi) for esi in range(4, 13) for block in (0, 1)]
        assert sent(Ring(joint), 30, 3) == [(0, 13), (1, 13), (2, 4)]

    def test_plain_blocks_go_symbol_after_symbol(self) -> None:
        names = symbols_of(PLAIN)
        assert sent(Ring(PLAIN, BLOCKS), 0, 46) == names + names
        assert sent(Ring(PLAIN, BLOCKS, 3), 0, 23) == names[15:] + names[:15]


class TestOrders:
    @pytest.mark.parametrize(
        ("ring", "lead", "visits"),
        [
            (Ring(SMALL), 0, [0, 1, 2, 3, 4, 5, 6]),
            (Ring(SMALL, first=2), 0, [2, 0, 1, 3, 4, 5, 6]),
            (Ring.of_sector(SMALL, ROUNDS, 0, 2), 0, [0, 3, 4, 1, 2, 5, 6]),
            (Ring.of_sector(SMALL, ROUNDS, 1, 2), 0, [1, 2, 5, 6, 0, 3, 4]),
            (Ring(SMALL, ROUNDS, 2, 1, 2), 0, [2, 1, 5, 6, 0, 3, 4]),
            (Ring(SMALL, BLOCKS), 92, [3, 4, 5, 6, 0, 1, 2]),
            (Ring.of_sector(SMALL, BLOCKS, 0, 2), 80, [3, 4, 0, 5, 6, 1, 2]),
            (Ring.of_sector(SMALL, BLOCKS, 1, 2), 12, [5, 6, 1, 2, 3, 4, 0]),
            (Ring.of_sector(SMALL, BLOCKS, 0, 3), 0, [3, 0, 4, 1, 5, 6, 2]),
            (Ring(SMALL, RANDOM), 0, [3, 2, 1, 0, 4, 6, 5]),
            (Ring(SMALL, RANDOM, 0xFFFF_FFFF), 0, [0, 6, 5, 2, 4, 1, 3]),
        ],
    )
    def test_visits_of_a_turn(self, ring: Ring, lead: int, visits: list[int]) -> None:
        # spec: FEC-4
        assert ring.lead == lead
        turn = ring.visits_of(ring.ids(ring.lead, ring.turn)).tolist()
        assert list(dict.fromkeys(turn)) == visits
        assert turn == sorted(turn, key=visits.index), "a round is not over"

    def test_shares_have_nothing_in_common_until_all_is_sent(self) -> None:
        # spec: FEC-4
        large = Geometry(SYMBOL * 96 * 5, SYMBOL, 96, 96, 2)
        for sectors in (2, 3):
            parts = [Ring.of_sector(large, ROUNDS, one, sectors) for one in range(sectors)]
            first = [sent(ring, 0, ring.turn // sectors) for ring in parts]
            assert sorted(chain(*first)) == symbols_of(large)


class TestWhereItMayBegin:
    @pytest.mark.parametrize(
        ("order", "first", "sector", "sectors"),
        [
            (ROUNDS, 3, 0, 1),
            (ROUNDS, -1, 0, 1),
            (ROUNDS, 1, 0, 2),
            (ROUNDS, 3, 0, 9),
            (BLOCKS, 2, 0, 1),
            (BLOCKS, 0, 1, 2),
            (ROUNDS, 0, 1, 1),
            (ROUNDS, 0, 0, 0),
            (RANDOM, 0, 5, 4),
            (ROUNDS, 0, 0, 256),
        ],
    )
    def test_not_there(self, order: Order, first: int, sector: int, sectors: int) -> None:
        # spec: FEC-4, PKT-8
        with pytest.raises(UsageError, match="start"):
            Ring(SMALL, order, first, sector, sectors)
        with pytest.raises(UsageError, match="start"):
            Ring.at(SMALL, SpmPosition(0, order, sector, sectors, first))

    def test_a_share_without_visits_begins_in_the_next_one(self) -> None:
        # spec: FEC-4
        ring = Ring.of_sector(SMALL, ROUNDS, 0, 9)
        assert sent(ring, 0, 2) == sent(Ring(SMALL), 0, 2)

    def test_an_order_of_another_version(self) -> None:
        assert Ring.at(SMALL, SpmPosition(0, 4, 0, 1, 0)) is None

    @pytest.mark.parametrize(
        ("order", "geometry", "firsts"),
        [(ROUNDS, SMALL, 3), (BLOCKS, SMALL, 2), (BLOCKS, PLAIN, 5), (ROUNDS, PLAIN, 1)],
    )
    def test_who_is_not_told_begins_anywhere(
        self, order: Order, geometry: Geometry, firsts: int
    ) -> None:
        # spec: SND-6
        rng = Random(1)
        drawn = [Ring.anywhere(geometry, order, rng) for _ in range(100)]
        assert {ring.first for ring in drawn} == set(range(firsts))
        assert {(ring.order, ring.sector, ring.sectors) for ring in drawn} == {(order, 0, 1)}

    def test_random_orders_are_drawn(self) -> None:
        # spec: SND-6
        rng = Random(1)
        drawn = {Ring.anywhere(SMALL, RANDOM, rng).first for _ in range(100)}
        assert len(drawn) == 100
        assert max(drawn) >= 1 << 31

    def test_an_empty_object(self) -> None:
        assert Ring.anywhere(Geometry(0, SYMBOL, 1, 64), ROUNDS, Random(1)).first == 0
        assert Ring.anywhere(Geometry(0, SYMBOL, 1), BLOCKS, Random(1)).first == 0
        ring = Ring(Geometry(0, SYMBOL, 1, 64, 1))
        assert (ring.lead, ring.turn) == (0, 0)
        assert ring.position(0) == SpmPosition(0, ROUNDS)
