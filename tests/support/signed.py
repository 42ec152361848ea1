"""Signed objects for tests: keys, manifests with a release, trees of tiles, all in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pgmlite.core.machine import ObjectSymbols
from pgmlite.core.tiles import TileTree, tiles_of
from pgmlite.sim.network import symbol_bytes
from pgmlite.wire.control import Signature, Spm
from pgmlite.wire.digests import digest
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import KEY_ID_SIZE, SIGNED_CONTEXT, PacketType, Tree
from pgmlite.wire.manifest import Release
from pgmlite.wire.tiles import NO_TILE, build_leaf
from tests.support.builders import Sample, make_object, make_spm, packet

STREAM = "example/router"


@lru_cache
def private_key(number: int = 0) -> Ed25519PrivateKey:
    """Return a key that is the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(digest(number.to_bytes(4, "big")))


def der_of(key: Ed25519PrivateKey) -> bytes:
    """Return the public half of a key as SubjectPublicKeyInfo (RFC 8410)."""
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_id(key: Ed25519PrivateKey) -> bytes:
    """Return what signatures say of a key."""
    return digest(der_of(key))[:KEY_ID_SIZE]


def sign(manifest: bytes, key: Ed25519PrivateKey) -> Signature:
    """Return the signature of a manifest."""
    return Signature(key_id(key), key.sign(SIGNED_CONTEXT + manifest))


def symbols_of(data: bytes, geometry: Geometry, ids: Ids) -> np.ndarray:
    """Return (n, T) encoding symbols, whole."""
    some = geometry.named(ids)
    joined = symbol_bytes(ObjectSymbols(some, geometry), data)
    size = geometry.symbol_size
    if len(ids) * size > len(joined) and geometry.are_last(ids)[:-1].any():
        joined = b"".join(
            symbol_bytes(ObjectSymbols(some.cut(at, at + 1), geometry), data).ljust(size, b"\0")
            for at in range(len(ids))
        )
    return np.frombuffer(joined.ljust(len(ids) * size, b"\0"), np.uint8).reshape(-1, size)


def tile_tree(data: bytes, geometry: Geometry) -> TileTree:
    """Return the tree of tiles of an object."""
    tiles = tiles_of(geometry)
    leaves = []
    for tile in range(tiles.count):
        ids = tiles.ids(tile)
        rows = symbols_of(data, geometry, ids) if len(ids) else None
        leaves.append(b"" if rows is None else build_leaf(ids.blocks, ids.esis, rows))
    digests = b"".join(digest(leaf) if leaf else NO_TILE for leaf in leaves)
    return TileTree(tiles, digests, leaves.__getitem__)


def signed_spm(manifest: bytes, signatures: Iterable[Signature], **fields: int) -> Spm:
    """Return an SPM with signatures, of the fields that `make_spm` takes."""
    return replace(make_spm(manifest, **fields), signatures=tuple(signatures))


@dataclass(frozen=True)
class SignedSample(Sample):
    """A signed object, and its packets."""

    tiles: TileTree
    signatures: tuple[Signature, ...] = field(default=())

    def spm(self, *, sqn: int = 0, head: int = 0, **fields: int) -> bytes:
        """Return an SPM with the signatures."""
        body = signed_spm(self.manifest.raw, self.signatures, place=head).build()
        return packet(PacketType.SPM, body, **(self.fields | {"sqn": sqn} | fields))

    def tile_nodes(self, numbers: Iterable[int], *, sqn: int = 1, **fields: int) -> list[bytes]:
        """Return TREE packets of nodes of the tree of tiles."""
        own = self.fields | {"esi": Tree.TILES}
        return [
            packet(
                PacketType.TREE,
                self.tiles.node(number),
                **(own | {"offset": number, "sqn": (sqn + place) % (1 << 32)} | fields),
            )
            for place, number in enumerate(numbers)
        ]


def make_signed(
    size: int,
    *,
    symbol_size: int = 160,
    release: int = 1,
    stream: str = STREAM,
    created: int = 1_800_000_000,
    expires: int = 0,
    keys: Iterable[int] = (0,),
    tile_blocks: int = 1,
    seed: int = 0,
    block_symbols: int = 8,
    repair_symbols: int = 0,
    name: str = "object.bin",
) -> SignedSample:
    """Return a signed object of `size` random bytes.

    Args:
        keys: Numbers of the keys that sign it.
    """
    plain = make_object(
        size,
        symbol_size=symbol_size,
        block_symbols=block_symbols,
        repair_symbols=repair_symbols,
        tile_blocks=tile_blocks,
        name=name,
        seed=seed,
    )
    tree = tile_tree(plain.data, plain.manifest.geometry)
    manifest = replace(
        plain.manifest,
        release=Release(stream, release, created, expires),
        tiles_digest=tree.root,
    )
    signatures = tuple(sign(manifest.raw, private_key(number)) for number in keys)
    return SignedSample(plain.data, manifest, plain.tree, tree, signatures)
