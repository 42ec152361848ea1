"""How folders take the place of others, whatever ends that: stops, disks that refuse, kills."""

from __future__ import annotations

import os
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from pgmlite.errors import DiskError, Interrupted
from pgmlite.storage import exchange, system, unpack
from pgmlite.storage.record import MAX_FOLDERS
from pgmlite.storage.syscalls import birth_of
from tests.support.folders import Receiving, everything, holds_version, names, receive, version
from tests.support.mortal import Killed, Mortal


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / "out"


@pytest.mark.parametrize(("name", "keep"), [("out.1", 1), ("out.unpacking", 0), ("out.old", 0)])
def test_a_disk_that_does_not_say_what_is_there(
    output: Path, monkeypatch: pytest.MonkeyPatch, name: str, keep: int
) -> None:
    # spec: FLD-8
    receive(output, version(1).sample())

    def stat(path: Any, **named: Any) -> os.stat_result:
        if path == name:
            raise OSError(5, "Input/output error")
        return os.stat(path, **named)

    monkeypatch.setattr(system, "os", Refusing("stat", stat))
    with pytest.raises(DiskError, match="out: Input/output error"):
        Receiving(output, keep)


def test_who_is_stopped_leaves_nothing_but_the_partial_file(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: FLD-8
    receive(output, version(1).sample())
    sample = version(2).sample()
    is_seen = threading.Event()

    def judges(*args: Any, **named: Any) -> Any:
        assert is_seen.wait(60)
        return unpack.judge(*args, **named)

    with closing(Receiving(output)) as receiving, monkeypatch.context() as patches:
        patches.setattr("pgmlite.net.destinations.folder.judge", judges)
        complete = receiving.collect(sample)
        assert complete
        work = receiving.place.publish(complete)
        next(work)
        is_seen.set()
        with pytest.raises(Interrupted):
            work.throw(Interrupted("SIGTERM"))
    assert holds_version(output, 1)
    assert set(names(output.parent)) <= {"out", "out.part", "out.part.map", "out.pgmlite"}
    receiving = receive(output, sample)
    assert holds_version(output, 2)
    assert receiving.machine.counters.fetched == 0


@pytest.mark.parametrize("call", ["mkdir", "write", "symlink", "fchmod", "link", "sync_disk"])
def test_a_disk_that_refuses_changes_nothing(
    output: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    # spec: FLD-8
    receive(output, version(1).sample())
    before = everything(output)

    def refuses(*args: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    with closing(Receiving(output)) as receiving:
        complete = receiving.collect(version(2).sample())
        with monkeypatch.context() as patches:
            if call == "sync_disk":
                patches.setattr(unpack, call, refuses)
            else:
                patches.setattr(unpack, "os", Refusing(call, refuses))
            with pytest.raises(DiskError, match="No space left"):
                receiving.publish(complete)
    assert everything(output) == before
    assert set(names(output.parent)) == {"out", "out.part", "out.part.map", "out.pgmlite"}
    assert receive(output, version(2).sample()).is_new
    assert holds_version(output, 2)


def test_what_is_in_place_is_no_failure(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # spec: FLD-8
    def stat(path: Any, **named: Any) -> os.stat_result:
        if path == "out.old" and output.exists():
            raise OSError(5, "Input/output error")
        return os.stat(path, **named)

    monkeypatch.setattr(system, "os", Refusing("stat", stat))
    assert receive(output, version(1).sample()).is_new
    assert holds_version(output, 1)


class Refusing:
    """The module `os`, one of whose calls fails."""

    def __init__(self, name: str, function: Any) -> None:
        self.__dict__[name] = function

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def test_where_it_can_not_be_put_the_old_one_stays_ours(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: FLD-8
    receive(output, version(1).sample())

    def busy(*args: object, **named: object) -> bool:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patches:
        patches.setattr(exchange, "exchange_names", busy)
        with pytest.raises(DiskError, match="busy"):
            receive(output, version(2).sample())
    assert holds_version(output, 1)
    assert receive(output, version(1).sample()).is_new is False
    assert receive(output, version(2).sample()).is_new
    assert names(output.parent) == ["out", "out.pgmlite"]


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("keep", [0, 2])
def test_a_kill_at_any_name_leaves_the_old_one_or_the_new_one(
    output: Path, keep: int, *, exchanges: bool
) -> None:
    # spec: FLD-8
    receive(output, version(1).sample(), keep=keep)
    number, place, died = 1, output.parent, True
    step = -1
    while died:
        step += 1
        number += 1
        mortal = Mortal(step, exchanges=exchanges)
        with mortal.on():
            try:
                receiving = Receiving(output, keep)
                receiving.take(version(number).sample())
                receiving.close()
            except Killed:
                with suppress(Killed):
                    receiving.place.part.close()
        died = mortal.is_dead
        there = output.exists()
        assert there or not exchanges, "where names can be exchanged it is never missing"
        assert not there or holds_version(output, number - 1) or holds_version(output, number)
        with closing(Receiving(output, keep)):
            is_new = holds_version(output, number)
            assert is_new or holds_version(output, number - 1)
            left = [name for name in names(place) if name.startswith(("out.un", "out.new"))]
            assert left == []
            assert "out.old" not in names(place)
        if is_new and keep:
            assert holds_version(place / "out.1", number - 1)
        receive(output, version(number).sample(), keep=keep)
        assert holds_version(output, number)
        if keep:
            assert holds_version(place / "out.1", number - 1)
            assert not (place / "out.3").exists()
    assert step >= 8


def test_two_receivers_of_one_folder(output: Path) -> None:
    with closing(Receiving(output)), pytest.raises(DiskError, match="another receiver"):
        Receiving(output)


def test_what_is_not_ours_is_not_cleared_away(output: Path) -> None:
    (output.parent / "out.unpacking").write_bytes(b"mine")
    with pytest.raises(DiskError, match=r"out\.unpacking: is not ours; move it away"):
        Receiving(output)
    assert (output.parent / "out.unpacking").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["out.old", "out.new"])
def test_folders_of_others_are_left_alone_where_nothing_was_published(
    output: Path, name: str
) -> None:
    # spec: FLD-8
    for folder in (name, "out.1"):
        (output.parent / folder).mkdir()
        (output.parent / folder / "file").write_text(folder)
    with pytest.raises(DiskError, match=rf"{name}: is there, and no recv put it there; move it"):
        Receiving(output)
    for folder in (name, "out.1"):
        assert (output.parent / folder / "file").read_text() == folder


def test_nothing_makes_room_for_what_is_saved_where_nothing_is_kept(output: Path) -> None:
    # spec: FLD-8
    receive(output, version(1).sample())
    for folder in ("out.old", "out.1"):
        (output.parent / folder).mkdir()
        (output.parent / folder / "file").write_text(folder)
    Receiving(output).close()
    assert (output.parent / "out.1" / "file").read_text() == "out.1"
    assert (output.parent / "out.2" / "file").read_text() == "out.old"
    assert holds_version(output, 1)


def test_no_folder_of_others_goes_to_make_room_for_what_is_kept(output: Path) -> None:
    # spec: FLD-8
    receive(output, version(1).sample())
    mine = output.parent / "out.2"
    mine.mkdir()
    (mine / "file").write_text("mine")
    receive(output, version(2).sample(), keep=1)
    assert holds_version(output.parent / "out.1", 1)
    with pytest.raises(DiskError, match=r"out\.2 is there, where --keep .* move it away"):
        Receiving(output, 2)
    receive(output, version(3).sample(), keep=1)
    assert holds_version(output.parent / "out.1", 2)
    assert (mine / "file").read_text() == "mine"


def test_a_folder_in_place_of_one_that_was_kept_is_left_alone(output: Path) -> None:
    # spec: FLD-8
    for number in (1, 2):
        receive(output, version(number).sample(), keep=1)
    kept = output.parent / "out.1"
    with closing(Receiving(output, 1)) as receiving:
        complete = receiving.collect(version(3).sample())
        kept.rename(output.parent / "elsewhere")
        kept.mkdir()
        assert complete
        with pytest.raises(DiskError, match=r"out\.1 is there.* no recv put it there"):
            receiving.publish(complete)
    assert holds_version(output, 2)
    kept.rmdir()
    (output.parent / "elsewhere").rename(kept)
    receive(output, version(3).sample(), keep=1)
    assert holds_version(kept, 2)


@pytest.mark.parametrize("name", ["out", "out.1"])
def test_a_folder_that_got_the_inode_of_one_of_ours_is_not_ours(output: Path, name: str) -> None:
    # spec: FLD-8
    keep = int(name != "out")
    for number in (1, 2):
        receive(output, version(number).sample(), keep=keep)
    mine, record = output.with_name(name), output.with_name("out.pgmlite")
    if not birth_of(mine):
        pytest.skip("the disk does not say when a folder was made")
    inode = mine.stat().st_ino
    mine.rename(output.parent / "elsewhere")
    mine.mkdir()
    (mine / "file").write_text("mine")
    # As the system does it, sooner or later, when the old one is removed.
    now = str(mine.stat().st_ino)
    old, new = (f'"kept": "{inode}:', f'"kept": "{now}:') if keep else (f" {inode},", f" {now},")
    assert old in record.read_text()
    record.write_text(record.read_text().replace(old, new))
    with pytest.raises(DiskError, match="no recv put"):
        receive(output, version(3).sample(), keep=keep)
    assert (mine / "file").read_text() == "mine"


def test_a_folder_of_others_is_not_kept_in_place_of_one_that_was(output: Path) -> None:
    # spec: FLD-8
    for number in (1, 2):
        receive(output, version(number).sample(), keep=1)
    for name in ("out.old", "out.new"):
        (output.parent / name).mkdir()
        (output.parent / name / "file").write_text(name)
    with closing(Receiving(output, 1)) as receiving:
        assert any("out.old: is a name that recv needs" in one for one in receiving.warnings)
    assert holds_version(output.parent / "out.1", 1)
    assert (output.parent / "out.2" / "file").read_text() == "out.old"
    assert (output.parent / "out.3" / "file").read_text() == "out.new"
    receive(output, version(3).sample(), keep=1)
    assert holds_version(output.parent / "out.1", 2)


def test_a_folder_of_others_does_not_come_in_place_of_one_that_is_gone(output: Path) -> None:
    # spec: FLD-8
    receive(output, version(1).sample())
    output.rename(output.parent / "elsewhere")
    (output.parent / "out.old").mkdir()
    Receiving(output).close()
    assert names(output.parent) == ["elsewhere", "out.1", "out.pgmlite"]


@pytest.mark.parametrize("keep", [0, 1])
def test_what_was_put_there_after_a_kill_is_not_replaced(output: Path, keep: int) -> None:
    # spec: FLD-8
    mortal = Mortal(2, exchanges=True)  # the record is written
    with mortal.on(), suppress(Killed):
        receive(output, version(1).sample(), keep=keep)
    assert mortal.is_dead
    assert names(output.parent) == ["out.part", "out.part.map", "out.pgmlite", "out.unpacking"]
    output.mkdir()
    (output / "file").write_text("mine")
    if keep:
        receive(output, version(2).sample(), keep=keep)
        assert (output.parent / "out.1" / "file").read_text() == "mine"
        assert holds_version(output, 2)
        return
    with pytest.raises(DiskError, match="has files that no recv put there"):
        Receiving(output)
    assert (output / "file").read_text() == "mine"


def test_a_folder_stays_ours_where_its_record_is_not_believed(output: Path) -> None:
    # spec: FLD-8
    output.parent.chmod(0o775)  # others may rename the record: no command runs because of it
    for number in (1, 2, 3):
        with closing(Receiving(output, 1)) as receiving:
            assert receiving.place.record.read() is None
            receiving.take(version(number).sample())
    assert holds_version(output, 3)
    assert holds_version(output.parent / "out.1", 2)
    with closing(Receiving(output)) as receiving:
        assert receiving.place.record.read() is None
        assert receiving.take(version(4).sample()).is_new


def test_what_a_kill_left_is_kept_when_others_are_again(output: Path) -> None:
    # spec: FLD-8
    receive(output, version(1).sample())
    mortal = Mortal(6, exchanges=True)
    with mortal.on(), suppress(Killed):
        receive(output, version(2).sample())
    assert holds_version(output, 2)
    assert holds_version(output.parent / "out.new", 1)
    receive(output, version(3).sample(), keep=2)
    assert holds_version(output, 3)
    assert holds_version(output.parent / "out.1", 2)
    assert holds_version(output.parent / "out.2", 1)


@pytest.mark.slow
def test_a_kill_where_as_many_are_kept_as_can_be(output: Path) -> None:
    # spec: FLD-8
    for number in range(MAX_FOLDERS + 1):
        receive(output, version(number).sample(), keep=MAX_FOLDERS)
    mortal = Mortal(2, exchanges=True)  # the record is written
    with mortal.on(), suppress(Killed):
        receive(output, version(MAX_FOLDERS + 1).sample(), keep=MAX_FOLDERS)
    assert mortal.is_dead
    Receiving(output, MAX_FOLDERS).close()
    assert holds_version(output, MAX_FOLDERS + 1)
    assert holds_version(output.parent / f"out.{MAX_FOLDERS}", 1)


def test_fewer_that_are_kept_and_more_again(output: Path) -> None:
    # spec: FLD-8
    for number, keep in enumerate([2, 2, 2, 1, 0, 3, 3], 1):
        receive(output, version(number).sample(), keep=keep)
        assert holds_version(output, number)
    kept = [output.parent / f"out.{number}" for number in (1, 2, 3)]
    assert [holds_version(*pair) for pair in zip(kept, (6, 5, 3), strict=True)] == [True] * 3
