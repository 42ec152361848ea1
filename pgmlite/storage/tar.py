"""The members of the archive of a folder, as bytes (spec: FLD-1).

The standard library writes the headers: in the pax format, with nothing in them that depends on the
machine, so that the same folder is the same archive everywhere.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from enum import Enum

from pgmlite.wire.layout import ARCHIVE_RECORD

END = bytes(2 * ARCHIVE_RECORD)
"""What stands behind the last member."""

MOST_TIME = 1 << 40
"""s from 1970, in either direction; disks that hold less change it by themselves."""


class MemberKind(Enum):
    """What a member of an archive is; values are those of its header."""

    FOLDER = tarfile.DIRTYPE
    FILE = tarfile.REGTYPE
    LINK = tarfile.SYMTYPE
    SAME = tarfile.LNKTYPE
    """A further name of a file that is a member before it."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive.

    Attributes:
        name: From the folder, without a slash before or behind; ``.``: the folder itself.
        mode: The lower 12 bits count.
        size: Bytes of its content: of a file, 0 of anything else.
        mtime: Whole seconds since 1970.
        target: Of a link as it is; of a further name of a file the first one.
    """

    name: str
    kind: MemberKind
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    target: str = ""


def header(member: Member) -> bytes:
    """Return what stands before the content of a member: 512 bytes or a multiple of them.

    Raises:
        UnicodeEncodeError: A name is no text.
    """
    # spec: FLD-1
    info = tarfile.TarInfo(member.name)
    info.type = member.kind.value
    info.mode = member.mode & 0o7777
    info.uid, info.gid = member.uid, member.gid
    info.size, info.mtime = member.size, member.mtime
    info.linkname = member.target
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """Return the zeros behind a content of `size` bytes."""
    return bytes(-size % ARCHIVE_RECORD)
