"""How repairers answer NAKs that ask for counts."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.config import RepairConfig
from pgmlite.core.machine import MS, SECOND, ObjectSymbols, Transmit
from pgmlite.core.send.ledger import CountLedger
from pgmlite.wire.layout import Flag, Order, PacketType
from pgmlite.wire.request import Counts, build_counts, build_nak, parse_request
from tests.support.answering import NCF, ODATA, OTHER, RDATA, Answering
from tests.support.builders import make_object, packet
from tests.support.nak_builders import kind_of, nak_packet

SAMPLE = make_object(64 * 100 * 39 + 30, block_symbols=100, repair_symbols=60, tile_blocks=8)
"""40 blocks, the last of one short symbol and 33 repair symbols."""

TOP = 159


def request(*items: tuple[int, int, int]) -> bytes:
    """Return a request of (block, first ESI, count)."""
    body, _ = build_counts(Counts(*np.array(sorted(items), np.int64).T), 1_184)
    return body


class Repairing(Answering):
    """A repairer of an object with repair symbols, driven by hand."""

    def __init__(self, sample: Any = SAMPLE, *, carousel: bool = False, **config: Any) -> None:
        super().__init__(sample, carousel=carousel, **config)

    def ask_for(self, *wanted: tuple[int, int], source: str = "10.0.0.1", **fields: int) -> list:
        """Let a NAK arrive that asks for (block, count); return what the NCF says."""
        values = {"nonce": self.nonce, "sqn": self.last_sqn, "tsi": self.machine.tsi} | fields
        body = build_nak(
            values.pop("nonce"), self.now, 0.0, request(*((block, 0, n) for block, n in wanted))
        )
        nak = packet(PacketType.NAK, body, **(self.sample.fields | values))
        return said(self.give(nak, source=(source, 1)), self.sample)

    @property
    def counts(self) -> dict[int, int]:
        """How many symbols of which blocks wait."""
        ledger = self.repairs.ledger
        assert isinstance(ledger, CountLedger)
        need = ledger.queued
        return dict(zip(need.blocks.tolist(), need.numbers.tolist(), strict=True))


def said(bursts: list[Transmit], sample: Any = SAMPLE) -> list[tuple[int, int, int]]:
    """Return what NCFs say, as (block, first ESI, count)."""
    geometry, items = sample.manifest.geometry, []
    for burst in bursts:
        if kind_of(burst) is NCF:
            counts = parse_request(burst.payload, geometry.symbols, geometry.rings)
            items += np.stack([counts.blocks, counts.firsts, counts.counts], axis=1).tolist()
    return [tuple(item) for item in items]


def sent(bursts: list[Transmit], kind: PacketType = RDATA) -> list[tuple[int, int]]:
    """Return the (block, ESI) of what packets carried."""
    names = []
    for burst in bursts:
        if kind_of(burst) is kind and isinstance(burst.payload, ObjectSymbols):
            ids = burst.payload.ids
            names += list(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True))
    return names


class TestAnswer:
    def test_an_ncf_that_says_from_where_and_how_far_and_the_repairs_next(self) -> None:
        # spec: REP-12, REQ-5
        sender = Repairing()
        assert sender.ask_for((3, 5), (7, 2)) == [(3, TOP, 5), (7, TOP, 2)]
        bursts = sender.run(sender.now + 50 * MS)
        came = sent(bursts)
        assert sorted(came) == [*((3, TOP - n) for n in (4, 3, 2, 1, 0)), (7, TOP - 1), (7, TOP)]
        # A burst of losses meets both.
        assert came[:2] == [(3, TOP), (7, TOP)]
        rows = np.concatenate([one.rows for one in bursts if kind_of(one) is RDATA])
        assert set(rows["flags"].tolist()) == {Flag.REPAIR_SYMBOL}
        assert rows["offset"].tolist() == [6_400 * block for block, _ in came]
        assert rows["esi"].tolist() == [esi for _, esi in came]
        assert sender.machine.counters.rdata == 7

    def test_the_largest_count_serves_all(self) -> None:
        # spec: REP-12
        sender = Repairing(rate=1_000_000)
        sender.run(100 * MS)
        assert sender.ask_for((3, 5), source="a") == [(3, TOP, 5)]
        assert sender.ask_for((3, 4), source="b") == [(3, TOP, 5)]
        assert sender.counts == {3: 5}
        assert sender.ask_for((3, 9), source="c") == [(3, TOP, 9)]
        assert sender.counts == {3: 9}
        assert len(sent(sender.run(5 * SECOND))) == 9

    def test_what_left_since_the_asker_heard_anything_counts(self) -> None:
        # spec: REP-4
        sender = Repairing()
        heard = sender.last_sqn
        sender.ask_for((3, 5))
        sender.run(sender.now + 50 * MS)
        # All five are on their way: the same NCF once more, and no symbol.
        assert sender.ask_for((3, 5), source="b", sqn=heard) == [(3, TOP, 5)]
        assert sender.counts == {}
        # Who wants more gets what is missing of it.
        assert sender.ask_for((3, 8), source="c", sqn=heard) == [(3, TOP, 8)]
        assert sender.counts == {3: 3}
        # Who saw them all, and lost some, gets others.
        sender.run(sender.now + 50 * MS)
        assert sender.ask_for((3, 2), source="b") == [(3, TOP - 8, 2)]

    @pytest.mark.parametrize(("seen", "more"), [(0, 0), (1, 1), (4, 4), (5, 5)])
    def test_what_the_asker_saw_is_not_on_its_way(self, seen: int, more: int) -> None:
        # spec: REP-4
        sender = Repairing()
        before = sender.ask_for((3, 5)) and sender.last_sqn
        sender.run(sender.now + 50 * MS)
        sender.ask_for((3, 5), sqn=(before + seen) % (1 << 32))
        assert sender.counts.get(3, 0) == more

    def test_what_carousels_send_is_no_step_of_a_cursor(self) -> None:
        sender = Repairing(carousel=True, order=Order.ROUNDS, rate=10_000_000)
        heard = sender.last_sqn
        sender.run(20 * MS)
        block = sent([burst for _, burst in sender.sent], ODATA)[-1][0]
        assert sender.ask_for((block, 3), sqn=heard) == [(block, TOP, 3)]
        assert sender.counts == {block: 3}

    def test_the_cursor_goes_through_the_source_and_round(self) -> None:
        # spec: REP-12
        sender = Repairing()
        came = []
        for _ in range(3):
            sender.ask_for((3, 100))
            came += sent(sender.run(sender.now + SECOND))
        assert [esi for _, esi in came] == [(TOP - n) % 160 for n in range(300)]

    def test_the_short_last_symbol_is_the_last_of_its_burst(self) -> None:
        sample = make_object(64 * 150 - 20, block_symbols=100, repair_symbols=64)
        ring, last = sample.manifest.geometry.ring(1), 49
        sender = Repairing(sample, rate=100_000_000)
        sender.ask_for((0, 90), (1, ring))
        bursts = [one for one in sender.run(sender.now + SECOND) if kind_of(one) is RDATA]
        names = [sent([burst]) for burst in bursts]
        came = [esi for some in names for block, esi in some if block == 1]
        assert sorted(came) == list(range(ring))
        (place,) = [number for number, some in enumerate(names) if (1, last) in some]
        assert names[place][-1] == (1, last)
        assert len(names[place]) > 5
        assert bursts[place].length == 64 * len(names[place]) - 20

    @pytest.mark.parametrize(
        ("order", "sector", "begin", "first"),
        [
            (Order.ROUNDS, 0, 0, TOP),
            (Order.ROUNDS, 1, 3, TOP - 30),
            # Below what whoever hears the carousel gets of it: visits 5 to 10 begin with ESI 71.
            (Order.TERRITORY, 0, 2, TOP),
            (Order.TERRITORY, 1, 7, 70),
        ],
    )
    def test_several_begin_in_different_parts(
        self, order: Order, sector: int, begin: int, first: int
    ) -> None:
        # spec: REP-12
        where = {"order": order, "sector": sector, "sectors": 2, "first": begin}
        sender = Repairing(carousel=True, **where)
        assert sender.ask_for((3, 5)) == [(3, first, 5)]

    def test_no_symbol_is_asked_for_by_name(self) -> None:
        # spec: REQ-5
        sender = Repairing()
        nak = nak_packet(SAMPLE, [5], nonce=sender.nonce, tsi=sender.machine.tsi)
        assert sender.give(nak) == []
        assert sender.machine.refused["request"] == 1
        assert sender.machine.waiting == 0

    def test_over_the_budget_some_is_served_and_said(self) -> None:
        # spec: REP-9
        sender = Repairing(repair=RepairConfig(port=9, max_waiting=100))
        assert sender.ask_for((3, 60), (4, 60)) == [(3, TOP, 50), (4, TOP, 50)]
        assert sender.ask_for((5, 60)) == []
        assert sender.machine.waiting == 100

    def test_a_promise_covers_all_that_is_said(self) -> None:
        # spec: REP-11
        sender = Repairing(carousel=True, order=Order.BLOCKS, rate=10_000_000)
        sender.run(20 * MS)
        bursts = []
        for block in range(10, 20):
            before = len(sender.sent)
            sender.ask_for((block, 30), source=f"s{block}")
            bursts += [burst for _, burst in sender.sent[before:] if kind_of(burst) is NCF]
        sender.run(SECOND)
        last = {}
        for _, burst in sender.sent:
            for (block, _), sqn in zip(sent([burst]), burst.rows["sqn"].tolist(), strict=False):
                last[block] = sqn
        for block, ncf in zip(range(10, 20), bursts, strict=True):
            sqn, ahead = int(ncf.rows["sqn"][0]), int(ncf.rows["offset"][0])
            assert (last[block] - sqn) % (1 << 32) <= ahead


class TestTwoRepairers:
    def ncf(self, *items: tuple[int, int, int]) -> bytes:
        return packet(PacketType.NCF, request(*items), **(SAMPLE.fields | OTHER))

    def test_what_another_sends_need_not_be_sent_from_here(self) -> None:
        # spec: REP-7
        sender = Repairing()
        sender.give(self.ncf((3, TOP, 5)))
        assert sender.ask_for((3, 5)) == []
        assert sender.ask_for((3, 7)) == [(3, TOP, 2)]
        assert sender.counts == {3: 2}
        sender.run(sender.now + sender.grtt)
        assert sender.ask_for((3, 5)) == [(3, TOP - 2, 5)]

    def test_nor_what_waits_here_already(self) -> None:
        sender = Repairing(rate=1_000_000)
        sender.ask_for((3, 5), (4, 5))
        sender.give(self.ncf((3, TOP - 30, 3)))
        came = sent(sender.run(sender.now + SECOND))
        assert sorted(came) == [(3, TOP - 1), (3, TOP), *((4, TOP - n) for n in (4, 3, 2, 1, 0))]

    def test_its_repairs_alone_say_nothing(self) -> None:
        sender = Repairing()
        repairs = {"type": RDATA, "flags": Flag.REPAIR_SYMBOL, "esi": TOP, "offset": 6_400 * 3}
        sender.give(packet(PacketType.RDATA, bytes(64), **(SAMPLE.fields | OTHER | repairs)))
        assert sender.ask_for((3, 5)) == [(3, TOP, 5)]

    def test_its_own_come_back_and_mean_nothing(self) -> None:
        sender = Repairing()
        mine = SAMPLE.fields | {"tsi": sender.machine.tsi}
        sender.give(packet(PacketType.NCF, request((3, TOP, 5)), **mine))
        assert sender.ask_for((3, 5)) == [(3, TOP, 5)]

    def test_a_forged_one_is_counted(self) -> None:
        sender = Repairing()
        sender.give(packet(PacketType.NCF, bytes(40), **(SAMPLE.fields | OTHER)))
        assert sender.machine.refused["request"] == 1


class TestBounds:
    @pytest.mark.slow
    @given(
        st.lists(
            st.one_of(
                st.tuples(
                    st.just("ask"),
                    st.dictionaries(st.integers(0, 39), st.integers(1, 33), min_size=1, max_size=9),
                    st.integers(0, 40),
                    st.sampled_from("abcd"),
                ),
                st.tuples(
                    st.just("other"),
                    st.dictionaries(st.integers(0, 39), st.integers(1, 33), min_size=1, max_size=9),
                ),
                st.tuples(st.just("run"), st.sampled_from([1, MS, 20 * MS])),
            ),
            max_size=25,
        ),
        st.booleans(),
    )
    def test_floods(self, events: list[tuple], carousel: bool) -> None:
        # spec: REP-9
        config = RepairConfig(port=9, max_waiting=100, max_sources=2, max_logged=16, max_held=50)
        sender = Repairing(repair=config, carousel=carousel, order=Order.ROUNDS)
        for event, *values in events:
            match event:
                case "ask":
                    wanted, ago, source = values
                    sender.ask_for(
                        *wanted.items(), source=source, sqn=(sender.last_sqn - ago) % (1 << 32)
                    )
                case "other":
                    items = ((block, 0, n) for block, n in values[0].items())
                    body = packet(PacketType.NCF, request(*items), **(SAMPLE.fields | OTHER))
                    sender.give(body)
                case "run":
                    sender.run(sender.now + values[0])
            counts = sender.counts
            assert sum(counts.values()) == sender.machine.waiting <= config.max_waiting
            assert all(count <= 33 for count in counts.values())
        sender.run(sender.now + SECOND)
        assert sender.machine.waiting == 0
        # Each cursor went on by one with each symbol.
        esis: dict[int, list[int]] = {}
        for block, esi in sent([burst for _, burst in sender.sent]):
            esis.setdefault(block, []).append(esi)
        for block, some in esis.items():
            ring = SAMPLE.manifest.geometry.ring(block)
            in_order = [(ring - 1 - n) % ring for n in range(len(some))]
            assert sorted(some) == sorted(in_order)
