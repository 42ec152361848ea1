"""What is asked for is confirmed and repeated, each symbol once."""

import pytest

from pgmlite.core.config import RepairConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.wire.layout import PacketType
from tests.support.answering import NCF, ODATA, OTHER, RDATA, SAMPLE, TOTAL, Answering, alone
from tests.support.builders import Scripted, make_object
from tests.support.nak_builders import (
    kind_of,
    ncf_packet,
    rdata_packets,
    symbols_sent,
)


class TestAnswer:
    def test_an_ncf_at_once_and_the_repairs_next(self) -> None:
        # spec: REP-3
        sender = Answering(SAMPLE)
        sender.run(20 * MS)
        before = sender.last_sqn
        (ncf,) = sender.ask(2_000, 2_001, 3_000)
        assert kind_of(ncf) is NCF
        assert symbols_sent([ncf], NCF, SAMPLE) == [2_000, 2_001, 3_000]
        row = ncf.rows[0]
        expected = SAMPLE.fields | {"tsi": sender.machine.tsi, "sqn": before + 1, "offset": 26}
        assert {name: int(row[name]) for name in expected} == expected
        sent = sender.run(sender.now + 20 * MS)
        assert symbols_sent(sent, RDATA, SAMPLE) == [2_000, 2_001, 3_000]
        assert kind_of(sent[0]) is RDATA
        counters = sender.machine.counters
        assert (counters.naks_received, counters.ncfs_sent, counters.rdata) == (1, 1, 3)

    def test_each_symbol_once_whoever_asks(self) -> None:
        # spec: REP-4
        sender = Answering(SAMPLE)
        sender.run(20 * MS)
        confirmed = []
        for source, wanted in (("a", [1_000, 1_001]), ("b", [1_001, 1_002]), ("a", [1_000])):
            bursts = sender.ask(wanted, source=(source, 1))
            confirmed.append(symbols_sent(bursts, NCF, SAMPLE))
        assert confirmed == [[1_000, 1_001], [1_001, 1_002], [1_000]]
        sent = sender.run(sender.now + 50 * MS)
        assert symbols_sent(sent, RDATA, SAMPLE) == [1_000, 1_001, 1_002]

    def test_first_come_first_served(self) -> None:
        # spec: REP-10
        sender = alone()
        sender.ask(range(2_000, 2_100))
        sender.ask(range(1_000, 1_100))
        sent = symbols_sent(sender.run(SECOND), RDATA, SAMPLE)
        assert sent == [*range(2_000, 2_100), *range(1_000, 1_100)]

    def test_the_last_symbol_may_be_short(self) -> None:
        sample = make_object(64 * 50 - 7)
        sender = Answering(sample)
        sender.run(2 * MS)
        sender.ask(30, 31, 49)
        sent = sender.run(20 * MS)
        (burst, *_) = [burst for burst in sent if kind_of(burst) is RDATA]
        assert symbols_sent(sent, RDATA, sample)[:3] == [30, 31, 49]
        assert burst.length == sum(
            min(64, 64 * 50 - 7 - int(offset)) for offset in burst.rows["offset"]
        )


