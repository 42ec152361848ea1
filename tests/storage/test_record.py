"""The record of what was published: what it says, what it survives, and when it is not believed."""

import contextlib
import errno
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.errors import DiskError
from pgmlite.storage.record import (
    MAX_RECORD,
    Phase,
    Publication,
    PublishedRecord,
    identity_of,
    parse,
)
from pgmlite.storage.system import beside
from pgmlite.wire.manifest import REFUSED_CHARACTERS
from tests.storage.test_storage import NOBODY, ordinary_user
from tests.support.builders import make_object

MANIFEST = make_object(1_000, name="firmware.bin").manifest

numbers = st.integers(0, (1 << 64) - 1)
names = st.text(
    st.characters().filter(lambda char: not REFUSED_CHARACTERS.search(char)),
    min_size=1,
    max_size=60,
)
publications = st.builds(
    Publication,
    oid=numbers,
    tree_digest=st.binary(min_size=32, max_size=32),
    name=names,
    device=numbers,
    inode=numbers,
    size=numbers,
    time=st.integers(-(1 << 63), 1 << 63),
)


def remove_record(output: Path) -> None:
    PublishedRecord(output, lambda _: None).remove()


@pytest.fixture
def output(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"published")
    return path


def published(output: Path) -> Publication:
    return Publication.of(MANIFEST, identity_of(output.stat()))


def written(output: Path) -> Path:
    """Leave a record that says that the command was started once."""
    record, _ = opened(output)
    record.write(published(output).start())
    record.close()
    return record.path


def opened(output: Path) -> tuple[PublishedRecord, list[str]]:
    """Return the record of an output, and where its warnings go."""
    warnings: list[str] = []
    return PublishedRecord(output, warnings.append), warnings


# What a record says.


@given(publication=publications, attempts=st.integers(0, 3), is_done=st.booleans())
@example(
    publication=replace(published(Path(__file__)), name="\N{BROKEN HEART}" * 63),
    attempts=1,
    is_done=True,
)
@example(
    publication=replace(published(Path(__file__)), name="\N{NARROW NO-BREAK SPACE}\N{SOFT HYPHEN}"),
    attempts=0,
    is_done=False,
)
def test_what_is_written_is_read(publication, attempts, is_done):
    for _ in range(attempts):
        publication = publication.start()
    if attempts and is_done:
        publication = publication.end()
    raw = publication.to_json()
    assert parse(raw) == publication
    assert len(raw) < MAX_RECORD // 2


def test_phases_and_attempts(output):
    first = published(output)
    assert (first.phase, first.attempt) == (Phase.PUBLISHED, 0)
    assert (first.start().phase, first.start().attempt) == (Phase.STARTED, 1)
    again = first.start().start()
    assert (again.end().phase, again.end().attempt) == (Phase.DONE, 2)
    assert again.is_of(MANIFEST)
    assert not again.is_of(make_object(1_000, name="other.bin").manifest)


