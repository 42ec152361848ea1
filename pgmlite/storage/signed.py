"""FILE.pglm: what a sender of a signed object needs beside its content (spec: SIG-2 to SIG-6).

Written where is signed, to another name and then put in place; read where is sent. It may come from
anywhere: lengths are checked before anything is believed, and trees by what the manifest says.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pgmlite.core.tiles import TileTree, tiles_of
from pgmlite.errors import DiskError, ObjectError, UsageError
from pgmlite.storage.publish import usual_mode
from pgmlite.storage.signing import LeafPlaces, build_trees
from pgmlite.storage.source import Progress, SourceFile
from pgmlite.storage.system import close_quietly, reason, sync_all, sync_folder
from pgmlite.wire.control import MAX_SPM, Signature, Spm, SpmPosition, SpmRepairs
from pgmlite.wire.digests import BlockTree, digest
from pgmlite.wire.layout import (
    DIGEST_SIZE,
    KEY_ID_SIZE,
    MAX_MANIFEST,
    SIGNATURE_SIZE,
)
from pgmlite.wire.manifest import Manifest, parse_manifest
from pgmlite.wire.tiles import NO_TILE

SUFFIX = ".pglm"

MAGIC = b"pgmlite\0"
VERSION = 1
FIXED = struct.Struct(">8sBBH")
"""Magic, version, how many signatures, bytes of the manifest."""

ENTRY_SIZE = KEY_ID_SIZE + SIGNATURE_SIZE

MOST_SIGNATURES = 16
"""More than SPMs have room for."""

MAX_HEAD = FIXED.size + MAX_MANIFEST + MOST_SIGNATURES * ENTRY_SIZE + DIGEST_SIZE

COPIED_AT_ONCE = 1 << 20


def is_signed_name(path: Path) -> bool:
    """Whether a path is, by its name, one of a FILE.pglm."""
    return path.name.endswith(SUFFIX) and path.name != SUFFIX


def content_path(path: Path, content: Path | None) -> Path:
    """Return where the content of what is sent is: of FILE.pglm ``FILE``, else the file itself.

    Args:
        content: Where somebody says that it is.
    """
    if content is not None:
        return content
    return path.with_name(path.name.removesuffix(SUFFIX)) if is_signed_name(path) else path


def find_content(path: Path, content: Path | None) -> Path:
    """Return where the content of what is sent is, as of `content_path`.

    Raises:
        DiskError: It is not beside FILE.pglm.
    """
    found = content_path(path, content)
    if content is None and found != path and not os.path.lexists(found):
        raise DiskError(f"content {found}: is not there, beside {path}; name it", cause="content")
    return found


def signed_name(content: Path) -> Path:
    """Return the FILE.pglm of a content, unless somebody says otherwise."""
    # `.` and `..` have names, too.
    whole = content if content.name not in ("", "..") else content.resolve()
    return whole.parent / (whole.name + SUFFIX)


def build_head(manifest: Manifest, signatures: Sequence[Signature]) -> bytes:
    """Return the bytes of FILE.pglm before the digests of blocks."""
    head = FIXED.pack(MAGIC, VERSION, len(signatures), len(manifest.raw)) + manifest.raw
    head += b"".join(one.key_id + one.value for one in signatures)
    return head + digest(head)


def check_room(manifest: Manifest, signatures: Sequence[Signature]) -> None:
    """Make sure that SPMs have room for a manifest with its signatures.

    Raises:
        UsageError: They have not.
    """
    fullest = Spm(0, 0, 0, manifest.raw, SpmPosition(0), SpmRepairs(*[0] * 6), tuple(signatures))
    if (size := len(fullest.build())) > MAX_SPM:
        raise UsageError(
            f"{len(signatures)} signatures of a manifest of {len(manifest.raw)} bytes: packets "
            f"have {size - MAX_SPM} bytes too few for them; shorten its name, stream, ladder or "
            "list of repairers",
            cause="sign",
        )


class SignedFile:
    """A FILE.pglm that was read and is right in itself: both trees are those of the manifest.

    Attributes:
        path: Of it.
        manifest: Of the object; `release`, too.
        signatures: Of the manifest; who made them is not known here.
        blocks: The tree of blocks.
        tiles: The tree of tiles; its leaves stay on the disk.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        """
        Args:
            progress: Called with bytes of leaves.

        Raises:
            DiskError: It can't be read.
            ObjectError: It is none, or is damaged.
        """
        self.path = path
        try:
            # Opening a FIFO would wait for its writer.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise DiskError(f"{path}: {reason(error)}") from error
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise DiskError(f"{path}: is not a regular file")
            self._read_head()
            self._check_size(status.st_size)
            self._read_trees(progress)
        except BaseException:
            self.close()
            raise

    def _read_head(self) -> None:
        """
        Raises:
            ObjectError: It is none of a FILE.pglm.
        """
        head = self._pread(MAX_HEAD, 0, may_end=True)
        if len(head) < FIXED.size or not head.startswith(MAGIC):
            raise ObjectError(f"{self.path}: is no signed object, as `pgmlite sign` writes them")
        _, version, count, length = FIXED.unpack_from(head)
        if version != VERSION:
            raise ObjectError(f"{self.path}: version {version} of signed objects; known is 1")
        end = FIXED.size + length + count * ENTRY_SIZE
        self._start = end + DIGEST_SIZE
        if self._start > len(head) or digest(head[:end]) != head[end : self._start]:
            raise self._damaged("its head does not match its digest")
        try:
            self.manifest = parse_manifest(head[FIXED.size : FIXED.size + length])
        except ObjectError as error:
            raise ObjectError(f"{self.path}: {error}") from error
        if self.manifest.release is None:
            raise ObjectError(f"{self.path}: its manifest has no release: is not made to be signed")
        self.release = self.manifest.release
        entries = range(FIXED.size + length, end, ENTRY_SIZE)
        self.signatures = tuple(
            Signature(head[at : at + KEY_ID_SIZE], head[at + KEY_ID_SIZE : at + ENTRY_SIZE])
            for at in entries
        )

    def _check_size(self, octets: int) -> None:
        """
        Raises:
            ObjectError: The file is shorter or longer than its manifest says.
        """
        geometry = self.manifest.geometry
        self._places = LeafPlaces(tiles_of(geometry))
        self._leaves = self._start + geometry.blocks * DIGEST_SIZE
        expected = self._leaves + self._places.total
        if octets != expected:
            raise self._damaged(f"it has {octets} bytes, by its manifest {expected}")

    def _read_trees(self, progress: Progress | None) -> None:
        """
        Raises:
            ObjectError: They are not those of the manifest.
        """
        manifest, tiles = self.manifest, self._places.tiles
        geometry = manifest.geometry
        self.blocks = BlockTree(
            self._pread(self._leaves - self._start, self._start), manifest.symbol_size
        )
        if self.blocks.root != manifest.tree_digest:
            raise self._damaged("its digests of blocks are not those of its manifest")
        digests = bytearray(tiles.count * DIGEST_SIZE)
        for group in range(geometry.groups if tiles.count else 0):
            start = self._places.group(group)
            last = tiles.number(geometry.visits - 1, group)
            row = memoryview(
                self._pread(sum(self._places.extent(last)) - start, self._leaves + start)
            )
            for visit in range(geometry.visits):
                tile = tiles.number(visit, group)
                at, length = self._places.extent(tile)
                leaf = row[at - start : at - start + length]
                place = slice(tile * DIGEST_SIZE, (tile + 1) * DIGEST_SIZE)
                digests[place] = digest(leaf) if length else NO_TILE
            if progress:
                progress(start + len(row), self._places.total)
        self._digests = bytes(digests)
        self.tiles = TileTree(tiles, self._digests, self.leaf)
        if self.tiles.root != manifest.tiles_digest:
            raise self._damaged("its leaves are not those of its manifest")

    def leaf(self, tile: int) -> bytes:
        """Return the leaf of a tile, empty if it has none.

        Raises:
            DiskError: It can't be read, or the file changed.
        """
        at, length = self._places.extent(tile)
        if not length:
            return b""
        leaf = self._pread(length, self._leaves + at)
        if digest(leaf) != self._digests[tile * DIGEST_SIZE : (tile + 1) * DIGEST_SIZE]:
            raise DiskError(f"{self.path}: changed while it was in use; start again")
        return leaf

    def check_content(self, source: SourceFile, found: BlockTree) -> None:
        """Make sure that a content, and the tree that it has, are those of the manifest.

        Raises:
            ObjectError: They are not.
        """
        if found.root == self.manifest.tree_digest:
            return
        pairs = range(0, len(found.digests), DIGEST_SIZE)
        ours, theirs = self.blocks.digests, found.digests
        wrong = sum(ours[at : at + DIGEST_SIZE] != theirs[at : at + DIGEST_SIZE] for at in pairs)
        raise ObjectError(
            f"content {source.path}: is not what {self.path} was made of: {wrong} of "
            f"{len(pairs)} blocks differ{_hint(source)}"
        )

    def check_length(self, source: SourceFile) -> None:
        """Make sure that a content is as long as the manifest says.

        Raises:
            ObjectError: It is not.
        """
        if source.size != self.manifest.size:
            raise ObjectError(
                f"content {source.path}: has {source.size} bytes, and {self.path} was made of "
                f"{self.manifest.size}{_hint(source)}"
            )

    def add(self, more: Sequence[Signature]) -> None:
        """Write the file anew, with more signatures; those of the same keys give way.

        Raises:
            UsageError: There is no room for them.
            DiskError: It can't be written; the one before stays.
        """
        by_key = {one.key_id: one for one in (*self.signatures, *more)}
        signatures = tuple(by_key.values())
        if signatures == self.signatures:
            return
        check_room(self.manifest, signatures)
        size = os.fstat(self._fd).st_size
        with Fresh(self.path) as fresh:
            fresh.write(build_head(self.manifest, signatures))
            for at in range(self._start, size, COPIED_AT_ONCE):
                fresh.write(self._pread(min(COPIED_AT_ONCE, size - at), at))
            fresh.publish()
        self.signatures = signatures

    def _pread(self, length: int, offset: int, *, may_end: bool = False) -> bytes:
        """
        Raises:
            DiskError: It can't be read, or is shorter than it was.
        """
        pieces: list[bytes] = []
        while length:
            try:
                piece = os.pread(self._fd, length, offset)
            except OSError as error:
                raise DiskError(f"{self.path}: {reason(error)}") from error
            if not piece:
                if may_end:
                    break
                raise DiskError(f"{self.path}: changed while it was in use; start again")
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    def _damaged(self, how: str) -> ObjectError:
        return ObjectError(f"{self.path}: is damaged: {how}")

    def close(self) -> None:
        """Close the file."""
        close_quietly(self._fd)


