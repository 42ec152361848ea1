"""Partial files with repair symbols in their holes: what is stored, decoded, put in place."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core.decode import Decoded
from pgmlite.core.machine import LYING, Prepare
from pgmlite.errors import DiskError
from pgmlite.storage import hints, writeback
from pgmlite.storage.folder import Folder
from tests.support.flushes import Clock, Syncs
from tests.support.mixed_parts import NAMES, SAMPLE, Filled, Name, held_places
from tests.support.part_files import complete, descriptor_of, wanted
from tests.support.parts import Run, System, name_of

BLOCKS = range(SAMPLE.manifest.blocks)


def enough(filled: Filled, rng: Random, more: int = 6) -> None:
    """Let symbols come until every block has some more than it needs."""
    for block in BLOCKS:
        names = [name for name in NAMES if name[0] == block and not filled.is_held(name)]
        lacks = filled.geometry.source(block) + more - filled.have(block)
        filled.give(rng.sample(names, max(0, lacks)), rng)


def finish(filled: Filled, rng: Random) -> None:
    """Decode all blocks, with as many symbols more as it takes."""
    for block in BLOCKS:
        while (decoded := filled.decode(block)).lacks:
            names = [name for name in NAMES if name[0] == block and not filled.is_held(name)]
            filled.give(rng.sample(names, decoded.lacks), rng)
        assert decoded.ok


# What is stored, and survives.

batches = st.lists(st.sets(st.sampled_from(NAMES), min_size=1, max_size=30), max_size=6)


@pytest.mark.slow
@given(batches=batches, seed=st.integers(0, 1 << 32))
@settings(max_examples=150)
def test_any_symbols_in_any_places_survive_and_decode(
    tmp_path_factory: pytest.TempPathFactory, batches: list[set[Name]], seed: int
) -> None:
    # spec: RCV-8
    output, rng = tmp_path_factory.mktemp("part") / "out", Random(seed)
    filled = Filled(output)
    for names in batches:
        filled.give(sorted(names), rng)
        filled.check()
        lying = {int(n): int(filled.lying[n]) for n in np.flatnonzero(filled.lying)}
        if rng.random() < 0.3:
            filled.part.close()
            filled = Filled(output)  # without what had no place
            assert held_places(filled.held) == lying
            assert not filled.held.extents
    enough(filled, rng)
    finish(filled, rng)
    filled.check()
    assert filled.publish() == SAMPLE.data


class Killed(Exception):
    """The process is gone."""


@given(seed=st.integers(0, 1 << 32), cut=st.integers(0, 40))
def test_a_kill_at_any_call_leaves_no_symbol_another_ones_name(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cut: int
) -> None:
    """While symbols are stored, decoded and put in place; what was recorded is still there."""

    class Cut(System):
        left = cut

        def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if name in self.WRITES:
                self.left -= 1
                if self.left < 0:
                    raise Killed
            return super().call(name, function, *args, **kwargs)

    output, rng = tmp_path_factory.mktemp("part") / "out", Random(seed)
    filled = Filled(output)
    before = filled.lying.copy()
    try:
        with Cut().on():
            for _ in range(3):
                filled.give(rng.sample(NAMES, 20), rng)
                before = filled.lying.copy()
            enough(filled, rng)
            before = filled.lying.copy()
            finish(filled, rng)
            before = filled.lying.copy()
    except Killed:
        pass
    filled.part.close()
    again = Filled(output)
    again.check()
    lost = (before != 0) & (again.lying == 0)
    blocks = {again.geometry.block_of(int(place)) for place in np.flatnonzero(lost)}
    assert len(blocks) <= 1  # what was about to give way
    enough(again, rng)
    finish(again, rng)
    assert again.publish() == SAMPLE.data


@given(steps=st.lists(st.sampled_from(["give", "flush", "kill", "boot", "decode"]), max_size=12))
def test_after_a_boot_only_what_was_flushed_is_believed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """In a system that has written all of it by then."""
    # spec: RCV-8
    output, clock, boots, rng = tmp_path_factory.mktemp("part") / "out", Clock(), 0, Random(1)
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(writeback, "time", clock)
        patches.setattr(hints, "boot_id", lambda: boots.to_bytes(16))
        filled = Filled(output)
        flushed = filled.lying.copy()
        for step in [*steps, "boot"]:
            if step == "give":
                filled.give(rng.sample(NAMES, 15), rng)
            elif step == "flush":
                clock.now += 5
                filled.part.write_back.idle()
                filled.part.write_back.wait()
                flushed = filled.lying.copy()
            elif step == "decode":
                block = rng.choice(BLOCKS)
                if filled.have(block) > 20 and filled.decode(block).ok:
                    span = filled.span(block)
                    gone = flushed[span] != filled.lying[span]
                    flushed[span][gone] = 0
            else:
                filled.part.close()
                boots += step == "boot"
                before = filled.lying
                filled = Filled(output)
                wanted = flushed if step == "boot" else before
                assert (filled.lying == wanted).all()
                flushed = filled.lying.copy()  # the next run sees to that
                filled.check()
        filled.part.close()


def test_a_kill_while_a_block_is_copied_leaves_no_symbol_another_ones_name(tmp_path: Path) -> None:
    class Cut(System):
        is_copied = False

        def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if self.is_copied and name == "pwrite":
                raise Killed
            self.is_copied |= name == "copy_file_range"
            return super().call(name, function, *args, **kwargs)

    base = tmp_path / "base"
    base.write_bytes(SAMPLE.data)
    filled = Filled(tmp_path / "out", bases=[base])
    filled.give([(0, 30), (1, 31)], Random(0))
    with Cut().on(), pytest.raises(Killed):
        filled.part.matches(0, 1280, SAMPLE.tree.digests[:32])
    filled.part.close()
    again = Filled(tmp_path / "out")
    again.check()
    assert (again.have(0), again.have(1)) == (0, 1)
    again.part.close()


def test_a_block_that_is_put_in_place_counts_whole_for_the_next_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: Syncs
) -> None:
    """Until then the record on the disk may have other symbols in it."""
    # spec: RCV-15
    monkeypatch.setattr(writeback, "FLUSH_BYTES", 20 * 64 + 1280)
    filled = Filled(tmp_path / "out")
    syncs.seen.clear()
    filled.give([(0, esi) for esi in range(4, 30)], Random(0))
    filled.part.write_back.join()
    assert not syncs.seen
    assert filled.decode(0).ok
    filled.part.write_back.join()
    assert "out.part" in syncs.seen
    filled.part.close()


def test_symbols_of_blocks_of_another_length_are_nothing(tmp_path: Path) -> None:
    """Of a record that names blocks of another length only what lies in its own place counts."""
    record = hints.Hints(Folder(tmp_path), "map")
    record.own(os.stat(tmp_path))
    of = wanted(SAMPLE)
    record.group(20)
    record.note(of, [(0, 4), (41, 43)], np.array([1, 30, 3, 25, 2, 1], LYING))
    record.group(16)
    (held,) = [held_places(one) for one in [record.load(of, 56)] if one]
    assert held == {0: 1, 2: 3, 41: 41 % 16 + 1}
    record.close()


def test_a_block_that_is_found_right_has_its_own_symbols(tmp_path: Path) -> None:
    """Whatever the record said that lies there."""
    output, rng = tmp_path / "out", Random(0)
    filled = Filled(output)
    filled.give([(0, esi) for esi in range(30, 50)], rng)
    os.pwrite(descriptor_of(filled.part.path), SAMPLE.data[: 20 * 64], 0)
    assert filled.part.matches(0, 20 * 64, SAMPLE.tree.digests[:32])
    filled.part.close()
    assert held_places(Filled(output).held) == {n: n + 1 for n in range(20)}


def test_what_comes_before_the_manifest_is_not_written_over_other_symbols(tmp_path: Path) -> None:
    """Source symbols that the record has elsewhere would be there twice, and others no more."""
    # spec: RCV-8
    filled = Filled(tmp_path / "out")
    filled.give([(0, 30)], Random(0))
    (place,) = np.flatnonzero(filled.lying).tolist()
    filled.strays = 1
    filled.give([(0, place)], Random(0))
    filled.part.close()
    lying = {n: int(filled.lying[n]) for n in np.flatnonzero(filled.lying).tolist()}
    with Run(tmp_path / "out") as run:
        run.give(SAMPLE.odata([place]))
        assert run.machine.counters.early == 1
        run.announce(SAMPLE)
        assert run.machine.progress == (2, 56)
        run.give(SAMPLE.odata([place]))
        assert run.machine.counters.duplicates == 1
    assert held_places(Filled(tmp_path / "out").held) == lying


# What is decoded.


class Calls(System):
    """Counts what is read."""

    def __init__(self) -> None:
        self.reads = 0

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.reads += name == "preadv"
        return super().call(name, function, *args, **kwargs)


def test_nothing_is_read_of_a_block_that_lacks_symbols(tmp_path: Path) -> None:
    filled = Filled(tmp_path / "out")
    filled.give([(0, esi) for esi in range(30, 48)], Random(0))
    with Calls().on() as calls:
        decoded = filled.decode(0)
    assert (decoded.lacks, decoded.ok, calls.reads) == (2, False, 0)
    filled.part.close()


def test_only_places_that_have_other_symbols_are_written(tmp_path: Path) -> None:
    filled = Filled(tmp_path / "out")
    filled.strays = 0
    filled.give([(1, esi) for esi in range(20) if esi not in (3, 7, 8)], Random(0))
    filled.give([(1, esi) for esi in range(20, 30)], Random(0))
    decoded = filled.decode(1)
    assert decoded.ok
    assert decoded.places.tolist() == [3, 7, 8]
    filled.check()
    filled.part.close()


def test_symbols_that_only_lie_elsewhere_are_moved(tmp_path: Path) -> None:
    filled = Filled(tmp_path / "out")
    filled.lying[16:20] = 99  # not free
    filled.give([(0, esi) for esi in (19, 18)], Random(3))
    filled.lying[16:20] = 0
    filled.give([(0, esi) for esi in range(20)], Random(1))
    assert filled.decode(0).ok
    filled.check()
    filled.part.close()


# Forgers.


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=30)
def test_forged_symbols_are_found_among_enough_others(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    output, rng = tmp_path_factory.mktemp("part") / "out", Random(seed)
    filled = Filled(output)
    forged = rng.sample(range(filled.geometry.ring(0)), 3)
    others = [(0, esi) for esi in range(filled.geometry.ring(0)) if esi not in forged]
    filled.give([(0, esi) for esi in forged], rng, forged=True)
    filled.give(rng.sample(others, 20 + 21), rng)
    decoded = filled.decode(0, is_search=True)
    assert decoded.ok
    assert set(decoded.forged) == set(forged)
    filled.check()
    filled.part.close()
    assert held_places(Filled(output).held) == {n: n + 1 for n in range(20)}


def test_a_strip_that_had_a_forged_symbol_is_looked_at_anew(tmp_path: Path) -> None:
    filled, rng = Filled(tmp_path / "out"), Random(0)
    filled.strays = 0
    filled.give([(0, esi) for esi in range(7)], rng)
    filled.give([(0, 7)], rng, forged=True)
    filled.give([(0, esi) for esi in range(8, 42)], rng)
    digest = SAMPLE.tree.digests[:32]
    assert filled.decode(0, is_search=True).places.tolist() == [7]
    assert filled.part.matches(0, 1280, digest)
    filled.part.close()


def test_what_is_forged_is_forgotten(tmp_path: Path) -> None:
    """Also when what is left is too little."""
    output, rng = tmp_path / "out", Random(0)
    filled = Filled(output)
    filled.give([(0, 5), (0, 30)], rng, forged=True)
    filled.give([(0, esi) for esi in range(40, 58)], rng)
    filled.give([(0, esi) for esi in range(58, 80)], rng)
    action = filled.action(0, is_search=True)
    decoded = Decoded(action, lacks=3, forged=(5, 30))
    assert not filled.part.place(decoded)
    filled.part.close()
    names = {value - 1 for value in held_places(Filled(output).held).values()}
    assert names == set(range(40, 58))


def test_a_block_in_which_nothing_can_be_told_is_forgotten(tmp_path: Path) -> None:
    output, rng = tmp_path / "out", Random(0)
    filled = Filled(output)
    filled.give([(0, esi) for esi in range(20, 45)], rng, forged=True)
    filled.give([(0, esi) for esi in range(45, 60)], rng)
    filled.give([(1, 5), (1, 33)], rng)
    assert not filled.decode(0).ok
    filled.part.close()
    filled = Filled(output)
    assert filled.have(0) == 20  # more may come yet
    filled.give([(0, esi) for esi in range(45, 70)], rng)
    decoded = filled.decode(0, is_search=True)
    assert (decoded.ok, decoded.forged) == (False, ())
    filled.part.close()
    filled = Filled(output)
    assert (filled.have(0), filled.have(1)) == (0, 2)
    filled.part.close()


# Disks that refuse, and other programs.


class Unreadable(System):
    """A disk that does not give back what is in the partial file, some times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if name == "preadv" and name_of(args[0]) == "out.part" and self.left:
            self.left -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().call(name, function, *args, **kwargs)


