"""A sender with repairs ends later than its carousel."""

from random import Random

import pytest

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND, Finished
from pgmlite.core.send.sender import Sender
from pgmlite.wire.batch import HEADER_SIZE
from tests.support.answering import ODATA, RDATA, SAMPLE, TOTAL, Answering
from tests.support.nak_builders import (
    symbols_sent,
)


class TestEnding:
    RATE = 80_000_000
    CYCLE = TOTAL * (1_000 + HEADER_SIZE + 48) * 8 * SECOND // RATE

    def test_without_repairs_at_once(self) -> None:
        config = SenderConfig(rate=self.RATE, packet_overhead=48, cycles=1)
        machine = Sender(config, SAMPLE.manifest, SAMPLE.tree, rng=Random(1))
        machine.start(0)
        while (deadline := machine.deadline) is not None:
            *_, action = machine.tick(deadline)
            ended = deadline
        assert isinstance(action, Finished)
        assert ended == pytest.approx(self.CYCLE, rel=0.02)

    def test_answers_for_a_while_after_the_last_cycle_and_after_every_repair(self) -> None:
        # spec: SND-9
        sender = Answering(SAMPLE, rate=self.RATE, cycles=1, spm_min=100 * MS, spm_max=100 * MS)
        end = int(1.05 * self.CYCLE)
        sender.run(end)
        assert sender.machine.counters.odata == TOTAL
        assert symbols_sent(sender.run(end + 500 * MS), ODATA, SAMPLE) == []
        sender.ask(3_500)
        assert symbols_sent(sender.run(end + 600 * MS), RDATA, SAMPLE) == [3_500]
        sender.run(end + 1_400 * MS)
        assert sender.machine.deadline is not None
        assert sender.ask(3_501)
        sender.run(end + 2 * SECOND)
        assert sender.machine.deadline is not None
        sender.run(end + 3 * SECOND)
        assert sender.machine.deadline is None
        assert sender.machine.counters.odata == TOTAL

    def test_for_longer_where_the_round_trip_is_long(self) -> None:
        repair = RepairConfig(port=9, grtt_start=200 * MS)
        sender = Answering(SAMPLE, rate=self.RATE, cycles=1, repair=repair)
        sender.run(int(1.05 * self.CYCLE) + 20 * 200 * MS - 100 * MS)
        assert sender.machine.deadline is not None
        sender.run(int(1.1 * self.CYCLE) + 6 * SECOND)
        assert sender.machine.deadline is None