def _hint(source: SourceFile) -> str:
    """Return what else may make a content another one."""
    if source.archive is None:
        return ""
    return "; of a folder, times, modes and owners count, too: `cp -a`, as root, keeps them"


class Fresh:
    """A file that comes into place at once, or not at all; used as a context."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            DiskError: Nothing can be written there.
        """
        self._path = path
        try:
            self._fd, name = tempfile.mkstemp(".tmp", f".{path.name[:64]}.", path.parent)
        except OSError as error:
            raise self._error(error) from error
        self._name, self._is_public = Path(name), False
        self._end = 0

    def write(self, data: bytes, at: int | None = None) -> None:
        """Write bytes at a place, or behind those that were written so.

        Raises:
            DiskError: They can't be written.
        """
        place = self._end if at is None else at
        view = memoryview(data)
        try:
            while view:
                done = os.pwrite(self._fd, view, place)
                view, place = view[done:], place + done
        except OSError as error:
            raise self._error(error) from error
        if at is None:
            self._end = place

    def publish(self) -> None:
        """Put it in place, for good.

        Raises:
            DiskError: It can't be; what was there before stays.
        """
        try:
            os.fchmod(self._fd, usual_mode())
            sync_all(self._fd)
            os.replace(self._name, self._path)
            self._is_public = True
            sync_folder(self._path.parent)
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> DiskError:
        return DiskError(f"{self._path}: {reason(error)}")

    def __enter__(self) -> Fresh:
        return self

    def __exit__(self, *_: object) -> None:
        close_quietly(self._fd)
        if not self._is_public:
            with suppress(OSError):
                self._name.unlink()