@pytest.mark.parametrize("change", ["content", "time", "file"])
def test_a_record_names_one_file_as_it_was(output, change):
    publication = published(output)
    status = output.stat()
    output.rename(output.with_name("moved"))
    assert publication.names(identity_of(output.with_name("moved").stat()))
    match change:
        case "content":
            output.write_bytes(b"longer than it was")
        case "time":
            output.with_name("moved").rename(output)
            os.utime(output, ns=(0, status.st_mtime_ns + 1))
        case "file":
            output.write_bytes(b"published")
            os.utime(output, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not publication.names(identity_of(output.stat()))


# Records that are none.

GOOD = json.loads(Publication.of(MANIFEST, identity_of(Path(__file__).stat())).start().to_json())

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def refused(raw: bytes, folder: Path) -> None:
    """Assert that `raw` counts as no record, is named in one line, and stays."""
    output = folder / "out"
    output.touch()
    path = beside(output, ".pgmlite")
    path.write_bytes(raw)
    path.chmod(0o600)
    record, warnings = opened(output)
    assert record.read() is None
    record.close()
    remove_record(output)  # it may be somebody's own
    (warning,) = warnings
    assert str(path) in warning
    assert warning.isprintable()
    assert path.read_bytes() == raw


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_no_record(tmp_path_factory, raw):
    refused(raw, tmp_path_factory.getbasetemp())


@given(field=st.sampled_from(sorted(GOOD)), value=values)
def test_any_value_of_a_field_is_taken_or_refused(tmp_path_factory, field, value):
    raw = json.dumps(GOOD | {field: value}).encode()
    with contextlib.suppress(ValueError):
        parse(raw)
        return  # what was drawn happens to be a good one
    refused(raw, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempt", 0),
        ("attempt", -1),
        ("attempt", True),
        ("attempt", 1.0),
        ("attempt", "1"),
        ("size", 1 << 64),
        ("inode", float("nan")),
        ("time", None),
        ("phase", "published"),
        ("phase", "finished"),
        ("oid", "0123456789ABCDEF"),
        ("oid", " 123456789abcdef"),
        ("oid", 1),
        ("tree_digest", "00" * 31),
        ("name", ""),
        ("name", "a\nb"),
        ("name", "\x1b[2J"),
        ("name", "\ud800"),
        ("name", "a\0b"),
        ("name", "x" * 256),
        ("name", ["x"]),
    ],
)
def test_one_wrong_field_makes_it_none(tmp_path, field, value):
    refused(json.dumps(GOOD | {field: value}).encode(), tmp_path)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[" * MAX_RECORD,
        b'{"a":' * 800,
        b"1" * MAX_RECORD,
        b'"' + b"\xff" * 10 + b'"',
        b"null",
        b"{}",
        json.dumps({k: v for k, v in GOOD.items() if k != "time"}).encode(),
        json.dumps(GOOD | {"more": 1}).encode(),
        json.dumps(GOOD).encode() + b" " * MAX_RECORD,
        json.dumps(GOOD).encode()[:-1],
        "\ufeff".encode() + json.dumps(GOOD).encode(),
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_contents_that_are_no_record(tmp_path, raw):
    refused(raw, tmp_path)


@pytest.mark.parametrize(
    "kind", ["link", "dangling", "hard link", "fifo", "folder", "writable", "group", "unreadable"]
)
def test_files_that_are_no_record(tmp_path, kind):
    folder = tmp_path / "folder"
    folder.mkdir()
    output = folder / "out"
    output.write_bytes(b"published")
    path = written(output)
    good = path.read_bytes()
    match kind:
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case "dangling":
            path.unlink()
            path.symlink_to("nowhere")
        case "hard link":
            os.link(path, folder / "second")
        case "fifo":
            path.unlink()
            os.mkfifo(path)
        case "folder":
            path.unlink()
            path.mkdir()
        case "writable":
            path.chmod(0o602)
        case "group":
            path.chmod(0o620)
        case "unreadable":
            path.chmod(0)
    record, warnings = opened(output)
    if kind == "unreadable":
        folder.chmod(0o755)
        tmp_path.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(path, NOBODY, -1)
            os.chown(folder, NOBODY, -1)
    with ordinary_user() if kind == "unreadable" else contextlib.nullcontext():
        assert record.read() is None
        record.close()
        remove_record(output)
    (warning,) = warnings
    assert str(path) in warning
    assert os.path.lexists(path)
    record.close()
    if kind == "link":
        assert (tmp_path / "elsewhere").read_bytes() == good


@pytest.mark.parametrize(
    ("mode", "is_believed"),
    [(0o755, True), (0o1777, True), (0o777, False), (0o775, False), (0o2770, False)],
    ids=lambda value: f"{value:o}",
)
def test_folders_in_which_others_may_rename(output, mode, is_believed):
    path = written(output)
    output.parent.chmod(mode)
    record, warnings = opened(output)
    found = record.read()
    record.close()
    output.parent.chmod(0o700)
    assert (found is not None) is is_believed
    assert [str(path) in one for one in warnings] == [True] * (not is_believed)


@pytest.mark.lab
@pytest.mark.parametrize("theirs", ["record", "folder"])
def test_what_belongs_to_another_user_is_not_believed(output, theirs):
    path = written(output)
    os.chown(path if theirs == "record" else path.parent, NOBODY, -1)
    record, warnings = opened(output)
    assert record.read() is None
    assert str(path) in warnings[0]


def test_no_record_is_no_reason_for_a_word(output):
    record, warnings = opened(output)
    assert record.read() is None
    remove_record(output)
    assert not record.is_in_place
    record.close()
    output.parent.chmod(0o777)
    assert record.read() is None
    assert warnings == []


def test_the_record_of_a_linked_output_lies_beside_the_file(output, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(output)
    record, _ = opened(link)
    assert record.path == written(output)
    remove_record(link)
    assert not record.path.exists()


# Writing.


def test_a_record_is_private_and_replaced_at_once(output):
    path = written(output)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    record, warnings = opened(output)
    found = record.read()
    assert found == published(output).start()
    before = path.stat()
    record.write(found.end())
    assert path.stat().st_ino != before.st_ino
    assert parse(path.read_bytes()).phase is Phase.DONE
    record.close()
    assert sorted(one.name for one in output.parent.iterdir()) == ["out", "out.pgmlite"]
    assert warnings == []


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_a_write_that_fails_leaves_the_record_before_it(output, monkeypatch, call):
    path = written(output)
    before = path.read_bytes()
    record, _ = opened(output)
    found = record.read()

    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"pgmlite.storage.record.os.{call}", refuse)
        with pytest.raises(DiskError, match=f"record {path}: No space left"):
            record.write(found.end())
    assert path.read_bytes() == before
    record.write(found.end())  # what was left over is not in the way
    record.close()
    assert sorted(one.name for one in output.parent.iterdir()) == ["out", "out.pgmlite"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_a_folder_that_can_not_be_flushed_is_a_warning_at_most(output, monkeypatch, number):
    flush = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        flush(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    record, warnings = opened(output)
    record.write(published(output))
    record.close()
    assert parse(record.path.read_bytes()) == published(output)
    # A file system that knows of no such thing has nothing to say.
    assert ["power cut" in one for one in warnings] == [True] * (number == errno.EIO)


@pytest.mark.parametrize("name", ["out.pgmlite", "out.pgmlite~"])
@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_nothing_that_stands_in_the_way_is_written_to(output, name, kind):
    victim = output.with_name("victim")
    victim.write_bytes(b"precious")
    place = output.with_name(name)
    match kind:
        case "link":
            place.symlink_to(victim)
        case "hard link":
            os.link(victim, place)
        case "fifo":
            os.mkfifo(place)
    record, _ = opened(output)
    record.check()
    record.write(published(output))
    record.close()
    assert victim.read_bytes() == b"precious"
    assert parse(record.path.read_bytes()) == published(output)


@pytest.mark.parametrize("name", ["out.pgmlite", "out.pgmlite~"])
def test_a_folder_in_the_way_is_found_before_a_transfer(output, name):
    output.with_name(name).mkdir()
    record, _ = opened(output)
    with pytest.raises(DiskError, match=f"{name}: is a folder"):
        record.check()


@contextlib.contextmanager
def sticky_folder() -> Iterator[Path]:
    """A folder like ``/tmp``; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o1777)
        yield Path(name)


@pytest.mark.lab
def test_another_users_file_in_the_way_is_found_before_a_transfer():
    with sticky_folder() as folder:
        (folder / "out.pgmlite").touch()
        record, _ = opened(folder / "out")
        record.check()  # root may move it
        with ordinary_user(), pytest.raises(DiskError, match="belongs to another user"):
            record.check()


# Locks.


def test_one_process_has_the_record(output):
    written(output)
    first, _ = opened(output)
    second, warnings = opened(output)
    found = first.read()
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            second.read()
        first.write(found.start())  # another file, and locked before it is in place
    assert first.is_in_place
    copy = os.dup(first.lock)
    first.close()
    with pytest.raises(BlockingIOError):
        second.read()
    os.close(copy)
    assert second.read() == found.start()
    second.close()
    assert warnings == []


def test_a_record_that_is_replaced_before_it_is_locked_is_read_anew(output, monkeypatch):
    written(output)
    first, _ = opened(output)
    found = first.read()
    first.close()
    lock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        first.write(found.end())
        first.close()
        lock(fd, operation)

    second, _ = opened(output)
    monkeypatch.setattr(fcntl, "flock", late)
    assert second.read() == found.end()
    second.close()


def test_a_file_system_without_locks_will_do(output, monkeypatch):
    def refuse(fd: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    written(output)
    record, warnings = opened(output)
    assert record.read() == published(output).start()
    record.close()
    assert warnings == []
