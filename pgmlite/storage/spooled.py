"""Content that is copied before it is sent: a folder, as an archive, and standard input.

The copy is a file without a name in the *spool*, a folder for such: it is gone with the process,
and what changes in a folder after it was copied changes nothing in what is sent.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pgmlite.core.human import human_bytes
from pgmlite.errors import DiskError, UsageError
from pgmlite.storage.encoded import room_folder
from pgmlite.storage.source import SourceFile
from pgmlite.storage.survey import (
    Seen,
    check_library,
    identify,
    look_through,
    shown,
    survey,
)
from pgmlite.storage.system import STDIN, close_quietly, reason, room_of
from pgmlite.storage.tar import END, MemberKind, header, padding

STDIN_NAME = Path("stdin")
"""What it is called in errors, and the object unless somebody says otherwise."""

AT_ONCE = 1 << 20
"""Bytes that are copied in one go."""

LOOK_EVERY = 100
"""ms between looks at whether to stop, while nothing comes."""

Report = Callable[[int, int | None], None]
"""Called with bytes copied and bytes in all, None: not known; may raise, to stop it."""


def is_spooled(path: Path) -> bool:
    """Whether it has to be copied before it can be sent."""
    return path == STDIN or _is_folder(path)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False  # whoever opens it says why


def _unheard(_done: int, _total: int | None) -> None:
    pass


def open_source(path: Path, spool: Path | None, report: Report = _unheard) -> SourceFile:
    """Open what is to be sent: a file, a block device, a folder, or standard input.

    Args:
        spool: The folder for what has to be copied first; None: that for temporary files.

    Raises:
        DiskError: It can't be read or copied, or is nothing that can be sent.
        UsageError: A spool is of no use; or it is a terminal.
    """
    if path == STDIN:
        return _Copy(spool).of_input(report)
    if _is_folder(path):
        return _Copy(spool).of_folder(path, report)
    if spool is not None:
        raise UsageError(
            "spool: is for folders and standard input; other files are read where they are",
            cause="spool",
        )
    return SourceFile(path)


class _Copy:
    """A copy in the spool, in the making."""

    def __init__(self, spool: Path | None) -> None:
        """
        Raises:
            DiskError: Nothing can be written there.
        """
        self._folder = Path(room_folder()) if spool is None else spool
        try:
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
                self._fd = os.dup(file.fileno())
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> DiskError:
        return DiskError(
            f"spool {self._folder}: {reason(error)}; name a folder that has room", cause="spool"
        )

    def _made(self, make: Callable[[BinaryIO], SourceFile]) -> SourceFile:
        """Return the source that `make` makes of the copy; without one the copy is gone.

        Raises:
            DiskError: As `make`; or the spool is full.
        """
        try:
            with open(self._fd, "wb", AT_ONCE, closefd=False) as file:
                return make(file)
        except OSError as error:
            close_quietly(self._fd)
            raise self._error(error) from error
        except BaseException:
            close_quietly(self._fd)
            raise

    def of_input(self, report: Report) -> SourceFile:
        """Copy standard input to its end.

        Raises:
            DiskError: It can't be read, or the spool is full.
            UsageError: It is a terminal.
        """
        return self._made(lambda file: self._copy_input(file, report))

    def _copy_input(self, file: BinaryIO, report: Report) -> SourceFile:
        fd = _input_fd()
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        done = 0
        while True:
            report(done, None)
            if not poller.poll(LOOK_EVERY):
                continue
            try:
                piece = os.read(fd, AT_ONCE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise DiskError(f"standard input: {reason(error)}") from error
            if not piece:
                break
            file.write(piece)
            done += len(piece)
        file.flush()
        warnings = () if done else ("standard input was empty: did what writes to it fail?",)
        return SourceFile(STDIN_NAME, fd=self._fd, warnings=warnings)

    def of_folder(self, path: Path, report: Report) -> SourceFile:
        """Write the archive of a folder (spec: FLD-1 to FLD-4).

        Raises:
            DiskError: It can't be read, has what can't be sent, or changed meanwhile; or the spool
                has no room.
            UsageError: The standard library is too old.
        """
        return self._made(lambda file: self._archive(file, path, report))

    def _archive(self, file: BinaryIO, path: Path, report: Report) -> SourceFile:
        check_library()
        found = survey(path, lambda: report(0, None))
        found.check(path)
        if found.octets > (room := room_of(self._fd)):
            raise DiskError(
                f"spool {self._folder}: the archive of {path} needs {human_bytes(found.octets)}, "
                f"and there is room for {human_bytes(room)}; name a folder that has more",
                cause="spool",
            )
        memory = memoryview(bytearray(AT_ONCE))

        def changed(name: bytes, _: str = "") -> None:
            raise DiskError(
                f"source {path}: changed while it was read ({shown(name)}); start again, or send a "
                "snapshot of it"
            )

        for seen in look_through(os.fsencode(path), changed):
            report(file.tell(), found.octets)
            file.write(header(seen.member))
            if seen.member.kind is MemberKind.FILE and not _append(
                file, seen, memory, lambda: report(file.tell(), found.octets)
            ):
                changed(seen.member.name.encode())
        file.write(END)
        file.flush()
        again = survey(path, lambda: report(found.octets, found.octets))
        if again.mark != found.mark or file.tell() != found.octets:
            changed(again.newest[1].encode())
        warnings = (_lost(found.special),) if found.special else ()
        return SourceFile(path, fd=self._fd, archive=found.archive, warnings=warnings)


def _input_fd() -> int:
    """
    Raises:
        DiskError: It is closed.
        UsageError: It is a terminal.
    """
    # Where it is closed another file may have got its number.
    if sys.stdin is None or sys.stdin.closed:
        raise DiskError("standard input: is closed")
    if os.isatty(0):
        raise UsageError("standard input is a terminal: give a file, or pipe something into it")
    return 0


def _append(file: BinaryIO, seen: Seen, memory: memoryview, tick: Callable[[], None]) -> bool:
    """Write the content of a file; return whether it is what was seen, from begin to end.

    Raises:
        DiskError: It can't be read.
        OSError: It can't be written.
    """
    name = shown(seen.path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    expected = identify(seen.status)
    try:
        fd = os.open(seen.path, flags)
    except OSError as error:
        raise DiskError(f"source {name}: {reason(error)}") from error
    try:
        if identify(os.fstat(fd)) != expected:
            return False
        left = seen.member.size
        while left:
            tick()
            try:
                done = os.readv(fd, [memory[: min(left, AT_ONCE)]])
            except OSError as error:
                raise DiskError(f"source {name}: {reason(error)}") from error
            if not done:
                return False
            file.write(memory[:done])
            left -= done
        file.write(padding(seen.member.size))
        return identify(os.fstat(fd)) == expected
    finally:
        close_quietly(fd)


def _lost(count: int) -> str:
    return f"{count} of its members have a setuid, setgid or sticky bit, which receivers leave out"
