"""The test vectors: what the code makes, and what its parsers say to them."""

import json
from pathlib import Path

import pytest

from pgmlite.storage.keys import load_public_keys
from pgmlite.wire.layout import PacketType
from tests.generate import SPEC
from tests.support import vectors
from tests.support.vector_files import refusals
from tests.support.vectors import describe

VALID = json.loads((SPEC / "vectors" / "packets.json").read_text())["packets"]
INVALID = json.loads((SPEC / "vectors" / "invalid.json").read_text())["packets"]
REASONS = {
    *("short", "magic", "version", "type", "reserved", "symbol_size", "length", "offset", "esi"),
    *("spm", "manifest", "object", "empty", "tree", "request", "session", "nonce"),
}
"""Those of section 3.8 that one packet can show, without limits and budgets."""


def names(cases: list[dict]) -> list[str]:
    return [case["name"] for case in cases]


def test_every_type_and_every_reason_has_a_vector() -> None:
    assert {case["header"]["type"] for case in VALID} == set(PacketType)
    assert {case["reason"] for case in INVALID} == REASONS
    assert len(set(names(VALID))) == len(VALID)
    assert len(set(names(INVALID))) == len(INVALID)


@pytest.mark.parametrize("case", VALID, ids=names(VALID))
def test_valid_packets_are_taken(case: dict) -> None:
    one = bytes.fromhex(case["hex"])
    if case["header"]["type"] != PacketType.NAK:
        taken = {"name": case["name"], "at": "receiver", "before": [], "hex": case["hex"]}
        # spec: RCV-4: a stand-alone repairer announces nothing to who hears nothing else.
        is_alone = "spm" in case and "position" not in case
        if not int(case["header"]["size"], 16):
            taken["asked"] = case["header"]["oid"]  # spec: RCV-16
        assert refusals(taken) == ({"object": 1} if is_alone else {})
    assert describe(one) == {k: v for k, v in case.items() if k not in {"name", "hex"}}


@pytest.mark.parametrize("case", INVALID, ids=names(INVALID))
def test_invalid_packets_are_refused_for_their_reason(case: dict) -> None:
    # spec: PKT-1 to PKT-5, PKT-8, PKT-9, PKT-11, PKT-13
    # spec: MAN-3, REQ-2, REQ-3, REQ-4, VER-1, VER-2, VER-3
    assert refusals(case) == {case["reason"]: 1}


SIGNED = json.loads((SPEC / "vectors" / "signed.json").read_text())


@pytest.mark.parametrize("case", SIGNED["refused"], ids=names(SIGNED["refused"]))
def test_nodes_of_tiles_that_are_none_are_refused(case: dict) -> None:
    # spec: TILE-4
    before = [SIGNED["spm"], *case["before"]]
    assert refusals({"at": "receiver", "before": before, "hex": case["hex"]}) == {"tree": 1}


@pytest.mark.parametrize("case", SIGNED["signatures"], ids=names(SIGNED["signatures"]))
def test_signatures_of_the_vectors(case: dict, tmp_path: Path) -> None:
    # spec: PKT-14
    (pem,) = (key["pem"] for key in SIGNED["keys"] if key["public"] == case["public"])
    path = tmp_path / "key.pem"
    path.write_text(pem)
    (key,) = load_public_keys([path])
    value, message = (bytes.fromhex(case[name]) for name in ("signature", "message"))
    assert key.verifies(value, message) == case["valid"]


def test_a_cycle_completes_a_receiver() -> None:
    from tests.support.builders import Drive

    facts = json.loads((SPEC / "vectors" / "object.json").read_text())
    drive = Drive()
    drive.give(bytes.fromhex(one["hex"]) for one in facts["cycle"])
    assert drive.is_complete
    assert drive.store.data == bytes.fromhex(facts["data"]) == vectors.pattern(1_000)
