"""Tables for people: columns go before numbers are cut, and where few are left lines take over."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Imported when needed: it costs a tenth of a second of every start.
    from rich.table import Table

WIDEST = 10_000
"""Characters in which every table fits."""

NARROW = 12
"""Characters that a text is broken to before a column goes."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        heading: Its lines, the first word first.
        spare: The highest goes first where there is no room; 0: it stays.
        wraps: It is text, of which a line may be broken.
    """

    heading: str
    cells: Sequence[str]
    spare: int = 0
    wraps: bool = False
    is_number: bool = True

    @property
    def name(self) -> str:
        """The heading in one line."""
        return self.heading.replace("\n", " ")


def render(
    title: str, columns: Sequence[Column], width: int, sections: Sequence[int] = ()
) -> list[str]:
    """Return the lines of a table, none longer than `width` unless a word is.

    Args:
        sections: Rows after which a line is drawn.
    """
    shown = list(columns)
    going = sorted((one for one in columns if one.spare), key=lambda one: one.spare)
    while _natural_width(shown) > width and going:
        shown.remove(going.pop())
    gone = [one.name for one in columns if one not in shown]
    if _natural_width(shown) > width:
        return [*_wrapped(f"{title}:", width), *_stacked(columns, width)]
    lines = [*_wrapped(title, width), *_lines(_table(shown, sections), width)]
    if gone:
        lines += _wrapped(f"Not shown in {width} columns: {', '.join(gone)}.", width)
    return lines


def _table(columns: Sequence[Column], sections: Sequence[int] = ()) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for one in columns:
        table.add_column(
            one.heading,
            justify="right" if one.is_number else "left",
            vertical="bottom",
            no_wrap=not one.wraps,
        )
    for place, cells in enumerate(zip(*(one.cells for one in columns), strict=True)):
        table.add_row(*cells, end_section=place in sections)
    return table


def _lines(table: Table, width: int) -> list[str]:
    from rich.console import Console

    # Cells may come from users and strangers: they are no markup, and `:b:` in them is no picture.
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _natural_width(columns: Sequence[Column]) -> int:
    """Return how wide a table is of which nothing but texts is broken."""
    from rich.text import Text

    narrow = [
        replace(one, cells=[textwrap.fill(cell, NARROW) for cell in one.cells])
        if one.wraps
        else one
        for one in columns
    ]
    lines = _lines(_table(narrow), WIDEST)
    return max((Text.from_ansi(line).cell_len for line in lines), default=0)


def _stacked(columns: Sequence[Column], width: int) -> list[str]:
    """Return a paragraph for each row."""
    lines: list[str] = []
    for cells in zip(*(one.cells for one in columns), strict=True):
        facts = [f"{one.name} {cell}" for one, cell in zip(columns, cells, strict=True) if cell]
        lines += _wrapped(", ".join(facts), width)
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
