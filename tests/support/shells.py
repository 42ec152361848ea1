"""Interactive shells on a terminal, as people sit at them: what is typed there is completed."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0
"""Seconds until a shell that says nothing counts as failed: machines may be busy."""

CONTROL = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")
"""What moves the cursor and the like."""

ECHO = "pgmlite() { printf '<%s>' \"$@\"; echo; }"
"""Shell: in place of the command, something that shows what came of the line."""


class Shell:
    """A shell on a terminal of its own."""

    def __init__(self, fd: int, prompt: str) -> None:
        self._fd = fd
        self._prompt = prompt

    def type(self, keys: str) -> str:
        """Type keys, the last of which ends the line; return what is on the screen then."""
        os.write(self._fd, keys.encode())
        return self.read()

    def read(self) -> str:
        """Return what comes until the next prompt."""
        said, end = "", time.monotonic() + PATIENCE
        while not said.endswith(self._prompt):
            left = end - time.monotonic()
            ready, _, _ = select.select([self._fd], [], [], max(left, 0))
            assert ready, f"no prompt came: {said!r}"
            said += os.read(self._fd, 65_536).decode(errors="replace")
            said = CONTROL.sub("", said)
        return said


@contextmanager
def shell(*command: str, set_prompt: str, folder: Path) -> Iterator[Shell]:
    """Run an interactive shell in a folder for as long as the context lasts.

    Args:
        set_prompt: What makes it print `> > ` where a line may be typed.
    """
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=env, process_group=0
    )
    os.close(theirs)
    try:
        one = Shell(ours, "> > ")
        one.type(f"{set_prompt}\n")
        yield one
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(ours)
