"""A sender whose address changed goes on as another session; what was not sent is known."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from random import Random
from typing import Any

import numpy as np
import pytest

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND, Transmit
from pgmlite.core.send.sender import Sender
from pgmlite.wire.batch import HEADER_DTYPE, HEADER_SIZE
from pgmlite.wire.layout import PacketType
from tests.support.answering import Answering
from tests.support.builders import make_object, make_sender, play
from tests.support.nak_builders import kind_of, symbols_sent

SPM, ODATA, TREE = PacketType.SPM, PacketType.ODATA, PacketType.TREE
NCF, RDATA = PacketType.NCF, PacketType.RDATA

COUNT = 5_000
SAMPLE = make_object(64 * COUNT, block_symbols=20)
NOTHING = np.zeros(0, HEADER_DTYPE)


def bursts(sender: Sender, **limits: Any) -> Iterator[tuple[int, Transmit]]:
    """Yield when which packets of a started sender leave."""
    for now, action in play(sender, **limits):
        if isinstance(action, Transmit):
            yield now, action


def field(sent: list[Transmit], name: str) -> list[int]:
    """Return a header field of all packets."""
    return [value for burst in sent for value in burst.rows[name].tolist()]


class TestAnotherSession:
    @pytest.mark.parametrize("packets", [1, 2, 30, 3_333])
    @pytest.mark.parametrize("repair", [None, RepairConfig(port=9)])
    def test_begins_like_any_and_goes_on_with_the_carousel(
        self, packets: int, repair: RepairConfig | None
    ) -> None:
        # spec: SND-1, SND-5, SND-12, PKT-6
        sender = make_sender(SAMPLE, repair=repair, rng=Random(1), cycles=1)
        sender.start(0)
        *_, (now, last) = before = list(bursts(sender, packets=packets))
        old = sender.tsi
        sender.renew(now, NOTHING)
        after = [burst for _, burst in bursts(sender, until=now + 5 * SECOND)]
        sent = [burst for _, burst in before]
        assert set(field(sent, "tsi")) == {old}
        assert set(field(after, "tsi")) == {sender.tsi} != {old}
        kinds = [kind for kind, _ in groupby(map(kind_of, after))]
        assert kinds[:3] == [SPM, TREE, ODATA]
        sqns = field(after, "sqn")
        assert sqns == [(sqns[0] + n) % (1 << 32) for n in range(len(sqns))]
        assert sqns[0] != (int(last.rows["sqn"][-1]) + 1) % (1 << 32)
        assert symbols_sent([*sent, *after], ODATA, SAMPLE) == [*range(COUNT)]

    def test_goes_back_to_what_did_not_leave(self) -> None:
        # spec: SND-12
        sender = make_sender(SAMPLE, rate=100_000_000, cycles=2)
        sender.start(0)
        *sent, held = [burst for _, burst in bursts(sender, packets=100)]
        assert kind_of(held) is ODATA
        assert len(held.rows) > 3
        first, rest = held.rows[:2], held.rows[2:]  # the system had taken two of them
        sender.unsent(rest, 1_000)
        sender.renew(SECOND, rest)
        went = symbols_sent(sent, ODATA, SAMPLE) + (first["offset"] // 64).tolist()
        went += symbols_sent([burst for _, burst in bursts(sender)], ODATA, SAMPLE)
        assert went == [*range(COUNT)] * 2
        assert sender.counters.odata == 2 * COUNT
        assert sender.counters.unsent == len(rest)

    @pytest.mark.parametrize("kind", [SPM, TREE, RDATA, NCF])
    def test_does_not_go_back_for_anything_else(self, kind: PacketType) -> None:
        sender = make_sender(SAMPLE, cycles=1)
        sender.start(0)
        sent = [burst for _, burst in bursts(sender, packets=50)]
        held = np.zeros(3, HEADER_DTYPE)
        held["type"] = kind
        sender.renew(SECOND, held)
        sent += [burst for _, burst in bursts(sender)]
        assert symbols_sent(sent, ODATA, SAMPLE) == [*range(COUNT)]


class TestRepairs:
    def test_naks_to_the_session_before_are_refused_and_to_this_one_answered(self) -> None:
        # spec: SND-12, REP-2
        sender = Answering(SAMPLE)
        sender.run(100 * MS)
        old, sqn = sender.machine.tsi, sender.last_sqn
        sender.machine.renew(sender.now, NOTHING)
        sender.run(200 * MS)
        assert sender.ask(3, tsi=old, sqn=sqn) == []
        assert sender.machine.refused == {"session": 1}
        (ncf,) = sender.ask(3)
        assert kind_of(ncf) is NCF
        assert set(field([ncf], "tsi")) == {sender.machine.tsi}
        assert symbols_sent(sender.run(300 * MS), RDATA, SAMPLE) == [3]

    def test_what_waits_is_repeated_and_an_spm_comes_first(self) -> None:
        # spec: SND-12, SND-5
        sender = Answering(SAMPLE, rate=2_000_000)
        sender.run(100 * MS)
        wanted = [*range(10, 70)]
        sender.ask(wanted)
        before = sender.run(sender.now + 5 * MS)
        number = 0
        while sender.ask(wanted[-1], source=(f"10.0.1.{number}", 1)):
            number += 1
        assert sender.repairs.confirmations  # an NCF that had to wait: it is of no use there
        sender.machine.renew(sender.now, NOTHING)
        assert not sender.repairs.confirmations
        after = sender.run(sender.now + 2 * SECOND)
        assert kind_of(after[0]) is SPM
        assert symbols_sent([*before, *after], RDATA, SAMPLE) == wanted
        # To this session it can be said again.
        assert symbols_sent(sender.ask(wanted[-1]), NCF, SAMPLE) == wanted[-1:]

    def test_what_is_in_flight_is_of_this_session_alone(self) -> None:
        # spec: REP-4
        sender = Answering(SAMPLE)
        sender.run(200 * MS)
        passed = symbols_sent([burst for _, burst in sender.sent], ODATA, SAMPLE)
        sender.machine.renew(sender.now, NOTHING)
        sender.run(300 * MS)
        # The first packet of the new session is all that the asker has seen.
        first = next(b for _, b in sender.sent if b.rows["tsi"][0] == sender.machine.tsi)
        sender.ask(passed[5], passed[-1] + 3, sqn=int(first.rows["sqn"][0]))
        assert symbols_sent(sender.run(400 * MS), RDATA, SAMPLE) == [passed[5]]

    def test_what_is_known_of_the_group_stays(self) -> None:
        # spec: REP-6
        sender = Answering(SAMPLE)
        sender.run(100 * MS)
        sender.ask(3, timestamp=sender.now - 7 * MS)
        sender.run(900 * MS)
        before = sender.spms[-1]
        sender.machine.renew(sender.now, NOTHING)
        sender.run(sender.now + 10 * MS)
        after = sender.spms[-1]
        assert after is not before
        assert (after.nonce, after.grtt, after.gsize) == (before.nonce, before.grtt, before.gsize)

    def test_a_repairer_without_a_carousel(self) -> None:
        # spec: SND-12, REP-8
        repairer = Answering(SAMPLE, carousel=False)
        repairer.run(100 * MS)
        old = repairer.machine.tsi
        repairer.machine.renew(repairer.now, NOTHING)
        (spm,) = repairer.run(repairer.now + 10 * MS)
        assert kind_of(spm) is SPM
        assert set(field([spm], "tsi")) == {repairer.machine.tsi} != {old}
        repairer.ask(3, 99)
        assert symbols_sent(repairer.run(repairer.now + 100 * MS), RDATA, SAMPLE) == [3, 99]


class TestUnsent:
    def test_the_carousel_goes_on_and_it_is_counted(self) -> None:
        # spec: SND-11
        sender = make_sender(SAMPLE, cycles=1)
        sender.start(0)
        sent = []
        for number, (_, burst) in enumerate(bursts(sender)):
            sent.append(burst)
            if number % 10 == 7:
                sender.unsent(burst.rows, burst.length + HEADER_SIZE * len(burst.rows))
        assert symbols_sent(sent, ODATA, SAMPLE) == [*range(COUNT)]
        assert sender.counters.unsent == sum(len(burst.rows) for burst in sent[7::10])
        assert not sender.has_sent_nothing

    @pytest.mark.parametrize(
        ("refused", "nothing"),
        [({SPM, TREE, ODATA}, True), ({ODATA}, True), ({SPM, TREE}, False), (set(), False)],
    )
    def test_nothing_of_the_object(self, refused: set[PacketType], nothing: bool) -> None:
        sender = make_sender(SAMPLE, cycles=1)
        sender.start(0)
        for _, burst in bursts(sender):
            if kind_of(burst) in refused:
                sender.unsent(burst.rows, burst.length)
        assert sender.has_sent_nothing == nothing

    @pytest.mark.parametrize("refused", [True, False])
    def test_nothing_of_an_empty_object(self, refused: bool) -> None:
        sender = make_sender(make_object(0), cycles=1)
        sender.start(0)
        assert not sender.has_sent_nothing  # nothing was due yet
        for _, burst in bursts(sender):
            if refused:
                sender.unsent(burst.rows, burst.length)
        assert sender.has_sent_nothing == refused


class TestRate:
    RATE = 10_000_000

    def achieved(self, *, late: int = 0, pause: int = 0, refused: int = 0, **config: Any) -> float:
        """Return the share of the rate that a sender reaches which is driven like that.

        Args:
            late: ns that each packet leaves after it is due.
            pause: ns without a link after 100 packets.
            refused: Every so manieth burst is not taken.
        """
        sender = make_sender(SAMPLE, rate=self.RATE, cycles=1, **config)
        now = 7 * SECOND
        sender.start(now)
        for number in range(1, 1 << 20):
            for burst in sender.tick(now):
                if isinstance(burst, Transmit) and refused and not number % refused:
                    octets = burst.length + HEADER_SIZE * len(burst.rows)
                    sender.unsent(burst.rows, octets)
            if sender.deadline is None:
                return sender.achieved_rate / self.RATE
            now = max(now, sender.deadline) + late
            if number == 100 and pause:
                now += pause
                sender.stood(pause)
        raise AssertionError("it never ends")

    def test_kept(self) -> None:
        assert self.achieved() == pytest.approx(1, abs=0.001)
        assert self.achieved(late=300_000) == pytest.approx(1, abs=0.01)  # that is made up for

    def test_not_kept(self) -> None:
        # A packet takes 128 us; what is later than half a millisecond is lost.
        assert self.achieved(late=2 * MS) < 0.6

    def test_a_time_without_a_link_does_not_count(self) -> None:
        assert self.achieved(pause=9 * SECOND) == pytest.approx(1, abs=0.01)

    def test_what_is_said_right_after_a_time_without_a_link(self) -> None:
        sender = make_sender(SAMPLE, rate=self.RATE)
        sender.start(0)
        while sender.counters.odata < 100:
            sender.tick(sender.deadline or 0)
        before = sender.achieved_rate
        sender.stood(9 * SECOND)
        assert sender.achieved_rate == before > 0

    def test_what_was_refused_does_not_count(self) -> None:
        assert self.achieved(refused=4) == pytest.approx(0.75, abs=0.02)
        assert self.achieved(refused=1) == 0

    def test_lingering_does_not_count(self) -> None:
        config = SenderConfig(rate=self.RATE, packet_overhead=48, cycles=1)
        repair = RepairConfig(port=9)
        sender = Sender(config, SAMPLE.manifest, SAMPLE.tree, repair=repair, rng=Random(1))
        sender.start(0)
        *_, (end, _) = bursts(sender)
        assert end > 1.5 * SECOND
        assert sender.achieved_rate == pytest.approx(self.RATE, rel=0.01)

    def test_without_a_limit_it_is_what_went_out(self) -> None:
        sender = make_sender(SAMPLE, rate=None, cycles=2)
        assert sender.achieved_rate == 0
        sender.start(0)
        *_, (last, _) = bursts(sender, step=MS)
        sent = sender.counters.bytes + 48 * sender.counters.packets
        assert sender.achieved_rate == sent * 8 * SECOND // last
