"""What carousels bring of blocks, against a look at every place."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from pgmlite.core.course import Course, course_of, place_near
from pgmlite.core.ring import Ring
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import Order


@st.composite
def rings(draw: st.DrawFn, repairs: bool) -> Ring:
    """Draw a ring of a small object."""
    block = draw(st.integers(1, 40))
    total = draw(st.integers(1, 5 * block))
    tile = draw(st.integers(1, 3)) if repairs else 1
    geometry = Geometry(64 * total, 64, block, draw(st.integers(1, 70)) * repairs, tile)
    order = draw(st.sampled_from(list(Order) if repairs else [Order.BLOCKS, Order.ROUNDS]))
    if order is Order.TERRITORY:
        count = draw(st.integers(1, min(6, geometry.visits)))
        return Ring.in_territory(geometry, draw(st.integers(0, count - 1)), count)
    most = geometry.groups if order is Order.BLOCKS else geometry.source_visits
    return Ring(geometry, order, draw(st.integers(0, most - 1)))


def names(ring: Ring, start: int, stop: int) -> list[tuple[int, int]]:
    """Return the (block, ESI) of what is sent at some places."""
    ids = ring.ids(start, stop - start) if stop > start else None
    return list(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True)) if ids else []


class TestPasses:
    @given(rings(repairs=False), st.integers(0, 300), st.integers(0, 300), st.integers(0, 400))
    def test_blocks_end_with_their_last_symbol_of_a_turn(
        self, ring: Ring, start: int, count: int, since: int
    ) -> None:
        # spec: NAK-3
        count = min(count, ring.turn)
        first = start // ring.turn * ring.turn
        spans: dict[tuple[int, int], list[int]] = {}
        for place, (block, _) in enumerate(names(ring, first, first + 3 * ring.turn), first):
            spans.setdefault((block, place // ring.turn), []).append(place)
        ended = sorted(
            block
            for (block, _), places in spans.items()
            if start <= places[-1] < start + count and places[0] >= since
        )
        assert sorted(Course(ring).ended(start, start + count, since).tolist()) == ended

    @given(rings(repairs=False))
    def test_all_end_in_a_turn_and_more(self, ring: Ring) -> None:
        ended = Course(ring).ended(5, 5 + 7 * ring.turn, 0).tolist()
        assert sorted(ended) == list(range(ring.geometry.blocks))


class TestRounds:
    @given(rings(repairs=True), st.integers(0, 400))
    def test_what_is_left_has_nothing_more_in_the_lead(self, ring: Ring, place: int) -> None:
        # spec: NAK-3
        coming = {block for block, _ in names(ring, place, ring.lead)}
        left = Course(ring).has_left(place).tolist()
        assert [block not in coming for block in range(ring.geometry.blocks)] == left

    @given(rings(repairs=True), st.integers(0, 900), st.integers(1, 20))
    def test_as_many_as_are_needed_come_within_a_round_of_what_is_said(
        self, ring: Ring, place: int, number: int
    ) -> None:
        # spec: NAK-3
        geometry = ring.geometry
        place += ring.lead
        until = Course(ring).symbols_until(place, np.full(geometry.blocks, float(number)))
        sent = np.zeros(geometry.blocks, np.int64)
        when: dict[int, int] = {}
        least = min(ring.turn_of.full, ring.turn_of.last)
        assume(least)
        rounds = -(-number * ring.visits // least)
        for gone, (block, _) in enumerate(names(ring, place, place + (rounds + 3) * ring.turn), 1):
            sent[block] += 1
            if sent[block] == number:
                when[block] = gone
            if len(when) == geometry.blocks:
                break
        visit = max(np.diff(ring._starts))
        for block, gone in when.items():
            # Visits are not all of one size, and the next one is up to a round away.
            assert gone <= until[block] + 2 * visit + ring.turn // ring.visits
            assert gone >= until[block] - 2 * visit - ring.turn // ring.visits

    def test_nothing_is_needed_of_some(self) -> None:
        ring = Ring(Geometry(64 * 64 * 4, 64, 64, 64, 4), Order.ROUNDS)
        assert Course(ring).symbols_until(0, np.array([0.0, 1, 16, 17])).tolist() == [
            0,
            64,
            64,
            128,
        ]

    def test_a_territory_may_have_nothing_of_a_short_block(self) -> None:
        # Visits 0 to 2 are source symbols; the last block has one, in visit 2.
        geometry = Geometry(64 * 81, 64, 40, 64, 2)
        courses = [Course(Ring.in_territory(geometry, t, 7)) for t in (0, 2, 3)]
        until = [course.symbols_until(0, np.array([13.0, 0, 1])).tolist() for course in courses]
        assert until == [[26, 0, np.inf], [29, 0, 29], [40, 0, 40]]

    def test_a_lead_comes_first(self) -> None:
        ring = Ring(Geometry(64 * 64 * 4, 64, 64, 64, 4), Order.BLOCKS)
        until = Course(ring).symbols_until(56, np.array([0.0, 1, 16, 17]))
        assert until.tolist() == [200, 264, 264, 328]


class TestPlaces:
    @given(rings(repairs=True) | rings(repairs=False), st.integers(0, 2_000), st.floats(-0.2, 0.7))
    def test_what_just_came_was_sent_near_by(self, ring: Ring, place: int, ahead: float) -> None:
        # spec: NAK-1
        sent = max(0, place + int(ahead * min(ring.turn, ring.lead or ring.turn)))
        ((block, esi),) = names(ring, sent, sent + 1)
        found = place_near(ring, block, esi, place)
        assert names(ring, found, found + 1) == [(block, esi)]
        if found != sent:
            # A lead sends what soon comes again: then the nearer one is taken.
            assert place < ring.lead + ring.turn
            assert abs(found - place) <= abs(sent - place)

    def test_from_a_lead_to_the_rounds_and_back(self) -> None:
        ring = Ring(Geometry(64 * 64 * 4, 64, 64, 64, 4), Order.BLOCKS)
        for place in range(0, ring.lead + 2 * ring.turn, 3):
            ((block, esi),) = names(ring, place, place + 1)
            for before in {max(0, place - 40), place, place + 1, place + 5}:
                assert place_near(ring, block, esi, before) == place

    def test_what_is_not_sent_was_sent_nowhere(self) -> None:
        # spec: NAK-1
        ring = Ring.in_territory(Geometry(64 * 64 * 4, 64, 64, 64, 4), 1, 2)
        assert [place_near(ring, 0, esi, 900) for esi in (0, 63)] == [-1, -1]
        assert place_near(ring, 0, 64, 900) >= 0

    def test_one_course_for_all_that_ask(self) -> None:
        geometry = Geometry(64 * 64 * 4, 64, 64)
        assert course_of(Ring(geometry)) is course_of(Ring(geometry))
