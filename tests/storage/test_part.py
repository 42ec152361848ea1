"""The partial file: what is written, and what survives."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.core.machine import Held, Prepare, Store
from pgmlite.errors import DiskError
from pgmlite.storage import system
from pgmlite.storage.hints import HEADER, SUSPECT
from pgmlite.storage.part import PartFile
from pgmlite.wire.digests import block_digest
from pgmlite.wire.manifest import Manifest
from tests.support.builders import make_object
from tests.support.part_files import (
    SAMPLE,
    complete,
    descriptor_of,
    held_symbols,
    matches,
    open_part,
    publish,
    store,
    wanted,
)

GIB = 1 << 30
ALL = range(SAMPLE.manifest.symbols)
BLOCKS = range(SAMPLE.manifest.blocks)

# What is written.


@given(order=st.permutations(range(12)), symbols=st.integers(1, 3))
def test_part_file_matches_for_any_order(tmp_path_factory, order, symbols):
    sample = make_object(12 * 64 - 5, symbol_size=64, block_symbols=4)
    part, _ = open_part(tmp_path_factory.mktemp("part") / "out", sample)
    for symbol in order:
        run_of = sample.data[symbol * 64 : (symbol + symbols) * 64]
        part.store([[(symbol * 64, memoryview(run_of))]])
    for block in range(3):
        at = block * 256
        assert matches(part, block, sample)
        assert not part.matches(at, len(sample.data[at : at + 256]), bytes(32))
    publish(part, sample)
    assert part.output.read_bytes() == sample.data


def test_data_past_4_gib(tmp_path):
    past = Prepare(1, 4 * GIB + 64, 64)
    manifest = Manifest(64, 4_096, past.size, bytes(32), "huge")
    part = PartFile(tmp_path / "out")
    part.prepare(past)
    part.begin(manifest)
    part.store([[(4 * GIB, memoryview(b"past" * 16))], [(0, memoryview(b"head" * 16))]])
    part.close()
    assert (tmp_path / "out.part.map").stat().st_blocks < 1_000  # sparse
    (tmp_path / "out.part.map").unlink()
    part = PartFile(tmp_path / "out")  # as the next run would, without a record
    extents = part.prepare(past).extents
    assert any(start <= 4 * GIB < stop for start, stop in extents)
    assert sum(stop - start for start, stop in extents) < GIB
    assert part.matches(4 * GIB, 64, block_digest(b"past" * 16, 64))
    assert not part.matches(64, 64, block_digest(b"past" * 16, 64))
    part.close()
    with (tmp_path / "out.part").open("rb") as file:
        assert file.read(4) == b"head"
        file.seek(4 * GIB)
        assert file.read() == b"past" * 16


def test_only_what_lies_below_the_end_may_match(tmp_path):
    (tmp_path / "out.part").write_bytes(bytes(100_000))
    part = PartFile(tmp_path / "out")
    assert part.prepare(Prepare(1, 100, 64)).extents == [(0, 100)]
    assert part.prepare(Prepare(1, 0, 64)).extents == []
    part.close()


def test_the_partial_file_is_whole_symbols_long_and_the_output_is_not(tmp_path):
    # spec: RCV-7
    part, _ = open_part(tmp_path / "out")
    store(part, ALL)
    assert part.path.stat().st_size == 64 * len(ALL)
    assert all(matches(part, block) for block in BLOCKS)
    publish(part)
    assert (tmp_path / "out").read_bytes() == SAMPLE.data


def test_nothing_is_published_before_its_time(tmp_path):
    # spec: RCV-7
    output = tmp_path / "out"
    output.write_text("before")
    part, _ = open_part(output)
    store(part, ALL)
    assert output.read_text() == "before"
    part.close()
    assert output.read_text() == "before"
    assert part.path.read_bytes()[: len(SAMPLE.data)] == SAMPLE.data


def test_an_empty_partial_file_goes(tmp_path):
    part = PartFile(tmp_path / "out")
    assert part.path.exists()
    part.close()
    part.close()
    assert list(tmp_path.iterdir()) == []


def test_a_partial_file_that_is_published_before_it_is_locked_is_not_taken(tmp_path, monkeypatch):
    """Between opening and locking, the receiver before us may publish: the file is no part then."""
    first, _ = open_part(tmp_path / "out")
    store(first, ALL)
    lock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        publish(first)
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    second, _ = open_part(tmp_path / "out")
    store(second, [1])
    second.close()
    assert (tmp_path / "out").read_bytes() == SAMPLE.data


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
    part, _ = open_part(tmp_path_factory.mktemp("part") / "out", sample)

    def write(symbols: list[int]) -> None:
        octets = [(64 * n, memoryview(sample.data[64 * n : 64 * n + 64])) for n in symbols]
        for start in range(0, len(octets), at_once):
            part.store([octets[start : start + at_once]])

    def some(fd: int, pieces: list, offset: int) -> int:
        return os.pwrite(fd, b"".join(pieces)[:100], offset)

    with patch("os.pwritev", some) if short else contextlib.nullcontext():
        write([n for n in range(2_400) if n not in lost])
        for block in range(24):
            missing = not lost.isdisjoint(range(100 * block, 100 * block + 100))
            assert matches(part, block, sample) is not missing
        for n in sorted(lost):
            write([n])
    publish(part, sample)
    assert part.output.read_bytes() == sample.data


def test_store_actions_are_what_part_files_take(tmp_path):
    # Non-contiguous views come from receive buffers that could not be read in one run.
    wide = np.frombuffer(bytes(range(200)), np.uint8).reshape(2, 100)
    action = Store(1, [[(10, 1, 2)], [(70, 0, 1)]], wide[:, 40:])
    part = PartFile(tmp_path / "out")
    part.store(action.pieces())
    part.close()
    assert part.path.read_bytes()[10:] == wide[::-1, 40:].tobytes()


# What survives.


@given(symbols=st.sets(st.sampled_from(ALL)), at_once=st.integers(1, 30))
def test_every_stored_symbol_is_known_to_the_next_run(tmp_path_factory, symbols, at_once):
    # spec: RCV-8
    output = tmp_path_factory.mktemp("part") / "out"
    part, _ = open_part(output)
    order = sorted(symbols)
    for start in range(0, len(order), at_once):
        store(part, order[start : start + at_once])
    # Not closed: it was killed.
    again, held = open_part_of_the_dead(part, output)
    assert held_symbols(held) == symbols
    assert not (symbols and held.extents)
    again.close()
    part.close()


def open_part_of_the_dead(part: PartFile, output: Path) -> tuple[PartFile, Held]:
    """Open a partial file as if whoever has it open had been killed."""
    fcntl.flock(descriptor_of(part.path), fcntl.LOCK_UN)
    return open_part(output)


def test_the_record_is_of_one_object_and_one_file(tmp_path):
    output = tmp_path / "out"
    part, _ = open_part(output)
    store(part, [1, 2, 3])
    part.close()
    other = make_object(10 * 512 - 5, seed=1)
    part, held = open_part(output, other)
    assert held_symbols(held) == set()
    assert held.extents  # they may match all the same
    part.close()
    part, held = open_part(output)
    assert held_symbols(held) == {1, 2, 3}  # nothing was stored of the other
    part.close()
    data = (tmp_path / "out.part").read_bytes()
    (tmp_path / "out.part").rename(tmp_path / "elsewhere")  # whoever removes it frees its inode
    (tmp_path / "out.part").write_bytes(data)
    part, held = open_part(output)
    assert held_symbols(held) == set()
    part.close()


def test_a_record_of_blocks_of_another_length_is_written_anew(tmp_path):
    # Before the manifest comes nobody knows how long blocks are.
    output = tmp_path / "out"
    part = PartFile(output)
    part.prepare(wanted())
    store(part, [1, 9, 70])
    part.begin(SAMPLE.manifest)
    store(part, [10])
    part.close()
    values = np.frombuffer((tmp_path / "out.part.map").read_bytes()[HEADER.size :], "<u2")
    assert {int(n): int(values[n]) for n in np.flatnonzero(values)} == {1: 2, 9: 2, 10: 3, 70: 7}
    part, held = open_part(output)
    assert held_symbols(held) == {1, 9, 10, 70}
    part.close()


@given(junk=st.binary(max_size=300), keep_head=st.booleans())
@example(junk=b"", keep_head=True)
@example(junk=b"\xff" * 300, keep_head=True)
def test_a_record_of_junk_is_no_record(tmp_path_factory, junk, keep_head):
    output = tmp_path_factory.mktemp("part") / "out"
    part, _ = open_part(output)
    store(part, [1, 2, 3])
    part.close()
    record = output.with_name("out.part.map")
    record.write_bytes((record.read_bytes()[: HEADER.size] if keep_head else b"") + junk)
    part, held = open_part(output)
    known = held_symbols(held)
    assert known <= set(range(4)) or keep_head  # it may say anything, but of places that are there
    assert known <= set(ALL)
    store(part, ALL)
    assert all(matches(part, block) for block in BLOCKS)
    publish(part)
    assert output.read_bytes() == SAMPLE.data


def test_places_past_the_end_of_the_file_are_not_there(tmp_path):
    part, _ = open_part(tmp_path / "out")
    store(part, range(40))
    part.close()
    os.truncate(part.path, 20 * 64)
    part, held = open_part(tmp_path / "out")
    assert held_symbols(held) == set(range(20))
    part.close()


def test_a_disk_that_refuses_the_record_costs_the_record(tmp_path, monkeypatch):
    part, _ = open_part(tmp_path / "out")
    write = os.pwrite

    def refuse(fd: int, data: bytes, offset: int) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().suffix == ".map":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", refuse)
    store(part, ALL)
    assert "No space left" in "".join(part.warnings)
    assert all(matches(part, block) for block in BLOCKS)
    publish(part)
    assert (tmp_path / "out").read_bytes() == SAMPLE.data


# The page cache is not the disk.


def test_what_an_earlier_run_left_is_read_from_the_disk(tmp_path, monkeypatch):
    part, _ = open_part(tmp_path / "out")
    store(part, [0])
    part.close()
    done = []
    sync, advise = os.fdatasync, os.posix_fadvise
    monkeypatch.setattr(os, "fdatasync", lambda fd: done.append("sync") or sync(fd))
    monkeypatch.setattr(os, "posix_fadvise", lambda *a: done.append(a[1:]) or advise(*a))
    part = PartFile(tmp_path / "out")
    assert done[:2] == ["sync", (0, 0, os.POSIX_FADV_DONTNEED)]
    part.close()


def test_a_disk_that_failed_is_read_back_before_anything_is_published(tmp_path, monkeypatch):
    output = tmp_path / "out"
    part, _ = open_part(output)
    store(part, ALL)
    assert part.settle(complete()) == []
    with monkeypatch.context() as broken:

        def fail(fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        broken.setattr(system.os, "fdatasync", fail)
        with pytest.raises(DiskError, match="not all of it is on the disk"):
            part.publish(complete())
    part.close()
    assert not output.exists()
    record = (tmp_path / "out.part.map").read_bytes()
    assert HEADER.unpack(record[: HEADER.size])[1] == SUSPECT
    # What the disk has is not what was written: here it is changed behind the record's back.
    part, held = open_part(output)
    assert held_symbols(held) == set(ALL)
    assert all(matches(part, block) for block in BLOCKS)
    os.pwrite(descriptor_of(part.path), b"?", 5 * 512)
    assert part.settle(complete()) == [5]
    store(part, range(40, 48))
    publish(part)
    assert output.read_bytes() == SAMPLE.data


def test_media_are_verified_when_asked(tmp_path):
    part, _ = open_part(tmp_path / "out", verify_media=True)
    store(part, ALL)
    assert all(matches(part, block) for block in BLOCKS)
    part._seen = None
    os.pwrite(descriptor_of(part.path), b"?", 7 * 512)
    assert part.settle(complete()) == [7]
    store(part, range(56, 64))
    publish(part)
    assert (tmp_path / "out").read_bytes() == SAMPLE.data


def test_what_another_program_writes_is_noticed(tmp_path):
    part, _ = open_part(tmp_path / "out")
    store(part, ALL)
    assert all(matches(part, block) for block in BLOCKS)
    with part.path.open("r+b") as file:
        file.write(b"?")
    assert part.settle(complete()) == [0]
    store(part, range(8))
    assert part.settle(complete()) == []
    os.truncate(part.path, 100)
    with pytest.raises(DiskError, match="another program"):
        part.publish(complete())
    part.close()
    assert not (tmp_path / "out").exists()
