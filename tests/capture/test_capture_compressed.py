"""Compressed captures: read as they are, within bounds, and as far as they can be unpacked."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from pgmlite.capture import file as module
from pgmlite.capture.compressed import Stream
from pgmlite.capture.file import Capture
from pgmlite.cli import run
from pgmlite.errors import ObjectError
from tests.generate import ROOT
from tests.support import pcaps
from tests.support.builders import make_object
from tests.support.pcaps import EPOCH, enhanced, frame, pcap, pcapng

RECORDED = ROOT / "captures" / "clean-carousel.pcap"
FACTS = json.loads((ROOT / "captures" / "index.json").read_text())["clean-carousel"]


def optional(name: str) -> ModuleType:
    return pytest.importorskip(name, reason="the extra `captures` is not installed")


def zstd(data: bytes) -> bytes:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return optional(name).compress(data)


def lz4(data: bytes) -> bytes:
    return optional("lz4.frame").compress(data)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
    "lz4": lz4,
}


def replay(path: Path, out: Path) -> int:
    return run(["replay", str(path), "-o", str(out), "--json"])


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("form", ["one", "several in a row", "padded"])
def test_compressed_captures_are_read(tmp_path: Path, capsys, name: str, form: str) -> None:
    compress, whole = COMPRESSORS[name], RECORDED.read_bytes()
    data = compress(whole)
    if form == "several in a row":
        data = b"".join(compress(whole[at : at + 9_000]) for at in range(0, len(whole), 9_000))
    elif form == "padded":
        data += bytes(512)
    path = tmp_path / "c.pcap.x"
    path.write_bytes(data)
    assert replay(path, tmp_path / "out") == 0
    assert hashlib.sha256((tmp_path / "out").read_bytes()).hexdigest() == FACTS["sha256"]
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["damaged_places"] == []
    assert run(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["packets"] == FACTS["frames"]


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_compressed_file_that_is_cut_or_damaged(tmp_path: Path, capsys, name: str) -> None:
    sample = make_object(500_000, symbol_size=1_404, block_symbols=8)
    whole = pcap((at, frame(one)) for at, one in pcaps.carousel(sample))
    # In blocks of at most 128 KiB, or without any.
    data = bz2.compress(whole, 1) if name == "bzip2" else COMPRESSORS[name](whole)
    path, out = tmp_path / "c", tmp_path / "out"
    path.write_bytes(whole)
    total = sum(map(len, Capture(path).datagrams()))
    middle = len(data) * 3 // 4
    damaged = data[:middle] + bytes(64) + data[middle + 64 :]
    for made, what in (
        (data[:middle], "is cut off"),
        (damaged, "does not unpack"),
        (data + b"something else", "has other bytes behind it"),
    ):
        path.write_bytes(made)
        capture = Capture(path)
        found = sum(map(len, capture.datagrams()))
        assert found > (0.73 if name == "gzip" else 0.4) * total, "what came before is used"
        if made is damaged and not capture.damages:  # no checksum of theirs, but UDP's
            assert capture.skipped["checksum"]
            continue
        damage = capture.damages[-1]
        assert f"what {name} compressed {what}" in damage.what
        assert damage.until is None
        assert not capture.is_cut
        assert f"damaged at byte {damage.at} once unpacked: " in text_of(path, capsys)
    path.write_bytes(data[:middle])
    assert replay(path, out) == 5
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert f"what {name} compressed is cut off" in events[-1]["error"]
    # Another capture has the rest.
    path.write_bytes(data)
    assert replay(path, out) == 0
    assert out.read_bytes() == sample.data


def test_hardly_anything_in_front_of_damage_is_lost(tmp_path: Path) -> None:
    data = Random(1).randbytes(50_000)
    compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    path = tmp_path / "c"
    path.write_bytes(
        compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 50_000
    )
    with Stream(path) as stream:
        read = stream.read(1 << 20)
        assert data.startswith(read)
        assert len(read) > len(data) - 2_000
        assert stream.damage.startswith("what gzip compressed does not unpack: ")
        assert stream.read(1) == b""


def text_of(path: Path, capsys) -> str:
    capsys.readouterr()
    assert run(["info", str(path)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMPRESSORS)
def test_few_bytes_that_stand_for_many(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1 << 18)
    head = pcapng([(EPOCH, frame(b"first"))])
    path = tmp_path / "c"
    whole = head + bytes(12_000_000) + enhanced(EPOCH, frame(b"last"))
    path.write_bytes(lzma.compress(whole, preset=0) if name == "xz" else COMPRESSORS[name](whole))
    capture = Capture(path)
    tracemalloc.start()
    try:
        found = [octets.tobytes() for one in capture.datagrams() for octets in one.octets]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [b"first", b"last"]
    assert [(one.at, one.until) for one in capture.damages] == [(len(head), len(head) + 12_000_000)]
    assert peak < 7_000_000


def test_a_dictionary_without_bounds_is_not_granted(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    compressor = lzma.LZMACompressor(filters=filters)
    # The header alone asks for the memory.
    try:
        data = compressor.compress(RECORDED.read_bytes()) + compressor.flush()
    except MemoryError:
        pytest.skip("there is no memory for the test's own compressor")
    path = tmp_path / "c"
    path.write_bytes(data)
    with pytest.raises(ObjectError, match="what xz compressed does not unpack: Memory usage"):
        Capture(path)


@pytest.mark.parametrize("cut", [0, 1, 5, 39])
def test_big_blocks_are_passed_over_in_compressed_files_too(tmp_path: Path, cut: int) -> None:
    from pgmlite.capture.pcapng import MAX_BLOCK

    big = pcaps.block(10, bytes(MAX_BLOCK))
    tail = enhanced(EPOCH, frame(b"last"))
    made = pcapng([(EPOCH, frame(b"first"))]) + big + tail
    path = tmp_path / "c"
    path.write_bytes(gzip.compress(made[: len(made) - cut], 1))
    capture = Capture(path)
    found = [octets.tobytes() for one in capture.datagrams() for octets in one.octets]
    assert found == ([b"first", b"last"] if not cut else [b"first"])
    assert (capture.damaged, capture.is_cut) == (0, bool(cut))


@pytest.mark.parametrize(("name", "needed"), [("zstd", "zstd"), ("lz4", "lz4")])
def test_what_is_missing_is_named(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, name: str, needed: str
) -> None:
    magic = {"zstd": b"\x28\xb5\x2f\xfd", "lz4": b"\x04\x22\x4d\x18"}[name]
    for one in ("compression.zstd", "backports.zstd", "lz4", "lz4.frame"):
        monkeypatch.setitem(sys.modules, one, None)
    path = tmp_path / "c.pcap.x"
    path.write_bytes(magic + bytes(100))
    for call in (["replay", str(path), "-o", str(tmp_path / "out")], ["info", str(path)]):
        assert run(call) == 4
        assert capsys.readouterr().err == (
            f"pgmlite: {path}: compressed by {name}: pip install 'pgmlite[captures]', "
            f"or {needed} -d it first\n"
        )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04" + bytes(50), "compressed by zip; unpack it first"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "compressed by 7z; unpack it first"),
        (gzip.compress(b"a text"), "compressed by gzip, and neither a pcap nor a pcapng capture"),
        (gzip.compress(b""), "compressed by gzip, and neither a pcap nor a pcapng capture"),
        (
            b"\x1f\x8b" + bytes(50),
            "what gzip compressed does not unpack: Error -3 while "
            "decompressing data: unknown compression method",
        ),
        (bz2.compress(RECORDED.read_bytes())[:99], "what bzip2 compressed is cut off"),
    ],
)
def test_what_is_no_capture(tmp_path: Path, capsys, data: bytes, message: str) -> None:
    path = tmp_path / "c"
    path.write_bytes(data)
    for call in (["replay", str(path), "-o", str(tmp_path / "out")], ["info", str(path)]):
        assert run(call) == 4
        assert capsys.readouterr().err == f"pgmlite: {path}: {message}\n"


def test_the_extra_has_what_is_needed() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (line,) = [one for one in text.splitlines() if one.startswith("captures = ")]
    assert "lz4" in line
    assert "backports.zstd; python_version < '3.14'" in line
