"""What repairers answer, send, refuse and keep, whoever asks."""

import struct
from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core import serial
from pgmlite.core.config import MIN_RATE, RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND, Finished, Transmit
from pgmlite.core.send.sender import Sender
from pgmlite.core.timing import grtt_of, quantise_grtt, quantise_gsize
from pgmlite.errors import UsageError
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.layout import PacketType
from tests.support.builders import Scripted, batches, make_object, packet
from tests.support.nak_builders import (
    Answering,
    kind_of,
    memory_kept,
    nak_packet,
    ncf_packet,
    rdata_packets,
    symbols_sent,
)

SAMPLE = make_object(1_000 * 4_000, symbol_size=1_000, block_symbols=100)
TOTAL = SAMPLE.manifest.symbols
DEFAULT = RepairConfig(port=9)
OTHER = {"tsi": 2}
"""The session of another sender."""

ODATA, RDATA, NCF = PacketType.ODATA, PacketType.RDATA, PacketType.NCF


def alone(**config: Any) -> Answering:
    """Return a repairer on its own, which has heard where the carousel is."""
    machine = Answering(SAMPLE, repair=RepairConfig(port=9, **config), carousel=False)
    machine.give(*SAMPLE.odata([10], tsi=7))
    return machine


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
        expected = SAMPLE.fields | {"tsi": sender.machine.tsi, "sqn": before + 1, "offset": 21}
        assert {name: int(row[name]) for name in expected} == expected
        sent = sender.run(sender.now + 20 * MS)
        assert symbols_sent(sent, RDATA, SAMPLE) == [2_000, 2_001, 3_000]
        assert kind_of(sent[0]) is RDATA
        counters = sender.queue.counters
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


