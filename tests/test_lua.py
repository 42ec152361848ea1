"""The Wireshark dissector: every field of every vector, and why bad packets are refused."""

import json
from pathlib import Path

import pytest
import tshark
from generate import SPEC

from pgmlite.wire.derive import STRUCTS
from pgmlite.wire.derive import fields as declared

VALID = json.loads((SPEC / "vectors" / "packets.json").read_text())["packets"]
INVALID = json.loads((SPEC / "vectors" / "invalid.json").read_text())["packets"]

CONTEXT = {"object", "index", "session", "nonce"}
"""Reasons that depend on more than the packet."""

UNSEEN = {"manifest of another oid", "nak at a receiver", "another manifest of the same oid"}
"""Vectors whose fault one packet does not show without the digest, or to a receiver alone."""


def number(text: str) -> int:
    return int(text, 16 if text.startswith("0x") else 10)


@pytest.fixture(autouse=True)
def _tshark() -> None:
    tshark.need()


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tshark") / "valid.pcap"
    tshark.write_raw(path, [bytes.fromhex(case["hex"]) for case in VALID], port=28_775)
    return path


@pytest.mark.parametrize(
    ("part", "prefix"),
    [
        ("header", "pgmlite"),
        ("spm", "pgmlite.spm"),
        ("manifest", "pgmlite.manifest"),
        ("nak", "pgmlite.nak"),
        ("request", "pgmlite.request"),
    ],
)
def test_every_fixed_field_of_every_valid_packet(valid: Path, part: str, prefix: str) -> None:
    names = [field.name for field in declared(STRUCTS[part])]
    names = [name for name in names if name not in {"items", "request", "extensions", "manifest"}]
    rows = tshark.fields(valid, *(f"{prefix}.{name}" for name in names))
    assert len(rows) == len(VALID)
    for case, row in zip(VALID, rows, strict=True):
        for name, shown in zip(names, row, strict=True):
            expected = case.get(part, {}).get(name)
            if expected is None:
                assert shown == "", (case["name"], name)
            elif name in {"index_digest", "name"} or (part, name) == ("manifest", "magic"):
                assert shown == expected, (case["name"], name)
            else:
                value = int(expected, 16) if isinstance(expected, str) else expected
                assert number(shown) == value, (case["name"], name)


def test_symbols_payloads_and_extensions(valid: Path) -> None:
    names = ("nak.first", "nak.last", "ncf.first", "ncf.last", "payload", "refused")
    rows = tshark.fields(valid, *(f"pgmlite.{name}" for name in names))
    for case, (nak_first, nak_last, ncf_first, ncf_last, payload, refused) in zip(
        VALID, rows, strict=True
    ):
        firsts = [int(one) for one in (nak_first or ncf_first).split(",") if one]
        lasts = [int(one) for one in (nak_last or ncf_last).split(",") if one]
        assert merged(zip(firsts, lasts, strict=True)) == case.get("symbols", []), case["name"]
        assert bool(nak_first) == ("nak" in case)
        assert payload == case.get("payload", "")
        assert refused == ""
    rows = tshark.fields(valid, "pgmlite.extension.address", "pgmlite.extension.port")
    assert ["fd01::2,::ffff:192.0.2.7", "28776,28776"] in rows


def merged(stretches) -> list[list[int]]:
    """Join stretches that touch, as whoever reads a request does."""
    found: list[list[int]] = []
    for first, last in stretches:
        if found and found[-1][1] + 1 == first:
            found[-1][1] = last
        else:
            found.append([first, last])
    return found


def test_filter_by_symbol(valid: Path) -> None:
    rows = tshark.fields(valid, "pgmlite.nak.first", only="pgmlite.nak.first == 300")
    assert rows == [["5,300"]]


def test_bad_packets_are_flagged_with_their_reason(tmp_path: Path) -> None:
    cases = [case for case in INVALID if case["hex"]]
    path = tmp_path / "invalid.pcap"
    tshark.write_raw(path, [bytes.fromhex(case["hex"]) for case in cases], port=28_776)
    rows = tshark.fields(path, "pgmlite.refused", "_ws.expert.message")
    assert len(rows) == len(cases)
    for case, (refused, message) in zip(cases, rows, strict=True):
        if case["reason"] in CONTEXT or case["name"] in UNSEEN:
            continue
        assert (case["name"], refused) == (case["name"], case["reason"])
        assert message == f"Refused: {refused}"


def test_other_ports_are_recognised_and_joined_packets_taken_apart(tmp_path: Path) -> None:
    from vectors import SMALL

    path = tmp_path / "joined.pcap"
    tshark.write_raw(path, [b"".join(SMALL.all_odata()), b"\0" * 60], port=4_000)
    rows = tshark.fields(path, "pgmlite.offset", "pgmlite.refused")
    assert rows == [[",".join(str(64 * symbol) for symbol in range(16)), ""], ["", ""]]