def test_a_block_that_can_not_be_read_is_fetched_again_once(tmp_path: Path) -> None:
    output, rng = tmp_path / "out", Random(0)
    filled = Filled(output)
    filled.give([(0, esi) for esi in range(3, 26)], rng)
    with Unreadable(1).on():
        decoded = filled.decode(0)
    lying = filled.lying[:20]
    assert set(decoded.forged) == set((lying - 1).tolist())
    assert "fetching it again" in "".join(filled.part.warnings)
    assert filled.part.write_back.is_suspect
    filled.lying[:20] = 0
    filled.give([(0, esi) for esi in range(3, 26)], rng)
    with Unreadable(1).on(), pytest.raises(DiskError, match="Input/output error"):
        filled.decode(0)
    filled.part.close()


class Full(System):
    """A disk on which a partial file gets no byte more."""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if name == "pwritev":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().call(name, function, *args, **kwargs)


def test_a_full_disk_ends_it_and_costs_what_was_about_to_give_way(tmp_path: Path) -> None:
    output, rng = tmp_path / "out", Random(0)
    filled = Filled(output)
    filled.give([(0, esi) for esi in range(5, 30)], rng)
    own = {n: n + 1 for n in range(20) if filled.lying[n] == n + 1}
    with Full().on(), pytest.raises(DiskError, match="No space left"):
        filled.decode(0)
    filled.part.close()
    filled = Filled(output)
    assert held_places(filled.held) == own
    enough(filled, rng)
    finish(filled, rng)
    assert filled.publish() == SAMPLE.data


