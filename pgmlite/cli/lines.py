"""Lines for people: broken between words on a terminal, left whole elsewhere; in a journal each
has its priority in front.
"""

from __future__ import annotations

import os
import sys
import textwrap
from enum import IntEnum
from typing import TextIO

USUAL_COLUMNS = 80


class Priority(IntEnum):
    """How much a line matters, as syslog and journals count it."""

    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


def columns(stream: TextIO, elsewhere: int = USUAL_COLUMNS) -> int:
    """Return how wide `stream` is: as COLUMNS or its terminal says, `elsewhere` if neither does."""
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    if stream.isatty():
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    return elsewhere


def fit(text: str, stream: TextIO) -> str:
    """Return a line as `stream` shows it best."""
    if not stream.isatty():
        return text
    return textwrap.fill(text, columns(stream), break_long_words=False, break_on_hyphens=False)


def say(text: str, priority: Priority = Priority.INFO) -> None:
    """Print lines for people, on standard error.

    Raises:
        OSError: It can't be written.
    """
    if is_journal(sys.stderr):
        # Taken off by systemd, which writes the time in front.
        text = "\n".join(f"<{priority:d}>{one}" for one in text.splitlines())
    print(fit(text, sys.stderr), file=sys.stderr, flush=True)


def is_journal(stream: TextIO) -> bool:
    """Whether a stream is the very one that systemd has connected to its journal."""
    # As sd-daemon(3) has it: a service may have given its child another standard error.
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isdecimal() and inode.isdecimal()):
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # it is closed, or no file
        return False
    return (found.st_dev, found.st_ino) == (int(device), int(inode))
