"""Flushes that a test has in its hand: a clock that stands, and disks whose flushes fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from tests.support.parts import Run, System, name_of


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


class Syncs(System):
    """Counts what is flushed, by the name of the file; some of it fails."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.failing: dict[str, int] = {}
        self.at_advice: dict[str, Callable[[], None]] = {}

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if name in self.SYNCS:
            file = name_of(args[0])
            self.seen.append(file)
            if number := self.failing.pop(file, 0):
                raise OSError(number, os.strerror(number))
        if name == "posix_fadvise" and (do := self.at_advice.pop(name_of(args[0]), None)):
            do()
        return function(*args, **kwargs)


def flush(run: Run, clock: Clock) -> None:
    clock.now += 5
    run.part.write_back.idle()
    run.part.write_back.wait()
