"""The source of a sender, the partial file of a receiver, and disks that refuse."""

import contextlib
import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from unittest.mock import patch

import numpy as np
import pytest
from blake3 import blake3
from builders import make_object
from hypothesis import example, given, settings
from hypothesis import strategies as st
from loopback import BLOCK, Cli, endpoint, make_file, receive, receiving, run, sending

from pgmlite.core.machine import Store
from pgmlite.errors import DiskError
from pgmlite.storage.part import BlockStream, PartFile
from pgmlite.storage.source import READ_THROUGH, SourceFile

GIB = 1 << 30
NOBODY = 65_534


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Be bound by file permissions, even if root runs the tests."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that ordinary users reach; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


# Sources.


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    data = Random(1).randbytes(60_000)
    path = tmp_path_factory.mktemp("gathered") / "source"
    path.write_bytes(data)
    return SourceFile(path), data


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 512, 513, 8 * 512, 8 * 512 + 7])
def test_describe_equals_a_plain_computation(tmp_path, size):
    # spec: OBJ-1, OBJ-3
    expected = make_object(size, symbol_size=64, block_symbols=8, name="source")
    path = tmp_path / "source"
    path.write_bytes(expected.data)
    source = SourceFile(path)
    reports = []
    manifest, index = source.describe(64, 8, lambda done, total: reports.append((done, total)))
    source.close()
    assert (manifest, index) == (expected.manifest, expected.index)
    assert manifest.index_digest == blake3(index).digest()
    assert all(done <= total == size for done, total in reports)


