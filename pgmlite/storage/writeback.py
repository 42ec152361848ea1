"""What of a partial file survives: a kill, by a record of what lies where; a power cut, by flushes.

spec: RCV-8, RCV-15.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from threading import Thread

from pgmlite.core.machine import Held, Lying, Prepare
from pgmlite.errors import DiskError
from pgmlite.storage.folder import Folder
from pgmlite.storage.hints import Hints, Spans
from pgmlite.storage.system import forget_cache, reason, sync_all, sync_data

FLUSH_EVERY = 5.0
"""Seconds from the first byte that is not on the disk to the start of a flush."""

FLUSH_BYTES = 64 << 20
"""Bytes that may wait for the next flush."""


class Flusher:
    """Flushes in a thread of its own, one flush at a time; the receiver goes on meanwhile."""

    def __init__(self, flush: Callable[[], None]) -> None:
        """
        Args:
            flush: Makes durable what was written before it is called; raises OSError.
        """
        self._flush = flush
        self._thread: Thread | None = None
        self._error: OSError | None = None
        self._waiting = 0
        self._since = 0.0

    def wrote(self, count: int) -> None:
        """Count bytes that were written; start a flush if it is time.

        Raises:
            OSError: What an earlier flush ended with.
        """
        now = time.monotonic()
        if not self._waiting:
            self._since = now
        self._waiting += count
        self.look(now)

    def look(self, now: float | None = None) -> None:
        """Start a flush if it is time.

        Raises:
            OSError: What an earlier flush ended with.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        self.wait()
        now = time.monotonic() if now is None else now
        if self._waiting >= FLUSH_BYTES or (self._waiting and now - self._since >= FLUSH_EVERY):
            self._waiting = 0
            self._thread = Thread(target=self._run, name="flush", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._flush()
        except OSError as error:
            self._error = error

    def join(self) -> None:
        """Wait for the end of the flush that runs, however it ends."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wait(self) -> None:
        """Wait for the end of the flush that runs.

        Raises:
            OSError: What it ended with.
        """
        self.join()
        if self._error is not None:
            error, self._error = self._error, None
            raise error


class WriteBack:
    """Records what was written to one partial file, and has the disk take it in time.

    Attributes:
        is_suspect: The disk once failed to take what was written, in this run or an earlier one.
        warnings: Shared with the partial file.
    """

    def __init__(
        self, folder: Folder, fd: int, name: str, record: str, warnings: list[str]
    ) -> None:
        """
        Args:
            fd: The partial file.
            name: What messages call it.
            record: Name of its record.
        """
        self.is_suspect = False
        self.warnings = warnings
        self._folder = folder
        self._fd = fd
        self._name = name
        self._is_named = False
        """The folder knows the names of both files durably."""

        self._is_synced = False
        """All of the file is on the disk: nothing was written since `reread`."""

        self._flusher = Flusher(self._flush)
        self._hints: Hints | None = None
        self._records = True
        """What lies where is still recorded."""

        self._is_given_up = False
        self._trouble: OSError | None = None
        """What a flush met with the record."""

        try:
            status = os.fstat(fd)
            self._hints = Hints(folder, record)
            self._hints.own(status)
            self.is_suspect = self._hints.is_suspect
        except (OSError, DiskError) as error:
            self._lose_record(error)

    # The record. Without one, the next run has to find out by itself.

    def load(self, wanted: Prepare, places: int) -> Held | None:
        """Return what earlier runs recorded (`Hints.load`)."""
        held: Held | None = None

        def load(hints: Hints) -> None:
            nonlocal held
            held = hints.load(wanted, places)
            if held and self._is_synced:
                hints.mark_flushed(hints.unflushed())

        self._record(load)
        return held

    @property
    def is_of_another(self) -> bool:
        """Whether the record is of another object than the one it was last asked about."""
        return self._hints is not None and self._hints.is_of_another

    def group(self, block_symbols: int) -> None:
        """Learn how many symbols a block has."""
        self._record(lambda hints: hints.group(block_symbols))

    def found(self, wanted: Prepare, start: int, stop: int) -> None:
        """Record that the bytes from `start` to `stop` were there, whoever wrote them."""
        size = wanted.symbol_size
        self._record(lambda hints: hints.found(wanted, start // size, -(-stop // size)))

    def forget(self, wanted: Prepare, spans: Spans) -> None:
        """Record that nothing lies in places, before other symbols are written there."""
        self._record(lambda hints: hints.forget(wanted, spans))

    def _record(self, step: Callable[[Hints], None]) -> None:
        """Do something with the record, as long as there is one."""
        if self._hints is None or not self._records:
            return
        try:
            if self._trouble:
                trouble, self._trouble = self._trouble, None
                raise trouble
            step(self._hints)
        except (OSError, DiskError) as error:
            self._lose_record(error)

    def _lose_record(self, error: OSError | DiskError) -> None:
        words = reason(error) if isinstance(error, OSError) else str(error)
        self.warnings.append(f"{self._name}: no record of what lies where ({words})")
        self._records = False

    def _give_up_record(self) -> None:
        """Have later runs find out by themselves: there is more now than the record says."""
        if self._hints and not self._is_given_up:
            self._is_given_up = True
            self._flusher.join()  # it may be at the record
            self._hints.give_up()

    def suspect(self) -> None:
        """Have this run and later ones read the file back before they publish it."""
        self.is_suspect = True
        with contextlib.suppress(OSError, DiskError):
            if self._hints:
                self._hints.mark_suspect()

    def remove(self) -> None:
        """Remove the record: nobody needs it."""
        self._flusher.join()
        if self._hints:
            self._hints.remove()
            self._hints = None

    # The disk.

    def reread(self) -> None:
        """Have the system read the file from the disk again.

        Pages that it failed to write stay in its cache as if they had been written: whoever reads
        them there believes what the disk never got.
        """
        try:
            sync_data(self._fd)
            self._is_synced = True
        except OSError as error:
            self.suspect()
            self.warnings.append(f"{self._name}: {reason(error)}; reading it anew")
        forget_cache(self._fd)

    def wrote(
        self,
        wanted: Prepare | None,
        spans: Spans,
        lying: Lying | None = None,
        *,
        count: int | None = None,
    ) -> None:
        """Record what was written, (start, stop) bytes; start to flush it if it is time.

        Args:
            lying: As `Hints.note` takes it.
            count: Bytes that a power cut would cost until then; None: these.

        Raises:
            DiskError: The disk failed to take what was written before.
        """
        self._is_synced = False
        if wanted:
            size = wanted.symbol_size
            symbols = [(start // size, -(-stop // size)) for start, stop in spans]
            self._record(lambda hints: hints.note(wanted, symbols, lying))
        if not self._records:
            self._give_up_record()
        if count is None:
            count = sum(stop - start for start, stop in spans)
        self._try(lambda: self._flusher.wrote(count))

    def idle(self) -> None:
        """Flush what has waited for long enough, when nothing more comes.

        Raises:
            DiskError: The disk failed to take what was written.
        """
        self._try(self._flusher.look)

    def join(self) -> None:
        """Wait for the end of the flush that runs, however it ends."""
        self._flusher.join()

    def wait(self) -> None:
        """Wait for the end of the flush that runs.

        Raises:
            DiskError: The disk failed to take what was written.
        """
        self._try(self._flusher.wait)

    def read_anew(self, fd: int) -> None:
        """Have a file's bytes on the disk, and read from there next.

        Raises:
            DiskError: The disk failed to take them.
        """
        self._try(lambda: sync_data(fd))
        forget_cache(fd)

    def sync(self) -> None:
        """Have the file's bytes on the disk.

        Raises:
            DiskError: The disk failed to take them.
        """
        self._try(lambda: sync_data(self._fd))

    def sync_all(self) -> None:
        """Have the file's bytes, owner and permissions on the disk.

        Raises:
            DiskError: The disk failed to take them.
        """
        self._try(lambda: sync_all(self._fd))

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            self.suspect()
            raise DiskError(
                f"{self._name}: {reason(error)}: not all of it is on the disk; "
                "the next run reads it back"
            ) from error

    def _flush(self) -> None:
        """Make durable what was written so far, and then what the record says of it."""
        hints = self._hints if self._records else None
        stored = hints.unflushed() if hints else None
        sync_data(self._fd)
        if hints and stored:
            try:
                hints.mark_flushed(stored)
            except OSError as error:
                self._trouble = error
        if not self._is_named:
            self._is_named = True
            self._folder.sync()

    def close(self) -> None:
        """Let the last flush end; the record stays for the next run, if there is one to make."""
        is_empty = False
        try:
            self._flusher.wait()
        except OSError:
            self.suspect()
        with contextlib.suppress(OSError):
            is_empty = not os.fstat(self._fd).st_size
        if is_empty or (self._is_given_up and not self.is_suspect):
            self.remove()
        if self._hints:
            self._hints.close()
            self._hints = None
