"""The Wireshark dissector: every field of every vector, and why bad packets are refused."""

import ipaddress
import json
from pathlib import Path
from random import Random

import pytest

from pgmlite.wire.derive import STRUCTS
from pgmlite.wire.derive import fields as declared
from pgmlite.wire.layout import PacketType
from pgmlite.wire.request import build_nak
from tests.generate import SPEC
from tests.support import tshark
from tests.support.builders import packet
from tests.support.vectors import SMALL

VALID = json.loads((SPEC / "vectors" / "packets.json").read_text())["packets"]
INVALID = json.loads((SPEC / "vectors" / "invalid.json").read_text())["packets"]

SIGNED = json.loads((SPEC / "vectors" / "signed.json").read_text())["objects"][0]

CONTEXT = {"object", "empty", "tree", "session", "nonce"}
"""Reasons that depend on more than the packet."""

UNSEEN = {
    *("manifest of another oid", "nak at a receiver", "another manifest of the same oid"),
    "esi of another place in the block",
    *(f"{kind} with a repair symbol that the object does not have" for kind in ("odata", "rdata")),
    *(case["name"] for case in INVALID if case["name"].startswith("repair symbol: ")),
    "ncf: symbols by name of an object with repair symbols",
    *(f"{kind}: counts of an object without repair symbols" for kind in ("nak", "ncf")),
}
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
        ("position", "pgmlite.position"),
        ("repairs", "pgmlite.repairs"),
        ("manifest", "pgmlite.manifest"),
        ("release", "pgmlite.release"),
        ("archive", "pgmlite.archive"),
        ("nak", "pgmlite.nak"),
        ("request", "pgmlite.request"),
    ],
)
def test_every_fixed_field_of_every_valid_packet(valid: Path, part: str, prefix: str) -> None:
    names = [field.name for field in declared(STRUCTS[part])]
    names = [name for name in names if name not in {"items", "request", "options"}]
    rows = tshark.fields(valid, *(f"{prefix}.{name}" for name in names))
    assert len(rows) == len(VALID)
    for case, row in zip(VALID, rows, strict=True):
        for name, shown in zip(names, row, strict=True):
            expected = case.get(part, {}).get(name)
            if expected is None:
                assert shown == "", (case["name"], name)
            elif name in {"tree_digest", "name", "stream"} or (part, name) == ("manifest", "magic"):
                assert shown == expected, (case["name"], name)
            else:
                value = int(expected, 16) if isinstance(expected, str) else expected
                assert number(shown) == value, (case["name"], name)


def test_symbols_payloads_and_options(valid: Path) -> None:
    names = ("nak.first", "nak.last", "ncf.first", "ncf.last", "payload", "refused")
    rows = tshark.fields(valid, *(f"pgmlite.{name}" for name in names))
    for case, (nak_first, nak_last, ncf_first, ncf_last, payload, refused) in zip(
        VALID, rows, strict=True
    ):
        firsts = [int(one) for one in (nak_first or ncf_first).split(",") if one]
        lasts = [int(one) for one in (nak_last or ncf_last).split(",") if one]
        assert merged(zip(firsts, lasts, strict=True)) == case.get("symbols", []), case["name"]
        assert bool(nak_first) == ("nak" in case and "symbols" in case)
        assert payload == case.get("payload", "")
        assert refused == ""
    for part, facts in (("spm", "spm"), ("manifest", "manifest")):
        kinds, values = (f"pgmlite.{part}.option.{name}" for name in ("kind", "value"))
        for case, row in zip(VALID, tshark.fields(valid, kinds, values), strict=True):
            options = case.get(facts, {}).get("options", [])
            assert row[0] == ",".join(f"{one['kind']:#06x}" for one in options)
            assert row[1] == ",".join(one["value"] for one in options if one["value"])
    rows = tshark.fields(valid, "pgmlite.repairer.address", "pgmlite.repairer.port")
    assert ["fd01::2,::ffff:192.0.2.7", "28776,28776"] in rows


