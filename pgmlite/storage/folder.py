"""The folder of an output, by its descriptor: what others do to its name changes nothing.

Others may be allowed to write there. What they put in our way is noticed: files that are not ours
are not used, and what is renamed is what our descriptor says.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from pgmlite.errors import DiskError
from pgmlite.storage.in_use import is_mount_point
from pgmlite.storage.system import NOT_KNOWN, close_quietly, lock, reason

LINKS_FOLLOWED = 40
"""As many as the system follows."""

OPENED_ANEW = 40
"""Times that a file is opened because what had its name is gone."""

WRITES = stat.S_IWGRP | stat.S_IWOTH
"""Permissions by which others than the owner may write."""


def lets_others_rename(folder: os.stat_result) -> bool:
    """Whether somebody but us and root may put files in each other's place."""
    is_open = folder.st_mode & WRITES and not folder.st_mode & stat.S_ISVTX
    return bool(is_open) or folder.st_uid not in {0, os.geteuid()}


def resolve_output(output: Path) -> Path:
    """Return the file that `output` means: the target where it is a link.

    Raises:
        DiskError: No file can be put there, or the link is a stranger's.
    """
    return _resolve(output, _check_kind, "is a folder; name the file to write")


def resolve_folder(output: Path) -> Path:
    """Return the folder that `output` means: the target where it is a link.

    Raises:
        DiskError: No folder can be put there, or the link is a stranger's.
    """
    return _resolve(output, _check_folder, "can't be replaced; name a folder in it")


def _resolve(output: Path, check: Callable[[Path, os.stat_result], None], nameless: str) -> Path:
    """Follow links.

    Args:
        check: Makes sure that what is there can be replaced.
        nameless: What to say of a path that ends without a name.
    """
    path = output
    for _ in range(LINKS_FOLLOWED):
        if not path.name or path.name == "..":
            raise DiskError(f"output {output}: {nameless}")
        if _is_descriptor(path):
            raise DiskError(
                f"output {output}: is what another program has open; name the file to write, "
                "or - for standard output"
            )
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return path
        except OSError as error:
            raise DiskError(f"output {output}: {reason(error)}") from error
        if not stat.S_ISLNK(status.st_mode):
            check(output, status)
            return path
        # In a folder that others write, a link may be laid to have us replace what they can't.
        if status.st_uid not in (os.geteuid(), 0):
            raise DiskError(
                f"output {path}: is a link that belongs to user {status.st_uid}; "
                "name the file that it leads to"
            )
        try:
            path = path.parent / path.readlink()
        except OSError as error:
            raise DiskError(f"output {output}: {reason(error)}") from error
    raise DiskError(f"output {output}: too many links")


def _is_descriptor(path: Path) -> bool:
    """Whether a path leads to the open files of processes, as /dev/stdout does."""
    parent = os.path.realpath(path.parent)
    return parent.startswith("/proc/") and Path(parent).name == "fd"


def _check_kind(output: Path, status: os.stat_result) -> None:
    kinds = {
        stat.S_IFDIR: "a folder; name the file to write, or end it with a / to receive a folder",
        stat.S_IFBLK: "a device; name it with --device",
        stat.S_IFCHR: "a device; receive into a file and copy that",
        stat.S_IFIFO: "a FIFO; receive into - and lead standard output to it",
        stat.S_IFSOCK: "a socket; receive into a file, and hand that on",
    }
    kind = kinds.get(stat.S_IFMT(status.st_mode))
    if kind:
        raise DiskError(f"output {output}: is {kind}")


def _check_folder(output: Path, status: os.stat_result) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise DiskError(f"output {output}{os.sep}: is no folder; move it away")
    if is_mount_point(output):
        raise DiskError(
            f"output {output}{os.sep}: something is mounted there, so it can't be replaced; name a "
            "folder in it"
        )