def test_hashing_stops_when_the_callback_raises(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # hours of hashing
    source = SourceFile(path)
    calls = 0

    def give_up(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("enough")

    started = time.monotonic()
    with pytest.raises(RuntimeError, match="enough"):
        source.describe(1_404, 1_024, give_up)
    source.close()
    assert calls == 1
    assert time.monotonic() - started < 30


def test_a_source_that_changes_while_it_is_hashed(tmp_path):
    path = make_file(tmp_path / "source", 4_096)
    source = SourceFile(path)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(DiskError, match="changed"):
        source.describe(64, 8)
    source.close()


def test_a_source_that_is_cut_off(tmp_path):
    path = make_file(tmp_path / "source", 4_096)
    source = SourceFile(path)
    os.truncate(path, 1_000)
    with pytest.raises(DiskError, match="changed"):
        source.read_into(memoryview(bytearray(512)), 768)
    source.close()


@pytest.mark.parametrize("kind", ["missing", "folder", "device", "loop"])
def test_sources_that_are_no_files(tmp_path, monkeypatch, capsys, kind):
    path = tmp_path / kind
    match kind:
        case "folder":
            path.mkdir()
        case "device":
            path = Path("/dev/zero")
        case "loop":
            path.symlink_to(path)
    code, error = Cli(monkeypatch, capsys).refuse("send", path, *endpoint().flags, "--cycles", 1)
    assert code == 7
    assert str(path) in error


def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    # In a process of its own: to open it might take for ever.
    path = tmp_path / "fifo"
    os.mkfifo(path)
    ended = run("send", path, *endpoint().flags, "--cycles", 1, limit=20)
    assert ended.code == 7
    assert str(path) in ended.error


def test_unreadable_source(open_folder):
    path = make_file(open_folder / "source", 10)
    path.chmod(0)
    with ordinary_user(), pytest.raises(DiskError, match="source: Permission denied"):
        SourceFile(path)


def test_a_source_that_changes_while_it_is_sent(tmp_path):
    # spec: SND-7
    source = make_file(tmp_path / "source", BLOCK)
    with sending(source, endpoint(), rate="1M") as sender:
        sender.event("start")
        with source.open("r+b") as file:
            file.write(b"new")
        ended = sender.end()
    assert ended.code == 7
    assert str(source) in ended.error
    assert "changed" in ended.error
    assert ended.last["event"] == "stopped"


@given(edges=st.sets(st.integers(0, 60_000), min_size=2, max_size=40), step=st.integers(0, 3))
@example(edges=set(range(0, 6_000, 2)), step=0)  # more pieces than one call takes
@example(edges={0, 1, 1 + READ_THROUGH, 2 + READ_THROUGH, 30_000, 30_001}, step=0)
def test_gathering_reads_what_plain_reading_reads(gathered, edges, step):
    source, data = gathered
    marks = sorted(edges)
    extents = [(a, b - a) for a, b in zip(marks[::2], marks[1::2], strict=False)]
    extents = extents[:: step + 1]
    wanted = b"".join(data[offset : offset + length] for offset, length in extents)
    buffer = bytearray(len(wanted) + 7)
    source.gather(memoryview(buffer), iter(extents))
    assert buffer == wanted + bytes(7)


# Blocks hashed while they are written.

BLOCK_BYTES, BLOCKS = 4, 3  # small, so that writes touch often
SPAN = BLOCK_BYTES * BLOCKS

writes = st.tuples(st.integers(0, SPAN - 1), st.integers(1, BLOCK_BYTES + 1))


@given(steps=st.lists(writes, max_size=12), asked=st.integers(0, 12))
@example(steps=[(0, 2), (1, 1), (2, 2)], asked=12)
@example(steps=[(0, 2), (3, 1), (2, 1)], asked=12)
@settings(max_examples=500)
def test_block_stream_says_what_reading_back_would_say(steps, asked):
    stream, image = BlockStream(), bytearray(SPAN)
    stream.begin(BLOCK_BYTES)
    for number, (offset, length) in enumerate([*steps, (0, 0)]):
        length = min(length, SPAN - offset)
        image[offset : offset + length] = bytes([number + 1]) * length
        stream.update(offset, memoryview(image)[offset : offset + length])
        if number != asked and number < len(steps):
            continue
        for at in range(0, SPAN, BLOCK_BYTES):
            for size in range(1, BLOCK_BYTES + 1):
                answer = stream.pop(at, size)
                assert answer in (None, blake3(image[at : at + size]).digest())


@given(cuts=st.sets(st.integers(1, SPAN - 1)), kept=st.integers(0, BLOCKS - 1))
def test_block_stream_spares_reading_what_comes_in_order(cuts, kept):
    data = bytes(range(SPAN))
    stream = BlockStream()
    stream.begin(BLOCK_BYTES)
    edges = [0, *sorted(cuts), SPAN]
    for start, stop in pairwise(edges):
        stream.update(start, memoryview(data)[start:stop])
    at = kept * BLOCK_BYTES
    assert stream.pop(at, BLOCK_BYTES) == blake3(data[at : at + BLOCK_BYTES]).digest()
    assert stream.pop(at, BLOCK_BYTES) is None


def test_block_stream_keeps_a_bounded_number():
    stream = BlockStream()
    stream.begin(1)
    for offset in range(1_000):
        stream.update(offset, memoryview(b"x"))
    kept = [offset for offset in range(1_000) if stream.pop(offset, 1)]
    assert kept == list(range(1_000 - BlockStream.KEPT, 1_000))


# Partial files.


@given(order=st.permutations(range(12)), symbols=st.integers(1, 3))
def test_part_file_matches_for_any_order(tmp_path_factory, order, symbols):
    sample = make_object(12 * 64 - 5, symbol_size=64, block_symbols=4)
    part = PartFile(tmp_path_factory.mktemp("part") / "out")
    part.begin(len(sample.data), 256)
    for symbol in order:
        run_of = sample.data[symbol * 64 : (symbol + symbols) * 64]
        part.write([(symbol * 64, memoryview(run_of))])
    for block in range(3):
        at = block * 256
        expected = sample.index[block * 32 : block * 32 + 32]
        assert part.matches(at, len(sample.data[at : at + 256]), expected)
        assert not part.matches(at, len(sample.data[at : at + 256]), bytes(32))
    part.publish(len(sample.data))
    part.close()
    assert part.output.read_bytes() == sample.data


def test_data_past_4_gib(tmp_path):
    part = PartFile(tmp_path / "out")
    part.write([(4 * GIB + 3, memoryview(b"past"))])
    part.write([(0, memoryview(b"begin"))])
    part.close()
    part = PartFile(tmp_path / "out")  # as the next run would
    extents = part.prepare(5 * GIB)
    assert any(start <= 4 * GIB + 3 < stop for start, stop in extents)
    assert sum(stop - start for start, stop in extents) < GIB
    assert part.matches(4 * GIB + 3, 4, blake3(b"past").digest())
    assert not part.matches(3, 4, blake3(b"past").digest())
    part.publish(4 * GIB + 7)
    part.close()
    with (tmp_path / "out").open("rb") as file:
        assert file.read(5) == b"begin"
        file.seek(4 * GIB + 3)
        assert file.read() == b"past"


def test_prepare_forgets_what_lies_past_the_end(tmp_path):
    part = PartFile(tmp_path / "out")
    part.write([(0, memoryview(bytes(100_000)))])
    assert part.prepare(10) == [(0, 10)]
    assert part.prepare(0) == []
    part.publish(10)
    part.close()
    assert (tmp_path / "out").stat().st_size == 10


def test_nothing_is_published_before_its_time(tmp_path):
    # spec: RCV-7
    output = tmp_path / "out"
    output.write_text("before")
    part = PartFile(output)
    part.write([(0, memoryview(b"after."))])
    assert output.read_text() == "before"
    part.close()
    assert output.read_text() == "before"
    assert part.path.read_text() == "after."


def test_an_empty_partial_file_goes(tmp_path):
    part = PartFile(tmp_path / "out")
    assert part.path.exists()
    part.close()
    part.close()
    assert list(tmp_path.iterdir()) == []


def test_a_privilege_is_not_passed_on(tmp_path):
    # The content comes from the network, and the new file may belong to somebody else.
    output = make_file(tmp_path / "out", 3)
    output.chmod(0o4755)
    part = PartFile(output)
    part.write([(0, memoryview(b"new"))])
    part.publish(3)
    part.close()
    assert output.stat().st_mode & 0o7777 == 0o755


def test_one_receiver_an_output(tmp_path, monkeypatch, capsys):
    # spec: RCV-15
    output = tmp_path / "out"
    with receiving(output, endpoint()) as receiver:
        receiver.event("start")
        code, error = Cli(monkeypatch, capsys).refuse(
            "recv", "-o", output, *endpoint().flags, "--timeout", 1
        )
        assert receiver.is_running
    assert code == 7
    assert f"{output}.part" in error
    assert "another receiver" in error


def test_a_partial_file_that_is_published_before_it_is_locked_is_not_taken(tmp_path, monkeypatch):
    """Between opening and locking, the receiver before us may publish: the file is no part then."""
    first = PartFile(tmp_path / "out")
    first.write([(0, memoryview(b"verified"))])
    lock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        first.publish(8)
        first.close()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    second = PartFile(tmp_path / "out")
    second.write([(0, memoryview(b"half"))])
    second.close()
    assert (tmp_path / "out").read_bytes() == b"verified"


@pytest.mark.parametrize(
    "kind", ["folder", "missing folder", "part folder", "part fifo", "part link", "fifo", "long"]
)
def test_outputs_that_can_not_be(tmp_path, monkeypatch, capsys, kind):
    output = tmp_path / "out"
    part = tmp_path / "out.part"
    match kind:
        case "folder":
            output.mkdir()
        case "missing folder":
            output = tmp_path / "missing" / "out"
        case "part folder":
            part.mkdir()
        case "part fifo":
            os.mkfifo(part)
        case "part link":
            part.symlink_to(make_file(tmp_path / "precious", 10))
        case "fifo":
            os.mkfifo(output)
        case "long":
            output = tmp_path / ("x" * 252)
    before = sorted(path.name for path in tmp_path.iterdir())
    code, error = Cli(monkeypatch, capsys).refuse(
        "recv", "-o", output, *endpoint().flags, "--timeout", 1
    )
    assert code == 7
    assert str(output.parent) in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_outputs_without_a_name(monkeypatch, capsys, name):
    code, error = Cli(monkeypatch, capsys).refuse("recv", "-o", name, *endpoint().flags)
    assert code == 7
    assert "is a folder" in error


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "closed"])
def test_folders_of_others(open_folder, mode):
    folder = open_folder / "folder"
    folder.mkdir(mode)
    folder.chmod(mode)
    with ordinary_user(), pytest.raises(DiskError, match="Permission denied"):
        PartFile(folder / "out")
    folder.chmod(0o755)


