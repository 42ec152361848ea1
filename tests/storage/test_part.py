"""The partial file: what is written, what survives, what is used, and what is published."""

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.core.machine import Complete, Held, Prepare, Store
from pgmlite.errors import DiskError
from pgmlite.storage import system
from pgmlite.storage.folder import resolve_output
from pgmlite.storage.hints import HEADER, SUSPECT
from pgmlite.storage.part import PartFile
from pgmlite.storage.system import LONGEST_NAME, beside
from pgmlite.wire.control import Manifest
from pgmlite.wire.digests import block_digest
from tests.support.builders import Sample, make_object

GIB = 1 << 30
SAMPLE = make_object(10 * 512 - 5)  # 10 blocks of 8 symbols of 64 bytes; the last symbol is short
STRANGER = 65_534


def wanted(sample: Sample = SAMPLE) -> Prepare:
    manifest = sample.manifest
    return Prepare(manifest.oid, manifest.size, manifest.symbol_size)


def complete(sample: Sample = SAMPLE) -> Complete:
    return Complete(sample.manifest, sample.tree.digests)


def open_part(output: Path, sample: Sample = SAMPLE, **how) -> tuple[PartFile, Held]:
    """Open the partial file of a receiver that has the manifest."""
    part = PartFile(output, **how)
    held = part.prepare(wanted(sample))
    part.begin(sample.manifest)
    return part, held


def store(part: PartFile, symbols, sample: Sample = SAMPLE) -> None:
    """Write symbols, each in its place."""
    size = sample.manifest.symbol_size
    part.store([[(size * n, memoryview(sample.data[size * n : size * n + size]))] for n in symbols])


def matches(part: PartFile, block: int, sample: Sample = SAMPLE) -> bool:
    """Whether a block is there."""
    size = sample.manifest.block_size
    length = min(size, sample.manifest.size - block * size)
    return part.matches(block * size, length, sample.tree.digests[32 * block : 32 * block + 32])


def publish(part: PartFile, sample: Sample = SAMPLE) -> bool:
    assert part.settle(complete(sample)) == []
    is_new = part.publish(complete(sample))
    part.close()
    return is_new


def held_symbols(held: Held) -> set[int]:
    return {first + int(n) for first, flags in held.symbols for n in np.flatnonzero(flags)}


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
    action = Store([[(10, 1, 2)], [(70, 0, 1)]], wide[:, 40:])
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
    fcntl.flock(part._fd, fcntl.LOCK_UN)
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
    os.pwrite(part._fd, b"?", 5 * 512)
    assert part.settle(complete()) == [5]
    store(part, range(40, 48))
    publish(part)
    assert output.read_bytes() == SAMPLE.data


def test_media_are_verified_when_asked(tmp_path):
    part, _ = open_part(tmp_path / "out", verify_media=True)
    store(part, ALL)
    assert all(matches(part, block) for block in BLOCKS)
    part._seen = None
    os.pwrite(part._fd, b"?", 7 * 512)
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


# What is there is used.


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
    assert not held.symbols
    assert not held.extents
    store(part, ALL)
    assert publish(part)


