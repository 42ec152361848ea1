"""Who does not answer, what did not come, and what the carousel brings anyway."""

from random import Random

import numpy as np
import pytest

from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive.wants import WantState
from tests.support.asking import Asking
from tests.support.nak_builders import (
    GRTT,
    LONGEST,
    OTHER,
)


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

    @pytest.mark.slow
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
        machine.spm()
        machine.hear(range(64, 128), lost=[85])
        assert machine.asked(LONGEST) == [85]

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
        machine.hear(range(100, 164), lost=[125], step=1)
        machine.spm(**other)  # the latest heard would be asked, were it alive
        assert machine.next_ask(LONGEST).repairer.endpoint == machine.ENDPOINT

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
            assert len(ask.need) == left
            machine.confirm(ask.need.symbols.tolist())
            machine.repair(int(ask.need.symbols[0]))
        machine.asked()
        assert machine.state() is None

    def test_what_was_promised_and_did_not_come_is_asked_for_again(self) -> None:
        # spec: NAK-16
        machine = Asking()
        machine.hear(range(64), lost=[25, 30])
        machine.next_ask(LONGEST)
        machine.confirm(25, 30, ahead=10)
        machine.repair(25)
        machine.hear(range(64, 64 + 12), step=1)
        assert machine.settle() == []
        assert machine.state() is WantState.WAIT_DATA
        machine.hear([64 + 12], step=1)
        assert machine.settle() == []
        assert machine.state() is WantState.BACK_OFF
        assert machine.asked(LONGEST) == [30]

    def test_what_is_further_back_in_the_queue_is_waited_for(self) -> None:
        # spec: NAK-16
        machine = Asking()
        machine.hear(range(64), lost=[25])
        machine.next_ask(LONGEST)
        machine.confirm(25, ahead=200)
        assert machine.follow(range(64, 64 + 202), step=GRTT) == []
        assert machine.state() is WantState.WAIT_DATA
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
        assert machine.state() is WantState.WAIT_DATA
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

    def test_a_promise_that_was_not_kept_hurries_nobody_later(self) -> None:
        # spec: NAK-16
        machine = Asking()
        machine.hear(range(64), lost=[25])
        machine.next_ask(LONGEST)
        machine.confirm(25, ahead=20)
        machine.now += 8 * GRTT
        assert machine.settle() == []
        assert machine.state() is WantState.BACK_OFF
        deadline = machine.machine.deadline
        assert machine.follow(range(64, 94), step=1) == []
        assert machine.machine.deadline == deadline

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

    @pytest.mark.slow
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
