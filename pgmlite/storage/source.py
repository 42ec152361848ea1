"""The source file of a sender (spec: SND-7): read with positioned calls, hashed by threads.

It is a file, a block device, or a copy of something else, which has no name. Files are never
mapped: mapped pages would count as memory of the process, and a file that is cut off would be a
signal instead of an error.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from pgmlite.errors import DiskError
from pgmlite.storage.system import PIECES_AT_ONCE, close_quietly, reason
from pgmlite.wire.digests import BlockTree, block_digest
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.manifest import MAX_OBJECT_SIZE, Archive

PROGRESS_EVERY = 0.1
"""Seconds between reports while a source is hashed."""

READ_THROUGH = 8 << 10
"""Bytes between two stretches that cost less to read and forget than a second call."""

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


class SourceFile:
    """A file to send, and the proof that it has not changed since it was hashed.

    Attributes:
        path: Of what is sent; of a copy, what it was made of.
        size: In bytes.
        archive: What has been put into it, if it is the archive of a folder.
        warnings: What the user should know.
        may_be_replaced: That its name goes to another file is no change of it.
    """

    def __init__(
        self,
        path: Path,
        *,
        fd: int | None = None,
        archive: Archive | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        """
        Args:
            fd: Of a copy of it, closed with this; None: it is opened.

        Raises:
            DiskError: It can't be read, or is nothing that can be sent.
        """
        self.path, self.archive, self.warnings = path, archive, warnings
        self.may_be_replaced = False
        self._fd = _open(path) if fd is None else fd
        try:
            status = os.fstat(self._fd)
            self._is_device = stat.S_ISBLK(status.st_mode)
            self.size = self._measure(status)
            if self._is_device and not self.size:
                raise DiskError(f"source {path}: is a device without a medium")
            if not self.size:
                self._check_empty()
            if self.size > MAX_OBJECT_SIZE:
                raise DiskError(f"source {path}: too large")
        except BaseException:
            close_quietly(self._fd)
            raise
        self._identity = self._identify(status)
        self._between = memoryview(bytearray(READ_THROUGH))

    @property
    def name(self) -> str:
        """What it is called, without the folders that lead there."""
        # `.` and `..` have names, too.
        named = self.path.name
        return named if named not in ("", "..") else self.path.resolve().name

    def _measure(self, status: os.stat_result) -> int:
        """Return its size in bytes.

        Raises:
            DiskError: The device does not say.
        """
        if not self._is_device:
            return status.st_size
        try:
            return os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            raise DiskError(f"source {self.path}: {reason(error)}") from error

    def _check_empty(self) -> None:
        """
        Raises:
            DiskError: It has content, and the system says 0 bytes: how many come is not known.
        """
        try:
            content = os.read(self._fd, 1)
        except OSError as error:
            raise DiskError(f"source {self.path}: {reason(error)}") from error
        if content:
            raise DiskError(
                f"source {self.path}: has content, but the system does not say how much; "
                "send a copy of it"
            )

    def _identify(self, status: os.stat_result) -> tuple[int, ...]:
        # The times of a device are those of its name.
        if self._is_device:
            return (self._measure(status),)
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def check(self) -> None:
        """Make sure the file is still what was hashed, as far as can be told (spec: SND-7).

        Raises:
            DiskError: It changed.
        """
        status = os.fstat(self._fd)
        identity = self._identify(status)
        if identity == self._identity:
            return
        if self._is_replaced(status):
            self._identity = identity
            return
        raise DiskError(f"source {self.path}: changed while it was in use; start again")

    def _is_replaced(self, status: os.stat_result) -> bool:
        """Whether nothing changed but that another file has its name, or none has."""
        # spec: SND-16: losing a name counts as a change of status.
        if not self.may_be_replaced or self._identify(status)[:2] != self._identity[:2]:
            return False
        try:
            return not os.path.samestat(status, os.stat(self.path))
        except OSError:
            return True

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from byte `offset` of the file.

        Raises:
            DiskError: The file can't be read or is shorter than it was.
        """
        self._read([buffer], offset, len(buffer))

    def _read(self, pieces: list[memoryview], offset: int, length: int) -> None:
        try:
            done = os.preadv(self._fd, pieces, offset)
        except OSError as error:
            raise DiskError(f"source {self.path}: {reason(error)}") from error
        if done != length:
            self.check()
            raise DiskError(f"source {self.path}: short read at byte {offset + done}")

    def gather(self, buffer: memoryview, extents: Iterable[tuple[int, int]]) -> None:
        """Fill `buffer` with the bytes of (offset, length) extents, fastest in ascending order.

        Raises:
            DiskError: The file can't be read or is shorter than it was.
        """
        pieces: list[memoryview] = []
        start = end = at = 0
        for offset, length in extents:
            gap = offset - end
            is_far = not 0 <= gap <= len(self._between)
            if pieces and (is_far or len(pieces) + 2 > PIECES_AT_ONCE):
                self._read(pieces, start, end - start)
                pieces = []
            if not pieces:
                start = offset
            elif gap:
                pieces.append(self._between[:gap])
            pieces.append(buffer[at : at + length])
            at, end = at + length, offset + length
        if pieces:
            self._read(pieces, start, end - start)

    def block_tree(self, geometry: Geometry, progress: Progress | None = None) -> BlockTree:
        """Hash the file; return its tree of blocks.

        Args:
            geometry: Of an object of its size.

        Raises:
            DiskError: It can't be read, or changed meanwhile.
        """
        workers = min(4, os.cpu_count() or 1)
        done = 0
        stopping = False

        def hash_share(first: int) -> list[bytes]:
            nonlocal done
            memory = memoryview(bytearray(min(geometry.block_size, self.size)))
            digests = []
            for number in range(first, geometry.blocks, workers):
                if stopping:
                    break
                offset, length = geometry.extent(number)
                block = memory[:length]
                self.read_into(block, offset)
                digests.append(block_digest(block, geometry.symbol_size))
                done += len(block)
            return digests

        # Reading and hashing both let other threads run.
        with ThreadPoolExecutor(workers) as pool:
            shares = [pool.submit(hash_share, first) for first in range(workers)]
            try:
                while progress and wait(shares, PROGRESS_EVERY).not_done:
                    progress(done, self.size)
            except BaseException:
                stopping = True  # the pool waits for its workers
                raise
        results = [share.result() for share in shares]
        self.check()
        digests = b"".join(results[n % workers][n // workers] for n in range(geometry.blocks))
        return BlockTree(digests, geometry.symbol_size)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _open(path: Path) -> int:
    """Return the descriptor of a file or a block device that is to be sent.

    Raises:
        DiskError: It can't be read, or is neither.
    """
    # Opening a FIFO would wait for its writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except OSError as error:
        raise DiskError(f"source {path}: {reason(error)}") from error
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    try:
        if stat.S_ISBLK(mode):
            # Of a device it means: only if nobody else uses it, by a mount for example.
            return os.open(f"/proc/self/fd/{fd}", flags | os.O_EXCL)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise DiskError(f"source {path}: {reason(error)}") from error
        raise DiskError(
            f"source {path}: is in use: unmount it, or send a snapshot of it"
        ) from error
    finally:
        close_quietly(fd)
    if stat.S_ISDIR(mode):
        raise DiskError(f"source {path}: is a folder")
    if stat.S_ISSOCK(mode):
        raise DiskError(f"source {path}: is a socket; give a file, a folder or a block device")
    kind = "a FIFO" if stat.S_ISFIFO(mode) else "a device without blocks"
    raise DiskError(
        f"source {path}: is {kind}; to send what comes out of it: pgmlite send - < {path}"
    )
