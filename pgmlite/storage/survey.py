"""What a folder has in it, looked at in the order of its archive, and what of it can't be sent.

The folder is looked at three times: to see whether it can be sent and how long its archive is, to
write that, and to see that nothing has changed since the first time (spec: FLD-2, FLD-3, FLD-4).
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from pgmlite.errors import DiskError, UsageError
from pgmlite.storage.links import Ways
from pgmlite.storage.system import reason
from pgmlite.storage.tar import END, MOST_TIME, Member, MemberKind, header, padding
from pgmlite.wire.manifest import MAX_OBJECT_SIZE, REFUSED_CHARACTERS, Archive

SECOND = 1_000_000_000

NAMED = 3
"""Members that an error names; of others it says how many there are."""

LOST_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
"""Of a mode: what receivers leave out."""

MOST_MEMBERS = (1 << 32) - 1

STRANGE = (
    (stat.S_ISBLK, "is a device"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
)
"""What no folder at a receiver will have."""

Refuse = Callable[[bytes, str], None]
"""Takes a name from the folder on, and why it can't be sent; may raise."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A member, where it is and what the system says of it.

    Attributes:
        path: Of it, as bytes: names need not be text.
        status: Not through a link.
    """

    member: Member
    path: bytes
    status: os.stat_result


def identify(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs when a file was changed or replaced."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def shown(name: bytes) -> str:
    """Return a name of a file as people may see it."""
    return REFUSED_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", name.decode(errors="replace"))


def check_library() -> None:
    """Make sure that the standard library has the checks by which folders are taken.

    Raises:
        UsageError: It is older.
    """
    if not hasattr(tarfile, "data_filter"):
        raise UsageError(
            "folders need `tarfile.data_filter`, which this Python does not have: use 3.11.4 or "
            "later, or a file"
        )


def look_through(folder: bytes, refuse: Refuse) -> Iterator[Seen]:
    """Yield what a folder has in it in the order of its archive (spec: FLD-2).

    Args:
        refuse: Told of what can't be sent, which is left out.

    Raises:
        OSError: The folder itself can't be read.
    """
    root = os.path.realpath(folder)
    first: dict[tuple[int, int], str] = {}
    for name, path, status in _walk(root, refuse):
        try:
            text = name.decode()
        except UnicodeDecodeError:
            refuse(name, "is no UTF-8")
            continue
        kind = _kind(status)
        why, target, size = "", "", 0
        if kind is MemberKind.LINK:
            target, why = _target(root, text, path)
        elif kind is MemberKind.FILE:
            own = status.st_dev, status.st_ino
            if status.st_nlink > 1 and (target := first.setdefault(own, text)) != text:
                kind = MemberKind.SAME
            elif not os.access(path, os.R_OK, effective_ids=True):
                why = "can't be read"
            else:
                target, size = "", status.st_size
        elif kind is None:
            why = next(what for test, what in STRANGE if test(status.st_mode))
        mtime = status.st_mtime_ns // SECOND
        if not why and abs(mtime) > MOST_TIME:
            why = f"was changed more than {MOST_TIME} s from 1970"
        if why or kind is None:
            refuse(name, why)
            continue
        owner = status.st_uid, status.st_gid
        member = Member(text, kind, status.st_mode & 0o7777, *owner, size, mtime, target)
        yield Seen(member, path, status)


def _kind(status: os.stat_result) -> MemberKind | None:
    if stat.S_ISDIR(status.st_mode):
        return MemberKind.FOLDER
    if stat.S_ISREG(status.st_mode):
        return MemberKind.FILE
    return MemberKind.LINK if stat.S_ISLNK(status.st_mode) else None


def _walk(root: bytes, refuse: Refuse) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    """Yield name, path and status of a folder and of all that is in it.

    A folder comes before what is in it, and that by the bytes of its names.
    """
    yield b".", root, os.lstat(root)
    levels = [(b"", iter(_sorted(root)))]
    while levels:
        prefix, entries = levels[-1]
        entry = next(entries, None)
        if entry is None:
            levels.pop()
            continue
        name = prefix + entry.name
        try:
            status = entry.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            below = _sorted(entry.path) if is_folder else []
        except OSError as error:
            refuse(name, reason(error))
            continue
        yield name, entry.path, status
        if is_folder:
            levels.append((name + b"/", iter(below)))


def _sorted(path: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(path) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _target(root: bytes, name: str, path: bytes) -> tuple[str, str]:
    """Return where a link leads, and why it can't be sent; empty: it can."""
    # spec: FLD-3
    try:
        raw = os.readlink(path)  # noqa: PTH115
    except OSError as error:
        return "", reason(error)
    try:
        target = raw.decode()
    except UnicodeDecodeError:
        return "", f"leads to {shown(raw)}, which is no UTF-8"
    out = f"leads out of the folder, to {shown(raw)}"
    plain = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if target.startswith("/") or plain.split("/")[0] == "..":
        return target, out
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return target, "leads in a circle"
    # Where other links are on the way it leads elsewhere than its words say.
    real = os.path.realpath(path)
    if real != root and not real.startswith(root.rstrip(b"/") + b"/"):
        return target, out
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    try:
        tarfile.data_filter(info, os.fsdecode(root))
    except (tarfile.FilterError, OSError):
        return target, out
    return target, ""