class Folder:
    """One folder; names are of files in it.

    Attributes:
        is_shared: Others than its owner may make files in it.
        is_everybodys: Every user of the machine may rename and remove our files: no sticky bit.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            DiskError: There is no such folder.
        """
        self.path = path
        self._fd: int | None = None
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise DiskError(f"output: folder {path} does not exist") from None
        except OSError as error:
            raise DiskError(f"output: folder {path}: {reason(error)}") from error
        if not stat.S_ISDIR(status.st_mode):
            raise DiskError(f"output: {path} is no folder")
        with contextlib.suppress(OSError):  # some file systems open no folders: names have to do
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            status = os.fstat(self._fd)
        strangers = status.st_uid not in (os.geteuid(), 0)
        self.is_shared = strangers or bool(status.st_mode & WRITES)
        is_sticky = bool(status.st_mode & stat.S_ISVTX) and not strangers
        self.is_everybodys = bool(status.st_mode & stat.S_IWOTH) and not is_sticky

    def _at(self, name: str) -> str | Path:
        return self.path / name if self._fd is None else name

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a file, never through a link.

        Raises:
            OSError: As the system says.
        """
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        return os.open(self._at(name), flags, mode, dir_fd=self._fd)

    def status(self, name: str) -> os.stat_result | None:
        """Return what a name is, a link itself; None if there is nothing.

        Raises:
            OSError: The system does not say.
        """
        try:
            return os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_at(self, name: str, fd: int) -> bool:
        """Whether `name` is the file that `fd` has open.

        Raises:
            OSError: The system does not say.
        """
        status = self.status(name)
        return status is not None and os.path.samestat(status, os.fstat(fd))

    def drop_empty(self, name: str, fd: int) -> None:
        """Remove a file that nothing was written to, if it is still there."""
        with contextlib.suppress(OSError):
            if not os.fstat(fd).st_size and self.is_at(name, fd):
                self.unlink(name)

    def unlink(self, name: str) -> None:
        """Remove a name, if it is there and the system lets us."""
        with contextlib.suppress(OSError):
            os.unlink(self._at(name), dir_fd=self._fd)

    def open_private(self, name: str) -> int:
        """Open or make a file for reading and writing that nobody else can write.

        Raises:
            DiskError: What is there is not ours.
            OSError: As the system says.
        """
        for _ in range(OPENED_ANEW):
            with contextlib.suppress(FileExistsError):
                return self.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                fd = self.open(name, os.O_RDWR)
            except FileNotFoundError:
                continue  # it went between the two calls
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                    raise self._not_ours(name, "is no regular file") from error
                raise
            try:
                self._check_ours(name, os.fstat(fd))
            except BaseException:
                close_quietly(fd)
                raise
            return fd
        raise self._not_ours(name, "comes and goes")

    def open_alone(self, name: str) -> tuple[int, str]:
        """Open or make a file as `open_private` does, and hold it alone.

        Returns:
            Its descriptor, and a warning if it could not be locked.

        Raises:
            BlockingIOError: Another process holds it.
            DiskError: What is there is not ours.
            OSError: As the system says.
        """
        for _ in range(OPENED_ANEW):
            fd = self.open_private(name)
            try:
                trouble = lock(fd)
                # Another receiver may have published it before we had the lock.
                if self.is_at(name, fd):
                    return fd, trouble and (
                        f"{self.path / name}: no lock ({trouble}): "
                        "make sure that no other receiver writes it"
                    )
            except BaseException:
                close_quietly(fd)
                raise
            close_quietly(fd)
        raise self._not_ours(name, "comes and goes")

    def _not_ours(self, name: str, what: str) -> DiskError:
        return DiskError(f"{self.path / name}: {what}; move it away")

    def _check_ours(self, name: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise self._not_ours(name, "is no regular file")
        if status.st_nlink > 1:
            raise self._not_ours(name, f"has {status.st_nlink} names (hard links)")
        if status.st_uid == os.geteuid() and not status.st_mode & WRITES:
            return
        # Where all files look the same, as on FAT or for root on NFS, looks say nothing.
        usual = self._usual()
        if (status.st_uid, status.st_mode & WRITES) == usual:
            return
        if status.st_uid != usual[0]:
            raise self._not_ours(name, f"belongs to user {status.st_uid}")
        raise self._not_ours(name, "may be written by others")

    def _usual(self) -> tuple[int, int]:
        """Return the owner of a new private file, and who else may write it."""
        name = f".pgmlite-{os.urandom(8).hex()}"
        fd = self.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            status = os.fstat(fd)
            return status.st_uid, status.st_mode & WRITES
        finally:
            close_quietly(fd)
            self.unlink(name)

    def put(self, fd: int, name: str, to: str, room: str, ready: Callable[[], None]) -> None:
        """Give the file that `fd` has open the name `to`, in one step, instead of `name`.

        By way of a folder of our own, in which no other user can exchange it.

        Args:
            room: Name of that folder.
            ready: Makes the file what it shall be there; as long as that fails, it keeps `name`.

        Raises:
            DiskError: Somebody put another file in its place.
            OSError: As the system says.
        """
        private, room = self._make_room(room)
        if private is None:
            if not self.is_at(name, fd):
                raise self._exchanged(name)
            ready()
            os.rename(self._at(name), self._at(to), src_dir_fd=self._fd, dst_dir_fd=self._fd)
            if not self.is_at(to, fd):
                raise self._exchanged(to)
            return
        try:
            self._enter_room(fd, name, private)
            ready()
            os.rename("file", to, src_dir_fd=private, dst_dir_fd=self._fd)
        except BaseException:
            with contextlib.suppress(DiskError, OSError):
                self._leave_room(fd, name, private)
            raise
        finally:
            close_quietly(private)
            self._remove_room(room)

    def _exchanged(self, name: str) -> DiskError:
        return DiskError(f"{self.path / name}: another program put another file in its place")

    def _make_room(self, room: str) -> tuple[int | None, str]:
        """Open a folder that only we can enter, made if need be; None: not to be had here.

        Returns:
            Its descriptor, and its name: another one, where a stranger has taken `room`.
        """
        for name in (room, f".pgmlite-{os.urandom(8).hex()}") if self._fd is not None else ():
            with contextlib.suppress(OSError):
                os.mkdir(name, 0o700, dir_fd=self._fd)
            if (private := self._open_room(name)) is not None:
                return private, name
        return None, room

    def _open_room(self, room: str) -> int | None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            private = os.open(room, flags, dir_fd=self._fd)
        except OSError:
            return None
        status = os.fstat(private)
        if status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return private
        close_quietly(private)
        return None

    def _enter_room(self, fd: int, name: str, private: int) -> None:
        """Move the file to the private folder, as ``file``."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(name, "file", src_dir_fd=self._fd, dst_dir_fd=private)
            if os.path.samestat(os.stat("file", dir_fd=private), os.fstat(fd)):
                return
            os.rename("file", name, src_dir_fd=private, dst_dir_fd=self._fd)
        # Its name is somebody else's file now, or nobody's. The descriptor is still ours.
        try:
            os.link(f"/proc/self/fd/{fd}", "file", dst_dir_fd=private, follow_symlinks=True)
        except OSError as error:
            raise self._exchanged(name) from error

    def _leave_room(self, fd: int, name: str, private: int) -> None:
        """Move the file back from the private folder, unless its name is taken by now.

        Raises:
            DiskError: It can't be made ours alone again.
            OSError: As the system says.
        """
        with contextlib.suppress(OSError):
            if os.fstat(fd).st_uid != os.geteuid():
                os.fchown(fd, os.geteuid(), os.getegid())
            os.fchmod(fd, 0o600)
        self._check_ours(name, os.fstat(fd))
        if self.status(name) is None:
            os.rename("file", name, src_dir_fd=private, dst_dir_fd=self._fd)

    def empty_room(self, room: str, name: str) -> None:
        """Bring back what a run that was killed in `put` left in its private folder.

        Raises:
            BlockingIOError: Another run is in `put`.
            DiskError: It can't be made ours alone again.
            OSError: It can't be brought back.
        """
        private = None if self._fd is None else self._open_room(room)
        if private is None:
            return
        with contextlib.ExitStack() as opened:
            opened.callback(self._remove_room, room)
            opened.callback(close_quietly, private)
            try:
                fd = os.open("file", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=private)
            except FileNotFoundError:
                return
            opened.callback(close_quietly, fd)
            lock(fd)
            if self.is_at(name, fd):
                os.unlink("file", dir_fd=private)
            else:
                self._leave_room(fd, name, private)

    def _remove_room(self, room: str) -> None:
        """Remove a private folder, if nothing is in it."""
        with contextlib.suppress(OSError):
            os.rmdir(room, dir_fd=self._fd)

    def sync(self) -> str:
        """Make its names durable; return what the disk said against it, or an empty string."""
        if self._fd is None:
            return ""
        try:
            os.fsync(self._fd)
        except OSError as error:
            return "" if error.errno in NOT_KNOWN else reason(error)
        return ""

    def close(self) -> None:
        """Close it."""
        if self._fd is not None:
            close_quietly(self._fd)
            self._fd = None
