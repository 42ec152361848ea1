"""What is there is used: outputs that are right or nearly right, and other files."""

import os

import pytest

from pgmlite.errors import DiskError
from pgmlite.storage.part import PartFile
from tests.support.builders import make_object
from tests.support.part_files import (
    SAMPLE,
    complete,
    matches,
    open_part,
    publish,
    store,
)

ALL = range(SAMPLE.manifest.symbols)
BLOCKS = range(SAMPLE.manifest.blocks)


def test_an_output_that_is_right_stays_what_it_is(tmp_path):
    # spec: RCV-8
    output = tmp_path / "out"
    output.write_bytes(SAMPLE.data)
    before = output.stat()
    part, held = open_part(output)
    assert held.extents == [(0, len(SAMPLE.data))]
    assert all(matches(part, block) for block in BLOCKS)
    assert part.path.stat().st_size == 0
    assert not publish(part)
    assert part.reused == len(SAMPLE.data)
    after = output.stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_left_of_the_object_goes_when_the_output_is_right_and_of_another_stays(tmp_path):
    output, other = tmp_path / "out", make_object(10 * 512 - 5, seed=1)
    part, _ = open_part(output, other)
    store(part, [5], other)
    part.close()
    output.write_bytes(SAMPLE.data)
    for sample in (SAMPLE, other):
        output.write_bytes(sample.data)
        part, _ = open_part(output, sample)
        assert all(matches(part, block, sample) for block in BLOCKS)
        assert not publish(part, sample)
        assert part.path.exists() is (sample is SAMPLE)


@pytest.mark.parametrize("change", ["first", "last", "longer", "shorter"])
def test_an_output_that_is_nearly_right_is_a_seed(tmp_path, change):
    output, data = tmp_path / "out", bytearray(SAMPLE.data)
    match change:
        case "first":
            data[3] ^= 1
        case "last":
            data[-3] ^= 1
        case "longer":
            data += b"more"
        case "shorter":
            del data[-100:]
    output.write_bytes(data)
    part, _ = open_part(output)
    absent = [block for block in BLOCKS if not matches(part, block)]
    assert absent == {"first": [0], "last": [9], "longer": [], "shorter": [9]}[change]
    for block in absent:
        store(part, [n for n in ALL if n // 8 == block])
    assert publish(part)
    assert output.read_bytes() == SAMPLE.data
    assert part.reused == len(SAMPLE.data) - sum(len(SAMPLE.data[512 * b :][:512]) for b in absent)


def test_bases_are_seeds_too(tmp_path):
    bases = [tmp_path / "old", tmp_path / "older"]
    bases[0].write_bytes(SAMPLE.data[: 5 * 512] + b"?" * 2_000)
    bases[1].write_bytes(b"?" * 5 * 512 + SAMPLE.data[5 * 512 :])
    part, _ = open_part(tmp_path / "out", bases=bases)
    assert all(matches(part, block) for block in BLOCKS)
    publish(part)
    assert (tmp_path / "out").read_bytes() == SAMPLE.data


def test_a_base_that_can_not_be_read_leaves_nothing_behind(tmp_path):
    for base in (tmp_path / "missing", tmp_path):
        with pytest.raises(DiskError, match=f"^base {base}"):
            PartFile(tmp_path / "out", bases=[base])
    assert list(tmp_path.iterdir()) == []


def test_a_seed_that_changes_after_it_was_hashed_spoils_nothing(tmp_path):
    output = tmp_path / "out"
    output.write_bytes(SAMPLE.data)
    part, _ = open_part(output)
    assert all(matches(part, block) for block in BLOCKS)
    with output.open("r+b") as file:
        file.seek(3 * 512)
        file.write(b"?")
    assert part.settle(complete()) == [3]
    store(part, range(24, 32))
    assert publish(part)
    assert output.read_bytes() == SAMPLE.data


def test_an_output_of_replay_is_no_seed(tmp_path):
    output = tmp_path / "out"
    output.write_bytes(SAMPLE.data)
    part, held = open_part(output, output_is_seed=False)
    assert not held.lying
    assert not held.extents
    store(part, ALL)
    assert publish(part)


def test_a_disk_without_room_for_a_copy_is_no_matter_if_nothing_is_copied(tmp_path, monkeypatch):
    output = tmp_path / "out"
    output.write_bytes(SAMPLE.data)
    disk = os.statvfs_result((4096, 4096, 100, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda fd: disk)
    part, _ = open_part(output)
    # spec: RCV-17
    size = len(SAMPLE.data)
    assert [part.has_room(one) for one in (0, 1, size, size + 1)] == [True, False, True, False]
    assert all(matches(part, block) for block in BLOCKS)
    assert not publish(part)
    output.write_bytes(b"?" + SAMPLE.data[1:])
    part, _ = open_part(output)
    assert not matches(part, 0)
    with pytest.raises(DiskError, match="0 free"):
        store(part, [0])
    part.close()
