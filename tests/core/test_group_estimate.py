"""What a repairer finds out of its group, and says in SPMs."""

import numpy as np
import pytest

from pgmlite.core.config import RepairConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.timing import grtt_of, quantise_grtt, quantise_gsize
from tests.support.answering import DEFAULT, SAMPLE, Answering, alone


class TestGroup:
    def answer(self, sender: Answering, rtt: int) -> None:
        """Let a NAK come whose echo says that the round trip takes `rtt` ns."""
        sender.ask(3_000, timestamp=sender.now - rtt)

    def test_the_first_answer_replaces_the_guess(self) -> None:
        sender = alone()
        assert sender.grtt == DEFAULT.grtt_start
        sender.run(SECOND)
        self.answer(sender, 5 * MS)
        assert sender.grtt == 5 * MS

    def test_up_at_once_and_down_slowly(self) -> None:
        # spec: REP-6
        sender = alone()
        sender.run(SECOND)
        self.answer(sender, 5 * MS)
        self.answer(sender, 80 * MS)
        assert sender.grtt == 80 * MS
        grtts = []
        for second in range(2, 32):
            sender.run(second * SECOND)
            self.answer(sender, 10 * MS)
            grtts.append(sender.grtt)
        steps = np.array(grtts[1:]) / np.array(grtts[:-1])
        assert steps.min() >= 0.9 - 1e-6
        assert grtts[5] > 40 * MS
        assert grtts[-1] == 10 * MS
        read = [grtt_of(spm.grtt) for spm in sender.spms]
        assert read[-1] == grtt_of(quantise_grtt(10 * MS))

    @pytest.mark.parametrize(("rtt", "left"), [(80, 20), (60, 20), (1_900, 20), (5, 5)])
    def test_silence_brings_it_back_to_the_start(self, rtt: int, left: int) -> None:
        # spec: REP-6
        sender = alone()
        sender.run(3 * SECOND)
        self.answer(sender, rtt * MS)
        sender.run(12 * SECOND)
        assert sender.grtt == rtt * MS
        sender.run(15 * SECOND)
        assert sender.grtt == max(rtt * MS // 2, left * MS)
        sender.run(120 * SECOND)
        assert sender.grtt == left * MS

    @pytest.mark.parametrize("rtt", [-SECOND, 0, DEFAULT.grtt_max + 1, 500 * SECOND])
    def test_what_cannot_be_is_not_believed(self, rtt: int) -> None:
        sender = alone()
        sender.run(SECOND)
        self.answer(sender, rtt)
        assert sender.grtt == DEFAULT.grtt_start

    def test_never_below_the_least(self) -> None:
        sender = alone()
        sender.run(SECOND)
        self.answer(sender, 1_000)
        assert sender.grtt == DEFAULT.grtt_min

    def test_the_group_counts_as_larger_when_many_ask_for_the_same(self) -> None:
        repair = RepairConfig(port=9, share=0.05)
        sender = Answering(SAMPLE, repair=repair, rate=1_000_000)
        sender.run(100 * MS)
        sizes = []
        for second in range(1, 5):
            self.answer(sender, 5 * MS)
            for number in range(40):
                sender.ask(2_000 + second, 2_500, source=(f"10.3.0.{number % 4}", 1))
            sender.run(second * SECOND + 500 * MS)
            sizes.append(sender.spms[-1].gsize)
        # Not without end: only a few have asked.
        codes = [quantise_gsize(min(10 * 2**doubled, 100)) for doubled in range(5)]
        assert sizes in (codes[1:], codes[:-1])
        sender.run(40 * SECOND)
        assert sender.spms[-1].gsize == 0

    def test_the_group_is_no_smaller_than_those_who_asked(self) -> None:
        sender = alone()
        sender.run(SECOND)
        for number in range(300):
            sender.ask(1_000 + number, source=(f"10.3.{number // 200}.{number % 200}", 1))
        self.answer(sender, 5 * MS)
        sender.run(3 * SECOND)
        assert sender.spms[-1].gsize == quantise_gsize(300)

    @pytest.mark.slow
    def test_who_asked_long_ago_does_not_count(self) -> None:
        sender = alone(source_life=60 * SECOND)
        sender.run(SECOND)
        self.answer(sender, 5 * MS)
        for number in range(300):
            sender.ask(1_000 + number, source=(f"10.3.{number // 200}.{number % 200}", 1))
        sizes, factors = [], []
        for half_minute in range(1, 7):
            sender.ask(1_000, source=("10.3.0.7", 1))
            sender.run(half_minute * 30 * SECOND)
            sizes.append(sender.spms[-1].gsize)
            factors.append(sender.spms[-1].backoff_factor)
        assert sizes[0] == quantise_gsize(300)
        assert sizes[-1] == quantise_gsize(10)
        assert (factors[0], factors[-1]) == (6, 2)
        assert sender.machine.sources == 1

    def test_k_goes_by_those_who_ask_while_they_are_few(self) -> None:
        # spec: REP-6
        sender = alone()
        factors = [sender.spms[-1].backoff_factor]
        for second, asking in enumerate((1, 3, 7, 8, 60), 1):
            for number in range(asking):
                sender.ask(1_000 + number, source=(f"10.3.0.{number}", 1))
            sender.run(second * SECOND)
            factors.append(sender.spms[-1].backoff_factor)
        assert factors == [3, 2, 2, 2, 3, 5]

    def test_what_spms_say(self) -> None:
        # spec: REP-6
        repair = RepairConfig(port=77, share=0.3, backoff_factor=4)
        for carousel, share in ((True, 30), (False, 100)):
            spm = Answering(SAMPLE, repair=repair, carousel=carousel).spms[0]
            facts = (spm.repair_port, spm.repair_share, spm.backoff_factor, spm.gsize)
            assert facts == (77, share, 4, 0)
            assert grtt_of(spm.grtt) == pytest.approx(repair.grtt_start, rel=0.08)
            assert spm.nonce