class TestNotQueued:
    """What is confirmed, since it comes anyway, but not queued."""

    @staticmethod
    def queued(sender: Answering, *wanted: int, **fields: int) -> list[int]:
        """Ask; return which of it was queued. All of it must be confirmed."""
        before = sender.queued
        bursts = sender.ask(*wanted, **fields)
        assert symbols_sent(bursts, NCF, SAMPLE) == sorted(wanted)
        return sender.queued.less(before).symbols.tolist()

    @pytest.mark.parametrize("first_sqn", [0, (1 << 32) - 30])
    @pytest.mark.parametrize("kind", [ODATA, RDATA])
    def test_what_was_sent_after_all_that_the_asker_saw(
        self, kind: PacketType, first_sqn: int
    ) -> None:
        # spec: REP-4
        sender = Answering(SAMPLE, rng=Scripted(sqn=first_sqn))
        sender.run(10 * MS)
        sender.ask(range(2_000, 2_040))
        sender.run(60 * MS)
        sender.now += SECOND  # no hold-off
        place = [n for n, (_, burst) in enumerate(sender.sent) if kind_of(burst) is kind][20]
        burst = sender.sent[place][1]
        (symbol, *_) = symbols_sent([burst], kind, SAMPLE)
        sqn = int(burst.rows["sqn"][0])
        assert self.queued(sender, symbol, sqn=(sqn - 1) % (1 << 32)) == []
        assert self.queued(sender, symbol, sqn=(sqn - 9) % (1 << 32)) == []
        assert self.queued(sender, symbol, sqn=sqn) == [symbol]

    def test_who_claims_to_have_seen_the_future_is_answered(self) -> None:
        sender = Answering(SAMPLE)
        assert self.queued(sender, 2_000, sqn=(sender.last_sqn + 500) % (1 << 32)) == [2_000]

    def test_what_was_repaired_within_one_round_trip(self) -> None:
        # spec: REP-4
        sender = alone()
        assert self.queued(sender, 2_000) == [2_000]
        sender.run(5 * MS)
        repaired = sender.now
        assert self.queued(sender, 2_000) == []
        sender.run(repaired + sender.grtt - 5 * MS)
        assert self.queued(sender, 2_000) == []
        sender.run(repaired + sender.grtt)
        assert self.queued(sender, 2_000) == [2_000]

    @pytest.mark.parametrize("kind", [RDATA, NCF])
    def test_what_another_repairer_repairs(self, kind: PacketType) -> None:
        # spec: REP-7
        sender = alone()
        heard = {RDATA: rdata_packets, NCF: lambda *a, **k: [ncf_packet(*a, **k)]}[kind]
        sender.give(*heard(SAMPLE, [2_000, 2_001], **OTHER))
        assert self.queued(sender, 2_000, 2_001, 2_002) == [2_002]
        sender.run(sender.grtt)
        assert self.queued(sender, 2_000, 2_001) == [2_000, 2_001]

    def test_what_another_repairs_while_it_is_in_our_queue(self) -> None:
        sender = alone()
        sender.ask(range(2_000, 2_004))
        sender.give(*rdata_packets(SAMPLE, [2_001, 2_002], **OTHER))
        assert symbols_sent(sender.run(50 * MS), RDATA, SAMPLE) == [2_000, 2_003]

    def test_the_hold_off_counts_from_the_latest_repair(self) -> None:
        # Another repairer's NCF is heard first, then its repair.
        sender = alone()
        sender.give(ncf_packet(SAMPLE, [2_000], **OTHER))
        sender.run(sender.grtt * 3 // 4)
        sender.give(*rdata_packets(SAMPLE, [2_000], **OTHER))
        sender.run(sender.grtt * 5 // 4)
        assert self.queued(sender, 2_000) == []
        sender.run(sender.grtt * 2)
        assert self.queued(sender, 2_000) == [2_000]

    def test_what_the_carousel_sends_next(self) -> None:
        sender = Answering(SAMPLE)
        sender.run(50 * MS)
        head = symbols_sent([sender.sent[-1][1]], ODATA, SAMPLE)[-1] + 1
        assert self.queued(sender, head, head + 1_000) == [head + 1_000]

    @pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
    def test_what_the_carousel_sends_before_the_queue_is_through(self, share: float) -> None:
        # spec: REP-5
        sender = Answering(SAMPLE, repair=RepairConfig(port=9, share=share))
        sender.run(50 * MS)
        head = symbols_sent([sender.sent[-1][1]], ODATA, SAMPLE)[-1] + 1
        sender.ask(range(2_000, 2_200))
        # The carousel sends that much while the 200 repairs leave.
        meanwhile = int(200 * (1 - share) / share)
        first, later = head + meanwhile // 2, (head + 2 * meanwhile + 10) % TOTAL
        if share > 0.05:
            assert self.queued(sender, later) == [later]
        assert self.queued(sender, first) == []

    def test_a_carousel_that_was_heard_long_ago_brings_nothing(self) -> None:
        sender = alone()
        assert self.queued(sender, 11, 12) == [12]
        sender.run(20 * SECOND)
        assert self.queued(sender, 11) == [11]

    def test_a_repairer_that_never_heard_a_carousel_waits_for_none(self) -> None:
        sender = Answering(SAMPLE, carousel=False)
        assert self.queued(sender, 0, 1) == [0, 1]
