"""Manifests, SPM bodies and names of objects: what strangers and odd file systems can say."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.errors import ObjectError, RefusedPacket
from pgmlite.wire.control import MAX_SPM, Spm, SpmPosition, SpmRepairs, parse_spm
from pgmlite.wire.layout import (
    MAX_BLOCK_SYMBOLS,
    MAX_FEC_BLOCK_SYMBOLS,
    MAX_MANIFEST,
    MAX_SYMBOL_SIZE,
    TILE_BLOCKS,
)
from pgmlite.wire.manifest import (
    MAX_OBJECT_SIZE,
    REFUSED_CHARACTERS,
    REFUSED_RANGES,
    Manifest,
    manifest_oid,
    object_name,
    parse_manifest,
)
from tests.support.builders import spm_body
from tests.support.vectors import option, parts_of

RAW = Manifest(1_024, 1_024, 5_000_000, bytes(range(32)), "firmware.bin").raw
NAME_AT = 4 + 4 + 4 * 2 + 8 + 32


def changed(at: int, octets: bytes) -> bytes:
    return RAW[:at] + octets + RAW[at + len(octets) :]


def coded(**fields: Any) -> bytes:
    """Return a manifest with repair symbols."""
    values = {"symbol_size": 1_024, "block_symbols": 1_024, "size": 5_000_000, "name": "coded.bin"}
    values |= {"tree_digest": bytes(range(32)), "repair_symbols": 512, "tile_blocks": 5} | fields
    return Manifest(**values).raw


def extended(*options: tuple[int, bytes]) -> bytes:
    return RAW + b"".join(option(kind, value) for kind, value in options)


NAMES = st.text(min_size=1, max_size=60).map(object_name)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Return any manifest of an object that is not empty, with repair symbols or without."""
    symbol_size = 4 * draw(st.integers(16, MAX_SYMBOL_SIZE // 4))
    size = draw(st.integers(1, MAX_OBJECT_SIZE))
    is_coded = draw(st.booleans())
    most = min(MAX_FEC_BLOCK_SYMBOLS, -(-size // symbol_size)) if is_coded else MAX_BLOCK_SYMBOLS
    block_symbols = draw(st.integers(1, most))
    return Manifest(
        symbol_size,
        block_symbols,
        size,
        tree_digest=draw(st.binary(min_size=32, max_size=32)),
        name=draw(NAMES),
        repair_symbols=draw(st.integers(1, max(7 * block_symbols, 64))) if is_coded else 0,
        tile_blocks=draw(st.integers(1, TILE_BLOCKS)),
    )


class TestManifest:
    @given(manifests())
    def test_round_trip(self, manifest: Manifest) -> None:
        parsed = parse_manifest(manifest.raw)
        assert parsed == manifest
        assert (parsed.raw, parsed.oid) == (manifest.raw, manifest.oid)
        assert len(manifest.raw) <= MAX_MANIFEST
        short = manifest.symbols * manifest.symbol_size - manifest.size
        assert 0 <= short < manifest.symbol_size
        short = manifest.blocks * manifest.block_symbols - manifest.symbols
        assert 0 <= short < manifest.block_symbols

    @given(st.integers(1, 1_024), st.integers(1, 7), st.integers(1, 8))
    def test_repair_symbols_that_are_allowed(self, k: int, times: int, tile: int) -> None:
        # spec: FEC-1
        for count in (1, max(times * k, 64)):
            raw = coded(block_symbols=k, repair_symbols=count, tile_blocks=tile)
            geometry = parse_manifest(raw).geometry
            assert (geometry.repair_symbols, geometry.tile_blocks) == (count, tile)
            assert raw[6:8] == bytes([1, tile])

    def test_unknown_options_are_part_of_the_object_identifier(self) -> None:
        # spec: MAN-2, MAN-4
        raw = extended((0x7FFE, b"two"), (0x7FFF, b""))
        parsed = parse_manifest(raw)
        assert parsed.raw == raw
        assert parsed.oid == manifest_oid(raw) != manifest_oid(RAW)
        assert parsed.name == "firmware.bin"

    @pytest.mark.parametrize("kind", [0x8000, 0xFFFF])
    def test_unknown_critical_option_is_refused(self, kind: int) -> None:
        # spec: VER-4
        with pytest.raises(ObjectError, match="critical"):
            parse_manifest(extended((0x7FFE, b""), (kind, b"must")))

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (changed(0, b"PGLN"), "magic"),
            (changed(4, b"\1"), "version"),
            (changed(5, b"\2"), "digest algorithm 2"),
            (changed(6, b"\2"), "FEC scheme 2"),
            (changed(6, b"\1"), "0 repair symbols for 1024"),
            (changed(7, b"\0"), "tiles of 0 blocks"),
            (changed(7, b"\x09"), "tiles of 9 blocks"),
            (changed(8, b"\0\0"), "symbol size 0"),
            (changed(8, b"\0\x3c"), "symbol size 60"),
            (changed(8, b"\xff\xff"), "symbol size 65535"),
            (changed(10, b"\0\0"), "0 symbols a block"),
            (changed(10, b"\x10\x01"), "4097 symbols a block"),
            (changed(12, b"\0\1"), "1 repair symbols without"),
            (coded(repair_symbols=7_169), "7169 repair symbols for 1024"),
            (coded(block_symbols=1, repair_symbols=65), "65 repair symbols for 1 "),
            (coded(block_symbols=1_025), "1025 symbols a block, with repair symbols at most 1024"),
            (coded(size=1_024 * 3), "1024 symbols a block, with repair symbols at most 3"),
            (coded(size=0), "the object is empty"),
            (changed(14, b"\0\x08"), "8 symbols a strip"),
            (changed(16, b"\x80"), "object size"),
            (RAW[:NAME_AT] + b"\0", "name"),
            (changed(NAME_AT + 1, b"\n"), "name"),
            (changed(NAME_AT + 1, b"\x1b"), "name"),
            (changed(NAME_AT + 1, "\u202e".encode()), "name"),
            (changed(NAME_AT + 1, b"\xff"), "utf8"),
            (changed(NAME_AT + 12, b"\xc3"), "utf8"),
            (extended((1, bytes(1_000))), "at most 896"),
            (b"", "parse"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_refusals_say_what_is_wrong_in_one_line(self, raw: bytes, message: str) -> None:
        # spec: MAN-3, FEC-1
        with pytest.raises(ObjectError, match=message) as caught:
            parse_manifest(raw)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("length", range(len(RAW)))
    def test_truncation_is_refused(self, length: int) -> None:
        # spec: MAN-1
        with pytest.raises(ObjectError):
            parse_manifest(RAW[:length])

    @pytest.mark.parametrize("trailing", [b"\0", b"\0\1\0", b"\0\1\0\2x", b"\0\1\0\0\0"])
    def test_trailing_bytes_that_are_no_option_are_refused(self, trailing: bytes) -> None:
        # spec: MAN-1
        with pytest.raises(ObjectError):
            parse_manifest(RAW + trailing)

    @given(
        st.one_of(
            st.binary(max_size=200),
            st.builds(changed, st.integers(0, len(RAW) - 1), st.binary(min_size=1, max_size=9)),
        )
    )
    @example(RAW + bytes(4) * 200)
    def test_nothing_but_object_errors_of_one_line(self, raw: bytes) -> None:
        try:
            parsed = parse_manifest(raw)
        except ObjectError as refusal:
            lines = str(refusal).splitlines()
        else:
            lines = [parsed.name]
            assert parsed.raw == raw
        assert len(lines) == 1

    @pytest.mark.parametrize(
        ("file_name", "name"),
        [
            ("firmware.bin", "firmware.bin"),
            ("Übung №1.bin", "Übung №1.bin"),
            ("two\nlines\x1b[2J", "two\ufffdlines\ufffd[2J"),
            ("exe\u202ecod.bin\u2069", "exe\ufffdcod.bin\ufffd"),
            ("soft\xadhyphen \U000e0001", "soft\xadhyphen \U000e0001"),
            ("not\udcffutf8", "not\ufffdutf8"),
            ("x" * 400, "x" * 255),
            ("x" * 254 + "é", "x" * 254),
            ("é" * 200, "é" * 127),
            ("", "object"),
        ],
    )
    def test_name_of_odd_files(self, file_name: str, name: str) -> None:
        assert object_name(file_name) == name

    @given(st.text(alphabet=st.characters(), max_size=400))
    def test_any_file_name_gives_a_manifest_that_parses(self, file_name: str) -> None:
        # spec: MAN-5
        manifest = Manifest(64, 1, 64, bytes(32), object_name(file_name))
        assert parse_manifest(manifest.raw) == manifest


def test_a_link_local_address_names_nobody() -> None:
    # spec: MAN-6
    endpoints = [("fe80::1", 9), ("169.254.0.7", 9), ("fd01::2", 9), ("10.0.0.2", 9)]
    manifest = Manifest(64, 1, 64, bytes(32), "object", tuple(endpoints))
    parsed = parse_manifest(manifest.raw)
    assert parsed.repairers == tuple(endpoints[2:])
    assert parsed.raw == manifest.raw


def test_the_list_of_refused_characters_is_closed() -> None:
    """Whatever another version of Unicode calls them."""
    # spec: MAN-5
    listed = {point for first, last, _ in REFUSED_RANGES for point in range(first, last + 1)}
    refused = {point for point in range(0x11_0000) if REFUSED_CHARACTERS.search(chr(point))}
    assert refused == listed
    assert len(refused) == 32 + 33 + 2 + 12 + 2_048 - 2 + 2
    for point in listed - set(range(0xD800, 0xE000)):
        with pytest.raises(ObjectError, match="name"):
            parse_manifest(Manifest(64, 1, 64, bytes(32), f"a{chr(point)}").raw)


POSITIONS = st.builds(
    SpmPosition,
    place=st.integers(0, (1 << 64) - 1),
    first=st.integers(0, (1 << 32) - 1),
    **dict.fromkeys(("order", "sector", "sectors"), st.integers(0, 255)),
)
REPAIRS = st.builds(
    SpmRepairs,
    nonce=st.integers(0, (1 << 64) - 1),
    repair_port=st.integers(1, 65_535),
    **dict.fromkeys(("grtt", "gsize", "backoff_factor", "repair_share"), st.integers(0, 255)),
)


class TestSpm:
    @given(
        st.builds(
            Spm,
            timestamp=st.integers(0, (1 << 64) - 1),
            rate=st.integers(0, (1 << 64) - 1),
            spm_interval=st.integers(0, (1 << 32) - 1),
            manifest=st.binary(max_size=MAX_MANIFEST),
            position=st.none() | POSITIONS,
            repairs=st.none() | REPAIRS,
        )
    )
    def test_round_trip(self, spm: Spm) -> None:
        assert parse_spm(spm.build()) == spm
        assert len(spm.build()) <= MAX_SPM

    def test_two_signatures_have_room_beside_the_largest_of_all_else(self) -> None:
        # spec: PKT-9
        body = spm_body(bytes(MAX_MANIFEST), repair_port=9)
        signature = option(4, bytes(8 + 64))
        assert len(body + 2 * signature) <= MAX_SPM
        assert parse_spm(body + 2 * signature).manifest == bytes(MAX_MANIFEST)

    def test_unknown_options_are_left_aside_and_may_repeat(self) -> None:
        # spec: VER-4
        body = spm_body(RAW)
        more = option(0x7FFF, b"later") + option(9, b"") + option(9, b"again")
        assert parse_spm(body + more) == parse_spm(body)

    @pytest.mark.parametrize("kind", [0x8000, 0x8002, 0xFFFF])
    def test_unknown_critical_options_are_refused(self, kind: int) -> None:
        # spec: VER-4
        with pytest.raises(RefusedPacket, match="unknown and critical"):
            parse_spm(spm_body(RAW) + option(kind, b""))

    @given(st.data())
    def test_every_other_length_is_refused(self, data: st.DataObject) -> None:
        # spec: PKT-9
        fixed, *options = parts_of(spm_body(RAW, repair_port=9))
        ends = [len(fixed) + sum(map(len, options[:n])) for n in range(len(options) + 1)]
        body = fixed + b"".join(options)
        cut_at = data.draw(st.integers(0, len(body) - 1).filter(lambda n: n not in ends[1:]))
        trailing = data.draw(st.sampled_from([b"\0", b"\0\t\0", b"\0\t\0\2x", bytes(MAX_SPM)]))
        for broken in (body[:cut_at], body + trailing):
            with pytest.raises(RefusedPacket) as caught:
                parse_spm(broken)
            assert caught.value.reason == "spm"
            assert "\n" not in str(caught.value)
