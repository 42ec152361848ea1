"""A verified archive becomes a folder (spec: FLD-6, FLD-7).

Every member is judged before the first is written: by rules of our own, and by those of the
standard library (`tarfile.data_filter`). Files are made by descriptor in a folder that nobody else
can enter, as new ones and never through a link; links come last.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from sys import getsizeof

from pgmlite.errors import DiskError, ObjectError
from pgmlite.storage.links import OUTSIDE, Fold, Ways, folded
from pgmlite.storage.listing import FOLDER_FLAGS
from pgmlite.storage.members import read_members, refusal, shown
from pgmlite.storage.syscalls import can_sync_disk, sync_disk
from pgmlite.storage.system import LONGEST_NAME, close_quietly, forget_cache, reason, sync_all
from pgmlite.storage.tar import MOST_TIME, Member, MemberKind
from pgmlite.wire.manifest import Archive

ROOT = "."
"""The member that is the folder itself."""

LONGEST_PATH = 4_095
"""Bytes of a name from the folder on: what a call takes."""

MOST_OWNER = (1 << 32) - 2

MEMBER_MEMORY = 1 << 10
"""Bytes of memory that a member with a usual name takes at most while it is unpacked."""

NAMELESS_MEMORY = MEMBER_MEMORY // 2
"""Bytes of memory that it takes without its names, at most."""

MODE = 0o777
LOST_BITS = 0o7000

COPIED = 1 << 20
"""Bytes that are copied at once."""

WRITTEN_BACK = 32 << 20
"""Bytes of a file after which the disk is asked to begin with them."""

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Progress = Callable[[int, int | None], None]
Placed = tuple[Member, int]
"""A member, and where its bytes begin in the archive."""


def judge(
    fd: int,
    size: int,
    announced: Archive,
    progress: Progress,
    *,
    folds_case: bool = False,
    memory: int | None = None,
) -> list[Placed]:
    """Return the members of an archive, all of them fit to be unpacked.

    Args:
        fd: The archive, of `size` bytes.
        folds_case: The disk takes names for one that differ in case.
        memory: Bytes of it that the members may take; None: as many as they need.
        progress: Told of nothing; may raise.

    Raises:
        ObjectError: It is none, or a member is not fit.
        DiskError: It can't be read.
    """
    known = _Known(announced, folded if folds_case else str, memory)
    found: list[Placed] = []
    # The library looks at what is there. In a folder of which nobody else knows that is nothing:
    # what somebody laid where it is unpacked says nothing of an archive.
    where = f"/{os.urandom(8).hex()}"
    for member, at, info in read_members(fd, size):
        progress(0, size)
        known.add(member)
        try:
            tarfile.data_filter(info, where)
        except (tarfile.TarError, ValueError, OSError) as error:
            is_link = member.kind is MemberKind.LINK
            raise refusal(member.name, OUTSIDE if is_link else "is not to be unpacked") from error
        found.append((member, at))
    known.check_links(progress)
    if not found:
        raise ObjectError("archive: has no folder in it")
    return found


class _Known:
    """What is known of the members so far."""

    def __init__(self, announced: Archive, fold: Fold, memory: int | None) -> None:
        self._announced = announced
        self._fold = fold
        self._memory = memory
        self._held = 0
        self._size = 0
        self._kinds: dict[str, MemberKind] = {}
        self._links: dict[str, str] = {}

    def add(self, member: Member) -> None:
        """
        Raises:
            ObjectError: The member does not go with those before it.
        """
        name, kind = member.name, member.kind
        self._size += member.size
        if len(self._kinds) >= self._announced.entries or self._size > self._announced.size:
            raise ObjectError("archive: has more in it than was announced")
        self._hold(NAMELESS_MEMORY + getsizeof(name) + getsizeof(member.target))
        _check_numbers(member)
        if not self._kinds:
            if (name, kind) != (ROOT, MemberKind.FOLDER):
                raise refusal(name, "comes before the folder itself")
        else:
            self._check_name(name)
        if kind is MemberKind.LINK:
            _check_text(name, member.target)
            key = self._fold(name)
            if key is not name:
                self._hold(getsizeof(key))
            self._links[key] = member.target
        elif kind is MemberKind.SAME:
            if self._kinds.get(member.target) is not MemberKind.FILE:
                raise refusal(name, f"is one file with {shown(member.target)}, which is none")
            kind = MemberKind.FILE
        self._kinds[name] = kind

    def _hold(self, octets: int) -> None:
        """
        Raises:
            ObjectError: It all takes more memory than it may.
        """
        # A name of 4095 bytes may take four times as many, and what is announced has no names.
        self._held += octets
        if self._memory is not None and self._held > self._memory:
            raise ObjectError("archive: its names take more memory than there is for them")

    def _check_name(self, name: str) -> None:
        _check_text(name, name)
        for part in name.split("/"):
            if part in ("", ".", ".."):
                raise refusal(name, "is no plain name from the folder on")
            if len(part.encode()) > LONGEST_NAME:
                raise refusal(name, f"has a name of more than {LONGEST_NAME} bytes")
        if name in self._kinds:
            raise refusal(name, "is there twice")
        above = name.rpartition("/")[0]
        if above and self._kinds.get(above) is not MemberKind.FOLDER:
            raise refusal(name, f"is in {shown(above)}, which is no folder of the archive")

    def check_links(self, progress: Progress) -> None:
        """
        Raises:
            ObjectError: A link leads out, or that can't be told.
        """
        ways = Ways(self._links, self._fold)
        for name, kind in self._kinds.items():
            if kind is not MemberKind.LINK:
                continue
            progress(0, None)
            try:
                ways.check(name)
            except ValueError as error:
                raise refusal(name, str(error)) from None


def _check_text(name: str, text: str) -> None:
    """
    Raises:
        ObjectError: No file can be called as `text`, which is of the member `name`.
    """
    if "\0" in text or not text:
        raise refusal(name, "has a name that no file can have")
    if len(text.encode()) > LONGEST_PATH:
        raise refusal(name, f"has a name of more than {LONGEST_PATH} bytes")


def _check_numbers(member: Member) -> None:
    """
    Raises:
        ObjectError: No file has such numbers.
    """
    if not (0 <= member.uid <= MOST_OWNER and 0 <= member.gid <= MOST_OWNER):
        raise refusal(member.name, f"belongs to {member.uid}:{member.gid}")
    if abs(member.mtime) > MOST_TIME:
        raise refusal(member.name, f"was changed {member.mtime} s after 1970")
    if not 0 <= member.mode <= MODE | LOST_BITS:
        raise refusal(member.name, f"has the permissions {member.mode:o}")


class Unpacker:
    """Writes the members of one archive to a new folder."""

    def __init__(
        self, fd: int, members: Sequence[Placed], tree: int, name: str, warnings: list[str]
    ) -> None:
        """
        Args:
            fd: The archive.
            members: What `judge` returned.
            tree: A new folder that only we can enter.
            name: What messages call it.
            warnings: What the user should know is added here.
        """
        self._fd, self._members, self._tree, self._name = fd, members, tree, name
        self._warnings = warnings
        self._above, self._above_fd = "", os.dup(tree)
        self._gives = os.geteuid() == 0
        """Only root gives files away."""

        self._syncs_each = not can_sync_disk()
        self._kept: OSError | None = None
        self._unowned = 0
        self._buffer = bytearray(COPIED)
        self._done = 0
        self._total = sum(member.size for member, _ in members)

    def run(self, progress: Progress, *, reads_back: bool = False) -> None:
        """Write all, and have it on the disk.

        Args:
            reads_back: Read all files from the disk then, and compare them with the archive.

        Raises:
            DiskError: The disk refuses, or does not have what was written.
        """
        now = ROOT
        try:
            for member, at in self._members:
                now = member.name
                self._make(member, at, progress, is_dressed=not reads_back)
            if reads_back:
                now = ROOT
                self._read_back(progress)
            for member in self._of(MemberKind.LINK):
                now = member.name
                progress(self._done, self._total)
                self._link(member)
            # From below: a folder may be closed to us once it is as it shall be.
            for member in reversed(list(self._of(MemberKind.FOLDER))):
                now = member.name
                progress(self._done, self._total)
                self._finish_folder(member)
            now = ROOT
            if not self._syncs_each:
                sync_disk(self._tree)
        except FileExistsError as error:
            raise self._failed(now, "the disk takes its name for that of another") from error
        except OSError as error:
            raise self._failed(now, reason(error)) from error
        finally:
            close_quietly(self._above_fd)
        self._warn()

    def _of(self, kind: MemberKind) -> Iterator[Member]:
        return (member for member, _ in self._members if member.kind is kind)

    def _failed(self, name: str, why: str) -> DiskError:
        return DiskError(f"output {self._name}: {shown(name)}: {why}")

    def _warn(self) -> None:
        """Say what is not as the archive has it."""
        special = sum(bool(member.mode & LOST_BITS) for member, _ in self._members)
        if special:
            self._warnings.append(
                f"output {self._name}: set-user-ID, set-group-ID and sticky bits of {special} "
                "members are left out"
            )
        if self._kept:
            self._warnings.append(
                f"output {self._name}: the owners of {self._unowned} members could not be set: "
                f"{reason(self._kept)}"
            )

    # Making.

    def _make(self, member: Member, at: int, progress: Progress, *, is_dressed: bool) -> None:
        """Make a folder or a file."""
        progress(self._done, self._total)
        if member.name == ROOT or member.kind is MemberKind.LINK:
            return
        above, name = self._place(member.name)
        if member.kind is MemberKind.FOLDER:
            os.mkdir(name, 0o700, dir_fd=above)
        elif member.kind is MemberKind.SAME:
            self._link_again(member.target, name, above)
        else:
            fd = os.open(name, NEW_FILE, 0o600, dir_fd=above)
            try:
                self._copy(fd, at, member.size, progress)
                if is_dressed:
                    self._dress(fd, member)
            finally:
                close_quietly(fd)

    def _place(self, name: str) -> tuple[int, bytes]:
        """Return a descriptor of the folder that a member is in, and the member's name there."""
        above, _, own = name.rpartition("/")
        if above != self._above:
            is_below = not self._above or above.startswith(f"{self._above}/")
            fd = (
                _open_below(self._above_fd, above[len(self._above) :].strip("/"))
                if is_below
                else _open_below(self._tree, above)
            )
            close_quietly(self._above_fd)
            self._above, self._above_fd = above, fd
        return self._above_fd, own.encode()

    def _link_again(self, target: str, name: bytes, above: int) -> None:
        folder, _, own = target.rpartition("/")
        fd = _open_below(self._tree, folder)
        try:
            os.link(own.encode(), name, src_dir_fd=fd, dst_dir_fd=above, follow_symlinks=False)
        finally:
            close_quietly(fd)

    def _copy(self, fd: int, at: int, size: int, progress: Progress) -> None:
        buffer, done = memoryview(self._buffer), 0
        while done < size:
            count = os.preadv(self._fd, [buffer[: size - done]], at + done)
            if not count:
                raise DiskError(f"output {self._name}: the archive was cut off meanwhile")
            left = buffer[:count]
            while left:
                left = left[os.write(fd, left) :]
            if (done + count) // WRITTEN_BACK > done // WRITTEN_BACK:
                # What is dirty is not forgotten by that: the disk is told to begin with it.
                os.posix_fadvise(fd, 0, done + count, os.POSIX_FADV_DONTNEED)
            done += count
            self._done += count
            progress(self._done, self._total)

    # Looks.

    def _dress(self, fd: int, member: Member) -> None:
        """Give a file or a folder its owner, its permissions and its time."""
        self._own(member, fd)
        os.fchmod(fd, member.mode & MODE)
        os.utime(fd, (member.mtime, member.mtime))
        if self._syncs_each:
            sync_all(fd)

    def _own(self, member: Member, where: int | bytes, above: int | None = None) -> None:
        """Give a member to its owner, if we may; what is refused is said at the end."""
        if not self._gives:
            return
        owner = member.uid, member.gid
        try:
            if isinstance(where, int):
                os.fchown(where, *owner)
            else:
                os.chown(where, *owner, dir_fd=above, follow_symlinks=False)
        except OSError as error:
            self._kept = error
            self._unowned += 1

    def _link(self, member: Member) -> None:
        above, name = self._place(member.name)
        os.symlink(member.target.encode(), name, dir_fd=above)
        self._own(member, name, above)
        times = member.mtime, member.mtime
        os.utime(name, times, dir_fd=above, follow_symlinks=False)

    def _finish_folder(self, member: Member) -> None:
        fd = _open_below(self._tree, "" if member.name == ROOT else member.name)
        try:
            self._dress(fd, member)
        finally:
            close_quietly(fd)

    def _read_back(self, progress: Progress) -> None:
        """Read all files from the disk, and compare them; then they may look as they shall.

        Raises:
            DiskError: One is not what was written.
        """
        if not self._syncs_each:
            sync_disk(self._tree)
        done = 0
        for member, at in self._members:
            if member.kind is not MemberKind.FILE:
                continue
            above, name = self._place(member.name)
            fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            try:
                if self._syncs_each:
                    sync_all(fd)
                forget_cache(fd)
                if not self._reads_as(fd, at, member.size, done, progress):
                    raise self._failed(member.name, "does not read back as it was written")
                self._dress(fd, member)
            finally:
                close_quietly(fd)
            done += member.size

    def _reads_as(self, fd: int, at: int, size: int, before: int, progress: Progress) -> bool:
        """Whether a file has as many bytes, and they are those of the archive."""
        done = 0
        while done < size:
            progress(before + done, self._total)
            some = os.pread(fd, min(COPIED, size - done), done)
            if not some or some != os.pread(self._fd, len(some), at + done):
                return False
            done += len(some)
        return os.fstat(fd).st_size == size


def _open_below(fd: int, folder: str) -> int:
    """Open a folder below another one, step by step and never through a link."""
    fd = os.open(".", FOLDER_FLAGS, dir_fd=fd)
    for part in folder.encode().split(b"/") if folder else ():
        try:
            below = os.open(part, FOLDER_FLAGS, dir_fd=fd)
        finally:
            close_quietly(fd)
        fd = below
    return fd


def make_private(name: str, *, dir_fd: int) -> int:
    """Make a folder that only we can enter; return its descriptor.

    Raises:
        OSError: As the system says.
    """
    os.mkdir(name, 0o700, dir_fd=dir_fd)
    fd = os.open(name, FOLDER_FLAGS, dir_fd=dir_fd)
    if stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:  # a disk without permissions shows all to all
        os.fchmod(fd, 0o700)
    return fd
