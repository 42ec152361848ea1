"""When receivers ask for counts, for how much, and what keeps them quiet."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.config import NakConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive.ncfs import Cursors
from pgmlite.core.receive.wants import WantState
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import Order
from pgmlite.wire.request import Counts
from tests.support.counting import Counting
from tests.support.nak_builders import GRTT, LONGEST, OTHER

GROUP = 4 * 64
"""Symbols of the source of one group of blocks."""

REPAIR_A_MS = 2 * 8 * (64 + 96) * 1_000
"""bit/s of a sender whose repairs, which may take half of it, leave one in a millisecond."""

TOP = 127
"""The last ESI of a block: where cursors begin."""


def losing(block: int, *esis: int) -> list[tuple[int, int]]:
    """Return symbols of one block by name."""
    return [(block, esi) for esi in esis]


class TestDue:
    def test_in_order_as_soon_as_the_carousel_has_left_the_group(self) -> None:
        # spec: NAK-3
        machine = Counting()
        # The last symbol of block 1 is the third last of the group.
        machine.hear(GROUP, lost=losing(1, 5, 6))
        assert machine.asked(LONGEST) == []
        machine.hear(1)
        assert machine.asked(LONGEST) == [{1: 5}]

    @pytest.mark.parametrize(("step", "asked"), [(MS, [{29: 4}]), (MS // 10, [])])
    def test_not_when_the_rounds_are_near(self, step: int, asked: list[dict[int, int]]) -> None:
        # spec: NAK-3: a repair takes 33 ms, and a round 512 symbols.
        machine = Counting()
        machine.hear(machine.ring.lead + 1, lost=losing(29, 5), step=step)
        assert machine.asked(LONGEST) == asked

    @pytest.mark.parametrize(("blocks", "is_asked"), [(1, True), (4, True), (24, False)])
    def test_in_rounds_for_the_last_few_blocks(self, blocks: int, is_asked: bool) -> None:
        # spec: NAK-3: a round takes 512 ms, and repairs 15 ms a block.
        machine = Counting(order=Order.ROUNDS)
        machine.spm(rate=REPAIR_A_MS)
        some = range(8, 8 + blocks)
        lost = [(block, esi) for block in some for esi in range(12)]
        machine.hear(machine.ring.turn // 2 + 4, lost=lost)
        asked = {block: count for ask in machine.asked(LONGEST) for block, count in ask.items()}
        assert asked == (dict.fromkeys(some, 15) if is_asked else {})

    @pytest.mark.parametrize("order", [Order.BLOCKS, Order.ROUNDS])
    def test_all_at_once_when_the_carousel_stands(self, order: Order) -> None:
        machine = Counting(order=order)
        lost = [(block, 5) for block in range(32)]
        machine.spm(rate=REPAIR_A_MS)
        machine.hear(machine.ring.geometry.symbols, lost=lost)
        machine.spm(rate=REPAIR_A_MS)
        asked = len(machine.asked(1))
        machine.spm(rate=REPAIR_A_MS)
        asks = machine.asked(LONGEST)
        assert asked == 0
        assert {block: count for ask in asks for block, count in ask.items()} == dict.fromkeys(
            range(32), 4
        )

    def test_all_at_once_when_no_carousel_is_heard_any_more(self) -> None:
        machine = Counting(order=Order.ROUNDS)
        machine.hear(machine.ring.geometry.symbols, lost=losing(3, 5), step=1)
        assert machine.settle() == []
        machine.now += SECOND
        machine.spm(key=OTHER, endpoint=("R", 9), has_position=False)
        assert machine.asked(LONGEST) == [{3: 4}]

    def test_who_was_busy_reads_first(self) -> None:
        # spec: NAK-3
        machine = Counting(order=Order.ROUNDS)
        lost = [(block, esi) for block in range(32) for esi in range(12)]
        machine.spm(rate=REPAIR_A_MS)
        machine.hear(machine.ring.geometry.symbols, lost=lost)
        assert machine.settle() == []
        machine.hear(9)
        machine.spm(rate=REPAIR_A_MS)
        # The disk was slow, and what was sent meanwhile waits to be read.
        machine.now += 2 * SECOND
        assert machine.machine.tick(machine.now, loss=0.0) == []
        assert machine.state(3) is None
        machine.spm(rate=REPAIR_A_MS)
        machine.hear(9)
        assert machine.asked(LONGEST) == []
        # The next time nothing waits: the carousel is gone.
        machine.now += 2 * SECOND
        machine.spm(key=OTHER, endpoint=("R", 9), has_position=False)
        assert machine.asked(LONGEST)

    @pytest.mark.parametrize("joined", [0.2, 0.5])
    def test_who_joins_late_asks_for_nothing(self, joined: float) -> None:
        # spec: NAK-3: the blocks that it never heard of take as long as all others.
        machine = Counting()
        machine.spm(rate=REPAIR_A_MS)
        machine.place = int(joined * machine.ring.lead) // GROUP * GROUP
        machine.spm(rate=REPAIR_A_MS)
        lost = [(block, 5) for block in range(32)]
        machine.hear(machine.ring.lead - machine.place - GROUP, lost=lost)
        assert machine.asked(LONGEST) == []

    def test_not_if_meanwhile_repairs_take_longer_than_the_carousel(self) -> None:
        # spec: NAK-7
        machine = Counting()
        machine.hear(machine.ring.lead + 1, lost=losing(29, 5))
        assert machine.settle() == []
        assert machine.state(29) is WantState.BACK_OFF
        machine.spm(rate=10_000)
        assert machine.asked(LONGEST) == []
        assert machine.state(29) is None

    @pytest.mark.parametrize(("missing", "is_asked"), [(31, True), (32, False), (50, False)])
    def test_who_lost_most_of_a_block_keeps_quiet(self, missing: int, is_asked: bool) -> None:
        # spec: NAK-6
        machine = Counting()
        machine.hear(GROUP + 3, lost=losing(1, *range(missing)))
        assert bool(machine.asked(LONGEST)) is is_asked


class TestHowMuch:
    def lacking(self, *esis: int, loss: float = 0.0, **config: float) -> Counting:
        """Return a receiver that lacks source symbols of block 1, which is due."""
        machine = Counting(loss=loss, **config)
        machine.hear(GROUP + 3, lost=losing(1, *esis))
        machine.settle()
        return machine

    def test_three_more_than_are_lacking(self) -> None:
        # spec: NAK-17
        machine = self.lacking(5, 6, 7)
        assert machine.asked(LONGEST) == [{1: 6}]

    @pytest.mark.parametrize(("loss", "asked"), [(0.05, 7), (0.5, 12), (0.75, 24), (0.99, 24)])
    def test_as_many_as_arrive_with_losses(self, loss: float, asked: int) -> None:
        # spec: NAK-17
        machine = self.lacking(5, 6, 7, loss=loss)
        assert machine.asked(LONGEST) == [{1: asked}]

    def test_steps_over_what_is_there_bring_nothing(self) -> None:
        machine = self.lacking(5, 6, 7)
        machine.shelf.have[1, TOP - 3 : TOP - 1] = True
        # Two of them came, which lie ahead of the cursor; four more are needed.
        assert machine.asked(LONGEST) == [{1: 6}]
        machine = self.lacking(*range(20))
        machine.shelf.have[1, TOP - 3 : TOP + 1] = True
        assert machine.asked(LONGEST) == [{1: 23}]

    def test_one_more_where_many_did_not_suffice(self) -> None:
        machine = self.lacking(5, 6, 7)
        machine.shelf.have[1, 64:71] = True
        machine.shelf.needed[1] = 64 + 5
        assert machine.asked(LONGEST) == [{1: 1}]

    def test_nothing_of_a_block_that_is_about_to_be_decoded(self) -> None:
        machine = self.lacking(5, 6, 7)
        machine.shelf.have[1, 64:68] = True
        assert machine.asked(LONGEST) == []
        assert machine.state(1) is None

    def test_from_where_the_cursor_is(self) -> None:
        # spec: NAK-17
        machine = self.lacking(*range(20))
        machine.shelf.have[1, 70:80] = True
        machine.confirm((1, 90, 5))
        machine.repair(1, 90, 5)
        # 20 - 15 + 3 are needed; the cursor is at 85, six of which it meets before 79, the first of
        # ten that are there.
        assert machine.asked(20 * GRTT)[0] == {1: 8 + 10}

    def test_where_repairs_show_that_it_is(self) -> None:
        machine = self.lacking(*range(20))
        machine.confirm((1, TOP, 30))
        machine.repair(1, TOP, 10)
        machine.shelf.have[1, 64:100] = False
        machine.shelf.have[1, TOP - 15 : TOP - 9] = True
        # The rest of what was promised never came.
        (ask, *_) = machine.asked(20 * GRTT)
        assert ask == {1: 20 - 16 + 3}


class TestSuppression:
    def backing_off(self, **fields: int) -> Counting:
        machine = Counting(**fields)
        machine.hear(GROUP + 3, lost=losing(1, 5, 6, 7))
        machine.settle()
        assert machine.state(1) is WantState.BACK_OFF
        return machine

    @pytest.mark.parametrize(("count", "is_silenced"), [(5, False), (6, True), (60, True)])
    def test_by_as_many_as_are_needed(self, count: int, is_silenced: bool) -> None:
        # spec: NAK-5
        machine = self.backing_off()
        machine.confirm((1, TOP, count))
        asked = machine.asked(8 * GRTT)
        # What was promised and what is asked for are the same steps.
        assert asked == ([] if is_silenced else [{1: 6}])
        assert machine.machine.counters.naks_suppressed == is_silenced

    def test_not_by_what_is_there(self) -> None:
        machine = self.backing_off()
        machine.shelf.have[1, 100:102] = True
        machine.confirm((1, 101, 4))
        assert machine.asked(8 * GRTT) == [{1: 2 + 4}]

    def test_not_by_another_block(self) -> None:
        machine = self.backing_off()
        machine.confirm((0, TOP, 60), (2, TOP, 60))
        assert machine.asked(8 * GRTT) == [{1: 6}]

    def test_another_session_brings_a_part(self) -> None:
        machine = self.backing_off()
        machine.repair(0, 0, 0, key=OTHER)
        machine.confirm((1, 95, 4), key=OTHER)
        assert machine.asked(8 * GRTT) == [{1: 2}]

    def test_two_together(self) -> None:
        machine = self.backing_off()
        machine.repair(0, 0, 0, key=OTHER)
        machine.confirm((1, 95, 4), key=OTHER)
        machine.confirm((1, TOP, 2))
        assert machine.asked(8 * GRTT) == []

    def test_losses_on_the_way_are_allowed_for(self) -> None:
        machine = self.backing_off(loss=0.5)
        machine.confirm((1, TOP, 11))
        assert machine.asked(8 * GRTT) == [{1: 12}]

    def test_an_ncf_heard_before_it_was_due_counts(self) -> None:
        machine = Counting()
        machine.hear(GROUP, lost=losing(1, 5, 6, 7))
        machine.confirm((1, TOP, 6))
        machine.hear(3)
        assert machine.asked(8 * GRTT) == []

    def test_the_whole_way_with_a_promise_that_was_not_kept(self) -> None:
        # spec: NAK-16
        machine = self.backing_off()
        assert machine.asked(LONGEST) == [{1: 6}]
        machine.confirm((1, TOP, 6), ahead=10)
        assert machine.state(1) is WantState.WAIT_DATA
        machine.repair(1, TOP, 6, lost=4)
        machine.hear(14, step=1)
        # Two came: so many fewer are needed, from where the cursor is now.
        assert machine.asked(2 * LONGEST)[0] == {1: 4}
        machine.repair(1, TOP - 6, 4)
        assert machine.asked(40 * GRTT) == []
        assert machine.state(1) is None

    def test_what_never_brings_anything_is_left_alone(self) -> None:
        # spec: NAK-14
        machine = self.backing_off(data_retries=2, broken_promises=9)
        asked = 0
        for _ in range(20):
            machine.spm()
            for ask in machine.asked(10 * GRTT):
                asked += 1
                machine.confirm((1, TOP - ask[1] * asked, ask[1]))
        assert asked == 3
        machine.now += 20 * SECOND
        machine.spm()
        assert machine.asked(LONGEST)


class TestCursors:
    KEY = Endpoint("S", 0), 1, 0

    def heard(self) -> Cursors:
        """Return what is known after an NCF of 30 symbols of block 1, from the top on."""
        cursors = Cursors(NakConfig(), Geometry(64 * 64 * 4, 64, 64, 64, 4))
        cursors.promise(SECOND, self.KEY, Counts(*np.array([[1, TOP, 30]]).T))
        return cursors

    def test_one_never_heard_of_is_at_the_top(self) -> None:
        assert self.heard().at(self.KEY, 0, None) == TOP
        assert self.heard().at((Endpoint("R", 0), 1, 0), 1, None) == TOP

    def test_repairs_move_it_and_those_that_were_overtaken_do_not(self) -> None:
        cursors = self.heard()
        for esi in (TOP - 9, TOP - 1):
            cursors.bring(self.KEY, Ids(np.array([1]), np.array([esi])))
            assert cursors.at(self.KEY, 1, None) == TOP - 10
            (promised,) = cursors.promised(0, 1).values()
            assert promised.tolist() == list(range(TOP - 10, TOP - 30, -1))

    def test_a_promise_has_an_end(self) -> None:
        cursors = self.heard()
        assert cursors.promised(SECOND, 1) == {}
        cursors.end(1)
        assert cursors.promised(0, 1) == {}
        assert cursors.at(self.KEY, 1, None) == TOP - 30

    def test_it_goes_round(self) -> None:
        cursors = self.heard()
        cursors.promise(SECOND, self.KEY, Counts(*np.array([[1, 3, 10]]).T))
        (promised,) = cursors.promised(0, 1).values()
        assert promised.tolist() == [3, 2, 1, 0, TOP, TOP - 1, TOP - 2, TOP - 3, TOP - 4, TOP - 5]


class TestBounds:
    def test_cursors(self) -> None:
        config = NakConfig(max_cursors=10, max_repairers=3)
        geometry = Geometry(64 * 64 * 400, 64, 64, 64, 4)
        cursors = Cursors(config, geometry)
        for session in range(20):
            key = Endpoint("X", session), session, 0
            for first in range(0, 300, 100):
                blocks = np.arange(first, first + 100)
                cursors.promise(SECOND, key, Counts(blocks, blocks % 128, blocks % 9 + 1))
        assert sum(len(one) for one in cursors._sessions.values()) == 30

    @given(
        st.lists(
            st.one_of(
                st.tuples(
                    st.just("ncf"), st.integers(0, 31), st.integers(0, TOP), st.integers(1, 128)
                ),
                st.tuples(st.just("repair"), st.integers(0, 31), st.integers(0, TOP)),
                st.tuples(st.just("hear"), st.integers(1, 300), st.integers(2, 40)),
                st.tuples(st.just("wait"), st.sampled_from([1, MS, GRTT, 100 * MS, SECOND])),
                st.tuples(st.just("loss"), st.floats(0, 0.999)),
                st.tuples(st.just("spm"), st.booleans()),
            ),
            max_size=30,
        ),
        st.sampled_from([Order.BLOCKS, Order.ROUNDS, Order.RANDOM]),
        st.booleans(),
    )
    def test_whatever_is_heard_it_asks_within_the_ring(
        self, happening: list[tuple], order: Order, is_ours: bool
    ) -> None:
        machine = Counting(order=order)
        key = machine.KEY if is_ours else OTHER
        for event, *values in happening:
            match event:
                case "ncf":
                    machine.confirm(tuple(values), key=key)
                case "repair":
                    block, esi = values
                    machine.repair(block, esi, 1, key=key)
                case "hear":
                    count, every = values
                    ids: Ids = machine.ring.ids(machine.place, count)
                    lost = list(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True))[::every]
                    machine.hear(count, lost=lost)
                case "wait":
                    for ask in machine.asked(values[0]):
                        assert all(1 <= count <= 128 for count in ask.values())
                        assert all(machine.shelf.wanted[block] <= 32 for block in ask)
                case "loss":
                    machine.loss = values[0]
                case "spm":
                    machine.spm(has_position=values[0])
            machine.settle()
