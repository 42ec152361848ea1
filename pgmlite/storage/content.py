"""The bytes of a partial file: written, hashed on the way, read back, and watched (spec: RCV-8).

Others may write to it all the same: it is looked at before and after each write, and what changed
between is read back before anything is published.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from pgmlite.core.decode import Decoded
from pgmlite.core.machine import Complete, Held, Lying, Prepare, own_at
from pgmlite.errors import DiskError
from pgmlite.storage.hints import Spans
from pgmlite.storage.seeds import Block, Seed, has_block
from pgmlite.storage.stream import END, StripStream
from pgmlite.storage.system import PIECES_AT_ONCE, extents_of, reason, room_of
from pgmlite.storage.writeback import WriteBack
from pgmlite.wire.geometry import pieces
from pgmlite.wire.layout import DIGEST_SIZE
from pgmlite.wire.manifest import Manifest
from pgmlite.wire.request import expand

FAILED_LATE = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})
"""What a disk says that failed to take something; to the next call, which may be any."""

READ_BACKS = 3
"""Times that everything is read back, because of other programs or of a disk, and is not right."""


class Content:
    """What is in a partial file.

    Attributes:
        write_back: What of it is on the disk.
        is_touched: Another program may have written to it since it was read back.
    """

    def __init__(
        self, fd: int, path: Path, output: Path, write_back: WriteBack, warnings: list[str]
    ) -> None:
        """
        Args:
            fd: The file; it stays the caller's.
            path: What errors call it; `output`: what it will be.
            warnings: What the user should know is added here.

        Raises:
            DiskError: The file system does not say what is there.
        """
        self.write_back = write_back
        self.is_touched = False
        self._output = output
        self._fd, self._name, self._warnings = fd, f"partial file {path}", warnings
        self._stream = StripStream()
        self._object: Prepare | None = None
        self._symbol_size = self._block_symbols = 0
        self._is_begun = False
        self._room_due: int | None = None
        """Bytes that the disk must have room for, as long as that has not been looked at."""

        self._unread: set[tuple[int, bool]] = set()
        """Offsets of blocks that could not be read once, and whether they were to be decoded."""

        self._read_backs_failed = 0
        self._seen = self._look()

    def expect(self, wanted: Prepare) -> Held:
        """Take symbols of an object from now on; return what an earlier run left of it.

        Raises:
            DiskError: The file system does not say.
        """
        self._object, self._symbol_size = wanted, wanted.symbol_size
        try:
            held = os.fstat(self._fd).st_size
            # Cut at the object's end, it was about to be published: its last symbol is there too.
            whole = pieces(held, wanted.symbol_size) if held == wanted.size else 0
            recorded = self.write_back.load(wanted, whole or held // wanted.symbol_size)
            if recorded is None:
                recorded = Held(extents=list(extents_of(self._fd, min(held, wanted.size))))
        except OSError as error:
            raise self.failed(error) from error
        return recorded

    def begin(self, manifest: Manifest) -> None:
        """Take the object of `manifest`: its strips are hashed from now on."""
        self._is_begun, self._room_due = True, manifest.size
        self._block_symbols = manifest.block_symbols
        self._stream.begin(manifest.size, manifest.symbol_size, manifest.block_symbols)
        self.write_back.group(manifest.block_symbols)

    def make_room(self) -> None:
        """Make sure that the object fits, unless that is known.

        Raises:
            DiskError: It does not.
        """
        size, self._room_due = self._room_due, None
        if size is not None and (free := room_of(self._fd)) < size:
            raise DiskError(
                f"output {self._output}: the object has {size} bytes, the disk has {free} free"
            )

    def watch(self) -> None:
        """Notice whether another program wrote; to be called before a write of ours."""
        self.is_touched |= self._look() != self._seen

    def _look(self) -> tuple[int, int]:
        """Return what changes when anybody writes to the file.

        Raises:
            DiskError: The file system does not say.
        """
        try:
            status = os.fstat(self._fd)
        except OSError as error:
            raise self.failed(error) from error
        return status.st_mtime_ns, status.st_size

    # Writing.

    def write(
        self, pieces: Iterable[Sequence[tuple[int, memoryview]]], lying: Lying | None = None
    ) -> None:
        """Write lists of runs, as `PartFile.store` takes them; from then on they are recorded."""
        groups = list(pieces)
        runs = [one for group in groups for one in group]
        spans = [(offset, offset + len(run)) for offset, run in runs]
        followers = [*(offset for offset, _ in runs[1:]), END]
        are_own = _are_own(spans, lying, self._symbol_size, self._block_symbols)
        for (offset, run), follower, is_own in zip(runs, followers, are_own, strict=True):
            if is_own:
                self._stream.update(offset, run, follower=follower)
            else:
                self._stream.forget(offset, offset + len(run))
        for group in groups:
            self._write_runs(group)
        self._wrote(spans, lying)

    def _write_runs(self, runs: Sequence[tuple[int, memoryview]]) -> None:
        """Write what stands together."""
        offset, run = runs[0]
        if len(runs) == 1 and not self._padding(offset + len(run)):
            self._write([run], offset, len(run))
            return
        pieces: list[memoryview] = []
        start = end = runs[0][0]
        for offset, run in runs:
            if len(pieces) + 3 > PIECES_AT_ONCE:
                self._write(pieces, start, end - start)
                pieces, start, end = [], offset, offset
            if gap := offset - end:
                pieces.append(memoryview(bytes(gap)))
            pieces.append(run)
            end = offset + len(run)
        padding = self._padding(end)
        if padding:
            pieces.append(memoryview(padding))
        self._write(pieces, start, end + len(padding) - start)

    def _padding(self, end: int) -> bytes:
        """Return what makes the object's last symbol as long as the others, if it ends there."""
        return bytes(-end % self._symbol_size if self._object else 0)

    def _write(self, pieces: list[memoryview], offset: int, length: int) -> None:
        try:
            done = os.pwritev(self._fd, pieces, offset)
            while done < length:
                rest = b"".join(pieces)[done:]  # a disk that is nearly full says how full it is
                done += os.pwrite(self._fd, rest, offset + done)
        except OSError as error:
            if error.errno == errno.EFBIG and not self._is_begun:
                return  # a stranger's offset; were it not, the block will not verify
            raise self.failed(error) from error

    def _wrote(self, spans: Spans, lying: Lying | None = None, *, count: int | None = None) -> None:
        """Record what was written, (start, stop) bytes, as `WriteBack.wrote` takes it."""
        self._seen = self._look()
        self.write_back.wrote(self._object, spans, lying, count=count)

    def copy(self, seed: Seed, block: Block) -> bool:
        """Copy a block; False if what is there then is not what was hashed."""
        offset, length = block[:2]
        end = offset + length
        self._forget([(offset, end)])
        try:
            seed.copy(self._fd, offset, length)
            if padding := self._padding(end):
                os.pwrite(self._fd, padding, end)
        except OSError as error:
            raise self.failed(error) from error
        self._wrote([(offset, end)])
        return self.has(block)

    def place(self, decoded: Decoded) -> bool:
        """Write the symbols that a decoded block had not in their places; return whether it is one.

        What is forged, or can't be read, is forgotten: it may be written anew.

        Raises:
            DiskError: The disk refuses, or what can't be read was written anew before.
        """
        action = decoded.action
        if self._object is None or self._object.oid != action.oid:
            return False
        offset, length = action.geometry.extent(action.block)
        if decoded.trouble:
            self._unreadable(offset, decoded.trouble, is_decoded=True)
        if not decoded.ok:
            self._forget(decoded.bytes_of(decoded.doubtful))
            return False
        spans = decoded.spans
        self._forget(spans)
        octets, at = decoded.symbols.reshape(-1).data, 0
        for start, stop in spans:
            self._write([octets[at : at + stop - start]], start, stop - start)
            at += stop - start
        self._stream.take(offset)
        # Until that is flushed, the record on the disk may have other symbols there: a power cut
        # would cost the block, all of it.
        self._wrote(spans, count=length)
        return True

    def _forget(self, spans: Spans) -> None:
        """Record that nothing lies there: what does gives way, or is wrong."""
        if self._object and spans:
            size = self._symbol_size
            places = [(start // size, -(-stop // size)) for start, stop in spans]
            self.write_back.forget(self._object, places)

    # Reading.

    def block(
        self, offset: int, length: int, expected: bytes
    ) -> tuple[Block, Sequence[bytes | None]]:
        """Return a block of the object, and the digests of its strips as far as they are known."""
        return Block(offset, length, self._symbol_size, expected), self._stream.take(offset)

    def found(self, block: Block) -> None:
        """Record that a block that an earlier run left is right."""
        if self._object:
            self.write_back.found(self._object, block.offset, block.offset + block.length)

    def has(self, block: Block, strips: Sequence[bytes | None] = ()) -> bool:
        """Whether the partial file has a block; what can't be read may be written anew, once.

        Args:
            strips: Digests that need no reading.

        Raises:
            DiskError: It can't be read, again.
        """
        try:
            return has_block(self._fd, block, strips)
        except OSError as error:
            self._unreadable(block.offset, error)
            return False

    def _unreadable(self, offset: int, error: OSError, *, is_decoded: bool = False) -> None:
        """Let a block be written anew that can't be read; do so once.

        Args:
            is_decoded: It was read to be decoded.

        Raises:
            DiskError: It could not be read before.
        """
        if (offset, is_decoded) in self._unread:
            raise self.failed(error) from error
        self._unread.add((offset, is_decoded))
        self.write_back.suspect()
        self._warnings.append(f"{self._name}: {reason(error)} at byte {offset}; fetching it again")

    def read_back(self, fd: int, has: Callable[[Block], bool], complete: Complete) -> list[int]:
        """Return the blocks that the disk has not, or not as they are."""
        manifest, digests = complete.manifest, complete.digests
        self.is_touched = False
        self._seen = self._look()
        bad = []
        self.write_back.read_anew(fd)
        geometry = manifest.geometry
        for number in range(geometry.blocks):
            offset, length = geometry.extent(number)
            digest = digests[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE]
            if not has(Block(offset, length, manifest.symbol_size, digest)):
                bad.append(number)
        self._read_backs_failed += bool(bad)
        if self._read_backs_failed > READ_BACKS:
            raise DiskError(
                f"{self._name}: what is written does not read back as it was; "
                "is the disk as large as it says?"
            )
        return bad

    def read_back_all(self, complete: Complete) -> list[int]:
        """Return the blocks of the object that are not in the file as they are on the disk."""
        return self.read_back(self._fd, self.has, complete)

    def steady(self, complete: Complete) -> None:
        """Make sure that what was verified is what is there, up to now.

        Raises:
            DiskError: Another program writes to it.
        """
        for _ in range(READ_BACKS):
            if self._look() == self._seen:
                return
            if self.read_back_all(complete):
                raise DiskError(f"{self._name}: another program wrote to it; try again")
        raise DiskError(f"{self._name}: another program keeps writing to it")

    def finish(self, complete: Complete) -> None:
        """Cut the file at the object's end, and have it on the disk.

        Raises:
            DiskError: Another program writes to it.
            OSError: As the system says.
        """
        self.steady(complete)
        if self._seen[1] != complete.manifest.size:
            os.ftruncate(self._fd, complete.manifest.size)
        self.write_back.sync()

    def failed(self, error: OSError) -> DiskError:
        """Return what to raise; whatever call says it, it may be about what was written before."""
        if error.errno in FAILED_LATE:
            self.write_back.suspect()
        return DiskError(f"{self._name}: {reason(error)}")


def _are_own(
    spans: Spans, lying: Lying | None, symbol_size: int, block_symbols: int
) -> Sequence[bool]:
    """Return of runs, (start, stop) bytes each, whether they are symbols in their own places.

    Args:
        lying: As `PartFile.store` takes it.
    """
    if lying is None or not spans:
        return [True] * len(spans)
    starts, stops = np.array(spans).T
    starts, stops = starts // symbol_size, -(-stops // symbol_size)
    counts = stops - starts
    are_own = own_at(expand(starts, counts), block_symbols) == lying
    found: list[bool] = np.logical_and.reduceat(are_own, np.cumsum(counts) - counts).tolist()
    return found
