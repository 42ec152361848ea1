"""One piece of work until another is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest

from pgmlite.core.machine import SECOND
from pgmlite.errors import Interrupted
from pgmlite.net.resending import until
from pgmlite.net.waiting import POLL, Stop, Wait, Waits, Work
from tests.support.loops import to_the_end


class Main:
    """Work that goes on for so many waits, of so many ns each."""

    def __init__(self, waits: int, time: int = 0) -> None:
        self.waits, self.time = waits, time
        self.done = 0
        self.notes: list[str] = []

    def run(self) -> Waits[None]:
        try:
            for _ in range(self.waits):
                yield Wait(self.time, ())
                self.done += 1
        except Interrupted as error:
            self.notes.append(str(error))
            raise
        finally:
            self.notes.append("closed")


def side(looks: int, wait: int = 0) -> Waits[str]:
    for _ in range(looks):
        yield Wait(wait)
    return "ready"


def test_the_side_ends_the_main_work() -> None:
    main = Main(1_000)
    assert to_the_end(until(side(5), main.run())) == "ready"
    assert (main.done, main.notes) == (4, ["closed"])


def test_the_main_work_ends_first_and_the_side_goes_on_later() -> None:
    other, main = side(5), Main(3)
    assert to_the_end(until(other, main.run())) is None
    assert main.done == 3
    assert to_the_end(until(other, Main(1_000).run())) == "ready"


def test_what_ends_the_main_work_leaves_the_side_as_it_was() -> None:
    def broken() -> Waits[None]:
        yield Wait(0)
        raise Interrupted("broken")

    other = side(5)
    with pytest.raises(Interrupted, match="broken"):
        to_the_end(until(other, broken()))
    assert to_the_end(until(other, Main(1_000).run())) == "ready"


def test_who_interrupts_interrupts_the_main_work() -> None:
    main, stop = Main(1_000), Stop()
    work = Work(until(side(1_000_000), main.run()), deque(), stop)
    work.resume(())
    stop.ask("SIGTERM")
    work.resume(())
    assert main.notes == ["SIGTERM", "closed"]
    assert str(work.error) == "SIGTERM"


def test_no_wait_is_longer_than_the_side_may_be_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[int] = iter([0, 0, POLL // 2, POLL])
    monkeypatch.setattr("pgmlite.net.resending.time.monotonic_ns", lambda: next(times))
    waits = until(side(3, SECOND), Main(1_000, SECOND).run())
    assert [next(waits).time for _ in range(3)] == [POLL, POLL // 2, POLL]
