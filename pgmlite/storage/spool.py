"""Partial files of what ends in no file: ``SPOOL/OID.part``, one an object (spec: RCV-26).

Which object comes is known only when it begins. Until then there is a folder, and no file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

from pgmlite.core.decode import Decoded
from pgmlite.core.machine import Complete, Decode, Held, Lying, Prepare
from pgmlite.errors import DiskError
from pgmlite.storage.part import PartFile
from pgmlite.storage.record import OID_DIGITS
from pgmlite.storage.seeds import Block, Seed
from pgmlite.storage.system import make_anew, reason, room_of
from pgmlite.wire.layout import DIGEST_SIZE
from pgmlite.wire.manifest import Manifest

TEMPORARY = Path("/var/tmp")  # noqa: S108 - what is made there is checked to be ours
"""Where temporary files are that may be large, and outlive a reboot."""

MOST_LEFT = 4
"""Partial files that one receiver leaves to later ones for other objects than its last: senders
that come and go must not fill the disk."""


def spool_folder(named: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the folder for what lies on a disk only for a while: `named`, or that for temporary
    files, ``$TMPDIR`` or ``/var/tmp``.

    Raises:
        DiskError: Nothing can be written there.
    """
    folder = named or Path(environment.get("TMPDIR") or TEMPORARY)
    probe = folder / f".pgmlite-{os.urandom(8).hex()}"
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise DiskError(f"spool {folder}: is no folder", cause="spool")
        fd = make_anew(probe)
        try:
            room = room_of(fd)
        finally:
            os.close(fd)
            probe.unlink()
    except OSError as error:
        raise DiskError(
            f"spool {folder}: {reason(error)}; name a folder that can be written", cause="spool"
        ) from error
    if not room:
        raise DiskError(f"spool {folder}: the disk is full", cause="spool")
    return folder


def blocks_of(complete: Complete) -> Iterator[Block]:
    """Yield the blocks of a complete object, in order."""
    geometry, digests = complete.manifest.geometry, complete.digests
    for number in range(geometry.blocks):
        offset, length = geometry.extent(number)
        digest = digests[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE]
        yield Block(offset, length, complete.manifest.symbol_size, digest)


class PlaceSeed(Seed):
    """Where an object goes, as a seed: which blocks it had is remembered."""

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(fd, name)
        self._had: set[int] = set()

    def has(self, block: Block) -> bool:
        """Whether a block is there, and can be read."""
        has = super().has(block)
        if has:
            self._had.add(block.offset)
        return has

    def take(self, offset: int) -> bool:
        """Whether the block at `offset` was there when it was asked for; that is told once."""
        had = offset in self._had
        self._had.discard(offset)
        return had


class Passing(Protocol):
    """What passes an object on while it comes. All of it is called by the loop's thread."""

    def place(self) -> PlaceSeed | None:
        """Return where the object goes, opened anew; None: nothing can be read there.

        Raises:
            DiskError: It can't be used.
        """

    def begin(self, part: PartFile) -> None:
        """Pass on the object that comes to be in a partial file, none of any other."""

    def expect(self, manifest: Manifest) -> None:
        """Learn what comes.

        Raises:
            DiskError: It can't be passed on.
        """

    def verified(self, block: Block, *, is_there: bool) -> None:
        """Pass a block on, unless it is where it shall be already.

        Raises:
            DiskError: It can't be.
        """

    def take_spoilt(self) -> Sequence[Block]:
        """Return blocks that the partial file has no longer: they were not passed on."""

    def check(self) -> None:
        """
        Raises:
            DiskError: Nothing more can be passed on.
        """

    def look(self) -> None:
        """See whether what comes can be passed on at all, about once a second.

        Raises:
            DiskError: It can't be.
        """

    def end(self) -> None:
        """Pass on nothing more; returns when the partial file is not read any more."""


