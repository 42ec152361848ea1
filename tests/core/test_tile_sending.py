"""What leaves of signed objects: signatures, leaves with their tiles, and the nodes above them."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import SECOND, Finished, ObjectSymbols, Transmit
from pgmlite.core.ring import Ring
from pgmlite.core.send.rate import Fixed
from pgmlite.core.send.repairer import Repairer
from pgmlite.core.send.schedule import Carousel
from pgmlite.core.send.sender import Sender
from pgmlite.core.send.tiles import PATH_EVERY, TileNodes
from pgmlite.core.tiles import TileTree, tiles_of
from pgmlite.wire.batch import HEADER_DTYPE, HEADER_SIZE
from pgmlite.wire.control import parse_spm
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import DIGEST_SIZE, Order, PacketType, Tree
from pgmlite.wire.manifest import Manifest, Release
from tests.support.builders import beside, make_sender, play
from tests.support.leaving import (
    SHAPES,
    check,
    leaving,
    runs_of,
    sample_of,
    sent_by,
    without_content,
)
from tests.support.nak_builders import kind_of
from tests.support.signed import make_signed, private_key, sign

SPM, ODATA, RDATA = PacketType.SPM, PacketType.ODATA, PacketType.RDATA
TREE, NCF = PacketType.TREE, PacketType.NCF


class TestAnnouncements:
    def test_every_spm_has_the_signatures(self) -> None:
        sample = make_signed(4_000, keys=(0, 1))
        bursts = sent_by(make_sender(sample), until=5 * SECOND)
        spms = [parse_spm(one.payload) for one in bursts if kind_of(one) is SPM]
        assert len(spms) > 5
        assert all(spm.signatures == sample.signatures for spm in spms)

    def test_so_have_those_of_a_repairer(self) -> None:
        sample = make_signed(4_000)
        config = SenderConfig(rate=1_000_000, packet_overhead=48)
        repair = RepairConfig(port=9)
        machine = Repairer(config, sample.manifest, repair=repair, rng=Random(1), **beside(sample))
        (first, *_) = sent_by(machine, until=5 * SECOND)
        assert parse_spm(first.payload).signatures == sample.signatures

    def test_they_take_the_share_of_spms_however_long_they_are(self) -> None:
        # spec: SND-5
        sample = make_signed(160 * 500, block_symbols=100, keys=range(6))
        bursts = sent_by(make_sender(sample, rate=4_000_000), until=2 * SECOND)
        spms = [one.length + HEADER_SIZE + 48 for one in bursts if kind_of(one) is SPM]
        assert len(spms) > 10
        assert sum(spms) * 8 == pytest.approx(0.01 * 4_000_000 * 2, rel=0.1)

    def test_one_signature_and_usual_names_fit_400_bytes(self) -> None:
        manifest = Manifest(
            1_404,
            1_024,
            64 << 20,
            bytes(DIGEST_SIZE),
            "n" * 32,
            repair_symbols=512,
            tile_blocks=8,
            release=Release("s" * 20, 1, 1_800_000_000, 1_900_000_000),
            tiles_digest=bytes(DIGEST_SIZE),
        )
        signatures = [sign(manifest.raw, private_key())]
        tree = TileTree(tiles_of(manifest.geometry), bytes(32 * 576), lambda _: b"")
        sender = Sender(
            SenderConfig(rate=None, packet_overhead=48),
            manifest,
            sample_of("one").tree,
            tiles=tree,
            signatures=signatures,
            repair=RepairConfig(port=9),
            rng=Random(1),
        )
        sender.start(0)
        (spm,) = sender.tick(0)
        assert isinstance(spm, Transmit)
        assert kind_of(spm) is SPM
        assert spm.length + HEADER_SIZE <= 400


class TestTiles:
    @settings(max_examples=40, deadline=None)
    @given(
        st.sampled_from(sorted(SHAPES)),
        st.sampled_from([Order.ROUNDS, Order.BLOCKS, Order.RANDOM]),
        st.sampled_from([1_000_000, 30_000_000, 2_000_000_000]),
        st.integers(1, 3),
    )
    def test_each_has_its_leaf_before_it_and_once_more(
        self, shape: str, order: Order, rate: int, cycles: int
    ) -> None:
        # spec: SND-14
        sample = sample_of(shape)
        ring = Ring(sample.manifest.geometry, order)
        sender = make_sender(sample, rate=rate, order=order, cycles=cycles)
        sent = leaving(sent_by(sender), sample)
        check(sent, sample, ODATA, ring.turn if shape == "tile" else 1 << 62)
        assert Counter(one.kind for one in sent)[ODATA] == cycles * sample.manifest.symbols

    @pytest.mark.parametrize("shape", ["coded", "groups", "plain"])
    def test_in_rounds_each_leaf_goes_twice_and_so_does_what_is_above(self, shape: str) -> None:
        # spec: SND-14
        sample = sample_of(shape)
        geometry, shape_of = sample.manifest.geometry, sample.tiles.tiles.tree
        sender = make_sender(
            sample, rate=50_000_000, order=Order.ROUNDS, spm_min=5 * SECOND, spm_max=5 * SECOND
        )
        limit = geometry.symbols * 3 // 2
        sent = leaving(sent_by(sender, packets=limit), sample)
        runs = check(sent[: runs_of(sent, ODATA)[-1][0]], sample, ODATA)
        counts = Counter(one.node for one in sent if one.kind is TREE)
        leaves = {n: times for n, times in counts.items() if n >= shape_of.nodes}
        turns = -(-runs // len(leaves))
        assert set(leaves.values()) <= {2 * turns - 1, 2 * turns, 2 * turns - 2}
        # Once in as many tiles as there are source visits, but for one, and once more.
        tiles_since = runs / max(2, geometry.source_visits - 1)
        assert counts[0] <= 2 * (tiles_since + 1)
        assert counts[0] >= 2 * int(tiles_since)

    def test_block_by_block_what_is_above_goes_once_a_group_and_once_more(self) -> None:
        # spec: SND-14
        sample = make_signed(160 * 64 * 10, block_symbols=64, repair_symbols=64)
        geometry, shape = sample.manifest.geometry, sample.tiles.tiles.tree
        assert geometry.source_visits < shape.fanout < geometry.groups
        sender = make_sender(sample, order=Order.BLOCKS, spm_min=60 * SECOND, spm_max=60 * SECOND)
        sender.start(0)
        bursts: list[Transmit] = []
        for _, one in play(sender):
            assert isinstance(one, Transmit)
            bursts.append(one)
            if sender.lanes[0].schedule.sent >= geometry.symbols:  # type: ignore[union-attr]
                break
        sent = leaving(bursts, sample)
        counts = Counter(one.node for one in sent if one.kind is TREE)
        tiles = geometry.groups * geometry.source_visits
        # It ends before the last one goes once more.
        assert counts[0] == 2 * -(-tiles // (geometry.source_visits - 1)) - 1
        leaves = [times for node, times in counts.items() if node >= shape.nodes]
        assert leaves[:-1] == [2] * (geometry.groups * geometry.source_visits - 1)

    def test_a_burst_does_not_go_across_an_edge(self) -> None:
        sample = sample_of("groups")
        for burst in sent_by(make_sender(sample, rate=2_000_000_000, cycles=2)):
            if isinstance(burst.payload, ObjectSymbols):
                assert len(set(sample.tiles.tiles.of(burst.payload.ids).tolist())) == 1

    def test_a_tile_is_another_one_a_turn_later(self) -> None:
        sample = sample_of("tile")
        assert sample.tiles.tiles.count == 1
        sent = leaving(sent_by(make_sender(sample, cycles=5)), sample)
        leaf = sample.tiles.tiles.tree.nodes
        kinds = [one.kind for one in sent if one.kind is ODATA or one.node == leaf]
        # Between two passes it goes once: again for the one, first for the other.
        assert [kind for kind, _ in groupby(kinds)] == [TREE, ODATA] * 5 + [TREE]
        assert kinds.count(TREE) == 6

    def test_the_last_leaf_goes_once_more_before_the_end(self) -> None:
        # spec: SND-9
        sample = sample_of("coded")
        sender = make_sender(sample, cycles=1)
        sender.start(0)
        played = [one for _, one in play(sender)]
        assert isinstance(played[-1], Finished)
        sent = leaving([one for one in played if isinstance(one, Transmit)], sample)
        last = max(place for place, one in enumerate(sent) if one.kind is ODATA)
        leaf = sample.tiles.tiles.tree.nodes + sent[last].tile
        assert leaf in [one.node for one in sent[last:]]
        assert sender.cycles == 1

    def test_an_empty_object_has_no_leaves(self) -> None:
        sample = make_signed(0)
        bursts = sent_by(make_sender(sample, cycles=1))
        assert {kind_of(one) for one in bursts} == {SPM}

    def test_the_rate_holds(self) -> None:
        # spec: SND-3
        sample = sample_of("groups")
        sender = make_sender(sample, rate=3_000_000)
        sender.start(0)
        wire, latest = 0, 0
        for now, one in play(sender, until=4 * SECOND):
            assert isinstance(one, Transmit)
            wire, latest = wire + one.length + len(one.rows) * (HEADER_SIZE + 48), now
            # A burst of half a millisecond is one packet here.
            assert wire * 8 <= 3_000_000 * (now / SECOND + 0.001) + 2 * 700 * 8
        assert wire * 8 == pytest.approx(3_000_000 * latest / SECOND, rel=0.01)


class TestJoining:
    @pytest.mark.slow
    @pytest.mark.parametrize("rate", [3_000_000, 100_000_000, 1_000_000_000])
    @pytest.mark.parametrize("order", [Order.ROUNDS, Order.BLOCKS])
    def test_the_nodes_above_come_soon_after_any_spm(self, rate: int, order: Order) -> None:
        # spec: SND-15
        manifest, blocks, tree = without_content(90)
        shape, geometry = tree.tiles.tree, manifest.geometry
        sender = Sender(
            SenderConfig(rate=rate, packet_overhead=48),
            manifest,
            blocks,
            tiles=tree,
            rings=[Ring(geometry, order)],
            rng=Random(1),
        )
        begun, latest, joins = 0, -1, list[tuple[int, set[int]]]()
        checked = 0
        told = False
        for burst in sent_by(sender, packets=40_000):
            kind = kind_of(burst)
            if kind is SPM:
                joins.append((begun, set()))
                told = True
            elif kind is TREE and burst.rows["esi"][0] == Tree.TILES:
                for _, known in joins:
                    known.add(int(burst.rows["offset"][0]))
            elif isinstance(burst.payload, ObjectSymbols):
                tile = int(tree.tiles.of(burst.payload.ids)[0])
                begun += tile != latest
                latest = tile
                if told:
                    above = set(shape.above(shape.nodes + tile))
                    late = [known for at, known in joins if begun - at > PATH_EVERY]
                    assert all(above <= known for known in late)
                    checked += len(late)
                    joins = [(at, known) for at, known in joins if begun - at <= PATH_EVERY]
                told = False
        assert checked > 5

    def test_what_is_above_is_repeated_no_oftener(self) -> None:
        sample = sample_of("coded")
        sender = make_sender(sample, rate=300_000, order=Order.ROUNDS, spm_share=1, spm_min=1)
        sent = leaving(sent_by(sender, packets=4_000), sample)
        tiles = len(runs_of(sent, ODATA))
        kinds = Counter(one.kind for one in sent)
        assert kinds[SPM] > tiles
        roots = sum(one.node == 0 for one in sent)
        assert roots <= 1.5 * tiles / PATH_EVERY + 2

    def test_they_take_the_place_of_nodes_of_the_other_tree(self) -> None:
        # spec: SND-15
        manifest, blocks, tree = without_content(90)
        geometry, tiles = manifest.geometry, tree.tiles
        for rate in (10_000_000, 100_000_000, 300_000_000):
            shares = []
            for signed in (None, tree):
                sender = Sender(
                    SenderConfig(rate=rate, packet_overhead=48),
                    manifest,
                    blocks,
                    tiles=signed,
                    rings=[Ring(geometry)],
                    rng=Random(1),
                )
                kinds = Counter[str]()
                for burst in sent_by(sender, packets=12_000):
                    kind, first = kind_of(burst), burst.rows[0]
                    of_tiles = kind is TREE and first["esi"] == Tree.TILES
                    is_leaf = of_tiles and first["offset"] >= tiles.tree.nodes
                    kinds["leaf" if is_leaf else kind.name] += len(burst.rows)
                shares.append(kinds["TREE"] / kinds["ODATA"])
            # Those that go out with leaves anyway, one in 43 twice, are a third of this.
            assert shares[1] <= shares[0] + 0.001


class TestChannels:
    def test_each_has_its_own_leaves(self) -> None:
        sample = make_signed(160 * 40 * 6, block_symbols=40, repair_symbols=160)
        geometry = sample.manifest.geometry
        sender = Sender(
            SenderConfig(rate=None, packet_overhead=48, cycles=2),
            sample.manifest,
            sample.tree,
            rings=[Ring.in_territory(geometry, 1, 2), Ring.in_territory(geometry, 0, 2)],
            rates=[Fixed(1_000_000), Fixed(5_000_000)],
            rng=Random(1),
            **beside(sample),
        )
        lanes: dict[int, list[Transmit]] = defaultdict(list)
        for burst in sent_by(sender):
            lanes[burst.channel].append(burst)
        tiles = []
        for bursts in lanes.values():
            sent = leaving(bursts, sample)
            assert check(sent, sample, ODATA)
            tiles.append({one.tile for one in sent if one.kind is ODATA})
        assert not tiles[0] & tiles[1]


class TestRenewal:
    @pytest.mark.parametrize("packets", [3, 37, 101, 640, 1_001])
    @pytest.mark.parametrize("back", [0, 1, 7, 40])
    def test_another_session_says_all_that_its_first_symbol_needs(
        self, packets: int, back: int
    ) -> None:
        # spec: SND-12, SND-14
        sample = sample_of("coded")
        cycles = 3
        sender = make_sender(sample, cycles=cycles, order=Order.ROUNDS)
        sender.start(0)
        *_, (now, _) = play(sender, packets=packets)
        odata = sender.counters.odata
        held = np.zeros(min(back, odata), HEADER_DTYPE)
        held["type"] = ODATA
        sender.renew(now, held)
        after = [one for _, one in play(sender) if isinstance(one, Transmit)]
        assert kind_of(after[0]) is SPM
        sent = leaving(after, sample)
        check(sent, sample, ODATA)
        left = cycles * sample.manifest.symbols - odata + len(held)
        assert sum(one.kind is ODATA for one in sent) == left


class TestBounds:
    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from(sorted(SHAPES)),
        st.sampled_from([Order.ROUNDS, Order.BLOCKS, Order.RANDOM]),
        st.integers(0, 5_000),
        st.integers(1, 3_000),
    )
    def test_symbols_in_a_row_are_of_no_more_tiles_than_said(
        self, shape: str, order: Order, place: int, count: int
    ) -> None:
        # spec: REP-11
        geometry: Geometry = sample_of(shape).manifest.geometry
        ring = Ring(geometry, order)
        found = tiles_of(geometry).of(ring.ids(place, count))
        tiles = 1 + int(np.count_nonzero(np.diff(found)))
        assert tiles <= Carousel(ring, None).tiles(count)

    def test_what_is_remembered_is_bounded(self) -> None:
        sample = sample_of("coded")
        nodes = TileNodes(sample.tiles)
        for which in range(3):
            for tile in range(sample.tiles.tiles.count):
                nodes.enter(tile, which)
                nodes.announced()
                while nodes.take(7):
                    pass
        levels = len(sample.tiles.tiles.tree.levels)
        assert len(nodes._sent) <= levels * sample.manifest.geometry.source_visits
