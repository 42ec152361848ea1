"""An object on standard output, in order, while it comes (spec: RCV-26, RCV-27)."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from pgmlite.core.events import Tell
from pgmlite.core.machine import Complete
from pgmlite.errors import DiskError, UsageError
from pgmlite.net.destinations.contract import Before
from pgmlite.net.destinations.spooled import Spooled
from pgmlite.net.waiting import Waits
from pgmlite.storage.pump import Pump
from pgmlite.storage.record import Identity, PublishedRecord
from pgmlite.storage.seeds import Block
from pgmlite.storage.spool import SpoolPart
from pgmlite.storage.system import close_quietly, reason, sync_data
from pgmlite.wire.manifest import Manifest

STANDARD_OUTPUT = 1
AT_ONCE = 1 << 20
"""Bytes of one call: between two of them it can be stopped."""

GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENXIO})
"""What the system says where nobody reads any more."""


class StandardOutput:
    """Standard output, written in a thread that can be stopped at any time.

    Whether a call may block is a flag of what is open, and not of our descriptor alone: the shell
    and the other programs of a pipeline share it. So a pipe is opened once more.
    """

    def __init__(self) -> None:
        """
        Raises:
            UsageError: It is a terminal.
            DiskError: It is closed, or nothing can be written to it.
        """
        with ExitStack() as opened:
            try:
                if sys.__stdout__ is None:
                    raise OSError(errno.EBADF, "is closed")  # something else has its number by now
                self._fd = os.dup(STANDARD_OUTPUT)
                opened.callback(close_quietly, self._fd)
                self._mode = os.fstat(self._fd).st_mode
                if os.isatty(self._fd):
                    raise UsageError(
                        "output -: is a terminal; lead it to a program or a file",
                        cause="output",
                    )
                if fcntl.fcntl(self._fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                    raise OSError(errno.EBADF, "can't be written")
                self._write, self._at_once = self._way(opened)
            except OSError as error:
                raise self._error(error) from None
            self._stop = os.eventfd(0, os.EFD_CLOEXEC)
            opened.callback(os.close, self._stop)
            self._opened = opened.pop_all()

    def _way(self, opened: ExitStack) -> tuple[Callable[[memoryview], int], int]:
        """Return how to write so that nothing blocks once it can be written, and how much at once.

        Raises:
            OSError: As the system says.
        """
        if stat.S_ISSOCK(self._mode):
            sock = opened.enter_context(socket.socket(fileno=os.dup(self._fd)))
            return lambda data: sock.send(data, socket.MSG_DONTWAIT), AT_ONCE
        if stat.S_ISFIFO(self._mode):
            try:
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                again = os.open(f"/proc/self/fd/{self._fd}", flags)
            except OSError as error:
                if error.errno in GONE:
                    raise
                # Another user's, or there is no /proc. What a poll promises is this much.
                return self._write_plainly, select.PIPE_BUF
            opened.callback(close_quietly, again)
            return lambda data: os.write(again, data), AT_ONCE
        if stat.S_ISCHR(self._mode):
            return self._write_plainly, select.PIPE_BUF
        return self._write_plainly, AT_ONCE

    def _write_plainly(self, data: memoryview) -> int:
        return os.write(self._fd, data)

    @staticmethod
    def _error(error: OSError) -> DiskError:
        if error.errno in GONE:
            # Without its cause: who reads lines of ours, and goes, is told nothing; this one is.
            return DiskError("standard output: nobody reads it any more; what came is kept")
        return DiskError(f"standard output: {reason(error)}; what came is kept")

    def write(self, data: memoryview) -> bool:
        """Write all of it; False: `stop` was called before that.

        Raises:
            DiskError: It can't be written.
        """
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        poller.register(self._stop, select.POLLIN)
        while data:
            if any(fd == self._stop for fd, _ in poller.poll()):
                return False
            try:
                data = data[self._write(data[: self._at_once]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._error(error) from None
        return True

    def check(self) -> None:
        """
        Raises:
            DiskError: Whoever reads it is gone.
        """
        if stat.S_ISFIFO(self._mode) or stat.S_ISSOCK(self._mode):
            poller = select.poll()
            poller.register(self._fd, 0)
            if any(events & (select.POLLERR | select.POLLHUP) for _, events in poller.poll(0)):
                raise self._error(OSError(errno.EPIPE, ""))

    def finish(self) -> None:
        """Have a file's bytes on the disk: it may say only now what it failed to take.

        Raises:
            DiskError: It did.
        """
        if stat.S_ISREG(self._mode) or stat.S_ISBLK(self._mode):
            try:
                sync_data(self._fd)
            except OSError as error:
                raise self._error(error) from None

    def stop(self) -> None:
        """Have `write` return, for good."""
        os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        """Close our own descriptors; standard output stays open."""
        self._opened.close()


class _InOrder(Spooled):
    """Passes blocks on from byte 0; before the first one it is asked whether that may be."""

    def __init__(
        self, pump: Pump, output: StandardOutput, before: Callable[[], None], tell: Tell
    ) -> None:
        super().__init__(pump, tell)
        self._output = output
        self._before = before

    def verified(self, block: Block, *, is_there: bool) -> None:
        """Pass a block on once all before it are.

        Raises:
            DiskError: The object may not be passed on.
        """
        if not block.offset:
            self._before()
        self._pump.add(block)

    def look(self) -> None:
        """See whether somebody reads the output; at the very end nobody has to.

        Raises:
            DiskError: Nobody does, or a block can't be read.
        """
        super().look()
        self._output.check()


class PipeDestination:
    """Standard output. The consumer has the bytes as they go: nothing of it can be taken back."""

    is_choosy = False
    needs_record = False
    record: PublishedRecord | None = None
    name = "-"

    def __init__(
        self, spool: Path, before: Before, tell: Tell, *, bases: Sequence[Path] = ()
    ) -> None:
        """
        Args:
            spool: As of `spool_folder`.
            before: Called before the first byte leaves.
            bases: Files that may have a part of the object.

        Raises:
            UsageError: Standard output is a terminal.
            DiskError: Standard output or a base can't be used.
        """
        self.is_begun = False
        self._before = before
        with ExitStack() as opened:
            self._output = StandardOutput()
            opened.callback(self._output.close)
            self._pump = Pump(lambda _, data: self._output.write(data), in_order=True)
            opened.callback(self._pump.close)
            self._passing = _InOrder(self._pump, self._output, self._begin, tell)
            self.part = SpoolPart(spool, self._passing, bases=bases)
            opened.callback(self.part.close)
            opened.callback(self._output.stop)  # the first of all: others wait for a write
            self._opened = opened.pop_all()

    def _begin(self) -> None:
        """Note that an object leaves, before its first byte does.

        Raises:
            DiskError: It may not.
        """
        if not self.is_begun:
            self._before(None)
            self.is_begun = True

    def identity(self) -> Identity | None:
        """Say nothing: what left can't be looked at."""
        return None

    def refuses(self, manifest: Manifest) -> str:
        """Refuse what the spool has no room for."""
        return "" if self.part.has_room_for(manifest) else "disk"

    def holds(self, manifest: Manifest) -> bool:
        """Leave it to the partial file, which compares bytes."""
        return False

    def publish(self, complete: Complete) -> Waits[bool]:
        """Wait until the last byte has left.

        Raises:
            DiskError: Standard output can't be written, or whoever reads it is gone.
            Interrupted: It was asked to stop.
        """
        self._begin()  # an empty object has no first block
        yield from self._passing.drain(complete.manifest.size)
        self._output.finish()
        self.part.remove()
        return True

    def close(self) -> None:
        """Close all but standard output; what came stays for the next run."""
        self._opened.close()
