"""Tiles: their numbers, their leaves, and how an object's manifest says what they are."""

from __future__ import annotations

import numpy as np
import pytest

from pgmlite.core.ring import Ring
from pgmlite.core.tiles import tiles_of
from pgmlite.errors import ObjectError
from pgmlite.wire.control import parse_spm
from pgmlite.wire.digests import digest
from pgmlite.wire.geometry import Geometry, Ids, most_tile_blocks
from pgmlite.wire.layout import Order
from pgmlite.wire.manifest import parse_manifest
from pgmlite.wire.tiles import NO_TILE, Leaf, symbol_digests, tile_digest
from tests.support.signed import make_signed, signed_spm, symbols_of

SHAPES = [
    Geometry(160 * 100, 160, 100, 64, 1),
    Geometry(160 * 3001, 160, 250, 125, 1),
    Geometry(1184 * 20_003 - 7, 1184, 1024, 512, 8),
    Geometry(1184 * (9 * 64 + 1), 1184, 64, 0, 8),
    Geometry(1184 * 16 * 64 - 3, 1184, 64, 40, 8),
]


@pytest.mark.parametrize("geometry", SHAPES)
def test_every_symbol_is_in_one_place_of_one_tile(geometry):
    # spec: TILE-1
    tiles = tiles_of(geometry)
    total = 0
    for tile in range(tiles.count):
        ids = tiles.ids(tile)
        assert len(ids) == tiles.symbols(tile)
        assert (tiles.of(ids) == tile).all()
        assert tiles.places(ids).tolist() == list(range(len(ids)))
        total += len(ids)
        if not len(ids):
            continue
        numbers, places = tiles.locate(ids)
        assert (numbers == tile).all()
        assert places.tolist() == list(range(len(ids)))
    blocks = np.arange(geometry.blocks)
    assert total == int(geometry.rings.of(blocks).sum())


@pytest.mark.parametrize("geometry", SHAPES)
@pytest.mark.parametrize("order", [Order.ROUNDS, Order.BLOCKS, Order.RANDOM])
def test_tiles_are_what_carousels_send_in_one_go(geometry, order):
    ring = Ring(geometry, order)
    ids = ring.ids(0, ring.turn + ring.lead)
    tiles = tiles_of(geometry).of(ids)
    starts = np.flatnonzero(np.diff(tiles, prepend=-1))
    for start, stop in zip(starts.tolist(), [*starts.tolist()[1:], len(ids)], strict=True):
        tile = tiles_of(geometry).ids(int(tiles[start]))
        assert tile.blocks.tolist() == ids.blocks[start:stop].tolist()
        assert tile.esis.tolist() == ids.esis[start:stop].tolist()


@pytest.mark.parametrize(
    ("symbol_size", "most"),
    [(64, 0), (156, 0), (160, 1), (284, 1), (288, 2), (1_052, 7), (1_056, 8), (65_456, 8)],
)
def test_a_leaf_fits_a_packet_however_full_its_tile_is(symbol_size, most):
    # spec: TILE-1, TILE-2
    assert most_tile_blocks(symbol_size) == most
    if most:
        full = tiles_of(Geometry(symbol_size * 1_024 * most, symbol_size, 1_024, 64, most))
        assert full.length(0) == 32 + 8 * 16 * most <= symbol_size


def test_leaves_are_numbered_behind_the_nodes_and_some_tiles_have_none():
    # spec: TILE-3, TILE-4
    sample = make_signed(160 * 81, block_symbols=40, repair_symbols=32)
    tree, tiles = sample.tiles, sample.tiles.tiles
    shape = tiles.tree
    assert (tiles.count, shape.levels, shape.nodes) == (5 * 3, (1, 3), 4)
    empty = [tile for tile in range(tiles.count) if not tiles.symbols(tile)]
    assert empty == [tiles.number(0, 2), tiles.number(1, 2)]
    for number in range(shape.nodes + tiles.count):
        node = tree.node(number)
        tile = number - shape.nodes
        assert len(node) == (shape.length(number) if tile < 0 else tiles.length(tile))
        if not number:
            continue
        parent = shape.parent(number)
        at = 32 * (number - shape.children(parent).start)
        expected = NO_TILE if tile in empty else digest(node)
        assert tree.node(parent)[at : at + 32] == expected
    assert sample.manifest.tiles_digest == tree.root == digest(tree.node(0))


def test_a_leaf_tells_what_its_symbols_are():
    # spec: TILE-2
    sample = make_signed(160 * 70 - 5, block_symbols=40, repair_symbols=32)
    geometry = sample.manifest.geometry
    tiles = sample.tiles.tiles
    for tile in range(tiles.count):
        ids = tiles.ids(tile)
        if not len(ids):
            continue
        leaf = Leaf.of(sample.tiles.node(tiles.tree.nodes + tile))
        rows = symbols_of(sample.data, geometry, ids)
        assert tile_digest(rows) == leaf.tile
        assert (symbol_digests(ids.blocks, ids.esis, rows) == leaf.symbols).all()
        elsewhere = Ids(ids.blocks, ids.esis + 1)
        assert not (symbol_digests(elsewhere.blocks, elsewhere.esis, rows) == leaf.symbols).any()


def test_a_manifest_says_what_release_it_is():
    # spec: MAN-8
    sample = make_signed(1_000, release=17, expires=1_900_000_000)
    assert parse_manifest(sample.manifest.raw) == sample.manifest
    spm = parse_spm(signed_spm(sample.manifest.raw, sample.signatures).build())
    assert spm.signatures == sample.signatures


def test_signatures_do_not_change_the_object():
    # spec: PKT-14
    one, two = (make_signed(1_000, keys=keys) for keys in ((0,), (0, 1)))
    assert one.manifest.oid == two.manifest.oid
    assert len(two.signatures) == 2


def test_a_release_without_tiles_is_refused():
    manifest = make_signed(1_000).manifest
    raw = manifest.raw[: -(4 + 32)]
    with pytest.raises(ObjectError, match="a release without tiles"):
        parse_manifest(raw)


def test_no_tile_is_no_digest_of_a_leaf():
    assert len(NO_TILE) == len(digest(b""))
