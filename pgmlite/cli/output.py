"""What the user sees of events: JSON lines for programs, a bar or plain lines for people."""

from __future__ import annotations

import gc
import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pgmlite.cli.codes import Told
from pgmlite.cli.json_lines import line, warning_text
from pgmlite.cli.lines import fit
from pgmlite.cli.words import progress_text, text_of
from pgmlite.core.events import (
    Encoding,
    Event,
    Failed,
    Hashing,
    ReceiveProgress,
    ReceiveStarted,
    RepairStarted,
    SendProgress,
    SendStarted,
    Spooling,
    Stopped,
    Waiting,
    Warned,
)
from pgmlite.core.events_signing import Verified
from pgmlite.errors import PgmliteError

if TYPE_CHECKING:
    # Imported when needed: a sender starts sooner without them.
    from rich.progress import Progress

    from pgmlite.api import Handle

PLAIN_LINES_EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""


class Barred:
    """Has a progress bar, perhaps; used as a context so that it never outlives an error."""

    _bar: Progress | None = None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()


class Output(Barred):
    """Prints events."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._bar: Progress | None = None
        self._last_line = time.monotonic()
        self._stored = 0
        self._encoding = ""
        """What there is to say of repair symbols beside the progress of a sender."""

        self._told: PgmliteError | None = None
        self._is_frozen = False
        if not as_json and sys.stderr.isatty():
            self._bar = _progress_bar()
            self._task = self._bar.add_task("", total=None)

    def follow(self, handle: Handle[Any]) -> None:
        """Print what happens, to the end.

        Raises:
            PgmliteError: It ended it.
            Told: The same, and an event has said it.
        """
        with self, handle:
            try:
                for event in handle:
                    self.show(event, handle.began)
            except PgmliteError as error:
                raise self.ended(error) from error

    def ended(self, error: PgmliteError) -> Exception:
        """Return what to raise: not to be said again, if an event has said it."""
        return Told(error) if error is self._told else error

    def show(self, event: Event, began: int) -> None:
        """Print one event, `began` ns being the start."""
        if isinstance(event, SendStarted | RepairStarted | ReceiveStarted):
            self._freeze()
        if isinstance(event, Failed | Stopped | Verified):
            self._told = event.error
        if self._json:
            print(json.dumps(line(event, began)), flush=True)
        elif text := text_of(event, began):
            self.say(text)
        # Who reads events reads these as well, where people look.
        if isinstance(event, Warned):
            self.say(f"warning: {warning_text(event)}")
        elif isinstance(event, Waiting):
            self.say(f"waiting for {event.waiting}")
        self._show_progress(event)

    def _freeze(self) -> None:
        """Let what the start-up left never be looked at again as garbage: it will be none."""
        if not self._is_frozen:
            self._is_frozen = True
            gc.freeze()

    def say(self, text: str) -> None:
        """Print a line for people, on stderr."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(fit(text, sys.stderr), file=sys.stderr, flush=True)

    def _show_progress(self, event: Event) -> None:
        match event:
            case Hashing():
                self._show_bar("hashing", event.done, event.total)
            case Spooling():
                self._show_bar("copying into the spool", event.done, event.total)
            case Encoding():
                self._encoding = f", repair symbols {event.done / event.total:.0%} computed"
            case SendProgress():
                cycles = event.figures.cycles
                is_carousel = event.figures.achieved_rate is not None
                done, total = (cycles % 1, 1) if is_carousel else (0, None)
                text, self._encoding = progress_text(event) + self._encoding, ""
                self._show_bar(text, done, total)
            case ReceiveProgress():
                text = progress_text(event, self._stored)
                self._stored = event.stored
                self._show_bar(text, event.stored, event.symbols or None)

    def _show_bar(self, text: str, done: float, total: float | None) -> None:
        """Show progress: the bar on a terminal, now and then a line elsewhere."""
        if self._bar:
            self._bar.update(self._task, description=text, completed=done, total=total)
        elif not self._json and time.monotonic() - self._last_line >= PLAIN_LINES_EVERY:
            self._last_line = time.monotonic()
            share = f" {done / total:.0%}" if total else ""
            print(f"{text}{share}", file=sys.stderr, flush=True)


def _progress_bar() -> Progress:
    # Imported where a terminal wants it: it costs a tenth of a second of every start.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
