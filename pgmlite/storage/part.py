"""The partial file of a receiver (spec: RCV-7, RCV-8).

Files are written with positioned calls, never mapped: mapped pages would count as memory of the
process, and a full disk would be a signal instead of an error.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from blake3 import blake3

from pgmlite.errors import DiskError
from pgmlite.storage.system import PIECES_AT_ONCE, reason

HASHED_AT_ONCE = 128 << 10
"""Bytes of a block that are read back and hashed in one step."""


class BlockStream:
    """Hashes blocks while they are written in order, so that they need not be read back.

    A block that came in pieces, or not from its start, is not here: the caller reads it.
    """

    KEPT = 64
    """Finished blocks whose digests wait to be asked for."""

    def __init__(self) -> None:
        self._block_size = 0
        self._start = self._next = -1
        self._hasher = blake3()
        self._digests: dict[int, tuple[int, bytes]] = {}

    def begin(self, block_size: int) -> None:
        """Cut what follows into blocks of `block_size` bytes."""
        self._block_size = block_size
        self._start = self._next = -1
        self._digests.clear()

    def update(self, offset: int, run: memoryview) -> None:
        """Take bytes that are written at `offset`."""
        while run and self._block_size:
            start = offset - offset % self._block_size
            self._digests.pop(start, None)
            part = run[: start + self._block_size - offset]
            if offset == start:
                self._start, self._next, self._hasher = start, start, blake3()
            if offset == self._next:
                self._hasher.update(part)
                self._next += len(part)
                self._keep(self._next - self._start)
            elif start == self._start:
                self._start = self._next = -1  # a hole, or bytes behind us replaced
            offset, run = offset + len(part), run[len(part) :]

    def _keep(self, length: int) -> None:
        if length == self._block_size:
            while len(self._digests) >= self.KEPT:
                self._digests.pop(next(iter(self._digests)))
            self._digests[self._start] = (length, self._hasher.digest())
            self._start = self._next = -1

    def pop(self, offset: int, length: int) -> bytes | None:
        """Return the digest of `length` bytes at `offset` if they were written in order."""
        if self._start == offset and self._next - offset == length:
            self._start = self._next = -1
            return self._hasher.digest()
        kept = self._digests.pop(offset, None)
        return kept[1] if kept and kept[0] == length else None


class PartFile:
    """What a receiver has so far: ``OUTPUT.part`` beside the output, sparse, locked.

    The output itself stays untouched until `publish`.
    """

    def __init__(
        self, output: Path, *, before_rename: Callable[[os.stat_result], None] | None = None
    ) -> None:
        """
        Args:
            before_rename: Called with what the output will be, right before it is.

        Raises:
            DiskError: The folder can't be written, or another receiver is at work on it.
        """
        self.output = output
        self._before_rename = before_rename
        if not output.name:
            raise DiskError(f"output {output}: is a folder; name the file to write")
        self.path = output.with_name(output.name + ".part")
        self._buffer = memoryview(bytearray(HASHED_AT_ONCE))
        self._stream = BlockStream()
        self._announced = False
        self._fd = -1
        try:
            if output.is_dir():
                raise DiskError(f"output {output}: is a folder; name the file to write")
            if not output.parent.is_dir():
                raise DiskError(f"output {output}: folder {output.parent} does not exist")
            for path in (output, self.path):
                # To replace a device or a FIFO by a file would surprise its users.
                if path.exists() and not path.is_file():
                    raise DiskError(f"output {path}: is not a regular file; move it away")
            while not self._open_locked():
                pass  # another receiver published it between our two steps: take a new one
        except OSError as error:
            raise DiskError(f"partial file {self.path}: {reason(error)}") from error

    def _open_locked(self) -> bool:
        """Open and lock the partial file; False if it is no longer the one at its path."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o666)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise DiskError(f"partial file {self.path}: another receiver is writing it") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._fd), os.stat(self.path)):
                return True
        os.close(self._fd)
        return False

    def prepare(self, size: int) -> list[tuple[int, int]]:
        """Return the extents below `size` that hold data of an earlier run.

        Raises:
            DiskError: The file system does not say.
        """
        # The file is not grown here: `size` may be a stranger's invention, too large for it.
        try:
            held = os.fstat(self._fd).st_size
            return list(self._extents(min(held, size)))
        except OSError as error:
            raise self._error(error) from error

    def _extents(self, end: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges below `end` that are not holes."""
        position = 0
        while position < end:
            try:
                start = os.lseek(self._fd, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole to the end
                    return
                raise
            if start >= end:
                return
            position = min(os.lseek(self._fd, start, os.SEEK_HOLE), end)
            yield start, position

    def begin(self, size: int, block_size: int) -> None:
        """Expect an object of `size` bytes in blocks of `block_size`; make sure it fits.

        Raises:
            DiskError: It does not.
        """
        self._announced = True
        self._stream.begin(block_size)
        disk = os.fstatvfs(self._fd)
        free = disk.f_bavail * disk.f_frsize + os.fstat(self._fd).st_blocks * 512
        if free < size:
            raise DiskError(
                f"output {self.output}: the object has {size} bytes, the disk has {free} free"
            )

    def write(self, runs: Sequence[tuple[int, memoryview]]) -> None:
        """Write ascending (offset, bytes) runs in one go, and zeros over the gaps between them.

        Raises:
            DiskError: The disk is full or broken; what is there stays.
        """
        pieces: list[memoryview] = []
        start = end = runs[0][0]
        for offset, run in runs:
            self._stream.update(offset, run)
            if len(pieces) + 2 > PIECES_AT_ONCE:
                self._write(pieces, start, end - start)
                pieces, start, end = [], offset, offset
            if gap := offset - end:
                pieces.append(memoryview(bytes(gap)))
            pieces.append(run)
            end = offset + len(run)
        self._write(pieces, start, end - start)

    def _write(self, pieces: list[memoryview], offset: int, length: int) -> None:
        try:
            done = os.pwritev(self._fd, pieces, offset)
            while done < length:
                rest = b"".join(pieces)[done:]  # a disk that is nearly full says how full it is
                done += os.pwrite(self._fd, rest, offset + done)
        except OSError as error:
            if error.errno == errno.EFBIG and not self._announced:
                return  # a stranger's offset; were it not, the block will not verify
            raise self._error(error) from error

    def matches(self, offset: int, length: int, expected: bytes) -> bool:
        """Whether `length` stored bytes at `offset` have the digest `expected`.

        Raises:
            DiskError: They can't be read.
        """
        if streamed := self._stream.pop(offset, length):
            return streamed == expected
        hasher = blake3()
        try:
            # Small pieces: they are hashed while they are still in the processor's cache.
            while length and (done := os.preadv(self._fd, [self._buffer[:length]], offset)):
                hasher.update(self._buffer[:done])
                offset, length = offset + done, length - done
        except OSError as error:
            raise self._error(error) from error
        return not length and hasher.digest() == expected

    def publish(self, size: int) -> None:
        """Put the verified bytes in the output's place, at once and for good (spec: RCV-7).

        Raises:
            DiskError: The partial file stays, the output is untouched.
        """
        try:
            os.ftruncate(self._fd, size)
            with contextlib.suppress(FileNotFoundError):
                # Replacing a file keeps its permissions, as rewriting it would.
                os.fchmod(self._fd, os.stat(self.output).st_mode & 0o777)
            os.fsync(self._fd)
            if self._before_rename:
                self._before_rename(os.fstat(self._fd))
            os.replace(self.path, self.output)
            folder = os.open(self.output.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Close the file; an empty one goes, any other stays for the next run."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            status = os.fstat(self._fd)
            if not status.st_size and os.path.samestat(status, os.stat(self.path)):
                self.path.unlink()
        os.close(self._fd)
        self._fd = -1

    def _error(self, error: OSError) -> DiskError:
        return DiskError(f"partial file {self.path}: {reason(error)}")
