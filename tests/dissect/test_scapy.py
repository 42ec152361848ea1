"""The scapy layer: dissects and builds every packet, and reads what the vectors say."""

import json

import pytest

from pgmlite.wire.layout import RequestForm
from tests.generate import SPEC

scapy = pytest.importorskip("scapy.all", reason="the extra `captures` is not installed")

from pgmlite.scapy import (  # noqa: E402 - scapy may be missing
    Pgmlite,
    PgmliteCount,
    PgmliteManifest,
    PgmliteManifestOption,
    PgmliteNAK,
    PgmlitePosition,
    PgmliteRange,
    PgmliteRelease,
    PgmliteRepairs,
    PgmliteRequest,
    PgmliteSignature,
    PgmliteSPM,
    PgmliteSPMOption,
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
            value = value.decode() if name in {"name", "stream"} else value.hex()
        found[name] = value
    return found


def without_options(facts: dict) -> dict:
    """Return the fields of a struct that have a fixed place."""
    return {name: value for name, value in facts.items() if name != "options"}


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
        assert shown(spm, without_options(case["spm"])) == without_options(case["spm"])
        assert [
            {"kind": option.kind, "value": bytes(option)[4:].hex()} for option in spm.options
        ] == case["spm"]["options"]
        parts = {option.kind: option.value for option in spm.options}
        for name, kind in (("position", 2), ("repairs", 3), ("manifest", 0x8001)):
            assert (kind in parts) == (name in case)
            facts = without_options(case.get(name, {}))
            assert shown(parts.get(kind), facts) == facts
        own = parts[0x8001].options
        found = [{"kind": one.kind, "value": bytes(one)[4:].hex()} for one in own]
        assert found == case["manifest"]["options"]
        signatures = [one.value for one in spm.options if one.kind == 4]
        told = case.get("signatures", [])
        assert [shown(one, fact) for one, fact in zip(signatures, told, strict=True)] == told
        for one in own:
            if one.kind == 3:
                assert shown(one.value, case["release"]) == case["release"]
            if one.kind == 5:
                assert shown(one.value, case["archive"]) == case["archive"]
    if "nak" in case:
        assert shown(one[PgmliteNAK], case["nak"]) == case["nak"]
    if "request" in case:
        facts = case["request"]
        request = one[PgmliteRequest]
        names = {k: v for k, v in facts.items() if k != "items"}
        assert shown(request, names) == names
        if facts["form"] == RequestForm.BITMAP:
            assert request.bitmap.hex() == facts["items"]
        else:
            items = request.counts if facts["form"] == RequestForm.COUNTS else request.ranges
            assert [item.fields for item in items] == facts["items"]
    if "payload" in case:
        assert bytes(one.payload).hex() == case["payload"]


@pytest.mark.parametrize("case", INVALID, ids=[case["name"] for case in INVALID])
def test_nothing_is_lost_of_invalid_packets(case: dict) -> None:
    raw = bytes.fromhex(case["hex"])
    frame = scapy.IP(bytes(scapy.IP() / scapy.UDP(sport=9, dport=28_776) / raw))
    assert bytes(frame[scapy.UDP].payload) == raw
    frame.show(dump=True)


def test_packets_built_from_fields_are_valid() -> None:
    from tests.support.vectors import SMALL, counts_request, describe

    manifest = PgmliteManifest(
        symbol_size=64,
        block_symbols=4,
        size=1_000,
        tree_digest=SMALL.manifest.tree_digest,
        file_name=b"small.bin",
    )
    assert bytes(manifest) == SMALL.manifest.raw
    manifest.options = [PgmliteManifestOption(value=bytes(15) + b"\1\x70\x68")]
    assert bytes(PgmlitePosition()) == bytes(10) + b"\1" + bytes(5)
    header = {"symbol_size": 64, "size": 1_000, "tsi": 1}
    parts = [
        PgmliteSPMOption(value=manifest),
        PgmliteSPMOption(
            kind=2, value=PgmlitePosition(place=1 << 40, order=2, sector=1, sectors=3, first=5)
        ),
        PgmliteSPMOption(kind=3, value=PgmliteRepairs(nonce=7, repair_port=9)),
    ]
    spm = Pgmlite(**header) / PgmliteSPM(rate=1_000_000, spm_interval=1_000, options=parts)
    facts = describe(bytes(spm))
    assert facts["repairers"] == [["::1", 28_776]]
    assert facts["header"]["type"] == 0
    position = {"place": f"{1 << 40:016x}", "order": 2, "sector": 1, "sectors": 3}
    assert facts["position"] == position | {"reserved": 0, "first": 5}
    assert (facts["repairs"]["nonce"], facts["repairs"]["repair_port"]) == (f"{7:016x}", 9)
    release = PgmliteRelease(number=17, created=5, expires=6, stream=b"a/b")
    manifest.options = [
        PgmliteManifestOption(kind=3, value=release),
        PgmliteManifestOption(kind=4, value=bytes(32)),
    ]
    parts = [
        PgmliteSPMOption(value=manifest),
        PgmliteSPMOption(kind=4, value=PgmliteSignature(key_id=7, signature=b"s" * 64)),
    ]
    manifest.symbol_size = 160
    spm = Pgmlite(**(header | {"symbol_size": 160})) / PgmliteSPM(options=parts)
    facts = describe(bytes(spm))
    assert facts["release"]["stream"] == "a/b"
    assert facts["signatures"] == [{"key_id": f"{7:016x}", "signature": b"s".hex() * 64}]
    counts = PgmliteRequest(form=2, counts=[PgmliteCount(block=2, first=5, count=4)])
    assert bytes(counts) == counts_request((2, 5, 4))
    ncf = Pgmlite(**header) / PgmliteRequest(ranges=[PgmliteRange(start=2, length=3)])
    ncf.type = 10
    assert describe(bytes(ncf))["symbols"] == [[2, 4]]
    nak = Pgmlite(**header) / PgmliteNAK(nonce=5) / PgmliteRequest(form=1, base=3, bitmap=b"\xa0")
    assert describe(bytes(nak))["symbols"] == [[3, 3], [5, 5]]
    assert bytes(scapy.UDP() / nak)[:4] == b"\x70\x67\x70\x67"