# Disks that refuse.


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(mount, check=True, timeout=30)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)


@pytest.mark.lab
def test_disk_too_small_from_the_start(tmp_path):
    # spec: RCV-15
    source, place = make_file(tmp_path / "source", 3 * BLOCK), endpoint()
    with disk(tmp_path / "disk", "size=2m") as folder, sending(source, place):
        output = folder / "out"
        output.write_text("before")
        ended = receive(output, place)
        assert ended.code == 7
        assert str(output) in ended.error
        assert "free" in ended.error  # known before anything is written
        assert output.read_text() == "before"
    assert ended.last["event"] == "failed"


@pytest.mark.lab
def test_disk_that_fills_up(tmp_path):
    source, place = make_file(tmp_path / "source", 3 * BLOCK), endpoint()
    with disk(tmp_path / "disk", "size=6m") as folder:
        output = folder / "out"
        output.write_text("before")
        with sending(source, place, rate="4M"), receiving(output, place) as receiver:
            receiver.event("progress", lambda event: event["stored"] > 0)
            with contextlib.suppress(OSError), (folder / "filler").open("wb", 0) as filler:
                for _ in range(100):
                    filler.write(bytes(100_000))
            ended = receiver.end()
        assert ended.code == 7
        assert "No space left" in ended.error
        assert output.read_text() == "before"
        assert (folder / "out.part").exists()
    assert ended.last["event"] == "failed"