def test_repair_symbols_and_counts_are_told_from_others(valid: Path) -> None:
    flag, esi = "pgmlite.flags.repair_symbol", "pgmlite.esi"
    rows = tshark.fields(valid, flag, esi, "_ws.col.Info")
    for case, (shown, number_of, summary) in zip(VALID, rows, strict=True):
        header = case["header"]
        assert shown == str(header["flags"]), case["name"]
        told = summary.endswith(f" repair symbol {number_of}")
        assert told == bool(header["flags"])
    coded = [case["header"]["esi"] for case in VALID if case["header"]["flags"]]
    found = tshark.fields(valid, esi, only=f"{flag} == 1")
    assert [int(row[0]) for row in found] == coded
    names = (f"pgmlite.count.{name}" for name in ("block", "first", "count"))
    for case, row in zip(VALID, tshark.fields(valid, *names), strict=True):
        columns = [[int(one) for one in column.split(",") if one] for column in row]
        assert list(map(list, zip(*columns, strict=True))) == case.get("counts", [])
    names = (f"pgmlite.position.{name}" for name in ("place", "order", "sector", "sectors"))
    rows = tshark.fields(valid, *names, only="pgmlite.position.order == 2")
    assert rows == [["0", "2", "0", "1"]]


def test_channels_of_an_object_are_shown(valid: Path) -> None:
    # spec: MAN-7
    names = [f"pgmlite.channel.{name}" for name in ("rate", "address", "port")]
    for case, row in zip(VALID, tshark.fields(valid, *names), strict=True):
        found = list(zip(*(column.split(",") for column in row if column), strict=True))
        told = [
            [int(rate), str(address.ipv4_mapped or address), int(port)]
            for rate, text, port in found
            for address in [ipaddress.IPv6Address(text)]
        ]
        assert told == case.get("ladder", []), case["name"]


def test_signatures_and_leaves_are_shown(valid: Path) -> None:
    # spec: PKT-14, TILE-2
    names = [f"pgmlite.signature.{name}" for name in ("key_id", "signature")]
    for case, row in zip(VALID, tshark.fields(valid, *names), strict=True):
        found = [
            {"key_id": key.removeprefix("0x"), "signature": value}
            for key, value in zip(*(column.split(",") for column in row if column), strict=True)
        ]
        assert found == case.get("signatures", []), case["name"]
    rows = tshark.fields(valid, "pgmlite.manifest.tiles_digest", only="pgmlite.release.number > 1")
    assert {row[0] for row in rows} == {SIGNED["tiles_digest"]}
    names = [f"pgmlite.leaf.{name}" for name in ("number", "tile", "symbol")]
    rows = tshark.fields(
        valid, *names, "_ws.col.Info", only="pgmlite.esi == 1 && pgmlite.type == 7"
    )
    assert [row[:3] for row in rows[:2]] == [["", "", ""]] * 2
    for number, row in zip((0, 11), rows[2:], strict=True):
        tile = SIGNED["tiles"][number]
        assert row[:2] == [str(number), tile["digest"]]
        assert row[2].split(",") == [known for *_, known in tile["symbols"]]
        assert row[3].endswith(" of tiles")


def merged(stretches) -> list[list[int]]:
    """Join stretches that touch, as whoever reads a request does."""
    found: list[list[int]] = []
    for first, last in stretches:
        if found and found[-1][1] + 1 == first:
            found[-1][1] = last
        else:
            found.append([first, last])
    return found


def body_of(case: dict) -> bytes:
    """Return what follows the header of a NAK or an NCF with this request."""
    request = bytes.fromhex(case["hex"])
    return build_nak(1, 2, 0.5, request) if case["at"] == "nak" else request


