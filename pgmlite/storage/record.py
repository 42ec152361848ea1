"""The record of what was published, ``OUTPUT.pgmlite``: whether its command is done.

A file of JSON. It is written before the output is renamed, and names the very file that will be in
place: one that does not match says nothing. So a kill at any instant leaves a record that is right
or one that counts as none.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self

from pgmlite.errors import DiskError
from pgmlite.storage.folder import WRITES, lets_others_rename
from pgmlite.storage.system import (
    beside,
    lock,
    make_anew,
    make_folder,
    reason,
    sync_all,
    sync_folder,
    write_all,
)
from pgmlite.wire.layout import DIGEST_SIZE, MAX_STREAM
from pgmlite.wire.manifest import MAX_NAME, REFUSED_CHARACTERS, Manifest

MAX_RECORD = 16 << 10
"""Bytes; ours have less than half of it, whatever the name."""

MAX_FOLDERS = 99
"""That are kept: a record names them all."""

TEXTS = frozenset({"oid", "tree_digest", "name", "phase", "stream", "keys", "kept"})
"""The fields that are text; all others are numbers."""

OID_DIGITS = 16
MAX_NUMBER = (1 << 64) - 1

Warn = Callable[[str], None]


class Mark(NamedTuple):
    """What tells a folder from all others, whatever is changed in it.

    Attributes:
        inode: Which one it is on its disk; that of one that was removed may be given to another.
        born: When it was made, ns; 0: the disk does not say.
    """

    inode: int
    born: int

    def __str__(self) -> str:
        return f"{self.inode}:{self.born}"


class Identity(NamedTuple):
    """What tells something that was published from all else, and from itself after a change.

    Attributes:
        device: Where it is; `inode`: which one there.
        size: Bytes that it has.
        time: When it was last changed, ns; or another number that is new after any change.
        born: Of a folder: as of `Mark`.
    """

    device: int
    inode: int
    size: int
    time: int
    born: int = 0


def identity_of(status: os.stat_result) -> Identity:
    """Return the identity of a file."""
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Phase(StrEnum):
    """How far the command is."""

    PUBLISHED = "published"
    """It was not started yet."""
    STARTED = "started"
    """It was, and has not ended well."""
    DONE = "done"
    """It ended with code 0."""


@dataclass(frozen=True, slots=True)
class Publication:
    """An object, the identity that it was published with, and how far its command is.

    Attributes:
        stream: What it is a release of, if somebody whose key was given signed it; else empty.
        release: Its number; 0 if nobody has.
        keys: The ids of those keys, between spaces; empty: nobody has.
        attempt: How often the command was started.
        born: As of `Identity`.
        kept: Marks of folders that were replaced and kept, between spaces, the latest first.
    """

    oid: int
    tree_digest: bytes
    name: str
    device: int
    inode: int
    size: int
    time: int
    stream: str = ""
    release: int = 0
    keys: str = ""
    phase: Phase = Phase.PUBLISHED
    attempt: int = 0
    born: int = 0
    kept: str = ""

    @classmethod
    def of(cls, manifest: Manifest, found: Identity, signers: Sequence[bytes] = ()) -> Self:
        """Return the publication of an object as what `found` is of.

        Args:
            signers: Ids of the keys that signed it; without them its release is a mere claim.
        """
        release = manifest.release if signers else None
        return cls(
            stream=release.stream if release else "",
            release=release.number if release else 0,
            keys=" ".join(one.hex() for one in signers) if release else "",
            oid=manifest.oid,
            tree_digest=manifest.tree_digest,
            name=manifest.name,
            device=found.device,
            inode=found.inode,
            size=found.size,
            time=found.time,
            born=found.born,
        )

    @property
    def identity(self) -> Identity:
        """What it was published as."""
        return Identity(self.device, self.inode, self.size, self.time, self.born)

    @property
    def mark(self) -> Mark:
        """Of a folder: which one it is, whatever was changed in it since."""
        return Mark(self.inode, self.born)

    def names(self, found: Identity) -> bool:
        """Whether `found` is of the very thing, and nobody changed it since."""
        return self.identity == found

    def is_of(self, manifest: Manifest) -> bool:
        """Whether this is the object of `manifest`."""
        return (self.oid, self.tree_digest) == (manifest.oid, manifest.tree_digest)

    def start(self) -> Self:
        """Return it with the command started once more."""
        return replace(self, phase=Phase.STARTED, attempt=self.attempt + 1)

    def end(self) -> Self:
        """Return it with the command done."""
        return replace(self, phase=Phase.DONE)

    def to_json(self) -> bytes:
        """Return the bytes of the record."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["oid"] = f"{self.oid:0{OID_DIGITS}x}"
        values["tree_digest"] = self.tree_digest.hex()
        return json.dumps(values, indent=1).encode() + b"\n"


