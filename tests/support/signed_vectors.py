"""What ``spec/vectors/signed.json`` has, and the packets of signed objects among the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import serialization

from pgmlite.wire.control import Signature
from pgmlite.wire.digests import digest
from pgmlite.wire.layout import (
    RELEASE,
    SIGNED_CONTEXT,
    ManifestOption,
    PacketType,
    SpmOption,
    Tree,
)
from pgmlite.wire.manifest import Release
from tests.support.builders import packet, spm_body
from tests.support.signed import (
    SignedSample,
    der_of,
    key_id,
    private_key,
    sign,
    signed_spm,
    tile_tree,
)
from tests.support.vectors import (
    REPAIR_FIELDS,
    TSI,
    header,
    option,
    parts_of,
    replaced,
    sample,
    with_manifest,
)

CREATED = 1_800_000_000
EXPIRES = CREATED + 90 * 86_400
RELEASE_17 = Release("example/x1", 17, CREATED, EXPIRES)
ORDER = 2**252 + 27_742_317_777_372_353_535_851_937_790_883_648_493
"""How many points Ed25519 has: the second half of a signature is less."""


def signed(
    *sizes: Any, release: Release = RELEASE_17, keys: tuple[int, ...] = (0,), **fec: Any
) -> SignedSample:
    """Return a signed object of `pattern` bytes; `sizes` and `fec` as `vectors.sample` has them."""
    plain = sample(*sizes, **fec)
    tree = tile_tree(plain.data, plain.manifest.geometry)
    manifest = replace(plain.manifest, release=release, tiles_digest=tree.root)
    signatures = tuple(sign(manifest.raw, private_key(number)) for number in keys)
    return SignedSample(plain.data, manifest, plain.tree, tree, signatures)


SIGNED = signed(
    288 * 81 + 100, 288, 40, "signed.bin", keys=(0, 1), repair_symbols=40, tile_blocks=2
)
"""82 source symbols in 3 blocks, the last of two, the very last of 100 bytes; 40 repair symbols a
block, in the last one 34. Of 12 tiles one has no symbols; above the leaves are three nodes."""

PLAIN = signed(160 * 5, 160, 8, "plain.bin", release=Release("x", (1 << 64) - 1, 0, 0))
"""One tile of one block, without repair symbols: the least tree that there is."""

NOTHING = signed(0, 160, 1, "nothing", release=Release("\N{GREEK SMALL LETTER MU}" * 32, 0, 1, 2))


def valid_signed() -> Iterator[tuple[str, bytes]]:
    """Yield a name and a packet of a signed object."""
    yield "spm of a signed object, two signatures", SIGNED.spm(tsi=TSI)
    body = signed_spm(SIGNED.manifest.raw, SIGNED.signatures[:1], **REPAIR_FIELDS).build()
    yield "spm of a signed object, with repairs", packet(0, body, **header(SIGNED))
    yield "spm of a signed object without a signature", with_manifest(SIGNED.manifest.raw, SIGNED)
    yield "spm of an empty signed object", NOTHING.spm(tsi=TSI)
    root, node, leaf, short = SIGNED.tile_nodes([0, 1, 3, 14], tsi=TSI)
    yield "tree of tiles, the root", root
    yield "tree of tiles, a node", node
    yield "tree of tiles, the leaf of the first tile", leaf
    yield "tree of tiles, the leaf of the last tile", short


def malformed_signed() -> Iterator[tuple[str, bytes, str]]:
    """Yield a name, a packet that is wrong by itself, and the reason."""
    fixed, raw, *_ = parts_of(spm_body(SIGNED.manifest.raw))
    for length in (0, 71, 73):
        one = option(SpmOption.SIGNATURE, bytes(length))
        body = fixed + raw + one
        yield f"spm with a signature of {length} bytes", packet(0, body, **header(SIGNED)), "spm"
    for name, options in bad_releases():
        manifest = sample(0, 160, 1, "bad").manifest.raw if "empty object" in name else BARE
        of = NOTHING if "empty object" in name else SIGNED
        yield f"manifest: {name}", with_manifest(manifest + options, of), "manifest"
    wide = replaced(SIGNED.manifest.raw, 7, b"\3")
    yield "manifest: tiles that no leaf has room for", with_manifest(wide, SIGNED), "manifest"
    small = replace(sample(156, 156, 1, "small").manifest, release=RELEASE_17, tiles_digest=TILES)
    tight = with_manifest(small.raw, sample(156, 156, 1, "small"))
    yield "manifest: a release of symbols that no leaf fits", tight, "manifest"


TILES = SIGNED.tiles.root
BARE = sample(288 * 81 + 100, 288, 40, "bare", repair_symbols=40, tile_blocks=2).manifest.raw


def bad_releases() -> Iterator[tuple[str, bytes]]:
    """Yield what is wrong and the options of a manifest that nobody can sign."""
    good = bytes(RELEASE.build(vars_of(RELEASE_17)))
    release, tiles = (option(kind, value) for kind, value in ((3, good), (4, TILES)))
    yield "a release without tiles", release
    yield "tiles without a release", tiles
    yield "two releases", release * 2 + tiles
    yield "two trees of tiles", release + tiles * 2
    for name, value in (
        ("cut in its fixed part", good[:23]),
        ("without a stream", good[:24] + b"\0"),
        ("cut in the stream", good[:-1]),
        ("with a byte too many", good + b"\0"),
        ("with a stream of 65 bytes", good[:24] + b"\x41" + b"s" * 65),
        ("with a stream that is not UTF-8", good[:24] + b"\1\xff"),
        ("with a control character in its stream", good[:24] + b"\1\x0a"),
        ("with a stream that turns the direction of text", good[:24] + b"\3\xe2\x80\xae"),
        ("that expires before it was created", replaced(good, 16, (CREATED - 1).to_bytes(8))),
        ("that expires when it was created", replaced(good, 16, CREATED.to_bytes(8))),
    ):
        yield f"a release {name}", option(ManifestOption.RELEASE, value) + tiles
    for length in (0, 31, 33):
        value = bytes(length)
        yield f"a digest of tiles of {length} bytes", release + option(ManifestOption.TILES, value)
    yield "tiles of an empty object", release + tiles


def vars_of(release: Release) -> dict[str, Any]:
    """Return the fields of a release."""
    return {name: getattr(release, name) for name in ("number", "created", "expires", "stream")}


def signed_file() -> dict[str, Any]:
    """Return ``signed.json``."""
    return {
        "about": "Signed objects of bytes that count from 0 to 250 over and over. keys: the seed "
        "is the private key of RFC 8032. signatures: of message, which is context and manifest, "
        "by public; those with valid false are to be refused. tiles: block, ESI and digest of "
        "each symbol, in the order of the tile. nodes: those of the tree of tiles from the root "
        "on, then the leaves; an empty string for a tile without symbols. refused: TREE packets "
        "of the first object that a receiver refuses (tree) once it has its manifest and then the "
        "packets of before.",
        "context": SIGNED_CONTEXT.hex(),
        "keys": [_key(number) for number in range(2)],
        "objects": [_object(of) for of in (SIGNED, PLAIN, NOTHING)],
        "signatures": [
            {
                "name": name,
                "public": der_of(private_key(key)).hex()[-64:],
                "message": message.hex(),
                "signature": value.hex(),
                "valid": is_valid,
            }
            for name, key, message, value, is_valid in _signatures()
        ],
        "spm": SIGNED.spm(tsi=TSI).hex(),
        "refused": [
            {"name": name, "before": [one.hex() for one in before], "hex": bad.hex()}
            for name, before, bad in _bad_nodes()
        ],
    }


def _key(number: int) -> dict[str, Any]:
    key = private_key(number)
    return {
        "seed": key.private_bytes_raw().hex(),
        "public": key.public_key().public_bytes_raw().hex(),
        "subject_public_key_info": der_of(key).hex(),
        "pem": key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        "key_id": key_id(key).hex(),
    }


def _object(of: SignedSample) -> dict[str, Any]:
    manifest, tiles = of.manifest, of.tiles.tiles
    release = manifest.release
    assert release
    shape = tiles.tree
    return {
        "name": manifest.name,
        "size": manifest.size,
        "symbol_size": manifest.symbol_size,
        "block_symbols": manifest.block_symbols,
        "repair_symbols": manifest.repair_symbols,
        "tile_blocks": manifest.tile_blocks,
        "release": {
            name: value if name == "stream" else f"{value:016x}"
            for name, value in vars_of(release).items()
        },
        "manifest": manifest.raw.hex(),
        "oid": f"{manifest.oid:016x}",
        "signatures": [
            {"key_id": one.key_id.hex(), "signature": one.value.hex()} for one in of.signatures
        ],
        "tiles": [_tile(of, tile) for tile in range(tiles.count)],
        "levels": list(shape.levels),
        "nodes": [of.tiles.node(number).hex() for number in range(shape.nodes + tiles.count)],
        "tiles_digest": of.tiles.root.hex(),
    }


def _tile(of: SignedSample, number: int) -> dict[str, Any]:
    tiles = of.tiles.tiles
    leaf, ids = of.tiles.node(tiles.tree.nodes + number), tiles.ids(number)
    visit, group = divmod(number, tiles.geometry.groups)
    return {
        "visit": visit,
        "group": group,
        "digest": leaf[:32].hex(),
        "symbols": [
            [int(block), int(esi), leaf[at : at + 8].hex()]
            for block, esi, at in zip(ids.blocks, ids.esis, range(32, len(leaf), 8), strict=True)
        ],
        "leaf_digest": digest(leaf).hex() if leaf else "",
    }


def _signatures() -> Iterator[tuple[str, int, bytes, bytes, bool]]:
    """Yield a name, the number of a key, a message, its signature, and whether it is one."""
    message = SIGNED_CONTEXT + SIGNED.manifest.raw
    value = SIGNED.signatures[0].value
    yield "the first key", 0, message, value, True
    yield "the second key", 1, message, SIGNED.signatures[1].value, True
    yield "an empty object", 0, SIGNED_CONTEXT + NOTHING.manifest.raw, sole(NOTHING), True
    yield "by another key", 1, message, value, False
    for name, at in (("the first", 0), ("the last", len(SIGNED.manifest.raw) - 1)):
        place = len(SIGNED_CONTEXT) + at
        flipped = replaced(message, place, bytes([message[place] ^ 1]))
        yield f"a bit of {name} byte of the manifest flipped", 0, flipped, value, False
    for at in (0, 31, 32, 63):
        flipped = replaced(value, at, bytes([value[at] ^ 1]))
        yield f"a bit of byte {at} of the signature flipped", 0, message, flipped, False
    larger = int.from_bytes(value[32:], "little") + ORDER
    again = value[:32] + larger.to_bytes(32, "little")
    yield "a second half that is not less than the order", 0, message, again, False
    bare = SIGNED.manifest.raw
    yield "of the manifest alone", 0, message, private_key(0).sign(bare), False
    hashed = private_key(0).sign(digest(message))
    yield "of the digest of the message", 0, message, hashed, False
    yield "of another object", 0, message, sole(PLAIN), False


def sole(of: SignedSample) -> bytes:
    """Return the value of the one signature of an object."""
    one: Signature
    (one,) = of.signatures
    return one.value


def _bad_nodes() -> Iterator[tuple[str, list[bytes], bytes]]:
    """Yield a name, what comes before, and a TREE packet that is refused."""
    nodes = SIGNED.tiles.tiles.tree.nodes
    root, low, high = SIGNED.tile_nodes(range(nodes), tsi=TSI)
    first, empty = nodes, nodes + 1
    (leaf,) = SIGNED.tile_nodes([first], tsi=TSI)
    own = header(SIGNED, esi=Tree.TILES)

    def node(number: int, body: bytes) -> bytes:
        return packet(PacketType.TREE, body, **(own | {"offset": number}))

    def flipped(one: bytes, at: int) -> bytes:
        return replaced(one, at, bytes([one[at] ^ 1]))

    yield "a root with another digest", [], flipped(root, 48)
    yield "a node with another digest", [root], flipped(low, len(low) - 1)
    yield "a leaf with another digest of its tile", [root, low], flipped(leaf, 48)
    yield "a leaf with another digest of a symbol", [root, low], flipped(leaf, len(leaf) - 1)
    yield "a leaf of another tile", [root, low], node(first, SIGNED.tiles.node(nodes + 2))
    yield "a node of another length", [root], replaced(low, 39, b"\2")
    yield "a leaf of another length", [root, low], leaf[:-8]
    yield "a leaf of a tile without symbols", [root, low], node(empty, bytes(32))
    last = nodes + SIGNED.tiles.tiles.count
    yield "a node past the last", [root, low, high], node(last, leaf[48:])
    yield "a node of the tree of blocks", [], node(0, SIGNED.tree.node(0))
