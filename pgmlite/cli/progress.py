"""How far a sender or receiver is, in words and as a bar."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgmlite.core.events import (
    Encoding,
    Event,
    Hashing,
    PassedOn,
    ReceiveProgress,
    SendProgress,
    Spooling,
    Unpacking,
)
from pgmlite.core.figures import RepairFigures
from pgmlite.core.human import SILENT_AFTER, human_bytes, human_rate, human_time
from pgmlite.core.machine import SECOND

if TYPE_CHECKING:
    # Imported when needed: a sender starts sooner without them.
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

DUMB = frozenset({"", "dumb", "unknown"})
"""Terminals that can't go back in a line: they are shown lines, as pipes are."""

WIDEST_BAR = 40
NARROWEST_BAR = 8
"""Characters."""

LEAST_COLUMNS = 60
"""Of terminals that have room for a bar beside figures."""

WIDEST_NAME = 24
"""Characters of a name that are shown beside figures."""

SHARE = 4
"""Characters of a share: 100%."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to show.

    Attributes:
        name: Of the object; empty: it is not known yet.
        parts: Figures and states, what matters most first.
        done: Of `total`; None: nobody knows how much there is.
    """

    name: str
    parts: tuple[str, ...]
    done: float = 0.0
    total: float | None = None

    @property
    def share(self) -> str:
        """How much is done; empty: that is not known."""
        return f"{self.done / self.total:.0%}" if self.total else ""

    @property
    def line(self) -> str:
        """All of it."""
        head = f"{self.name}: " if self.name else ""
        return head + ", ".join(part for part in (self.share, *self.parts) if part)


def shown(event: Event, name: str, stored_before: int = 0, encoding: str = "") -> Shown | None:
    """Return what there is to show after an event; None: nothing new.

    Args:
        name: Of the object, if it is known.
        stored_before: Symbols that were stored at the progress before.
        encoding: What there is to say of repair symbols beside it.
    """
    match event:
        case Hashing(done=done, total=total):
            return Shown(name, ("hashing",), done, total)
        case Spooling(done=done, total=total):
            return Shown(name, (f"copying into the spool, {human_bytes(done)}",), done, total)
        case Unpacking(done=done, total=total):
            return Shown(name, ("unpacking",), done, total)
        case PassedOn(done=done, total=total):
            return Shown(name, ("passing on",), done, total)
        case Encoding(done=done, total=total):
            return Shown(name, ("computing repair symbols",), done, total)
        case SendProgress():
            return _sending(event, name, encoding)
        case ReceiveProgress():
            return _receiving(event, name, stored_before)
    return None


def _sending(event: SendProgress, name: str, encoding: str) -> Shown:
    figures, repairs = event.figures, event.repairs
    rest = (f"{human_time(figures.seconds)} so far", *filter(None, (encoding,)))
    if repairs:
        rest += (repairs_text(repairs),)
    if figures.achieved_rate is None:
        return Shown(name, ("repairing", _rate(figures.rate), *reversed(rest)))
    cycles = figures.cycles
    return Shown(name, (f"cycle {int(cycles) + 1}", _rate(figures.rate), *rest), cycles % 1, 1)


def _rate(rate: int) -> str:
    """Return bit/s for people, in as many digits as stand still."""
    return human_rate(int(float(f"{rate:.2g}"))) if rate else "0 bit/s"


def repairs_text(repairs: RepairFigures) -> str:
    """Return what was asked for and repeated."""
    return f"{repairs.naks_received} NAKs, {repairs.rdata} packets repeated"


