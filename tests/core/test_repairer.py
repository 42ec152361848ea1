"""What a sender with repairs, and a repairer on its own, make of what they hear."""

from random import Random

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND, Transmit
from pgmlite.core.send.repairer import Repairer
from pgmlite.core.send.sender import Sender
from pgmlite.wire.layout import Flag
from tests.support.answering import ODATA, OTHER, SAMPLE, Answering, alone
from tests.support.builders import batches
from tests.support.nak_builders import (
    nak_packet,
    rdata_packets,
    spm_packet,
    symbols_sent,
)


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
        assert sender.machine.waiting == 1

    def test_a_repair_symbol_says_nothing_of_the_carousel(self) -> None:
        # spec: REP-7
        sender = alone()
        repair = {"flags": Flag.REPAIR_SYMBOL, "esi": 120, "tsi": 7}
        sender.give(*SAMPLE.odata([2_000], **repair), *rdata_packets(SAMPLE, [2_100], **repair))
        sender.ask(11, 2_001, 2_100)
        # The carousel is where it was: it brings 11 next, and 2 001 much later.
        assert sender.queued.symbols.tolist() == [2_001, 2_100]

    def test_of_several_carousels_it_follows_one_as_long_as_that_goes_on(self) -> None:
        # spec: REP-7
        sender = alone()
        other = {"tsi": 8}
        sender.give(spm_packet(SAMPLE, other, place=2_000), *SAMPLE.odata([2_000], tsi=8))
        sender.ask(11, 2_001)
        assert sender.queued.symbols.tolist() == [2_001]
        sender.run(3 * SECOND)
        sender.give(spm_packet(SAMPLE, other, place=2_100))
        sender.ask(12, 2_100)
        assert sender.queued.symbols.tolist() == [12]

    def test_a_place_that_no_carousel_can_have_is_refused(self) -> None:
        sender = alone()
        sender.give(spm_packet(SAMPLE, {"tsi": 7}, sector=3, sectors=2))
        assert sender.machine.refused["spm"] == 1

    def test_on_a_channel_it_asks_to_be_asked_there(self) -> None:
        # spec: REP-8
        config = SenderConfig(rate=10_000_000, packet_overhead=48)
        repair = RepairConfig(port=9)
        machine = Repairer(config, SAMPLE.manifest, repair=repair, rng=Random(0), channel=2)
        machine.start(0)
        bursts = [one for one in machine.tick(0) if isinstance(one, Transmit)]
        assert [one.channel for one in bursts] == [2] * len(bursts)
        assert {int(one.rows["channel"][0]) for one in bursts} == {2}
        assert machine.lane_of(2) == 0
        machine.unsent(bursts[0].rows, 100)
        assert machine.counters.unsent == 1

    def test_another_object_means_nothing(self) -> None:
        sender = alone()
        sender.give(*rdata_packets(SAMPLE, [2_000], tsi=2, oid=1))
        sender.give(*rdata_packets(SAMPLE, [2_000], tsi=2, size=SAMPLE.manifest.size + 1_000))
        sender.ask(2_000)
        assert sender.machine.waiting == 1

    def test_a_pure_carousel_hears_nothing(self) -> None:
        config = SenderConfig(rate=1_000_000, packet_overhead=48)
        machine = Sender(config, SAMPLE.manifest, SAMPLE.tree, rng=Random(1))
        machine.start(0)
        (batch,) = batches([nak_packet(SAMPLE, [1], nonce=1, tsi=machine.tsi)])
        assert machine.receive(0, batch) == []
