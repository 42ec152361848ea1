"""What files have in common here: limits of calls, names, and words for what the system refuses."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from blake3 import blake3

PIECES_AT_ONCE = 1_024
"""Buffers that one call takes (IOV_MAX)."""

LONGEST_NAME = 255
"""Bytes of a file's name on the file systems of Linux."""

NOT_KNOWN = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF, errno.ENOLCK}
)
"""What file systems say of calls that they don't have."""


def reason(error: OSError) -> str:
    """Return what the system says, in words."""
    return error.strerror or os.strerror(error.errno or 0)


def close_quietly(fd: int) -> None:
    """Close a file; what network disks say only then comes too late to be of use."""
    with contextlib.suppress(OSError):
        os.close(fd)


def sync_data(fd: int) -> None:
    """Have the file's bytes on the disk, where the file system knows of such a thing.

    Raises:
        OSError: The disk failed to take them.
    """
    try:
        os.fdatasync(fd)
    except OSError as error:
        if error.errno not in NOT_KNOWN:
            raise


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
