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
from pgmlite.storage.system import reason

HASHED_AT_ONCE = 128 << 10
"""Bytes that are read and hashed in one step: they stay in the processor's cache."""


class Reader:
    """Hashes stretches of files."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(HASHED_AT_ONCE))

    def digest(self, fd: int, offset: int, length: int) -> bytes | None:
        """Return the digest of `length` bytes at `offset`; None if the file is shorter.

        Raises:
            OSError: As the system says.
        """
        hasher = blake3()
        while length and (done := os.preadv(fd, [self._buffer[:length]], offset)):
            hasher.update(self._buffer[:done])
            offset, length = offset + done, length - done
        return None if length else hasher.digest()


class Seed:
    """One file, open for reading.

    Attributes:
        size: Bytes.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._status = os.fstat(fd)
        self.size = self._status.st_size

    @classmethod
    def of_output(cls, folder: Folder, name: str) -> Seed | None:
        """Return the output as it is; None if there is none that can be read."""
        try:
            fd = folder.open(name, os.O_RDONLY)
        except OSError:
            return None
        seed = cls(fd)
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
            seed = cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            raise DiskError(f"--base {path}: {reason(error)}") from error
        if not stat.S_ISREG(seed._status.st_mode):
            seed.close()
            raise DiskError(f"--base {path}: is not a regular file")
        return seed

    def is_still(self, status: os.stat_result) -> bool:
        """Whether a file with `status` is this one, and nobody has written to it since."""
        return all(
            getattr(status, name) == getattr(self._status, name)
            for name in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
        )

    def copy(self, to: int, offset: int, length: int) -> None:
        """Copy a stretch to the same place in another file; where it can be, it is shared.

        Raises:
            OSError: As the system says.
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
                data = os.pread(self.fd, min(end - offset, HASHED_AT_ONCE), offset)
                if not data:
                    return
                offset += os.pwrite(to, data, offset)

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)
