"""What receivers ask for, when and whom, and what keeps them quiet."""

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.config import NakConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive.nak import TRANSITIONS, Event, NakMachine, State
from pgmlite.wire.batch import HEADER_DTYPE
from pgmlite.wire.layout import MAX_CONTROL, PacketType
from pgmlite.wire.request import NAK_ROOM, request_size
from tests.support import builders
from tests.support.builders import make_object
from tests.support.nak_builders import (
    GRTT,
    HEAD,
    Asking,
    Listening,
    memory_kept,
    ncf_packet,
    parse,
    rdata_packets,
    spm_packet,
)

SAMPLE = make_object(64 * 2_000, block_symbols=20)
LONGEST = 6 * GRTT
OTHER = (("R", 0), 2, 0)
"""The session of a repairer on its own."""


class TestLoss:
    def test_a_gap_is_a_loss_after_three_later_packets(self) -> None:
        # spec: NAK-1
        machine = Asking()
        machine.hear(range(42), lost=[39])
        assert machine.machine.deadline is None
        machine.hear([42])
        assert machine.machine.deadline is not None
        machine.hear([43])
        assert machine.asked() == [39]

    def test_asked_when_the_block_has_gone_by_and_not_before(self) -> None:
        machine = Asking()
        machine.hear(range(42), lost=[21, 22, 30])
        assert machine.asked() == []
        machine.hear([42])
        assert machine.asked() == [21, 22, 30]

    @pytest.mark.parametrize(("block", "joined"), [(100, 20), (100, 90), (40, 50), (30, 95)])
    def test_a_block_joined_in_its_middle_is_asked_for_when_the_carousel_is_there_again(
        self, block: int, joined: int
    ) -> None:
        # spec: NAK-3
        machine = Asking(100, block=block, carousel_margin=0.0)
        first = joined // block * block
        machine.hear([*range(joined, 100), *range(first)], step=1)
        machine.hear(range(first, joined), lost=[first + 2], step=1)
        assert machine.asked() == []
        machine.hear(range(joined, joined + HEAD), step=1)
        assert machine.asked() == [first + 2]
        # And no second time because of that: from now on blocks are asked for at their end.
        machine.hear([*range(joined + HEAD, 100), *range(joined + HEAD)], lost=[first], step=1)
        machine.have[first] = False
        assert set(machine.asked()) <= {first + 2}

    @pytest.mark.parametrize("lost", [[60], [50, 69], [68, 69]])
    def test_a_carousel_that_stands_in_the_middle_of_a_block_ends_it(self, lost: list[int]) -> None:
        # spec: NAK-1, NAK-3
        machine = Asking(100, block=50, carousel_margin=0.0)
        machine.hear([*range(75, 100), *range(70)], lost=lost, step=1)
        machine.spm(head=70)
        assert machine.asked() == []
        machine.spm(head=70)
        assert machine.asked(8 * GRTT)[: len(lost)] == lost

    @pytest.mark.parametrize("order", [(37, 36, 38), (38, 37, 36), (37, 38, 36)])
    def test_reordering_is_no_loss(self, order: tuple[int, ...]) -> None:
        machine = Asking()
        asks = machine.follow([*range(36), *order, *range(39, 100)])
        assert asks == []
        assert machine.asked() == []

    def test_a_packet_that_comes_very_late_ends_the_cycle(self) -> None:
        machine = Asking()
        machine.hear([*range(30), *range(31, 43), 30])
        assert machine.asked() == []
        assert machine.machine.deadline is None

    @pytest.mark.parametrize(
        "lost", [[195], [180, 199], [0], [3, 19], [199, 0], [*range(196, 200), 0, 1, 2]]
    )
    def test_where_the_carousel_wraps(self, lost: list[int]) -> None:
        machine = Asking(200, carousel_margin=0.0)
        machine.hear(range(100, 200), lost=lost)
        machine.hear(range(24), lost=lost)
        assert machine.asked() == sorted(lost)

    def test_again_in_the_next_cycle(self) -> None:
        machine = Asking(200, carousel_margin=0.0)
        machine.hear(range(200), lost=[25, 195])
        machine.asked()
        machine.have[25] = True
        machine.hear(range(200), lost=[25, 195])
        machine.hear(range(3))
        assert machine.asked() == [195]

    def test_the_head_in_an_spm_shows_a_gap(self) -> None:
        machine = Asking()
        machine.hear(range(38))
        machine.spm(head=42)
        assert machine.machine.deadline is None
        machine.spm(head=43)
        assert machine.machine.deadline is not None
        machine.hear([43])
        assert machine.asked() == [38, 39]

    def test_what_is_lost_at_the_end_of_the_last_cycle(self) -> None:
        # A sender that was told to stop sends no later packet but SPMs.
        machine = Asking()
        machine.hear(range(4_000), lost=[3_997, 3_999])
        asked = []
        for _ in range(4):
            machine.spm(head=0)
            asked += machine.asked(250 * MS)
        assert set(asked) == {3_997, 3_999}

    def test_what_went_by_before_we_joined_was_not_lost(self) -> None:
        # spec: NAK-2
        machine = Asking()
        machine.hear(range(2_013, 2_060), lost=[2_030])
        assert machine.asked() == [2_030]

    @pytest.mark.parametrize("first", [0, 1, 19, 20, 3_990])
    def test_joining_on_the_word_of_an_spm(self, first: int) -> None:
        machine = Asking()
        machine.spm(head=first)
        machine.hear([n % 4_000 for n in range(first, first + 60)])
        assert machine.asked() == []

    @pytest.mark.parametrize(("start", "asked"), [(46, [*range(30, 46)]), (2_033, []), (3_990, [])])
    def test_a_huge_gap_is_as_if_we_had_just_joined(self, start: int, asked: list[int]) -> None:
        machine = Asking()
        machine.hear(range(30))
        machine.hear([n % 4_000 for n in range(start, start + 40)])
        assert machine.asked() == asked

    def test_sessions_are_followed_apart(self) -> None:
        machine = Asking()
        for here, there in zip(range(64), range(2_000, 2_064), strict=True):
            machine.hear([here], lost=[25])
            machine.hear([there], lost=[2_030], key=OTHER)
        assert machine.asked() == [25, 2_030]

    @pytest.mark.parametrize("total", range(1, 12))
    def test_tiny_objects(self, total: int) -> None:
        machine = Asking(total, block=3)
        rng = Random(total)
        for cycle in range(30):
            for symbol in range(total):
                machine.follow([symbol], lost=range(total) if rng.random() < 0.5 else ())
            machine.spm(head=cycle % total)

    def test_blocks_that_were_lost_from_before_the_manifest_came(self) -> None:
        have = np.zeros(200, np.bool_)
        machine = NakMachine(NakConfig(), have, rng=Random(1))
        for symbol in [*range(25), *range(26, 70)]:
            have[symbol] = True
            machine.take_position(symbol * MS, OTHER, symbol, is_head=False)
        later = Asking(200, machine=lambda *_, **__: machine)
        later.have = have
        later.now = 70 * MS
        later.spm(key=OTHER)
        assert later.asked() == [25]


