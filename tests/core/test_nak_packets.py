"""What a NAK says, and whom it goes to."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from pgmlite.core.config import NakConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.wire.batch import HEADER_DTYPE
from pgmlite.wire.layout import MAX_CONTROL, PacketType
from tests.support.asking import Listening
from tests.support.builders import make_object
from tests.support.nak_builders import (
    LONGEST,
    parse,
    rdata_packets,
)

SAMPLE = make_object(64 * 2_000, block_symbols=20)


class TestPacket:
    def test_what_a_nak_says(self) -> None:
        # spec: PKT-12, NAK-12
        receiver = Listening(SAMPLE)
        receiver.spm(nonce=5, timestamp=1_000)
        receiver.hear(range(50))
        receiver.spm(nonce=(1 << 64) - 3, timestamp=7_000_000_000)
        heard = receiver.now
        receiver.hear(range(50, 64), lost=[52, 58])
        (nak,) = receiver.wait(LONGEST)
        sent, _ = receiver.naks[0]
        assert nak.endpoint == ("S", 9)
        row = np.frombuffer(nak.packet, HEADER_DTYPE, 1)[0]
        expected = SAMPLE.fields | {"type": PacketType.NAK, "channel": 0, "offset": 0, "flags": 0}
        assert {name: int(row[name]) for name in expected} == expected
        assert int(row["sqn"]) == receiver.sqn
        body = parse(nak, SAMPLE)
        assert body.symbols.tolist() == [52, 58]
        assert body.nonce == (1 << 64) - 3
        assert body.timestamp == 7_000_000_000 + sent - heard
        assert body.loss == pytest.approx(2 / 66, abs=1e-3)
        assert len(nak.packet) <= MAX_CONTROL

    def test_a_long_list_is_cut_to_one_packet_and_the_rest_follows(self) -> None:
        sample = make_object(64 * 60_000, block_symbols=4_096)
        receiver = Listening(sample)
        lost = sorted(Random(4).sample(range(8_192), 1_500))
        spread = [4_096 * 2 + n for n in lost if n < 4_096]
        receiver.spm()
        receiver.hear(range(8_100, 4_096 * 3 + 5), lost=spread, step=MS // 10)
        (nak,) = receiver.wait(LONGEST)
        assert len(nak.packet) <= MAX_CONTROL
        asked = parse(nak, sample).symbols.tolist()
        assert asked == spread[: len(asked)]

    def test_no_nak_means_silence_and_repairs_are_used(self) -> None:
        # spec: RCV-14
        receiver = Listening(SAMPLE, naks=False)
        receiver.spm()
        receiver.hear(range(200), lost=range(30, 200, 25))
        assert receiver.machine.deadline is None
        assert receiver.wait(SECOND) == []
        before, _ = receiver.machine.progress
        receiver.give(rdata_packets(SAMPLE, [30, 55]))
        after, _ = receiver.machine.progress
        assert after == before + 2


class TestWhomToAsk:
    REPAIRER = ("R", 6_000)

    def lose(self, receiver: Listening, first: int, **fields: int) -> list[str]:
        """Lose a symbol of the carousel; return where the NAKs go."""
        receiver.hear(range(first, first + 70), lost=[first + 30], **fields)
        return [nak.endpoint[0] for nak in receiver.wait(2 * LONGEST)]

    def test_the_sender_itself_once_it_has_sent_data(self) -> None:
        receiver = Listening(make_object(64 * 2_000, block_symbols=4))
        receiver.spm()
        receiver.hear(range(12), lost=[5])
        assert receiver.wait(LONGEST) == []
        receiver.hear(range(12, 40), lost=[33])
        assert {nak.endpoint for nak in receiver.wait(LONGEST)} == {("S", 9)}

    @pytest.mark.parametrize("share", [5, 50, 99, 100, 255])
    def test_nobody_on_the_word_of_an_spm(self, share: int) -> None:
        # spec: NAK-9
        receiver = Listening(SAMPLE)
        for first in range(0, 700, 70):
            receiver.spm(repair_port=0)
            receiver.spm(source=("victim", 1), header={"tsi": 2}, repair_share=share)
            assert self.lose(receiver, first) == []

    def test_who_repeats_repairs_only_is_not_trusted_for_it(self) -> None:
        receiver = Listening(SAMPLE)
        for first in range(0, 700, 70):
            receiver.spm(repair_port=0)
            receiver.spm(source=("victim", 1), header={"tsi": 2}, repair_share=50)
            repairs = rdata_packets(SAMPLE, range(40), tsi=2, sqn=first)
            receiver.give(repairs, source=("victim", 1))
            assert self.lose(receiver, first) == []

    @pytest.mark.parametrize("told_by", ["us", "the manifest"])
    def test_who_we_were_told_of_is_asked_at_once(self, told_by: str) -> None:
        endpoint = ("192.0.2.7", 9)
        sample = SAMPLE
        if told_by == "the manifest":
            sample = replace(SAMPLE, manifest=replace(SAMPLE.manifest, repairers=(endpoint,)))
        repairers = frozenset({endpoint} if told_by == "us" else ())
        receiver = Listening(sample, repairers=repairers)
        receiver.spm(repair_port=0)
        receiver.spm(source=("192.0.2.7", 1), header={"tsi": 2}, repair_share=100)
        receiver.hear(range(70), lost=[30])
        assert {nak.endpoint for nak in receiver.wait(LONGEST)} == {endpoint}

    @pytest.mark.parametrize(("name", "port"), [("R", 10), ("X", 9)])
    def test_another_port_or_address_is_another_endpoint(self, name: str, port: int) -> None:
        receiver = Listening(SAMPLE, repairers=frozenset({("R", 9)}))
        receiver.spm(repair_port=0)
        receiver.spm(source=(name, 1), header={"tsi": 2}, repair_share=100, repair_port=port)
        assert self.lose(receiver, 0) == []

    def test_who_we_were_told_of_comes_before_the_sender(self) -> None:
        # spec: NAK-11
        config = {"repairers": frozenset({("R", 9)}), "nak": NakConfig(ask_silent=0)}
        receiver = Listening(SAMPLE, **config)
        receiver.spm()
        assert self.lose(receiver, 0) == ["S"] * len(receiver.naks)
        receiver.spm(source=("R", 1), header={"tsi": 2}, repair_share=100)
        receiver.spm()
        asked = self.lose(receiver, 70)
        assert asked
        assert set(asked) == {"R"}

    def test_another_session_at_the_same_address_is_asked_with_its_own_nonce(self) -> None:
        receiver = Listening(SAMPLE)
        receiver.spm(nonce=1)
        self.lose(receiver, 0)
        receiver.wait(SECOND)
        receiver.spm(header={"tsi": 3}, nonce=2)
        assert self.lose(receiver, 70, tsi=3)
        row = np.frombuffer(receiver.naks[-1][1].packet, HEADER_DTYPE, 1)[0]
        assert (int(row["tsi"]), parse(receiver.naks[-1][1], SAMPLE).nonce) == (3, 2)
