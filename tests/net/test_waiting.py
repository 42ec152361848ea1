"""Work as a generator of waits: who drives it, what interrupts it, and how it ends."""

import asyncio
import os
import resource
import threading
import time
from collections import deque

import pytest

from pgmlite.core.events import Damaged, Event
from pgmlite.errors import DiskError, Interrupted
from pgmlite.net import waiting
from pgmlite.net.waiting import SELECTABLE, Stop, Wait, Waits, Work, block, let_go

MS = 1_000_000


@pytest.fixture
def pipe():
    """Two descriptors: what is written to the second can be read from the first."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


class Task:
    """Work of some steps, that notes how it goes."""

    def __init__(self, steps: int, *, last_words: int = 0, error: Exception | None = None) -> None:
        self.happened: deque[Event] = deque()
        self.stop = Stop()
        self.notes: list[str] = []
        self.work = Work(self._run(steps, last_words, error), self.happened, self.stop)

    def _run(self, steps: int, last_words: int, error: Exception | None) -> Waits[str]:
        try:
            for step in range(steps):
                self.happened.append(Damaged(step, 0, step))
                yield Wait(0)
            if error:
                raise error
        except Interrupted as interruption:
            self.notes.append(str(interruption))
            for _ in range(last_words):
                yield Wait(1)
                self.notes.append("a last word")
            raise
        finally:
            self.notes.append("closed")
        return "done"

    def take(self, shell: str, most: int = 1_000) -> list[int]:
        """Drive it by a shell; return which events came, and leave after `most`."""
        return asyncio.run(self._with_asyncio(most)) if shell == "asyncio" else self._block(most)

    def _block(self, most: int) -> list[int]:
        seen: list[int] = []
        events = self.work.run()
        for event in events:
            seen.append(event.at)
            if len(seen) == most:
                break
        events.close()
        return seen

    async def _with_asyncio(self, most: int) -> list[int]:
        seen: list[int] = []
        events = self.work.arun()
        async for event in events:
            seen.append(event.at)
            if len(seen) == most:
                break
        await events.aclose()
        return seen


both = pytest.mark.parametrize("shell", ["blocking", "asyncio"])


@both
def test_events_come_in_order_and_the_result_at_the_end(shell):
    task = Task(5)
    assert task.take(shell) == [0, 1, 2, 3, 4]
    assert (task.work.result, task.notes, task.work.wait) == ("done", ["closed"], None)


@both
def test_an_error_comes_after_the_events_before_it(shell):
    task = Task(3, error=DiskError("full"))
    with pytest.raises(DiskError, match="full"):
        task.take(shell)
    assert (list(task.happened), task.notes) == ([], ["closed"])


@both
def test_a_defect_is_not_held_back(shell):
    with pytest.raises(ZeroDivisionError):
        Task(3, error=ZeroDivisionError()).take(shell)


@both
def test_who_leaves_waits_for_the_end_in_order(shell):
    task = Task(9, last_words=3)
    assert task.take(shell, 2) == [0, 1]
    assert task.notes == ["closed", "a last word", "a last word", "a last word", "closed"]
    assert task.work.wait is None


@both
def test_it_is_interrupted_once_by_the_first_who_asks(shell):
    task = Task(9, last_words=2)
    task.stop.ask("first")
    task.stop.ask("second")
    with pytest.raises(Interrupted, match="first"):
        task.take(shell)
    assert task.notes == []  # it had not begun
    task = Task(1 << 40, last_words=2)
    asking = threading.Timer(0.05, task.stop.ask, ["now"])
    asking.start()
    with pytest.raises(Interrupted, match="now"):
        task.take(shell, most=1 << 40)
    asking.join()
    assert task.notes == ["now", "a last word", "a last word", "closed"]


def wait(shell: str, what: Wait) -> list[int]:
    """Wait by blocking or in an event loop."""
    return list(asyncio.run(let_go(what)) if shell == "asyncio" else block(what))


@both
@pytest.mark.parametrize("nanoseconds", [-1, 0, 50 * MS, 1_000_000 * MS])
def test_what_can_be_read_ends_a_wait(shell, pipe, nanoseconds):
    os.write(pipe[1], b"x")
    assert wait(shell, Wait(nanoseconds, (pipe[0], pipe[1]))) == [pipe[0]]


@both
def test_a_wait_ends_by_time_alone(shell, pipe):
    began = time.monotonic_ns()
    assert wait(shell, Wait(20 * MS, (pipe[0],))) == []
    assert wait(shell, Wait(20 * MS)) == []
    assert time.monotonic_ns() - began >= 39 * MS
    assert wait(shell, Wait(0, (pipe[0],))) == []
    assert wait(shell, Wait(-5)) == []


@both
def test_no_wait_is_so_long_that_nobody_could_stop_it(shell, pipe, monkeypatch):
    monkeypatch.setattr(waiting, "POLL", 10 * MS)
    for what in (Wait(1 << 62), Wait(1 << 62, (pipe[0],))):
        assert wait(shell, what) == []


@both
def test_descriptors_of_large_programs(shell, pipe):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    large = SELECTABLE + 7
    if hard <= large:
        pytest.skip("this system allows no such descriptor")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, large + 1), hard))
    try:
        os.dup2(pipe[0], large)
        try:
            assert wait(shell, Wait(MS, (large,))) == []
            os.write(pipe[1], b"x")
            assert wait(shell, Wait(1_000 * MS, (large,))) == [large]
        finally:
            os.close(large)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
