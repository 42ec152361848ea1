"""What a measurement found, and whether it is what was promised."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.routed import RoutedLab


class Figure(NamedTuple):
    """One line of a report."""

    what: str
    seen: object
    is_good: bool

    def __str__(self) -> str:
        seen = f"{self.seen:.3f}" if isinstance(self.seen, float) else self.seen
        return f"{'     ' if self.is_good else 'NOT: '}{self.what}: {seen}"


def at_most(what: str, seen: float, limit: float) -> Figure:
    """Return a figure that must not be larger than its limit."""
    return Figure(f"{what} (at most {limit:g})", seen, seen <= limit)


def at_least(what: str, seen: float, limit: float) -> Figure:
    """Return a figure that must not be smaller than its limit."""
    return Figure(f"{what} (at least {limit:g})", seen, seen >= limit)


def equal(what: str, seen: object, wanted: object) -> Figure:
    """Return a figure that must be this one."""
    return Figure(f"{what} (is {wanted})", seen, seen == wanted)


@contextlib.contextmanager
def routed(receivers: int = 2, query: int | None = None) -> Iterator[tuple[RoutedLab, Path]]:
    """Yield a routed lab, and a folder for its files."""
    with tempfile.TemporaryDirectory() as name, RoutedLab(receivers, query) as lab:
        yield lab, Path(name)
