"""A receiver that is watched for what keeps it from getting on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgmlite.core.machine import SECOND, Transmit
from pgmlite.core.receive.diagnosis import Diagnosis, Load
from pgmlite.core.receive.refusals import Finding
from pgmlite.core.send.sender import Sender
from tests.support.builders import Drive, Sample, encode, make_sender, play

SYMBOL = 1_404
GRANTED, WANTED = 200 << 10, 64 << 20


class Watched:
    """A receiver with a disk in memory, and what is found about it, second by second."""

    def __init__(self, *, overhead: int = 48, granted: int = GRANTED, **config: Any) -> None:
        self.drive = Drive(**config)
        self.machine = self.drive.machine
        self.diagnosis = Diagnosis(
            self.machine, "GROUP", overhead=overhead, granted=granted, wanted=WANTED
        )
        self.found: list[Finding] = []
        self._next = SECOND

    def look(self, now: int, load: Load | None = None) -> list[Finding]:
        """Look at `now`."""
        new = self.diagnosis.look(now, load or Load())
        self.found += new
        return new

    def pass_time(self, until: int) -> None:
        """Look once a second."""
        while self._next <= until:
            self.look(self._next)
            self._next += SECOND

    def hear(
        self, sender: Sender, sample: Sample, keep: Callable[[bytes], bool], until: int
    ) -> None:
        """Let what a sender sends arrive, as far as `keep` lets it."""
        for now, action in play(sender, until=until):
            self.pass_time(now)
            if isinstance(action, Transmit):
                self.drive.give([p for p in encode(action, sample.data) if keep(p)], now=now)
        self.pass_time(until)

    def causes(self) -> list[str]:
        """What was told, in order."""
        return [one.cause for one in self.found]

    def only(self, cause: str) -> Finding:
        """Return what was told of a cause, which must be once."""
        (one,) = [finding for finding in self.found if finding.cause == cause]
        return one


def started(sample: Sample, **config: Any) -> Sender:
    sender = make_sender(sample, **config)
    sender.start(0)
    return sender


def at(seconds: float) -> int:
    return int(seconds * SECOND)
