"""The highest release of each stream that was installed, in the state folder (spec: TRU-6).

A file of JSON for each key and stream. It is on the disk before the output gets its name, and is
replaced in one step: whatever ends the machine, no output is newer than its floor. A file that
can't be used is an error: without it an old release, and its holes, would be taken again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgmlite.core.trust import Floor
from pgmlite.errors import DiskError
from pgmlite.storage.folder import WRITES, lets_others_rename
from pgmlite.storage.record import OID_DIGITS
from pgmlite.storage.system import (
    close_quietly,
    make_anew,
    make_folder,
    parse_fields,
    reason,
    sync_all,
    write_all,
)
from pgmlite.wire.digests import digest
from pgmlite.wire.layout import KEY_ID_SIZE, MAX_RELEASE, MAX_STREAM
from pgmlite.wire.manifest import REFUSED_CHARACTERS, Release

MAX_FLOOR = 4 << 10
"""Bytes of a file; ours have a tenth of it."""

FIELDS = {"stream": str, "key": str, "release": int, "oid": str}

LOCK = "floors.lock"
"""Held by who reads and writes."""

MENDING = (
    "it says which release was installed last: bring back a copy of it, or remove it to have any "
    "release taken once"
)


def state_folder(environment: Mapping[str, str]) -> Path:
    """Return where what outlives receivers is kept: ``$PGMLITE_STATE``, that of a service of
    systemd, or of a user.

    Raises:
        DiskError: There is none.
    """
    if named := environment.get("PGMLITE_STATE"):
        return Path(named)
    if named := environment.get("STATE_DIRECTORY"):
        return Path(named.split(":")[0])  # a service may have several
    base = environment.get("XDG_STATE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "pgmlite"
    try:
        return Path.home() / ".local" / "state" / "pgmlite"
    except RuntimeError:
        raise DiskError("state folder: there is no home; name one in PGMLITE_STATE") from None


@dataclass(frozen=True, slots=True)
class _File:
    """What one file says."""

    stream: str
    key_id: bytes
    floor: Floor

    def to_json(self) -> bytes:
        values = {
            "stream": self.stream,
            "key": self.key_id.hex(),
            "release": self.floor.release,
            "oid": f"{self.floor.oid:0{OID_DIGITS}x}",
        }
        return json.dumps(values, indent=1).encode() + b"\n"


def file_name(key_id: bytes, stream: str) -> str:
    """Return the name of the file for a key and a stream."""
    return f"floor-{key_id.hex()}-{digest(stream.encode())[:8].hex()}.json"


class FloorFiles:
    """The floors of some keys, as they were when it was made or used last."""

    def __init__(self, folder: Path, key_ids: Collection[bytes]) -> None:
        """
        Args:
            folder: Made if it is not there.
            key_ids: Of the keys that are trusted now.

        Raises:
            DiskError: A file of theirs can't be used, or none could be written.
        """
        self._folder = folder
        self._key_ids = tuple(key_ids)
        self._floors: dict[tuple[bytes, str], Floor] = {}
        with self._held() as fd:
            self._check(fd)
            self._read_all(fd)

    def of(self, stream: str) -> list[Floor]:
        """Return the floors of a stream, one for each key that has one."""
        return [floor for (_, one), floor in self._floors.items() if one == stream]

    def install(
        self, release: Release, oid: int, signers: Sequence[bytes], *, may_fall: bool = False
    ) -> None:
        """Note for good that a release is about to become the output; no floor falls.

        Args:
            signers: Ids of the keys that signed it.
            may_fall: Whether it may take the place of a higher one.

        Raises:
            DiskError: It can't be written, or another receiver has installed a higher release
                meanwhile.
        """
        with self._held() as fd:
            self._read_all(fd)
            higher = self._not_below(release, oid)
            if higher and not may_fall:
                name = file_name(higher[0], release.stream)
                floor = self._floors[higher[0], release.stream]
                raise DiskError(
                    f"release {release.number} of {release.stream} is not put in place: by "
                    f"{self._folder / name} release {floor.release}, object {floor.oid:016x}, was "
                    "installed meanwhile"
                )
            self._set(fd, release, oid, (one for one in signers if one not in higher))

    def fall(self, release: Release, oid: int) -> int | None:
        """Note for good that a release became the output in place of a higher one: all floors of
        its stream that are higher fall to it.

        Returns:
            The highest release that it took the place of; None: none of them was higher.

        Raises:
            DiskError: It can't be written.
        """
        with self._held() as fd:
            self._read_all(fd)
            higher = self._not_below(release, oid)
            highest = max((self._floors[one, release.stream].release for one in higher), default=0)
            self._set(fd, release, oid, higher)
        return highest if highest > release.number else None

    def _not_below(self, release: Release, oid: int) -> list[bytes]:
        """Return the keys whose floors keep a release from being taken."""
        return [
            key_id
            for (key_id, stream), floor in self._floors.items()
            if stream == release.stream
            and floor.release >= release.number
            and floor != Floor(release.number, oid)
        ]

    def _set(self, fd: int, release: Release, oid: int, key_ids: Iterable[bytes]) -> None:
        new = Floor(release.number, oid)
        for key_id in key_ids:
            if self._floors.get((key_id, release.stream)) != new:
                self._write(fd, _File(release.stream, key_id, new))
        # Even if nothing was written: a kill may have come between a name and this.
        sync_all(fd)

    # How.

    @contextlib.contextmanager
    def _held(self) -> Iterator[int]:
        """Open the folder, and keep other receivers out of it.

        Raises:
            DiskError: It can't be used.
        """
        try:
            make_folder(self._folder)
            fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._error(error) from error
        try:
            lock = self._lock(fd)
            try:
                yield fd
            finally:
                os.close(lock)
        except OSError as error:
            raise self._error(error) from error
        finally:
            close_quietly(fd)

    def _lock(self, folder: int) -> int:
        """Keep other receivers out until what is returned is closed.

        Raises:
            DiskError: The lock is a stranger's.
            OSError: There can be none.
        """
        # Not of the folder itself: whoever may read that could hold the lock for ever.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(LOCK, flags, 0o600, dir_fd=folder)
        try:
            status = os.fstat(fd)
            is_open = status.st_mode & ~(stat.S_IFREG | stat.S_IRUSR | stat.S_IWUSR)
            if is_open or status.st_uid not in {0, os.geteuid()}:
                raise DiskError(
                    f"state folder {self._folder}: {LOCK} is not a file that its owner alone can "
                    "read; remove it, or name another folder in PGMLITE_STATE"
                )
            with contextlib.suppress(OSError):  # some file systems have no locks
                fcntl.flock(fd, fcntl.LOCK_EX)
        except BaseException:
            close_quietly(fd)
            raise
        return fd

    def _error(self, error: OSError) -> DiskError:
        return DiskError(
            f"state folder {self._folder}: {reason(error)}; name another one in PGMLITE_STATE"
        )

    def _check(self, fd: int) -> None:
        """
        Raises:
            DiskError: Others may put files of theirs there.
            OSError: Nothing can be written.
        """
        if lets_others_rename(os.fstat(fd)):
            raise DiskError(
                f"state folder {self._folder}: others may change the files in it; take that from "
                "them, or name another one in PGMLITE_STATE"
            )
        # Found out now, not when everything has been received.
        os.close(make_anew("floor-check~", dir_fd=fd))
        os.unlink("floor-check~", dir_fd=fd)

    def _read_all(self, fd: int) -> None:
        """
        Raises:
            DiskError: A file of one of the keys can't be used.
        """
        found: dict[tuple[bytes, str], Floor] = {}
        for name in sorted(os.listdir(fd)):
            matched = re.fullmatch(r"floor-([0-9a-f]{16})-[0-9a-f]{16}\.json", name)
            if not matched or bytes.fromhex(matched[1]) not in self._key_ids:
                continue
            try:
                one = _parse(_read(fd, name))
                if file_name(one.key_id, one.stream) != name:
                    raise ValueError("it is of another key or stream than its name says")
            except OSError as error:
                raise DiskError(
                    f"floor {self._folder / name}: {reason(error)}; {MENDING}"
                ) from error
            except ValueError as error:
                raise DiskError(
                    f"floor {self._folder / name}: is damaged: {error}; {MENDING}"
                ) from None
            found[one.key_id, one.stream] = one.floor
        self._floors = found

    def _write(self, fd: int, one: _File) -> None:
        """Put a file in place, whole; its name is for good once the folder is synced."""
        name = file_name(one.key_id, one.stream)
        try:
            file = make_anew(f"{name}~", dir_fd=fd)
            try:
                write_all(file, one.to_json())
                sync_all(file)
            finally:
                os.close(file)
            os.rename(f"{name}~", name, src_dir_fd=fd, dst_dir_fd=fd)
        except OSError as error:
            raise DiskError(
                f"floor {self._folder / name}: {reason(error)}; what came is kept"
            ) from error
        self._floors[one.key_id, one.stream] = one.floor


def _read(folder: int, name: str) -> bytes:
    """
    Raises:
        ValueError: Others may have written it, or it is none of ours.
        OSError: It can't be read.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(name, flags, dir_fd=folder)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_uid not in {0, os.geteuid()} or status.st_mode & WRITES:
            raise ValueError("others may write it")
        return os.read(fd, MAX_FLOOR + 1)
    finally:
        os.close(fd)


def _parse(raw: bytes) -> _File:
    """
    Raises:
        ValueError: It is no file of ours.
    """
    values = parse_fields(raw, MAX_FLOOR, FIELDS)
    stream = values["stream"]
    if not stream or REFUSED_CHARACTERS.search(stream) or len(stream.encode()) > MAX_STREAM:
        raise ValueError("its stream is none that a release can have")
    for name, digits in (("key", 2 * KEY_ID_SIZE), ("oid", OID_DIGITS)):
        if not re.fullmatch(f"[0-9a-f]{{{digits}}}", values[name]):
            raise ValueError(f"its {name} is not {digits} hexadecimal digits")
    if not 0 <= values["release"] <= MAX_RELEASE:
        raise ValueError("its release is too large")
    floor = Floor(values["release"], int(values["oid"], 16))
    return _File(stream, bytes.fromhex(values["key"]), floor)
