"""The record beside a partial file, ``OUTPUT.part.map``: what lies in each place (spec: RCV-8).

It is a hint. Digests judge: a record that is wrong costs the blocks it is wrong about, and one that
is missing or of something else costs what can't be told from whole blocks alone.

After a header, two bytes a place, little-endian: 0 nothing, else 1 + the number in its block of the
symbol that lies there, which is the place's own.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pgmlite.core.config import DEFAULT_BLOCK_SYMBOLS
from pgmlite.core.machine import Prepare
from pgmlite.storage.folder import Folder
from pgmlite.wire.batch import stretches

HEADER = struct.Struct("<8sHHIQQQQ16x")
"""magic, flags, block symbols, symbol size, oid, size, device and inode of the partial file."""

MAGIC = b"pgmlmap1"
SUSPECT = 1
"""Flag: the disk failed to take what was written, so all of it is to be read back."""

PLACES_AT_ONCE = 1 << 19
"""Places read in one step."""

GAP = 1 << 11
"""Places between two that are written anew in one call rather than in two."""


class Hints:
    """The record of one partial file; made when the first symbol is stored."""

    def __init__(self, folder: Folder, name: str) -> None:
        """
        Raises:
            DiskError: What has its name is not ours.
            OSError: As the system says.
        """
        self._folder = folder
        self._name = name
        self._fd = -1
        if folder.status(name) is not None:
            self._fd, _ = folder.open_private(name)
        self._flags = 0
        self._object: Prepare | None = None
        self._block_symbols = DEFAULT_BLOCK_SYMBOLS
        self._values = np.zeros(0, "<u2")
        self._owner = (0, 0)

    @property
    def is_suspect(self) -> bool:
        """Whether an earlier run saw the disk fail."""
        return bool(self._flags & SUSPECT)

    def own(self, status: os.stat_result) -> None:
        """Stand beside the partial file with this status; a record of another one is none."""
        self._owner = (status.st_dev, status.st_ino)
        fields = self._read_header()
        if fields is None:
            self._forget()
        else:
            self._flags = fields[1]

    def load(self, wanted: Prepare, places: int) -> list[tuple[int, npt.NDArray[np.bool_]]] | None:
        """Return what is said of `wanted`'s first `places`; None: nothing, it is of another object.

        Each piece is (first symbol, (n,) whether each lies in its place).
        """
        fields = self._read_header()
        self._object = None
        if fields is None or fields[3:6] != (wanted.symbol_size, wanted.oid, wanted.size):
            return None
        self._begin(wanted)
        self._block_symbols = fields[2] or DEFAULT_BLOCK_SYMBOLS
        found = []
        for first, values in self._stored(min(places, len(self._values))):
            own = self._own_values(first, len(values)) == values
            self._values[first : first + len(values)] = np.where(own, values, 0)
            if own.any():
                found.append((first, own))
        return found

    def _read_header(self) -> tuple[bytes, int, int, int, int, int, int, int] | None:
        if self._fd < 0:
            return None
        try:
            head = os.pread(self._fd, HEADER.size, 0)
        except OSError:
            return None
        if len(head) < HEADER.size:
            return None
        fields: tuple[bytes, int, int, int, int, int, int, int] = HEADER.unpack(head)
        return fields if fields[0] == MAGIC and fields[6:] == self._owner else None

    def _stored(self, places: int) -> Iterator[tuple[int, npt.NDArray[np.uint16]]]:
        """Yield the first place and the values of pieces of the file that are not holes."""
        at, end = 0, min(places, max(0, os.fstat(self._fd).st_size - HEADER.size) // 2)
        while at < end:
            try:
                # A record may be of a huge object, and hold little.
                data = os.lseek(self._fd, HEADER.size + 2 * at, os.SEEK_DATA) - HEADER.size
                at = max(at, data // 2)
            except OSError as error:
                if error.errno == errno.ENXIO:  # holes to the end
                    return
            count = min(PLACES_AT_ONCE, end - at)
            if count <= 0:
                return
            values = np.frombuffer(os.pread(self._fd, 2 * count, HEADER.size + 2 * at), "<u2")
            if not len(values):
                return
            yield at, values
            at += len(values)

    def _own_values(self, first: int, count: int) -> npt.NDArray[np.uint16]:
        numbers = np.arange(first, first + count) % self._block_symbols
        return (numbers + 1).astype("<u2")

    def _begin(self, wanted: Prepare) -> None:
        self._object = wanted
        # Pages of zeros cost nothing until a symbol is stored: a forged size costs no memory.
        self._values = np.zeros(-(-wanted.size // wanted.symbol_size), "<u2")

    def group(self, block_symbols: int) -> None:
        """Learn how many symbols a block has."""
        if block_symbols == self._block_symbols:
            return
        self._block_symbols = block_symbols
        for first in range(0, len(self._values), PLACES_AT_ONCE):
            span = self._values[first : first + PLACES_AT_ONCE]
            if span.any():
                span[:] = np.where(span, self._own_values(first, len(span)), 0)
                self._write(first, first + len(span))
        if self._object:
            os.pwrite(self._fd, self._head(), 0)

    def note(self, wanted: Prepare, spans: Sequence[tuple[int, int]]) -> None:
        """Record that the symbols of each (first, stop) lie in their places.

        From then on that survives this process.

        Raises:
            DiskError: What has the record's name is not ours.
            OSError: As the system says.
        """
        if self._object != wanted:
            self._begin(wanted)
            self._replace()
        if len(spans) == 1:
            first, stop = spans[0]
            self._values[first:stop] = self._own_values(first, stop - first)
            self._write(first, stop)
            return
        firsts, stops = np.array(spans).T
        counts = stops - firsts
        steps = np.repeat(firsts - (np.cumsum(counts) - counts), counts)
        places = np.arange(len(steps)) + steps
        self._values[places] = places % self._block_symbols + 1
        gaps = firsts[1:] - stops[:-1]
        for one, other in stretches((gaps < 0) | (gaps > GAP)):
            self._write(int(firsts[one]), int(stops[other - 1]))

    def _head(self) -> bytes:
        of = self._object or Prepare(0, 0, 0)
        return HEADER.pack(
            MAGIC,
            self._flags,
            self._block_symbols,
            of.symbol_size,
            of.oid,
            of.size,
            *self._owner,
        )

    def _replace(self) -> None:
        """Start a record of the object."""
        if self._fd < 0:
            self._fd, _ = self._folder.open_private(self._name)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, self._head(), 0)

    def _write(self, first: int, stop: int) -> None:
        os.pwrite(self._fd, self._values[first:stop].data, HEADER.size + 2 * first)

    def sync(self) -> None:
        """Make what was written durable.

        Raises:
            OSError: As the system says.
        """
        if self._fd >= 0:
            os.fdatasync(self._fd)

    def mark_suspect(self) -> None:
        """Say to later runs that the disk failed to take what was written.

        Raises:
            OSError: As the system says.
        """
        self._flags |= SUSPECT
        if self._fd < 0:
            self._replace()
        os.pwrite(self._fd, self._head(), 0)
        os.fdatasync(self._fd)

    def _forget(self) -> None:
        """Take what is there for nothing."""
        self._object = None
        self._flags = 0
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)

    def remove(self) -> None:
        """Close the record, and remove it if it is still the one at its name."""
        if self._fd >= 0:
            if self._folder.is_at(self._name, self._fd):
                self._folder.unlink(self._name)
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Close the record; it stays for the next run."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
