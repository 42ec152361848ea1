"""The keeper of a command: starts it, says how it ended, and ends all of it when told to.

    python -I -S keeper.py GRACE LOCK PROGRAM ARGUMENT0 ARGUMENT...

A process of its own, between `recv` and the command, because it has to outlive `recv`: a command
must not run on when its receiver was killed. It leads the command's session and process group.
Standard input is a pipe through which nothing comes: its end says "end the command", whether the
receiver closed it or is gone. Standard output takes one line for the receiver: ``exit CODE``,
``signal NUMBER`` or ``error ERRNO`` if the command could not be started. The command's own output
goes to standard error. GRACE is in seconds. LOCK is a descriptor that is kept open to the end.

It imports nothing of pgmlite, so that it starts fast.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

RETRY = 0.05
"""Seconds until processes that were killed and are still there are killed again."""


def prctl(option: int, value: int) -> None:
    """Ask the kernel for what is good to have; where it can't, the process group has to do."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Return the children of a process, theirs, and so on; none where the kernel does not say."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found[1:]


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Do nothing; unlike a signal that is ignored, it is not passed on to the command."""


class Keeper:
    """A command and whatever came of it.

    Orphans of the command become children of this process, so that none gets lost.
    """

    def __init__(self, lock: int) -> None:
        os.set_inheritable(lock, False)
        self._report = os.dup(1)  # the command must not have it
        self._said = False
        # What is sent to the whole group is meant for the command, and the receiver passes on
        # what it was sent itself.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGCHLD:
                signal.signal(number, _pass_over)
        self._wakeup, wake = os.pipe()
        for fd in (self._wakeup, wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._poller = select.poll()
        self._poller.register(self._wakeup, select.POLLIN)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._child = 0

    def start(self, program: str, arguments: list[str]) -> None:
        """Start the command."""
        parent = os.getpid()
        try:
            self._child = os.fork()
        except OSError as error:
            self._say(f"error {error.errno}")
            return
        if self._child:
            return
        try:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
                signal.signal(number, signal.SIG_DFL)
            if os.getppid() == parent:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(2, 1)
                os.execv(program, arguments)  # noqa: S606 - the user's own command
        except OSError as error:
            self._say(f"error {error.errno}")
        finally:
            os._exit(127)

    def watch(self) -> bool:
        """Wait until the command has ended, or is to be ended; return whether it has."""
        self._poller.register(0, 0)  # its end is reported unasked
        while True:
            self._reap()
            if self._said:
                return True
            if any(fd == 0 for fd, _ in self._poller.poll()):
                self._poller.unregister(0)
                return False

    def end(self, grace: float) -> None:
        """End the command and all that it started: by SIGTERM, after `grace` by SIGKILL."""
        deadline = time.monotonic() + grace
        os.kill(0, signal.SIGTERM)
        group = os.getpgrp()
        for pid in descendants(os.getpid()):
            with suppress(OSError):
                if os.getpgid(pid) != group:
                    os.kill(pid, signal.SIGTERM)
        while self._reap() and (left := deadline - time.monotonic()) > 0:
            self._poller.poll(left * 1000)
        while self._reap() and (pids := descendants(os.getpid())):
            for pid in pids:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self._poller.poll(RETRY * 1000)

    def _reap(self) -> bool:
        """Take note of what ended; return whether anything is left."""
        with suppress(BlockingIOError):
            os.read(self._wakeup, 4096)
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                if pid == self._child:
                    code = os.waitstatus_to_exitcode(status)
                    self._say(f"exit {code}" if code >= 0 else f"signal {-code}")
        except ChildProcessError:
            return False
        return True

    def _say(self, text: str) -> None:
        self._said = True
        with suppress(OSError):  # the receiver may be gone
            os.write(self._report, f"{text}\n".encode())


def main(arguments: list[str]) -> None:
    """Run a command to its end."""
    grace, lock, program, *words = arguments
    keeper = Keeper(int(lock))
    keeper.start(program, words)
    if not keeper.watch():
        keeper.end(float(grace))
        os.kill(0, signal.SIGKILL)  # the last act: whoever is left of the group, and this process


if __name__ == "__main__":
    main(sys.argv[1:])
