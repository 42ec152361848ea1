"""Quantities as people read them, and when they want to."""

from __future__ import annotations

from collections.abc import Sequence

from pgmlite.core.machine import SECOND

SILENT_AFTER = 5 * SECOND
"""Silence of the senders that is worth a word, ns: they send an SPM a second, at least."""


def human_bytes(count: float) -> str:
    """Return a number of bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_rate(rate: int | None) -> str:
    """Return bit/s with an SI unit."""
    if not rate:
        return "full speed"
    for unit, factor in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if rate >= factor:
            return f"{rate / factor:.4g} {unit}"
    return f"{rate} bit/s"


def human_time(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


MOST_NAMED = 4
"""Things of a kind that are named in one line."""


def human_list(names: Sequence[str], most: int, between: str = ", ") -> str:
    """Return names in a line; of more than `most`, those and how many more there are."""
    more = len(names) - most
    return between.join(names[:most]) + (f" and {more} more" if more > 0 else "")


LONGEST_NAME = 60
"""Characters of an object's name that are shown in a line; it is a stranger's."""


def human_name(name: str) -> str:
    """Return an object's name, or as much of it as a line bears."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
