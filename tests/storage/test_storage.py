"""The source of a sender, the partial file of a receiver, and disks that refuse."""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.errors import DiskError
from pgmlite.storage.part import PartFile
from pgmlite.storage.source import READ_THROUGH, SourceFile
from pgmlite.wire.geometry import Geometry
from tests.support.builders import make_object
from tests.support.loopback import BLOCK, Cli, endpoint, make_file, receive, receiving, run, sending

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
def test_the_tree_equals_a_plain_computation(tmp_path, size):
    # spec: OBJ-1, OBJ-3
    expected = make_object(size, symbol_size=64, block_symbols=8, name="source")
    path = tmp_path / "source"
    path.write_bytes(expected.data)
    source = SourceFile(path)
    reports = []
    tree = source.block_tree(
        Geometry(size, 64, 8), lambda done, total: reports.append((done, total))
    )
    source.close()
    assert (tree.root, tree.digests) == (expected.manifest.tree_digest, expected.tree.digests)
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
        source.block_tree(Geometry(1 << 40, 1_404, 1_024), give_up)
    source.close()
    assert calls == 1
    assert time.monotonic() - started < 30


def test_a_source_that_changes_while_it_is_hashed(tmp_path):
    path = make_file(tmp_path / "source", 4_096)
    source = SourceFile(path)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(DiskError, match="changed"):
        source.block_tree(Geometry(4_096, 64, 8))
    source.close()


def test_a_source_that_is_cut_off(tmp_path):
    path = make_file(tmp_path / "source", 4_096)
    source = SourceFile(path)
    os.truncate(path, 1_000)
    with pytest.raises(DiskError, match="changed"):
        source.read_into(memoryview(bytearray(512)), 768)
    source.close()


@pytest.mark.parametrize("kind", ["missing", "device", "loop"])
def test_sources_that_are_no_files(tmp_path, monkeypatch, capsys, kind):
    path = tmp_path / kind
    match kind:
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


@pytest.mark.slow
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


# Partial files, by the command line (units: test_part.py).


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


@pytest.mark.parametrize(
    "kind", ["folder", "missing folder", "part folder", "part fifo", "part link", "fifo", "device"]
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
        case "device":
            output = Path("/dev/null")
    before = sorted(path.name for path in tmp_path.iterdir())
    code, error = Cli(monkeypatch, capsys).refuse(
        "recv", "-o", output, *endpoint().flags, "--timeout", 1
    )
    assert code == 7
    assert str(output.parent) in error
    assert kind != "folder" or "end it with a / to receive a folder" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "why"), [(".", "is a folder"), ("..", "is a folder"), ("/", "can't be replaced")]
)
def test_outputs_without_a_name(monkeypatch, capsys, name, why):
    code, error = Cli(monkeypatch, capsys).refuse("recv", "-o", name, *endpoint().flags)
    assert code == 7
    assert why in error


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
    with disk(tmp_path / "disk", "size=2m") as folder, sending(source, place) as sender:
        output = folder / "out"
        output.write_text("before")
        ended = receive(output, place, "--object", sender.event("start")["oid"])
        assert ended.code == 7
        assert str(output) in ended.error
        assert "free" in ended.error  # known before anything is written
        assert output.read_text() == "before"
    assert ended.last["event"] == "failed"


@pytest.mark.slow
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
