"""Floors of releases: what is remembered of them, what it survives, and what is an error."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgmlite.core.trust import Floor
from pgmlite.errors import DiskError
from pgmlite.storage.floors import LOCK, FloorFiles, file_name, state_folder
from pgmlite.wire.manifest import Release
from tests.storage.test_storage import NOBODY, ordinary_user
from tests.support.parts import System

A, B = b"key of a", b"key of b"
STREAM = "example/router"
OTHER = "example/bridge"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state" / "pgmlite"


def release(number: int, stream: str = STREAM) -> Release:
    return Release(stream, number)


def floors(folder: Path, *keys: bytes) -> FloorFiles:
    return FloorFiles(folder, keys or (A,))


# Where.


def test_the_state_folder_is_the_first_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {
        "PGMLITE_STATE": "/a",
        "STATE_DIRECTORY": "/var/lib/b:/var/lib/c",
        "XDG_STATE_HOME": "/d",
    }
    wanted = ["/a", "/var/lib/b", "/d/pgmlite"]
    for name, path in zip(tuple(everything), wanted, strict=True):
        assert state_folder(everything) == Path(path)
        del everything[name]
    monkeypatch.setattr(Path, "home", lambda: Path("/home/f"))
    for relative in ({}, {"XDG_STATE_HOME": "relative"}, {"PGMLITE_STATE": ""}):
        assert state_folder(relative) == Path("/home/f/.local/state/pgmlite")


def test_without_a_home_one_is_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(DiskError, match="PGMLITE_STATE"):
        state_folder({})


# What is remembered.


def test_nothing_was_installed(state: Path) -> None:
    assert floors(state).of(STREAM) == []
    assert [path.name for path in state.iterdir()] == [LOCK]
    assert state.stat().st_mode & 0o777 == 0o700


def test_what_was_installed_is_there_the_next_time(state: Path) -> None:
    floors(state).install(release(17), 0xABC, [A])
    assert floors(state).of(STREAM) == [Floor(17, 0xABC)]
    assert floors(state).of(OTHER) == []
    (path,) = state.glob("floor-*")
    assert path.name == file_name(A, STREAM)
    assert json.loads(path.read_text()) == {
        "stream": STREAM,
        "key": A.hex(),
        "release": 17,
        "oid": "0000000000000abc",
    }
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_signer_has_a_floor_of_its_own(state: Path) -> None:
    floors(state, A, B).install(release(17), 1, [A, B])
    floors(state, A, B).install(release(3, OTHER), 2, [B])
    assert floors(state, A).of(STREAM) == floors(state, B).of(STREAM) == [Floor(17, 1)]
    assert floors(state, A).of(OTHER) == []
    assert floors(state, B).of(OTHER) == [Floor(3, 2)]
    assert floors(state, A, B).of(STREAM) == [Floor(17, 1)] * 2


def test_a_key_that_is_taken_out_takes_its_floor_along(state: Path) -> None:
    # Whoever stole a key can sign the highest number there is.
    floors(state, A, B).install(release(17), 1, [A])
    floors(state, A, B).install(release((1 << 64) - 1), 2, [B])
    assert max(one.release for one in floors(state, A, B).of(STREAM)) == (1 << 64) - 1
    assert floors(state, A).of(STREAM) == [Floor(17, 1)]


def test_who_may_read_the_folder_holds_nobody_up(state: Path) -> None:
    # spec: TRU-6
    floors(state).install(release(5), 1, [A])
    stranger = os.open(state, os.O_RDONLY)
    try:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        code = f"""
from pathlib import Path
from pgmlite.storage.floors import FloorFiles
print(FloorFiles(Path({str(state)!r}), [{A!r}]).of({STREAM!r})[0].release)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
        )
    finally:
        os.close(stranger)
    assert done.stdout == "5\n"
    assert stat.S_IMODE((state / LOCK).stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["link", "pipe", "open"])