class TestRefusals:
    @pytest.mark.parametrize(
        ("reason", "fields"),
        [
            ("session", {"tsi": 1}),
            ("object", {"oid": 1}),
            ("object", {"size": SAMPLE.manifest.size - 1}),
            ("nonce", {"nonce": 1}),
            ("nonce", {"nonce": 0}),
        ],
    )
    def test_header_and_nonce(self, reason: str, fields: dict[str, int]) -> None:
        # spec: REP-2
        sender = Answering(SAMPLE)
        self.refuse(sender, sender.ask(2_000, **fields), reason)

    @pytest.mark.parametrize(("field", "value"), [("channel", 5), ("symbol_size", 64)])
    def test_what_a_repairer_does_not_look_at(self, field: str, value: int) -> None:
        # spec: PKT-12, REP-2
        sender = Answering(SAMPLE)
        (ncf,) = sender.ask(2_000, **{field: value})
        assert symbols_sent([ncf], NCF, SAMPLE) == [2_000]
        assert sender.queue.refused == {}

    @pytest.mark.parametrize("body", [b"", b"1234567"])
    def test_no_nonce_at_all(self, body: bytes) -> None:
        sender = Answering(SAMPLE)
        nak = packet(PacketType.NAK, body, **(SAMPLE.fields | {"tsi": sender.machine.tsi}))
        self.refuse(sender, sender.give(nak), "nonce")

    @pytest.mark.parametrize(
        "rest", [b"", bytes(20), bytes(12) + struct.pack(">BBHIII", 0, 0, 1, 0, TOTAL, 1)]
    )
    def test_request(self, rest: bytes) -> None:
        sender = Answering(SAMPLE)
        body = struct.pack(">Q", sender.nonce) + rest
        nak = packet(PacketType.NAK, body, **(SAMPLE.fields | {"tsi": sender.machine.tsi}))
        self.refuse(sender, sender.give(nak), "request")

    @staticmethod
    def refuse(sender: Answering, bursts: list[Transmit], reason: str) -> None:
        assert bursts == []
        assert sender.queue.refused == {reason: 1}
        assert sender.queue.waiting == 0
        assert sender.queue.counters.naks_received == 0

    def test_a_nonce_is_good_for_three_lifetimes_and_stale_then(self) -> None:
        # spec: REP-6
        sender = alone()
        first = sender.nonce
        for life in range(5):
            sender.run(life * (DEFAULT.nonce_life + MS) + DEFAULT.nonce_life // 2)
            bursts = sender.ask(1_000 + life, nonce=first)
            assert bool(bursts) is (life < 3), life
        assert sender.queue.refused == {"nonce": 2}
        assert len({spm.nonce for spm in sender.spms}) == 5

    def test_budget_of_one_source(self) -> None:
        # spec: REP-9
        sender = alone()
        limit = int(DEFAULT.source_naks_per_second)
        for number in range(limit + 50):
            sender.ask(number, source=("10.0.0.1", number))
        assert sender.queue.refused == {"budget": 50}
        sender.now += SECOND // 10
        for number in range(limit):
            sender.ask(number, source=("10.0.0.1", number))
        assert sender.queue.refused == {"budget": 50 + limit - limit // 10}

    def test_budget_in_all(self) -> None:
        sender = alone()
        for number in range(2_000):
            sender.ask(number, source=(f"10.0.{number // 200}.{number % 200}", 1))
        accepted = sender.queue.counters.naks_received
        assert accepted == DEFAULT.naks_per_second / 4
        assert sender.queue.refused == {"budget": 2_000 - accepted}

    def test_one_source_that_floods_does_not_use_up_the_budget_of_all(self) -> None:
        sender = alone()
        for number in range(2_000):
            sender.ask(number, source=("10.0.0.1", 1))
        before = sender.queue.counters.naks_received
        sender.ask(3_000, source=("10.0.0.2", 1))
        assert sender.queue.counters.naks_received == before + 1

    def test_a_nak_that_names_much_counts_as_many(self) -> None:
        # spec: REP-9
        sample = make_object(64 * 70_000, block_symbols=1_000)
        sender = Answering(sample, carousel=False, repair=RepairConfig(port=9))
        for number in range(300):
            sender.ask(range(number, 60_000 + number), source=("10.0.0.1", 1))
        looked_at = sender.queue.counters.naks_received
        # Each counts as 1 and 58 more, of 250 a second.
        assert looked_at == 5
        assert sender.queue.refused == {"budget": 300 - looked_at}
        for number in range(300):
            sender.ask(range(60_000), source=(f"10.1.0.{number % 200}", 1))
        assert sender.queue.counters.naks_received <= 10

    def test_symbols_of_one_source(self) -> None:
        sender = alone(source_symbols_per_second=1_000.0)
        (ncf,) = sender.ask(range(1_000, 2_500))
        assert symbols_sent([ncf], NCF, SAMPLE) == list(range(1_000, 2_000))
        assert sender.queue.waiting == 1_000
        sender.ask(range(3_000, 3_100), source=("10.0.0.2", 1))
        assert sender.queue.waiting == 1_100

    def test_a_full_queue_confirms_no_more_than_it_takes(self) -> None:
        # spec: REP-9
        sender = alone(max_waiting=100)
        (ncf,) = sender.ask(range(1_000, 1_250))
        assert symbols_sent([ncf], NCF, SAMPLE) == list(range(1_000, 1_100))
        assert sender.ask(2_000) == []


class TestNotQueued:
    """What is confirmed, since it comes anyway, but not queued."""

    @staticmethod
    def queued(sender: Answering, *wanted: int, **fields: int) -> list[int]:
        """Ask; return which of it was queued. All of it must be confirmed."""
        before = sender.queue._queued.copy()
        bursts = sender.ask(*wanted, **fields)
        assert symbols_sent(bursts, NCF, SAMPLE) == sorted(wanted)
        return np.flatnonzero(sender.queue._queued & ~before).tolist()

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
        sender.run(repaired + sender.queue.grtt - 5 * MS)
        assert self.queued(sender, 2_000) == []
        sender.run(repaired + sender.queue.grtt)
        assert self.queued(sender, 2_000) == [2_000]

    @pytest.mark.parametrize("kind", [RDATA, NCF])
    def test_what_another_repairer_repairs(self, kind: PacketType) -> None:
        # spec: REP-7
        sender = alone()
        heard = {RDATA: rdata_packets, NCF: lambda *a, **k: [ncf_packet(*a, **k)]}[kind]
        sender.give(*heard(SAMPLE, [2_000, 2_001], **OTHER))
        assert self.queued(sender, 2_000, 2_001, 2_002) == [2_002]
        sender.run(sender.queue.grtt)
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
        sender.run(sender.queue.grtt * 3 // 4)
        sender.give(*rdata_packets(SAMPLE, [2_000], **OTHER))
        sender.run(sender.queue.grtt * 5 // 4)
        assert self.queued(sender, 2_000) == []
        sender.run(sender.queue.grtt * 2)
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


class TestShares:
    @pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
    def test_the_carousel_keeps_its_part_in_every_window(self, share: float) -> None:
        # spec: REP-5
        repair = RepairConfig(port=9, share=share, grtt_min=1, grtt_start=1)
        sender = Answering(SAMPLE, repair=repair, spm_min=SECOND)
        rng, kinds = Random(1), []
        while sender.now < 4 * SECOND:
            if sender.queue.waiting < 200:
                sender.ask(rng.sample(range(TOTAL), 500))
            for burst in sender.run(sender.now + 20 * MS):
                kinds += [kind_of(burst)] * len(burst.rows)
        repairs = np.array([kind is RDATA for kind in kinds if kind in {ODATA, RDATA}])
        assert len(repairs) > 4_000
        assert repairs.mean() == pytest.approx(share, rel=0.1)
        sums = np.concatenate(([0], np.cumsum(repairs)))
        # Repairs that did not use their share when there were none may do so later, up to 88.
        for window in (200, 1_000, 3_000):
            assert (sums[window:] - sums[:-window]).max() <= window * share + 88

    @pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
    def test_ncfs_are_paid_from_the_share_of_repairs(self, share: float) -> None:
        # spec: REP-5
        sender = Answering(SAMPLE, repair=RepairConfig(port=9, share=share), spm_min=SECOND)
        rng, sizes = Random(1), Counter[PacketType]()
        sender.run(100 * MS)
        while sender.now < 4 * SECOND:
            # Far apart, so that NCFs are long, and more than they have room for.
            for number in range(4):
                source = (f"10.3.{number}.{sender.now // MS % 200}", 1)
                sender.ask(rng.sample(range(TOTAL), 60), source=source)
            for burst in sender.run(sender.now + 10 * MS):
                sizes[kind_of(burst)] += burst.length + len(burst.rows) * (HEADER_SIZE + 48)
        repairs = sizes[RDATA] + sizes[NCF]
        assert sizes[NCF] > 0.05 * repairs
        assert repairs / (repairs + sizes[ODATA]) == pytest.approx(share, rel=0.05)

    @settings(max_examples=30)
    @given(
        st.sampled_from([0.05, 0.5, 0.9]),
        st.sampled_from([5_000_000, 200_000_000]),
        st.booleans(),
        st.lists(st.tuples(st.integers(0, 40 * MS), st.integers(1, 300)), max_size=6),
    )
    def test_what_is_confirmed_is_sent_by_the_sqn_that_the_ncf_says(
        self, share: float, rate: int, carousel: bool, asks: list[tuple[int, int]]
    ) -> None:
        # spec: REP-11
        repair = RepairConfig(port=9, share=share)
        sender = Answering(SAMPLE, repair=repair, rate=rate, carousel=carousel)
        for number, (pause, count) in enumerate(asks):
            sender.run(sender.now + pause)
            sender.ask(range(500 + 400 * number, 500 + 400 * number + count))
        while sender.queue.waiting:
            sender.run(sender.now + 10 * MS)
        promised: dict[int, int] = {}
        for _, burst in sender.sent:
            first = int(burst.rows["sqn"][0])
            if kind_of(burst) is NCF:
                last = first + int(burst.rows["offset"][0])
                for symbol in symbols_sent([burst], NCF, SAMPLE):
                    promised.setdefault(symbol, last)
            elif kind_of(burst) is RDATA:
                for place, symbol in enumerate(symbols_sent([burst], RDATA, SAMPLE)):
                    assert serial.distance(first + place, promised.pop(symbol)) >= 0
        assert len(promised) <= sender.machine.counters.odata, "what the carousel brought sooner"

    def test_without_repairs_all_is_carousel(self) -> None:
        sender = Answering(SAMPLE)
        kinds = Counter(kind_of(burst) for burst in sender.run(SECOND))
        assert set(kinds) == {ODATA, PacketType.SPM, PacketType.TREE}

    @pytest.mark.parametrize("carousel", [True, False])
    def test_ncfs_keep_to_their_share_and_are_joined(self, carousel: bool) -> None:
        # spec: REP-3
        sender = Answering(SAMPLE, carousel=carousel, spm_min=SECOND)
        sender.run(10 * MS)
        start, wanted, ncfs = sender.now, [], []
        while sender.now < start + SECOND // 2:
            for _ in range(3):
                wanted.append(1_000 + len(wanted) * 7 % 3_000)
                source = (f"10.1.{len(wanted) // 200}.{len(wanted) % 200}", 1)
                ncfs += [(sender.now, burst) for burst in sender.ask(wanted[-1], source=source)]
            ncfs += [
                (sender.now, burst)
                for burst in sender.run(sender.now + 2 * MS)
                if kind_of(burst) is NCF
            ]
        sent = [burst for _, burst in ncfs if kind_of(burst) is NCF]
        assert sender.queue.refused == {}
        size = sum(burst.length + HEADER_SIZE + 48 for burst in sent)
        allowed = 10_000_000 / 8 * DEFAULT.ncf_share * DEFAULT.share
        assert size <= allowed * 0.56
        assert len(sent) < 0.75 * len(wanted)
        sender.run(sender.now + SECOND)
        everything = [burst for _, burst in sender.sent]
        assert set(wanted) <= set(symbols_sent(everything, NCF, SAMPLE))

    def test_no_more_ncfs_leave_together_than_their_burst(self) -> None:
        # spec: REP-3
        sample = make_object(64 * 70_000, block_symbols=1_000)
        sender = Answering(sample, spm_min=SECOND)
        sender.run(10 * MS)
        wanted = range(1_000, 61_000, 16)
        for start in range(0, len(wanted), 500):
            for burst in sender.ask(*wanted[start : start + 500], source=(f"10.1.0.{start}", 1)):
                assert kind_of(burst) is NCF
        together = sender.sent[-1][0]
        ncfs = [b for at, b in sender.sent if at == together and kind_of(b) is NCF]
        size = sum(burst.length + HEADER_SIZE + 48 for burst in ncfs)
        share = 10_000_000 / 8 * DEFAULT.ncf_share * DEFAULT.share
        assert 0 < size <= share * 0.05 + 1_300
        sender.run(sender.now + SECOND)
        everything = [burst for _, burst in sender.sent]
        assert set(wanted) == set(symbols_sent(everything, NCF, sample))

    @pytest.mark.parametrize("rate", [MIN_RATE, 200_000])
    def test_one_ncf_is_always_due_after_a_pause_however_low_the_rate_is(self, rate: int) -> None:
        # spec: REP-3
        sender = Answering(SAMPLE, carousel=False, rate=rate)
        for number in range(3):
            sender.run(sender.now + 10 * SECOND)
            (ncf,) = sender.ask(1_000 + number)
            assert kind_of(ncf) is NCF
            pause = (ncf.length + HEADER_SIZE + 48) * 8 * SECOND / (rate * 0.05)
            # At once only after what the one before it costs.
            assert sender.ask(2_000 + number, source=("10.9.9.9", 0)) == []
            sender.run(sender.now + int(2 * pause))
            assert 2_000 + number in symbols_sent([b for _, b in sender.sent], NCF, SAMPLE)

    def test_confirmations_that_have_to_wait_do_not_spin(self) -> None:
        # Nothing is left to send but NCFs, and these are over their share.
        sender = alone()
        sender.ask(1_000)
        sender.run(5 * MS)
        for number in range(300):
            sender.ask(1_000, source=(f"10.2.{number // 200}.{number % 200}", 1))
            sender.settle()
        assert len(sender.run(500 * MS)) < 20

    @pytest.mark.parametrize("share", [0.0, 0.04, 0.91, 1.0])
    def test_shares_that_would_starve_either_side(self, share: float) -> None:
        with pytest.raises(UsageError, match="share"):
            RepairConfig(share=share)


class TestGroup:
    def answer(self, sender: Answering, rtt: int) -> None:
        """Let a NAK come whose echo says that the round trip takes `rtt` ns."""
        sender.ask(3_000, timestamp=sender.now - rtt)

    def test_the_first_answer_replaces_the_guess(self) -> None:
        sender = alone()
        assert sender.queue.grtt == DEFAULT.grtt_start
        sender.run(SECOND)
        self.answer(sender, 5 * MS)
        assert sender.queue.grtt == 5 * MS

    def test_up_at_once_and_down_slowly(self) -> None:
        # spec: REP-6
        sender = alone()
        sender.run(SECOND)
        self.answer(sender, 5 * MS)
        self.answer(sender, 80 * MS)
        assert sender.queue.grtt == 80 * MS
        grtts = []
        for second in range(2, 60):
            sender.run(second * SECOND)
            self.answer(sender, 10 * MS)
            grtts.append(sender.queue.grtt)
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
        assert sender.queue.grtt == rtt * MS
        sender.run(15 * SECOND)
        assert sender.queue.grtt == max(rtt * MS // 2, left * MS)
        sender.run(120 * SECOND)
        assert sender.queue.grtt == left * MS

    @pytest.mark.parametrize("rtt", [-SECOND, 0, DEFAULT.grtt_max + 1, 500 * SECOND])
    def test_what_cannot_be_is_not_believed(self, rtt: int) -> None:
        sender = alone()
        sender.run(SECOND)
        self.answer(sender, rtt)
        assert sender.queue.grtt == DEFAULT.grtt_start

    def test_never_below_the_least(self) -> None:
        sender = alone()
        sender.run(SECOND)
        self.answer(sender, 1_000)
        assert sender.queue.grtt == DEFAULT.grtt_min

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
        assert len(sender.queue._sources) == 1

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


class TestWhatItHears:
    def test_a_sender_with_a_carousel_goes_its_own_way(self) -> None:
        # spec: REP-1
        sender = Answering(SAMPLE)
        sender.run(50 * MS)
        sender.give(*SAMPLE.odata(range(3_000, 3_010), **OTHER), source=("b", 1))
        sender.run(200 * MS)
        sent = symbols_sent([burst for _, burst in sender.sent], ODATA, SAMPLE)
        assert sent == list(range(len(sent)))

    def test_its_own_packets_come_back_and_mean_nothing(self) -> None:
        sender = alone()
        sender.give(*rdata_packets(SAMPLE, [2_000], tsi=sender.machine.tsi))
        assert sender.ask(2_000)
        assert sender.queue.waiting == 1

    def test_another_object_means_nothing(self) -> None:
        sender = alone()
        sender.give(*rdata_packets(SAMPLE, [2_000], tsi=2, oid=1))
        sender.give(*rdata_packets(SAMPLE, [2_000], tsi=2, size=SAMPLE.manifest.size + 1_000))
        sender.ask(2_000)
        assert sender.queue.waiting == 1

    def test_a_pure_carousel_hears_nothing(self) -> None:
        config = SenderConfig(rate=1_000_000, packet_overhead=48)
        machine = Sender(config, SAMPLE.manifest, SAMPLE.tree, rng=Random(1))
        machine.start(0)
        (batch,) = batches([nak_packet(SAMPLE, [1], nonce=1, tsi=machine.tsi)])
        assert machine.receive(0, batch) == []


class TestBounds:
    def test_ten_thousand_sources(self) -> None:
        # spec: REP-9
        sender = alone(naks_per_second=1e9)
        nak = nak_packet(SAMPLE, [2_000], nonce=sender.nonce, tsi=sender.machine.tsi)
        for number in range(10_000):
            sender.give(nak, source=(f"10.0.{number >> 8}.{number & 255}", 1))
        assert len(sender.queue._sources) <= DEFAULT.max_sources
        assert len(sender.queue._pending) <= TOTAL
        assert sender.queue.counters.naks_received == 10_000

    def test_what_others_repair_does_not_fill_the_memory(self) -> None:
        sample = make_object(64 * 66_000, block_symbols=1_000)
        sender = Answering(sample, carousel=False, repair=RepairConfig(port=9))
        ncfs = [ncf_packet(sample, range(n, n + 65_536), tsi=n) for n in range(256)]
        assert memory_kept(lambda: [sender.give(ncf) for ncf in ncfs] and None) <= 16 << 20

    WORD = st.integers(0, (1 << 64) - 1)
    NAK = st.fixed_dictionaries(
        {
            "wanted": st.lists(st.integers(0, 199), min_size=1, max_size=40, unique=True),
            "source": st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1", "x"]),
        },
        optional={
            "nonce": WORD,
            "tsi": st.integers(0, 1),
            "sqn": st.integers(0, (1 << 32) - 1),
            "timestamp": WORD,
        },
    )
    OTHERS = st.tuples(
        st.sampled_from(list(PacketType)),
        st.fixed_dictionaries(
            {"tsi": st.integers(1, 2), "offset": st.integers(0, 250).map(lambda n: n * 64)}
        ),
        st.binary(min_size=1, max_size=64),
    )

    @given(
        st.lists(st.one_of(NAK, NAK, OTHERS, st.integers(0, 50 * MS)), max_size=60),
        st.booleans(),
        st.sampled_from([None, 500_000, 10_000_000]),
    )
    def test_floods(self, events: list[Any], carousel: bool, rate: int | None) -> None:
        sample = make_object(64 * 200)
        config = RepairConfig(
            port=9, max_waiting=100, max_sources=2, source_symbols_per_second=60.0
        )
        sender = Answering(sample, repair=config, carousel=carousel, rate=rate or 10**9)
        queue = sender.queue
        for event in events:
            if isinstance(event, int):
                sender.run(sender.now + (event if rate else event % MS))
            elif isinstance(event, dict):
                fields = dict(event)
                source = (fields.pop("source"), 1)
                sender.ask(fields.pop("wanted"), source=source, **fields)
            else:
                kind, fields, payload = event
                sender.give(packet(kind, payload, **(sample.fields | fields)))
            pending = [symbol for some in queue._pending for symbol in some.tolist()]
            assert len(pending) == len(set(pending)) == queue.waiting <= config.max_waiting
            assert set(np.flatnonzero(queue._queued).tolist()) == set(pending)
            assert len(queue._sources) <= config.max_sources
            assert len(queue._nonces) == 3
            assert queue.grtt <= config.grtt_max
