"""A sender of several lanes: each has its numbers, its rate, its schedule and its repairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND, Finished, Transmit
from pgmlite.core.send.rate import Fixed, RateControl
from pgmlite.core.send.sender import Sender
from pgmlite.wire.batch import HEADER_DTYPE, HEADER_SIZE
from pgmlite.wire.control import SpmPosition, parse_spm
from pgmlite.wire.layout import Order, PacketType
from tests.support.builders import Sample, batches, make_object, make_sender, play, ring_of
from tests.support.nak_builders import kind_of, nak_packet, spm_of, symbols_sent

SPM, ODATA, RDATA, NCF = PacketType.SPM, PacketType.ODATA, PacketType.RDATA, PacketType.NCF

SAMPLE = make_object(200 * 3_000, symbol_size=200, block_symbols=100)
SLOW, FAST = 1_000_000, 4_000_000


def two_lanes(
    of: Sample = SAMPLE,
    *,
    rates: tuple[int | None, ...] = (SLOW, FAST),
    repair: RepairConfig | None = None,
    **config: Any,
) -> Sender:
    """Return a sender of a slow and a fast lane."""
    rings = [ring_of(of.manifest.geometry, config)] * len(rates)
    settings = SenderConfig(**({"rate": None, "packet_overhead": 48} | config))
    controls = [Fixed(rate) for rate in rates]
    return Sender(
        settings, of.manifest, of.tree, rings=rings, repair=repair, rng=Random(1), rates=controls
    )


def sent_by(sender: Sender, until: int) -> list[list[tuple[int, Transmit]]]:
    """Start `sender`; return what each lane sends until then, with times."""
    sender.start(0)
    sent: list[list[tuple[int, Transmit]]] = [[] for _ in sender.lanes]
    for now, action in play(sender, until=until):
        if isinstance(action, Transmit):
            sent[action.channel].append((now, action))
    return sent


def wire_bytes(burst: Transmit) -> int:
    """Return the bytes of a burst on the wire."""
    return burst.length + len(burst.rows) * (HEADER_SIZE + 48)


class TestTwoLanes:
    def test_one_session_and_numbers_of_their_own(self) -> None:
        # spec: PKT-6, PKT-7
        sender = two_lanes()
        firsts = []
        for channel, sent in enumerate(sent_by(sender, SECOND)):
            rows = np.concatenate([burst.rows for _, burst in sent])
            assert set(rows["tsi"].tolist()) == {sender.tsi}
            assert set(rows["channel"].tolist()) == {channel}
            sqns = rows["sqn"].tolist()
            assert sqns == [(sqns[0] + n) % (1 << 32) for n in range(len(sqns))]
            firsts.append(sqns[0])
        assert firsts[0] != firsts[1]

    def test_each_keeps_its_rate(self) -> None:
        # spec: SND-3
        for rate, sent in zip((SLOW, FAST), sent_by(two_lanes(), 4 * SECOND), strict=True):
            bits = 8 * sum(wire_bytes(burst) for _, burst in sent)
            assert bits / 4 == pytest.approx(rate, rel=0.01)

    def test_each_announces_itself(self) -> None:
        # spec: SND-5, PKT-8
        for rate, sent in zip((SLOW, FAST), sent_by(two_lanes(), 4 * SECOND), strict=True):
            times = [now for now, burst in sent if kind_of(burst) is SPM]
            assert times[0] == 0
            assert max(np.diff(times)) <= 1.01 * SECOND
            head = 0
            for _, burst in sent:
                if kind_of(burst) is ODATA:
                    head += len(burst.rows)
                elif kind_of(burst) is SPM:
                    spm = parse_spm(bytes(burst.payload))
                    assert spm.rate == rate
                    assert spm.position == SpmPosition(head, Order.BLOCKS)

    def test_each_goes_round_in_its_own_time(self) -> None:
        # spec: SND-6
        for sent in sent_by(two_lanes(), 3 * SECOND):
            symbols = symbols_sent([burst for _, burst in sent], ODATA, SAMPLE)
            assert symbols == [n % 3_000 for n in range(len(symbols))]

    def test_it_ends_when_the_slowest_has_sent_its_cycles(self) -> None:
        # spec: SND-9
        sender = two_lanes(cycles=1)
        sender.start(0)
        counts, last, ended = Counter[int](), [0, 0], 0
        for now, action in play(sender):
            ended = now
            if isinstance(action, Finished):
                break
            if kind_of(action) is ODATA:
                counts[action.channel] += len(action.rows)
                last[action.channel] = now
        assert counts == {0: 3_000, 1: 3_000}
        assert last[0] == pytest.approx(4 * last[1], rel=0.05)
        assert last[0] <= ended <= last[0] + 10 * MS
        assert sender.cycles == 2
        assert sender.achieved_rate == pytest.approx(SLOW + FAST, rel=0.01)

    def test_one_without_a_limit_does_not_hold_up_the_other(self) -> None:
        sender = two_lanes(rates=(None, SLOW), unpaced_bursts=1)
        sender.start(0)
        sent = Counter[int]()
        for _, action in play(sender, until=SECOND, step=MS // 4):
            if isinstance(action, Transmit):
                sent[action.channel] += wire_bytes(action)
        assert 8 * sent[1] == pytest.approx(SLOW, rel=0.02)
        assert sent[0] > 10 * sent[1]
        assert sender.rate(SECOND) is None
        assert two_lanes().rate(0) == SLOW + FAST

    def test_another_session_is_one_on_all(self) -> None:
        # spec: SND-12
        sender = two_lanes(cycles=1)
        before = sent_by(sender, SECOND)
        old, now = sender.tsi, max(sent[-1][0] for sent in before)
        held = before[1][-1][1].rows
        assert kind_of(before[1][-1][1]) is ODATA
        sender.unsent(held, 1_000)
        sender.renew(now, held)
        after: list[list[Transmit]] = [[], []]
        for _, action in play(sender):
            if isinstance(action, Transmit):
                after[action.channel].append(action)
        for channel, bursts in enumerate(after):
            assert kind_of(bursts[0]) is SPM
            assert {int(burst.rows["tsi"][0]) for burst in bursts} == {sender.tsi} != {old}
            kept = [burst for _, burst in before[channel]][: -1 if channel else None]
            assert symbols_sent([*kept, *bursts], ODATA, SAMPLE) == [*range(3_000)]
        assert [lane.tally.counters.unsent for lane in sender.lanes] == [0, len(held)]


class TestRepairs:
    REPAIR = RepairConfig(port=9)

    def ask(self, sender: Sender, now: int, wanted: list[int], **fields: int) -> list[Transmit]:
        """Let a NAK come; return what is sent at once."""
        (batch,) = batches([nak_packet(SAMPLE, wanted, **fields)], source=("10.0.0.1", 1))
        assert sender.receive(now, batch) == []
        return [one for one in sender.tick(now) if isinstance(one, Transmit)]

    @pytest.mark.parametrize(("asked", "answers"), [(0, 0), (1, 1), (7, 0)])
    def test_come_on_the_channel_that_was_heard(self, asked: int, answers: int) -> None:
        # spec: PKT-12, REP-3
        sender = two_lanes(repair=self.REPAIR)
        sent = sent_by(sender, 100 * MS)
        (spm, *_) = [burst for _, burst in sent[answers] if kind_of(burst) is SPM]
        option = spm_of(spm).repairs
        assert option
        last = int(sent[answers][-1][1].rows["sqn"][-1])
        fields = {"nonce": option.nonce, "tsi": sender.tsi, "sqn": last, "channel": asked}
        (ncf,) = self.ask(sender, 100 * MS, [2_000, 2_001], **fields)
        assert (kind_of(ncf), ncf.channel) == (NCF, answers)
        repaired = [
            action
            for _, action in play(sender, until=300 * MS)
            if isinstance(action, Transmit) and kind_of(action) is RDATA
        ]
        assert {burst.channel for burst in repaired} == {answers}
        assert symbols_sent(repaired, RDATA, SAMPLE) == [2_000, 2_001]
        assert sender.counters.rdata == sender.lanes[answers].tally.counters.rdata == 2

    def test_what_is_in_flight_on_one_is_not_on_the_other(self) -> None:
        # spec: REP-4
        sender = two_lanes(repair=self.REPAIR)
        sent = sent_by(sender, 500 * MS)
        fast = [burst for _, burst in sent[1] if kind_of(burst) is ODATA][-1]
        (symbol, *_) = symbols_sent([fast], ODATA, SAMPLE)
        (nonce,) = {spm_of(b).repairs.nonce for s in sent for _, b in s if kind_of(b) is SPM}
        for channel, before in ((1, 0), (0, 1)):
            last = int(sent[channel][-1][1].rows["sqn"][-1])
            heard = (last - 20) % (1 << 32)
            fields = {"nonce": nonce, "tsi": sender.tsi, "sqn": heard, "channel": channel}
            self.ask(sender, 500 * MS, [symbol], **fields)
            assert sender.waiting == before

    def test_one_budget_for_a_source_whatever_it_hears(self) -> None:
        # spec: REP-9
        sender = two_lanes(repair=replace(self.REPAIR, source_naks_per_second=10.0))
        sent = sent_by(sender, 100 * MS)
        nonce = spm_of(sent[0][0][1]).repairs.nonce
        for number in range(20):
            fields = {"nonce": nonce, "tsi": sender.tsi, "channel": number % 2}
            self.ask(sender, 100 * MS, [2_000 + number], **fields)
        assert sender.counters.naks_received == 10
        assert sender.refused == {"budget": 10}
        assert sender.sources == 1


class Changing(RateControl):
    """A rate that falls to a quarter after one second."""

    def rate(self, now: int) -> int | None:
        return FAST if now < SECOND else SLOW


class TestARateThatChanges:
    def test_everything_follows(self) -> None:
        # spec: SND-3, SND-5, REP-6
        repair = RepairConfig(port=9, grtt_start=1, grtt_min=1)
        config = SenderConfig(rate=FAST, packet_overhead=48, spm_min=MS)
        sender = Sender(
            config, SAMPLE.manifest, SAMPLE.tree, repair=repair, rng=Random(1), rates=[Changing()]
        )
        ((*sent,),) = sent_by(sender, 2 * SECOND)
        halves = [[s for s in sent if s[0] < SECOND], [s for s in sent if s[0] >= SECOND]]
        intervals = []
        for half, rate in zip(halves, (FAST, SLOW), strict=True):
            assert 8 * sum(wire_bytes(burst) for _, burst in half) == pytest.approx(rate, rel=0.02)
            spms = [(now, spm_of(burst)) for now, burst in half if kind_of(burst) is SPM]
            assert {spm.rate for _, spm in spms} == {rate}
            intervals.append(spms[2][0] - spms[1][0])
        assert intervals[1] == pytest.approx(4 * intervals[0], rel=0.1)
        assert sender.grtt(2 * SECOND) == 4 * sender.grtt(0)
        assert sender.rate(0) == FAST
        assert sender.rate(SECOND) == SLOW


class TestStart:
    def test_before_it_starts_nothing_counts(self) -> None:
        sender = make_sender(SAMPLE, rate=SLOW)
        (lane,) = sender.lanes
        assert lane.throughput == (0, 0)
        sender.start(7 * SECOND)
        assert sender.deadline == 7 * SECOND
        assert sender.tick(7 * SECOND - 1) == []
        (spm,) = sender.tick(7 * SECOND)
        assert kind_of(spm) is SPM
        assert lane.throughput[0] == wire_bytes(spm)
        assert lane.throughput[1] == sender.deadline - 7 * SECOND

    def test_one_that_has_sent_its_cycles_keeps_what_it_achieved(self) -> None:
        # spec: SND-9, SND-13
        sender = two_lanes(cycles=1)
        lasts = [sent[-1][0] for sent in sent_by(sender, 30 * SECOND)]
        slow, fast = sender.lanes
        assert slow.schedule
        assert fast.schedule
        assert slow.schedule.cycles == fast.schedule.cycles == 1
        # What it says of its rate afterwards does not get less while the other goes on.
        assert fast.throughput[1] < slow.throughput[1] / 3
        assert fast.achieved_rate == pytest.approx(FAST, rel=0.01)
        assert slow.achieved_rate == pytest.approx(SLOW, rel=0.01)
        # It goes on to say that it stands.
        assert lasts[1] > slow.throughput[1] - 2 * SECOND

    def test_its_duration_counts_from_there(self) -> None:
        # spec: SND-9
        sender = make_sender(SAMPLE, duration=SECOND)
        assert not sender.time_is_up(1 << 60)
        sender.start(7 * SECOND)
        assert not sender.time_is_up(8 * SECOND - 1)
        assert sender.time_is_up(8 * SECOND)

    def test_nothing_held_is_nothing_back(self) -> None:
        sender = two_lanes()
        sent_by(sender, 100 * MS)
        odata = sender.counters.odata
        sender.renew(100 * MS, np.zeros(0, HEADER_DTYPE))
        assert sender.counters.odata == odata
