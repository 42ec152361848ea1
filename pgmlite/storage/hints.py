"""The record beside a partial file, ``OUTPUT.part.map``: what lies in each place (spec: RCV-8).

It is a hint. Digests judge: a record that is wrong costs the blocks it is wrong about, and one that
is missing or of something else costs what can't be told from whole blocks alone.

After a header, two bytes a place, little-endian: 0 nothing, else 1 + the encoding symbol id, in the
place's block, of what lies there: the place's own symbol or another one; and `FLUSHED`, once that
is on the disk. A process that is killed leaves all it wrote to the system. A power cut leaves the
record and what it is about as they were written to the disk, in any order: then only what was
flushed counts. Before a symbol in a place gives way to another one the record forgets it: a record
that lags behind must not give a symbol another one's name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from threading import RLock

import numpy as np
import numpy.typing as npt

from pgmlite.core.config import DEFAULT_BLOCK_SYMBOLS
from pgmlite.core.machine import LYING, Held, Lying, Prepare, own_at
from pgmlite.core.ranges import runs
from pgmlite.storage.folder import Folder
from pgmlite.storage.system import boot_id, close_quietly, sync_data
from pgmlite.wire.batch import Flags, stretches
from pgmlite.wire.geometry import Sizes, pieces
from pgmlite.wire.request import expand

HEADER = struct.Struct("<8sHHIQQQ16s8x")
"""magic, flags, block symbols, symbol size, oid, size, inode of the partial file, boot.