def test_a_lock_that_others_may_hold_is_refused(state: Path, kind: str) -> None:
    state.mkdir(parents=True)
    if kind == "link":
        (state / LOCK).symlink_to(state / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(state / LOCK, 0o600)
    else:
        (state / LOCK).touch(0o644)
    with pytest.raises(DiskError, match="state folder"):
        floors(state)


def test_another_receiver_that_was_sooner_is_noticed(state: Path) -> None:
    ours, theirs = floors(state), floors(state)
    theirs.install(release(18), 2, [A])
    with pytest.raises(DiskError, match=r"17 of .* is not put in place: .* release 18") as raised:
        ours.install(release(17), 1, [A])
    assert str(state / file_name(A, STREAM)) in str(raised.value)
    with pytest.raises(DiskError, match="not put in place"):
        ours.install(release(18), 3, [A])
    ours.install(release(18), 2, [A])
    assert floors(state).of(STREAM) == [Floor(18, 2)]


def test_floors_fall_only_when_they_are_told(state: Path) -> None:
    both = floors(state, A, B)
    both.install(release(20), 1, [A, B])
    both.install(release(16), 2, [A], may_fall=True)
    assert both.of(STREAM) == [Floor(20, 1)] * 2, "the output may still be the old one"
    assert both.fall(release(16), 2) == 20
    assert floors(state, A, B).of(STREAM) == [Floor(16, 2)] * 2
    assert both.fall(release(16), 2) is None
    both.install(release(17), 3, [B])
    assert sorted(one.release for one in floors(state, A, B).of(STREAM)) == [16, 17]


# What is an error: without a floor an old release would be taken.


def spoil(state: Path, change: Callable[[Path], Any]) -> Path:
    """Install something, and change the file; return that."""
    floors(state).install(release(17), 1, [A])
    path = state / file_name(A, STREAM)
    change(path)
    return path


def with_(**fields: object) -> Callable[[Path], Any]:
    """Return what changes some fields."""
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: path.write_bytes(bytes(200)),
        lambda path: path.write_bytes(b"\xff" * 200),
        lambda path: path.write_bytes(b"[" * 4_000),
        lambda path: path.write_bytes(path.read_bytes() + b" " * 5_000),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text("17"),
        with_(release=-1),
        with_(release=1 << 64),
        with_(release=True),
        with_(release="17"),
        with_(release=17.0),
        with_(oid=17),
        with_(oid="17"),
        with_(key="00"),
        with_(key=B.hex()),
        with_(stream=OTHER),
        with_(stream=""),
        with_(stream="\ud800"),
        with_(stream="x" * 65),
        with_(more=1),
        lambda path: path.chmod(0o666),
    ],
)
def test_a_damaged_file_is_named_and_stays(state: Path, change: Callable[[Path], Any]) -> None:
    path = spoil(state, change)
    before = path.read_bytes()
    with pytest.raises(DiskError, match=r"is damaged: .*bring back a copy") as raised:
        floors(state)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == before
    assert floors(state, B).of(STREAM) == [], "those of other keys are of no concern"
    path.unlink()
    assert floors(state).of(STREAM) == []


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_something_else_in_its_place(state: Path, kind: str) -> None:
    path = spoil(state, Path.unlink)
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("/etc/hostname")
        case "pipe":
            os.mkfifo(path)
    with pytest.raises(DiskError, match=f"floor {path}: "):
        floors(state)


def test_a_file_that_cannot_be_read() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own are private
        folder = Path(name)
        folder.chmod(0o711)
        state = folder / "state"
        path = spoil(state, lambda path: path.chmod(0))
        if not os.geteuid():
            os.chown(state, NOBODY, NOBODY)
            os.chown(state / LOCK, NOBODY, NOBODY)
        with ordinary_user(), pytest.raises(DiskError, match=f"floor {path}: Permission denied"):
            floors(state)


def test_a_folder_that_cannot_be_written_is_found_out_at_the_start(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with pytest.raises(DiskError, match=f"state folder {in_the_way}/x: .*PGMLITE_STATE"):
        floors(in_the_way / "x")
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(DiskError, match="others may change the files in it"):
        floors(open_to_all)


class Failing(System):
    """Fails one call."""

    def __init__(self, failing: str, number: int) -> None:
        self._failing, self._number = failing, number

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if name == self._failing:
            raise OSError(self._number, os.strerror(self._number))
        return function(*args, **kwargs)


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_is_an_error_and_the_floor_stays(
    state: Path, call: str, number: int
) -> None:
    held = floors(state)
    held.install(release(16), 1, [A])
    with Failing(call, number).on(), pytest.raises(DiskError, match=os.strerror(number)):
        held.install(release(17), 2, [A])
    (floor,) = floors(state).of(STREAM)
    assert floor in (Floor(16, 1), Floor(17, 2)), "or the new one, whose name may not last"
    held.install(release(17), 2, [A])
    assert floors(state).of(STREAM) == [Floor(17, 2)]


def test_what_a_kill_left_is_cleared_away(state: Path) -> None:
    floors(state).install(release(16), 1, [A])
    rest = state / f"{file_name(A, STREAM)}~"
    rest.write_bytes(b"{")
    (state / "floor-check~").write_bytes(b"")
    assert floors(state).of(STREAM) == [Floor(16, 1)]
    floors(state).install(release(17), 2, [A])
    assert {path.name for path in state.iterdir()} == {file_name(A, STREAM), LOCK}