def test_a_disk_without_room_for_a_copy_is_no_matter_if_nothing_is_copied(tmp_path, monkeypatch):
    output = tmp_path / "out"
    output.write_bytes(SAMPLE.data)
    disk = os.statvfs_result((4096, 4096, 100, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda fd: disk)
    part, _ = open_part(output)
    assert all(matches(part, block) for block in BLOCKS)
    assert not publish(part)
    output.write_bytes(b"?" + SAMPLE.data[1:])
    part, _ = open_part(output)
    assert not matches(part, 0)
    with pytest.raises(DiskError, match="0 free"):
        store(part, [0])
    part.close()


# What is published.


def test_replacing_keeps_mode_and_owner(tmp_path):
    output = tmp_path / "out"
    output.write_bytes(b"old")
    output.chmod(0o640)
    if not os.geteuid():
        os.chown(output, STRANGER, STRANGER)
        tmp_path.chmod(0o755)
    before = output.stat()
    part, _ = open_part(output)
    assert stat.S_IMODE(part.path.stat().st_mode) == 0o600
    store(part, ALL)
    publish(part)
    after = output.stat()
    assert after.st_mode == before.st_mode
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


def test_a_new_output_has_the_usual_mode(tmp_path):
    mask = os.umask(0o027)
    try:
        part, _ = open_part(tmp_path / "out")
    finally:
        os.umask(mask)
    store(part, ALL)
    publish(part)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_a_privilege_is_not_passed_on(tmp_path):
    # The content comes from the network, and the new file may belong to somebody else.
    output = tmp_path / "out"
    output.write_bytes(b"old")
    output.chmod(0o4755)
    part, _ = open_part(output)
    store(part, ALL)
    publish(part)
    assert output.stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("shared", [False, True])
def test_a_strangers_output_is_kept_his_only_where_nobody_lays_files(tmp_path, shared):
    if os.geteuid():
        pytest.skip("only root gives files away")
    folder = tmp_path / "folder"
    folder.mkdir()
    output = folder / "out"
    output.write_bytes(SAMPLE.data)
    output.chmod(0o666)
    os.chown(output, STRANGER, STRANGER)
    folder.chmod(0o1777 if shared else 0o755)
    part, _ = open_part(output)
    assert all(matches(part, block) for block in BLOCKS)
    assert publish(part) is shared
    assert output.read_bytes() == SAMPLE.data
    assert (output.stat().st_uid == STRANGER) is not shared
    assert bool(output.stat().st_mode & 0o022) is not shared


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "deep").mkdir()
    target = tmp_path / "deep" / "real"
    target.write_bytes(b"old")
    (tmp_path / "between").symlink_to("deep/real")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "between")
    part, _ = open_part(link)
    assert part.path == tmp_path / "deep" / "real.part"
    store(part, ALL)
    publish(part)
    assert link.is_symlink()
    assert target.read_bytes() == SAMPLE.data
    assert link.read_bytes() == SAMPLE.data