def _receiving(event: ReceiveProgress, name: str, stored_before: int) -> Shown:
    total = event.symbols or None
    waiting = f"{human_time(event.figures.seconds)} so far"
    if not event.figures.packets:
        refused = sum(event.figures.refused.values())
        state = f"waiting: {refused} packets, none valid" if refused else "waiting: no packets"
        return Shown(name, (state, waiting), event.stored, total)
    silence = event.network.silence or 0
    losses = f"{event.figures.lost} lost"
    if silence * SECOND >= SILENT_AFTER:
        state = f"nothing for {silence:.0f} s: is the sender gone?"
        return Shown(name, (state, losses), event.stored, total)
    if not event.has_manifest:
        state = "receiving, no manifest yet" if total else "waiting: nothing to take yet"
        return Shown(name, (state, waiting), event.stored, total)
    rate = _rate(event.network.rate)
    if event.stored == stored_before:
        is_whole = event.stored == event.symbols
        state = "verifying" if is_whole else "waiting for what is missing"
        return Shown(name, (state, rate, losses), event.stored, total)
    left = () if event.time_left is None else (f"{human_time(event.time_left)} left",)
    return Shown(name, (rate, *left, losses), event.stored, total)


def has_bar() -> bool:
    """Whether standard error is a terminal that can show a bar."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in DUMB


class Bar:
    """A line of a terminal for each object, which is drawn again and again; used as a context."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.console: Console = Console(stderr=True, emoji=False)
        self._width = BarColumn(bar_width=NARROWEST_BAR)
        self._columns: tuple[ProgressColumn, ...] = (
            TextColumn("{task.description}", markup=False),
            self._width,
            TextColumn("{task.fields[rest]}", markup=False),
        )
        self._drawn: Progress = Progress(*self._columns, console=self.console, transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bar:
        self._drawn.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._drawn.stop()

    def say(self, text: str) -> None:
        """Print a line above it."""
        self.console.print(text, markup=False, highlight=False)

    def show(self, key: str, what: Shown) -> None:
        """Show how far the object with this key is."""
        if key not in self._tasks:
            self._tasks[key] = self._drawn.add_task("", total=None, rest="")
        name, width, rest = laid_out(what, self.console.width)
        # Its width is everybody's; a bar that does not fit is left out.
        self._width.bar_width = width
        self._drawn.columns = self._columns if width else self._columns[::2]
        self._drawn.update(
            self._tasks[key], description=name, completed=what.done, total=what.total, rest=rest
        )

    def drop(self, key: str) -> None:
        """Show that object no longer."""
        if key in self._tasks:
            self._drawn.remove_task(self._tasks.pop(key))


def laid_out(what: Shown, columns: int) -> tuple[str, int, str]:
    """Return name, characters of the bar, and figures, as they fit beside each other.

    What matters least goes first where there is no room: the bar, figures from the end, the name.
    """
    from rich.cells import cell_len, set_cell_size

    bar = NARROWEST_BAR + 1 if columns >= LEAST_COLUMNS else 0
    room = columns - 1 - bar  # a space behind the name, another behind the bar
    name = what.name
    if cell_len(name) > WIDEST_NAME:
        name = _shortened(name, WIDEST_NAME)
    parts = [what.share.rjust(SHARE), *what.parts] if what.total else list(what.parts)
    least = min(len(parts), 2 if what.total else 1)
    while len(parts) > least and cell_len(name) + _length(parts) > room:
        parts.pop()
    if cell_len(name) + _length(parts) > room:
        name = _shortened(name, room - _length(parts))
    rest = ", ".join(parts)
    if cell_len(name) + cell_len(rest) > room:
        rest = set_cell_size(rest, max(1, room - cell_len(name))).rstrip()
    left = columns - 2 - cell_len(name) - cell_len(rest)
    return name, min(WIDEST_BAR, left) if bar else 0, rest


def _shortened(name: str, cells: int) -> str:
    """Return the beginning of a name; empty: there is no room for one."""
    from rich.cells import set_cell_size

    return f"{set_cell_size(name, cells - 1).rstrip()}\N{HORIZONTAL ELLIPSIS}" if cells > 3 else ""


def _length(parts: list[str]) -> int:
    return sum(map(len, parts)) + 2 * max(0, len(parts) - 1)
