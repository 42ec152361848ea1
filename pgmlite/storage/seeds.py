"""Seeds: files that may have blocks of the object already, each in its own place (spec: RCV-8).

Block devices are files here, too. The first one is the output itself. Nothing of a seed is believed
before it was hashed, and nothing that is copied from it before the copy was.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pgmlite.errors import DiskError
from pgmlite.storage.folder import Folder
from pgmlite.storage.system import close_quietly, forget_cache, reason, sync_data
from pgmlite.wire.digests import digest, strip_digests, strip_size
from pgmlite.wire.geometry import pieces

HASHED_AT_ONCE = 128 << 10
"""Bytes that are read and hashed in one step, about: they stay in the processor's cache."""


class Block(NamedTuple):
    """`length` bytes at `offset` and their digest, in an object of such symbols."""

    offset: int
    length: int
    symbol_size: int
    digest: bytes


def has_block(fd: int, block: Block, known: Sequence[bytes | None] = ()) -> bool:
    """Whether a file has a block.

    Args:
        known: Digests of its strips; those that are None are read, all if there are none.

    Raises:
        OSError: As the system says.
    """
    offset, length, symbol_size, expected = block
    size = strip_size(symbol_size)
    strips = list(known) or [None] * pieces(length, size)
    at_once = max(1, HASHED_AT_ONCE // size)
    buffer = memoryview(bytearray(min(length, at_once * size)))
    found, place = [], 0
    while place < len(strips):
        if strip := strips[place]:
            found.append(strip)
            place += 1
            continue
        stop = place + 1
        while stop < min(place + at_once, len(strips)) and not strips[stop]:
            stop += 1
        piece = buffer[: min(stop * size, length) - place * size]
        if not fill(fd, piece, offset + place * size):
            return False
        found.append(strip_digests(piece, symbol_size))
        place = stop
    return digest(b"".join(found)) == expected


def fill(fd: int, piece: memoryview, offset: int) -> bool:
    """Read a piece; False if the file ends in it.

    Raises:
        OSError: As the system says.
    """
    while piece and (done := os.preadv(fd, [piece], offset)):
        piece, offset = piece[done:], offset + done
    return not piece


class Seed:
    """One file, open for reading.

    Attributes:
        name: What messages call it.
        size: Bytes.
        trouble: Why it can't be read, as far as that was so.
    """

    def __init__(self, fd: int, name: str) -> None:
        """
        Raises:
            OSError: As the system says; the descriptor stays open.
        """
        self.fd = fd
        self.name = name
        self._status = os.fstat(fd)
        is_device = stat.S_ISBLK(self._status.st_mode)
        self.size = os.lseek(fd, 0, os.SEEK_END) if is_device else self._status.st_size
        self.trouble = ""

    @classmethod
    def of_output(cls, folder: Folder, name: str) -> Seed | None:
        """Return the output as it is; None if there is none that can be read."""
        try:
            fd = folder.open(name, os.O_RDONLY)
        except OSError:
            return None
        seed = cls(fd, f"output {folder.path / name}")
        if stat.S_ISREG(seed._status.st_mode):
            return seed
        seed.close()
        return None

    @classmethod
    def of_path(cls, path: Path) -> Seed:
        """Return a file or a block device that the user names.

        Raises:
            DiskError: It can't be read, or is neither.
        """
        try:
            seed = cls._opened(path)
        except OSError as error:
            raise DiskError(f"base {path}: {reason(error)}", cause="base") from error
        mode = seed._status.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            seed.close()
            raise DiskError(f"base {path}: is neither a file nor a block device", cause="base")
        return seed

    @classmethod
    def _opened(cls, path: Path) -> Seed:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return cls(fd, f"base {path}")
        except OSError:
            close_quietly(fd)
            raise

    def settle(self) -> None:
        """Have it on the disk; what the disk fails to take is read from there from now on."""
        try:
            sync_data(self.fd)
        except OSError:
            forget_cache(self.fd)

    def is_still(self, status: os.stat_result) -> bool:
        """Whether a file with `status` is this one, and nobody has written to it since."""
        return all(
            getattr(status, name) == getattr(self._status, name)
            for name in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
        )

    def has(self, block: Block) -> bool:
        """Whether a block is there, and can be read."""
        try:
            return has_block(self.fd, block)
        except OSError as error:
            self.trouble = reason(error)
            return False

    def copy(self, to: int, offset: int, length: int) -> None:
        """Copy a stretch to the same place in another file; where it can be, it is shared.

        What can't be read is not copied.

        Raises:
            OSError: The other file can't be written.
        """
        end = offset + length
        try:
            while offset < end:
                done = os.copy_file_range(self.fd, to, end - offset, offset, offset)
                if not done:
                    return  # it was cut off; the copy will not verify
                offset += done
        except OSError:  # across file systems, or not known here: by hand
            while offset < end:
                data = self._read(min(end - offset, HASHED_AT_ONCE), offset)
                if not data:
                    return
                offset += os.pwrite(to, data, offset)

    def _read(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self.fd, length, offset)
        except OSError as error:
            self.trouble = reason(error)
            return b""

    def close(self) -> None:
        """Close the file."""
        close_quietly(self.fd)


def find(seeds: list[Seed], block: Block, warnings: list[str]) -> Seed | None:
    """Return the first seed that has a block; those that can't be read are no seeds any more.

    Args:
        warnings: What there is to say of them is added here.
    """
    for seed in list(seeds):
        if seed.has(block):
            return seed
        if seed.trouble:
            seeds.remove(seed)
            warnings.append(f"{seed.name}: {seed.trouble}; what it has is fetched")
    return None
