"""A disk that fails to take what was written, and then works again; as root.

    python -m tests.bench.failed_writeback [MEGABYTES [FILE_SYSTEM... [WAY...]]]

The disk is a loop device over an image in a memory that is too small: writes fail as on a thin
volume that is full, or on a dying disk. What it failed to take stays in the page cache, where it
looks as if it had been written. Receivers run, over the loopback interface, until one says that the
file is complete; then the disk is mounted anew, so that only what it has is left. For each file
system and each way to meet the failure it prints what the runs said and whether the file is right;
a wrong one, or none, makes the exit code 1.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile

from tests.support.disks import MAKE, MIB, Disk, seclude, sh, workshop
from tests.support.loopback import Endpoint, endpoint, make_file, receive, receiving, sending

SECONDS = {"end": 1.5, "media": 1.5, "flush": 7, "kill": 4, "copy": 1.5}
"""Ways to meet the failure, and how long a cycle of the carousel takes then: with the last flush;
the same with --verify-media; with a flush on the way; behind the back of a run that was killed;
behind the back of another program, which copied the file to where it shall be.
"""

PAGE = 4_096
RUNS = 4


@dataclass
class Outcome:
    """What became of one disk."""

    kind: str
    way: str
    runs: list[str] = field(default_factory=list)
    is_complete: bool = False
    wrong_pages: int = 0
    """Those of the file, once a run said that it is complete."""

    def __str__(self) -> str:
        end = "never complete" if not self.is_complete else f"{self.wrong_pages} pages wrong"
        return f"{self.kind}, {self.way}: {end}; {'; '.join(self.runs)}"


class Failing:
    """A memory with an image in it, which can be made too small for the image, and large again."""

    def __init__(self, opened: ExitStack, kind: str) -> None:
        self._memory = opened.enter_context(workshop("size=2g"))
        image = self._memory / "image"
        self.disk = opened.enter_context(Disk(image, self._memory / "disk", kind))

    def fail_after(self, count: int) -> None:
        """Let writes fail when `count` more bytes were written."""
        sh("sync", "-f", self.disk.folder)
        used = (self._memory / "image").stat().st_blocks * 512
        sh("mount", "-o", f"remount,size={used + count}", self._memory)

    def work(self) -> None:
        """Let writes succeed."""
        sh("mount", "-o", "remount,size=2g", self._memory)

    def forget(self) -> None:
        """Mount the disk anew: nothing is left but what it has."""
        self.disk.unmount()
        self.disk.mount()


def run_once(output: Path, place: Endpoint, way: str, outcome: Outcome) -> int:
    """Run a receiver to its end, as `way` has it; return its exit code."""
    options = ["--verify-media"] if way == "media" else []
    if way == "kill" and not outcome.runs:
        with receiving(output, place, *options) as receiver:
            receiver.event("progress", lambda event: event["stored"] > 0.7 * event["symbols"])
            ended = receiver.stop(9)
        sh("sync")  # the system meets the failure, and nobody hears of it
    else:
        ended = receive(output, place, *options)
    fetched = max((event.get("fetched", 0) for event in ended.events), default=0)
    words = ended.stderr[-1] if ended.stderr else ""
    outcome.runs.append(f"code {ended.code}, {fetched} fetched {words}".strip())
    return ended.code


def try_disk(kind: str, way: str, megabytes: int) -> Outcome:
    """Let a disk fail once, and receive until it is done."""
    outcome = Outcome(kind, way)
    with ExitStack() as opened:
        failing = Failing(opened, kind)
        shop = opened.enter_context(workshop())
        source, output = make_file(shop / "source", megabytes * MIB), failing.disk.folder / "out"
        output.write_bytes(b"old")
        place = endpoint()
        rate = megabytes * MIB * 8 / SECONDS[way]
        opened.enter_context(sending(source, place, rate=f"{rate:.0f}"))
        failing.fail_after(megabytes * MIB * 2 // 5)
        if way == "copy":
            copyfile(source, output)
            sh("sync")
        else:
            outcome.is_complete = not run_once(output, place, way, outcome)
        failing.work()
        for number in range(RUNS):
            if outcome.is_complete:
                break
            if number == RUNS - 1:
                failing.forget()  # some file systems work no more until then
            outcome.is_complete = not run_once(output, place, way, outcome)
        failing.forget()
        right, found = source.read_bytes(), output.read_bytes()
        if outcome.is_complete:
            pages = range(0, max(len(right), len(found)), PAGE)
            outcome.wrong_pages = sum(right[a : a + PAGE] != found[a : a + PAGE] for a in pages)
    return outcome


def main(megabytes: int = 40, *words: str) -> int:
    """Try all of it; return 1 if a file was said to be complete and is wrong, or never was."""
    outcomes = []
    for kind in [word for word in words if word in MAKE] or MAKE:
        for way in [word for word in words if word in SECONDS] or SECONDS:
            outcomes.append(try_disk(kind, way, megabytes))
            print(outcomes[-1], flush=True)
    return int(any(one.wrong_pages or not one.is_complete for one in outcomes))


if __name__ == "__main__":
    seclude()
    sys.exit(main(*map(int, sys.argv[1:2]), *sys.argv[2:]))
