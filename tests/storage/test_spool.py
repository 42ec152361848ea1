"""Partial files in a spool folder: one an object, and each block that is verified is told of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgmlite.core.machine import Prepare
from pgmlite.errors import DiskError
from pgmlite.storage import spool
from pgmlite.storage.spool import MOST_LEFT, SpoolPart, spool_folder
from tests.support.builders import make_object
from tests.support.piping import Noted, blocks, complete, fill_in, prepare

SAMPLE = make_object(5 * 512 + 100)
OFFSETS = [one.offset for one in blocks(SAMPLE)]


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def part(tmp_path: Path, noted: Noted) -> Iterator[SpoolPart]:
    part = SpoolPart(tmp_path, noted)
    yield part
    part.close()


def name_of(sample=SAMPLE) -> str:
    return f"{sample.manifest.oid:016x}.part"


def parts(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if one.name.endswith(".part"))


def test_before_an_object_begins_there_is_nothing(part: SpoolPart, tmp_path: Path) -> None:
    assert part.path == tmp_path
    assert list(tmp_path.iterdir()) == []
    part.idle()
    assert part.has_room(1)


def test_each_verified_block_is_told_of(part: SpoolPart, noted: Noted, tmp_path: Path) -> None:
    # spec: RCV-26
    prepare(part, SAMPLE)
    assert part.path == tmp_path / name_of()
    assert noted.begun == [part.path]
    fill_in(part, SAMPLE, [2, 0, 1])
    assert noted.told == [(OFFSETS[n], False) for n in (2, 0, 1)]
    assert not part.matches(OFFSETS[3], 512, blocks(SAMPLE)[3].digest)
    assert len(noted.told) == 3


def test_what_is_spoilt_is_to_be_fetched_again(part: SpoolPart, noted: Noted) -> None:
    # spec: RCV-26
    prepare(part, SAMPLE)
    fill_in(part, SAMPLE)
    assert part.settle(complete(SAMPLE)) == []
    noted.spoilt = [blocks(SAMPLE)[n] for n in (4, 1)]
    assert part.settle(complete(SAMPLE)) == [1, 4]


def test_the_next_run_has_what_this_one_stored(
    part: SpoolPart, noted: Noted, tmp_path: Path
) -> None:
    # spec: RCV-26
    prepare(part, SAMPLE)
    fill_in(part, SAMPLE, [0, 1, 4])
    part.close()
    again = SpoolPart(tmp_path, noted)
    manifest = SAMPLE.manifest
    held = again.prepare(Prepare(manifest.oid, manifest.size, manifest.symbol_size))
    assert sum(int((lying != 0).sum()) for _, lying in held.lying) == 24
    again.begin(manifest)
    noted.told.clear()
    assert again.matches(OFFSETS[4], 512, blocks(SAMPLE)[4].digest)
    assert noted.told == [(OFFSETS[4], False)]
    again.close()


def test_the_end_removes_the_partial_file_and_its_record(part: SpoolPart, tmp_path: Path) -> None:
    prepare(part, SAMPLE)
    fill_in(part, SAMPLE)
    assert len(list(tmp_path.iterdir())) == 2
    part.remove()
    assert list(tmp_path.iterdir()) == []


def test_another_object_leaves_the_one_before_if_it_was_announced(
    part: SpoolPart, noted: Noted, tmp_path: Path
) -> None:
    samples = [make_object(600, seed=seed) for seed in range(3 + MOST_LEFT)]
    for sample in samples[:2]:
        prepare(part, sample)
        fill_in(part, sample, [0])
    prepare(part, samples[2], announced=False)
    part.store([[(0, memoryview(bytes(64)))]])
    prepare(part, samples[0])
    assert noted.ended == 3
    assert parts(tmp_path) == sorted(map(name_of, samples[:2])), "of samples[2] there is nothing"
    for sample in samples[3:]:
        prepare(part, sample)
        fill_in(part, sample, [0])
    # Strangers that announce one after the other must not fill the disk.
    assert len(parts(tmp_path)) <= MOST_LEFT + 1


def test_two_receivers_of_one_object(part: SpoolPart, tmp_path: Path) -> None:
    prepare(part, SAMPLE)
    other = SpoolPart(tmp_path, Noted())
    with pytest.raises(DiskError, match="another receiver is writing it"):
        prepare(other, SAMPLE)
    prepare(other, make_object(600))  # of another object there may be one
    other.close()


def test_room_is_the_disks_and_that_of_what_lies_there(
    part: SpoolPart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: RCV-17
    prepare(part, SAMPLE)
    fill_in(part, SAMPLE)
    held = os.stat(part.path).st_blocks * 512

    class Full:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        @staticmethod
        def statvfs(path: Path) -> os.statvfs_result:
            return os.statvfs_result((1, 1, *([0] * 8)))

    monkeypatch.setattr(spool, "os", Full())
    assert part.has_room(held)
    assert not part.has_room(held + 1)
    assert part.has_room_for(SAMPLE.manifest)
    assert not part.has_room_for(make_object(600).manifest)


def test_the_folder_is_looked_at_before_anything_comes(tmp_path: Path) -> None:
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.touch()
    for wrong, words in ((missing, "No such file"), (file, "is no folder")):
        with pytest.raises(DiskError, match=words) as caught:
            spool_folder(wrong, {})
        assert caught.value.cause == "spool"
        assert str(wrong) in str(caught.value)
    assert spool_folder(tmp_path, {}) == tmp_path
    assert spool_folder(None, {"TMPDIR": str(tmp_path)}) == tmp_path
    assert spool_folder(None, {"TMPDIR": ""}) == Path("/var/tmp")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file"]


@pytest.mark.lab
def test_a_folder_that_can_not_be_written() -> None:
    with pytest.raises(DiskError, match="name a folder that can be written"):
        spool_folder(Path("/proc/self"), {})


def test_a_base_that_is_none_is_found_out_at_once(tmp_path: Path, noted: Noted) -> None:
    with pytest.raises(DiskError, match=r"base .*none: No such file"):
        SpoolPart(tmp_path, noted, bases=[tmp_path / "none"])
    base = tmp_path / "base"
    base.write_bytes(SAMPLE.data)
    part = SpoolPart(tmp_path, noted, bases=[base])
    prepare(part, SAMPLE)
    for offset, length, _, digest in blocks(SAMPLE):
        assert part.matches(offset, length, digest)
    assert (len(noted.told), part.reused) == (6, len(SAMPLE.data))
    part.close()
