"""What a follower remembers of its output: how it is kept, and what it survives."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from pgmlite.storage.published import Published, file_name
from tests.support.parts import System

OUTPUT = "/srv/firmware.bin"


class Kept:
    """A state folder, and the warnings of who used it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[str] = []
        self.path = folder / file_name(OUTPUT)

    def open(self, most: int = 256, output: str = OUTPUT) -> Published:
        return Published(self.folder, output, most, self.warnings.append)


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path / "a" / "state")


def test_what_was_noted_is_known_the_next_time(kept):
    # spec: FOL-3
    for oid in (1, 2, (1 << 64) - 1):
        kept.open().note(oid)
    assert kept.open().oids == [1, 2, (1 << 64) - 1]
    assert json.loads(kept.path.read_text()) == {
        "output": OUTPUT,
        "oids": ["0" * 15 + "1", "0" * 15 + "2", "f" * 16],
    }
    assert (kept.folder.stat().st_mode & 0o777, kept.path.stat().st_mode & 0o777) == (0o700, 0o600)
    assert not kept.warnings


def test_each_object_is_there_once_the_latest_last_and_the_oldest_goes(kept):
    published = kept.open(most=3)
    for oid in (1, 2, 3, 1, 4):
        published.note(oid)
    assert published.oids == kept.open(most=3).oids == [3, 1, 4]
    assert kept.open(most=2).oids == [1, 4]


def test_outputs_have_files_of_their_own(kept):
    kept.open().note(1)
    assert kept.open(output="/srv/other").oids == []
    strange = os.fsdecode(b"/srv/\xff")
    kept.open(output=strange).note(2)
    assert kept.open(output=strange).oids == [2]


DAMAGED = [
    b"",
    b"{}",
    b"\xff",
    b"[" * 100_000,
    b"x" * (1 << 17),
    json.dumps({"output": "/other", "oids": []}).encode(),
    json.dumps({"output": OUTPUT, "oids": [1]}).encode(),
    json.dumps({"output": OUTPUT, "oids": ["0" * 15]}).encode(),
    json.dumps({"output": OUTPUT, "oids": ["0" * 16] * 2}).encode(),
    json.dumps({"output": OUTPUT, "oids": [], "more": 1}).encode(),
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_what_is_damaged_is_begun_anew(kept, content):
    kept.folder.mkdir(parents=True)
    kept.path.write_bytes(content)
    published = kept.open()
    assert published.oids == []
    (warning,) = kept.warnings
    assert "begun anew" in warning
    published.note(5)
    assert kept.open().oids == [5]
    assert len(kept.warnings) == 1


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_file_is_not_followed(kept, kind, tmp_path):
    kept.folder.mkdir(parents=True)
    if kind == "link":
        kept.path.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(kept.path)
    else:
        kept.path.mkdir()
    published = kept.open()
    published.note(7)
    assert published.oids == [7]
    assert kept.warnings
    assert not (tmp_path / "elsewhere").exists()


def test_what_cannot_be_written_is_a_warning(kept):
    kept.folder.parent.mkdir()
    kept.folder.write_text("in the way")
    published = kept.open()
    published.note(9)
    assert published.oids == [9]
    assert "0000000000000009" in kept.warnings[-1]


def test_without_a_folder_it_is_in_memory_alone():
    published = Published(None, OUTPUT, 9, pytest.fail)
    published.note(3)
    assert published.oids == [3]


class Killed(Exception):
    """Stands for the end of the process."""


class Deadly(System):
    """Ends the process at one of the system's calls."""

    def __init__(self, left: int) -> None:
        self.left = left

    def call(self, name, function, *args, **kwargs):
        if name in System.NAMES | System.WRITES | System.SYNCS:
            if not self.left:
                raise Killed
            self.left -= 1
        return function(*args, **kwargs)


def test_a_kill_at_any_call_leaves_the_old_or_the_new(kept):
    # spec: FOL-3
    kept.open().note(1)
    seen = set()
    for left in range(12):
        published = kept.open()
        new = random.Random(left).getrandbits(64)
        before = published.oids[:]
        try:
            with Deadly(left).on():
                published.note(new)
        except Killed:
            pass
        after = kept.open().oids
        assert after in (before, [*before, new])
        seen.add(after == before)
    assert seen == {True, False}
    assert not kept.warnings
