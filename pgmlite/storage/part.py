"""The partial file of a receiver, and how it becomes the output (spec: RCV-7, RCV-8, RCV-15).

``OUTPUT.part`` is ours alone: no link, one name, private. What is published is what was verified,
by its descriptor. The page cache is not the disk: what an earlier run left is read from the disk
before it is believed, and what a disk failed to take once is read back before it is published.

Files are written with positioned calls, never mapped: mapped pages would count as memory of the
process, and a full disk would be a signal instead of an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pgmlite.core.machine import Complete, Held, Prepare
from pgmlite.errors import DiskError
from pgmlite.storage.folder import Folder, resolve_output
from pgmlite.storage.publish import dress, usual_mode
from pgmlite.storage.seeds import Block, Seed, has_block
from pgmlite.storage.stream import StripStream
from pgmlite.storage.system import PIECES_AT_ONCE, beside, close_quietly, extents_of, reason
from pgmlite.storage.writeback import WriteBack
from pgmlite.wire.control import Manifest
from pgmlite.wire.layout import DIGEST_SIZE

BLOCKS_COPIED = 4
"""Blocks of the output that are copied in one step, so that packets are read in between."""

FAILED_LATE = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})
"""What a disk says that failed to take something; to the next call, which may be any."""

READ_BACKS = 3
"""Times that everything is read back, because of other programs or of a disk, and is not right."""


class PartFile:
    """What a receiver has so far: ``OUTPUT.part`` beside the output, sparse, locked, private.

    The output itself stays untouched until `publish`.

    Attributes:
        output: The file that is written: the target, where the user named a link.
        path: The partial file.
        warnings: What the user should know; whoever shows it empties the list.
        reused: Bytes that came from the output or from other seeds.
    """

    def __init__(
        self,
        output: Path,
        *,
        bases: Sequence[Path] = (),
        output_is_seed: bool = True,
        verify_media: bool = False,
        before_rename: Callable[[os.stat_result], None] | None = None,
    ) -> None:
        """
        Args:
            bases: Files beside the output that may have a part of the object.
            output_is_seed: What the output has need not come again.
            verify_media: Read everything back from the disk before it is published.
            before_rename: Called with what the output will be, right before it is.

        Raises:
            DiskError: The folder can't be written, what is there is not ours, or another receiver
                is at work on it.
        """
        self.output = resolve_output(output)
        self.path = beside(self.output, ".part")
        self.warnings: list[str] = []
        self.reused = 0
        self._room = beside(self.output, ".part.d").name
        self._verify_media = verify_media
        self._before_rename = before_rename
        self._mode = usual_mode()
        self._stream = StripStream()
        self._object: Prepare | None = None
        self._block_size = self._symbol_size = 0
        self._room_due: int | None = None
        """Bytes that the disk must have room for, as long as that has not been looked at."""

        self._borrowed: list[Block] = []
        """Blocks that the output has, and that are not copied yet."""

        self._is_written = False
        """The object comes to be in the partial file: the output alone is not it."""

        self._is_of_another = False
        """An earlier run stored a part of another object."""

        self._spoilt: set[int] = set()
        """Blocks that were verified and are not there."""

        self._unreadable: set[int] = set()
        """Offsets of blocks that could not be read once."""

        self._read_backs_failed = 0
        self._touched = False
        try:
            with contextlib.ExitStack() as opened:
                self._open(opened, bases, output_is_seed=output_is_seed)
                self._opened = opened.pop_all()
        except OSError as error:
            raise self._error(error) from error
        if self._folder.is_everybodys:
            self.warnings.append(
                f"folder {self._folder.path}: everybody may rename and remove the files in it"
            )

    def _open(
        self, opened: contextlib.ExitStack, bases: Sequence[Path], *, output_is_seed: bool
    ) -> None:
        """Open all that is needed; it is `opened` that closes it."""
        self._folder = Folder(self.output.parent)
        opened.callback(self._folder.close)
        self._old = Seed.of_output(self._folder, self.output.name) if output_is_seed else None
        self._seeds = [self._old] if self._old else []
        self._seeds.extend(map(Seed.of_path, bases))
        for seed in self._seeds:
            opened.callback(seed.close)
        try:
            self._folder.empty_room(self._room, self.path.name)
            self._fd, trouble = self._folder.open_alone(self.path.name)
        except BlockingIOError:
            raise DiskError(f"partial file {self.path}: another receiver is writing it") from None
        if trouble:
            self.warnings.append(trouble)
        opened.callback(close_quietly, self._fd)
        opened.callback(self._drop_empty)
        self._write_back = WriteBack(
            self._folder,
            self._fd,
            f"partial file {self.path}",
            beside(self.output, ".part.map").name,
            self.warnings,
        )
        opened.callback(self._write_back.close)
        self._write_back.reread()
        if self._old:
            self._old.settle()
        self._seen = self._look()

    # What is there.

    def prepare(self, wanted: Prepare) -> Held:
        """Say what of an object is there before its first packet.

        Raises:
            DiskError: The file system does not say.
        """
        # The file is not grown here: `size` may be a stranger's invention, too large for it.
        self._object = wanted
        self._symbol_size = wanted.symbol_size
        self._is_written = False
        self._borrowed.clear()
        self._spoilt.clear()
        try:
            held = os.fstat(self._fd).st_size
            # Cut at the object's end, it was about to be published: its last symbol is there too.
            whole = -(-held // wanted.symbol_size) if held == wanted.size else 0
            recorded = self._write_back.load(wanted, whole or held // wanted.symbol_size)
            self._is_of_another = self._write_back.is_of_another
            if recorded is None:
                recorded = Held(extents=list(extents_of(self._fd, min(held, wanted.size))))
        except OSError as error:
            raise self._failed(error) from error
        extents = list(recorded.extents)
        longest = min(wanted.size, max((seed.size for seed in self._seeds), default=0))
        if longest:
            extents = [(0, longest)] + [(a, b) for a, b in extents if b > longest]
        return Held(recorded.symbols, extents)

    def begin(self, manifest: Manifest) -> None:
        """Expect the object of `manifest`; make sure it fits.

        Raises:
            DiskError: It does not.
        """
        self._block_size = manifest.block_size
        self._stream.begin(manifest.size, manifest.symbol_size, manifest.block_symbols)
        self._write_back.group(manifest.block_symbols)
        self._room_due = manifest.size
        if self._is_written or self._old is None or self._old.size != manifest.size:
            self._make_room()  # else all of it may be in place

    def _make_room(self) -> None:
        """Make sure that the object fits, unless that is known."""
        size, self._room_due = self._room_due, None
        if size is None:
            return
        try:
            disk, status = os.fstatvfs(self._fd), os.fstat(self._fd)
        except OSError:
            return  # then a full disk is found when it is full
        free = disk.f_bavail * disk.f_frsize + status.st_blocks * 512
        if disk.f_blocks and free < size:  # some file systems say 0 for all they don't know
            raise DiskError(
                f"output {self.output}: the object has {size} bytes, the disk has {free} free"
            )

    # Writing.

    def store(self, pieces: Iterable[Sequence[tuple[int, memoryview]]]) -> None:
        """Write what came; from then on it survives the end of this process.

        Args:
            pieces: Lists of ascending (offset, bytes) runs. Each is written in one go, with zeros
                over the gaps in it.

        Raises:
            DiskError: The disk is full or broken; what is there stays.
        """
        self._begin_writing()
        spans: list[tuple[int, int]] = []
        for runs in pieces:
            self._write_runs(runs, spans)
        self._wrote(spans)
        self._copy_borrowed(BLOCKS_COPIED)

    def _begin_writing(self) -> None:
        self._is_written = True
        self._make_room()
        self._touched |= self._look() != self._seen

    def _write_runs(
        self, runs: Sequence[tuple[int, memoryview]], spans: list[tuple[int, int]]
    ) -> None:
        """Write what stands together; add to `spans` which bytes these are."""
        pieces: list[memoryview] = []
        start = end = runs[0][0]
        for offset, run in runs:
            self._stream.update(offset, run)
            if len(pieces) + 3 > PIECES_AT_ONCE:
                self._write(pieces, start, end - start)
                pieces, start, end = [], offset, offset
            if gap := offset - end:
                pieces.append(memoryview(bytes(gap)))
            pieces.append(run)
            end = offset + len(run)
            spans.append((offset, end))
        padding = self._padding(end)
        if padding:
            pieces.append(memoryview(padding))
        self._write(pieces, start, end + len(padding) - start)

    def _padding(self, end: int) -> bytes:
        """Return what makes the object's last symbol as long as the others, if it ends there."""
        wanted = self._object
        return bytes(-end % wanted.symbol_size if wanted and end == wanted.size else 0)

    def _write(self, pieces: list[memoryview], offset: int, length: int) -> None:
        try:
            done = os.pwritev(self._fd, pieces, offset)
            while done < length:
                rest = b"".join(pieces)[done:]  # a disk that is nearly full says how full it is
                done += os.pwrite(self._fd, rest, offset + done)
        except OSError as error:
            if error.errno == errno.EFBIG and not self._block_size:
                return  # a stranger's offset; were it not, the block will not verify
            raise self._failed(error) from error

    def _wrote(self, spans: list[tuple[int, int]]) -> None:
        """Record what was written, (start, stop) bytes."""
        self._seen = self._look()
        self._write_back.wrote(self._object, spans)

    def idle(self) -> None:
        """Flush what has waited for long enough, when nothing more comes.

        Raises:
            DiskError: The disk failed to take what was written.
        """
        self._write_back.idle()

    def _look(self) -> tuple[int, int]:
        """Return what changes when anybody writes to the file.

        Raises:
            DiskError: The file system does not say.
        """
        try:
            status = os.fstat(self._fd)
        except OSError as error:
            raise self._failed(error) from error
        return status.st_mtime_ns, status.st_size

    # Blocks that are there.

    def matches(self, offset: int, length: int, expected: bytes) -> bool:
        """Whether the `length` bytes at `offset` are there and have the digest `expected`.

        Where a seed has them they count as there: copied, or to be copied.

        Raises:
            DiskError: They can't be read.
        """
        strips = self._stream.take(offset)
        block = Block(offset, length, self._symbol_size, expected)
        if strips and all(strips):
            return has_block(self._fd, block, strips)  # nothing is read
        if self._old and not self._is_written and self._old.has(block):
            # If all of it turns out to be right, nothing has to be written at all.
            self._borrowed.append(block)
            return True
        found = self._has(block, strips)
        if found and self._object:
            self._write_back.found(self._object, offset, offset + length)
        found = found or self._fetch_from_seeds(block)
        if found or self._borrowed:
            self._begin_writing()
            self._copy_borrowed(BLOCKS_COPIED)
        return found

    def _has(self, block: Block, strips: Sequence[bytes | None] = ()) -> bool:
        """Whether the partial file has a block; what can't be read may be written anew, once."""
        try:
            return has_block(self._fd, block, strips)
        except OSError as error:
            if block.offset in self._unreadable:
                raise self._failed(error) from error
            self._unreadable.add(block.offset)
            self._write_back.suspect()
            self.warnings.append(f"{self._error(error)} at byte {block.offset}; fetching it again")
            return False

    def _fetch_from_seeds(self, block: Block) -> bool:
        for seed in list(self._seeds):
            if seed.has(block):
                self._begin_writing()
                return self._copy(seed, block)
            if seed.trouble:
                self._seeds.remove(seed)
                self.warnings.append(f"{seed.name}: {seed.trouble}; what it has is fetched")
        return False

    def _copy(self, seed: Seed, block: Block) -> bool:
        """Copy a block; False if what is there then is not what was hashed."""
        offset, length = block[:2]
        end = offset + length
        try:
            seed.copy(self._fd, offset, length)
            if padding := self._padding(end):
                os.pwrite(self._fd, padding, end)
        except OSError as error:
            raise self._failed(error) from error
        self._wrote([(offset, end)])
        self.reused += length
        return self._has(block)

    def _copy_borrowed(self, most: int) -> None:
        """Copy some of the blocks that the output has."""
        some, self._borrowed = self._borrowed[:most], self._borrowed[most:]
        for block in some:
            if self._old is None or not self._copy(self._old, block):
                self._spoilt.add(block.offset // self._block_size)

    # Publishing.

    def settle(self, complete: Complete) -> list[int]:
        """Make sure that what was verified is what is there; return the blocks that are not.

        Raises:
            DiskError: The disk failed to take what was written, or can't be read.
        """
        if not self._is_written and self._is_in_place(complete.manifest):
            if not self._verify_media or self._old is None:
                return []
            bad = self._read_back(self._old.fd, self._old.has, complete)
            size = self._block_size
            self._borrowed = [block for block in self._borrowed if block.offset // size not in bad]
            return bad
        self._begin_writing()
        self._copy_borrowed(len(self._borrowed))
        spoilt, self._spoilt = self._spoilt, set()
        self._write_back.wait()
        if self._verify_media or self._touched or self._write_back.is_suspect:
            spoilt.update(self._read_back(self._fd, self._has, complete))
        return sorted(spoilt)

    def _is_in_place(self, manifest: Manifest) -> bool:
        """Whether the output is the object, all of it, and may stay what it is."""
        old = self._old
        try:
            status = self._folder.status(self.output.name)
        except OSError:
            return False
        found = sum(block.length for block in self._borrowed)
        return (
            old is not None
            and status is not None
            and old.is_still(status)
            and old.size == found == manifest.size
            and self._keeps_dress(status)
        )

    def _keeps_dress(self, old: os.stat_result) -> bool:
        """Whether the output's owner and permissions are those that a new one shall have."""
        # Where others make files, what lies there may be laid for us.
        return old.st_uid == os.geteuid() or not self._folder.is_shared

    def _read_back(self, fd: int, has: Callable[[Block], bool], complete: Complete) -> list[int]:
        """Return the blocks that the disk has not, or not as they are."""
        manifest, digests = complete.manifest, complete.digests
        self._touched = False
        self._seen = self._look()
        bad = []
        self._write_back.read_anew(fd)
        for number in range(manifest.blocks):
            offset = number * manifest.block_size
            length = min(manifest.block_size, manifest.size - offset)
            digest = digests[number * DIGEST_SIZE : (number + 1) * DIGEST_SIZE]
            if not has(Block(offset, length, manifest.symbol_size, digest)):
                bad.append(number)
        self._read_backs_failed += bool(bad)
        if self._read_backs_failed > READ_BACKS:
            raise DiskError(
                f"partial file {self.path}: what is written does not read back as it was; "
                "is the disk as large as it says?"
            )
        return bad

    def publish(self, complete: Complete) -> bool:
        """Put the verified bytes in the output's place, at once and for good (spec: RCV-7).

        Returns:
            False if the output was the object already, and was not touched.

        Raises:
            DiskError: The partial file stays, the output is untouched.
        """
        if not self._is_written:
            if not self._is_in_place(complete.manifest):
                raise DiskError(f"output {self.output}: another program changed it; try again")
            self.reused = complete.manifest.size
            if not self._is_of_another:  # what there is of this one is of no use any more
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, 0)
            return False
        try:
            self._finish(complete)
            name, to = self.path.name, self.output.name
            self._folder.put(self._fd, name, to, self._room, self._dress)
        except OSError as error:
            raise self._failed(error) from error
        # From here on the output is new: what goes wrong now is no failure to publish it.
        if trouble := self._folder.sync():
            self.warnings.append(
                f"{self.output} is in place, but its folder can't be written back ({trouble}): "
                "a power cut may bring the old one again"
            )
        self._write_back.remove()
        return True

    def _finish(self, complete: Complete) -> None:
        """Cut the file, and have it on the disk."""
        for _ in range(READ_BACKS):
            if self._look() == self._seen:
                break
            if self._read_back(self._fd, self._has, complete):
                raise DiskError(f"partial file {self.path}: another program wrote to it; try again")
        else:
            raise DiskError(f"partial file {self.path}: another program keeps writing to it")
        if self._seen[1] != complete.manifest.size:
            os.ftruncate(self._fd, complete.manifest.size)
        self._write_back.sync()

    def _dress(self) -> None:
        """Make the file look as the output shall: where it lies now, nobody else reaches it."""
        old = self._folder.status(self.output.name)
        if old and not (stat.S_ISREG(old.st_mode) and self._keeps_dress(old)):
            old = None
        dress(self._fd, old, self._mode, self.warnings)
        self._write_back.sync_all()
        if self._before_rename:
            self._before_rename(os.fstat(self._fd))

    def _drop_empty(self) -> None:
        with contextlib.suppress(OSError):
            if not os.fstat(self._fd).st_size and self._folder.is_at(self.path.name, self._fd):
                self._folder.unlink(self.path.name)

    def close(self) -> None:
        """Close the file; an empty one goes, any other stays for the next run."""
        self._opened.close()

    def _failed(self, error: OSError) -> DiskError:
        """Return what to raise; whatever call says it, it may be about what was written before."""
        if error.errno in FAILED_LATE:
            self._write_back.suspect()
        return self._error(error)

    def _error(self, error: OSError) -> DiskError:
        return DiskError(f"partial file {self.path}: {reason(error)}")
