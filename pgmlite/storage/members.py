"""The members of an archive of a folder, read one header after another (spec: FLD-6).

The archive was verified; whoever made it may be hostile all the same. Nothing that a header says
decides how much is read. A header is taken apart by the standard library. What stands between
headers has bounds, so it is read here: `tarfile` itself reads as much as a header says, and keeps
or follows whatever comes of that.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pgmlite.errors import DiskError, ObjectError
from pgmlite.storage.system import reason
from pgmlite.storage.tar import Member, MemberKind
from pgmlite.wire.layout import ARCHIVE_RECORD

ENCODING, ERRORS = "utf-8", "strict"

LONGEST_EXTENSION = 2 * 4_096 + 1_024
"""Bytes of an extended header: what a header has no room for, two names at the most."""

LONGEST_END = 1 << 20
"""Bytes of zeros after the last member: archives may be filled up."""

EXTENSION_KEYS = frozenset({b"path", b"linkpath", b"size", b"mtime", b"uid", b"gid"})
LENGTH = re.compile(rb"([1-9][0-9]{0,4}) ")
NUMBER = re.compile(rb"-?[0-9]{1,19}")

KINDS = {kind.value: kind for kind in MemberKind}

OTHER_KINDS = {
    tarfile.CHRTYPE: "is a device",
    tarfile.BLKTYPE: "is a device",
    tarfile.FIFOTYPE: "is a FIFO",
    tarfile.GNUTYPE_SPARSE: "is sparse",
}

LONGEST_SHOWN = 80
"""Characters of a name in a message."""


class Found(NamedTuple):
    """A member in an archive.

    Attributes:
        at: Where its bytes begin.
        info: What the standard library makes of it.
    """

    member: Member
    at: int
    info: tarfile.TarInfo


def shown(name: str) -> str:
    """Return a name for people: nothing in it reaches a terminal, and it is not long."""
    text = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in name[: LONGEST_SHOWN + 1]
    )
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def refusal(name: str, why: str) -> ObjectError:
    """Return what to raise for a member that can't be unpacked."""
    return ObjectError(f"archive: {shown(name)} {why}")


def read_members(fd: int, size: int) -> Iterator[Found]:
    """Yield the members of an archive.

    Args:
        fd: The archive, of `size` bytes.

    Raises:
        ObjectError: It is none, or has what no sender makes.
        DiskError: It can't be read.
    """
    reader = _Reader(fd, size)
    while (info := _header(reader)) is not None:
        fields: dict[bytes, bytes] = {}
        if info.type == tarfile.XHDTYPE:
            fields = _extension(reader, info.size)
            info = _header(reader)
            if info is None:
                raise _cut_off()
        member = _member(info, fields)
        yield Found(member, reader.skip(member.size), info)


class _Reader:
    """Reads what an archive says of its members."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size = fd, size
        self.at = 0

    def take(self, length: int) -> bytes:
        """Return the next bytes, up to a whole record.

        Raises:
            ObjectError: The archive has no more.
            DiskError: It can't be read.
        """
        at = self.skip(length)
        try:
            data = os.pread(self._fd, length, at)
        except OSError as error:
            raise DiskError(f"archive: {reason(error)}") from error
        if len(data) < length:
            raise _cut_off()
        return data

    def skip(self, length: int) -> int:
        """Pass by the next bytes, up to a whole record; return where they begin.

        Raises:
            ObjectError: The archive has no more.
        """
        at = self.at
        self.at += -(-length // ARCHIVE_RECORD) * ARCHIVE_RECORD
        if self.at > self._size:
            raise _cut_off()
        return at

    def end(self) -> None:
        """
        Raises:
            ObjectError: There is more than an end, or less.
        """
        left = self._size - self.at
        if left < ARCHIVE_RECORD:
            raise _cut_off()
        if left > LONGEST_END or any(self.take(left)):
            raise ObjectError("archive: there is something after its end")


def _cut_off() -> ObjectError:
    return ObjectError("archive: is cut off")


def _header(reader: _Reader) -> tarfile.TarInfo | None:
    """Return the next header; None: there is no more.

    Raises:
        ObjectError: It is none.
    """
    raw = reader.take(ARCHIVE_RECORD)
    if not any(raw):
        reader.end()
        return None
    try:
        return tarfile.TarInfo.frombuf(raw, ENCODING, ERRORS)
    except (tarfile.TarError, ValueError, ArithmeticError) as error:
        raise ObjectError(f"archive: there is no header at {reader.at - len(raw)}") from error


def _extension(reader: _Reader, length: int) -> dict[bytes, bytes]:
    """Return the fields of an extended header.

    Raises:
        ObjectError: It is none, or has others than senders write.
    """
    if not 0 < length <= LONGEST_EXTENSION:
        raise ObjectError(f"archive: an extended header has {length} bytes")
    payload = reader.take(length)
    found: dict[bytes, bytes] = {}
    at = 0
    while at < length:
        head = LENGTH.match(payload, at)
        record = payload[at : at + int(head[1])] if head else b""
        key, is_field, value = record[len(head[0]) if head else 0 :].partition(b"=")
        is_whole = head is not None and len(record) == int(head[1])
        if (
            not is_whole
            or not is_field
            or value[-1:] != b"\n"
            or key in found
            or key not in EXTENSION_KEYS
        ):
            raise ObjectError("archive: an extended header has what no sender writes")
        found[key] = value[:-1]
        at += len(record)
    return found


def _number(fields: Mapping[bytes, bytes], key: bytes, usual: float) -> int:
    """Return a number of an extended header, else what the header says.

    Raises:
        ObjectError: It is none.
    """
    text = fields.get(key)
    if text is not None and not NUMBER.fullmatch(text):
        raise ObjectError(f"archive: {key.decode()} is no number in an extended header")
    return int(usual if text is None else text)


def _text(fields: Mapping[bytes, bytes], key: bytes, usual: str) -> str:
    """Return a name of an extended header, else what the header says.

    Raises:
        ObjectError: It is none.
    """
    try:
        return fields[key].decode() if key in fields else usual
    except UnicodeDecodeError as error:
        raise ObjectError(f"archive: {key.decode()} is no UTF-8 in an extended header") from error


def _member(info: tarfile.TarInfo, fields: Mapping[bytes, bytes]) -> Member:
    """Return what two headers say of one member.

    Raises:
        ObjectError: It is nothing that a sender has in an archive.
    """
    # It is the whole that the standard library shall judge.
    info.name = _text(fields, b"path", info.name)
    info.linkname = _text(fields, b"linkpath", info.linkname)
    info.size = _number(fields, b"size", info.size)
    kind = KINDS.get(info.type)
    if kind is None:
        raise refusal(info.name, OTHER_KINDS.get(info.type, "is of a type that is not known"))
    if info.size < 0 or (info.size and kind is not MemberKind.FILE):
        raise refusal(info.name, f"has {info.size} bytes")
    return Member(
        name=info.name.removesuffix("/") if kind is MemberKind.FOLDER else info.name,
        kind=kind,
        mode=info.mode,
        uid=_number(fields, b"uid", info.uid),
        gid=_number(fields, b"gid", info.gid),
        size=info.size,
        mtime=_number(fields, b"mtime", info.mtime),
        target=info.linkname if kind in (MemberKind.LINK, MemberKind.SAME) else "",
    )
