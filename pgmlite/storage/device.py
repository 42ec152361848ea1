"""A block device that an object is written to (spec: RCV-28, RCV-29).

Only verified bytes are ever written, each where it belongs. So at any time each byte of the device
is what it was before or what it shall be.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from pgmlite.errors import DiskError
from pgmlite.storage.in_use import is_read_only, number_text, use_of
from pgmlite.storage.record import Identity
from pgmlite.storage.seeds import Block, fill, has_block
from pgmlite.storage.spool import PlaceSeed
from pgmlite.storage.system import close_quietly, forget_cache, reason, sync_data
from pgmlite.wire.digests import digest

BLKFLSBUF = 0x1261
"""ioctl: write back what the system has in memory of a device, and forget it (linux/fs.h)."""

BLKRRPART = 0x125F
"""ioctl: read the partition table anew (linux/fs.h)."""

AT_ONCE = 128 << 10
"""Bytes that are compared or written in one step."""

SYNC_EVERY = 16 << 20
"""Bytes after which the device has to have taken what was written: what a slow one has not taken
yet is waited for by whoever ends the program."""

HEAD = 4 << 10
"""Bytes of a device without which nothing starts from it."""

READ_BACKS = 3
"""Times that all is read back; what is not right is written again in between."""

SAMPLES = 64
"""Stretches of a device that stand for all of it: the first and the last, others evenly between."""

SAMPLE = 64 << 10
"""Bytes of each."""

Progress = Callable[[int, int], None]
"""Is told the bytes that are done, and how many there are."""


class BlockDevice:
    """One block device; held alone while something is written.

    Attributes:
        path: As the user names it.
        number: The system's number of it, major and minor.
        size: Bytes.
        has_written: Whether any byte was written since it was held.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            DiskError: It is none, or can't be written, or somebody uses it.
        """
        self.path = path
        self.has_written = False
        self._fd = -1
        self._unsynced = 0
        # A link may lead elsewhere later: it is followed once.
        self._resolved = os.path.realpath(path)
        try:
            status = os.stat(self._resolved)
        except OSError as error:
            raise self._error(reason(error)) from error
        if not stat.S_ISBLK(status.st_mode):
            raise self._error("is no block device; a file is named with -o")
        self.number = status.st_rdev
        self.size = 0
        self.hold()
        self.release()

    def _error(self, text: str) -> DiskError:
        return DiskError(f"device {self.path}: {text}", cause="device")

    # Alone.

    def hold(self) -> None:
        """Have it alone, and read it from the medium from now on; once is enough.

        Raises:
            DiskError: It is another one than before, can't be written, or somebody uses it.
        """
        if self._fd >= 0:
            return
        if use := use_of(self.number):
            raise self._error(use)
        if is_read_only(self.number):
            raise self._error("is read-only")
        fd = self._open(os.O_RDWR | os.O_EXCL)
        try:
            self.size = os.lseek(fd, 0, os.SEEK_END)
        except OSError as error:
            close_quietly(fd)
            raise self._error(reason(error)) from error
        if not self.size:
            close_quietly(fd)
            raise self._error("has no medium")
        self._fd, self.has_written = fd, False
        self._forget_cache()

    def _open(self, flags: int) -> int:
        """
        Raises:
            DiskError: It can't be opened, or is another one than before.
        """
        try:
            fd = os.open(self._resolved, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise self._error(
                    "is in use: another program, such as a second receiver, has it alone"
                ) from error
            if error.errno == errno.ENOMEDIUM:
                raise self._error("has no medium") from error
            raise self._error(reason(error)) from error
        status = os.fstat(fd)
        if stat.S_ISBLK(status.st_mode) and status.st_rdev == self.number:
            return fd
        close_quietly(fd)
        raise self._error("is another device than it was")

    def release(self) -> None:
        """Let others have it; what was written stays to be read by them."""
        if self._fd < 0:
            return
        if self.has_written:
            with suppress(OSError):  # a partition has none, and in some cases nor may a disk
                fcntl.ioctl(self._fd, BLKRRPART)
        close_quietly(self._fd)
        self._fd = -1

    def check_size(self, size: int) -> None:
        """
        Raises:
            DiskError: So many bytes don't fit.
        """
        if size > self.size:
            raise self._error(f"has {self.size} bytes, the object has {size}")

    def place(self) -> PlaceSeed:
        """Return what it has as a seed.

        Raises:
            DiskError: It can't be read.
        """
        self.hold()
        try:
            return PlaceSeed(os.dup(self._fd), f"device {self.path}")
        except OSError as error:
            raise self._error(reason(error)) from error

    def has(self, block: Block) -> bool:
        """Whether a block is there, and can be read."""
        try:
            return has_block(self._fd, block)
        except OSError:
            return False

    # Writing.

    def put_last(self, block: Block, data: memoryview) -> None:
        """Write a block, and its first bytes when all else is on the medium.

        Args:
            data: Its bytes, verified.

        Raises:
            DiskError: The device refuses.
        """
        cut = min(HEAD, block.length)
        rest = block._replace(offset=block.offset + cut, length=block.length - cut)
        self.put(rest, data[cut:])
        self.sync()
        self.put(block._replace(length=cut), data[:cut])
        self.sync()

    def put(self, block: Block, data: memoryview) -> None:
        """Write a block, from the first byte on that is another one.

        Args:
            data: Its bytes, verified.

        Raises:
            DiskError: The device refuses.
        """
        at = self._equal(block, data)
        try:
            while at < block.length:
                self.has_written = True
                done = os.pwrite(self._fd, data[at : at + AT_ONCE], block.offset + at)
                self._unsynced += done
                at += done
            if self._unsynced >= SYNC_EVERY:
                self.sync()
        except OSError as error:
            raise self._error(reason(error)) from error

    def _equal(self, block: Block, data: memoryview) -> int:
        """Return how many bytes of a block are there already, about."""
        piece, at = memoryview(bytearray(min(AT_ONCE, block.length))), 0
        while at < block.length:
            wanted = data[at : at + AT_ONCE]
            held = piece[: len(wanted)]
            try:
                if not fill(self._fd, held, block.offset + at):
                    return at
            except OSError:  # what can't be read may be written
                return at
            if bytes(held) != bytes(wanted):
                return at
            at += len(wanted)
        return at

    def sync(self) -> None:
        """Have what was written on the medium.

        Raises:
            DiskError: The device failed to take it.
        """
        self._unsynced = 0
        try:
            sync_data(self._fd)
        except OSError as error:
            raise self._error(f"{reason(error)}: not all of it is on the medium") from error

    def _forget_cache(self) -> None:
        """Have the next reads come from the medium, as far as the system does that."""
        try:
            fcntl.ioctl(self._fd, BLKFLSBUF)
        except OSError:  # only root may
            forget_cache(self._fd)

    # Reading back.

    def read_back(
        self,
        blocks: Callable[[], Iterable[Block]],
        total: int,
        again: Callable[[Block], memoryview | None],
        progress: Progress,
    ) -> None:
        """Read blocks from the medium, and write those again that are not right.

        Args:
            blocks: Yields them; `total`: their bytes.
            again: Returns the verified bytes of a block; None: they are gone.

        Raises:
            DiskError: Some are not right, and stay so.
        """
        for _ in range(READ_BACKS):
            self.sync()
            self._forget_cache()
            are_right, done = True, 0
            for block in blocks():
                progress(done, total)
                if not self.has(block):
                    are_right = False
                    self._put_again(block, again(block))
                done += block.length
            if are_right:
                return
        raise self._error(
            "what is written does not read back as it was; is it as large as it says?"
        )

    def _put_again(self, block: Block, data: memoryview | None) -> None:
        if data is None:
            raise self._error(
                f"the block at byte {block.offset} is not what it was: it fails, or another "
                "program writes to it; try again"
            )
        self.put(block, data)

    # Which one it is.

    def identity(self, size: int, coming: tuple[Block, memoryview] | None = None) -> Identity:
        """Return what tells it, with an object on it, from others, and from itself as it was.

        Nothing does that for sure but reading all of it. So it is samples of the object's bytes.

        Args:
            size: Bytes of the object.
            coming: A block that is about to be there, and its bytes.

        Raises:
            DiskError: It can't be read.
        """
        fd = self._fd if self._fd >= 0 else self._open(os.O_RDONLY)
        try:
            number = digest(b"".join(_sample(fd, at, size, coming) for at in _places(size)))
        except OSError as error:
            raise self._error(reason(error)) from error
        finally:
            if fd != self._fd:
                close_quietly(fd)
        return Identity(self.number, 0, size, int.from_bytes(number[:8]))

    def __str__(self) -> str:
        return f"{self.path} ({number_text(self.number)})"


def _places(size: int) -> list[int]:
    """Return where samples of so many bytes begin."""
    last = max(0, size - SAMPLE)
    return sorted({last * number // (SAMPLES - 1) for number in range(SAMPLES)})


def _sample(fd: int, at: int, size: int, coming: tuple[Block, memoryview] | None) -> bytes:
    """
    Raises:
        OSError: As the system says.
    """
    end = min(at + SAMPLE, size)
    sample = bytearray(end - at)
    fill(fd, memoryview(sample), at)
    if coming:
        block, data = coming
        start, stop = max(at, block.offset), min(end, block.offset + block.length)
        if start < stop:
            sample[start - at : stop - at] = data[start - block.offset : stop - block.offset]
    return bytes(sample)
