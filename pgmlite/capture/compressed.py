"""The bytes of a capture, whatever it is compressed by, as a stream and within bounds of memory."""

from __future__ import annotations

import bz2
import importlib
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from pgmlite.errors import DiskError, ObjectError

READ_AT_ONCE = 1 << 18
"""Bytes of a compressed file."""

FED_AT_ONCE = 1 << 10
"""Compressed bytes that are unpacked in one step: where they turn out to be damaged, so much of
what came before is lost with them."""

UNPACKED_AT_ONCE = 1 << 17
"""Bytes, at most: a few of them may stand for gigabytes."""

MOST_MEMORY = 1 << 27
"""Bytes that a file may demand for its dictionary."""

LONGEST_MAGIC = 6


class Unpacker(Protocol):
    """What `bz2`, `lzma` and others have in common."""

    @property
    def needs_input(self) -> bool:
        """Nothing comes out until something goes in."""

    @property
    def eof(self) -> bool:
        """The compressed stream has ended."""

    @property
    def unused_data(self) -> bytes | None:
        """What was put in behind its end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take some, give some."""


class _Gunzip:
    """`zlib` in that shape."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        self.needs_input = len(out) < max_length
        return out


def _unzstd() -> Unpacker:
    try:
        module: Any = importlib.import_module("compression.zstd")
    except ImportError:
        module = importlib.import_module("backports.zstd")
    limit = {module.DecompressionParameter.window_log_max: MOST_MEMORY.bit_length() - 1}
    return module.ZstdDecompressor(options=limit)  # type: ignore[no-any-return]


def _unlz4() -> Unpacker:
    module: Any = importlib.import_module("lz4.frame")
    return module.LZ4FrameDecompressor()  # type: ignore[no-any-return]


UNPACKERS: dict[str, Callable[[], Unpacker]] = {
    "gzip": _Gunzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MOST_MEMORY),
    "zstd": _unzstd,
    "lz4": _unlz4,
}

MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{bytes([one]) + b"\x2a\x4d\x18": "zstd" for one in range(0x50, 0x60)},
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
    b"LZIP": "lzip",
    b"\x1f\x9d": "compress",
}
"""First bytes of compressed files, and what compressed them."""


def compression_of(head: bytes) -> str:
    """Return what compressed a file that starts with `head`; empty if nothing known did."""
    return next((name for magic, name in MAGICS.items() if head.startswith(magic)), "")


class Stream:
    """The bytes of a file, in order; a context.

    Attributes:
        compression: What compressed the file; empty: nothing.
        damage: Why no more bytes can be had of it; empty: nothing is wrong.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            DiskError: The file can't be read.
            ObjectError: It is compressed by something that is not here.
        """
        self._path = path
        self.damage = ""
        try:
            if path.is_fifo() or path.is_char_device():
                # A capture is read twice: once to find the session.
                raise DiskError(f"{path}: is no regular file; save the capture first")
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise DiskError(f"{path}: {error.strerror}") from error
        try:
            self._fed = self._pull(LONGEST_MAGIC)
            self.compression = compression_of(self._fed)
            self._unpacker = self._open() if self.compression else None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def _open(self) -> Unpacker:
        name = self.compression
        if name not in UNPACKERS:
            raise ObjectError(f"{self._path}: compressed by {name}; unpack it first")
        try:
            return UNPACKERS[name]()
        except ImportError:
            raise ObjectError(
                f"{self._path}: compressed by {name}: pip install 'pgmlite[captures]', "
                f"or {name} -d it first"
            ) from None

    def _pull(self, size: int) -> bytes:
        """Return the next bytes of the file as they are there."""
        try:
            return self._file.read(size)
        except OSError as error:
            raise DiskError(f"{self._path}: {error.strerror}") from error

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer only at the end, or where damage begins.

        Raises:
            DiskError: The file can't be read.
        """
        if not self.compression:
            start, self._fed = self._fed, b""
            return start + self._pull(size - len(start))
        found, have = [], 0
        while have < size and self._unpacker is not None:
            piece = self._unpack(self._unpacker, min(size - have, UNPACKED_AT_ONCE))
            found.append(piece)
            have += len(piece)
        return b"".join(found)

    def _unpack(self, unpacker: Unpacker, most: int) -> bytes:
        """Return up to `most` bytes, perhaps none."""
        some = b""
        if unpacker.needs_input:
            some = self._feed()
            if not some:
                self._end("is cut off")
                return b""
        try:
            out = unpacker.decompress(some, most)
        except Exception as error:  # noqa: BLE001 - each of them has errors of its own
            self._end(f"does not unpack: {str(error) or type(error).__name__}")
            return b""
        if unpacker.eof:
            self._fed = bytes(unpacker.unused_data or b"") + self._fed
            self._another()
        return out

    def _feed(self) -> bytes:
        """Return a little of what is compressed."""
        if not self._fed:
            self._fed = self._pull(READ_AT_ONCE)
        some, self._fed = self._fed[:FED_AT_ONCE], self._fed[FED_AT_ONCE:]
        return some

    def _another(self) -> None:
        """Begin what follows a compressed stream that has ended: another one, or the end."""
        while True:
            self._fed = self._fed.lstrip(b"\0")  # padding
            if len(self._fed) >= LONGEST_MAGIC:
                break
            more = self._pull(READ_AT_ONCE)
            if not more:
                break
            self._fed += more
        if not self._fed:
            self._unpacker = None
        elif compression_of(self._fed) == self.compression:
            self._unpacker = self._open()
        else:
            self._end("has other bytes behind it")

    def _end(self, what: str) -> None:
        self._unpacker = None
        self.damage = f"what {self.compression} compressed {what}"

    def skip(self, size: int) -> None:
        """Pass over `size` bytes, or as many as there are."""
        if not self.compression:
            self._file.seek(size - len(self._fed), os.SEEK_CUR)
            self._fed = b""
            return
        while size and (some := self.read(min(size, UNPACKED_AT_ONCE))):
            size -= len(some)

    def peek(self, at: int, size: int) -> bytes | None:
        """Return up to `size` bytes at byte `at`; None if that would mean to unpack all before."""
        if self.compression:
            return None
        try:
            return os.pread(self._file.fileno(), size, at)
        except OSError as error:
            raise DiskError(f"{self._path}: {error.strerror}") from error
