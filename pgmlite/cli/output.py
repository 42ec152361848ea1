"""What the user sees of events: JSON lines for programs, a bar or plain lines for people."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pgmlite.cli.codes import Told, line_of
from pgmlite.cli.json_lines import EVENTS, UnixTime, by_system_clock, line, warning_text
from pgmlite.cli.lines import Priority, say
from pgmlite.cli.progress import Bar, has_bar, shown
from pgmlite.cli.words import text_of
from pgmlite.core.events import (
    Adopted,
    Completed,
    Encoding,
    Event,
    Failed,
    Hashing,
    PassedOn,
    ReceiveProgress,
    ReceiveStarted,
    RepairStarted,
    SendProgress,
    SendStarted,
    Spooling,
    Stopped,
    Unpacking,
    Waiting,
    Warned,
)
from pgmlite.core.events_signing import Verified
from pgmlite.core.machine import SECOND
from pgmlite.errors import Interrupted, PgmliteError, UsageError

if TYPE_CHECKING:
    # Imported when needed: a sender starts sooner without it.
    from pgmlite.api import Handle

PLAIN_LINES_EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""

QUIET_LINES_EVERY = 60.0
"""Seconds between them of who stays for ever; while nothing changes there are none."""

LEAST_INTERVAL = 1.0
"""Seconds; progress is looked at no more often."""

PROGRESS = (Hashing, Spooling, Unpacking, PassedOn, Encoding, SendProgress, ReceiveProgress)


@dataclass(slots=True)
class _Going:
    """How far one object is, as it was shown last.

    Attributes:
        name: Of the object; empty: not known yet.
        stored: Symbols at the progress before.
        encoding: What there is to say of repair symbols beside the progress of a sender.
        last: When a line was printed last, ns; None: none was yet.
        said: What it was of: (stored, is received).
    """

    name: str = ""
    stored: int = 0
    encoding: str = ""
    last: int | None = None
    said: int = 0


class Output:
    """Prints events; a context that takes care of the bar."""

    def __init__(
        self,
        *,
        as_json: bool,
        log_interval: float | None = None,
        is_quiet: bool = False,
        unix_time: UnixTime = by_system_clock,
    ) -> None:
        """
        Args:
            log_interval: Seconds between lines of progress where there is no bar; 0: none are
                printed; None: as is usual.
            is_quiet: Usual is little: it stays for ever.
            unix_time: What the clock of the events says in ns since 1970.

        Raises:
            UsageError: The interval is too short.
        """
        if log_interval is not None and 0 < log_interval < LEAST_INTERVAL:
            raise UsageError(
                f"log_interval {log_interval:g}: give 1s or more, such as 10s, or off",
                cause="log_interval",
            )
        self._json = as_json
        self._unix_time = unix_time
        self._is_quiet = is_quiet and log_interval is None
        self._every: float | None = _usual(as_json=as_json, is_quiet=is_quiet)
        if log_interval is not None:
            self._every = log_interval if log_interval else None
        self._going: dict[str, _Going] = {}
        self._told: list[PgmliteError] = []
        self._is_frozen = False
        self._bar = Bar() if not as_json and has_bar() else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.__exit__(kind, value, traceback)

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
        return Told(error) if any(error is one for one in self._told) else error

    def show(self, event: Event, began: int) -> None:
        """Print one event, `began` ns being the start."""
        if isinstance(event, SendStarted | RepairStarted | ReceiveStarted):
            self._freeze()
        if isinstance(event, Failed | Stopped | Verified) and event.error:
            self._told.append(event.error)
        if isinstance(event, PROGRESS):
            self._show_progress(event, began)
            return
        self._look(event)
        if self._json:
            EVENTS.write(line(event, began, self._unix_time))
        elif text := text_of(event, began):
            self.say(of_job(event, text))
        # Who reads events reads these as well, where people look.
        if isinstance(event, Warned):
            self.say(of_job(event, f"warning: {warning_text(event)}"), Priority.WARNING)
        elif isinstance(event, Failed) and event.job and not isinstance(event.error, Interrupted):
            # The others go on, for hours or for ever: the last line would come too late.
            self.say(of_job(event, line_of(event.error)), Priority.ERROR)
        elif isinstance(event, Waiting):
            self.say(of_job(event, f"waiting for {event.waiting}"))

    def _freeze(self) -> None:
        """Let what the start-up left never be looked at again as garbage: it will be none."""
        if not self._is_frozen:
            self._is_frozen = True
            gc.freeze()

    def say(self, text: str, priority: Priority = Priority.INFO) -> None:
        """Print a line for people, on stderr, unless that has the events."""
        if self._json and EVENTS.stdout_is_data:
            return
        if self._bar:
            self._bar.say(text)
        else:
            say(text, priority)

    def _of(self, event: Event) -> tuple[str, _Going]:
        return event.job, self._going.setdefault(event.job, _Going())

    def _look(self, event: Event) -> None:
        """Take note of the object that an event is about."""
        key, going = self._of(event)
        match event:
            case SendStarted() | RepairStarted() | Adopted():
                self._going[key] = _Going(event.manifest.name, last=going.last, said=going.said)
            case Completed():
                self._going[key] = _Going(last=going.last)
                if self._bar:
                    self._bar.drop(key)

    def _show_progress(self, event: Event, began: int) -> None:
        """Show progress: the bar on a terminal, now and then a line elsewhere."""
        key, going = self._of(event)
        if isinstance(event, Encoding) and going.name:
            # Beside what a sender is doing already.
            going.encoding = f"repair symbols {event.done / event.total:.0%} computed"
            if not self._json:
                return
        what = shown(event, going.name, going.stored, going.encoding)
        if isinstance(event, SendProgress):
            going.encoding = ""
        elif isinstance(event, ReceiveProgress):
            going.stored = event.stored
        if what and self._bar:
            self._bar.show(key, what)
        elif what and self._is_due(event, going, began):
            going.last, going.said = event.at, going.stored
            if self._json:
                EVENTS.write(line(event, began, self._unix_time))
            else:
                say(of_job(event, what.line), Priority.DEBUG)

    def _is_due(self, event: Event, going: _Going, began: int) -> bool:
        """Whether it is time for another line of progress."""
        if self._every is None:
            return False
        if self._is_quiet and isinstance(event, ReceiveProgress) and event.stored == going.said:
            return False  # nothing is received
        last = began if going.last is None else going.last
        return event.at - last >= self._every * SECOND


def of_job(event: Event, text: str) -> str:
    """Return what is said of an event, with the name of its job in front if there are several."""
    return f"{event.job}: {text}" if event.job else text


def _usual(*, as_json: bool, is_quiet: bool) -> float:
    """Return the seconds between lines of progress, where nothing was said of them."""
    if is_quiet:
        return QUIET_LINES_EVERY
    return 0.0 if as_json else PLAIN_LINES_EVERY
