"""What tells a folder from itself after a change: what it has in it, without a look inside (FLD-9).

As `rsync` tells it when it looks quickly: names, types, permissions, lengths and times of change. A
file that is written anew with its old length and its old time looks the same.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from pgmlite.storage.record import Identity, Mark
from pgmlite.storage.syscalls import birth_of
from pgmlite.storage.system import close_quietly, status_at

ENTRY = struct.Struct(">IQQ")
"""Type and permissions, bytes, and when it was changed, ns; 0 for what has no such thing."""

TIMES = 1 << 64
"""Disks have times further away than as many ns; they count by what is left of them here."""

SAME_DEVICE = 0
"""In place of the number of its disk, which may be another one after the next start of the machine:
the record of a folder lies beside it."""

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

TIME_BITS = 63
"""Of the digest: what stands for the time of a file."""


def folder_mark(path: str | Path, *, dir_fd: int | None = None) -> Mark | None:
    """Return which folder is at a path; None: there is none.

    Raises:
        OSError: That can't be told.
    """
    status = status_at(path, dir_fd=dir_fd)
    if status is None or not stat.S_ISDIR(status.st_mode):
        return None
    return Mark(status.st_ino, birth_of(path, dir_fd=dir_fd))


def folder_identity(path: str | Path, *, dir_fd: int | None = None) -> Identity | None:
    """Return the identity of a folder; None: there is none, or it can't be looked at."""
    try:
        root = os.open(path, os.O_PATH | FOLDER_FLAGS, dir_fd=dir_fd)
    except OSError:
        return None
    try:
        status, born = os.fstat(root), birth_of(".", dir_fd=root)
        size, digest = _look_through(root, status)
    except OSError:
        return None
    finally:
        close_quietly(root)
    time = int.from_bytes(digest) >> (8 * len(digest) - TIME_BITS)
    return Identity(SAME_DEVICE, status.st_ino, size, time, born)


def _look_through(root: int, status: os.stat_result) -> tuple[int, bytes]:
    """Return the bytes in all files below a folder, and a digest of what is there.

    Raises:
        OSError: As the system says, but of folders that are not for us to read.
    """
    size, hasher = 0, blake3(ENTRY.pack(status.st_mode, 0, 0))
    folders = ["."]
    while folders:
        folder = folders.pop()
        for name, found, target in _entries(root, folder):
            path = name if folder == "." else f"{folder}/{name}"
            is_folder = stat.S_ISDIR(found.st_mode)
            if is_folder:
                folders.append(path)
            # A folder's own time changes with what lies there for a moment only.
            time = 0 if is_folder else found.st_mtime_ns % TIMES
            length = found.st_size if stat.S_ISREG(found.st_mode) else 0
            size += length
            for part in (os.fsencode(path), os.fsencode(target)):
                hasher.update(len(part).to_bytes(4))
                hasher.update(part)
            hasher.update(ENTRY.pack(found.st_mode, length, time))
    return size, hasher.digest()


def _entries(root: int, folder: str) -> Iterator[tuple[str, os.stat_result, str]]:
    """Yield what is in a folder by its names, what it is, and where it leads if it is a link."""
    try:
        fd = os.open(folder, FOLDER_FLAGS, dir_fd=root)
    except PermissionError:
        return
    with contextlib.ExitStack() as opened:
        opened.callback(close_quietly, fd)
        with os.scandir(fd) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            status = entry.stat(follow_symlinks=False)
            is_link = stat.S_ISLNK(status.st_mode)
            yield entry.name, status, os.readlink(entry.name, dir_fd=fd) if is_link else ""
