"""What files have in common here: limits of calls, names, and words for what the system refuses."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

PIECES_AT_ONCE = 1_024
"""Buffers that one call takes (IOV_MAX)."""

STDIN = Path("-")
"""Names standard input among what can be sent."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

LONGEST_NAME = 255
"""Bytes of a file's name on the file systems of Linux."""

NOT_KNOWN = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF, errno.ENOLCK}
)
"""What file systems say of calls that they don't have."""


def reason(error: OSError) -> str:
    """Return what the system says, in words."""
    return error.strerror or os.strerror(error.errno or 0)


def status_at(path: str | Path, *, dir_fd: int | None = None) -> os.stat_result | None:
    """Return what is at a path, a link itself; None: nothing is.

    Raises:
        OSError: That can't be told.
    """
    try:
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def close_quietly(fd: int) -> None:
    """Close a file; what network disks say only then comes too late to be of use."""
    with contextlib.suppress(OSError):
        os.close(fd)


def lock(fd: int) -> str:
    """Hold a file alone until it is closed; return what the system said against locks, if it did.

    Raises:
        BlockingIOError: Another process holds it.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        return reason(error)
    return ""


def sync_data(fd: int) -> None:
    """Have a file's bytes on the disk, where the file system knows of such a thing.

    Raises:
        OSError: The disk failed to take them.
    """
    _sync(os.fdatasync, fd)


def sync_all(fd: int) -> None:
    """Have a file's bytes, owner and permissions on the disk; else as `sync_data`.

    Raises:
        OSError: The disk failed to take them.
    """
    _sync(os.fsync, fd)


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk, where the file system knows of such a thing.

    Raises:
        OSError: The disk failed to take them, or the folder can't be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_all(fd)
    finally:
        close_quietly(fd)


def make_folder(path: Path) -> None:
    """Make a folder for us alone, and those that it is in, for good.

    Raises:
        OSError: One can't be made.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    sync_folder(path.parent)


def _sync(call: Callable[[int], None], fd: int) -> None:
    try:
        call(fd)
    except OSError as error:
        if error.errno not in NOT_KNOWN:
            raise


def make_anew(name: str | Path, *, dir_fd: int | None = None) -> int:
    """Return the descriptor of a file that was not there, in place of what a kill left of it.

    Raises:
        OSError: As the system says.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=dir_fd)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(name, flags, 0o600, dir_fd=dir_fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes where a file is: the system may take some at a time.

    Raises:
        OSError: As the system says.
    """
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def parse_fields(raw: bytes, most: int, types: Mapping[str, type]) -> dict[str, Any]:
    """Return what a file of JSON of ours says; `raw` may come from anywhere.

    Args:
        most: Bytes that it may have.
        types: Of its fields, which are these and no others.

    Raises:
        ValueError: It is none.
    """
    if len(raw) > most:
        raise ValueError("it is too long")
    try:
        values: Any = json.loads(raw.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict) or {k: type(v) for k, v in values.items()} != types:
        raise ValueError("it has other fields than ours")
    return values


def extents_of(fd: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a file, below `end`, that are not holes.

    Raises:
        OSError: As the system says.
    """
    position = 0
    while position < end:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
            if start >= end:
                return
            stop = min(os.lseek(fd, start, os.SEEK_HOLE), end)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole to the end
                return
            if error.errno in NOT_KNOWN:  # where holes are not known, all of it is data
                yield position, end
                return
            raise
        yield start, stop
        position = stop


def forget_cache(fd: int) -> None:
    """Have the next reads of a file come from the disk, as far as the system does that."""
    with contextlib.suppress(OSError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@functools.cache
def boot_id() -> bytes:
    """Return 16 bytes that differ from boot to boot; zeros where the system does not tell."""
    try:
        return bytes.fromhex(BOOT_ID.read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def beside(path: Path, suffix: str) -> Path:
    """Return ``PATH`` + `suffix`, a name in the same folder.

    Where that name would be too long it is cut, and the digest of all of it keeps names apart.
    """
    name = os.fsencode(path.name)
    tail = os.fsencode(suffix)
    if len(name) + len(tail) > LONGEST_NAME:
        mark = b"~" + blake3(name).hexdigest()[:16].encode()
        room = LONGEST_NAME - len(mark) - len(tail)
        # Not inside of a character: what is left of it would be no name in any encoding.
        name = name[:room].decode("utf-8", "ignore").encode() + mark
    return path.with_name(os.fsdecode(name + tail))


UNKNOWN_ROOM = 1 << 63
"""Bytes: more than any object has; a full disk is found when it is full."""


def room_of(fd: int) -> int:
    """Return for how many bytes the disk of a file has room, those that the file has among them;
    `UNKNOWN_ROOM`: it does not say.
    """
    try:
        disk, status = os.fstatvfs(fd), os.fstat(fd)
    except OSError:
        return UNKNOWN_ROOM
    if not disk.f_blocks:
        return UNKNOWN_ROOM  # some file systems say 0 for all they don't know
    return disk.f_bavail * disk.f_frsize + status.st_blocks * 512