def test_a_link_to_what_is_not_there_yet(tmp_path):
    (tmp_path / "link").symlink_to("real")
    part, _ = open_part(tmp_path / "link")
    store(part, ALL)
    publish(part)
    assert (tmp_path / "real").read_bytes() == SAMPLE.data
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("output", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/null"])
def test_devices_and_open_files_are_no_outputs(output):
    with pytest.raises(DiskError, match=output):
        resolve_output(Path(output))


def test_a_link_to_an_open_file_is_no_output(tmp_path):
    with (tmp_path / "open").open("w") as file:
        (tmp_path / "link").symlink_to(f"/proc/self/fd/{file.fileno()}")
        with pytest.raises(DiskError, match="another program has open"):
            resolve_output(tmp_path / "link")


def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(DiskError, match="too many links"):
        resolve_output(tmp_path / "a")


@pytest.mark.parametrize("name", ["x" * 255, "x" * 247, "x" * 251, "\u00fc" * 127, "\u20ac" * 85])
def test_long_names(tmp_path, name):
    output = tmp_path / name
    part, _ = open_part(output)
    store(part, [1])
    part.close()
    part, held = open_part(output)
    assert held_symbols(held) == {1}
    store(part, ALL)
    publish(part)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert output.read_bytes() == SAMPLE.data


@given(names=st.lists(st.text(min_size=1, max_size=255), min_size=2, max_size=2, unique=True))
def test_names_beside_are_legal_and_never_shared(names):
    found = set()
    for name in names:
        raw = name.encode(errors="ignore")[:LONGEST_NAME].decode(errors="ignore")
        raw = raw.replace("/", "-").replace("\0", "-").strip(".") or "x"
        found.add((raw, beside(Path("/folder") / raw, ".part.map").name))
    assert all(len(os.fsencode(other)) <= LONGEST_NAME for _, other in found)
    assert all(other.endswith(".part.map") for _, other in found)
    assert len({other for _, other in found}) == len({raw for raw, _ in found})


@pytest.mark.parametrize("kind", ["link", "hard link", "writable", "folder", "fifo", "stranger"])
@pytest.mark.parametrize("suffix", [".part", ".part.map"])
def test_what_is_not_ours_is_not_used(tmp_path, kind, suffix):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    laid = tmp_path / f"out{suffix}"
    match kind:
        case "link":
            laid.symlink_to(victim)
        case "hard link":
            laid.hardlink_to(victim)
        case "writable":
            laid.write_bytes(b"his")
            laid.chmod(0o666)
        case "folder":
            laid.mkdir()
        case "fifo":
            os.mkfifo(laid)
        case "stranger":
            if os.geteuid():
                pytest.skip("only root gives files away")
            laid.write_bytes(b"his")
            os.chown(laid, STRANGER, STRANGER)
    if suffix == ".part":
        with pytest.raises(DiskError, match=r"out\.part"):
            PartFile(tmp_path / "out")
    else:  # without a record it works all the same
        part, _ = open_part(tmp_path / "out")
        store(part, ALL)
        assert "no record" in part.warnings[0]
        publish(part)
        assert (tmp_path / "out").read_bytes() == SAMPLE.data
    assert victim.read_bytes() == b"precious"
    assert os.path.lexists(laid)


@pytest.mark.parametrize("way", ["renamed", "exchanged", "room taken", "by name"])
def test_it_is_the_descriptor_that_is_published(tmp_path, way, monkeypatch):
    output = tmp_path / "out"
    if way == "by name":  # file systems that open no folders
        opened = os.open

        def refuse(path, flags, *how, **where):
            if flags & os.O_DIRECTORY:
                raise OSError(errno.EACCES, "Permission denied")
            return opened(path, flags, *how, **where)

        monkeypatch.setattr(os, "open", refuse)
    part, _ = open_part(output)
    store(part, ALL)
    assert part.settle(complete()) == []
    if way in ("renamed", "exchanged"):
        part.path.rename(tmp_path / "away")
    if way == "exchanged":
        part.path.write_bytes(b"his")
    if way == "room taken":
        (tmp_path / "out.part.d").mkdir(mode=0o777)
        (tmp_path / "out.part.d").chmod(0o777)
    part.publish(complete())
    part.close()
    assert output.read_bytes() == SAMPLE.data
    if way == "exchanged":
        assert part.path.read_bytes() == b"his"


def test_a_partial_file_that_was_removed_is_not_published(tmp_path):
    part, _ = open_part(tmp_path / "out")
    store(part, ALL)
    part.path.unlink()
    part.path.write_bytes(b"his")
    assert part.settle(complete()) == []
    with pytest.raises(DiskError, match="another"):
        part.publish(complete())
    part.close()
    assert part.path.read_bytes() == b"his"
    assert not (tmp_path / "out").exists()


def test_what_a_killed_publication_left_is_brought_back(tmp_path):
    part, _ = open_part(tmp_path / "out")
    store(part, ALL)
    part.close()
    room = tmp_path / "out.part.d"
    room.mkdir(mode=0o700)
    part.path.rename(room / "file")
    part, held = open_part(tmp_path / "out")
    assert held_symbols(held) == set(ALL)
    assert not room.exists()
    publish(part)
    assert (tmp_path / "out").read_bytes() == SAMPLE.data


def test_the_new_output_is_told_of_before_it_is_one(tmp_path):
    output, told = tmp_path / "out", []

    def before(status: os.stat_result) -> None:
        assert not output.exists()
        told.append(status)

    part, _ = open_part(output, before_rename=before)
    store(part, ALL)
    publish(part)
    (status,), found = told, output.stat()
    for name in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_mode"):
        assert getattr(status, name) == getattr(found, name)
