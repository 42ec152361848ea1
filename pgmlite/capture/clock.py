"""The clock of a capture: stamps as the file has them in, times that never fall out.

Stamps of several queues may go back a little. Clocks are set, too, and then nobody knows how long a
step took: it is taken out, as if the clock had gone on (spec/decisions.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pgmlite.core.machine import SECOND

Times = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int64]

JITTER = 1 * SECOND
"""Stamps that go back by no more are packets in another order."""

LONGEST_PAUSE = 600 * SECOND
"""A stamp that is farther ahead of the one before says that the clock was set, not that nothing
came for so long."""

LATEST = 1 << 62
"""ns; what lies behind it is no time."""

MAX_STEPS = 16
"""Steps that are remembered one by one."""

MAX_LINES = 4_096
"""Interfaces whose clocks are followed; the one whose packets ended longest ago makes room."""


class Step(NamedTuple):
    """Where a clock was set.

    Attributes:
        packet: Number of the first packet behind it, from 1.
        by: ns, negative if the clock went back.
        begins: It is the first packet of an interface: its packets are stored behind others'.
    """

    packet: int
    by: int
    begins: bool


@dataclass(slots=True)
class _Line:
    """The clock of one interface."""

    stamp: int
    """That of its last packet, ns."""

    offset: int = 0
    """What its stamps need to be times, ns."""

    before: int = 0
    """The offset before the last step: a clock that is put right is believed again."""

    pace: int = 0
    """ns between its last two packets."""


@dataclass(slots=True)
class Clock:
    """The time of one capture.

    Attributes:
        now: Time of the last packet, ns since 1970; None before the first.
        steps: The first steps, `MAX_STEPS` at most.
        count: All of them.
    """

    now: int | None = None
    steps: list[Step] = field(default_factory=list)
    count: int = 0
    _lines: dict[int, _Line] = field(default_factory=dict)

    def times(self, stamps: Times, interfaces: Numbers, packets: int) -> tuple[Times, list[int]]:
        """Take the stamps of the next packets, (n,), and (n,) of whose interface each is.

        Args:
            packets: Packets before them.

        Returns:
            Their times, and the places among them that stand behind a step.
        """
        times = np.empty_like(stamps)
        places: list[int] = []
        numbers, firsts = interfaces[:1], np.zeros(1, np.int64)
        if bool((interfaces != interfaces[0]).any()):
            numbers, firsts = np.unique(interfaces, return_index=True)
        # In the order in which they begin: one that is new begins where the others are by then.
        for which in np.argsort(firsts):
            number, first = int(numbers[which]), int(firsts[which])
            where = np.flatnonzero(interfaces == number) if len(numbers) > 1 else np.s_[:]
            inside = np.arange(len(stamps))[where]
            line = self._lines.pop(number, None)
            if line is None:
                now = int(times[:first].max()) if first else self.now
                line, by = self._begin(int(stamps[first]), now)
                if by:
                    places.append(first)
                    self._note(Step(packets + first + 1, by, begins=True))
            self._lines[number] = line  # the one that ended longest ago stands first
            times[where], steps = _follow(line, stamps[where])
            for place, by in steps:
                places.append(int(inside[place]))
                self._note(Step(packets + places[-1] + 1, by, begins=False))
        while len(self._lines) > MAX_LINES:
            del self._lines[next(iter(self._lines))]
        if self.now is not None:
            times = np.maximum(times, self.now)
        times = np.maximum.accumulate(times)
        self.now = int(times[-1])
        return times, sorted(places)

    @staticmethod
    def _begin(stamp: int, now: int | None) -> tuple[_Line, int]:
        """Return the clock of an interface that begins with `stamp`, and the step to it, if any."""
        if now is None or -JITTER <= stamp - now <= LONGEST_PAUSE:
            return _Line(stamp), 0
        return _Line(stamp, now - stamp), stamp - now

    def _note(self, step: Step) -> None:
        self.count += 1
        if len(self.steps) < MAX_STEPS:
            self.steps.append(step)


def _follow(line: _Line, stamps: Times) -> tuple[Times, list[tuple[int, int]]]:
    """Return the times of (n,) stamps of one interface, and the place and size of each step."""
    times = np.empty_like(stamps)
    gaps = np.diff(stamps, prepend=line.stamp)
    steps, start = [], 0
    for place in np.flatnonzero((gaps < -JITTER) | (gaps > LONGEST_PAUSE)).tolist():
        times[start:place] = stamps[start:place] + line.offset
        before = int(stamps[place - 1]) if place else line.stamp
        pace = int(gaps[place - 1]) if place else line.pace
        here = int(stamps[place])
        due = min(before + line.offset + (pace if 0 <= pace <= JITTER else 0), LATEST)
        if -JITTER <= here + line.before - due <= LONGEST_PAUSE:
            line.offset, line.before = line.before, line.offset
        else:
            line.offset, line.before = due - here, line.offset
        steps.append((place, int(gaps[place])))
        start = place
    times[start:] = stamps[start:] + line.offset
    line.stamp, line.pace = int(stamps[-1]), int(gaps[-1])
    return times, steps