@pytest.mark.lab
def test_disk_that_is_read_only(tmp_path):
    with disk(tmp_path / "disk", "ro") as folder:
        ended = run("recv", "-o", folder / "out", *endpoint().flags, "--timeout", 1)
        assert ended.code == 7
        assert str(folder) in ended.error
        assert "Read-only" in ended.error


@given(
    lost=st.sets(st.integers(0, 2_399)),
    at_once=st.integers(1, 2_400),
    short=st.booleans(),
)
@example(
    lost=set(range(1, 2_400, 2)), at_once=2_400, short=False
)  # more pieces than one call takes
def test_gaps_are_written_over_and_filled_later(tmp_path_factory, lost, at_once, short):
    sample = make_object(2_400 * 64 - 9, symbol_size=64, block_symbols=100)
    part = PartFile(tmp_path_factory.mktemp("part") / "out")
    part.begin(len(sample.data), 6_400)

    def write(symbols: list[int]) -> None:
        octets = [(64 * n, memoryview(sample.data[64 * n : 64 * n + 64])) for n in symbols]
        for start in range(0, len(octets), at_once):
            part.write(octets[start : start + at_once])

    def some(fd: int, pieces: list, offset: int) -> int:
        return os.pwrite(fd, b"".join(pieces)[:100], offset)

    with patch("os.pwritev", some) if short else contextlib.nullcontext():
        write([n for n in range(2_400) if n not in lost])
        for block in range(24):
            missing = not lost.isdisjoint(range(100 * block, 100 * block + 100))
            size = len(sample.data[6_400 * block : 6_400 * block + 6_400])
            digest = sample.index[32 * block : 32 * block + 32]
            assert part.matches(6_400 * block, size, digest) is not missing
        for n in sorted(lost):
            write([n])
    part.publish(len(sample.data))
    part.close()
    assert part.output.read_bytes() == sample.data


def test_store_actions_are_what_part_files_take(tmp_path):
    # Non-contiguous views come from receive buffers that could not be read in one run.
    wide = np.frombuffer(bytes(range(200)), np.uint8).reshape(2, 100)
    action = Store([[(10, 1, 2)], [(70, 0, 1)]], wide[:, 40:])
    part = PartFile(tmp_path / "out")
    for runs in action.pieces():
        part.write(runs)
    part.close()
    assert part.path.read_bytes()[10:] == wide[::-1, 40:].tobytes()
