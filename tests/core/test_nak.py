"""What a block wants, from its loss to its repair, and what keeps receivers quiet."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest

from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive.wants import WANT_TRANSITIONS, Want, WantEvent, WantState
from pgmlite.wire.request import NAK_ROOM, request_size
from tests.support.asking import Asking
from tests.support.nak_builders import (
    GRTT,
    LONGEST,
    OTHER,
)


class TestCycle:
    def test_the_whole_way(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        assert machine.settle() == []
        assert machine.state() is WantState.BACK_OFF
        ask = machine.next_ask(LONGEST)
        assert ask.need.symbols.tolist() == [25, 30]
        assert ask.repairer.endpoint == machine.ENDPOINT
        assert machine.state() is WantState.WAIT_NCF
        assert machine.machine.deadline == machine.now + 2 * GRTT
        machine.now += GRTT
        machine.confirm(25, 30)
        assert machine.state() is WantState.WAIT_DATA
        assert machine.machine.deadline == machine.now + 8 * GRTT
        deadline = machine.machine.deadline
        machine.now += GRTT
        machine.repair(25)
        assert machine.state() is WantState.WAIT_DATA
        assert machine.machine.deadline == deadline
        machine.repair(30)
        assert machine.asked() == []
        assert machine.state() is None
        assert machine.machine.deadline is None
        counters = machine.machine.counters
        assert (counters.naks_sent, counters.naks_suppressed, counters.ncfs_received) == (1, 0, 1)

    def test_repairs_tell_what_a_lost_ncf_would_have(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        machine.next_ask(LONGEST)
        machine.repair(25)
        assert machine.state() is WantState.WAIT_DATA
        assert machine.asked(8 * GRTT) == []
        assert machine.asked() == [30]

    @pytest.mark.parametrize("seed", range(10))
    def test_what_is_due_soon_goes_along(self, seed: int) -> None:
        # spec: NAK-15
        machine = Asking(seed=seed)
        machine.hear(range(210), lost=range(5, 200, 20), step=1)
        machine.settle()
        ask = machine.next_ask(LONGEST)
        asked = [symbol // 20 for symbol in ask.need.symbols.tolist()]
        assert ask.need.symbols.tolist() == [20 * block + 5 for block in asked]
        # Whose time is up within a GRTT went along, and nobody else.
        states = {block: machine.state(block) for block in range(10)}
        assert [b for b, state in states.items() if state is WantState.WAIT_NCF] == asked
        assert machine.machine.counters.naks_sent == 1
        first = machine.now
        for block in asked:
            machine.confirm([20 * block + 5])
        if len(asked) < 10:
            machine.next_ask(LONGEST)
            assert machine.now > first + GRTT

    def test_a_block_is_asked_for_in_one_nak(self) -> None:
        # spec: NAK-15
        machine = Asking(40_010, ask_ahead=100)
        lost = [20 * block + n for block in range(0, 2_000, 16) for n in range(1, 20, 2)]
        machine.hear(range(40_010), lost=lost, step=1)
        machine.settle()
        while not (asks := machine.settle()):
            machine.now = machine.machine.deadline
        assert [symbol for ask in asks for symbol in ask.need.symbols.tolist()] == lost
        assert 1 < len(asks) < 50
        for ask in asks:
            assert request_size(ask.need.symbols) <= NAK_ROOM
            assert len(ask.need) % 10 == 0
        for one, other in pairwise(asks):
            assert (
                request_size(np.concatenate((one.need.symbols, other.need.symbols[:10]))) > NAK_ROOM
            )

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
        assert machine.next_ask(LONGEST).need.symbols.tolist() == [25]

    def test_what_is_lost_of_a_block_during_its_cycle_is_asked_for_after_it(self) -> None:
        machine = Asking()
        machine.hear(range(24), lost=[7])
        assert machine.next_ask(10 * GRTT).need.symbols.tolist() == [7]
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
        machine = Asking()
        came = [n for n in range(30) if n not in {7, 22}]
        machine.have[came] = True
        machine.spm(head=30, received=30)
        machine.hear([30])
        assert machine.next_ask(10 * GRTT).need.symbols.tolist() == [7]
        machine.repair([7])
        machine.hear(range(31, 60), lost=[35], step=1)
        assert set(machine.asked(20 * GRTT)) == {22, 35}

    def test_every_way_of_the_table_is_gone_and_no_other(self, monkeypatch) -> None:
        # spec: NAK-3
        gone: set[tuple[WantState, WantEvent]] = set()
        move = Want.move

        def recorded(want: Want, event: WantEvent) -> None:
            gone.add((want.state, event))
            move(want, event)

        monkeypatch.setattr(Want, "move", recorded)
        rng = Random(3)
        retries = {"ncf_retries": 2, "data_retries": 2}
        machine = Asking(400, shortest_death=50 * MS, max_cycles=8, carousel_margin=0.3, **retries)
        for step in range(18_000):
            if step % 400 == 0:
                machine.spm()
                machine.have[:] = False
            lost = range(400) if rng.random() < 0.2 else ()
            asks = machine.follow([step % 400], lost=lost)
            if rng.random() < 0.02:
                machine.confirm(rng.sample(range(400), 40))
            if rng.random() < 0.02:
                machine.follow([(step + 390) % 400], key=OTHER)  # another one, a little behind
            if rng.random() < 0.001:
                machine.have[:] = True
            if step // 1_500 % 4 >= 2 and step % 170 == 0:
                machine.now += 5 * SECOND  # in which no SPM came
                machine.settle()
            asked = [symbol for _, symbols in asks for symbol in symbols]
            answers = step // 1_500 % 4
            if asked and answers in {1, 2}:
                machine.confirm(asked)
            if asked and answers == 2:
                machine.repair(asked[: rng.randrange(1, len(asked) + 1)])
            if asked and answers == 3:
                machine.have[asked] = True
            if gone == set(WANT_TRANSITIONS):
                break
        assert gone == set(WANT_TRANSITIONS)

    def test_a_cycle_that_is_done_goes_nowhere(self) -> None:
        assert not any(state is WantState.DONE for state, _ in WANT_TRANSITIONS)


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
        assert machine.next_ask(LONGEST).need.symbols.tolist() == [30]

    def test_two_that_cover_all_together(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        machine.settle()
        machine.confirm(25)
        machine.repair(key=OTHER)
        machine.confirm(30, key=OTHER)
        assert machine.asked(8 * GRTT) == []

    def test_one_for_others_silences_nobody(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        machine.settle()
        machine.confirm(24, 26, range(2_000, 2_040))
        assert machine.next_ask(LONGEST).need.symbols.tolist() == [25, 30]

    def test_one_heard_before_the_cycle_starts_counts(self) -> None:
        machine = Asking()
        machine.hear(range(40), lost=[25, 30])
        machine.confirm(25)
        machine.hear(range(40, 64))
        assert machine.next_ask(LONGEST).need.symbols.tolist() == [30]

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

    def test_what_an_ncf_names_a_part_of_is_waited_for_as_long_as_if_it_named_all(self) -> None:
        # spec: NAK-5
        for named in ([25], [25, 30]):
            machine = Asking()
            machine.hear(range(64), lost=[25, 30])
            machine.next_ask(LONGEST)
            machine.now += GRTT
            machine.confirm(named)
            assert machine.machine.deadline == machine.now + 8 * GRTT

    def test_who_confirms_says_how_long_to_wait(self) -> None:
        machine = Asking()
        machine.spm(key=OTHER, endpoint=("R", 9), grtt=0, backoff_factor=1)
        machine.hear(range(64), lost=[25])
        machine.spm()
        machine.next_ask(LONGEST)
        before = machine.machine.deadline
        machine.confirm(25, key=OTHER)
        assert machine.machine.deadline == machine.now + 3 * 2 * MS < before

    def test_what_was_confirmed_and_never_came_is_asked_for(self) -> None:
        machine = Asking()
        machine.hear(range(64), lost=[25])
        machine.settle()
        machine.confirm(25)
        since = machine.now
        assert machine.next_ask(15 * GRTT).need.symbols.tolist() == [25]
        assert machine.now >= since + 8 * GRTT
