"""What becomes of a disk that failed to take what was written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgmlite.core.events import Damaged
from pgmlite.errors import DiskError
from pgmlite.storage import hints
from pgmlite.storage.content import READ_BACKS
from pgmlite.storage.hints import HEADER, SUSPECT
from tests.support.builders import make_object
from tests.support.flushes import Clock, Syncs, flush
from tests.support.part_files import descriptor_of
from tests.support.parts import Run, System, name_of

SAMPLE = make_object(10 * 512 - 5)  # 10 blocks of 8 symbols of 64 bytes; the last symbol is short
SYMBOLS = SAMPLE.manifest.symbols
MIB = 1 << 20


def fail(run: Run, clock: Clock) -> str:
    """Let the flush that is due fail; return what the run ends with."""
    clock.now += 5
    run.part.write_back.idle()
    run.part.write_back.join()
    with pytest.raises(DiskError, match="not all of it is on the disk") as raised:
        run.give(SAMPLE.odata([40]))
    return str(raised.value)


def damaged(run: Run) -> int:
    """Return the block that was just said to be damaged."""
    said = run.heard.events[-1]
    assert isinstance(said, Damaged)
    return said.block


def is_suspect(output: Path) -> bool:
    head = output.with_name("out.part.map").read_bytes()[: HEADER.size]
    return bool(HEADER.unpack(head)[1] & SUSPECT)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_flush_that_fails_ends_the_run_and_the_next_reads_back(
    tmp_path: Path, clock: Clock, syncs: Syncs, number: int
) -> None:
    # spec: RCV-15
    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(35)))
        syncs.failing["out.part"] = number
        assert os.strerror(number) in fail(run, clock)
    assert is_suspect(output)
    with Run(output) as run:
        run.announce(SAMPLE)
        assert run.machine.progress == (36, SYMBOLS)
        # What the disk never got shows when the cache is gone: here, right before it is published.
        fd = descriptor_of(run.part.path)
        syncs.at_advice["out.part"] = lambda: os.pwrite(fd, bytes(64), 2 * 512)
        run.cycle(SAMPLE)
        assert not syncs.at_advice
        assert not run.is_done
        assert damaged(run) == 2
        run.cycle(SAMPLE)
        assert run.is_done
        assert run.fetched == SYMBOLS - 36 + 8
    assert output.read_bytes() == SAMPLE.data
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", ["ftruncate", "pwritev", "preadv"])
def test_a_failure_that_another_call_tells_of_is_remembered(
    tmp_path: Path, call: str, number: int
) -> None:
    # XFS flushes before it cuts a file, and says there what failed before.
    class Late(System):
        def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if name == call and name_of(args[0]) == "out.part":
                raise OSError(number, os.strerror(number))
            return function(*args, **kwargs)

    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata([*range(0, SYMBOLS, 2), *range(1, 20, 2)]))
        with Late().on(), pytest.raises(DiskError, match=os.strerror(number)):
            run.cycle(SAMPLE).cycle(SAMPLE)
    assert is_suspect(output)


def test_a_flush_that_fails_at_the_very_end_is_remembered(
    tmp_path: Path, clock: Clock, syncs: Syncs
) -> None:
    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(35)))
        syncs.failing["out.part"] = errno.EIO
        clock.now += 5
        run.part.write_back.idle()
    assert is_suspect(output)


def test_a_disk_that_failed_is_remembered_without_a_record_too(
    tmp_path: Path, clock: Clock, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(8)))
        syncs.failing["out.part"] = errno.EIO
        with monkeypatch.context() as full:
            full.setattr(hints.Hints, "_write", no_space)
            run.give(SAMPLE.odata(range(8, 16)))
        assert "no record" in " ".join(run.warnings)
        fail(run, clock)
    assert is_suspect(output)
    with Run(output) as run:
        run.announce(SAMPLE)
        assert run.machine.progress == (16, SYMBOLS)  # two whole blocks
        assert run.part.write_back.is_suspect


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_mark_of_a_failed_disk_leaves_the_record_of_any_object(
    tmp_path: Path, syncs: Syncs
) -> None:
    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(6)))
    syncs.failing["out.part"] = errno.EIO
    with Run(output) as run:  # it is not known yet what will come
        assert "reading it anew" in " ".join(run.warnings)
    assert is_suspect(output)
    with Run(output) as run:
        run.announce(SAMPLE)
        assert run.machine.progress == (6, SYMBOLS)


def test_a_record_that_can_not_be_flushed_ends_nothing(
    tmp_path: Path, clock: Clock, syncs: Syncs
) -> None:
    output = tmp_path / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(range(35)))
        syncs.failing["out.part.map"] = errno.EIO
        flush(run, clock)
        run.cycle(SAMPLE)
        assert run.is_done
        assert "no record" in " ".join(run.warnings)
    assert output.read_bytes() == SAMPLE.data


def test_a_disk_that_is_smaller_than_it_says_ends_the_run(tmp_path: Path) -> None:
    """It takes all and gives back something else, as forged memory sticks do."""

    class Forged(System):
        def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            done = function(*args, **kwargs)
            if name == "preadv" and args[2] == 9 * 512:
                args[1][0][:done] = bytes(done)
            return done

    output = tmp_path / "out"
    with Forged().on(), Run(output, verify_media=True) as run:
        run.announce(SAMPLE)
        for _ in range(READ_BACKS):
            run.cycle(SAMPLE)
            assert damaged(run) == 9
        with pytest.raises(DiskError, match="as large as it says"):
            run.cycle(SAMPLE)
    assert not output.exists()


# The output that is there.


@pytest.mark.parametrize("verify_media", [False, True])
def test_an_output_that_is_right_in_memory_alone_is_no_output(
    tmp_path: Path, syncs: Syncs, verify_media: bool
) -> None:
    output = tmp_path / "out"
    output.write_bytes(SAMPLE.data)

    def show_the_disk() -> None:
        status = output.stat()
        with output.open("r+b") as file:
            file.seek(3 * 512)
            file.write(bytes(64))
        os.utime(output, ns=(status.st_atime_ns, status.st_mtime_ns))

    syncs.at_advice["out"] = show_the_disk
    if not verify_media:
        syncs.failing["out"] = errno.EIO
    with Run(output, verify_media=verify_media) as run:
        run.announce(SAMPLE)
        assert not syncs.at_advice
        assert not run.is_done
        run.cycle(SAMPLE)
        assert run.is_done
        assert run.is_new
        assert run.fetched == 8
    assert output.read_bytes() == SAMPLE.data
