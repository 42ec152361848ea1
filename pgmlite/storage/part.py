"""The partial file of a receiver, and how it becomes the output (spec: RCV-7, RCV-8, RCV-15).

``OUTPUT.part`` is ours alone: no link, one name, private. What is published is what was verified,
by its descriptor. The page cache is not the disk: what an earlier run left is read from the disk
before it is believed, and what a disk failed to take once is read back before it is published.

Files are written with positioned calls, never mapped: mapped pages would count as memory of the
process, and a full disk would be a signal instead of an error.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pgmlite.core.decode import Decoded, decode
from pgmlite.core.machine import Complete, Decode, Held, Lying, Prepare
from pgmlite.errors import DiskError
from pgmlite.storage.content import Content
from pgmlite.storage.folder import Folder, resolve_output
from pgmlite.storage.publish import dress, dress_of, keeps_dress, usual_mode
from pgmlite.storage.record import Identity, identity_of
from pgmlite.storage.seeds import Block, Seed, fill, find
from pgmlite.storage.system import beside, close_quietly, reason, room_of
from pgmlite.storage.writeback import WriteBack
from pgmlite.wire.manifest import Manifest

BLOCKS_COPIED = 4
"""Blocks of the output that are copied in one step, so that packets are read in between."""


class PartFile:
    """What a receiver has so far: ``OUTPUT.part`` beside the output, sparse, locked, private.

    The output itself stays untouched until `publish`.

    Attributes:
        output: The file that is written: the target, where the user named a link.
        path: The partial file.
        warnings: What the user should know; whoever shows it empties the list.
        reused: Bytes that came from the output or from other seeds.
        write_back: What of the partial file is on the disk.
        fd: The partial file; once it is empty, closing removes it and its record.
    """

    resolve = staticmethod(resolve_output)

    def __init__(
        self,
        output: Path,
        *,
        bases: Sequence[Path] = (),
        place: Seed | None = None,
        output_is_seed: bool = True,
        verify_media: bool = False,
        before_rename: Callable[[Identity], None] | None = None,
    ) -> None:
        """
        Args:
            bases: Files that may have a part of the object.
            place: Where it is passed on to: what that has already is not copied.
            output_is_seed: What the output has need not come again.
            verify_media: Read everything back before it is published.
            before_rename: Called with what the output will be, right before it is.

        Raises:
            DiskError: The folder can't be written, or what is there is not ours, or not free.
        """
        self.output = self.resolve(output)
        self.path = beside(self.output, ".part")
        self.warnings: list[str] = []
        self.reused = 0
        self._room = beside(self.output, ".part.d").name
        self._verify_media = verify_media
        self._before_rename = before_rename
        self._mode = usual_mode()
        self._block_size = 0
        self._borrowed: list[Block] = []
        """Blocks that the output has, and that are not copied yet."""

        self._is_written = False
        """The object comes to be in the partial file: the output alone is not it."""

        self._is_of_another = False
        """An earlier run stored a part of another object."""

        self._spoilt: set[int] = set()
        """Blocks that were verified and are not there."""

        self._place = place
        try:
            with contextlib.ExitStack() as opened:
                self._open(opened, bases, output_is_seed=output_is_seed)
                self._opened = opened.pop_all()
        except OSError as error:
            raise DiskError(f"partial file {self.path}: {reason(error)}") from error
        if self._folder.is_everybodys:
            text = "everybody may rename and remove the files in it"
            self.warnings.append(f"folder {self._folder.path}: {text}")

    def _open(
        self, opened: contextlib.ExitStack, bases: Sequence[Path], *, output_is_seed: bool
    ) -> None:
        """Open all that is needed; it is `opened` that closes it."""
        self._folder = Folder(self.output.parent)
        opened.callback(self._folder.close)
        self._old = Seed.of_output(self._folder, self.output.name) if output_is_seed else None
        self._seeds = [*filter(None, (self._old, self._place)), *map(Seed.of_path, bases)]
        for seed in self._seeds:
            opened.callback(seed.close)
        try:
            self._folder.empty_room(self._room, self.path.name)
            self.fd, trouble = self._folder.open_alone(self.path.name)
        except BlockingIOError:
            raise DiskError(f"partial file {self.path}: another receiver is writing it") from None
        if trouble:
            self.warnings.append(trouble)
        opened.callback(close_quietly, self.fd)
        opened.callback(self._folder.drop_empty, self.path.name, self.fd)
        self.write_back = WriteBack(
            self._folder,
            self.fd,
            f"partial file {self.path}",
            beside(self.output, ".part.map").name,
            self.warnings,
        )
        opened.callback(self.write_back.close)
        self.write_back.reread()
        if self._old:
            self._old.settle()
        self._content = Content(self.fd, self.path, self.output, self.write_back, self.warnings)

    # What is there.

    def has_room(self, size: int) -> bool:
        """Whether so many bytes fit; an object as long as the output may be there already."""
        return size <= room_of(self.fd) or (self._old is not None and self._old.size == size)

    def prepare(self, wanted: Prepare) -> Held:
        """Say what of an object is there before its first packet.

        Raises:
            DiskError: The file system does not say.
        """
        self._is_written = False
        self._borrowed.clear()
        self._spoilt.clear()
        recorded = self._content.expect(wanted)
        self._is_of_another = self.write_back.is_of_another
        extents = list(recorded.extents)
        longest = min(wanted.size, max((seed.size for seed in self._seeds), default=0))
        if longest:
            extents = [(0, longest)] + [(a, b) for a, b in extents if b > longest]
        return replace(recorded, extents=extents)

    def begin(self, manifest: Manifest) -> None:
        """Expect the object of `manifest`; make sure it fits.

        Raises:
            DiskError: It does not.
        """
        self._block_size = manifest.block_size
        self._content.begin(manifest)
        if self._is_written or self._old is None or self._old.size != manifest.size:
            self._content.make_room()  # else all of it may be in place

    # Writing.

    def store(
        self, pieces: Iterable[Sequence[tuple[int, memoryview]]], lying: Lying | None = None
    ) -> None:
        """Write what came; from then on it survives the end of this process.

        Args:
            pieces: Lists of ascending (offset, bytes) runs. Each is written in one go, with zeros
                over the gaps in it.
            lying: (n,) what lies in the places of the runs then; None: their own symbols.

        Raises:
            DiskError: The disk is full or broken; what is there stays.
        """
        self._begin_writing()
        self._content.write(pieces, lying)
        self._copy_borrowed(BLOCKS_COPIED)

    def _begin_writing(self) -> None:
        self._is_written = True
        self._content.make_room()
        self._content.watch()

    # Blocks that are there.

    def matches(self, offset: int, length: int, expected: bytes) -> bool:
        """Whether the `length` bytes at `offset` are there and have the digest `expected`.

        Where a seed has them they count as there: copied, or to be copied.

        Raises:
            DiskError: They can't be read.
        """
        block, strips = self._content.block(offset, length, expected)
        if strips and all(strips):
            return self._content.has(block, strips)  # nothing is read
        if self._old and not self._is_written and self._old.has(block):
            # If all of it turns out to be right, nothing has to be written at all.
            self._borrowed.append(block)
            return True
        found = self._content.has(block, strips)
        if found:
            self._content.found(block)
        elif seed := find(self._seeds, block, self.warnings):
            self._begin_writing()
            found = self._copy(seed, block)
        if found or self._borrowed:
            self._begin_writing()
            self._copy_borrowed(BLOCKS_COPIED)
        return found

    def _copy(self, seed: Seed, block: Block) -> bool:
        """Copy a block that has to be; False if what is there then is not what was hashed."""
        is_right = seed is self._place or self._content.copy(seed, block)
        self.reused += block.length
        return is_right

    def _copy_borrowed(self, most: int) -> None:
        """Copy some of the blocks that the output has."""
        some, self._borrowed = self._borrowed[:most], self._borrowed[most:]
        for block in some:
            if self._old is None or not self._copy(self._old, block):
                self._spoilt.add(block.offset // self._block_size)

    def decode(self, action: Decode) -> Decoded:
        """Decode a block; nothing is written, and any thread may do it until `close`."""
        return decode(partial(fill, self.fd), action)

    def place(self, decoded: Decoded) -> bool:
        """Write what a decoded block had not in its places; return whether all of it is right now.

        Raises:
            DiskError: The disk is full or broken, or could not read the block again.
        """
        self._begin_writing()
        return self._content.place(decoded)

    # Publishing.

    def settle(self, complete: Complete) -> list[int]:
        """Make sure that what was verified is what is there; return the blocks that are not.

        Raises:
            DiskError: The disk failed to take what was written, or can't be read.
        """
        if not self._is_written and self._is_in_place(complete.manifest):
            if not self._verify_media or self._old is None:
                return []
            bad = self._content.read_back(self._old.fd, self._old.has, complete)
            size = self._block_size
            self._borrowed = [block for block in self._borrowed if block.offset // size not in bad]
            return bad
        self._begin_writing()
        self._copy_borrowed(len(self._borrowed))
        spoilt, self._spoilt = self._spoilt, set()
        self.write_back.wait()
        if self._verify_media or self._content.is_touched or self.write_back.is_suspect:
            spoilt.update(self._content.read_back_all(complete))
        return sorted(spoilt)

    def _is_in_place(self, manifest: Manifest) -> bool:
        """Whether the output is the object, all of it, and may stay what it is."""
        old = self._old
        try:
            status = self._folder.status(self.output.name)
        except OSError:
            return False
        return (
            old is not None
            and status is not None
            and old.is_still(status)
            and old.size == manifest.size == sum(block.length for block in self._borrowed)
            and keeps_dress(self._folder, status)
        )

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
                    os.ftruncate(self.fd, 0)
            return False
        try:
            self._content.finish(complete)
            self._folder.put(self.fd, self.path.name, self.output.name, self._room, self._dress)
        except OSError as error:
            raise self._content.failed(error) from error
        # From here on the output is new: what goes wrong now is no failure to publish it.
        if trouble := self._folder.sync():
            self.warnings.append(
                f"{self.output} is in place, but its folder can't be written back ({trouble}): "
                "a power cut may bring the old one again"
            )
        self.write_back.remove()
        return True

    def _dress(self) -> None:
        """Make the file look as the output shall: where it lies now, nobody else reaches it."""
        refused: list[str] = []
        dress(self.fd, dress_of(self._folder, self.output.name), self._mode, refused)
        self.warnings += [f"output {self.output}: {text}" for text in refused]
        self.write_back.sync_all()
        if self._before_rename:
            self._before_rename(identity_of(os.fstat(self.fd)))

    def idle(self) -> None:
        """As of `WriteBack`."""
        self.write_back.idle()

    def close(self) -> None:
        """Close the file; an empty one goes, any other stays for the next run."""
        self._opened.close()