@dataclass(slots=True)
class Survey:
    """What a folder had in it when it was looked through.

    Attributes:
        entries: Members of its archive.
        size: Bytes in its files.
        octets: Bytes of its archive.
        special: Members with bits in their mode that receivers leave out.
        newest: When something was changed last, ns since 1970, and what.
        mark: Differs when anything does.
    """

    entries: int = 0
    size: int = 0
    octets: int = len(END)
    special: int = 0
    newest: tuple[int, str] = (0, "")
    mark: bytes = b""
    _refused: list[str] = field(default_factory=list)
    _left_out: int = 0

    @property
    def archive(self) -> Archive:
        """What the manifest says of it."""
        return Archive(self.entries, self.size)

    def refuse(self, name: bytes, why: str) -> None:
        """Note what can't be sent."""
        self._left_out += 1
        if len(self._refused) < NAMED:
            self._refused.append(f"{shown(name)} {why}")

    def check(self, path: os.PathLike[str]) -> None:
        """
        Raises:
            DiskError: It can't be sent.
        """
        if self._left_out:
            more = self._left_out - len(self._refused)
            rest = f"; and {more} more" if more else ""
            raise DiskError(
                f"source {os.fspath(path)}: {'; '.join(self._refused)}{rest}: can't be sent; move "
                "it away, or send an archive of your own"
            )
        if self.entries > MOST_MEMBERS or self.octets > MAX_OBJECT_SIZE:
            raise DiskError(f"source {os.fspath(path)}: too large")


def survey(path: os.PathLike[str], tick: Callable[[], None]) -> Survey:
    """Look through a folder.

    Args:
        tick: Called for each member; may raise.

    Raises:
        DiskError: It can't be read.
    """
    found = Survey()
    hasher = blake3()
    links: dict[str, str] = {}
    try:
        for seen in look_through(os.fsencode(path), found.refuse):
            tick()
            member, status = seen.member, seen.status
            found.entries += 1
            found.size += member.size
            found.octets += len(header(member)) + member.size + len(padding(member.size))
            if member.kind is MemberKind.LINK:
                links[member.name] = member.target
            found.special += bool(member.mode & LOST_BITS)
            found.newest = max(found.newest, (status.st_ctime_ns, member.name))
            hasher.update(repr((member.name, member.target, *identify(status))).encode())
    except OSError as error:
        raise DiskError(f"source {os.fspath(path)}: {reason(error)}") from error
    ways = Ways(links)
    for name in links:
        tick()
        try:
            ways.check(name)  # as receivers do, who have no disk to ask
        except ValueError as error:
            found.refuse(name.encode(), str(error))
    found.mark = hasher.digest()
    return found