def test_counts(tmp_path: Path) -> None:
    facts = json.loads((SPEC / "vectors" / "counts.json").read_text())
    bad = [one for one in facts["refused"] if "that the" not in one["name"]]
    bad = [one for one in bad if "more than the" not in one["name"]]
    asked = facts["taken"]
    wrong = [one for one in bad if "past the object" not in one["name"]]
    path = tmp_path / "counts.pcap"
    payloads = [
        packet(PacketType[one["at"].upper()], body_of(one), **SMALL.fields) for one in asked + wrong
    ]
    tshark.write_raw(path, payloads, port=28_775)
    names = ("block", "first", "count")
    rows = tshark.fields(path, *(f"pgmlite.count.{name}" for name in names), "pgmlite.refused")
    for one, (*shown, refused) in zip(asked, rows, strict=False):
        items = zip(*(map(int, column.split(",")) for column in shown), strict=True)
        assert (list(map(list, items)), refused) == (one["items"], "")
    assert {row[-1] for row in rows[len(asked) :]} == {"request"}
    assert len(rows) == len(asked) + len(wrong)


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
        # tshark has a word of its own for names with a NUL in them.
        assert message.split(",")[-1] == f"Refused: {refused}"


def test_other_ports_are_recognised_and_joined_packets_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "joined.pcap"
    tshark.write_raw(path, [b"".join(SMALL.all_odata()), b"\0" * 60], port=4_000)
    rows = tshark.fields(path, "pgmlite.offset", "pgmlite.refused")
    assert rows == [[",".join(str(64 * symbol) for symbol in range(16)), ""], ["", ""]]


def test_packets_that_the_capture_cut_are_not_judged(tmp_path: Path) -> None:
    payloads = [bytes.fromhex(case["hex"]) for case in VALID]
    bad = [bytes.fromhex(case["hex"]) for case in INVALID if len(case["hex"]) > 400]
    for port, kept in ((4_000, 8), (28_775, 47), (28_775, 60), (28_775, 100)):
        path = tmp_path / f"{port}-{kept}.pcap"
        tshark.write_raw(path, payloads + bad, port=port, kept=28 + kept)
        names = ("pgmlite.cut", "pgmlite.refused", "_ws.malformed", "pgmlite.version")
        rows = tshark.fields(path, *names)
        for one, (cut, refused, malformed, version) in zip(payloads, rows, strict=False):
            assert cut == (str(len(one) - kept) if len(one) > kept else ""), (one.hex(), kept)
            assert (refused, malformed, version) == ("", "", "2")
        assert [row[1] for row in rows[len(payloads) :]] == [""] * len(bad)


def test_joined_packets_of_several_kinds_are_taken_apart(tmp_path: Path) -> None:
    from tests.support.pcaps import carousel, joined

    some = list(carousel(SMALL, cycles=3))
    path = tmp_path / "joined.pcap"
    groups = [one for _, one, _ in joined(some, Random(1))]
    assert len(groups) < len(some) // 2
    tshark.write_raw(path, groups, port=28_775)
    rows = tshark.fields(path, "pgmlite.type", "pgmlite.sqn", "pgmlite.refused")
    seen = [
        pair
        for kinds, sqns, _ in rows
        for pair in zip(kinds.split(","), sqns.split(","), strict=True)
    ]
    assert [(number(kind), int(sqn)) for kind, sqn in seen] == [
        (one[3], int.from_bytes(one[40:44])) for _, one in some
    ]
    assert {refused for _, _, refused in rows} == {""}
    # The capture has only the first two packets of each whole.
    cut = tmp_path / "cut.pcap"
    tshark.write_raw(cut, groups, port=28_775, kept=28 + 2 * 112)
    assert {row[0] for row in tshark.fields(cut, "pgmlite.refused")} == {""}
    # What is behind a packet is no packet: as before, the whole is refused.
    tshark.write_raw(path, [SMALL.spm() + bytes(61), SMALL.all_odata()[0] * 2 + b"x"], port=28_775)
    tshark.fields.cache_clear()
    rows = tshark.fields(path, "pgmlite.refused")
    assert rows == [["spm"], ["length"]]
