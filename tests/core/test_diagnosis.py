"""What a receiver says of why nothing gets on: under a clock of the test, with real senders."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from pgmlite.core.human import LONGEST_NAME
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive import evidence as evidence_module
from pgmlite.core.receive.diagnosis import CALM_AFTER, Load
from pgmlite.core.receive.evidence import MOST_OTHERS
from pgmlite.core.receive.offers import OneObject
from pgmlite.wire.layout import PacketType
from pgmlite.wire.manifest import Manifest, manifest_oid
from tests.support.builders import (
    Drive,
    Sample,
    encode,
    make_object,
    packet,
    play,
    spm_body,
)
from tests.support.watched import SYMBOL, WANTED, Watched, at, started


@pytest.fixture(scope="module")
def sample() -> Sample:
    return make_object(600 * SYMBOL, symbol_size=SYMBOL, block_symbols=128, name="fw.bin")


class TestSilence:
    def test_is_told_once_and_so_is_its_end(self, sample: Sample) -> None:
        watched = Watched()
        watched.pass_time(at(9))
        assert not watched.found  # who never heard anybody waits, and that is no news
        watched.drive.give([sample.spm()], now=at(10))
        watched.pass_time(at(31))
        told = watched.only("silence")
        assert told.facts["seconds"] == 5
        assert "sender" in told.text
        watched.drive.give(sample.odata([0]), now=at(31.5))
        watched.pass_time(at(60))
        assert watched.causes() == ["silence", "resumed", "silence"]
        assert 21 <= watched.found[1].facts["seconds"] <= 22

    def test_a_repairer_alone_is_no_sender(self, sample: Sample) -> None:
        watched = Watched()
        watched.drive.give([sample.spm()], now=0)
        body = spm_body(sample.manifest.raw, repair_share=100, repair_port=9)
        for second in range(1, 12):
            spm = packet(PacketType.SPM, body, **sample.fields, sqn=second)
            watched.drive.give([spm], now=at(second), source="repairer")
            watched.pass_time(at(second))
        assert watched.causes() == ["silence"]

    def test_who_was_held_up_does_not_take_that_for_silence(self, sample: Sample) -> None:
        watched = Watched()
        watched.drive.give([sample.spm()], now=at(1))
        watched.look(at(1))
        watched.look(at(9))  # eight seconds in one call for the disk
        assert not watched.found
        watched.look(at(10))
        assert "nothing" not in watched.diagnosis.why_late(at(10))

    def test_the_end_says_it_too(self, sample: Sample) -> None:
        watched = Watched()
        watched.drive.give([sample.spm(), *sample.odata(range(40))], now=at(1))
        watched.pass_time(at(13))
        late = watched.diagnosis.why_late(at(13))
        assert "560 of 600 symbols" in late
        assert "12 s" in late

    def test_a_slow_sender_is_not_silent(self, sample: Sample) -> None:
        watched = Watched()
        watched.hear(started(sample, rate=10_000), sample, lambda _: True, at(120))
        assert watched.found == []


def black_hole(mtu: int, overhead: int = 48) -> Callable[[bytes], bool]:
    """Return what lets only packets through that fit."""
    return lambda one: len(one) + overhead <= mtu


class TestSizes:
    @pytest.mark.parametrize(
        ("symbol", "overhead", "mtu", "size", "advice"),
        [
            (1_404, 48, 1_400, 1_500, "an MTU of 1280"),
            (1_404, 28, 1_400, 1_480, "an MTU of 1280"),
            (8_000, 48, 1_500, 8_096, "an MTU of 1280"),
            (1_184, 48, 1_200, 1_280, "an MTU of 576"),
        ],
    )
    def test_a_path_for_small_packets_only(
        self, symbol: int, overhead: int, mtu: int, size: int, advice: str
    ) -> None:
        # The last symbol is short, and gets through in every cycle.
        one = make_object(90 * symbol + 50, symbol_size=symbol)
        watched = Watched(overhead=overhead)
        watched.hear(started(one), one, black_hole(mtu, overhead), at(8))
        told = watched.only("mtu")
        assert told.facts["packet_size"] == size
        assert told.facts["sent"] >= 100
        assert str(size) in told.text
        assert advice in told.text
        assert watched.causes() == ["mtu"]
        assert str(size) in watched.diagnosis.why_late(at(8))

    def test_what_is_missing_is_not_kept_quiet(self, sample: Sample) -> None:
        # spec: RCV-9
        # Of more than a hundred packets one comes: that is not believed.
        watched, sender = Watched(), started(sample, spm_min=250 * MS)
        watched.hear(sender, sample, lambda one: len(one) < 300, at(6))
        assert watched.machine.lost == 0
        assert watched.machine.lost_unbelieved > 4_000

    def test_is_told_within_seconds_and_mended(self, sample: Sample) -> None:
        watched, sender = Watched(), started(sample)
        watched.hear(sender, sample, black_hole(1_400), at(5))
        assert watched.causes() == ["mtu"]
        watched.hear(sender, sample, lambda _: True, at(5.5))
        watched.hear(sender, sample, black_hole(1_400), at(12))
        # A path may change in the middle of a transfer.
        assert watched.causes() == ["mtu", "mtu_mended", "mtu"]

    @pytest.mark.parametrize("loss", [0.5, 0.9, 0.95])
    @pytest.mark.parametrize(("rate", "seconds"), [(10_000_000, 3), (50_000, 200)])
    def test_loss_is_something_else(
        self, sample: Sample, loss: float, rate: int, seconds: int
    ) -> None:
        for seed in range(2):
            draw, watched = Random(seed), Watched()
            keep = lambda _, draw=draw: draw.random() >= loss  # noqa: E731
            watched.hear(started(sample, rate=rate), sample, keep, at(seconds))
            assert "mtu" not in watched.causes()

    def test_who_sends_no_data_is_not_blamed(self, sample: Sample) -> None:
        """Neither a carousel that stands, nor a repairer, however their numbers go on."""
        for fields in ({}, {"repair_share": 100, "repair_port": 9}):
            watched = Watched()
            watched.drive.give([sample.spm()])
            body = spm_body(sample.manifest.raw, **fields)
            for second in range(1, 20):
                head = second * SYMBOL if fields else 0
                spm = packet(PacketType.SPM, body, **sample.fields, sqn=1_000 * second, offset=head)
                watched.drive.give([spm], now=at(second))
                watched.pass_time(at(second))
            assert "mtu" not in watched.causes()

    def test_symbols_smaller_than_spms_show_nothing(self) -> None:
        small = make_object(50_000)
        watched = Watched()
        watched.hear(
            started(small, rate=1_000_000), small, lambda one: one[3] == PacketType.SPM, at(9)
        )
        assert "mtu" not in watched.causes()

    def test_a_second_sender_on_a_good_path_is_enough(self, sample: Sample) -> None:
        watched = Watched()
        far, near = started(sample), started(sample, rate=100_000, rng=Random("near"))
        for tenth in range(1, 80):
            watched.hear(far, sample, black_hole(1_400), at(tenth / 10))
            for now, action in play(near, until=at(tenth / 10)):
                packets = encode(action, sample.data)
                watched.drive.give(packets, now=now, source="near")
        assert "mtu" not in watched.causes()

    def test_another_object_is_another_matter(self, sample: Sample) -> None:
        watched = Watched()
        watched.hear(started(sample), sample, black_hole(1_400), at(5))
        small = make_object(90_000, symbol_size=512, seed=3)
        watched.pass_time(at(15))
        watched.drive.give([small.spm(), *small.odata([0])], now=at(15))
        watched.pass_time(at(16))
        assert "mtu_mended" not in watched.causes()


class TestOthers:
    def test_of_another_than_the_one_asked_for(self, sample: Sample) -> None:
        watched = Watched(oid=0x123)
        for second in range(1, 10):
            watched.drive.give([sample.spm(sqn=second)], now=at(second))
            watched.pass_time(at(second))
        told = watched.only("object")
        oid = f"{sample.manifest.oid:016x}"
        facts = {"oid": oid, "name": "fw.bin", "size": 600 * SYMBOL, "reason": "object"}
        assert told.facts == facts
        for text in (told.text, watched.diagnosis.why_late(at(10))):
            assert all(word in text for word in ("fw.bin", "822.7 KiB", oid, f"{0x123:016x}"))

    def test_while_one_is_received(self, sample: Sample) -> None:
        watched, old = Watched(), make_object(3_000, name="v1.bin", seed=9)
        watched.drive.give([old.spm(), sample.spm(), old.spm(sqn=1), sample.spm(sqn=1)])
        watched.pass_time(at(3))
        told = watched.only("object")
        assert "fw.bin" in told.text
        assert "v1.bin is being received" in told.text
        # It takes over once the first is gone, and is no other one any more.
        watched.drive.give([sample.spm(sqn=2)], now=at(8))
        assert watched.machine.manifest == sample.manifest
        assert watched.machine.evidence.others == {}
        watched.drive.give([old.spm(sqn=3)], now=at(8))
        watched.pass_time(at(9))
        assert [one.text[:6] for one in watched.found if one.cause == "object"] == [
            "fw.bin",
            "v1.bin",
        ]

    def test_one_that_is_too_large(self, sample: Sample) -> None:
        watched = Watched(max_object_size=9_999)
        watched.drive.give([sample.spm()])
        watched.pass_time(at(2))
        assert "too large" in watched.only("object").text
        assert "1 too_large" in watched.diagnosis.why_late(at(2))

    def test_one_that_is_empty(self) -> None:
        # spec: RCV-16
        watched = Watched()
        for second in range(3):
            watched.drive.give([make_object(0, name="none.bin").spm(sqn=second)], now=at(second))
            watched.pass_time(at(second))
        told = watched.only("object")
        assert all(word in told.text for word in ("none.bin", "empty, and taken only by who asks"))
        assert "3 empty" in watched.diagnosis.why_late(at(3))

    def test_one_that_does_not_fit_the_disk(self, sample: Sample) -> None:
        # spec: RCV-17
        watched = Watched(policy=OneObject(None, SECOND, lambda _: False))
        watched.drive.give([sample.spm()])
        watched.pass_time(at(2))
        assert "the disk has no room for it" in watched.only("object").text

    def test_a_repairer_announces_nothing(self, sample: Sample) -> None:
        watched = Watched(oid=0x123)
        body = spm_body(sample.manifest.raw, repair_share=100, repair_port=9)
        watched.drive.give([packet(PacketType.SPM, body, **sample.fields)])
        watched.pass_time(at(2))
        assert watched.found == []

    def test_inventors_flood_neither_memory_nor_screen_nor_processor(
        self, sample: Sample, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parsed = 0
        parse = evidence_module.parse_manifest

        def counted(raw: bytes) -> Manifest:
            nonlocal parsed
            parsed += 1
            return parse(raw)

        monkeypatch.setattr(evidence_module, "parse_manifest", counted)
        watched = Watched(oid=0x123)
        for number in range(3_000):
            now = number * 10 * MS
            if not number % 100:
                watched.drive.give([sample.spm()], now=now)
            one = make_object(64, name=f"n{number}", seed=number)
            watched.drive.give([one.spm()], now=now)
            watched.pass_time(now)
        evidence = watched.machine.evidence
        assert len(evidence.others) == MOST_OTHERS
        assert sample.manifest.oid in evidence.others  # who goes on speaking is not forgotten
        assert parsed <= 301
        causes = [one for one in watched.causes() if one != "nothing_to_take"]
        assert causes == ["object"] * MOST_OTHERS + ["objects"]
        assert len(watched.only("nothing_to_take").text) < 2_000
        assert len(watched.diagnosis.why_late(at(40))) < 2_000

    def test_what_is_no_manifest_is_nobody(self) -> None:
        watched = Watched(oid=0x123)
        for number, raw in enumerate((b"junk", b"", make_object(64).manifest.raw[:-1])):
            fields = {"oid": manifest_oid(raw), "size": 64, "symbol_size": 64}
            body = spm_body(raw)
            watched.drive.give([packet(PacketType.SPM, body, **fields)], now=at(number))
        watched.pass_time(at(9))
        assert watched.found == []
        assert watched.drive.refused == {"object": 3}

    def test_long_names_are_cut(self) -> None:
        watched = Watched(oid=0x123)
        watched.drive.give([make_object(64, name="ü" * 127).spm()])
        watched.pass_time(at(2))
        text = watched.only("object").text
        assert text.count("ü") == LONGEST_NAME - 1


class TestDrops:
    @staticmethod
    def watched(sample: Sample, **config: object) -> Watched:
        watched = Watched(**config)
        watched.drive.give([sample.spm()])
        watched.look(0)
        return watched

    @staticmethod
    def arrive(watched: Watched, sample: Sample, symbols: range, now: int, load: Load) -> None:
        watched.drive.give(sample.odata(symbols, sqn=symbols.start + 1), now=now)
        watched.look(now, load)

    def test_a_small_buffer_is_told_once_with_what_to_do(self, sample: Sample) -> None:
        watched = self.watched(sample)
        for second in range(1, 30):
            symbols = range(10 * second, 10 * second + 10)
            self.arrive(watched, sample, symbols, at(second), Load(7 * second))
        told = watched.only("buffer")
        assert told.facts == {"kernel_drops": 7}
        assert f"net.core.rmem_max={WANTED}" in told.text
        assert "200.0 KiB" in told.text

    def test_a_buffer_that_is_large_already(self, sample: Sample) -> None:
        watched = self.watched(sample, granted=WANTED)
        self.arrive(watched, sample, range(100), at(1), Load(100))
        text = watched.only("buffer").text
        assert "sysctl" not in text
        assert "lower the sender's rate" in text
        # 200 packets of 1452 bytes in a second: those that were dropped came as well.
        assert "283." in text

    def test_again_after_a_calm_minute(self, sample: Sample) -> None:
        watched = self.watched(sample)
        for now, drops in ((at(1), 5), (at(2), 9), (at(3), 9), (CALM_AFTER + at(3), 10)):
            watched.look(now, Load(drops))
        assert [one.facts["kernel_drops"] for one in watched.found if one.cause == "buffer"] == [
            5,
            1,
        ]

    @pytest.mark.parametrize(("share", "cause"), [(0.3, "buffer"), (0.8, "disk")])
    def test_a_disk_that_is_slower_than_the_network(
        self, sample: Sample, share: float, cause: str
    ) -> None:
        watched = self.watched(sample)
        load = Load(kernel_drops=100, disk_time=at(share))
        self.arrive(watched, sample, range(200), at(1), load)
        told = watched.only(cause)
        if cause == "disk":
            assert "disk takes 342.8 KiB/s" in told.text  # 200 symbols in 0.8 s
            assert "network brings 425." in told.text
        self.arrive(watched, sample, range(200, 300), at(2), Load(150, at(share + 0.9)))
        assert watched.causes().count("disk") == 1

    def test_without_drops_nothing_is_said(self, sample: Sample) -> None:
        watched = self.watched(sample)
        self.arrive(watched, sample, range(200), at(1), Load(0, at(0.99)))
        assert watched.found == []


class TestNumbers:
    def test_a_session_that_gets_worse_and_worse(self, sample: Sample) -> None:
        # spec: RCV-9
        watched = Watched()
        for second in range(1, 30):
            watched.drive.give(sample.odata([second], sqn=1_000 * second), now=at(second))
            watched.pass_time(at(second))
        told = watched.only("numbers")
        assert told.facts["lost_unbelieved"] >= 999 * 9
        assert watched.machine.lost == 0
        assert watched.machine.lost_unbelieved == 28 * 999

    def test_a_forged_number_is_not_worth_a_line(self, sample: Sample) -> None:
        watched = Watched()
        for second in range(1, 30):
            watched.drive.give(sample.odata([second], sqn=second), now=at(second))
            if second == 3:
                forged = sample.odata([0], sqn=1, tsi=5) + sample.odata([1], sqn=1 << 30, tsi=5)
                watched.drive.give(forged, now=at(second))
            watched.pass_time(at(second))
        assert watched.found == []
        assert watched.machine.lost_unbelieved == (1 << 30) - 2
        assert watched.machine.lost == 0

    def test_the_sum_outlives_sessions_and_objects(self, sample: Sample) -> None:
        # spec: RCV-9, RCV-13
        drive = Drive(max_senders=1)
        drive.give([sample.spm()])
        for tsi in (5, 6):
            drive.give(sample.odata([0], sqn=1, tsi=tsi) + sample.odata([1], sqn=1_002, tsi=tsi))
        assert drive.machine.lost_unbelieved == 2 * 1_000
        other = make_object(3_000, seed=4)
        drive.give([other.spm()], now=at(9))
        assert drive.machine.lost_unbelieved == 2 * 1_000
        # What turns out to be true is believed.
        drive.give(
            other.odata(range(2), sqn=1, tsi=7) + other.odata([2], sqn=300, tsi=7), now=at(9)
        )
        assert drive.machine.lost_unbelieved == 2 * 1_000
        assert drive.machine.lost == 297


class TestWhyLate:
    def test_nothing_at_all(self) -> None:
        late = Watched().diagnosis.why_late(at(1))
        assert "no valid packet came to GROUP" in late
        assert "refused" not in late

    def test_junk_is_named(self) -> None:
        watched = Watched()
        watched.drive.give([b"junk", bytes(60), bytes(60)])
        late = watched.diagnosis.why_late(at(1))
        assert "no valid packet" in late
        assert "2 magic, 1 short" in late

    def test_data_without_a_manifest(self, sample: Sample) -> None:
        watched = Watched(oid=sample.manifest.oid)
        watched.drive.give(sample.odata([1, 2]))
        assert "no manifest came to GROUP" in watched.diagnosis.why_late(at(1))

    def test_all_is_there_but_the_index(self, sample: Sample) -> None:
        watched = Watched()
        watched.drive.give([sample.spm(), *sample.all_odata()])
        late = watched.diagnosis.why_late(at(1))
        assert "0 of" not in late
        assert "verified" in late