class TestCycle:
    @staticmethod
    def state(machine: Asking, block: int = 1) -> State | None:
        cycle = machine.machine._cycles.get(block)
        return cycle.state if cycle else None

    def test_the_whole_way(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        assert machine.settle() == []
        assert self.state(machine) is State.BACK_OFF
        ask = machine.next_ask(LONGEST)
        assert ask.symbols.tolist() == [25, 30]
        assert ask.repairer.endpoint == machine.ENDPOINT
        assert self.state(machine) is State.WAIT_NCF
        assert machine.machine.deadline == machine.now + 2 * GRTT
        machine.now += GRTT
        machine.confirm(25, 30)
        assert self.state(machine) is State.WAIT_DATA
        assert machine.machine.deadline == machine.now + 8 * GRTT
        deadline = machine.machine.deadline
        machine.now += GRTT
        machine.repair(25)
        assert self.state(machine) is State.WAIT_DATA
        assert machine.machine.deadline == deadline
        machine.repair(30)
        assert machine.asked() == []
        assert self.state(machine) is None
        assert machine.machine.deadline is None
        counters = machine.machine.counters
        assert (counters.naks_sent, counters.naks_suppressed, counters.ncfs_received) == (1, 0, 1)

    def test_repairs_tell_what_a_lost_ncf_would_have(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        machine.next_ask(LONGEST)
        machine.repair(25)
        assert self.state(machine) is State.WAIT_DATA
        assert machine.asked(8 * GRTT) == []
        assert machine.asked() == [30]

    @pytest.mark.parametrize("seed", range(10))
    def test_what_is_due_soon_goes_along(self, seed: int) -> None:
        # spec: NAK-15
        machine = Asking(seed=seed)
        machine.hear(range(210), lost=range(5, 200, 20), step=1)
        machine.settle()
        due = {c.block: c.deadline for c in machine.machine._cycles.values()}
        first = min(due.values())
        along = [block for block, at in sorted(due.items()) if at <= first + GRTT]
        ask = machine.next_ask(LONGEST)
        assert machine.now == first
        assert ask.symbols.tolist() == [20 * block + 5 for block in along]
        states = {c.block: c.state for c in machine.machine._cycles.values()}
        assert [b for b, state in sorted(states.items()) if state is State.WAIT_NCF] == along
        assert machine.machine.counters.naks_sent == 1

    def test_a_block_is_asked_for_in_one_nak(self) -> None:
        # spec: NAK-15
        machine = Asking(40_010)
        lost = [20 * block + n for block in range(0, 2_000, 16) for n in range(1, 20, 2)]
        machine.hear(range(40_010), lost=lost, step=1)
        machine.settle()
        for cycle in machine.machine._cycles.values():
            cycle.deadline = machine.now + MS
        machine.now += MS
        asks = machine.settle()
        assert [symbol for ask in asks for symbol in ask.symbols.tolist()] == lost
        assert 1 < len(asks) < 50
        for ask in asks:
            assert request_size(ask.symbols) <= NAK_ROOM
            assert len(ask.symbols) % 10 == 0
        for one, other in pairwise(asks):
            assert request_size(np.concatenate((one.symbols, other.symbols[:10]))) > NAK_ROOM

    def test_the_back_off_fills_its_range(self) -> None:
        waits = []
        for seed in range(60):
            machine = Asking(seed=seed)
            machine.hear(range(43), lost=[25])
            since = machine.now
            machine.next_ask(LONGEST)
            waits.append((machine.now - since) / LONGEST)
        assert min(waits) < 0.4
        assert max(waits) > 0.9

    def test_what_is_lost_later_is_asked_for_later(self) -> None:
        # spec: NAK-3
        machine = Asking(100, block=50, carousel_margin=0.0)
        machine.hear(range(53), lost=[25], step=1)
        machine.settle()
        machine.hear([*range(53, 100), *range(53)], lost=[25, 30], step=1)
        machine.have[30] = False
        assert machine.next_ask(LONGEST).symbols.tolist() == [25]

    def test_what_is_lost_of_a_block_during_its_cycle_is_asked_for_after_it(self) -> None:
        machine = Asking()
        machine.hear(range(24), lost=[7])
        assert machine.next_ask(10 * GRTT).symbols.tolist() == [7]
        machine.confirm([7])
        # The same carousel again, from a sender that starts anew: the block ends in the cycle.
        other = (("S", 0), 2, 0)
        machine.have[10:14] = False
        machine.hear(range(4_000 - 10, 4_000), key=other, step=1)
        machine.hear(range(24), lost=[7, 10, 11, 12, 13], key=other, step=1)
        machine.repair([7])
        assert set(machine.asked(20 * GRTT)) == {10, 11, 12, 13}

    def test_a_block_that_still_goes_by_when_the_manifest_comes_is_asked_for_at_its_end(
        self,
    ) -> None:
        machine = Asking(block=20)
        machine.machine._block_symbols = 0
        machine.hear(range(30), lost=[7, 22])
        machine.machine.set_blocks(20)
        machine.hear([30])
        assert machine.next_ask(10 * GRTT).symbols.tolist() == [7]
        machine.repair([7])
        machine.hear(range(31, 60), lost=[35], step=1)
        assert set(machine.asked(20 * GRTT)) == {22, 35}

    def test_every_way_of_the_table_is_gone_and_no_other(self) -> None:
        # spec: NAK-3
        gone: set[tuple[State, Event]] = set()

        class Recording(NakMachine):
            def _move(self, cycle: Any, event: Event) -> None:
                gone.add((cycle.state, event))
                super()._move(cycle, event)

        rng = Random(3)
        machine = Asking(400, machine=Recording, shortest_death=50 * MS)
        for step in range(30_000):
            if step % 400 == 0:
                machine.spm()
                machine.have[:] = False
            asks = machine.follow([step % 400], lost=range(400) if rng.random() < 0.2 else ())
            if rng.random() < 0.02:
                machine.confirm(rng.sample(range(400), 40))
            asked = [symbol for _, symbols in asks for symbol in symbols]
            answers = step // 3_000 % 4
            if asked and answers in {1, 2}:
                machine.confirm(asked)
            if asked and answers == 2:
                machine.repair(asked[: rng.randrange(1, len(asked) + 1)])
            if asked and answers == 3:
                machine.have[asked] = True
        assert gone == set(TRANSITIONS)

    def test_a_cycle_that_is_done_goes_nowhere(self) -> None:
        assert not any(state is State.DONE for state, _ in TRANSITIONS)


class TestSuppression:
    def test_an_ncf_that_covers_all_silences(self) -> None:
        # spec: NAK-5
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        machine.settle()
        machine.confirm(range(20, 40))
        assert machine.asked(8 * GRTT) == []
        assert machine.machine.counters.naks_suppressed == 1

    def test_an_ncf_that_covers_a_part_leaves_the_rest(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25, 30, 31])
        machine.settle()
        machine.confirm(0, 25, 31, 2_000)
        assert machine.next_ask(LONGEST).symbols.tolist() == [30]

    def test_two_that_cover_all_together(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        machine.settle()
        machine.confirm(25)
        machine.confirm(30, key=OTHER)
        assert machine.asked(8 * GRTT) == []

    def test_one_for_others_silences_nobody(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        machine.settle()
        machine.confirm(24, 26, range(2_000, 2_040))
        assert machine.next_ask(LONGEST).symbols.tolist() == [25, 30]

    def test_one_heard_before_the_cycle_starts_counts(self) -> None:
        machine = Asking()
        machine.hear(range(40), lost=[25, 30])
        machine.confirm(25)
        machine.hear(range(40, 64))
        assert machine.next_ask(LONGEST).symbols.tolist() == [30]

    def test_one_heard_long_before_does_not(self) -> None:
        machine = Asking()
        machine.hear(range(30), lost=[25])
        machine.confirm(25)
        machine.hear(range(30, 64), step=4 * MS)
        assert machine.asked() == [25]

    def test_one_that_names_a_part_of_what_was_asked(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        machine.next_ask(LONGEST)
        machine.confirm(25)
        machine.repair(25)
        assert machine.asked(20 * GRTT)[:1] == [30]

    def test_what_was_confirmed_and_never_came_is_asked_for(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25])
        machine.settle()
        machine.confirm(25)
        since = machine.now
        assert machine.next_ask(15 * GRTT).symbols.tolist() == [25]
        assert machine.now >= since + 8 * GRTT


class TestRetries:
    @staticmethod
    def follow(machine: Asking, start: int, stop: int) -> list[tuple[int, list[int]]]:
        """Hear a clean carousel and its SPMs; return the NAKs."""
        asks = []
        for symbol in range(start, stop):
            if symbol % 250 == 0:
                machine.spm()
            asks += machine.follow([symbol])
        return asks

    def test_nobody_answers_and_life_returns(self) -> None:
        # spec: NAK-10
        machine = Asking(20_000)
        machine.hear(range(64), lost=[25])
        asks = self.follow(machine, 64, 2_000)
        assert [symbols for _, symbols in asks] == [[25]] * 5
        gaps = np.diff([at for at, _ in asks])
        assert (gaps >= 2 * GRTT).all()
        assert max(gaps) <= 2 * GRTT + 16 * LONGEST + MS
        assert machine.machine.deadline is None
        # Dead for one cycle of 20 s: no loss is asked for, and none fails.
        machine.hear(range(2_000, 2_100), lost=[2_050])
        assert self.follow(machine, 2_100, 19_900) == []
        machine.hear(range(19_900, 20_000), lost=[19_950])
        self.follow(machine, 0, 2_000)
        machine.have[2_055] = False
        machine.hear(range(2_000, 2_100), lost=[2_055])
        asked = [symbol for _, ask in self.follow(machine, 2_100, 2_300) for symbol in ask]
        assert 2_055 in asked

    def test_a_stranger_beside_a_dead_repairer_keeps_nobody_busy(self) -> None:
        # spec: NAK-3
        machine = Asking(20_000)
        machine.hear(range(64), lost=[25])
        self.follow(machine, 64, 2_000)
        assert machine.machine.deadline is None
        stranger = {"endpoint": ("X", 9), "key": (("X", 0), 7, 0), "preferred": False}
        machine.spm(**stranger)
        # `settle` fails if the machine is due for ever.
        assert machine.follow(range(2_000, 2_100), lost=[2_050]) == []
        assert machine.machine.deadline is None

    def test_nobody_is_dead_while_nothing_comes(self) -> None:
        # spec: NAK-10
        machine = Asking(20_000)
        machine.hear(range(64), lost=[25])
        machine.spm(grtt=85, backoff_factor=1)
        assert machine.asked(450 * MS) == [25] * 5
        assert machine.machine.deadline is None
        of = machine.machine._repairers._repairers
        assert of["S", 9].dead_until == 0

    def test_who_was_asked_is_dead_and_not_who_would_be(self) -> None:
        # spec: NAK-10
        machine = Asking(20_000)
        other = {"endpoint": ("B", 9), "key": (("B", 0), 2, 0)}
        machine.hear(range(64), lost=[25])
        asked = []
        while len(asked) < 5:
            machine.now += MS
            machine.spm(**other)
            machine.follow([64 + len(asked)])
            asked += [ask.repairer.endpoint for ask in machine.settle()]
            deadline = machine.machine.deadline
            if deadline and len(asked) < 5:
                machine.now = max(machine.now, deadline)
                asked += [ask.repairer.endpoint for ask in machine.settle()]
        assert set(asked) == {("B", 9)}
        machine.now += MS
        machine.spm()  # who would be asked now
        machine.now += 3 * GRTT
        machine.settle()
        of = machine.machine._repairers._repairers
        assert of["B", 9].dead_until > machine.now
        assert of["S", 9].dead_until == 0

    def test_data_that_never_come_end_the_cycle_and_kill_nobody(self) -> None:
        # spec: NAK-13
        machine = Asking()
        machine.hear(range(64), lost=[25])
        asked = 0
        for symbol in range(64, 3_900):
            if symbol % 250 == 0:
                machine.spm()
            for _, symbols in machine.follow([symbol], lost=[3_000]):
                asked += symbols == [25]
                machine.now += GRTT
                machine.confirm(symbols)
        assert asked == 6
        assert machine.machine.counters.naks_sent > asked, "the repairer counts as dead"

    def test_who_gets_something_asks_on(self) -> None:
        # spec: NAK-13
        machine = Asking(20_000)
        machine.hear(range(64), lost=range(20, 40, 2))
        for left in range(10, 0, -1):
            machine.spm()
            ask = machine.next_ask(8 * GRTT + LONGEST)
            assert len(ask.symbols) == left
            machine.confirm(ask.symbols.tolist())
            machine.repair(int(ask.symbols[0]))
        machine.asked()
        assert not machine.machine._cycles

    def test_what_was_promised_and_did_not_come_is_asked_for_again(self) -> None:
        # spec: NAK-16
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        machine.next_ask(LONGEST)
        machine.confirm(25, 30, ahead=10)
        machine.repair(25)
        machine.hear(range(64, 64 + 12), step=1)
        assert machine.settle() == []
        assert TestCycle.state(machine) is State.WAIT_DATA
        machine.hear([64 + 12], step=1)
        assert machine.settle() == []
        assert TestCycle.state(machine) is State.BACK_OFF
        assert machine.asked(LONGEST) == [30]

    def test_what_is_further_back_in_the_queue_is_waited_for(self) -> None:
        # spec: NAK-16
        machine = Asking()
        machine.hear(range(64), lost=[25])
        machine.next_ask(LONGEST)
        machine.confirm(25, ahead=200)
        assert machine.follow(range(64, 64 + 202), step=GRTT) == []
        assert TestCycle.state(machine) is State.WAIT_DATA
        machine.spm()
        assert [symbols for _, symbols in machine.follow(range(266, 280), step=GRTT)] == [[25]]

    def test_a_promise_of_another_session_is_its_own(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25])
        machine.next_ask(LONGEST)
        machine.spm(key=OTHER, endpoint=("R", 9))
        machine.confirm(25, ahead=10, key=OTHER)
        machine.hear(range(64, 100), step=1)
        machine.settle()
        assert TestCycle.state(machine) is State.WAIT_DATA
        # Nothing comes of that session: it may be gone, and its queue with it.
        assert machine.asked(8 * GRTT - 1) == []
        assert machine.asked(LONGEST + 1) == [25]

    def test_who_falls_silent_keeps_no_promise(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25])
        machine.next_ask(LONGEST)
        machine.confirm(25, ahead=1_000)
        machine.hear(range(64, 100))
        assert machine.asked(8 * GRTT - 1) == []
        assert machine.asked(LONGEST + 1) == [25]

    @pytest.mark.parametrize("silent", [100 * MS, SECOND])
    def test_nothing_is_asked_while_nothing_is_heard(self, silent: int) -> None:
        # spec: NAK-8
        machine = Asking()
        machine.hear(range(64), lost=[25])
        machine.now += silent
        is_silent = silent > 500 * MS
        assert bool(machine.asked(LONGEST)) is not is_silent
        machine.spm()
        assert bool(machine.asked(2 * LONGEST)) is is_silent

    def test_a_repairer_without_spms_is_forgotten(self) -> None:
        machine = Asking(60_000)
        machine.hear(range(12_000))
        machine.hear(range(12_000, 12_064), lost=[12_025])
        assert machine.asked() == []


class TestCarouselFirst:
    def test_what_comes_round_sooner_is_not_asked_for(self) -> None:
        # A cycle of 36 ms, and the first repair is expected after 33 ms and half of that.
        # spec: NAK-7
        rng = Random(2)
        machine = Asking(120)
        for _ in range(10):
            lost = rng.sample(range(120), 4)
            assert machine.follow(range(120), lost=lost, step=300_000) == []
            machine.have[:] = False

    def test_what_has_just_gone_by_is_what_comes_last(self) -> None:
        machine = Asking()
        machine.hear(range(103), lost=[99])
        assert machine.asked() == [99]

    def test_what_comes_round_later_is(self) -> None:
        machine = Asking(120, carousel_margin=0.0)
        machine.follow(range(120), step=300_000)
        machine.have[:] = False
        asks = machine.follow([*range(120), *range(120)], lost=[25], step=300_000)
        assert [symbols for _, symbols in asks][:1] == [[25]]

    def test_one_repair_that_was_late_is_not_the_last(self) -> None:
        # spec: NAK-7
        machine = Asking(1_400)
        machine.hear(range(64), lost=[25])
        machine.next_ask(LONGEST)
        machine.now += 1_200 * MS
        machine.repair(25)
        asked = 0
        for _ in range(10):
            machine.have[:] = False
            for start in range(0, 1_400, 100):
                machine.spm()
                symbols = range(start, start + 100)
                asked += len(machine.follow(symbols, lost=[start + 50]))
        assert asked > 50

    def test_repairs_that_take_long_are_asked_for_less(self) -> None:
        asked = []
        for delay in (10, 1_000):
            machine = Asking(1_400)
            machine.hear(range(64), lost=[25])
            machine.next_ask(LONGEST)
            machine.hear(range(64, 64 + delay))
            machine.repair(25)
            machine.spm()
            machine.hear(range(64 + delay, 264 + delay), lost=[125 + delay])
            asked.append(machine.asked())
        assert asked == [[135], []]

    def test_the_carousel_of_another_session_counts_while_it_is_heard(self) -> None:
        asked = []
        for quiet in (0, SECOND):
            machine = Asking()
            machine.hear(range(3_800, 3_990), key=OTHER)
            machine.now += quiet
            machine.spm()
            machine.hear(range(64), lost=[20], step=100_000)
            asked.append(machine.asked(LONGEST))
        assert asked == [[], [20]]

    @pytest.mark.parametrize(
        ("block", "lost", "is_asked"),
        [(20, 16, True), (20, 17, False), (100, 50, True), (100, 51, False), (100, 100, False)],
    )
    def test_who_lost_most_of_a_block_keeps_quiet(
        self, block: int, lost: int, is_asked: bool
    ) -> None:
        # spec: NAK-6
        machine = Asking(block=block)
        machine.hear(range(2 * block + 5), lost=range(block, block + lost))
        assert machine.asked() == (list(range(block, block + lost)) if is_asked else [])


class TestPacket:
    def test_what_a_nak_says(self) -> None:
        # spec: PKT-12, NAK-12
        receiver = Listening(SAMPLE)
        receiver.spm(nonce=5, timestamp=1_000)
        receiver.hear(range(50))
        receiver.spm(nonce=(1 << 64) - 3, timestamp=7_000_000_000)
        heard = receiver.now
        receiver.hear(range(50, 64), lost=[52, 58])
        (nak,) = receiver.wait(LONGEST)
        sent, _ = receiver.naks[0]
        assert nak.endpoint == ("S", 9)
        row = np.frombuffer(nak.packet, HEADER_DTYPE, 1)[0]
        expected = SAMPLE.fields | {"type": PacketType.NAK, "channel": 0, "offset": 0, "flags": 0}
        assert {name: int(row[name]) for name in expected} == expected
        assert int(row["sqn"]) == receiver.sqn
        body = parse(nak, SAMPLE)
        assert body.symbols.tolist() == [52, 58]
        assert body.nonce == (1 << 64) - 3
        assert body.timestamp == 7_000_000_000 + sent - heard
        assert body.loss == pytest.approx(2 / 66, abs=1e-3)
        assert len(nak.packet) <= MAX_CONTROL

    def test_a_long_list_is_cut_to_one_packet_and_the_rest_follows(self) -> None:
        sample = make_object(64 * 60_000, block_symbols=4_096)
        receiver = Listening(sample)
        lost = sorted(Random(4).sample(range(8_192), 1_500))
        spread = [4_096 * 2 + n for n in lost if n < 4_096]
        receiver.spm()
        receiver.hear(range(8_100, 4_096 * 3 + 5), lost=spread, step=MS // 10)
        (nak,) = receiver.wait(LONGEST)
        assert len(nak.packet) <= MAX_CONTROL
        asked = parse(nak, sample).symbols.tolist()
        assert asked == spread[: len(asked)]

    def test_no_nak_means_silence_and_repairs_are_used(self) -> None:
        # spec: RCV-14
        receiver = Listening(SAMPLE, naks=False)
        receiver.spm()
        receiver.hear(range(200), lost=range(30, 200, 25))
        assert receiver.machine.deadline is None
        assert receiver.wait(SECOND) == []
        before, _ = receiver.machine.progress
        receiver.give(rdata_packets(SAMPLE, [30, 55]))
        after, _ = receiver.machine.progress
        assert after == before + 2


class TestWhomToAsk:
    REPAIRER = ("R", 6_000)

    def lose(self, receiver: Listening, first: int, **fields: int) -> list[str]:
        """Lose a symbol of the carousel; return where the NAKs go."""
        receiver.hear(range(first, first + 70), lost=[first + 30], **fields)
        return [nak.endpoint[0] for nak in receiver.wait(2 * LONGEST)]

    def test_the_sender_itself_once_it_has_sent_data(self) -> None:
        receiver = Listening(make_object(64 * 2_000, block_symbols=4))
        receiver.spm()
        receiver.hear(range(12), lost=[5])
        assert receiver.wait(LONGEST) == []
        receiver.hear(range(12, 40), lost=[33])
        assert {nak.endpoint for nak in receiver.wait(LONGEST)} == {("S", 9)}

    @pytest.mark.parametrize("share", [5, 50, 99, 100, 255])
    def test_nobody_on_the_word_of_an_spm(self, share: int) -> None:
        # spec: NAK-9
        receiver = Listening(SAMPLE)
        for first in range(0, 700, 70):
            receiver.spm(repair_port=0)
            receiver.spm(source=("victim", 1), header={"tsi": 2}, repair_share=share)
            assert self.lose(receiver, first) == []

    def test_who_repeats_repairs_only_is_not_trusted_for_it(self) -> None:
        receiver = Listening(SAMPLE)
        for first in range(0, 700, 70):
            receiver.spm(repair_port=0)
            receiver.spm(source=("victim", 1), header={"tsi": 2}, repair_share=50)
            repairs = rdata_packets(SAMPLE, range(40), tsi=2, sqn=first)
            receiver.give(repairs, source=("victim", 1))
            assert self.lose(receiver, first) == []

    @pytest.mark.parametrize("told_by", ["us", "the manifest"])
    def test_who_we_were_told_of_is_asked_at_once(self, told_by: str) -> None:
        endpoint = ("192.0.2.7", 9)
        sample = SAMPLE
        if told_by == "the manifest":
            sample = replace(SAMPLE, manifest=replace(SAMPLE.manifest, repairers=(endpoint,)))
        repairers = frozenset({endpoint} if told_by == "us" else ())
        receiver = Listening(sample, repairers=repairers)
        receiver.spm(repair_port=0)
        receiver.spm(source=("192.0.2.7", 1), header={"tsi": 2}, repair_share=100)
        receiver.hear(range(70), lost=[30])
        assert {nak.endpoint for nak in receiver.wait(LONGEST)} == {endpoint}

    @pytest.mark.parametrize(("name", "port"), [("R", 10), ("X", 9)])
    def test_another_port_or_address_is_another_endpoint(self, name: str, port: int) -> None:
        receiver = Listening(SAMPLE, repairers=frozenset({("R", 9)}))
        receiver.spm(repair_port=0)
        receiver.spm(source=(name, 1), header={"tsi": 2}, repair_share=100, repair_port=port)
        assert self.lose(receiver, 0) == []

    def test_who_we_were_told_of_comes_before_the_sender(self) -> None:
        # spec: NAK-11
        receiver = Listening(SAMPLE, repairers=frozenset({("R", 9)}))
        receiver.spm()
        assert self.lose(receiver, 0) == ["S"] * len(receiver.naks)
        receiver.spm(source=("R", 1), header={"tsi": 2}, repair_share=100)
        receiver.spm()
        asked = self.lose(receiver, 70)
        assert asked
        assert set(asked) == {"R"}

    def test_another_session_at_the_same_address_is_asked_with_its_own_nonce(self) -> None:
        receiver = Listening(SAMPLE)
        receiver.spm(nonce=1)
        self.lose(receiver, 0)
        receiver.wait(SECOND)
        receiver.spm(header={"tsi": 3}, nonce=2)
        assert self.lose(receiver, 70, tsi=3)
        row = np.frombuffer(receiver.naks[-1][1].packet, HEADER_DTYPE, 1)[0]
        assert (int(row["tsi"]), parse(receiver.naks[-1][1], SAMPLE).nonce) == (3, 2)


class TestBounds:
    """What strangers can make a receiver hold or miss."""

    def flooded(self, strangers: int, **config: Any) -> Listening:
        """Return a receiver that heard SPMs of many strangers, and a carousel with losses."""
        receiver = Listening(SAMPLE, **config)
        receiver.hear(range(20))
        for number in range(strangers):
            header = {"tsi": 1_000 + number, "offset": 64 * (number * 700 % 2_000)}
            packet = spm_packet(SAMPLE, header)
            receiver.give([packet], source=(f"stranger {number % 97}", number))
        return receiver

    def test_tables(self) -> None:
        receiver = self.flooded(400)
        config = NakConfig()
        for number in range(600):
            ncf = ncf_packet(SAMPLE, [number], tsi=number)
            receiver.give([ncf], source=(f"stranger {number}", 1))
        machine = receiver.machine._transfer.naks
        assert len(machine._repairers) <= config.max_repairers
        assert len(machine._carousels) <= config.max_positions
        assert machine._ncf_symbols <= config.max_ncf_symbols
        assert len(machine._cycles) <= config.max_cycles
        assert receiver.naks == []

    def test_cycles(self) -> None:
        machine = Asking(40_000, max_cycles=50)
        machine.hear([n for n in range(4_500) if n % 20 != 7], step=1)
        machine.settle()
        assert len(machine.machine._cycles) == 50
        assert machine.asked(200 * MS)

    def test_ncfs_that_are_over_are_forgotten(self) -> None:
        # Every cycle that starts looks through all that are kept.
        machine = Asking()
        for symbol in range(2_000):
            machine.confirm(symbol)
            machine.hear([symbol])
        assert len(machine.machine._ncfs) <= 8 * GRTT // MS + 2
        for symbol in range(5_000):
            machine.confirm(symbol % 4_000)
        assert len(machine.machine._ncfs) <= 1_024

    def test_strangers_do_not_keep_the_sender_out(self) -> None:
        receiver = self.flooded(40)
        for first in range(20, 500, 70):
            receiver.spm()
            receiver.hear(range(first, first + 70), lost=[first + 30])
        receiver.wait(LONGEST)
        assert {nak.endpoint for _, nak in receiver.naks} == {("S", 9)}

    def test_strangers_do_not_keep_out_whom_we_were_told_of(self) -> None:
        receiver = self.flooded(40, repairers=frozenset({("R", 9)}))
        receiver.spm(source=("R", 1), header={"tsi": 2}, repair_share=100)
        receiver.hear(range(20, 90), lost=[50])
        assert {nak.endpoint for nak in receiver.wait(LONGEST)} == {("R", 9)}

    def test_strangers_do_not_hide_a_carousel_that_is_heard(self) -> None:
        machine, asked = Asking(), []
        for symbol in range(300):
            for number in range(10 * symbol, 10 * symbol + 10):
                machine.machine.take_position(machine.now, (("X", 1), number, 0), 5, is_head=True)
            for _, symbols in machine.follow([symbol], lost=range(24, 300, 20)):
                asked += symbols
                machine.repair(symbols)
        assert asked[:11] == list(range(24, 244, 20))

    def test_ncfs_do_not_fill_the_memory(self) -> None:
        sample = make_object(64 * 66_000, block_symbols=1_000)
        receiver = Listening(sample)
        receiver.hear(range(20))
        ncfs = [ncf_packet(sample, range(n, n + 65_536), tsi=n) for n in range(256)]
        assert memory_kept(lambda: receiver.give(ncfs)) <= 16 << 20


@st.composite
def events(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Draw what happens to a receiver: a carousel with losses, repairs, time, and strangers."""
    symbol = st.integers(0, 159)
    some = st.lists(symbol, min_size=1, max_size=30)
    seed, who = st.integers(0, 99), st.sampled_from(["S", "R", "X"])
    facts = st.fixed_dictionaries(
        {
            "backoff_factor": st.integers(0, 255),
            "gsize": st.integers(0, 255),
            "nonce": st.integers(0, 3),
            "timestamp": st.sampled_from([0, 1, SECOND, (1 << 64) - 1]),
        }
    )
    forged = st.fixed_dictionaries(
        {
            "grtt": st.integers(0, 255),
            "repair_share": st.integers(0, 255),
            "repair_port": st.integers(0, 2),
        }
    )
    fields = st.fixed_dictionaries(
        {"offset": st.integers(0, (1 << 63) - 1), "sqn": st.integers(0, (1 << 32) - 1)}
    )
    ahead = st.sampled_from([0, 1, 10, 100, (1 << 31) - 1, (1 << 63) - 1])
    carousel = st.tuples(
        st.just("hear"),
        st.integers(1, 60),
        seed,
        st.sampled_from([0, MS // 10, MS, 5 * MS]),
    )
    rest = st.one_of(
        st.tuples(st.just("spm"), facts),
        st.tuples(st.just("ncf"), some, who, ahead),
        st.tuples(st.just("repair"), some, who),
        st.tuples(
            st.just("wait"), st.sampled_from([0, 1, MS, GRTT, 100 * MS, SECOND, 11 * SECOND])
        ),
        st.tuples(st.just("jump"), symbol),
        st.tuples(st.just("forge"), forged, fields),
        st.tuples(
            st.just("junk"), st.sampled_from(list(PacketType)), fields, st.binary(max_size=90)
        ),
    )
    return draw(st.lists(st.one_of(carousel, carousel, rest), max_size=40))


class TestWhateverHappens:
    OBJECT = make_object(64 * 160, block_symbols=8)

    @given(events(), st.booleans())
    def test_it_ends_asks_within_bounds_and_never_raises(
        self, happening: list[tuple[Any, ...]], is_told: bool
    ) -> None:
        told = frozenset({("R", 1)} if is_told else ())
        receiver = Listening(self.OBJECT, repairers=told)
        head = 0
        receiver.spm()
        for event, *values in happening:
            match event:
                case "hear":
                    count, seed, step = values
                    symbols = [(head + n) % 160 for n in range(count)]
                    lost = Random(seed).sample(symbols, count // 5) if seed else ()
                    receiver.hear(symbols, lost=lost, step=step)
                    head = (head + count) % 160
                case "spm":
                    receiver.spm(header={"offset": 64 * head}, **values[0])
                case "ncf":
                    symbols, who, ahead = values
                    ncf = ncf_packet(self.OBJECT, symbols, offset=ahead, sqn=receiver.sqn)
                    receiver.give([ncf], source=(who, 5_000))
                case "repair":
                    symbols, who = values
                    for packet in rdata_packets(self.OBJECT, symbols):
                        receiver.give([packet], source=(who, 5_000))
                case "wait":
                    receiver.wait(values[0])
                case "jump":
                    head = values[0]
                case "forge":
                    header = {"tsi": 2} | values[1]
                    receiver.spm(source=("R", 5_000), header=header, **values[0])
                case "junk":
                    kind, fields, payload = values
                    junk = builders.packet(kind, payload, **(self.OBJECT.fields | fields))
                    receiver.give([junk], source=("X", 1))
            # An early tick does nothing and a due one moves on: `settle` fails if it does not.
            assert receiver.settle() == 0
        receiver.wait(SECOND)
        times = [at for at, _ in receiver.naks]
        allowed = {("S", 9)} | told
        assert {nak.endpoint for _, nak in receiver.naks} <= allowed
        for at in times:
            assert sum(at <= other < at + GRTT for other in times) <= 2 * 20