Not its device: that has another number after a reboot, on many systems.
"""

FLAGS = struct.Struct("<H")
MAGIC = b"pgmlmap1"
SUSPECT = 1
"""Flag: the disk failed to take what was written, so all of it is to be read back."""

FLUSHED = 1 << 15
"""In a value: the symbol is on the disk."""

FLUSHING = 1 << 14
"""In a value: the symbol was there when the flush began that is under way."""

NAME = np.uint16(FLUSHING - 1)
"""In a value: what lies there."""

PLACES_AT_ONCE = 1 << 19
"""Places read in one step."""

PAGE = 1 << 11
"""Places that are marked as flushed in one call."""

GAP = PAGE
"""Places between two that are written anew in one call rather than in two."""

Values = npt.NDArray[np.uint16]

Spans = Sequence[tuple[int, int]]
"""(first, stop) places each."""


@dataclass(frozen=True, slots=True)
class Unflushed:
    """What was stored since the last flush: the pages of an object that have some of it."""

    of: Values
    pages: list[int]


class Hints:
    """The record of one partial file; made when the first symbol is stored.

    A flush may be marked in a thread of its own; all else is done by one thread.
    """

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
            self._fd = folder.open_private(name)
        self._flags = 0
        self._object: Prepare | None = None
        self._block_symbols = DEFAULT_BLOCK_SYMBOLS
        self._lock = RLock()
        self._values: Values = np.zeros(0, "<u2")
        self._unflushed: set[int] = set()
        """Pages with values that are not `FLUSHED`."""

        self._flushed: set[int] = set()
        """Pages with values that are; a page may be one of both."""

        self._inode = 0
        self.is_of_another = False
        """The record is of another object than the one that it was last asked about."""

    @property
    def is_suspect(self) -> bool:
        """Whether an earlier run saw the disk fail."""
        return bool(self._flags & SUSPECT)

    def own(self, status: os.stat_result) -> None:
        """Stand beside the partial file with this status; a record of another one is none.

        Raises:
            OSError: As the system says.
        """
        self._inode = status.st_ino
        fields = self._read_header()
        if fields is None:
            self._forget()
        else:
            self._flags = fields[1]

    def _read_header(self) -> tuple[bytes, int, int, int, int, int, int, bytes] | None:
        if self._fd < 0:
            return None
        head = os.pread(self._fd, HEADER.size, 0)
        if len(head) < HEADER.size:
            return None
        fields: tuple[bytes, int, int, int, int, int, int, bytes] = HEADER.unpack(head)
        return fields if (fields[0], fields[6]) == (MAGIC, self._inode) else None

    def load(self, wanted: Prepare, places: int) -> Held | None:
        """Return what is said of `wanted`'s first `places`; None: nothing, it is of another object.

        Own symbols that may be there, but were not flushed before the system was started anew, are
        extents.

        Raises:
            OSError: As the system says.
        """
        fields = self._read_header()
        self._object = None
        self.is_of_another = fields is not None and fields[4] not in (0, wanted.oid)
        if fields is None or fields[3:6] != (wanted.symbol_size, wanted.oid, wanted.size):
            return None
        self._begin(wanted)
        self._block_symbols = fields[2] or DEFAULT_BLOCK_SYMBOLS
        is_exact, sizes = fields[7] == boot_id(), Sizes(wanted.size, wanted.symbol_size)
        places = min(places, len(self._values))
        lying: list[tuple[int, Lying]] = []
        extents: list[tuple[int, int]] = []
        changed: set[int] = set()
        for first, values in _stored(self._fd, places):
            held = values & NAME
            sure = held != 0 if is_exact else (held != 0) & (values >= FLUSHED)
            own = held == self._own_values(first, len(values))
            kept = np.where(sure, values & ~np.uint16(FLUSHING), 0)
            self._values[first : first + len(values)] = kept
            if sure.any():
                lying.append((first, kept & NAME))
            perhaps = _perhaps(own, own & sure, first, sizes.symbols, self._block_symbols)
            extents += [sizes.bytes_of(*span) for span in perhaps]
            changed.update(_pages(first, kept != values))
            self._sort(first, kept)
        # What is not believed now must not be believed later, when more lies in the file.
        for page in changed:
            self._write(page * PAGE, (page + 1) * PAGE)
        if os.fstat(self._fd).st_size > HEADER.size + 2 * places:
            os.ftruncate(self._fd, HEADER.size + 2 * places)
        if not is_exact:
            os.pwrite(self._fd, self._head(), 0)
        return Held(lying, self._block_symbols, extents)

    def _sort(self, first: int, values: Values) -> None:
        """Note which pages have values of either kind, of (n,) `values` from `first` on."""
        self._unflushed.update(_pages(first, (values != 0) & (values < FLUSHED)))
        self._flushed.update(_pages(first, values >= FLUSHED))

    def _own_values(self, first: int, count: int) -> Values:
        return _own(first, count, self._block_symbols)

    def _begin(self, wanted: Prepare) -> None:
        with self._lock:
            self._object = wanted
            # Pages of zeros cost nothing until a symbol is stored: a forged size costs no memory.
            self._values = np.zeros(pieces(wanted.size, wanted.symbol_size), "<u2")
            self._unflushed.clear()
            self._flushed.clear()

    def group(self, block_symbols: int) -> None:
        """Learn how many symbols a block has; of other blocks only own symbols keep their names.

        Raises:
            OSError: As the system says.
        """
        if block_symbols == self._block_symbols:
            return
        with self._lock:
            before, self._block_symbols = self._block_symbols, block_symbols
            for page in self._unflushed | self._flushed:  # the others are empty, however many
                first, span = page * PAGE, self._values[page * PAGE :][:PAGE]
                was_own = span & NAME == _own(first, len(span), before)
                own = self._own_values(first, len(span)) | (span & ~NAME)
                span[:] = np.where(was_own, own, 0)
                self._write(first, first + len(span))
        if self._object:
            os.pwrite(self._fd, self._head(), 0)

    def note(self, wanted: Prepare, spans: Spans, lying: Lying | None = None) -> None:
        """Record what lies in places; from then on that survives this process.

        Args:
            lying: (n,) what lies in the places of the spans, one after the other; None: their own
                symbols.

        Raises:
            DiskError: What has the record's name is not ours.
            OSError: As the system says.
        """
        if self._object != wanted:
            self._begin(wanted)
            self._replace()
        with self._lock:
            if len(spans) == 1:
                first, stop = spans[0]
                own = self._own_values(first, stop - first) if lying is None else lying
                self._values[first:stop] = own
                self._write_unflushed(first, stop)
                return
            bounds = np.fromiter(chain.from_iterable(spans), np.int64, 2 * len(spans))
            firsts, stops = bounds[::2], bounds[1::2]
            places = expand(firsts, stops - firsts)
            own = own_at(places, self._block_symbols) if lying is None else lying
            self._values[places] = own
            gaps = firsts[1:] - stops[:-1]
            for one, other in stretches((gaps < 0) | (gaps > GAP)):
                self._write_unflushed(int(firsts[one]), int(stops[other - 1]))

    def forget(self, wanted: Prepare, spans: Spans) -> None:
        """Record that nothing lies in places whose symbols are about to give way.

        Raises:
            DiskError: What has the record's name is not ours.
            OSError: As the system says.
        """
        with self._lock:
            if self._object == wanted and any(self._values[a:b].any() for a, b in spans):
                self.note(wanted, spans, np.zeros(sum(b - a for a, b in spans), LYING))

    def found(self, wanted: Prepare, first: int, stop: int) -> None:
        """Record that these places have their own symbols, if it does not say so already.

        Raises:
            DiskError: What has the record's name is not ours.
            OSError: As the system says.
        """
        held = self._values[first:stop] & NAME
        if self._object != wanted or (held != self._own_values(first, stop - first)).any():
            self.note(wanted, [(first, stop)])

    def _write_unflushed(self, first: int, stop: int) -> None:
        self._unflushed.update(range(first // PAGE, -(-stop // PAGE)))
        self._write(first, stop)

    def _write(self, first: int, stop: int) -> None:
        os.pwrite(self._fd, self._values[first:stop].data, HEADER.size + 2 * first)

    def unflushed(self) -> Unflushed:
        """Return what was stored since the last flush; it is flushing from now on."""
        with self._lock:
            stored, self._unflushed = Unflushed(self._values, sorted(self._unflushed)), set()
        for page in stored.pages:
            span = stored.of[page * PAGE :][:PAGE]
            # One by one: in rounds it is every page of the object, and somebody is storing more.
            with self._lock:
                span[(span != 0) & (span < FLUSHED)] |= FLUSHING
        return stored

    def mark_flushed(self, stored: Unflushed) -> None:
        """Record that this is on the disk, as far as it still lies there; make all of it durable.

        Raises:
            OSError: As the system says.
        """
        for page in stored.pages:
            with self._lock:
                if stored.of is not self._values:
                    return  # another object took its place
                span = self._values[page * PAGE :][:PAGE]
                span[span & FLUSHING != 0] ^= FLUSHING | FLUSHED
                self._flushed.add(page)
                self._write(page * PAGE, page * PAGE + len(span))
        sync_data(self._fd)

    def _head(self) -> bytes:
        of = self._object or Prepare(0, 0, 0)
        return HEADER.pack(
            MAGIC,
            self._flags,
            self._block_symbols,
            of.symbol_size,
            of.oid,
            of.size,
            self._inode,
            boot_id(),
        )

    def _replace(self) -> None:
        """Start a record of the object."""
        if self._fd < 0:
            self._fd = self._folder.open_private(self._name)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, self._head(), 0)

    def mark_suspect(self) -> None:
        """Say to later runs that the disk failed to take what was written.

        Raises:
            DiskError: What has the record's name is not ours.
            OSError: As the system says.
        """
        self._flags |= SUSPECT
        if self._read_header() is None:
            self._replace()
        else:  # whichever object it is of
            os.pwrite(self._fd, FLAGS.pack(self._flags), len(MAGIC))
        sync_data(self._fd)

    def _forget(self) -> None:
        """Take what is there for nothing."""
        self._object = None
        self._flags = 0
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)

    def give_up(self) -> None:
        """Say nothing any more of what lies where, only whether the disk failed."""
        self._object = None
        if self._fd < 0:
            return
        try:
            os.ftruncate(self._fd, 0)
            if self._flags:
                os.pwrite(self._fd, self._head(), 0)
        except OSError:
            self.remove()

    def remove(self) -> None:
        """Close the record, and remove it if it is still the one at its name."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                if self._folder.is_at(self._name, self._fd):
                    self._folder.unlink(self._name)
        self.close()

    def close(self) -> None:
        """Close the record; it stays for the next run."""
        if self._fd >= 0:
            close_quietly(self._fd)
            self._fd = -1


