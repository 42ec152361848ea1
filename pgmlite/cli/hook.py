"""``--on-complete``: its command runs at least once for each published object, and numbered.

`recv` may be killed at any instant. What it leaves is the record beside the output, and the next
start goes by it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pgmlite.cli.output import Output, oid_text
from pgmlite.core.machine import SECOND
from pgmlite.errors import DiskError, HookError, Interrupted
from pgmlite.net import hook
from pgmlite.net.hook import Command, safe_name, supervise
from pgmlite.net.loop import POLL, Stop, sleep
from pgmlite.storage.record import Phase, Publication, PublishedRecord
from pgmlite.storage.system import reason
from pgmlite.wire.control import Manifest

PATIENCE = hook.GRACE + 1 * SECOND
"""For a record that another process has: what a killed `recv` left running ends within it."""


class CompletionHook:
    """The command of one `recv`, and what it is run for."""

    def __init__(
        self,
        command: Command,
        path: Path,
        output: Output,
        stop: Stop,
        *,
        timeout: int | None,
    ) -> None:
        """
        Args:
            path: The output as the user names it.
            output: Where events go.
            timeout: ns after which the command is ended; None: never.
        """
        self._command = command
        self._path = path.absolute()
        self._record = PublishedRecord(path, output.warn)
        self._output = output
        self._stop = stop
        self._timeout = timeout
        self._what = f"--on-complete {command.words[0]}"
        self._current: Publication | None = None
        self._is_new = False
        self._is_held_elsewhere = False
        self._failure: HookError | None = None

    def resume(self) -> None:
        """Run the command for what an earlier `recv` published, unless it is done.

        Its failure is only reported: the network may bring something better.

        Raises:
            DiskError: What this `recv` is to publish could not be recorded.
            Interrupted: A signal came.
        """
        self._record.check()
        try:
            self._current = self._read()
        except BlockingIOError:
            self._is_held_elsewhere = True
            self._output.warn(f"{self._what}: another receiver is running it; left to that")
            return
        found = self._current
        if found is None or found.phase is Phase.DONE or not self._is_in_place(found):
            return
        try:
            self._run(found)
        except HookError as error:
            self._failure = error
            self._output.warn(str(error))

    def publishing(self, manifest: Manifest, status: os.stat_result) -> None:
        """Record what is about to become the output.

        Raises:
            DiskError: It can't be recorded.
        """
        self._current = Publication.of(manifest, status)
        self._is_new = True
        self._failure = None
        self._record.write(self._current)

    def finish(self, manifest: Manifest) -> None:
        """Run the command for the object that is in place, unless it is done.

        Raises:
            HookError: It failed, here or before in this process, or can't be run.
            Interrupted: A signal came.
        """
        found = self._current
        if self._is_held_elsewhere and not self._is_new:
            try:
                found = self._read()
            except BlockingIOError:
                raise HookError(
                    f"{self._what}: another receiver is running it; {self._path} is in place"
                ) from None
        if found is None or not found.is_of(manifest) or not self._is_in_place(found):
            if self._is_new:
                raise HookError(f"{self._what}: not run: {self._path} is not what was published")
            found = self._already_in_place(manifest)
        elif self._failure:
            raise self._failure
        if found.phase is not Phase.DONE:
            self._run(found)

    def close(self) -> None:
        """Let other receivers have the record."""
        self._record.close()

    def _read(self) -> Publication | None:
        """
        Raises:
            BlockingIOError: Another process has the record, and keeps it.
            Interrupted: A signal came.
        """
        end = time.monotonic_ns() + PATIENCE
        while True:
            try:
                return self._record.read()
            except BlockingIOError:
                if time.monotonic_ns() >= end:
                    raise
            self._stop.check()
            sleep(POLL)

    def _is_in_place(self, publication: Publication) -> bool:
        try:
            return publication.names(os.stat(self._path))
        except OSError:
            return False

    def _already_in_place(self, manifest: Manifest) -> Publication:
        try:
            return Publication.of(manifest, os.stat(self._path))
        except OSError as error:
            raise HookError(f"{self._what}: not run: {self._path}: {reason(error)}") from error

    def _run(self, publication: Publication) -> None:
        """Run the command once, and record it.

        Raises:
            HookError: It can't be run, or failed.
            Interrupted: A signal came.
        """
        attempt = publication.start()
        try:
            self._record.write(attempt)
        except DiskError as error:
            raise HookError(f"{self._what}: not run: {error}; {self._path} is in place") from error
        self._current = attempt
        self._say(attempt, "started", f"running {self._command.words[0]} on {self._path}")
        ending = supervise(
            self._command,
            self._path,
            self._facts(attempt),
            self._stop,
            timeout=self._timeout,
            lock=self._record.lock,
        )
        self._say(
            attempt,
            "done" if ending.is_good else "failed",
            f"{self._command.words[0]}: done in {ending.seconds:.1f} s" if ending.is_good else "",
            code=ending.code,
            signal=ending.signal,
            timed_out=ending.timed_out,
            seconds=round(ending.seconds, 3),
            error=None if ending.is_good else str(ending),
        )
        if ending.is_good:
            self._note_end(attempt)
            return
        text = (
            f"{self._what}: {ending} (attempt {attempt.attempt}); {self._path} is in place, "
            "and the next start runs it again"
        )
        raise Interrupted(text) if ending.interrupted else HookError(text)

    def _note_end(self, attempt: Publication) -> None:
        self._current = attempt.end()
        if not self._record.is_in_place:
            return  # another receiver published something since: its record stays
        try:
            self._record.write(self._current)
        except DiskError as error:
            self._output.warn(f"{self._what}: done, but the next start runs it again: {error}")

    def _facts(self, publication: Publication) -> dict[str, bytes]:
        """Return what the command finds in its environment."""
        return {
            "PGMLITE_PATH": os.fsencode(self._path),
            "PGMLITE_NAME": publication.name.encode(),
            "PGMLITE_SAFE_NAME": safe_name(publication.name).encode(),
            "PGMLITE_SIZE": str(publication.size).encode(),
            "PGMLITE_OBJECT_ID": oid_text(publication.oid).encode(),
            "PGMLITE_TREE_DIGEST": publication.tree_digest.hex().encode(),
            "PGMLITE_ATTEMPT": str(publication.attempt).encode(),
        }

    def _say(self, publication: Publication, phase: str, text: str, **fields: Any) -> None:
        self._output.event(
            "hook",
            text,
            phase=phase,
            attempt=publication.attempt,
            oid=oid_text(publication.oid),
            path=str(self._path),
            **fields,
        )
