"""The sender: what it sends, in which order, when, and when it stops."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.config import MAX_RATE, MIN_RATE, ReceiverConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND, Finished, ObjectSymbols, Transmit
from pgmlite.core.receive.digests import VerifiedTree
from pgmlite.core.ring import Ring
from pgmlite.core.send.sender import Sender
from pgmlite.errors import UsageError
from pgmlite.wire.control import SpmPosition, parse_spm
from pgmlite.wire.layout import HEADER, Flag, Order, PacketType
from pgmlite.wire.manifest import parse_manifest
from tests.support.builders import (
    TSI,
    Sample,
    Scripted,
    batches,
    encode,
    make_object,
    make_sender,
    play,
)

SPM, ODATA, TREE = PacketType.SPM, PacketType.ODATA, PacketType.TREE

CODED = {"repair_symbols": 30, "tile_blocks": 2}
"""What makes an object one with repair symbols."""


def bursts(sender: Sender, **limits: Any) -> Iterator[tuple[int, PacketType, Transmit]]:
    """Start `sender`; yield time, type and burst."""
    assert sender.start(0) == []
    for now, action in play(sender, **limits):
        if isinstance(action, Transmit):
            yield now, PacketType(int(action.rows["type"][0])), action


def symbols(sender: Sender, **limits: Any) -> list[int]:
    """Return the symbols of the ODATA packets that `sender` sends, in order."""
    return [
        offset // int(burst.rows["symbol_size"][0])
        for _, kind, burst in bursts(sender, **limits)
        if kind is ODATA
        for offset in burst.rows["offset"].tolist()
    ]


class TestPackets:
    def test_every_header_names_session_and_object(self) -> None:
        # spec: PKT-7
        sample = make_object(10_000)
        sender = make_sender(sample, rng=Scripted(sqn=5), cycles=2)
        packets = [one for _, _, burst in bursts(sender) for one in encode(burst, sample.data)]
        for number, one in enumerate(packets):
            header = HEADER.parse(one)
            assert (header.tsi, header.oid) == (TSI, sample.manifest.oid)
            assert (header.size, header.symbol_size) == (10_000, 64)
            assert (header.channel, header.sqn) == (0, 5 + number)

    @pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 512, 513, 5_000])
    def test_what_is_sent_is_the_object(self, size: int) -> None:
        sample, refused = make_object(size), Counter[str]()
        found = bytearray(size)
        nodes: dict[int, bytes] = {}
        kinds = Counter[PacketType]()
        for _, _, burst in bursts(make_sender(sample, cycles=1)):
            for batch in batches(encode(burst, sample.data), refused=refused):
                kinds[batch.kind] += len(batch)
                for offset, payload in zip(batch.offsets.tolist(), batch.payload, strict=True):
                    if batch.kind is SPM:
                        assert parse_manifest(parse_spm(payload.tobytes()).manifest)
                    elif batch.kind is ODATA:
                        found[offset : offset + len(payload)] = payload.tobytes()
                    else:
                        nodes[offset] = payload.tobytes()
        assert not refused
        assert bytes(found) == sample.data
        assert nodes == {n: sample.tree.node(n) for n in range(sample.tree.shape.nodes)}
        assert kinds[ODATA] == sample.manifest.symbols
        assert kinds[TREE] >= sample.manifest.tree.nodes
        assert kinds[SPM] >= 1

    @given(st.integers(0, (1 << 32) - 1) | st.integers((1 << 32) - 300, (1 << 32) - 1))
    def test_sqn_counts_every_packet_and_wraps(self, first: int) -> None:
        # spec: PKT-6
        sender = make_sender(make_object(20_000), rng=Scripted(sqn=first), rate=50_000_000)
        sqns = [n for _, _, b in bursts(sender, packets=700) for n in b.rows["sqn"].tolist()]
        assert sqns == [(first + n) % (1 << 32) for n in range(len(sqns))]

    def test_spm_says_what_the_session_does(self) -> None:
        # spec: PKT-8, PKT-10, PKT-11
        sample = make_object(64 * 2_000)
        sender = make_sender(sample, rate=2_000_000, first=100)
        place = 0
        for now, kind, burst in bursts(sender, until=5 * SECOND):
            if kind is ODATA:
                place += len(burst.rows)
            if kind is SPM:
                spm = parse_spm(bytes(burst.payload))
                assert spm.manifest == sample.manifest.raw
                assert (spm.timestamp, spm.rate) == (now, 2_000_000)
                assert spm.position == SpmPosition(place, Order.BLOCKS, first=100)
                assert spm.repairs is None
                assert spm.spm_interval * MS >= 50 * MS

    def test_without_a_rate_0_is_announced(self) -> None:
        _, kind, burst = next(bursts(make_sender(make_object(100), rate=None)))
        assert kind is SPM
        assert parse_spm(bytes(burst.payload)).rate == 0

    def test_another_start_is_another_session(self) -> None:
        # spec: SND-1
        sample = make_object(100)
        assert make_sender(sample).tsi == make_sender(sample).tsi
        assert make_sender(sample, rng=Scripted(tsi=1)).tsi == 1


class TestOrder:
    @given(
        st.integers(1, 3_000),
        st.integers(0, 5),
        st.integers(1, 64),
        st.integers(1, 3),
        st.sampled_from([100_000, 10_000_000, 1_000_000_000, None]),
    )
    def test_every_symbol_once_a_cycle_from_any_block(
        self, size: int, first: int, burst: int, cycles: int, rate: int | None
    ) -> None:
        # spec: SND-6, SND-9
        sample = make_object(size)
        first %= sample.manifest.blocks
        sender = make_sender(sample, first=first, max_burst=burst, cycles=cycles, rate=rate)
        count = sample.manifest.symbols
        wanted = [(first * 8 + n) % count for n in range(cycles * count)]
        assert symbols(sender, step=MS) == wanted
        assert (sender.cycles, sender.counters.odata) == (cycles, cycles * count)

    @given(
        st.integers(1, 5_000),
        st.sampled_from(list(Order)),
        st.sampled_from([(0, 1), (0, 2), (2, 3)]),
        st.integers(1, 64),
        st.sampled_from([200_000, 1_000_000_000, None]),
    )
    def test_symbols_leave_in_the_order_of_the_ring(
        self, size: int, order: Order, share: tuple[int, int], burst: int, rate: int | None
    ) -> None:
        # spec: FEC-4, PKT-4, SND-6, SND-9
        sample = make_object(size, block_symbols=min(20, -(-size // 64)), **CODED)
        geometry = sample.manifest.geometry
        ring = (
            Ring.in_territory(geometry, *share)
            if order is Order.TERRITORY
            else Ring.of_sector(geometry, order, *share)
        )
        begin = {"first": ring.first, "sector": share[0], "sectors": share[1]}
        limits = {"max_burst": burst, "rate": rate, "cycles": 4}
        sender = make_sender(sample, order=order, **begin, **limits)
        sent = [b for _, kind, b in bursts(sender, step=MS) if kind is ODATA]
        rows = np.concatenate([burst.rows for burst in sent])
        ids = ring.ids(0, 4 * geometry.symbols)
        assert rows["esi"].tolist() == ids.esis.tolist()
        assert (rows["offset"] // geometry.block_size).tolist() == ids.blocks.tolist()
        are_repairs = geometry.are_repairs(ids)
        assert rows["flags"].tolist() == (are_repairs * int(Flag.REPAIR_SYMBOL)).tolist()
        in_block = (rows["offset"] % geometry.block_size // 64).astype(np.int64)
        assert in_block.tolist() == np.where(are_repairs, 0, ids.esis).tolist()
        # Whatever is cut into pieces of a symbol: a short one can only stand at the end.
        for burst_ in sent:
            assert burst_.length > (len(burst_.rows) - 1) * 64
        assert sender.cycles == 4

    @given(st.integers(1, 3_000), st.integers(1, 64))
    def test_a_burst_is_one_run_of_the_object(self, size: int, burst: int) -> None:
        sample = make_object(size)
        sender = make_sender(sample, max_burst=burst, rate=1_000_000_000, cycles=2)
        for _, kind, action in bursts(sender):
            assert 1 <= len(action.rows) <= burst
            if kind is ODATA:
                assert isinstance(action.payload, ObjectSymbols)
                ((offset, length),) = action.payload.geometry.extents(action.payload.ids)
                assert offset + length <= size
                assert action.rows["offset"].tolist() == list(range(offset, offset + length, 64))
                assert length % 64 == 0 or offset + length == size

    def test_starts_with_spm_and_root(self) -> None:
        # spec: SND-4, SND-5
        kinds = groupby(kind for _, kind, _ in bursts(make_sender(make_object(5_000))))
        assert [kind for kind, _ in islice(kinds, 3)] == [SPM, TREE, ODATA]

    def test_without_a_rate_bursts_are_joined(self) -> None:
        sender = make_sender(make_object(64 * 5_000), rate=None, max_burst=44, unpaced_bursts=8)
        sizes = [len(burst.rows) for _, _, burst in bursts(sender, packets=2_000)]
        assert max(sizes) == 44 * 8 == SenderConfig(rate=None, packet_overhead=48).transmit_limit

    def test_counters_count_what_goes_out(self) -> None:
        sample = make_object(5_000)
        sender = make_sender(sample, cycles=3)
        packets = [one for _, _, burst in bursts(sender) for one in encode(burst, sample.data)]
        assert sender.counters.packets == len(packets)
        assert sender.counters.bytes == sum(map(len, packets))


class TestSpm:
    @pytest.mark.parametrize("rate", [MIN_RATE, 64_000, 1_000_000, 100_000_000, None])
    @pytest.mark.parametrize("size", [0, 50_000])
    def test_comes_at_least_every_second(self, rate: int | None, size: int) -> None:
        # spec: SND-5
        sample = make_object(size, symbol_size=1_404, name="n" * 255)
        sender = make_sender(sample, rate=rate)
        times, longest = [], 0
        until = 5 * SECOND if rate and rate > 10**7 else 20 * SECOND
        step = 0 if rate else 10 * MS
        for (now, kind, _), (after, _, _) in pairwise(bursts(sender, until=until, step=step)):
            if kind is not SPM or size:
                longest = max(longest, after - now)
            if kind is SPM:
                times.append(now)
        assert times[0] == 0
        for before, after in pairwise(times):
            # One that is due waits for the burst before it.
            assert 50 * MS <= after - before <= SECOND + longest

    @pytest.mark.parametrize("rate", [1_000_000, 10_000_000, 100_000_000])
    def test_takes_about_a_hundredth_of_a_small_rate(self, rate: int) -> None:
        sample = make_object(1_000_000, symbol_size=1_404, name="n" * 255)
        spent = Counter[PacketType]()
        until = 20 * SECOND if rate < 10**8 else 2 * SECOND
        for _, kind, burst in bursts(make_sender(sample, rate=rate), until=until):
            spent[kind] += sum(map(len, encode(burst, sample.data))) + 48 * len(burst.rows)
        assert spent[SPM] <= spent.total() / 100 * 1.1

    @pytest.mark.parametrize("name", ["n", "n" * 255])
    def test_leaves_room_for_the_object_at_the_lowest_rate(self, name: str) -> None:
        sample = make_object(10_000, symbol_size=1_184, name=name)
        sender = make_sender(sample, rate=MIN_RATE, cycles=1)
        assert len(symbols(sender, until=60 * SECOND)) == sample.manifest.symbols


class TestTree:
    @staticmethod
    def kinds(sample: Sample, rate: int, seconds: int) -> list[tuple[PacketType, int]]:
        """Return (type, offset) of every packet."""
        sender = make_sender(sample, rate=rate)
        return [
            (kind, offset)
            for _, kind, burst in bursts(sender, until=seconds * SECOND)
            for offset in burst.rows["offset"].tolist()
        ]

    def test_takes_a_hundredth_where_a_cycle_is_long(self) -> None:
        # spec: SND-4
        sample = make_object(256 * 20_000, symbol_size=256, block_symbols=20)
        sent = self.kinds(sample, 20_000_000, 5)
        odata = sum(kind is ODATA for kind, _ in sent)
        leaves = sum(kind is TREE and at in sample.manifest.tree.leaves for kind, at in sent)
        nodes = sum(kind is TREE for kind, _ in sent)
        assert leaves / odata == pytest.approx(0.01, rel=0.02)
        assert nodes <= 1.45 * leaves  # 8 to a node, and a quarter for those that SPMs bring again

    @pytest.mark.parametrize("block_symbols", [1, 8, 100])
    def test_comes_once_a_cycle_where_a_cycle_is_long(self, block_symbols: int) -> None:
        sample = make_object(64 * 4_000, block_symbols=block_symbols)
        last_seen, odata = {}, 0
        for kind, offset in self.kinds(sample, 10_000_000, 3):
            odata += kind is ODATA
            if kind is TREE:
                # Shares are rounded down to whole packets: a hundredth of a cycle, at most.
                assert odata - last_seen.get(offset, 0) <= 4_000 * 1.01
                last_seen[offset] = odata
        assert len(last_seen) == sample.manifest.tree.nodes
        assert odata > 2 * 4_000

    def test_a_pass_from_any_spm_on_is_enough(self) -> None:
        # spec: SND-4
        sample = make_object(64 * 4_000, block_symbols=25)  # 160 blocks, 8 levels of nodes
        kinds = self.kinds(sample, 10_000_000, 3)
        for joined in [at for at, (kind, _) in enumerate(kinds) if kind is SPM][1:4]:
            tree, odata = VerifiedTree(sample.manifest.tree, sample.manifest.tree_digest), 0
            for kind, number in kinds[joined:]:
                odata += kind is ODATA
                if kind is TREE:
                    tree.add(number, np.frombuffer(sample.tree.node(number), np.uint8))
                if tree.knows(np.arange(160)).all():
                    break
            # Those above come with the next SPM after 28 others, half of which are leaves.
            assert odata <= (4_000 + 14 * 50) * 1.01

    def test_a_pass_goes_on_where_an_spm_comes_every_few_packets(self) -> None:
        # spec: SND-4
        sample = make_object(64 * 16_000, block_symbols=25)  # 9 nodes above each leaf
        kinds = self.kinds(sample, MIN_RATE, 120)
        spms = sum(kind is SPM for kind, _ in kinds)
        assert len(kinds) / spms < 9
        leaves = [at for kind, at in kinds if kind is TREE and at in sample.manifest.tree.leaves]
        assert leaves[:3] == list(sample.manifest.tree.leaves[:3])
        assert sum(kind is ODATA for kind, _ in kinds) > len(kinds) / 3

    @pytest.mark.parametrize("block_symbols", [1, 8])
    def test_comes_once_an_spm_where_a_cycle_is_short(self, block_symbols: int) -> None:
        # spec: SND-4
        sample = make_object(64 * 100, block_symbols=block_symbols)
        passes: list[list[int]] = []
        for kind, offset in self.kinds(sample, 10_000_000, 2):
            if kind is SPM:
                passes.append([])
            elif kind is TREE:
                passes[-1].append(offset)
        whole = [0]
        while after := sample.manifest.tree.after(whole[-1]):
            whole.append(after)
        assert sorted(whole) == list(range(sample.manifest.tree.nodes))
        assert len(passes) > 4
        assert all(one == whole for one in passes[:-1])


class TestEnd:
    @pytest.mark.parametrize("size", [0, 1, 5_000])
    def test_after_its_cycles(self, size: int) -> None:
        # spec: SND-9
        sender = make_sender(make_object(size), cycles=2)
        sender.start(0)
        actions = [action for _, action in play(sender)]
        assert isinstance(actions[0], Transmit)
        assert [a for a in actions if isinstance(a, Finished)] == actions[-1:]
        assert sender.deadline is None
        assert sender.tick(1 << 60) == []

    @pytest.mark.parametrize("size", [0, 5_000])
    def test_later_where_a_repairer_is_named(self, size: int) -> None:
        # spec: SND-9
        sample = make_object(size)
        named = replace(sample.manifest, repairers=(("fd01::2", 9),))
        sample = replace(sample, manifest=named)
        sender = make_sender(sample, cycles=1, spm_min=500 * MS, spm_max=500 * MS)
        sender.start(0)
        sent, ends, spms = 0, 0, []
        for now, action in play(sender):
            ends = now
            if isinstance(action, Transmit):
                types = set(action.rows["type"].tolist())
                if PacketType.SPM in types:
                    spms.append((now, int(action.rows["offset"][0])))
                if PacketType.ODATA in types:
                    sent = now
        assert 1_500 * MS <= ends - sent <= 2_050 * MS  # it ends when an SPM is due
        after = [head for at, head in spms if at >= sent]
        assert len(after) >= 2
        assert set(after) == {0}, "the carousel stands"

    @pytest.mark.parametrize("size", [0, 5_000])
    def test_after_its_duration(self, size: int) -> None:
        sender = make_sender(make_object(size), duration=3 * SECOND)
        sender.start(7 * SECOND)
        last = sent = 0
        for now, action in play(sender):
            last = now
            sent = now if isinstance(action, Transmit) else sent
        assert isinstance(action, Finished)
        assert 10 * SECOND - SECOND <= sent < 10 * SECOND <= last <= 11 * SECOND
        assert sender.deadline is None

    def test_never_without_a_limit(self) -> None:
        sender = make_sender(make_object(100))
        assert sum(1 for _ in bursts(sender, until=5 * SECOND)) > 1_000


class TestContract:
    def test_an_early_or_repeated_tick_does_nothing(self) -> None:
        sender = make_sender(make_object(5_000), rng=Scripted())
        sender.start(SECOND)
        assert sender.tick(SECOND - 1) == []
        for number in range(50):
            deadline = sender.deadline
            assert deadline is not None
            assert sender.tick(deadline - 1) == []
            first = sender.tick(deadline)[0]
            assert sender.tick(deadline) == []
            assert sender.tick(deadline) == []
            if not number:
                assert first.rows["sqn"].tolist() == [0]
        assert sender.counters.packets < 50 * 44

    def test_nothing_it_hears_changes_anything(self) -> None:
        # spec: SND-2
        sample = make_object(5_000)
        deaf, hearing = (make_sender(sample, cycles=1) for _ in range(2))
        noise = batches([sample.spm(), *sample.all_odata()])
        heard = []
        for _, _, burst in bursts(hearing):
            heard += encode(burst, sample.data)
            assert all(hearing.receive(0, batch) == [] for batch in noise)
        assert heard == [p for _, _, burst in bursts(deaf) for p in encode(burst, sample.data)]

    @given(st.integers(MIN_RATE, 10**9), st.integers(1, 5_000))
    def test_rate_is_kept(self, rate: int, size: int) -> None:
        # spec: SND-3
        sample = make_object(size)
        sender = make_sender(sample, rate=rate)
        bits = np.array(
            [
                (now, sum(8 * (len(p) + 48) for p in encode(burst, sample.data)))
                for now, _, burst in bursts(sender, packets=300)
            ]
        )
        elapsed = int(bits[-1, 0])
        # Each burst loses less than an ns to rounding.
        sent = int(bits[:-1, 1].sum())
        assert 0 <= sent * SECOND // rate - elapsed <= len(bits)

    @pytest.mark.parametrize("where", [{"first": 10}, {"first": -1}, {"sector": 1}, {"sectors": 0}])
    def test_a_start_outside_the_object_is_refused(self, where: dict[str, int]) -> None:
        with pytest.raises(UsageError, match="start"):
            make_sender(make_object(5_000), **where)

    @pytest.mark.parametrize(
        "values",
        [
            {"rate": MIN_RATE - 1},
            {"rate": MAX_RATE + 1},
            {"rate": 0},
            {"max_burst": 0},
            {"max_burst": 65},
            {"unpaced_bursts": 0},
            {"cycles": 0},
            {"duration": 0},
            {"spm_min": 0},
            {"spm_min": 2 * SECOND},
            {"tree_share": 0},
        ],
        ids=str,
    )
    def test_limits_of_a_sender(self, values: dict[str, int]) -> None:
        with pytest.raises(UsageError):
            SenderConfig(**({"rate": 10_000_000, "packet_overhead": 48} | values))

    @pytest.mark.parametrize(
        "name",
        ["max_object_size", "max_symbols", "max_senders", "switch_after", "resume_blocks"],
    )
    def test_limits_of_a_receiver(self, name: str) -> None:
        with pytest.raises(UsageError, match=name):
            ReceiverConfig(**{name: 0})
