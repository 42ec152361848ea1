"""Flushes: when they start, what a power cut leaves, and what becomes of a disk that fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.core.machine import Prepare
from pgmlite.storage import hints, writeback
from pgmlite.storage.folder import Folder
from pgmlite.storage.hints import FLUSHED, HEADER
from pgmlite.storage.writeback import FLUSH_BYTES, FLUSH_EVERY, Flusher
from tests.support.builders import make_object
from tests.support.flushes import Clock, Syncs, flush
from tests.support.parts import Run, System

SAMPLE = make_object(10 * 512 - 5)  # 10 blocks of 8 symbols of 64 bytes; the last symbol is short
SYMBOLS = SAMPLE.manifest.symbols
MIB = 1 << 20

# When a flush starts.


@pytest.fixture
def flushes() -> list[None]:
    return []


@pytest.fixture
def flusher(clock: Clock, flushes: list[None]) -> Flusher:
    return Flusher(lambda: flushes.append(None))


def test_a_flush_starts_with_64_mib(flusher: Flusher, flushes: list[None]) -> None:
    # spec: RCV-15
    assert FLUSH_BYTES == 64 * MIB
    for wanted in (1, 2, 3):
        for _ in range(63):
            flusher.wrote(MIB)
        flusher.join()
        assert len(flushes) == wanted - 1
        flusher.wrote(MIB)
        flusher.join()
        assert len(flushes) == wanted


def test_a_flush_starts_after_5_seconds(
    flusher: Flusher, flushes: list[None], clock: Clock
) -> None:
    # spec: RCV-15
    assert FLUSH_EVERY == 5
    flusher.wrote(1)
    for _ in range(49):
        clock.now += 0.1
        flusher.wrote(1)
        flusher.join()
    assert not flushes
    clock.now += 0.11
    flusher.look()  # nothing more comes
    flusher.join()
    assert len(flushes) == 1
    clock.now += 1_000
    flusher.look()  # nothing waits
    flusher.join()
    assert len(flushes) == 1
    flusher.wrote(1)  # from the first byte on
    clock.now += 4.9
    flusher.look()
    flusher.join()
    assert len(flushes) == 1
    clock.now += 0.2
    flusher.look()
    flusher.join()
    assert len(flushes) == 2


def test_one_flush_at_a_time_and_nobody_waits_for_it(clock: Clock) -> None:
    begun, may_end, flushes = Event(), Event(), []

    def flush() -> None:
        flushes.append(None)
        begun.set()
        assert may_end.wait(30)

    flusher = Flusher(flush)
    flusher.wrote(FLUSH_BYTES)
    assert begun.wait(30)
    for _ in range(3):
        flusher.wrote(FLUSH_BYTES)
        clock.now += 60
    assert len(flushes) == 1
    may_end.set()
    flusher.join()
    flusher.look()  # what came meanwhile
    flusher.join()
    assert len(flushes) == 2


def test_a_flush_is_of_the_file_then_of_the_record_then_of_their_names(
    tmp_path: Path, syncs: Syncs, clock: Clock
) -> None:
    with Run(tmp_path / "out") as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(20)))
        syncs.seen.clear()
        clock.now += 5
        run.part.write_back.idle()
        run.part.write_back.wait()
        assert syncs.seen == ["out.part", "out.part.map", tmp_path.name]
        syncs.seen.clear()
        run.give(SAMPLE.odata(range(20, 40)))
        clock.now += 5
        run.part.write_back.idle()
        run.part.write_back.wait()
        assert syncs.seen == ["out.part", "out.part.map"]


# What a power cut leaves.


def values_of(output: Path) -> dict[int, int]:
    """Return what a record says: the values that are not 0, by place."""
    values = np.frombuffer(output.with_name("out.part.map").read_bytes()[HEADER.size :], "<u2")
    return {int(place): int(values[place]) for place in np.flatnonzero(values)}


def whole_blocks(symbols: set[int]) -> set[int]:
    """Return those of the symbols whose blocks have all of theirs."""
    blocks = (set(range(at, min(at + 8, SYMBOLS))) for at in range(0, SYMBOLS, 8))
    return {n for block in blocks if block <= symbols for n in block}


steps = st.one_of(
    st.sets(st.integers(0, SYMBOLS - 1)), st.sampled_from(["flush", "kill", "boot", "no record"])
)


@given(steps=st.lists(steps, max_size=12))
@example(steps=[set(range(20)), "flush", set(range(30, 60)), "boot", "kill", "boot"])
def test_what_is_believed_is_what_there_is(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    """Whatever happens in whatever order, in a system that has written all of it by then."""
    # spec: RCV-8
    output, clock, boots = tmp_path_factory.mktemp("folder") / "out", Clock(), 0
    noted: set[int] = set()
    flushed: set[int] = set()
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(writeback, "time", clock)
        patches.setattr(hints, "boot_id", lambda: boots.to_bytes(16))
        run = Run(output).announce(SAMPLE)
        for step in [*steps, "kill"]:
            if isinstance(step, set):
                run.give(SAMPLE.odata(sorted(step - noted)))
                noted |= step
                if run.is_done:
                    break
            elif step == "flush":
                flush(run, clock)
                flushed = set(noted)
            else:
                run.part.close()
                whole = whole_blocks(noted)
                if step == "no record":
                    output.with_name("out.part.map").unlink(missing_ok=True)
                    noted, flushed = whole, set()
                elif step == "boot":
                    boots += 1
                    noted = flushed | whole
                else:
                    flushed = set(noted)  # the next run sees to that
                run = Run(output).announce(SAMPLE)
                size = SAMPLE.manifest.symbol_size
                missing = run.machine.missing
                gone = [range(start // size, -(-stop // size)) for start, stop in missing]
                have = set(range(SAMPLE.manifest.symbols)).difference(*gone)
                assert have == noted
        run.part.close()
    if run.is_done:
        assert output.read_bytes() == SAMPLE.data


def test_what_was_not_flushed_before_a_boot_is_not_believed_after_a_kill_either(
    tmp_path: Path, clock: Clock, next_boot: Callable[[], None]
) -> None:
    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(3)))
        flush(run, clock)
        run.give(SAMPLE.odata(range(3, 6)))
    assert values_of(output) == {n: n + 1 + FLUSHED * (n < 3) for n in range(6)}
    next_boot()
    for _ in range(2):
        with Run(output) as run:
            run.announce(SAMPLE)
            assert run.machine.progress == (3, SYMBOLS)
        assert values_of(output) == {n: n + 1 + FLUSHED for n in range(3)}


def test_what_a_run_finds_on_the_disk_counts_as_flushed(
    tmp_path: Path, next_boot: Callable[[], None]
) -> None:
    # Else two runs that are cut short could lose twice what may wait for a flush.
    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(6)))
    with Run(output) as run:
        run.announce(SAMPLE)
    next_boot()
    with Run(output) as run:
        run.announce(SAMPLE)
        assert run.machine.progress == (6, SYMBOLS)


def test_places_that_a_cut_took_from_the_file_do_not_come_back(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(30)))
    os.truncate(run.part.path, 10 * 64)
    with Run(output) as run:
        run.announce(SAMPLE)
        assert run.machine.progress == (10, SYMBOLS)
        run.give(SAMPLE.odata([40]))
    with Run(output) as run:
        run.announce(SAMPLE)
        assert run.machine.progress == (11, SYMBOLS)


def test_a_disk_has_another_number_after_a_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Renumbered(System):
        def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if name not in {"stat", "lstat", "fstat"}:
                return result
            fields = {name: getattr(result, name) for name in dir(result) if name[:3] == "st_"}
            return SimpleNamespace(**fields | {"st_dev": result.st_dev + 1})

    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(6)))
    with Renumbered().on(), Run(output) as run:
        run.announce(SAMPLE)
        assert run.machine.progress == (6, SYMBOLS)


def test_a_flush_says_nothing_of_an_object_that_came_meanwhile(tmp_path: Path) -> None:
    record = hints.Hints(Folder(tmp_path), "map")
    record.own(os.stat(tmp_path))
    one, other = Prepare(1, 640, 64), Prepare(2, 640, 64)
    record.note(one, [(0, 6)])
    stored = record.unflushed()
    record.note(other, [(0, 6)])
    record.mark_flushed(stored)
    ((first, lying),) = record.load(other, 10).lying
    assert (first, lying.tolist()) == (0, [1, 2, 3, 4, 5, 6])
    record.close()
    values = (tmp_path / "map").read_bytes()[HEADER.size :]
    assert np.frombuffer(values, "<u2").tolist() == [1, 2, 3, 4, 5, 6]


def test_a_kill_while_a_flush_is_under_way_costs_nothing(tmp_path: Path) -> None:
    of = Prepare(1, 640, 64)
    record = hints.Hints(Folder(tmp_path), "map")
    record.own(os.stat(tmp_path))
    record.note(of, [(0, 6)])
    record.unflushed()
    record.note(of, [(2, 3), (8, 9)])  # what lies between is written with them
    record.close()
    record = hints.Hints(Folder(tmp_path), "map")
    record.own(os.stat(tmp_path))
    ((_, lying),) = record.load(of, 10).lying
    assert lying.tolist() == [1, 2, 3, 4, 5, 6, 0, 0, 9]
    record.mark_flushed(record.unflushed())
    record.close()
    values = np.frombuffer((tmp_path / "map").read_bytes()[HEADER.size :], "<u2")
    assert values.tolist() == [n and n + FLUSHED for n in lying.tolist()] + [0]


def test_what_is_stored_while_a_flush_is_under_way_is_of_the_next_one(tmp_path: Path) -> None:
    of = Prepare(1, 640, 64)
    record = hints.Hints(Folder(tmp_path), "map")
    record.own(os.stat(tmp_path))
    record.note(of, [(0, 6)])
    stored = record.unflushed()
    record.note(of, [(5, 8)])
    record.mark_flushed(stored)
    first = np.frombuffer((tmp_path / "map").read_bytes()[HEADER.size :], "<u2").tolist()
    assert [value >= FLUSHED for value in first] == [True] * 5 + [False] * 5
    record.mark_flushed(record.unflushed())
    record.close()
    then = np.frombuffer((tmp_path / "map").read_bytes()[HEADER.size :], "<u2").tolist()
    assert [value >= FLUSHED for value in then] == [True] * 8 + [False] * 2


def test_what_was_found_without_a_record_is_recorded(tmp_path: Path) -> None:
    # spec: RCV-8
    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(60)))
    output.with_name("out.part.map").unlink()
    with Run(output) as run:
        run.announce(SAMPLE)
        assert run.machine.progress == (56, SYMBOLS)  # seven whole blocks
        run.give(SAMPLE.odata([70]))
    with Run(output) as run:
        run.announce(SAMPLE)
        assert run.machine.progress == (57, SYMBOLS)


def test_what_was_found_after_a_boot_is_recorded(
    tmp_path: Path, next_boot: Callable[[], None]
) -> None:
    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(60)))
    next_boot()
    for _ in range(2):
        with Run(output) as run:
            run.announce(SAMPLE)
            assert run.machine.progress == (56, SYMBOLS)
