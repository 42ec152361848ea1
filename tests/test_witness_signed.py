"""What a stranger built from the specification makes of signatures and of trees of tiles."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest

from tests import witness, witness_fec, witness_signed
from tests.generate import SPEC
from tests.support import vectors
from tests.support.builders import packet
from tests.support.signed import signed_spm
from tests.support.signed_vectors import NOTHING, PLAIN, SIGNED
from tests.support.vectors import TSI

FACTS = json.loads((SPEC / "vectors" / "signed.json").read_text())
KEYS = [bytes.fromhex(key["public"]) for key in FACTS["keys"]]
OBJECTS = FACTS["objects"]


def names(cases: list[dict]) -> list[str]:
    return [case["name"] for case in cases]


@pytest.mark.parametrize("case", FACTS["signatures"], ids=names(FACTS["signatures"]))
def test_it_tells_signatures_from_others(case: dict) -> None:
    # spec: PKT-14
    key, message, value = (bytes.fromhex(case[n]) for n in ("public", "message", "signature"))
    assert witness_signed.is_signature(key, message, value) == case["valid"]


def test_keys_have_the_names_of_the_vectors() -> None:
    # spec: PKT-14
    assert FACTS["context"] == witness_signed.CONTEXT.hex()
    for key, public in zip(FACTS["keys"], KEYS, strict=True):
        assert witness_signed.key_id(public).hex() == key["key_id"]
        assert (witness_signed.DER + public).hex() == key["subject_public_key_info"]
    spm = bytes.fromhex(FACTS["spm"])
    found = [(key.hex(), value.hex()) for key, value in witness_signed.signatures(spm[48:])]
    assert found == [(s["key_id"], s["signature"]) for s in OBJECTS[0]["signatures"]]


def symbol(data: bytes, of: witness_signed.Tiles, block: int, esi: int) -> bytes:
    """Return an encoding symbol, whole, as fec.md says it."""
    size, first = of.symbol_size, block * of.block_symbols
    k = of.sources(block)
    source = [data[(first + n) * size :][:size].ljust(size, b"\0") for n in range(k)]
    bits = witness_fec.coefficients(k, esi)
    total = 0
    for place, one in enumerate(source):
        total ^= int.from_bytes(one) if bits >> place & 1 else 0
    return total.to_bytes(size)


@pytest.mark.parametrize("facts", OBJECTS, ids=names(OBJECTS))
def test_it_makes_the_tree_of_tiles_from_the_object(facts: dict) -> None:
    # spec: TILE-1 to TILE-3, MAN-8
    manifest = witness.Manifest(bytes.fromhex(facts["manifest"]))
    release = facts["release"]
    numbers = [int(release[name], 16) for name in ("number", "created", "expires")]
    assert manifest.release == (*numbers, release["stream"])
    tiles, data = witness_signed.Tiles(manifest), vectors.pattern(facts["size"])
    assert (tiles.count, tiles.levels) == (len(facts["tiles"]), facts["levels"])
    leaves = []
    for number, tile in enumerate(facts["tiles"]):
        assert number == tile["visit"] * tiles.groups + tile["group"]
        some = tiles.symbols_of(number)
        assert some == [(block, esi) for block, esi, _ in tile["symbols"]]
        assert all(tiles.tile_of(*one) == number for one in some)
        whole = [symbol(data, tiles, *one) for one in some]
        own = [witness_signed.symbol_digest(*n, one) for n, one in zip(some, whole, strict=True)]
        assert [one.hex() for one in own] == [known for *_, known in tile["symbols"]]
        leaves.append(witness.digest(b"".join(whole)) + b"".join(own) if some else b"")
    below, made = [witness.digest(leaf) if leaf else bytes(32) for leaf in leaves], [*leaves]
    while tiles.count and (len(made) == len(leaves) or len(below) > 1):
        level = [
            b"".join(below[at : at + tiles.fanout]) for at in range(0, len(below), tiles.fanout)
        ]
        below, made = [witness.digest(node) for node in level], [*level, *made]
    assert [node.hex() for node in made] == facts["nodes"]
    root = below[0] if below else witness.digest(b"")
    assert root == manifest.tiles_digest == bytes.fromhex(facts["tiles_digest"])


@pytest.mark.parametrize("case", FACTS["refused"], ids=names(FACTS["refused"]))
def test_it_refuses_nodes_that_are_none(case: dict) -> None:
    # spec: TILE-4
    receiver = witness_signed.Receiver(keys=KEYS[:1])
    for one in (FACTS["spm"], *case["before"]):
        receiver.feed(bytes.fromhex(one))
    assert receiver.refused == {}
    receiver.feed(bytes.fromhex(case["hex"]))
    assert receiver.refused == {"tree": 1}


def test_it_takes_what_a_key_signed_and_nothing_else() -> None:
    receiver = witness_signed.Receiver(keys=KEYS[1:])
    wrong = replace(SIGNED.signatures[1], value=PLAIN.signatures[0].value)
    body = signed_spm(SIGNED.manifest.raw, [wrong]).build()
    forged = packet(witness.SPM, body, **SIGNED.fields)
    for one in (PLAIN.spm(tsi=TSI), vectors.SMALL.spm(), forged, *PLAIN.all_odata()):
        receiver.feed(one)
    assert receiver.manifest is None
    assert receiver.refused == {"key": 1, "unsigned": 1 + 5, "signature": 1}
    receiver.feed(SIGNED.spm(tsi=TSI))
    assert receiver.manifest.raw == SIGNED.manifest.raw


@pytest.mark.parametrize("seed", range(4))
def test_forged_symbols_cost_themselves_and_nothing_else(seed: int) -> None:
    # spec: TILE-2
    rng = Random(seed)
    receiver = witness_signed.Receiver(keys=KEYS)
    tiles = witness_signed.Tiles(witness.Manifest(SIGNED.manifest.raw))
    for one in (SIGNED.spm(tsi=TSI), *SIGNED.nodes(), *SIGNED.tile_nodes(range(tiles.nodes))):
        receiver.feed(one)
    forged = 0
    for tile in range(tiles.count):
        own = SIGNED.encoded(tiles.symbols_of(tile)) if tiles.symbols_of(tile) else []
        leaf = SIGNED.tile_nodes([tiles.nodes + tile]) if own else []
        some = [*leaf, *own] if rng.random() < 0.5 else [*own, *leaf]
        for one in some:
            if one[3] != witness.TREE and receiver.data is None:
                at = rng.randrange(48, len(one))
                receiver.feed(one[:at] + bytes([one[at] ^ 1]) + one[at + 1 :])
                forged += 1
            receiver.feed(one)
        if receiver.data is not None:
            break
    assert receiver.data == SIGNED.data
    waiting = sum(map(len, receiver.held.values()))
    assert receiver.refused == {"forged": forged - waiting // 2}


def test_an_empty_object_is_complete_with_its_manifest() -> None:
    receiver = witness_signed.Receiver(NOTHING.manifest.oid, KEYS[:1])
    receiver.feed(NOTHING.spm(tsi=TSI))
    assert receiver.data == b""
