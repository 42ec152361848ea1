"""The repair symbols of an object that is sent, each computed once where there is room for them.

A thread goes ahead of the carousel, in passes of some visits over all blocks, so that the first
repair symbols of every block are there early; what is asked for sooner is computed at once. They
lie in a file without a name, which takes no memory and is gone with the process. What has no room
there is computed each time that it is sent.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread

import numpy as np
import numpy.typing as npt

from pgmlite.core.ring import Ring
from pgmlite.errors import DiskError
from pgmlite.fec.codec import RandomLinear
from pgmlite.storage.source import SourceFile
from pgmlite.storage.system import close_quietly, reason
from pgmlite.wire.batch import Octets
from pgmlite.wire.geometry import Geometry, Ids, pieces
from pgmlite.wire.layout import VISIT_SYMBOLS

PASS_SYMBOLS = 32 * VISIT_SYMBOLS
"""Repair symbols of a block that are computed in one go: its parities cost as much as they do."""

ROOM_SHARE = 0.5
"""Of what a disk has free: more is not taken for what can be computed."""

AHEAD = 0.75
"""Of what is sent before the first repair symbol; then the thread begins: who loses nothing does
not need it."""

CODEC = RandomLinear()


def room_folder() -> str:
    """Return where large files that nobody keeps belong."""
    # /tmp is memory on many systems. What is made there has no name that others could take.
    wanted = os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108
    return wanted if os.access(wanted, os.W_OK | os.X_OK) else tempfile.gettempdir()


class EncodedSymbols:
    """The repair symbols of one object.

    Attributes:
        warnings: What the user should know; whoever shows it empties the list.
    """

    def __init__(
        self,
        source: SourceFile,
        geometry: Geometry,
        *,
        carousels: Sequence[tuple[Ring, float]] = (),
        folder: Callable[[], str] = room_folder,
        spare: int = 0,
    ) -> None:
        """
        Args:
            carousels: In whose orders they will be sent, and how fast each is beside the others;
                none: only what is asked for is computed.
            folder: Where they are kept.
            spare: Bytes there that will soon be free: those of an object that this one replaces.
        """
        self.warnings: list[str] = []
        self._source = source
        self._geometry = geometry
        self._passes = pieces(geometry.repair_symbols, PASS_SYMBOLS)
        self._order: Sequence[int] = ()
        self._begins_at = 0
        if carousels and geometry.is_coded:
            self._order, self._begins_at = _plan(geometry, carousels)
        self._sent = 0
        self._fd, self._kept_blocks = self._open(folder, spare)
        self._done: npt.NDArray[np.bool_] = np.zeros((geometry.blocks, self._passes), np.bool_)
        self._lock = Lock()
        self._thread: Thread | None = None
        self._has_to_end = Event()
        self._error: DiskError | None = None
        self.made = 0
        """Symbols that the thread computed so far."""

    @property
    def total(self) -> int:
        """Symbols that there is room for."""
        geometry = self._geometry
        full = min(self._kept_blocks, geometry.blocks - 1) * geometry.repair_symbols
        has_last = self._kept_blocks == geometry.blocks
        return full + (geometry.repairs(geometry.blocks - 1) if has_last else 0)

    @property
    def is_at_work(self) -> bool:
        """Whether the thread computes."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def occupied(self) -> int:
        """Bytes of the disk that they take."""
        return os.fstat(self._fd).st_blocks * 512 if self._fd >= 0 else 0

    def _open(self, folder: Callable[[], str], spare: int) -> tuple[int, int]:
        """Return a file without a name, and for how many blocks it has room; -1 and 0: for none."""
        each = self._geometry.repair_symbols * self._geometry.symbol_size
        if not each or not self._geometry.blocks:
            return -1, 0
        try:
            name = folder()
            disk = os.statvfs(name)
            room = int((disk.f_bavail * disk.f_frsize + spare) * ROOM_SHARE)
            with tempfile.TemporaryFile(dir=name) as file:
                return os.dup(file.fileno()), min(self._geometry.blocks, room // each)
        except OSError:
            return -1, 0

    # What is sent.

    def passing(self, symbols: int) -> None:
        """Note that so many symbols are being sent; the thread begins in time."""
        self._sent += symbols
        if self._thread is None and self._order and self._sent >= self._begins_at:
            self._start()

    def _start(self) -> None:
        self._thread = Thread(target=self._work, name="encode", daemon=True)
        self._thread.start()

    def read(self, block: int, first: int, count: int) -> Octets:
        """Return `count` repair symbols of a block from the `first` of them on, (count, T).

        Raises:
            DiskError: The source can't be read, or changed.
        """
        if self._error:
            raise self._error
        if block >= self._kept_blocks:
            return self._encode(block, first, count)
        found: Octets = np.zeros((count, self._geometry.symbol_size), np.uint8)
        for number in range(first // PASS_SYMBOLS, (first + count - 1) // PASS_SYMBOLS + 1):
            if not self._done[block, number] and not self._make(block, number):
                return self._encode(block, first, count)
        try:
            got = os.preadv(self._fd, [found.reshape(-1).data], self._offset(block, first))
        except OSError:
            got = 0
        return found if got == found.size else self._encode(block, first, count)

    def _offset(self, block: int, first: int) -> int:
        """Return where the repair symbols of a block are in the file, from the `first` on."""
        geometry = self._geometry
        return (block * geometry.repair_symbols + first) * geometry.symbol_size

    # How they are made.

    def _work(self) -> None:
        """Compute all that there is room for, in the order of sending."""
        try:
            for number in self._order:
                for block in range(self._kept_blocks):
                    if self._has_to_end.is_set() or not self._make(block, number):
                        return
        except DiskError as error:
            self._error = error

    def _make(self, block: int, number: int) -> bool:
        """Compute one pass of a block, once; False: the file takes no more.

        Raises:
            DiskError: The source can't be read, or changed.
        """
        first = number * PASS_SYMBOLS
        count = min(PASS_SYMBOLS, self._geometry.repairs(block) - first)
        if count <= 0 or self._done[block, number]:
            return True
        if self._fd < 0:
            return False
        symbols = self._encode(block, first, count)
        try:
            done = os.pwrite(self._fd, symbols.reshape(-1).data, self._offset(block, first))
            if done != symbols.size:
                raise OSError(None, "the disk is full")
        except OSError as error:
            self._give_up(error)
            return False
        with self._lock:
            self.made += 0 if self._done[block, number] else count
            self._done[block, number] = True
        return True

    def _give_up(self, error: OSError) -> None:
        """Keep what there is, and no more of it."""
        with self._lock:
            if not self._has_to_end.is_set():
                self._has_to_end.set()
                self.warnings.append(
                    f"repair symbols can't be kept ({reason(error)}): they are computed anew each "
                    "time, which is slower"
                )
            # What is there stays good; the rest has no room.
            whole = np.flatnonzero(~self._done.all(axis=1))
            self._kept_blocks = min(self._kept_blocks, int(whole[0]) if len(whole) else 0)

    def _encode(self, block: int, first: int, count: int) -> Octets:
        geometry = self._geometry
        k, size = geometry.source(block), geometry.symbol_size
        offset, length = geometry.extent(block)
        source: Octets = np.zeros((k, size), np.uint8)
        self._source.read_into(source.reshape(-1).data[:length], offset)
        return CODEC.encode(source, k + np.arange(first, first + count))

    def close(self) -> None:
        """End the thread; forget all symbols."""
        self._has_to_end.set()
        if self._thread is not None:
            self._thread.join()
        if self._fd >= 0:
            close_quietly(self._fd)
            self._fd = -1


def _plan(geometry: Geometry, carousels: Sequence[tuple[Ring, float]]) -> tuple[Sequence[int], int]:
    """Return the passes in the order in which carousels come to them, and after how many symbols
    that are sent in all the thread begins.
    """
    esis = geometry.source(0) + np.arange(geometry.repairs(0), dtype=np.int64)
    ids = Ids(np.zeros(len(esis), np.int64), esis)
    total = sum(speed for _, speed in carousels)
    # Places as parts of all that is sent until then.
    places = [ring.places(ids, 0) * (total / speed) for ring, speed in carousels]
    soonest = np.minimum.reduce(places)
    first_of_pass = np.minimum.reduceat(soonest, np.arange(0, len(esis), PASS_SYMBOLS))
    order: list[int] = np.argsort(first_of_pass, kind="stable").tolist()
    return order, int(AHEAD * float(soonest.min()))