Sign = Callable[[Manifest], Sequence[Signature]]


def write_signed(
    path: Path,
    source: SourceFile,
    planned: Manifest,
    sign: Sign,
    progress: Progress | None = None,
) -> tuple[Manifest, tuple[Signature, ...]]:
    """Write the FILE.pglm of a content; return its manifest and signatures.

    Args:
        planned: The manifest, its digests aside.
        sign: Makes the signatures, or none.

    Raises:
        DiskError: A file can't be read or written, or the content changed meanwhile.
        UsageError: The manifest is larger than packets have room for.
    """
    geometry = planned.geometry
    if (size := len(planned.raw)) > MAX_MANIFEST:
        raise UsageError(
            f"a manifest of {size} bytes: at most {MAX_MANIFEST} are allowed; shorten its name, "
            "stream, ladder or list of repairers",
            cause="sign",
        )
    # Its length is known before it is: digests change none.
    signatures = tuple(sign(planned))
    check_room(planned, signatures or [Signature(bytes(KEY_ID_SIZE), bytes(SIGNATURE_SIZE))])
    blocks_at = len(build_head(planned, signatures))
    leaves_at = blocks_at + geometry.blocks * DIGEST_SIZE
    with Fresh(path) as fresh:
        blocks, digests = build_trees(
            source, geometry, lambda at, leaves: fresh.write(leaves, leaves_at + at), progress
        )
        tiles = tiles_of(geometry)
        root = TileTree(tiles, digests[: tiles.count * DIGEST_SIZE], lambda _: b"").root
        manifest = replace(planned, tree_digest=blocks.root, tiles_digest=root)
        signatures = tuple(sign(manifest))
        fresh.write(build_head(manifest, signatures) + blocks.digests, 0)
        fresh.publish()
    return manifest, signatures
