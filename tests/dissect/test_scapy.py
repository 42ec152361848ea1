"""The scapy layer: dissects and builds every packet, and reads what the vectors say."""

import json

import pytest

from tests.generate import SPEC

scapy = pytest.importorskip("scapy.all", reason="the extra `captures` is not installed")

from pgmlite.scapy import (  # noqa: E402 - scapy may be missing
    Pgmlite,
    PgmliteExtension,
    PgmliteManifest,
    PgmliteNAK,
    PgmliteRange,
    PgmliteRequest,
    PgmliteSPM,
)

VALID = json.loads((SPEC / "vectors" / "packets.json").read_text())["packets"]
INVALID = json.loads((SPEC / "vectors" / "invalid.json").read_text())["packets"]


def shown(layer: scapy.Packet, names: dict) -> dict:
    """Return the fields of a layer that `names` has, as the vectors show them."""
    found = {}
    for name, expected in names.items():
        value = layer.getfieldval({"name": "file_name"}.get(name, name))
        if isinstance(value, int) and isinstance(expected, str):
            value = f"{value:016x}"
        elif isinstance(value, bytes):
            value = value.decode() if name == "name" else value.hex()
        found[name] = value
    return found


@pytest.mark.parametrize("case", VALID, ids=[case["name"] for case in VALID])
def test_every_field_of_a_valid_packet(case: dict) -> None:
    raw = bytes.fromhex(case["hex"])
    frame = scapy.Ether(
        bytes(scapy.Ether() / scapy.IPv6() / scapy.UDP(sport=9, dport=28_775) / raw)
    )
    one = frame[Pgmlite]
    assert bytes(one) == raw
    again = one.copy()
    again.clear_cache()
    assert bytes(again) == raw, "built anew from its fields"
    assert shown(one, case["header"]) == case["header"]
    assert f"{int(case['header']['tsi'], 16):#x}" in one.show(dump=True)
    if "spm" in case:
        spm = one[PgmliteSPM]
        names = {k: v for k, v in case["spm"].items() if k != "manifest"}
        assert shown(spm, names) == names
        facts = case["manifest"]
        names = {k: v for k, v in facts.items() if k != "extensions"}
        assert shown(spm.manifest, names) == names
        found = [
            shown(extension, {"kind": 0, "value": ""}) for extension in spm.manifest.extensions
        ]
        assert found == facts["extensions"]
    if "nak" in case:
        assert shown(one[PgmliteNAK], case["nak"]) == case["nak"]
    if "request" in case:
        facts = case["request"]
        request = one[PgmliteRequest]
        names = {k: v for k, v in facts.items() if k != "items"}
        assert shown(request, names) == names
        if facts["form"]:
            assert request.bitmap.hex() == facts["items"]
        else:
            assert [r.fields for r in request.ranges] == facts["items"]
    if "payload" in case:
        assert bytes(one.payload).hex() == case["payload"]


@pytest.mark.parametrize("case", INVALID, ids=[case["name"] for case in INVALID])
def test_nothing_is_lost_of_invalid_packets(case: dict) -> None:
    raw = bytes.fromhex(case["hex"])
    frame = scapy.IP(bytes(scapy.IP() / scapy.UDP(sport=9, dport=28_776) / raw))
    assert bytes(frame[scapy.UDP].payload) == raw
    frame.show(dump=True)


def test_packets_built_from_fields_are_valid() -> None:
    from tests.support.vectors import SMALL, describe

    manifest = PgmliteManifest(
        symbol_size=64,
        block_symbols=4,
        size=1_000,
        tree_digest=SMALL.manifest.tree_digest,
        file_name=b"small.bin",
    )
    assert bytes(manifest) == SMALL.manifest.raw
    manifest.extensions = [PgmliteExtension(kind=1, value=bytes(15) + b"\1\x70\x68")]
    header = {"symbol_size": 64, "size": 1_000, "tsi": 1}
    spm = Pgmlite(**header) / PgmliteSPM(rate=1_000_000, spm_interval=1_000, manifest=manifest)
    assert describe(bytes(spm))["repairers"] == [["::1", 28_776]]
    assert describe(bytes(spm))["header"]["type"] == 0
    ncf = Pgmlite(**header) / PgmliteRequest(ranges=[PgmliteRange(start=2, length=3)])
    ncf.type = 10
    assert describe(bytes(ncf))["symbols"] == [[2, 4]]
    nak = Pgmlite(**header) / PgmliteNAK(nonce=5) / PgmliteRequest(form=1, base=3, bitmap=b"\xa0")
    assert describe(bytes(nak))["symbols"] == [[3, 3], [5, 5]]
    assert bytes(scapy.UDP() / nak)[:4] == b"\x70\x67\x70\x67"
