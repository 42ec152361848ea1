"""Symbols of objects with tiles: only those that were signed count for anything."""

from __future__ import annotations

from pgmlite.core.machine import Store
from tests.support.builders import Drive
from tests.support.signed import SignedSample, make_signed


def tile_packets(sample: SignedSample, tile: int, *, sqn: int = 1, **fields: int) -> list[bytes]:
    """Return the packets of a tile."""
    ids = sample.tiles.tiles.ids(tile)
    return sample.encoded(
        zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True), sqn=sqn, **fields
    )


def path_to(sample: SignedSample, tile: int) -> list[int]:
    """Return the nodes from the root to a leaf."""
    shape = sample.tiles.tiles.tree
    return [*shape.above(shape.nodes + tile), shape.nodes + tile]


def announced(sample: SignedSample, **config: int) -> Drive:
    """Return a receiver that knows the manifest and the tree of blocks."""
    drive = Drive(naks=False, **config)
    drive.give([sample.spm(), *sample.nodes()])
    return drive


def stored(drive: Drive) -> int:
    return drive.machine.progress[0]


def assert_all_true(drive: Drive, sample: SignedSample) -> None:
    """Everything that was ever stored is what was signed."""
    data = sample.data.ljust(-(-len(sample.data) // 160) * 160, b"\0")
    for action in drive.seen:
        if isinstance(action, Store) and action.esis is None:
            for pieces in action.pieces():
                for offset, run in pieces:
                    assert data[offset : offset + len(run)] == bytes(run)


SAMPLE = make_signed(160 * 64 * 8 - 7, block_symbols=64, tile_blocks=1)


class TestTiles:
    def test_a_whole_object(self) -> None:
        drive = announced(SAMPLE)
        for tile in range(SAMPLE.tiles.tiles.count):
            drive.give(SAMPLE.tile_nodes(path_to(SAMPLE, tile)))
            drive.give(tile_packets(SAMPLE, tile))
        assert drive.is_complete
        assert_all_true(drive, SAMPLE)
        assert bytes(drive.store.data[: len(SAMPLE.data)]) == SAMPLE.data

    def test_nothing_without_a_leaf(self) -> None:
        drive = announced(SAMPLE)
        drive.give(tile_packets(SAMPLE, 0))
        assert stored(drive) == 0
        assert drive.machine.counters.odata == 0
        drive.give(SAMPLE.tile_nodes(path_to(SAMPLE, 0)))
        assert stored(drive) == 16
