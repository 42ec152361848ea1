"""One content after another: what replaces a file is sent in its place (spec: SND-16, SND-17)."""

from __future__ import annotations

import gc
import os
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

from pgmlite.core.events import SendProgress, Stopped, Tell, Warned
from pgmlite.core.figures import SendFigures
from pgmlite.core.machine import SECOND
from pgmlite.errors import DiskError, Interrupted, PgmliteError, UsageError
from pgmlite.net.hashing import hash_beside
from pgmlite.net.sending import SendLoop
from pgmlite.net.session import Session, stopped
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.storage.signed import content_path, is_signed_name
from pgmlite.storage.watch import Watched

T = TypeVar("T")

AGAIN_AFTER = 10 * SECOND
"""What could not be read is looked at again after that, if it is a folder or nothing is sent."""

Prepare = Callable[[Tell, Session | None, int | None], Waits[Session]]
"""Makes ready to send what is there now: `SendJob.prepare`."""


GONE_FOR = 1 * SECOND
"""Who replaces a file by two renames leaves nothing there for a moment."""


def check_followed(path: Path) -> None:
    """
    Raises:
        UsageError: Nothing can take its place by a rename.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:  # whoever opens it says why
        return
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        raise UsageError(
            f"follow: {path} is a device: no rename replaces what is in it; leave it out",
            cause="follow",
        )


def until(side: Waits[T], main: Waits[None]) -> Waits[T | None]:
    """Go on with `main` until `side` is done; return what that came to, None if `main` ended first.

    `main` has ended then; `side` goes on where it was if it is given again. Who interrupts,
    interrupts `main`. `side` is looked at every `POLL`, whatever it waits for.
    """
    resume: Callable[[], Wait] = partial(next, main)
    due = time.monotonic_ns()
    try:
        while True:
            now = time.monotonic_ns()
            if now >= due:
                try:
                    rest = next(side)
                except StopIteration as end:
                    found: T = end.value
                    return found
                due = now + max(0, min(rest.time, POLL))
            try:
                wait = resume()
            except StopIteration:
                return None
            try:
                ready = yield Wait(min(wait.time, due - now), wait.fds)
                resume = partial(main.send, ready)
            except PgmliteError as error:
                resume = partial(main.throw, error)
    finally:
        main.close()


class Resending:
    """Sends what is at a path, then what takes its place there: each in a session of its own."""

    def __init__(
        self, file: Path, content: Path | None, prepare: Prepare, duration: int | None, tell: Tell
    ) -> None:
        """
        Args:
            content: Of FILE.pglm; None: FILE beside it.
            duration: ns after which all ends; None: never.
        """
        self._content = content_path(file, content)
        # Of a signed pair the second rename counts, which is that of FILE.pglm.
        self._watched = Watched(file, self._content if is_signed_name(file) else None)
        self._file, self._prepare, self._duration, self._tell = file, prepare, duration, tell
        self._session: Session | None = None
        self._loop: SendLoop | None = None
        self._ends: int | None = None
        self._outdated: list[ExitStack] = []
        """What was sent before, to be closed: its thread may be busy for a while."""

        self._is_idle = False
        """What was sent is not whole any more, and nothing else is ready."""

        self._is_refused = False
        """What is there can't be sent: once it is written to it is looked at again."""

        self._again_at: int | None = None
        self._gone_since: int | None = None
        self._told = ""

    def run(self) -> Waits[Stopped]:
        """
        Raises:
            PgmliteError: As of `SendJob.run`, of what is there at the start; and NetworkError.
        """
        check_followed(self._content)
        reason = "finished"
        try:
            yield from self._send_all()
        except Interrupted as interruption:
            # spec: SND-16: it never comes to an end by itself, so this is one.
            reason = str(interruption)
        except PgmliteError as error:
            if self._loop:
                self._tell(stopped(self._loop, str(error), error))
            raise
        finally:
            self._close()
        if self._loop:
            last = stopped(self._loop, reason, None)
        else:
            last = Stopped(
                time.monotonic_ns(), reason, None, SendFigures(0, 0, 0, 0, 0, 0, 0, 0), None
            )
        self._tell(last)
        return last

    def _close(self) -> None:
        self._watched.close()
        if self._session:
            self._session.outlet.close()
            self._outdated.append(self._session.opened)
        _close_all(self._outdated)

    def _send_all(self) -> Waits[None]:
        self._watched.take()
        found: Session | None = yield from self._prepare(self._tell, None, None)
        if self._duration is not None:
            self._ends = time.monotonic_ns() + self._duration
        while found:
            found = yield from self._send(found)

    def _send(self, session: Session) -> Waits[Session | None]:
        """Send one content until the next is ready; return that, None at the end of its time."""
        before, self._session = self._session, session
        if before:
            before.outlet.close(session.outlet)
            self._outdated.append(before.opened)
        loop = self._loop = session.loop(self._tell)
        self._tell(session.started(before.manifest.oid if before else None))
        self._is_idle = self._is_refused = False
        self._told = ""
        side = self._next(session)
        try:
            found = yield from until(side, loop.run())
        except DiskError as error:
            self._lose(error)
            found = yield from until(side, self._wait())
        finally:
            side.close()
        if found:
            now = time.monotonic_ns()
            self._tell(SendProgress(now, *loop.figures(now)))
        return found

    def _wait(self) -> Waits[None]:
        """Send nothing until the end of all time."""
        while self._ends is None or time.monotonic_ns() < self._ends:
            yield Wait(POLL)

    def _next(self, session: Session) -> Waits[Session]:
        """Return what takes the place of `session`, made ready while that is sent."""
        if self._outdated:
            yield from hash_beside(lambda _: _close_all(self._outdated), self._tell)
        while True:
            yield from self._await_change()
            self._watched.take()
            self._is_refused, self._again_at = False, None
            try:
                return (yield from self._prepare(self._tell, session, self._ends))
            except Interrupted:
                raise
            except PgmliteError as error:
                self._refuse(error)

    def _await_change(self) -> Waits[None]:
        """Wait until there is something else to send."""
        watched = self._watched
        while True:
            now = time.monotonic_ns()
            if watched.is_replaced:
                break
            if (self._is_refused or self._is_idle) and watched.has_settled(now):
                break
            if self._again_at is not None and now >= self._again_at:
                break
            self._look_whether_gone(now)
            yield Wait(POLL)
        self._gone_since = None

    # What goes wrong.

    def _look_whether_gone(self, now: int) -> None:
        """Say so if nothing is there, and another name is not about to come."""
        if not self._watched.is_gone:
            self._gone_since = None
            return
        self._gone_since = self._gone_since or now
        if now - self._gone_since >= GONE_FOR and not self._is_idle:
            text = f"nothing is at {self._file} any more: going on with what was there"
            self._warn(text, "source")

    def _lose(self, error: DiskError) -> None:
        """Note that what is sent is not what was hashed any more: it is sent no more."""
        # spec: SND-7
        now = time.monotonic_ns()
        self._is_idle = True
        self._watched.soil(now)
        why = str(error).removesuffix("; start again")
        self._warn(
            f"what is sent is not whole any more: {why}; sending it anew when it is", "source"
        )

    def _refuse(self, error: PgmliteError) -> None:
        """Go on with what is sent, if anything is; what replaced it is of no use."""
        self._is_refused = True
        # What is written somewhere in a folder is not seen at its name.
        may_pass = isinstance(error, DiskError) and (self._is_idle or self._content.is_dir())
        if may_pass:
            self._again_at = time.monotonic_ns() + AGAIN_AFTER
        if not self._is_idle:
            rest = "going on with what was there"
        elif may_pass:
            rest = "sending nothing, and trying again"
        else:
            rest = "sending nothing until something else is there"
        self._warn(f"what is at {self._file} now can't be sent: {error}; {rest}", "replacement")

    def _warn(self, text: str, cause: str) -> None:
        if text != self._told:
            self._told = text
            self._tell(Warned(time.monotonic_ns(), text, cause))


def _close_all(stacks: list[ExitStack]) -> None:
    """Close what is in the list, and empty it."""
    while stacks:
        stacks.pop().close()
    gc.collect()  # loops and their buffers stand in circles
