"""What a sender that follows sees at a path, and of a file that lost its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgmlite.core.machine import SECOND
from pgmlite.errors import DiskError
from pgmlite.storage.source import SourceFile
from pgmlite.storage.watch import Watched


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def taken(path: Path, beside: Path | None = None) -> Watched:
    watched = Watched(path, beside)
    watched.take()
    return watched


def renamed_over(file: Path) -> None:
    new = file.with_name("new")
    new.write_bytes(b"new")
    new.replace(file)


def exchanged(file: Path) -> None:
    file.rename(file.with_name("old"))
    file.with_name("new").write_bytes(b"new")
    file.with_name("new").rename(file)


def linked(file: Path) -> None:
    file.rename(file.with_name("old"))
    file.with_name("new").write_bytes(b"new")
    file.symlink_to("new")


@pytest.mark.parametrize("how", [renamed_over, exchanged, linked])
def test_another_file_of_the_name_is_seen_once(file: Path, how) -> None:
    # spec: SND-17
    watched = taken(file)
    assert not watched.is_replaced
    how(file)
    assert watched.is_replaced
    watched.take()
    assert not watched.is_replaced
    watched.close()


def test_the_number_of_an_inode_that_was_taken_up_is_not_given_again(file: Path) -> None:
    # spec: SND-17
    watched = taken(file)
    for _ in range(50):  # a file system likes to use the number that was freed last
        file.unlink()
        file.write_bytes(b"new")
        assert watched.is_replaced
    watched.close()


def test_a_folder_and_what_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    watched = taken(folder)
    assert (watched.is_gone, watched.is_replaced) == (True, False)
    folder.mkdir()
    assert (watched.is_gone, watched.is_replaced) == (False, True)
    watched.take()
    (folder / "more").touch()  # what is in it does not count
    assert not watched.is_replaced
    watched.close()


def test_what_was_written_has_settled_after_a_while(file: Path, tmp_path: Path) -> None:
    # spec: SND-17
    beside = tmp_path / "beside"
    watched = taken(file, beside)
    assert not watched.has_settled(0)
    assert not watched.has_settled(9 * SECOND)
    file.write_bytes(b"longer than it was")
    assert not watched.has_settled(10 * SECOND)
    assert not watched.has_settled(11 * SECOND - 1)
    beside.touch()
    assert not watched.has_settled(11 * SECOND)
    assert watched.has_settled(12 * SECOND)
    watched.take()
    assert not watched.has_settled(20 * SECOND)
    watched.soil(20 * SECOND)  # somebody else saw it
    assert not watched.has_settled(21 * SECOND - 1)
    assert watched.has_settled(21 * SECOND)
    watched.close()


@pytest.mark.parametrize("how", [Path.unlink, renamed_over, exchanged])
def test_losing_its_name_is_no_change_where_that_is_expected(file: Path, how) -> None:
    # spec: SND-16
    for is_expected in (True, False):
        file.write_bytes(b"old")
        source = SourceFile(file)
        source.may_be_replaced = is_expected
        how(file)
        if is_expected:
            source.check()
            source.check()
            buffer = bytearray(3)
            source.read_into(memoryview(buffer), 0)
            assert buffer == b"old"
        else:
            with pytest.raises(DiskError, match="changed"):
                source.check()
        source.close()


def test_who_writes_to_it_is_noticed_all_the_same(file: Path) -> None:
    # spec: SND-7, SND-16
    source = SourceFile(file)
    source.may_be_replaced = True
    away = file.rename(file.with_name("away"))
    source.check()
    with away.open("r+b") as other:
        other.write(b"bad")
    os.utime(away, ns=(0, 0))
    with pytest.raises(DiskError, match="changed"):
        source.check()
    source.close()


def test_a_status_that_changes_under_its_name_is_a_change(file: Path) -> None:
    # spec: SND-7
    source = SourceFile(file)
    source.may_be_replaced = True
    status = file.stat()
    file.write_bytes(b"bad")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DiskError, match="changed"):
        source.check()
    source.close()