def test_what_another_program_writes_is_noticed(tmp_path: Path) -> None:
    # spec: RCV-7
    filled, rng = Filled(tmp_path / "out"), Random(0)
    enough(filled, rng)
    decoded = [filled.part.decode(filled.action(block)) for block in BLOCKS]
    with filled.part.path.open("r+b") as file:
        file.write(b"?" * SAMPLE.manifest.size)
    assert all(filled.part.place(one) for one in decoded)
    assert filled.part.settle(complete(SAMPLE)) == [*BLOCKS]
    filled.part.close()


def test_nothing_of_another_object_is_put_in_place(tmp_path: Path) -> None:
    filled, rng = Filled(tmp_path / "out"), Random(0)
    enough(filled, rng)
    decoded = filled.part.decode(filled.action(0))
    assert decoded.ok
    filled.part.prepare(Prepare(77, 5_000, 64))
    before = filled.part.path.read_bytes()
    assert not filled.part.place(decoded)
    assert filled.part.path.read_bytes() == before
    filled.part.close()


def test_strips_with_other_symbols_are_not_hashed_as_the_objects_own(tmp_path: Path) -> None:
    """A strip that was right when it came, and then another symbol lies in it."""
    filled, rng = Filled(tmp_path / "out"), Random(0)
    filled.strays = 0
    filled.give([(0, esi) for esi in range(20)], rng)
    filled.give([(1, esi) for esi in range(20)], rng)
    filled.lying[:20] = 0  # the block was dropped
    filled.give([(0, 50)], rng)
    for block, ok in ((0, False), (1, True)):
        digest = SAMPLE.tree.digests[32 * block : 32 * block + 32]
        assert filled.part.matches(block * 1280, 1280, digest) is ok
    filled.part.close()