class SpoolPart:
    """What has come of an object that is passed on: a partial file in a spool folder.

    Attributes:
        path: The partial file; the folder, as long as none is open.
        warnings: As of `PartFile`; `reused` likewise.
    """

    def __init__(self, folder: Path, passing: Passing, *, bases: Sequence[Path] = ()) -> None:
        """
        Args:
            folder: As of `spool_folder`.
            bases: Files that may have a part of the object.

        Raises:
            DiskError: A base can't be read.
        """
        for base in bases:
            Seed.of_path(base).close()  # found out now, not when the first packet comes
        self.path = folder
        self.warnings: list[str] = []
        self.reused = 0
        self._folder = folder
        self._passing = passing
        self._bases = bases
        self._part: PartFile | None = None
        self._place: PlaceSeed | None = None
        self._manifest: Manifest | None = None
        self._left = 0
        self._reading = Lock()
        """Held by who decodes: meanwhile no partial file is closed."""

    def _path_of(self, oid: int) -> Path:
        return self._folder / f"{oid:0{OID_DIGITS}x}"

    @property
    def _current(self) -> PartFile:
        if self._part is None:
            raise DiskError(f"spool {self._folder}: no object was prepared for")
        return self._part

    # What is there.

    def has_room(self, size: int) -> bool:
        """Whether so many bytes may fit, with the most that a partial file has there already."""
        held = 0
        try:
            with os.scandir(self._folder) as found:
                for one in found:
                    if one.name.endswith(".part") and len(one.name) == OID_DIGITS + len(".part"):
                        held = max(held, one.stat(follow_symlinks=False).st_blocks * 512)
        except OSError:
            held = 0
        return size <= self._free() + held

    def has_room_for(self, manifest: Manifest) -> bool:
        """Whether an object fits beside all that is there."""
        try:
            held = os.lstat(f"{self._path_of(manifest.oid)}.part").st_blocks * 512
        except OSError:
            held = 0
        return manifest.size <= self._free() + held

    def _free(self) -> int:
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def prepare(self, wanted: Prepare) -> Held:
        """Open the partial file of an object, and leave that of the one before to later runs.

        Raises:
            DiskError: As `PartFile` and `PartFile.prepare`.
        """
        self._leave()
        self.reused = 0
        self._place = self._passing.place()
        try:
            part = PartFile(
                self._path_of(wanted.oid),
                bases=self._bases,
                place=self._place,
                output_is_seed=False,
            )
        except BaseException:
            if self._place:
                self._place.close()
            raise
        part.warnings[:0] = self.warnings
        self.warnings, self.path, self._part = part.warnings, part.path, part
        self._passing.begin(part)
        return part.prepare(wanted)

    def begin(self, manifest: Manifest) -> None:
        """As of `PartFile`.

        Raises:
            DiskError: It does not fit here, or where it is passed on to.
        """
        self._passing.expect(manifest)
        self._manifest = manifest
        self._current.begin(manifest)

    # Writing.

    def store(
        self, pieces: Iterable[Sequence[tuple[int, memoryview]]], lying: Lying | None = None
    ) -> None:
        """As of `PartFile`."""
        self._current.store(pieces, lying)

    def matches(self, offset: int, length: int, expected: bytes) -> bool:
        """As of `PartFile`, and what is verified is passed on.

        Raises:
            DiskError: It can't be read, or not be passed on.
        """
        part = self._current
        if not part.matches(offset, length, expected):
            return False
        is_there = self._place is not None and self._place.take(offset)
        self.reused = part.reused
        self._verified(offset, length, expected, is_there=is_there)
        return True

    def decode(self, action: Decode) -> Decoded:
        """As of `PartFile`; what is decoded of another object than the present one is of no use."""
        with self._reading:
            return self._current.decode(action)

    def place(self, decoded: Decoded) -> bool:
        """As of `PartFile`, and what is verified is passed on.

        Raises:
            DiskError: It can't be written or read, or not be passed on.
        """
        if not self._current.place(decoded):
            return False
        action = decoded.action
        self._verified(*action.geometry.extent(action.block), action.digest)
        return True

    def _verified(
        self, offset: int, length: int, expected: bytes, *, is_there: bool = False
    ) -> None:
        symbol_size = self._manifest.symbol_size if self._manifest else 1
        block = Block(offset, length, symbol_size, expected)
        self._passing.verified(block, is_there=is_there)

    # The end.

    def settle(self, complete: Complete) -> list[int]:
        """Return the blocks that turned out not to be there when they were to be passed on.

        Raises:
            DiskError: Nothing more can be passed on.
        """
        self._passing.check()
        size = complete.manifest.block_size
        return sorted({block.offset // size for block in self._passing.take_spoilt()})

    def remove(self) -> None:
        """Remove the partial file and its record: all of it is passed on."""
        if self._part is not None:
            self._close(is_kept=False)

    def idle(self) -> None:
        """As of `PartFile`; also, look whether something can be passed on.

        Raises:
            DiskError: It can't, or the disk failed to take what was written.
        """
        self._passing.look()
        if self._part is not None:
            self._part.idle()

    def _leave(self) -> None:
        """Leave an object to later runs, if it was announced: others are easily made up."""
        if self._part is None:
            return
        is_kept = self._manifest is not None and self._left < MOST_LEFT
        self._left += is_kept
        self._close(is_kept=is_kept)

    def _close(self, *, is_kept: bool) -> None:
        part, self._part, self._manifest = self._part, None, None
        self._passing.end()
        if part is None:
            return
        if not is_kept:
            try:
                os.ftruncate(part.fd, 0)
            except OSError as error:
                part.warnings.append(f"partial file {part.path}: stays: {reason(error)}")
        with self._reading:
            part.close()

    def close(self) -> None:
        """Close it; what came stays for the next run."""
        self._close(is_kept=True)
