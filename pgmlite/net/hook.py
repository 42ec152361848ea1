"""A command for what was published: found before the transfer, supervised while it runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pgmlite.core.machine import MS, SECOND
from pgmlite.errors import Interrupted, UsageError
from pgmlite.net import keeper
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.storage.system import reason

GRACE = 5 * SECOND
"""Between SIGTERM and SIGKILL for a command that is to end."""

MARGIN = 5 * SECOND
"""After that its keeper is killed too: what is left then does not even end by SIGKILL."""

LAST_MOMENT = 5 * MS
"""Between what a keeper says at last and its end."""

MAX_SAFE_NAME = 128

OF_SIGNATURES = frozenset({"PGMLITE_STREAM", "PGMLITE_RELEASE", "PGMLITE_KEY"})
"""Variables that a command finds if what it is run for is signed, and else not."""


OF_SERVICES = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
"""Variables by which a service manager hears from a process; a command is none of its own."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program and its first arguments.

    Attributes:
        program: The path that was found for the first of `words`.
    """

    program: str
    words: tuple[str, ...]


def find_command(text: str) -> Command:
    """Split a command as a shell does, and find its program.

    Raises:
        UsageError: There is none, or it can't be run.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"on_complete {text}: {error}", cause="on_complete") from None
    if not words or not words[0]:
        raise UsageError("on_complete: is empty; give a command", cause="on_complete")
    program = shutil.which(words[0])
    if program is None:
        # Looked for again, whatever it is, so that the message says what to do.
        there = shutil.which(words[0], os.F_OK) or Path(words[0]).is_dir()
        why = "is not a program that can be run" if there else "not found"
        raise UsageError(f"on_complete {words[0]}: {why}", cause="on_complete")
    return Command(program, tuple(words))


def safe_name(name: str) -> str:
    """Return an object's name in A-Z, a-z, 0-9, ``.``, ``_`` and ``-``; others are ``_``.

    It has 1 to 128 characters, and no dot or dash at the start. Different names may share one.
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-")[:MAX_SAFE_NAME] or "object"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended.

    Attributes:
        seconds: How long it ran.
        code: Its exit code; None: it has none.
        killed_by: The number of the signal that ended it; None: none did.
        error: Why it could not be started; None: it was.
        timed_out: It was ended because its time was up.
        interrupted: It was ended because of this.
    """

    seconds: float
    code: int | None = None
    killed_by: int | None = None
    error: str | None = None
    timed_out: bool = False
    interrupted: Interrupted | None = None

    @property
    def is_good(self) -> bool:
        """Whether it did what it was to do: it ended by itself, with code 0."""
        return self.code == 0 and not self.timed_out and not self.interrupted

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it."""
        if self.killed_by is None:
            return None
        known = {number.value: number.name for number in signal.Signals}
        return known.get(self.killed_by, f"signal {self.killed_by}")

    def __str__(self) -> str:
        if self.error is not None:
            return self.error
        if self.interrupted:
            return f"ended after {self.seconds:.1f} s: {self.interrupted}"
        if self.timed_out:
            return f"ended after {self.seconds:.1f} s, its time limit"
        if self.code is not None:
            return f"exit code {self.code}"
        return f"killed by {self.signal}"


def supervise(
    command: Command,
    path: Path,
    facts: Mapping[str, bytes],
    *,
    timeout: int | None,
    lock: int,
    grace: int = GRACE,
) -> Waits[Ending]:
    """Run a command to its end; see `keeper` for how.

    Args:
        path: The last argument of the command.
        facts: What is added to its environment.
        timeout: ns after which it is ended; None: never.
        lock: A descriptor that stays open as long as anything of it may run.
        grace: ns between SIGTERM and SIGKILL, if it is ended.

    Raises:
        Interrupted: It was asked to stop before the command was started.
    """
    yield Wait(0)
    started = time.monotonic_ns()
    own = (sys.executable, "-I", "-S", keeper.__file__, str(grace / SECOND), str(lock))
    try:
        process = subprocess.Popen(
            [*own, command.program, *command.words, os.fspath(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,  # standard output is for our own events
            env=_environment(facts),
            start_new_session=True,
            pass_fds=(lock,),
        )
    except OSError as error:
        return Ending(0.0, error=reason(error))
    with process:
        interrupted, timed_out = yield from _wait(process, started, timeout, grace)
        said = process.stdout.read() if process.stdout else b""
    if not said:  # somebody killed the keeper
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    seconds = (time.monotonic_ns() - started) / SECOND
    code, killed_by, why = _read(said, process.returncode)
    return Ending(seconds, code, killed_by, why, timed_out, interrupted)


def _environment(facts: Mapping[str, bytes]) -> dict[bytes, bytes]:
    """Return our environment with `facts`, without what others say of signatures, and without what
    a service manager told us alone.
    """
    own = {
        name: value
        for name, value in os.environb.items()
        if name.decode(errors="replace") not in OF_SIGNATURES | OF_SERVICES
    }
    return own | {name.encode(): value for name, value in facts.items()}


def _wait(
    process: subprocess.Popen[bytes], started: int, timeout: int | None, grace: int
) -> Waits[tuple[Interrupted | None, bool]]:
    """Wait for the keeper, and tell it to end the command if it has to.

    Returns:
        What interrupted the command, and whether its time was up.
    """
    interrupted = None
    deadline = None if timeout is None else started + timeout
    limit: int | None = None
    said = [process.stdout.fileno()] if process.stdout else []
    while process.poll() is None:
        try:
            # Its last word, or its end, can be read; it needs a moment more to be gone.
            yield Wait(LAST_MOMENT) if (yield Wait(POLL, said)) else Wait(0)
        except Interrupted as error:
            interrupted = error
        now = time.monotonic_ns()
        if limit is None:
            if interrupted or (deadline is not None and now >= deadline):
                limit = now + grace + MARGIN
                if process.stdin:
                    process.stdin.close()
        elif now >= limit:
            os.killpg(process.pid, signal.SIGKILL)
    return interrupted, limit is not None and interrupted is None


def _read(said: bytes, returncode: int) -> tuple[int | None, int | None, str | None]:
    """Return exit code, signal and error of the command from what the keeper says."""
    match said.split():
        case [b"exit", number, *_]:
            return int(number), None, None
        case [b"signal", number, *_]:
            return None, int(number), None
        case [b"error", number, *_]:
            return None, None, os.strerror(int(number))
    if returncode < 0:  # killed with the whole group
        return None, -returncode, None
    return None, None, "its keeper failed"