def _own(first: int, count: int, block_symbols: int) -> Values:
    """Return what places have that have their own symbols."""
    return own_at(np.arange(first, first + count), block_symbols)


def _perhaps(
    own: Flags, sure: Flags, first: int, symbols: int, block_symbols: int
) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) places of blocks that may be whole, although not all of them is sure.

    Args:
        own, sure: (n,) of each place from `first` on: whether it has its own symbol, as it seems,
            and for sure.
        symbols: Of the object.
    """
    if (own == sure).all():
        return
    noted = np.flatnonzero(own) + first
    for one, other in runs(noted):
        start, stop = int(noted[one]), int(noted[other - 1]) + 1
        start += -start % block_symbols
        if stop < symbols:
            stop -= stop % block_symbols
        if start < stop and not sure[start - first : stop - first].all():
            yield start, stop


def _pages(first: int, flags: Flags) -> Iterator[int]:
    """Yield the pages of the places, from `first` on, whose (n,) `flags` are set."""
    yield from np.unique((np.flatnonzero(flags) + first) // PAGE).tolist()


def _stored(fd: int, places: int) -> Iterator[tuple[int, Values]]:
    """Yield the first place and the values of pieces of the file that are not holes."""
    at, end = 0, min(places, max(0, os.fstat(fd).st_size - HEADER.size) // 2)
    while at < end:
        try:
            # A record may be of a huge object, and hold little.
            data = os.lseek(fd, HEADER.size + 2 * at, os.SEEK_DATA) - HEADER.size
            at = max(at, data // 2)
        except OSError as error:
            if error.errno == errno.ENXIO:  # holes to the end
                return
        count = min(PLACES_AT_ONCE, end - at)
        if count <= 0:
            return
        values = np.frombuffer(os.pread(fd, 2 * count, HEADER.size + 2 * at), "<u2")
        if not len(values):
            return
        yield at, values
        at += len(values)
