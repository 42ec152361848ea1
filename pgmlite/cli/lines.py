"""Lines for people: broken between words on a terminal, left whole elsewhere."""

from __future__ import annotations

import os
import textwrap
from typing import TextIO

USUAL_COLUMNS = 80


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
