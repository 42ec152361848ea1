"""Which blocks wait to be compared with their digests (spec: RCV-8, RCV-11, RCV-12).

Also what may be there before the first packet: bytes that match are as good as any that come, and
bytes that may match are not written over before they were looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from pgmlite.core.geometry import Geometry
from pgmlite.core.machine import Held, Verify
from pgmlite.core.receive.blocks import Blocks, Flags, IndexAssembly
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.control import Manifest
from pgmlite.wire.request import Symbols


class Verification:
    """The blocks of one object on their way from stored to verified."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._extents: Sequence[tuple[int, int]] = ()
        """Bytes that may match and wait for the manifest."""

        self._unlooked: Flags = np.zeros(0, np.bool_)
        """(blocks,): whether bytes that may match lie there and have not been looked at."""

        self._waiting = 0
        """Blocks that are unlooked."""

        self._has_record = False
        self._believed: set[int] = set()
        """Blocks that are whole by the word of an earlier run's record."""

        self._geometry: Geometry | None = None
        self._index: IndexAssembly | None = None
        self._pending: deque[int] = deque()
        self._verified: Flags = np.zeros(0, np.bool_)

    # What is there before the first packet.

    @property
    def guards(self) -> bool:
        """Whether somewhere nothing may be written over yet (spec: RCV-8)."""
        return bool(self._extents or self._waiting)

    def early(self, symbols: Symbols) -> Flags | None:
        """Return which of (n,) `symbols` must not be stored yet; None: all may."""
        if self._extents:
            return np.ones(len(symbols), np.bool_)  # where blocks begin is not known yet
        if not self._waiting or self._geometry is None:
            return None
        early = self._unlooked[self._geometry.blocks_of(symbols)]
        return early if early.any() else None

    def hold(self, held: Held) -> None:
        """Take what is there before the first packet."""
        for first, symbols in held.symbols:
            self._blocks.hold(first, symbols)
        self._has_record = bool(held.symbols)
        self._extents = held.extents
        if self._geometry:
            self._group(self._geometry)

    def learn(self, manifest: Manifest, geometry: Geometry) -> None:
        """Take the manifest: group the symbols in blocks, note which may be whole."""
        self._geometry = geometry
        self._index = IndexAssembly(manifest)
        self._index.check()
        self._verified = np.zeros(geometry.blocks, np.bool_)
        self._unlooked = np.zeros(geometry.blocks, np.bool_)
        self._group(geometry)

    def _group(self, geometry: Geometry) -> None:
        """Note the blocks that may be whole, and those in which bytes lie that may match."""
        whole = self._blocks.group(geometry)
        if self._has_record:
            self._believed.update(whole)
        # spec: RCV-8: the index is the journal: what matches it is there, whoever wrote it.
        for start, stop in self._extents:
            over = geometry.blocks_over(start, stop)
            self._unlooked[over.start : over.stop] = True
        self._extents = ()
        self._unlooked[whole] = False  # they are looked at anyway
        found = np.flatnonzero(self._unlooked)
        self._waiting = len(found)
        self._pending = deque([*whole, *found.tolist()])

    # Digests.

    def take_digests(self, batch: PacketBatch, head: int) -> bool:
        """Take packets that carry digests of blocks; return whether they were right.

        Args:
            head: Symbol of the latest ODATA.
        """
        index, geometry = self._index, self._geometry
        if index is None or geometry is None or index.is_verified:
            return True  # without the manifest its size is unknown
        is_right = index.add(batch.offsets, batch.payload)
        if index.is_verified and self._waiting:
            # Look first at what the carousel brings next: it must not come too early.
            first = geometry.block_of(head)
            order = sorted(self._pending, key=lambda block: (block - first) % geometry.blocks)
            self._pending = deque(order)
        return is_right

    # What is looked at.

    def add(self, whole: Sequence[int]) -> None:
        """Let blocks that became whole wait to be looked at."""
        self._pending.extend(whole)

    @property
    def has_due(self) -> bool:
        """Whether some block can be looked at now."""
        return bool(self._pending and self._index and self._index.is_verified)

    def take_due(self, oid: int, most: int) -> list[Verify]:
        """Return what is to be looked at next."""
        index, geometry = self._index, self._geometry
        if index is None or geometry is None or not self.has_due:
            return []
        actions: list[Verify] = []
        while self._pending and len(actions) < most:
            block = self._pending.popleft()
            if not self._verified[block]:
                offset, length = geometry.extent(block)
                actions.append(Verify(oid, block, offset, length, index.block_digest(block)))
        return actions

    def judge(self, block: int, *, ok: bool) -> bool:
        """Take the answer to `Verify`; return whether what came for the block was damaged."""
        geometry = self._geometry
        if geometry is None:
            return False
        self._waiting -= int(self._unlooked[block])
        self._unlooked[block] = False
        if ok:
            self._blocks.fill(geometry, block)
            self._verified[block] = True
            return False
        if not self._blocks.is_whole(block):
            return False  # the guess that an earlier run had finished it was wrong
        # spec: RCV-6
        self._blocks.drop(geometry, block)
        is_believed = block in self._believed
        self._believed.discard(block)
        return not is_believed  # the record that an earlier run kept was wrong: nobody sent these

    def doubt(self, blocks: Sequence[int]) -> None:
        """Take blocks that were verified for missing."""
        geometry = self._geometry
        if geometry is None:
            return
        for block in blocks:
            self._blocks.drop(geometry, block)
            self._verified[block] = False

    @property
    def digests(self) -> bytes | None:
        """The digests of all blocks, if they are known and every block was verified."""
        index = self._index
        if index is None or not index.is_verified or not self._verified.all():
            return None
        return index.digests
