"""What is beside a folder that is replaced: what is unpacked or removed, what is kept (FLD-8)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Container
from itertools import count
from pathlib import Path

from pgmlite.errors import DiskError
from pgmlite.storage.listing import folder_identity, folder_mark
from pgmlite.storage.record import MAX_FOLDERS, Identity, Mark
from pgmlite.storage.removal import REPLACED, remove_tree
from pgmlite.storage.syscalls import rename_alone
from pgmlite.storage.system import beside, close_quietly, reason, status_at
from pgmlite.storage.unpack import make_private

Tick = Callable[[], None]


def failed(path: Path, error: OSError) -> DiskError:
    """Return the error of a folder that can't be replaced."""
    return DiskError(f"output {path}: {reason(error)}")


class Unpacking:
    """The folder that is being unpacked, and others that may go: by their inodes, not by a name.

    Attributes:
        name: What it has until it is put in place; so has one that is removed.
        removable: Inodes of folders that may go.
    """

    def __init__(self, name: str, fd: int) -> None:
        """
        Args:
            fd: The folder that it is in.
        """
        self.name, self._fd = name, fd
        self.removable: set[int] = set()
        self._tree: tuple[int, os.stat_result] | None = None
        """Its descriptor and its inode: as long as it is open, no other one has that."""

    def make(self) -> int:
        """Make it, so that only we can enter it; return its descriptor.

        Raises:
            OSError: As the system says.
        """
        fd = make_private(self.name, dir_fd=self._fd)
        self.close()
        try:
            status = os.fstat(fd)
            self._tree = os.dup(fd), status
        except OSError:
            close_quietly(fd)
            raise
        self.removable.add(status.st_ino)
        return fd

    def check_at(self, name: str) -> None:
        """
        Raises:
            FileExistsError: It is not what has this name.
            OSError: That can't be told.
        """
        status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        if self._tree is None or not os.path.samestat(status, self._tree[1]):
            raise FileExistsError(errno.EEXIST, REPLACED, name)

    def identity(self) -> Identity | None:
        """Return its identity; None: it is not there any more, or can't be looked at."""
        found = folder_identity(self.name, dir_fd=self._fd)
        is_it = found and self._tree is not None and found.inode == self._tree[1].st_ino
        return found if is_it else None

    def remove(self, tick: Tick = lambda: None) -> None:
        """Remove what has its name by now, if it may go.

        Raises:
            OSError: As the system says; it may not.
        """
        remove_tree(self.name, dir_fd=self._fd, tick=tick, only=self.removable)

    def close(self) -> None:
        """Close it."""
        if self._tree is not None:
            close_quietly(self._tree[0])
            self._tree = None


class Kept:
    """The folders that were replaced and are kept, as ``DIR.1`` and so on, the latest first.

    Attributes:
        most: How many are.
    """

    def __init__(self, path: Path, most: int, fd: int, unpacking: Unpacking) -> None:
        """
        Args:
            path: The folder that is replaced.
            fd: The folder that it is in.
            unpacking: Whose name the one gets that makes room.
        """
        self.most = most
        self._path, self._fd = path, fd
        self._unpacking = unpacking

    def _names(self, most: int) -> list[str]:
        return [beside(self._path, f".{number}").name for number in range(1, most + 1)]

    def is_one_of(self, name: str, ours: Container[Mark]) -> bool:
        """Whether what has a name is one of some folders.

        Raises:
            OSError: That can't be told.
        """
        mark = folder_mark(name, dir_fd=self._fd)
        return mark is not None and mark in ours

    def marks(self, ours: Container[Mark]) -> list[Mark]:
        """Return which of the folders that were kept are still there.

        Raises:
            DiskError: That can't be told.
        """
        try:
            found = [folder_mark(name, dir_fd=self._fd) for name in self._names(MAX_FOLDERS)]
        except OSError as error:
            raise failed(self._path, error) from error
        return [mark for mark in found if mark in ours and mark is not None]

    def check(self, ours: Container[Mark]) -> None:
        """Make sure that none but folders that were kept have the names of such.

        Raises:
            DiskError: Something else has one: it would have to go; or that can't be told.
        """
        for name in self._names(self.most):
            try:
                status = status_at(name, dir_fd=self._fd)
                is_kept = status is None or self.is_one_of(name, ours)
            except OSError as error:
                raise failed(self._path, error) from error
            if not is_kept:
                raise DiskError(
                    f"output {self._path}{os.sep}: {self._path.with_name(name)} is there, where "
                    "--keep would put what is replaced, and no recv put it there; move it away"
                )
            if status:
                self._unpacking.removable.add(status.st_ino)

    def rotate(self, gone: str) -> None:
        """Have a folder that was replaced be the first of those that are kept.

        Raises:
            OSError: As the system says.
        """
        names = self._names(self.most)
        # A gap ends it: a run that was killed here left one.
        gaps = (n for n, name in enumerate(names) if status_at(name, dir_fd=self._fd) is None)
        free = next(gaps, None)
        if free is None:
            free = self.most - 1
            self._unpacking.remove()
            rename_alone(names[free], self._unpacking.name, dir_fd=self._fd)
        for number in range(free, 0, -1):
            rename_alone(names[number - 1], names[number], dir_fd=self._fd)
        rename_alone(gone, names[0], dir_fd=self._fd)

    def set_aside(self, gone: str) -> Path:
        """Give a folder the first name behind theirs that nothing has; return it.

        Raises:
            OSError: As the system says.
        """
        names = (beside(self._path, f".{number}") for number in count(self.most + 1))
        free = next(name for name in names if status_at(name.name, dir_fd=self._fd) is None)
        rename_alone(gone, free.name, dir_fd=self._fd)
        return free
