"""Symbols of objects with tiles: only what was signed counts for anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Superseded
from pgmlite.core.machine import SECOND, Store
from pgmlite.core.receive.attribution import Attribution
from pgmlite.core.receive.blame import LEFT_ASIDE
from pgmlite.core.receive.counters import ReceiverCounters
from pgmlite.core.receive.hold import LANE_LIFE
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import PacketType
from tests.support.builders import TSI, Drive, batches, make_object
from tests.support.poison import Watched
from tests.support.signed import SignedSample, make_signed

PLAIN = make_signed(160 * 64 * 8 - 7, block_symbols=64)
"""8 blocks of 64 symbols, in tiles of 16, the last of which is short."""

CODED = make_signed(160 * 64 * 8 - 7, block_symbols=64, repair_symbols=64)
LAST = PLAIN.tiles.tiles.count - 1


def tile_packets(sample: SignedSample, tile: int, *, sqn: int = 1, **fields: int) -> list[bytes]:
    """Return the packets of a tile."""
    ids = sample.tiles.tiles.ids(tile)
    some = zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True)
    return sample.encoded(some, sqn=sqn, **fields)


def path_to(sample: SignedSample, tile: int) -> list[bytes]:
    """Return the nodes from the root to a leaf."""
    shape = sample.tiles.tiles.tree
    leaf = shape.nodes + tile
    return sample.tile_nodes([*shape.above(leaf), leaf])


def wrong(packet: bytes, at: int = 60) -> bytes:
    """Return a packet of which one bit is not as it was sent."""
    return packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]


def announced(sample: SignedSample, **config: int) -> Drive:
    """Return a receiver that knows the manifest and the tree of blocks."""
    drive = Drive(store=Watched(sample), naks=False, **config)
    drive.give([sample.spm(), *sample.nodes()])
    return drive


def patient(sample: SignedSample, **config: int) -> Drive:
    """Return one that does not compare symbols one by one because few are missing."""
    return announced(sample, last_symbols=0, **config)


def stored(drive: Drive) -> int:
    return drive.machine.progress[0]


def stored_wrong(drive: Drive) -> int:
    assert isinstance(drive.store, Watched)
    return drive.store.wrong


class TestWhole:
    @pytest.mark.parametrize("sample", [PLAIN, CODED], ids=["plain", "coded"])
    @pytest.mark.parametrize("limit", [1, 7, 16, 64])
    def test_an_object_comes_whole_in_batches_of_any_size(
        self, sample: SignedSample, limit: int
    ) -> None:
        # spec: RCV-19, RCV-20
        drive = announced(sample)
        for tile in range(LAST + 1):
            drive.give(path_to(sample, tile))
            drive.give(tile_packets(sample, tile), limit=limit)
        drive.settle(3 * SECOND)
        assert drive.is_complete
        assert bytes(drive.store.data[: len(sample.data)]) == sample.data
        assert stored_wrong(drive) == 0
        assert drive.machine.counters.odata == sample.manifest.symbols
        assert not drive.refused

    def test_a_tile_in_its_order_is_given_on_as_it_lies(self) -> None:
        drive = patient(PLAIN)
        drive.give(path_to(PLAIN, 3))
        (batch,) = batches(tile_packets(PLAIN, 3))
        (store,) = (one for one in drive.machine.receive(0, batch) if isinstance(one, Store))
        assert np.shares_memory(store.payload, batch.payload)

    def test_a_tile_that_is_not_whole_waits_until_the_next(self) -> None:
        drive = patient(PLAIN)
        drive.give([*path_to(PLAIN, 0), *path_to(PLAIN, 1)])
        drive.give(tile_packets(PLAIN, 0)[3:])
        assert stored(drive) == 0
        drive.give(tile_packets(PLAIN, 1)[:1])
        assert stored(drive) == 13

    def test_it_waits_no_longer_than_it_may(self) -> None:
        # spec: RCV-20
        drive = patient(PLAIN)
        drive.give(path_to(PLAIN, 0))
        drive.give(tile_packets(PLAIN, 0)[3:], now=5)
        assert drive.machine.deadline == 5 + 2 * SECOND
        drive.settle(4 + 2 * SECOND)
        assert stored(drive) == 0
        drive.settle(5 + 2 * SECOND)
        assert stored(drive) == 13
        assert drive.machine.deadline is None

    def test_the_last_symbols_of_an_object_do_not_wait(self) -> None:
        drive = announced(PLAIN, last_symbols=512)
        drive.give(path_to(PLAIN, 0))
        drive.give(tile_packets(PLAIN, 0)[:3])
        assert stored(drive) == 0
        drive = announced(PLAIN, last_symbols=513)
        drive.give(path_to(PLAIN, 0))
        drive.give(tile_packets(PLAIN, 0)[:3])
        assert stored(drive) == 3

    def test_nor_does_what_waited_before(self) -> None:
        drive = announced(PLAIN, last_symbols=500)
        for tile in range(2):
            drive.give(path_to(PLAIN, tile))
        drive.give(tile_packets(PLAIN, 0)[3:])
        drive.give(tile_packets(PLAIN, 1))
        assert stored(drive) == 29

    def test_what_is_repaired_does_not_wait(self) -> None:
        drive = patient(PLAIN)
        drive.give(path_to(PLAIN, 0))
        drive.give(tile_packets(PLAIN, 0, type=PacketType.RDATA)[3:5])
        assert stored(drive) == 2
        assert drive.machine.counters.rdata == 2

    def test_the_short_symbol_keeps_its_length(self) -> None:
        drive = patient(PLAIN)
        drive.give(path_to(PLAIN, LAST))
        drive.give(tile_packets(PLAIN, LAST)[1:], limit=64)
        drive.settle(2 * SECOND)
        widths = {one.payload.shape[1] for one in drive.seen if isinstance(one, Store)}
        assert widths == {160, 153}
        assert stored_wrong(drive) == 0


class TestWithoutLeaf:
    def test_nothing_counts_before_its_leaf_came(self) -> None:
        # spec: RCV-19, RCV-21
        drive = patient(PLAIN)
        current = drive.machine.current
        assert current
        drive.give(tile_packets(PLAIN, 0), now=SECOND)
        counters = drive.machine.counters
        assert (stored(drive), counters.odata, counters.fetched) == (0, 0, 0)
        assert current.heard == 0
        assert drive.machine.cycles == 0
        drive.give(path_to(PLAIN, 0), now=SECOND)
        assert (stored(drive), counters.odata, counters.fetched) == (16, 16, 16)
        assert current.heard == SECOND

    def test_the_leaf_is_in_time_before_the_next_tile(self) -> None:
        drive = patient(PLAIN)
        drive.give(path_to(PLAIN, 1)[:-1])
        drive.give(tile_packets(PLAIN, 0))
        drive.give(path_to(PLAIN, 0)[-1:])
        drive.give(path_to(PLAIN, 1)[-1:])
        drive.give(tile_packets(PLAIN, 1))
        assert stored(drive) == 32

    def test_at_most_two_tiles_wait(self) -> None:
        # spec: RCV-21
        drive = patient(PLAIN)
        for tile in range(5):
            drive.give(tile_packets(PLAIN, tile))
        assert drive.refused == {"unattributed": 3 * 16}
        for tile in range(5):
            drive.give(path_to(PLAIN, tile))
        assert stored(drive) == 2 * 16

    def test_two_candidates_for_one_place_both_wait(self) -> None:
        drive = patient(PLAIN)
        packets = tile_packets(PLAIN, 0)
        drive.give([wrong(one) for one in packets])
        drive.give(packets)
        drive.give(path_to(PLAIN, 0))
        drive.give(tile_packets(PLAIN, 1)[:1])
        assert stored(drive) == 16
        assert drive.refused == {"forged": 16}

    def test_more_than_two_find_no_room(self) -> None:
        drive = patient(PLAIN)
        for _ in range(4):
            drive.give([wrong(one) for one in tile_packets(PLAIN, 0)])
        assert drive.refused == {"unattributed": 32}

    def test_what_came_before_the_manifest_comes_again(self) -> None:
        # spec: RCV-19
        drive = Drive(store=Watched(PLAIN), naks=False)
        drive.give(PLAIN.odata(range(100)))
        assert stored(drive) == 100
        drive.give([PLAIN.spm(), *PLAIN.nodes()])
        counters = drive.machine.counters
        assert (stored(drive), counters.fetched, counters.early) == (0, 0, 100)
        drive.give(path_to(PLAIN, 0))
        drive.give(tile_packets(PLAIN, 0))
        assert stored(drive) == 16


class TestForged:
    @pytest.mark.parametrize("wait", [True, False])
    def test_a_wrong_symbol_costs_itself(self, wait: bool) -> None:
        drive = patient(PLAIN) if wait else announced(PLAIN, last_symbols=10_000)
        drive.give(path_to(PLAIN, 0))
        packets = tile_packets(PLAIN, 0)
        drive.give([*packets[:5], wrong(packets[5]), *packets[6:]])
        drive.settle(2 * SECOND)
        assert stored(drive) == 15
        assert drive.refused == {"forged": 1}
        assert stored_wrong(drive) == 0
        drive.give(packets[5:6])
        drive.settle(4 * SECOND)
        assert stored(drive) == 16

    def test_a_symbol_is_bound_to_its_name(self) -> None:
        drive = announced(CODED, last_symbols=10_000)
        drive.give(path_to(CODED, 0))
        first, second, *_ = tile_packets(CODED, 0)
        drive.give([first[:48] + second[48:], second[:48] + first[48:]])
        assert drive.refused == {"forged": 2}

    def test_a_wrong_leaf_is_refused(self) -> None:
        drive = announced(PLAIN)
        nodes = path_to(PLAIN, 0)
        drive.give([*nodes[:-1], wrong(nodes[-1])])
        assert drive.refused == {"tree": 1}
        drive.give(tile_packets(PLAIN, 0))
        assert stored(drive) == 0

    def test_a_leaf_before_its_parent_is_of_no_use(self) -> None:
        drive = announced(PLAIN)
        drive.give(path_to(PLAIN, 0)[-1:])
        assert drive.machine.counters.nodes_unused == 1

    @pytest.mark.parametrize("number", [0, 40, 1 << 40])
    def test_leaves_and_nodes_that_are_none(self, number: int) -> None:
        drive = announced(PLAIN)
        (root,) = PLAIN.tile_nodes([0])
        (leaf,) = PLAIN.tile_nodes([PLAIN.tiles.tiles.tree.nodes])
        for packet in (root, leaf):
            (batch,) = batches([packet])
            rows = batch.rows.copy()
            rows["offset"] = number
            drive.machine.receive(0, replace(batch, rows=rows, offsets=np.array([number])))
        assert sum(drive.refused.values()) + drive.machine.counters.nodes_unused >= 1

    def test_other_lanes_do_not_push_out_what_waits(self) -> None:
        # spec: RCV-21
        drive = patient(PLAIN)
        drive.give(path_to(PLAIN, 9))
        drive.give(tile_packets(PLAIN, 9))  # so this lane is known to be of use
        drive.give(tile_packets(PLAIN, 0))
        for number in range(20):
            drive.give(tile_packets(PLAIN, 1 + number % 8, tsi=number), source=f"s{number % 5}")
        drive.give(path_to(PLAIN, 0))
        assert stored(drive) == 32

    def test_lanes_have_no_end_of_room(self) -> None:
        # spec: RCV-21
        drive = patient(PLAIN)
        for tile in range(20):
            drive.give(path_to(PLAIN, tile))
            drive.give(tile_packets(PLAIN, tile, tsi=tile), now=tile)
        for lane, tile in enumerate(range(20, 30)):
            drive.give(tile_packets(PLAIN, tile, tsi=lane), now=100)
        assert drive.refused == {}
        drive.give(tile_packets(PLAIN, 30, tsi=30), now=100)  # the third of those that share
        assert drive.refused == {"unattributed": 16}
        # Who was silent for long makes room.
        later = 100 + LANE_LIFE
        drive.give(path_to(PLAIN, 19), now=later)
        drive.give(tile_packets(PLAIN, 19, tsi=31), now=later)
        assert drive.refused == {"unattributed": 32}

    def test_many_sessions_in_one_batch(self) -> None:
        drive = announced(PLAIN, last_symbols=10_000)
        for tile in range(4):
            drive.give(path_to(PLAIN, tile))
        packets = [one for tile in range(4) for one in tile_packets(PLAIN, tile)]
        mixed = [
            one[:8] + (number % 3).to_bytes(8, "big") + one[16:]
            for number, one in enumerate(packets)
        ]
        drive.give(mixed)
        assert stored(drive) == 64

    def test_only_verified_symbols_keep_an_object(self) -> None:
        # spec: RCV-22
        other = make_object(160 * 30, symbol_size=160, name="other")
        drive = announced(PLAIN)
        drive.give(path_to(PLAIN, 0))
        for quarter in range(20):
            forged = [wrong(one) for one in tile_packets(PLAIN, 0)]
            now = quarter * SECOND // 4
            drive.give([*forged, PLAIN.spm(sqn=quarter), *path_to(PLAIN, 0)], now=now)
        seen = drive.give([other.spm()], now=5 * SECOND)
        assert any(isinstance(one, Superseded) for one in seen)


class TestSources:
    def hear(self, drive: Drive, tile: int, *, forged: str | None = None, now: int = 0) -> None:
        """Let a tile come from "a", and forged symbols of it from somewhere, before it."""
        drive.give(path_to(PLAIN, tile), now=now)
        packets = tile_packets(PLAIN, tile)
        if forged:
            drive.give([wrong(one) for one in packets], source=forged, now=now)
        drive.give(packets, now=now)

    def test_who_sends_nothing_but_wrong_ones_is_shunned_for_a_while(self) -> None:
        # spec: RCV-23
        drive = announced(PLAIN, last_symbols=10_000)
        self.hear(drive, 0)
        self.hear(drive, 1, forged="x")
        assert drive.refused == {"forged": 16}
        self.hear(drive, 2, forged="x")
        assert drive.refused == {"forged": 16, "shunned": 16}
        self.hear(drive, 3, forged="x", now=10 * SECOND)
        assert drive.refused == {"forged": 32, "shunned": 16}
        current = drive.machine.current
        assert current
        assert current.forgers == {"x": 32}

    def test_nobody_is_shunned_if_nobody_else_is_there(self) -> None:
        drive = announced(PLAIN, last_symbols=10_000)
        drive.give(path_to(PLAIN, 0))
        for _ in range(5):
            drive.give([wrong(one) for one in tile_packets(PLAIN, 0)])
        assert drive.refused == {"forged": 80}

    def test_the_senders_address_does_not_silence_it(self) -> None:
        # spec: RCV-23
        drive = announced(PLAIN, last_symbols=10_000)
        drive.give(path_to(PLAIN, 20))
        drive.give(tile_packets(PLAIN, 20), source="b")
        self.hear(drive, 0)
        for tile in range(1, 16):
            for _ in range(8):
                drive.give(path_to(PLAIN, tile))
                drive.give([wrong(one) for one in tile_packets(PLAIN, tile)])
            self.hear(drive, tile)
        assert stored(drive) == 17 * 16
        assert "shunned" not in drive.refused

    def test_who_is_silenced_by_others_is_missed(self) -> None:
        # spec: RCV-23
        drive = announced(PLAIN, last_symbols=10_000)
        self.hear(drive, LAST)
        for tile in range(12):
            # Nothing of "a" counts yet when its window begins anew.
            now = tile * 10 * SECOND
            drive.give(path_to(PLAIN, 16 + tile), now=now)
            drive.give(tile_packets(PLAIN, 16 + tile)[:1], source="x", now=now)
            drive.give([wrong(one) for one in tile_packets(PLAIN, LAST)[:8]], now=now)
            self.hear(drive, tile, now=now)
        assert drive.refused["shunned"] <= LEFT_ASIDE
        assert stored(drive) >= 16 * 8

    def test_addresses_without_end(self) -> None:
        drive = announced(PLAIN, last_symbols=10_000)
        self.hear(drive, 0)
        for number in range(300):
            drive.give([wrong(one) for one in tile_packets(PLAIN, 0)[:9]], source=f"s{number}")
        current = drive.machine.current
        assert current
        assert len(current.forgers) < 64
        self.hear(drive, 1)
        assert stored(drive) == 32


class TestBounds:
    def test_a_large_object_costs_nothing_by_its_size(self) -> None:
        geometry = Geometry(1 << 40, 1_404, 1_024, 512, 8)
        attribution = Attribution(
            geometry,
            bytes(32),
            config=ReceiverConfig(),
            counters=ReceiverCounters(),
            is_ending=lambda: False,
        )
        before = _resident()
        sample = make_object(1_404, symbol_size=1_404)
        for number in range(50):
            offset = number * 1_000 * geometry.block_size
            packets = sample.odata([0], offset=offset, esi=0, size=geometry.size)
            for batch in batches(packets):
                assert attribution.take(0, batch, is_heard=True) == []
            node = batches(PLAIN.tile_nodes([0], offset=number, size=geometry.size))
            for batch in node:
                assert attribution.take_nodes(0, batch) == []
        assert _resident() - before < 16 << 20

    def test_symbols_of_any_size_find_bounded_room(self) -> None:
        geometry = Geometry(1 << 36, 65_456, 1_024, 512, 8)
        config = ReceiverConfig(max_waiting=64 << 20)
        attribution = Attribution(
            geometry,
            bytes(32),
            config=config,
            counters=ReceiverCounters(),
            is_ending=lambda: False,
        )
        assert attribution.most_waiting <= config.max_waiting


def _resident() -> int:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4_096


@pytest.mark.slow
@settings(max_examples=20, deadline=None)  # for more: tests.bench.fuzz
@given(st.data())
def test_whatever_comes_in_whatever_order_only_true_symbols_are_stored(data: st.DataObject) -> None:
    # spec: RCV-19
    drive = announced(CODED, last_symbols=data.draw(st.sampled_from([0, 256])))
    tiles = CODED.tiles.tiles.count
    now = 0
    for _ in range(data.draw(st.integers(1, 30))):
        tile = data.draw(st.integers(0, tiles - 1))
        packets = path_to(CODED, tile) if data.draw(st.booleans()) else []
        symbols = tile_packets(
            CODED,
            tile,
            tsi=data.draw(st.sampled_from([TSI, 1, 2])),
            type=data.draw(st.sampled_from([PacketType.ODATA, PacketType.RDATA])),
        )
        start = data.draw(st.integers(0, len(symbols)))
        some = symbols[start : start + data.draw(st.integers(0, len(symbols)))]
        if data.draw(st.booleans()):
            some = [wrong(one) if data.draw(st.booleans()) else one for one in some]
        where = data.draw(st.sampled_from(["front", "behind", "between"]))
        if where == "between":
            packets = data.draw(st.permutations(packets + some))
        else:
            packets = packets + some if where == "front" else some + packets
        now += data.draw(st.sampled_from([0, SECOND]))
        drive.give(packets, now=now, source=data.draw(st.sampled_from("ab")), limit=16)
    assert stored_wrong(drive) == 0
    for tile in range(tiles):
        drive.give(path_to(CODED, tile), now=now)
        drive.give(tile_packets(CODED, tile, tsi=9), now=now, source="c")
        now += 3 * SECOND
        drive.settle(now)
    assert drive.is_complete
    assert stored_wrong(drive) == 0
    assert bytes(drive.store.data[: len(CODED.data)]) == CODED.data
