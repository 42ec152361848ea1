"""Calls that Python does not have: names that are exchanged, and a whole disk that is written."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from pgmlite.storage.system import NOT_KNOWN

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

HONEST_SINCE = (5, 8)
"""Version of Linux from which on `syncfs` says what a disk failed to take."""

AT_FDCWD, AT_SYMLINK_NOFOLLOW = -100, 0x100
STATX_BTIME = 0x800

STATX = struct.Struct("=I76xqI164x")
"""What a disk has said, and when a file was made, s and ns (linux/stat.h)."""

_LIBC = ctypes.CDLL(None, use_errno=True)


def exchange_names(first: str, second: str, *, dir_fd: int) -> bool:
    """Exchange two names of a folder in one step; False: the file system can't.

    Raises:
        OSError: As the system says.
    """
    return _rename(first, second, dir_fd, RENAME_EXCHANGE)


def rename_alone(first: str, second: str, *, dir_fd: int) -> None:
    """Give a folder another name that nothing has.

    Raises:
        OSError: As the system says; FileExistsError: something has it.
    """
    if _rename(first, second, dir_fd, RENAME_NOREPLACE):
        return
    try:
        os.stat(second, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(first, second, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), second)


def _rename(first: str, second: str, dir_fd: int, flags: int) -> bool:
    """Call the system; return whether it can."""
    call = getattr(_LIBC, "renameat2", None)
    if call is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if not call(dir_fd, names[0], dir_fd, names[1], flags):
        return True
    number = ctypes.get_errno()
    if number in NOT_KNOWN:
        return False
    raise OSError(number, os.strerror(number), first)


def birth_of(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> int:
    """Return when a file, or a link itself, was made, ns; 0: the disk does not say."""
    call = getattr(_LIBC, "statx", None)
    found = ctypes.create_string_buffer(STATX.size)
    folder = AT_FDCWD if dir_fd is None else dir_fd
    if call is None or call(folder, os.fsencode(path), AT_SYMLINK_NOFOLLOW, STATX_BTIME, found):
        return 0
    mask, seconds, rest = STATX.unpack(found.raw)
    return seconds * 1_000_000_000 + rest if mask & STATX_BTIME else 0


def can_sync_disk() -> bool:
    """Whether `sync_disk` says what the disk failed to take."""
    return hasattr(_LIBC, "syncfs") and _version() >= HONEST_SINCE


def sync_disk(fd: int) -> None:
    """Have all on the disk that was written to it since `fd`, any file on it, was opened.

    Raises:
        OSError: The disk failed to take something.
    """
    if _LIBC.syncfs(fd) and (number := ctypes.get_errno()) not in NOT_KNOWN:
        raise OSError(number, os.strerror(number))


def _version() -> tuple[int, ...]:
    """Return the first two numbers of the system's version."""
    numbers = platform.release().split(".")[:2]
    return tuple(int("".join(filter(str.isdigit, number)) or 0) for number in numbers)
