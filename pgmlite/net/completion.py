"""The command for what was published: it runs at least once for each object, and is numbered.

A receiver may be killed at any instant. What it leaves is the record beside the output, and the
next start goes by it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pgmlite.core.events import Hooked, Tell, Warned
from pgmlite.core.figures import HookEnding
from pgmlite.core.machine import SECOND
from pgmlite.errors import DiskError, HookError, Interrupted
from pgmlite.net import hook
from pgmlite.net.hook import Command, Ending, safe_name, supervise
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.storage.record import Identity, Phase, Publication, PublishedRecord
from pgmlite.wire.manifest import Manifest

PATIENCE = hook.GRACE + 1 * SECOND
"""For a record that another process has: what a killed receiver left running ends within it."""


class CompletionHook:
    """The command of one receiver, and what it is run for."""

    def __init__(
        self,
        command: Command,
        path: Path,
        record: PublishedRecord,
        identity: Callable[[], Identity | None],
        tell: Tell,
        *,
        timeout: int | None,
        again: str = "the next start runs it again",
    ) -> None:
        """
        Args:
            path: The output as the user names it.
            record: Where what was published is remembered; the caller closes it.
            identity: Of what is there now; None: nothing is, or it can't be looked at.
            timeout: ns after which the command is ended; None: never.
            again: What becomes of a command that failed, in words.
        """
        self._again = again
        self._command = command
        self._path = path.absolute()
        self._record = record
        self._identity = identity
        self._tell = tell
        self._timeout = timeout
        self._what = f"on_complete {command.words[0]}"
        self._current: Publication | None = None
        self._is_new = False
        self._is_held_elsewhere = False
        self._failure: HookError | None = None

    def _warn(self, text: str, cause: str = "") -> None:
        self._tell(Warned(time.monotonic_ns(), text, cause))

    def look(self) -> Waits[None]:
        """Find out what an earlier receiver published.

        Raises:
            DiskError: What this receiver is to publish could not be recorded.
            Interrupted: It was asked to stop.
        """
        self._record.check()
        try:
            self._current = yield from read_record(self._record)
        except BlockingIOError:
            self._is_held_elsewhere = True
            self._warn(f"{self._what}: another receiver is running it; left to that", "on_complete")

    @property
    def found(self) -> Publication | None:
        """What was published, as far as it is known."""
        return self._current

    @property
    def is_due(self) -> bool:
        """Whether the command has to be run for what is in place."""
        found = self._current
        return found is not None and found.phase is not Phase.DONE and self._is_in_place(found)

    def settle(self) -> None:
        """Note that the command for what `look` found is done: this process has seen it end."""
        if self._current is not None:
            self._note_end(self._current)

    def resume(self) -> Waits[None]:
        """Run the command for what `look` found, unless it is done.

        Its failure is only reported: the network may bring something better.

        Raises:
            Interrupted: It was asked to stop.
        """
        found = self._current
        if found is None or not self.is_due:
            return
        try:
            yield from self._run(found)
        except HookError as error:
            self._failure = error
            self._warn(str(error), error.cause)

    def publishing(
        self, manifest: Manifest, found: Identity, signers: Sequence[bytes] = ()
    ) -> None:
        """Record what is about to become the output.

        Args:
            signers: Ids of the keys that signed it.

        Raises:
            DiskError: It can't be recorded.
        """
        self._current = Publication.of(manifest, found, signers)
        self._is_new = True
        self._failure = None
        self._record.write(self._current)

    def finish(self, manifest: Manifest, signers: Sequence[bytes] = ()) -> Waits[None]:
        """Run the command for the object that is in place, unless it is done.

        Args:
            signers: Ids of the keys that signed it.

        Raises:
            HookError: It failed, here or before in this process, or can't be run.
            Interrupted: It was asked to stop.
        """
        found = self._current
        if self._is_held_elsewhere and not self._is_new:
            try:
                found = yield from read_record(self._record)
            except BlockingIOError:
                raise HookError(
                    f"{self._what}: another receiver is running it; {self._path} is in place",
                    cause="on_complete",
                ) from None
        if found is None or not found.is_of(manifest) or not self._is_in_place(found):
            if self._is_new:
                raise HookError(
                    f"{self._what}: not run: {self._path} is not what was published",
                    cause="on_complete",
                )
            found = self._already_in_place(manifest, signers)
        elif self._failure:
            raise self._failure
        if found.phase is not Phase.DONE:
            yield from self._run(found)

    def _is_in_place(self, publication: Publication) -> bool:
        found = self._identity()
        return found is not None and publication.names(found)

    def _already_in_place(self, manifest: Manifest, signers: Sequence[bytes]) -> Publication:
        found = self._identity()
        if found is None:
            raise HookError(f"{self._what}: not run: {self._path} is gone", cause="on_complete")
        return Publication.of(manifest, found, signers)

    def _run(self, publication: Publication) -> Waits[None]:
        """Run the command once, and record it.

        Raises:
            HookError: It can't be run, or failed.
            Interrupted: It was asked to stop.
        """
        attempt = publication.start()
        try:
            self._record.write(attempt)
        except DiskError as error:
            raise HookError(
                f"{self._what}: not run: {error}; {self._path} is in place", cause="on_complete"
            ) from error
        self._current = attempt
        self._say(attempt, "started")
        ending = yield from supervise(
            self._command,
            self._path,
            self._facts(attempt),
            timeout=self._timeout,
            lock=self._record.lock,
        )
        self._say(attempt, "done" if ending.is_good else "failed", ending)
        if ending.is_good:
            self._note_end(attempt)
            return
        text = (
            f"{self._what}: {ending} (attempt {attempt.attempt}); {self._path} is in place, "
            f"and {self._again}"
        )
        if ending.interrupted:
            raise Interrupted(text, cause="on_complete") from ending.interrupted
        raise HookError(text, cause="hook_timed_out" if ending.timed_out else "on_complete")

    def _note_end(self, attempt: Publication) -> None:
        self._current = attempt.end()
        if not self._record.is_in_place:
            return  # another receiver published something since: its record stays
        try:
            self._record.write(self._current)
        except DiskError as error:
            self._warn(f"{self._what}: done, but {self._again}: {error}", "on_complete")

    def _facts(self, publication: Publication) -> dict[str, bytes]:
        """Return what the command finds in its environment."""
        signed = {
            "PGMLITE_STREAM": publication.stream.encode(),
            "PGMLITE_RELEASE": str(publication.release).encode(),
            "PGMLITE_KEY": publication.keys.encode(),
        }
        return (signed if publication.keys else {}) | {
            "PGMLITE_PATH": os.fsencode(self._path),
            "PGMLITE_NAME": publication.name.encode(),
            "PGMLITE_SAFE_NAME": safe_name(publication.name).encode(),
            "PGMLITE_SIZE": str(publication.size).encode(),
            "PGMLITE_OBJECT_ID": f"{publication.oid:016x}".encode(),
            "PGMLITE_TREE_DIGEST": publication.tree_digest.hex().encode(),
            "PGMLITE_ATTEMPT": str(publication.attempt).encode(),
        }

    def _say(self, publication: Publication, phase: str, ending: Ending | None = None) -> None:
        how = None
        if ending:
            error = None if ending.is_good else str(ending)
            how = HookEnding(
                ending.code, ending.signal, ending.timed_out, round(ending.seconds, 3), error
            )
        self._tell(
            Hooked(
                time.monotonic_ns(),
                phase,
                publication.attempt,
                publication.oid,
                str(self._path),
                self._command.words[0],
                how,
            )
        )


def read_record(record: PublishedRecord) -> Waits[Publication | None]:
    """Return what a record says; None: there is none that can be believed.

    Raises:
        BlockingIOError: Another process has the record, and keeps it.
        Interrupted: It was asked to stop.
    """
    end = time.monotonic_ns() + PATIENCE
    while True:
        try:
            return record.read()
        except BlockingIOError:
            if time.monotonic_ns() >= end:
                raise
        yield Wait(POLL)
