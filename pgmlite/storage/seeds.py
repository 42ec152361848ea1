"""Seeds: files that may have blocks of the object already, each in its own place (spec: RCV-8).

The first one is the output itself. Nothing of a seed is believed before it was hashed, and nothing
that is copied from it before the copy was.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from blake3 import blake3

from pgmlite.errors import DiskError
from pgmlite.storage.folder import Folder
from pgmlite.storage.system import close_quietly, forget_cache, reason, sync_data

HASHED_AT_ONCE = 128 << 10
"""Bytes that are read and hashed in one step: they stay in the processor's cache."""


Block = tuple[int, int, bytes]
"""(offset, length, digest)."""


def digest_of(fd: int, offset: int, length: int) -> bytes | None:
    """Return the digest of `length` bytes at `offset` of a file; None if it is shorter.

    Raises:
        OSError: As the system says.
    """
    hasher, buffer = blake3(), memoryview(bytearray(min(length, HASHED_AT_ONCE)))
    while length and (done := os.preadv(fd, [buffer[:length]], offset)):
        hasher.update(buffer[:done])
        offset, length = offset + done, length - done
    return None if length else hasher.digest()


class Seed:
    """One file, open for reading.

    Attributes:
        name: What messages call it.
        size: Bytes.
        trouble: Why it can't be read, as far as that was so.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self._status = os.fstat(fd)
        self.size = self._status.st_size
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
        """Return a file that the user names.

        Raises:
            DiskError: It can't be read, or is no file.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            seed = cls(fd, f"base {path}")
        except OSError as error:
            raise DiskError(f"base {path}: {reason(error)}", cause="base") from error
        if not stat.S_ISREG(seed._status.st_mode):
            seed.close()
            raise DiskError(f"base {path}: is not a regular file", cause="base")
        return seed

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
        offset, length, expected = block
        try:
            return digest_of(self.fd, offset, length) == expected
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
