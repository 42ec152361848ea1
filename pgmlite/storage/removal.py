"""Removing a folder with all that is in it: never through a link, never out of it.

However deep it is, that takes two descriptors and no recursion: folders in folders are moved up
before they are emptied. What is mounted in it can't be moved, so it stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Container
from pathlib import Path

from pgmlite.storage.system import close_quietly

RWX = 0o700


REPLACED = "another program put another folder in its place"


def remove_tree(
    name: str,
    *,
    dir_fd: int,
    tick: Callable[[], None] = lambda: None,
    only: Container[int] | None = None,
) -> None:
    """Remove a folder; none is there: that is fine.

    Args:
        dir_fd: The folder that it is in.
        tick: Called for each folder in it; may raise.
        only: Inodes of which one must be its; None: it may be any.

    Raises:
        OSError: As the system says; a part of it stays.
    """
    try:
        top = _open(name, dir_fd, only)
    except FileNotFoundError:
        return
    try:
        # Where others may write they could lay in what is not to go.
        with contextlib.suppress(OSError):
            os.fchmod(top, RWX)
        _Remover(top, tick).run()
    finally:
        close_quietly(top)
    os.rmdir(name, dir_fd=dir_fd)


def _open(name: str, dir_fd: int, only: Container[int] | None = None) -> int:
    """Open a folder, made ours to empty."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    found = os.open(name, os.O_PATH | flags, dir_fd=dir_fd)
    try:
        status = os.fstat(found)
        if only is not None and status.st_ino not in only:
            raise OSError(errno.EEXIST, REPLACED, name)
        if status.st_mode & RWX != RWX:
            Path(f"/proc/self/fd/{found}").chmod(RWX)
        return os.open(".", os.O_RDONLY | flags, dir_fd=found)
    finally:
        close_quietly(found)


class _Remover:
    """Empties one folder."""

    def __init__(self, top: int, tick: Callable[[], None]) -> None:
        self._top = top
        self._device = os.fstat(top).st_dev
        self._tick = tick
        self._mark = f".pgmlite-{os.urandom(8).hex()}-"
        """Names that folders get at the top begin with it."""

        self._moved = 0
        self._waiting: list[str] = []

    def run(self) -> None:
        """Empty it."""
        self._empty(self._top, is_top=True)
        while self._waiting:
            self._tick()
            name = self._waiting.pop()
            fd = _open(name, self._top)
            try:
                self._empty(fd, is_top=False)
            finally:
                close_quietly(fd)
            os.rmdir(name, dir_fd=self._top)

    def _empty(self, fd: int, *, is_top: bool) -> None:
        """Unlink what is in a folder; have its folders wait at the top."""
        with os.scandir(fd) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=fd)
                continue
            if status.st_dev != self._device:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
            if not is_top:
                close_quietly(_open(name, fd))  # what is moved has to be ours to change
            self._moved += 1
            moved = f"{self._mark}{self._moved}"
            os.rename(name, moved, src_dir_fd=fd, dst_dir_fd=self._top)
            self._waiting.append(moved)
