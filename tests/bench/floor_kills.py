"""Receivers with a key that are killed about when they publish, on the loopback interface.

    python -m tests.bench.floor_kills [COUNT [SEED]]

Each of COUNT receivers, 200 by default, has release 5 in place and gets release 6. Half of them
kill themselves before one of the system calls by which files are named, synced or cut, most of
which are those of a publication; the others are killed from outside at any time. At every end the
floor is no lower than the release in place, and every file of the state folder can be read. The
next run then installs release 6. Prints the sums; if one was wrong, the exit code is 1.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

from pgmlite.errors import DiskError
from tests.support.loopback import PATIENCE, Endpoint, endpoint, environment
from tests.support.releases import floor_of, on_air, pem, release

OLD, NEW = 5, 6

CALLS = 24
"""System calls of one transfer at which receivers kill themselves, and two or three more: the last
16 are those of a publication."""

LATEST = 1.0
"""Seconds from the start to a kill from outside: by then some are done."""

SUICIDAL = """
import os, signal, sys
from functools import partial
from tests.support.parts import System

class Killed(System):
    left = int(sys.argv.pop(1))

    def call(self, name, function, *args, **kwargs):
        if name in self.SYNCS | self.NAMES | self.LOOKS | {"write", "ftruncate"}:
            Killed.left -= 1
            if Killed.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

from pgmlite import cli
with Killed().on():
    cli.main()
"""


@dataclass(frozen=True)
class Killed:
    """What became of one receiver.

    Attributes:
        code: Its exit code.
        release: What is in place then.
        floor: What is remembered then.
        wrong: What was wrong, if anything was.
    """

    code: int
    release: int
    floor: int
    wrong: str


@dataclass(frozen=True)
class Trial:
    """Where receivers are killed, and what they can hear."""

    folder: Path
    place: Endpoint
    keys: Path

    @classmethod
    @contextmanager
    def begun(cls, folder: Path) -> Iterator[Self]:
        """Send release 6 while the context lasts."""
        place = endpoint()
        with on_air(place, release(NEW)):
            yield cls(folder, place, pem(folder, 0))

    def receive(self, folder: Path, *, calls: int = 0) -> subprocess.Popen[bytes]:
        """Start a receiver.

        Args:
            calls: It kills itself at that one of its system calls; 0: at none.
        """
        code = [sys.executable, "-c", SUICIDAL, str(calls)]
        options = ["recv", "-o", folder / "out", *self.place.flags, "--key", self.keys]
        return subprocess.Popen(
            [*code, *map(str, options), "--timeout", str(PATIENCE / 2)],
            env=environment({"PGMLITE_STATE": str(folder / "state")}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def state_of(self, folder: Path) -> tuple[int, int, str]:
        """Return the release in place, the floor, and what is wrong with them."""
        data = (folder / "out").read_bytes()
        installed = {release(number).data: number for number in (OLD, NEW)}.get(data, -1)
        try:
            floor = floor_of(folder / "state", self.keys)
        except DiskError as error:
            return installed, -1, str(error)
        wrong = "" if 0 <= installed <= floor else f"release {installed}, floor {floor}"
        return installed, floor, wrong


def kill_one(trial: Trial, number: int, rng: Random, *, calls: int = 0) -> Killed:
    """Let a receiver be killed, and another one finish.

    Args:
        calls: It kills itself at that one of its system calls; 0: at one by chance, or not itself.
    """
    folder = trial.folder / str(number)
    folder.mkdir()
    (folder / "out").write_bytes(release(OLD).data)
    with on_air(place := endpoint(), release(OLD)):
        Trial(trial.folder, place, trial.keys).receive(folder).wait(PATIENCE)
    before = trial.state_of(folder)
    if before[:2] != (OLD, OLD):
        return Killed(0, *before[:2], f"before: {before}")
    if calls or rng.random() < 0.5:
        process = trial.receive(folder, calls=calls or rng.randrange(1, CALLS))
    else:
        process = trial.receive(folder)
        time.sleep(rng.uniform(0.2, LATEST))
        process.send_signal(signal.SIGKILL)
    code = process.wait(PATIENCE)
    installed, floor, wrong = trial.state_of(folder)
    again = trial.receive(folder).wait(PATIENCE)
    after = trial.state_of(folder)
    if not wrong and (again, *after) != (0, NEW, NEW, ""):
        wrong = f"the next run: code {again}, {after}"
    return Killed(code, installed, floor, wrong)


def main(count: int = 200, seed: int = 1) -> int:
    """Kill receivers; return 1 if that did harm."""
    rng, found = Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder, Trial.begun(Path(folder)) as trial:
        for number in range(count):
            killed = kill_one(trial, number, rng)
            found[f"release {killed.release}, floor {killed.floor}"] += 1
            found["killed"] += killed.code == -signal.SIGKILL
            if killed.wrong:
                found["WRONG"] += 1
                print(f"WRONG: {number}: {killed.wrong}", flush=True)
    print(f"{count} receivers: {', '.join(f'{name}: {n}' for name, n in sorted(found.items()))}")
    return int(bool(found["WRONG"]))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