def _check_types(values: Any) -> None:
    """
    Raises:
        ValueError: There are other fields than ours, or values of other types.
    """
    if not isinstance(values, dict) or values.keys() != {f.name for f in fields(Publication)}:
        raise ValueError("other fields than ours")
    for name, value in values.items():
        # Not `isinstance`: true and false are numbers to Python.
        if type(value) is not (str if name in TEXTS else int):
            raise ValueError(f"{name} is of another type")
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise ValueError(f"{name} is too large")


def parse(raw: bytes) -> Publication:
    """Return what a record says; `raw` may come from anywhere.

    Raises:
        ValueError: It is no record of ours.
    """
    try:
        values = json.loads(raw.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_types(values)
    name = values["name"]
    if not name or REFUSED_CHARACTERS.search(name) or len(name.encode()) > MAX_NAME:
        raise ValueError("name is none that a manifest can have")
    stream, keys = values["stream"], values["keys"]
    if REFUSED_CHARACTERS.search(stream) or len(stream.encode()) > MAX_STREAM:
        raise ValueError("stream is none that a release can have")
    if not re.fullmatch("([0-9a-f]{16}( [0-9a-f]{16})*)?", keys) or bool(stream) != bool(keys):
        raise ValueError("stream and keys contradict each other")
    for name, digits in (("oid", OID_DIGITS), ("tree_digest", 2 * DIGEST_SIZE)):
        if not re.fullmatch(f"[0-9a-f]{{{digits}}}", values[name]):
            raise ValueError(f"{name} is not {digits} hexadecimal digits")
        values[name] = bytes.fromhex(values[name])
    values["oid"] = int.from_bytes(values["oid"])
    values["phase"] = Phase(values["phase"])
    if not re.fullmatch("([0-9]+:[0-9]+( [0-9]+:[0-9]+)*)?", values["kept"]):
        raise ValueError("kept is no row of marks")
    if values["attempt"] < 0 or (values["phase"] is Phase.PUBLISHED) != (not values["attempt"]):
        raise ValueError("phase and attempt contradict each other")
    return Publication(**values)


class PublishedRecord:
    """The record beside an output, locked from when it is read or written until it is closed.

    It is believed only where nobody else can have put it: a command runs because of it.
    """

    def __init__(self, output: Path, warn: Warn, *, elsewhere: Path | None = None) -> None:
        """
        Args:
            output: The file, or a link to it.
            warn: Told why a record is not used, and what could not be made lasting.
            elsewhere: Its path without ``.pgmlite``, where that is not beside the output; the
                folder is made when it is needed.
        """
        output = elsewhere or Path(os.path.realpath(output))
        self.path = beside(output, ".pgmlite")
        self.lock = -1
        """A descriptor: as long as a copy of it is open, no other receiver reads the record."""
        self.latest: Publication | None = None
        """What was read or written last."""
        self.kept: tuple[Mark, ...] = ()
        """Folders that are kept, the latest first: every record has them."""
        self._warn = warn
        self._makes_folder = elsewhere is not None
        # Always the same name: what a kill left of it is cleared away by the next write.
        self._fresh = beside(output, ".pgmlite~")

    def check(self) -> None:
        """Make sure before a transfer that a record can be written after it.

        Raises:
            DiskError: Something is in its place that can't be replaced, or its folder can't be
                made.
        """
        try:
            self._make_folder()
        except OSError as error:
            raise self._error(error) from error
        for path in (self.path, self._fresh):
            try:
                status, folder = os.lstat(path), os.stat(path.parent)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._error(error) from error
            if stat.S_ISDIR(status.st_mode):
                raise DiskError(f"record {path}: is a folder; move it away")
            movers = {0, status.st_uid, folder.st_uid}
            if folder.st_mode & stat.S_ISVTX and os.geteuid() not in movers:
                raise DiskError(f"record {path}: belongs to another user; choose another output")

    def _make_folder(self) -> None:
        if self._makes_folder:
            make_folder(self.path.parent)

    def peek(self) -> Publication | None:
        """Return what the record says, without holding it, and whoever may have put it there.

        Nothing should be run or called verified because of it.
        """
        with contextlib.suppress(OSError, ValueError):
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                _check_own(os.fstat(fd))
                self._learn(_parse_file(fd))
            finally:
                os.close(fd)
        return self.latest

    @property
    def is_believed(self) -> bool:
        """Whether nobody else can have put a record of ours in the place of another."""
        with contextlib.suppress(OSError, ValueError):
            self._check_folder()
            return True
        return False

    def read(self) -> Publication | None:
        """Return what the record says; None if there is none that can be believed.

        What `peek` found is known all the same: what is ours stays ours.

        Raises:
            BlockingIOError: Another receiver has it, or what it left running has.
        """
        found = self._read()
        if found:
            self._learn(found)
        return found

    def _learn(self, found: Publication) -> None:
        self.latest = found
        marks = found.kept.split()
        self.kept = tuple(Mark(*map(int, mark.split(":"))) for mark in marks)

    def _read(self) -> Publication | None:
        self.close()  # our own lock would be in the way
        try:
            os.lstat(self.path)
            self._check_folder()
            while (fd := _open(self.path)) < 0:
                pass  # replaced between our two steps: take the new one
        except FileNotFoundError:
            return None
        except BlockingIOError:
            raise
        except OSError as error:
            why = reason(error)
        except ValueError as error:
            why = str(error)
        else:
            self._keep(fd)
            try:
                return _parse_file(fd)
            except OSError as error:
                why = reason(error)
            except ValueError as error:
                why = str(error)
        self._warn(f"record {self.path}: not used: {why}")
        return None

    def _check_folder(self) -> None:
        """
        Raises:
            ValueError: Others can put files of ours in each other's place there.
        """
        if lets_others_rename(os.stat(self.path.parent)):
            raise ValueError(f"others may rename files in {self.path.parent}")

    def write(self, publication: Publication) -> None:
        """Put a record in place, at once and for good.

        Raises:
            DiskError: It can't be written; the one before it stays.
        """
        publication = replace(publication, kept=" ".join(map(str, self.kept)))
        try:
            self._make_folder()
            fd = make_anew(self._fresh)
            try:
                lock(fd)
                write_all(fd, publication.to_json())
                sync_all(fd)
                os.replace(self._fresh, self.path)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise self._error(error) from error
        self._keep(fd)
        self.latest = publication
        try:
            sync_folder(self.path.parent)
        except OSError as error:
            self._warn(f"record {self.path}: may not survive a power cut: {reason(error)}")

    @property
    def is_in_place(self) -> bool:
        """Whether the record is still the one that was read or written last."""
        try:
            return os.path.samestat(os.fstat(self.lock), os.lstat(self.path))
        except OSError:
            return False

    def remove(self) -> None:
        """Remove a record of ours: what it names is replaced, and no command follows."""
        self.close()
        with contextlib.suppress(OSError, ValueError):
            fd = _open(self.path)
            try:
                _parse_file(fd)
                self.path.unlink()
            finally:
                os.close(fd)

    def close(self) -> None:
        """Let others have the record."""
        self._keep(-1)

    def _keep(self, fd: int) -> None:
        if self.lock >= 0:
            os.close(self.lock)
        self.lock = fd

    def _error(self, error: OSError) -> DiskError:
        return DiskError(f"record {self.path}: {reason(error)}")


def _open(path: Path) -> int:
    """Open and lock a record; return -1 if it is no longer the one at its path.

    Raises:
        ValueError: It is not a file of ours alone.
        OSError: It can't be read; BlockingIOError: another process has it.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):  # to open a device may do things
        raise ValueError("is not a regular file")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        _check_own(status)
        lock(fd)  # without locks, two receivers of one output may run the command twice
        if os.path.samestat(status, os.lstat(path)):
            return fd
    except (OSError, ValueError):
        os.close(fd)
        raise
    os.close(fd)
    return -1


def _check_own(status: os.stat_result) -> None:
    """
    Raises:
        ValueError: Others may have written the file, or may yet.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a regular file")
    if status.st_uid != os.geteuid():
        raise ValueError("belongs to another user")
    if status.st_nlink != 1:
        raise ValueError("has another name, too")
    if status.st_mode & WRITES:
        raise ValueError("may be written by others")


def _parse_file(fd: int) -> Publication:
    """
    Raises:
        ValueError: It is no record of ours.
        OSError: It can't be read.
    """
    raw = os.pread(fd, MAX_RECORD + 1, 0)
    if len(raw) > MAX_RECORD:
        raise ValueError("is too long")
    try:
        return parse(raw)
    except ValueError as error:
        raise ValueError(f"is no record: {error}") from error
