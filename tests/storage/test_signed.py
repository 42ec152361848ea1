"""FILE.pglm: what is written where is signed, and read where is sent."""

import os
import stat
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core.tiles import tiles_of
from pgmlite.errors import DiskError, ObjectError, UsageError
from pgmlite.storage.signed import (
    FIXED,
    Fresh,
    SignedFile,
    build_head,
    check_room,
    write_signed,
)
from pgmlite.storage.signing import LeafPlaces, build_trees
from pgmlite.storage.source import SourceFile
from pgmlite.wire.control import message_of
from pgmlite.wire.digests import BlockTree, block_digest, digest
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry, most_repairs, most_tile_blocks
from pgmlite.wire.manifest import Manifest, Release, Rung
from pgmlite.wire.tiles import NO_TILE
from tests.support.signed import private_key, sign, tile_tree


def data_of(size, seed=0):
    return digest(seed.to_bytes(8, "big")) * (size // 32) + bytes(range(size % 32))


@st.composite
def geometries(draw):
    symbol_size = draw(st.sampled_from((160, 288, 1404)))
    k = draw(st.integers(1, 70))
    symbols = draw(st.integers(0, 9 * k))
    size = max(0, symbols * symbol_size - draw(st.integers(0, symbol_size - 1)))
    is_coded = draw(st.booleans())
    k = max(1, min(k, -(-size // symbol_size))) if is_coded else k
    repairs = draw(st.integers(1, min(most_repairs(k), 700))) if is_coded else 0
    return Geometry(
        size, symbol_size, k, repairs, draw(st.integers(1, most_tile_blocks(symbol_size)))
    )


@settings(max_examples=60, deadline=None)
@given(geometry=geometries())
def test_trees_are_those_of_the_whole_object(tmp_path_factory, geometry):
    # spec: SIG-3, TILE-1, TILE-2, TILE-3
    data = data_of(geometry.size)
    path = tmp_path_factory.mktemp("trees") / "content"
    path.write_bytes(data)
    row = {}
    source = SourceFile(path)
    blocks, digests = build_trees(source, geometry, row.__setitem__)
    source.close()
    tiles = tiles_of(geometry)
    expected = tile_tree(data, geometry)
    extents = [geometry.extent(block) for block in range(geometry.blocks)]
    pieces = [data[at : at + length] for at, length in extents]
    own = b"".join(block_digest(piece, geometry.symbol_size) for piece in pieces)
    assert blocks.digests == own
    assert BlockTree(own, geometry.symbol_size).root == blocks.root
    leaves = bytearray(LeafPlaces(tiles).total)
    for at, some in row.items():
        leaves[at : at + len(some)] = some
    for tile in range(tiles.count):
        at, length = LeafPlaces(tiles).extent(tile)
        leaf = bytes(leaves[at : at + length])
        assert leaf == expected.node(tiles.tree.nodes + tile)
        assert digests[tile * 32 : tile * 32 + 32] == (digest(leaf) if leaf else NO_TILE)


def manifest_of(size, *, name="content", stream="acme/x1", fec=0.5, **more):
    geometry = Geometry.planned(size, 160, 8, fec, is_signed=True)
    return Manifest(
        geometry.symbol_size,
        geometry.block_symbols,
        size,
        digest(b""),
        name,
        repair_symbols=geometry.repair_symbols,
        tile_blocks=geometry.tile_blocks,
        release=Release(stream, 7, 1_800_000_000),
        tiles_digest=digest(b""),
        **more,
    )


def make(folder, size=3_000, **more):
    (folder / "content").write_bytes(data_of(size))
    source = SourceFile(folder / "content")
    planned = manifest_of(size, **more)
    manifest, _ = write_signed(folder / "content.pglm", source, planned, lambda _: ())
    source.close()
    return manifest


def signed(folder, size=3_000, keys=(0,), **more):
    manifest = make(folder, size, **more)
    for key in keys:
        file = SignedFile(folder / "content.pglm")
        file.add([sign(manifest.raw, private_key(key))])
        file.close()
    return manifest


@pytest.mark.parametrize("size", [0, 1, 159, 3_000, 20_000])
@pytest.mark.parametrize("fec", [0, 0.5])
def test_what_was_written_is_read(tmp_path, size, fec):
    # spec: SIG-2, SIG-3
    manifest = signed(tmp_path, size, fec=fec)
    file = SignedFile(tmp_path / "content.pglm")
    assert file.manifest == manifest
    assert [one.key_id for one in file.signatures] == [sign(b"", private_key(0)).key_id]
    expected = tile_tree(data_of(size), manifest.geometry)
    tree = file.tiles.tiles.tree
    assert file.tiles.root == expected.root == manifest.tiles_digest
    for number in range(tree.nodes + file.tiles.tiles.count):
        assert file.tiles.node(number) == expected.node(number)
    source = SourceFile(tmp_path / "content")
    file.check_length(source)
    found = source.block_tree(manifest.geometry)
    file.check_content(source, found)
    source.close()
    file.close()
    mode = stat.S_IMODE((tmp_path / "content.pglm").stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    assert mode == 0o666 & ~mask
    assert sorted(one.name for one in tmp_path.iterdir()) == ["content", "content.pglm"]


def test_signatures_change_no_oid_and_one_key_signs_once(tmp_path):
    # spec: SIG-1, SIG-6
    manifest = signed(tmp_path, keys=(0, 1, 0))
    file = SignedFile(tmp_path / "content.pglm")
    assert file.manifest.oid == manifest.oid
    ids = [sign(b"", private_key(number)).key_id for number in (0, 1)]
    assert [one.key_id for one in file.signatures] == ids
    for number, one in enumerate(file.signatures):
        private_key(number).public_key().verify(one.value, message_of(manifest.raw))
    file.close()


def test_every_flipped_byte_is_found_and_named(tmp_path):
    # spec: SIG-4
    signed(tmp_path, 400)
    path = tmp_path / "content.pglm"
    whole = path.read_bytes()
    places = [*range(700), *range(700, len(whole), 7), len(whole) - 1]
    for at in places:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        with pytest.raises(ObjectError, match=r"content\.pglm: (is|its|version)"):
            SignedFile(path)


def test_every_length_is_found_and_named(tmp_path):
    signed(tmp_path, 400)
    path = tmp_path / "content.pglm"
    whole = path.read_bytes()
    for length in [*range(0, 400, 3), *range(400, len(whole), 50), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ObjectError, match=r"content\.pglm: (is|its)"):
            SignedFile(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ObjectError, match="is damaged"):
        SignedFile(path)


def test_no_table_is_made_by_an_invented_size(tmp_path):
    # spec: SIG-4
    made = make(tmp_path, 400)
    huge = replace(made, size=(1 << 63) - 1)
    (tmp_path / "content.pglm").write_bytes(build_head(huge, ()) + bytes(1_000))
    with pytest.raises(ObjectError, match="by its manifest"):
        SignedFile(tmp_path / "content.pglm")


def test_what_is_not_made_to_be_signed_is_refused(tmp_path):
    plain = replace(manifest_of(0), release=None, tiles_digest=None)
    (tmp_path / "a.pglm").write_bytes(build_head(plain, ()))
    with pytest.raises(ObjectError, match="not made to be signed"):
        SignedFile(tmp_path / "a.pglm")
    (tmp_path / "a.pglm").write_bytes(build_head(plain, ())[:8] + bytes(FIXED.size))
    with pytest.raises(ObjectError, match="version 0"):
        SignedFile(tmp_path / "a.pglm")
    with pytest.raises(DiskError, match="No such file"):
        SignedFile(tmp_path / "gone.pglm")
    os.mkfifo(tmp_path / "fifo.pglm")
    for name in ("fifo.pglm", "."):
        with pytest.raises(DiskError, match="not a regular file"):
            SignedFile(tmp_path / name)


def test_another_content_is_refused(tmp_path):
    manifest = signed(tmp_path)
    file = SignedFile(tmp_path / "content.pglm")
    other = bytearray(data_of(3_000))
    other[-1] ^= 1
    (tmp_path / "other").write_bytes(other)
    source = SourceFile(tmp_path / "other")
    file.check_length(source)
    found = source.block_tree(manifest.geometry)
    with pytest.raises(ObjectError, match="1 of 3 blocks differ"):
        file.check_content(source, found)
    source.close()
    (tmp_path / "other").write_bytes(other + b"x")
    source = SourceFile(tmp_path / "other")
    with pytest.raises(ObjectError, match="has 3001 bytes"):
        file.check_length(source)
    source.close()
    file.close()


def test_a_leaf_that_changed_on_the_disk_is_not_sent(tmp_path):
    signed(tmp_path)
    path = tmp_path / "content.pglm"
    file = SignedFile(path)
    leaf = file.tiles.node(file.tiles.tiles.tree.nodes)
    with path.open("r+b") as opened:
        opened.seek(path.read_bytes().index(leaf) + 5)
        opened.write(b"!")
    with pytest.raises(DiskError, match="changed while it was in use"):
        file.leaf(0)
    with path.open("r+b") as opened:
        opened.truncate(300)
    with pytest.raises(DiskError, match="changed while it was in use"):
        file.leaf(0)
    file.close()


def test_there_is_room_for_two_signatures_beside_the_largest_manifest(tmp_path):
    # spec: SIG-6
    large = manifest_of(0, name="n" * 255, stream="s" * 64)
    most = 896 - len(large.raw)
    repairers = tuple(Endpoint(f"fd01::{n + 1:x}", 28_776) for n in range(most // 22))
    large = replace(large, repairers=repairers)
    assert 896 - 22 < len(large.raw) <= 896
    signatures = [sign(large.raw, private_key(number)) for number in range(4)]
    check_room(large, signatures[:2])
    with pytest.raises(UsageError, match="too few"):
        check_room(large, signatures)
    rung = Rung(1_000, Endpoint("ff15::1", 28_775))
    (tmp_path / "content").write_bytes(b"")
    source = SourceFile(tmp_path / "content")
    with pytest.raises(UsageError, match="at most 896"):
        write_signed(tmp_path / "a.pglm", source, replace(large, ladder=(rung,)), lambda _: ())
    source.close()
    assert not (tmp_path / "a.pglm").exists()


def test_what_fails_leaves_the_file_before_it(tmp_path, monkeypatch):
    signed(tmp_path)
    before = (tmp_path / "content.pglm").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    file = SignedFile(tmp_path / "content.pglm")
    for call in ("pwrite", "fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(DiskError, match="No space"):
                file.add([sign(b"x", private_key(1))])
    file.close()
    assert (tmp_path / "content.pglm").read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["content", "content.pglm"]
    with pytest.raises(DiskError, match="No such file"):
        Fresh(tmp_path / "gone" / "content.pglm")
