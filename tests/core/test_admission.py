"""Which NAKs are looked at, and what a flood of them may cost."""

import struct
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.config import RepairConfig
from pgmlite.core.machine import MS, SECOND, Transmit
from pgmlite.core.send.admission import Admission
from pgmlite.wire.layout import PacketType
from tests.support.answering import (
    DEFAULT,
    NCF,
    SAMPLE,
    TOTAL,
    Answering,
    alone,
)
from tests.support.builders import batches, make_object, packet
from tests.support.nak_builders import (
    memory_kept,
    nak_packet,
    ncf_packet,
    symbols_sent,
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
        assert sender.machine.refused == {}

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
        assert sender.machine.refused == {reason: 1}
        assert sender.machine.waiting == 0
        assert sender.machine.counters.naks_received == 0

    def test_a_nonce_is_good_for_three_lifetimes_and_stale_then(self) -> None:
        # spec: REP-6
        sender = alone()
        first = sender.nonce
        for life in range(5):
            sender.run(life * (DEFAULT.nonce_life + MS) + DEFAULT.nonce_life // 2)
            bursts = sender.ask(1_000 + life, nonce=first)
            assert bool(bursts) is (life < 3), life
        assert sender.machine.refused == {"nonce": 2}
        assert len({spm.nonce for spm in sender.spms}) == 5

    def test_a_nonce_changes_when_its_life_is_over_and_no_later(self) -> None:
        # spec: REP-6
        admission = Admission(DEFAULT, SAMPLE.manifest, rng=Random(1))
        first = admission.nonce(0)
        assert admission.nonce(DEFAULT.nonce_life - 1) == first
        second = admission.nonce(DEFAULT.nonce_life)
        assert second != first
        assert admission.nonce(2 * DEFAULT.nonce_life - 1) == second

    def test_budget_of_one_source(self) -> None:
        # spec: REP-9
        sender = alone()
        limit = int(DEFAULT.source_naks_per_second)
        for number in range(limit + 50):
            sender.ask(number, source=("10.0.0.1", number))
        assert sender.machine.refused == {"budget": 50}
        sender.now += SECOND // 10
        for number in range(limit):
            sender.ask(number, source=("10.0.0.1", number))
        assert sender.machine.refused == {"budget": 50 + limit - limit // 10}

    def test_budget_in_all(self) -> None:
        sender = alone()
        for number in range(2_000):
            sender.ask(number, source=(f"10.0.{number // 200}.{number % 200}", 1))
        accepted = sender.machine.counters.naks_received
        assert accepted == DEFAULT.naks_per_second / 4
        assert sender.machine.refused == {"budget": 2_000 - accepted}

    def test_one_source_that_floods_does_not_use_up_the_budget_of_all(self) -> None:
        sender = alone()
        for number in range(2_000):
            sender.ask(number, source=("10.0.0.1", 1))
        before = sender.machine.counters.naks_received
        sender.ask(3_000, source=("10.0.0.2", 1))
        assert sender.machine.counters.naks_received == before + 1

    def test_a_nak_that_names_much_counts_as_many(self) -> None:
        # spec: REP-9
        sample = make_object(64 * 70_000, block_symbols=1_000)
        sender = Answering(sample, carousel=False, repair=RepairConfig(port=9))
        for number in range(40):
            sender.ask(range(number, 60_000 + number), source=("10.0.0.1", 1))
        looked_at = sender.machine.counters.naks_received
        # Each counts as 1 and 58 more, of 250 a second.
        assert looked_at == 5
        assert sender.machine.refused == {"budget": 40 - looked_at}
        for number in range(40):
            sender.ask(range(60_000), source=(f"10.1.0.{number}", 1))
        assert sender.machine.counters.naks_received <= 10

    @pytest.mark.parametrize(
        ("config", "looked_at"),
        [
            # Of 20 that came together 230 are left to the source: four of 58 more overdraw it.
            ({}, 4),
            # Of 500 in all 480 are left, which nine overdraw.
            ({"source_naks_per_second": 1e6}, 9),
            ({"source_naks_per_second": 1e6, "naks_per_second": 8_000.0}, 20),
            ({"symbols_a_nak": 60_001}, 20),
        ],
    )
    def test_the_first_budget_that_is_overdrawn_ends_a_batch(
        self, config: dict[str, float], looked_at: int
    ) -> None:
        # spec: REP-9
        sample = make_object(64 * 70_000, block_symbols=1_000)
        repair = RepairConfig(port=9, **config)
        sender = Answering(sample, carousel=False, repair=repair)
        fields = {"nonce": sender.nonce, "tsi": sender.machine.tsi}
        naks = [nak_packet(sample, range(n, 60_000 + n), **fields) for n in range(20)]
        (batch,) = batches(naks, source=("10.0.0.1", 1))
        sender.machine.receive(sender.now, batch)
        assert sender.machine.counters.naks_received == looked_at
        assert sender.machine.refused["budget"] == 20 - looked_at

    def test_symbols_of_one_source(self) -> None:
        sender = alone(source_symbols_per_second=1_000.0)
        (ncf,) = sender.ask(range(1_000, 2_500))
        assert symbols_sent([ncf], NCF, SAMPLE) == list(range(1_000, 2_000))
        assert sender.machine.waiting == 1_000
        sender.ask(range(3_000, 3_100), source=("10.0.0.2", 1))
        assert sender.machine.waiting == 1_100

    def test_a_full_queue_confirms_no_more_than_it_takes(self) -> None:
        # spec: REP-9
        sender = alone(max_waiting=100)
        (ncf,) = sender.ask(range(1_000, 1_250))
        assert symbols_sent([ncf], NCF, SAMPLE) == list(range(1_000, 1_100))
        assert sender.ask(2_000) == []


class TestBounds:
    def test_five_thousand_sources(self) -> None:
        # spec: REP-9
        sender = alone(naks_per_second=1e9)
        nak = nak_packet(SAMPLE, [2_000], nonce=sender.nonce, tsi=sender.machine.tsi)
        for number in range(5_000):
            sender.give(nak, source=(f"10.0.{number >> 8}.{number & 255}", 1))
        assert sender.machine.sources <= DEFAULT.max_sources
        assert sender.machine.waiting <= TOTAL
        assert sender.machine.counters.naks_received == 5_000

    @pytest.mark.slow
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
            pending = sender.queued.symbols.tolist()
            assert len(set(pending)) == len(pending) == sender.machine.waiting
            assert sender.machine.waiting <= config.max_waiting
            assert sender.machine.sources <= config.max_sources
            assert sender.grtt <= config.grtt_max
