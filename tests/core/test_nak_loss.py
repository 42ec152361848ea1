"""What counts as lost, and when a block is due."""

from random import Random

import pytest

from pgmlite.core.machine import MS
from pgmlite.core.receive.wants import WantState
from tests.support.asking import Asking
from tests.support.nak_builders import (
    GRTT,
    HEAD,
    OTHER,
)


class TestLoss:
    def test_a_gap_is_a_loss_after_three_later_packets(self) -> None:
        # spec: NAK-1
        machine = Asking()
        assert machine.follow(range(42), lost=[39]) == []
        assert machine.state() is None
        machine.follow([42])
        assert machine.state() is WantState.BACK_OFF
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
        asks = machine.follow([*range(joined, 100), *range(first)], step=1)
        asks += machine.follow(range(first, joined), lost=[first + 2], step=1)
        assert asks == []
        assert machine.asked() == []
        machine.follow(range(joined, joined + HEAD), step=1)
        assert machine.asked() == [first + 2]
        # And no second time because of that: from now on blocks are asked for at their end.
        last = range(joined + HEAD)
        machine.follow([*range(joined + HEAD, 100), *last], lost=[first], step=1)
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
        assert machine.settle() == []
        assert machine.state() is None
        machine.now += 1
        machine.spm(head=43)
        assert machine.settle() == []
        assert machine.state() is WantState.BACK_OFF
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

    @pytest.mark.parametrize("back", [5, 900])
    def test_a_packet_that_is_late_moves_no_carousel(self, back: int) -> None:
        # spec: NAK-2
        machine = Asking()
        machine.hear(range(1_000), lost=[951], step=1)
        machine.have[1_000 - back] = False
        machine.hear([1_000 - back])
        machine.places.clear()
        machine.places[machine.KEY] = 1_000
        machine.hear(range(1_000, 1_003))
        assert machine.asked() == [951]

    def test_what_an_outage_took_of_its_first_and_last_block_is_asked_for(self) -> None:
        # spec: NAK-6: of those in between all is missing.
        machine = Asking(carousel_margin=0.0)
        machine.hear(range(35))
        machine.spm(head=3_510)
        machine.hear(range(3_510, 3_530))
        assert set(machine.asked()) == {*range(35, 40), *range(3_500, 3_510)}

    def test_a_carousel_that_is_suddenly_further_back_has_just_begun(self) -> None:
        # spec: NAK-2
        machine = Asking()
        machine.hear(range(3_000), lost=[2_950], step=1)
        machine.places[machine.KEY] = 210
        machine.spm(head=210)
        machine.hear(range(210, 264), lost=[215, 245])
        machine.have[[215, 245]] = False
        assert machine.asked(8 * GRTT)[:1] == [245]

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

    def test_what_was_dropped_is_not_lost_until_the_carousel_passes_again(self) -> None:
        # spec: NAK-2
        machine = Asking(100, block=10, carousel_margin=0.0)
        machine.follow(range(60))
        machine.have[20:30] = False
        assert machine.follow(range(60, 100), step=1) == []
        assert machine.follow([*range(24)], step=1) == []
        machine.have[24:30] = False
        machine.follow(range(24, 34), lost=range(24, 34), step=1)
        assert machine.follow([34], step=1) == []
        assert machine.asked(8 * GRTT)[:6] == [*range(24, 30)]

    def test_what_was_lost_before_the_first_spm_came(self) -> None:
        # spec: NAK-2
        machine = Asking(200)
        came = [*range(15, 25), *range(26, 70)]
        machine.have[came] = True
        machine.have[:15] = False
        machine.spm(head=70, received=len(came))
        assert machine.asked() == [25]
