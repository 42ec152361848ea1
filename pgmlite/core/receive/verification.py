"""Which blocks wait to be compared with their digests (spec: RCV-8, RCV-11, RCV-12).

Also what may be there before the first packet: bytes that match are as good as any that come, and
bytes that may match are not written over before they were looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pgmlite.core.machine import Decode, Held, Verify
from pgmlite.core.receive.blocks import Blocks, HeldBefore
from pgmlite.core.receive.coded import CodedBlocks
from pgmlite.core.receive.counters import ReceiverCounters
from pgmlite.core.receive.decoding import Decoding, Verdict
from pgmlite.core.receive.digests import Candidates, VerifiedTree
from pgmlite.core.receive.origins import Origins
from pgmlite.errors import RefusedPacket
from pgmlite.wire.batch import Flags, PacketBatch
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.manifest import Manifest
from pgmlite.wire.request import Symbols


class Verification:
    """The blocks of one object on their way from stored to verified."""

    def __init__(self, blocks: Blocks, origins: Origins) -> None:
        self._origins = origins
        self._blocks: Blocks | CodedBlocks = blocks
        self._decoding: Decoding | None = None
        self._extents: Sequence[tuple[int, int]] = ()
        """Bytes that may match and wait for the manifest."""

        self._unlooked: Flags = np.zeros(0, np.bool_)
        """(blocks,): whether bytes that may match lie there and have not been looked at."""

        self._waiting = 0
        """Blocks that are unlooked."""

        self._has_record = False
        self._has_foreign = False
        """Some place has another symbol than its own, and the manifest is not there."""

        self._believed: set[int] = set()
        """Blocks that are whole by the word of an earlier run's record."""

        self._geometry: Geometry | None = None
        self._tree: VerifiedTree | None = None
        self._candidates: Candidates | None = None
        self._verified: Flags = np.zeros(0, np.bool_)

    # What is there before the first packet.

    @property
    def guards(self) -> bool:
        """Whether somewhere nothing may be written over yet (spec: RCV-8)."""
        return bool(self._extents or self._waiting or self._has_foreign)

    def early(self, symbols: Symbols) -> Flags | None:
        """Return which of (n,) `symbols` must not be stored yet; None: all may."""
        if self._extents or self._has_foreign:
            return np.ones(len(symbols), np.bool_)  # where blocks begin is not known yet
        if not self._waiting or self._geometry is None:
            return None
        early = self._unlooked[self._geometry.blocks_of(symbols)]
        return early if early.any() else None

    def hold(self, held: Held) -> None:
        """Take what is there before the first packet."""
        for first, lying in held.lying:
            self._blocks.hold(HeldBefore(first, lying, held.block_symbols))
        self._has_record = bool(held.lying)
        self._extents = held.extents
        if self._geometry:
            self._look(self._geometry)
        else:
            self._has_foreign = isinstance(self._blocks, Blocks) and bool(self._blocks.foreign)

    def learn(self, manifest: Manifest, blocks: Blocks | CodedBlocks) -> None:
        """Take the manifest, and what is known of the blocks now: note which may be whole."""
        geometry = self._geometry = manifest.geometry
        self._blocks, self._has_foreign = blocks, False
        tree = self._tree = VerifiedTree(manifest.tree, manifest.tree_digest)
        self._candidates = Candidates(tree)
        self._decoding = None
        if isinstance(blocks, CodedBlocks):
            self._decoding = Decoding(blocks, tree, self._origins)
        self._verified = np.zeros(geometry.blocks, np.bool_)
        self._unlooked = np.zeros(geometry.blocks, np.bool_)
        self._look(geometry)

    def _look(self, geometry: Geometry) -> None:
        """Note the blocks that may be whole, and those in which bytes lie that may match."""
        whole, enough = self._blocks.look()
        if self._has_record:
            self._believed.update(whole)
        # spec: RCV-8: the tree is the journal: what matches it is there, whoever wrote it.
        for start, stop in self._extents:
            over = geometry.blocks_over(start, stop)
            self._unlooked[over.start : over.stop] = True
        self._extents = ()
        self._unlooked[whole + enough] = False  # they are looked at anyway
        found = np.flatnonzero(self._unlooked)
        self._waiting = len(found)
        self.add(whole, enough)
        if self._candidates:
            self._candidates.add(found)

    # Digests.

    def take_nodes(self, batch: PacketBatch, counters: ReceiverCounters) -> None:
        """Take packets that carry nodes of the tree of blocks."""
        tree, candidates = self._tree, self._candidates
        if tree is None or candidates is None:
            counters.nodes_unused += len(batch)  # the root is in the manifest
            return
        for number, node in zip(batch.offsets.tolist(), batch.payload, strict=True):
            try:
                known = tree.add(number, node)
            except RefusedPacket as refusal:
                counters.refused[refusal.reason] += 1
                continue
            if known is None:
                counters.nodes_unused += 1
            else:
                candidates.learn(known)
                if self._decoding:
                    self._decoding.learn(known)

    # What is looked at.

    def add(self, whole: Sequence[int], enough: Sequence[int]) -> None:
        """Let blocks that became whole wait to be looked at, and others to be decoded."""
        if self._candidates:
            self._candidates.add(whole)
        if self._decoding:
            self._decoding.add(enough)

    @property
    def has_due(self) -> bool:
        """Whether some block can be looked at or decoded now."""
        if self._candidates and self._candidates.due:
            return True
        return bool(self._decoding and self._decoding.has_due)

    def take_due(self, oid: int, most: int, head: int) -> list[Verify | Decode]:
        """Return what is to be looked at next, and what is to be decoded.

        Args:
            most: Blocks to be looked at, at most.
            head: Symbol of the latest ODATA.
        """
        geometry, tree, candidates = self._geometry, self._tree, self._candidates
        if geometry is None or tree is None or candidates is None:
            return []
        # What the carousel brings next must not come too early.
        first = geometry.block_of(head) if self._waiting else 0
        actions: list[Verify | Decode] = []
        while candidates.due and len(actions) < most:
            block = candidates.take(first)
            if not self._verified[block]:
                offset, length = geometry.extent(block)
                actions.append(Verify(oid, block, offset, length, tree.block_digest(block)))
        if self._decoding:
            actions += self._decoding.take_due(oid)
        return actions

    def judge(self, block: int, *, ok: bool) -> Verdict:
        """Take the answer to `Verify`."""
        if self._geometry is None:
            return Verdict()
        self._waiting -= int(self._unlooked[block])
        self._unlooked[block] = False
        if ok:
            aside = 0
            if self._blocks.is_whole(block):
                aside = self._origins.acquit(block, np.arange(self._geometry.source(block)))
            self._blocks.fill(block)
            self._verified[block] = True
            return Verdict(is_right=True, forged=aside)
        if not self._blocks.is_whole(block):
            return Verdict()  # the guess that an earlier run had finished it was wrong
        # spec: RCV-6
        verdict = self._fail(block)
        if block in self._believed:
            # The record that an earlier run kept was wrong: nobody sent these.
            self._believed.discard(block)
            return Verdict(is_dropped=verdict.is_dropped)
        return verdict

    def _fail(self, block: int) -> Verdict:
        """Do what is done with a block whose symbols do not match its digest."""
        if self._decoding:
            return self._decoding.suspect(block)
        thrown = self._origins.accuse(block, self._blocks.held(block))
        if len(thrown) and self._geometry and isinstance(self._blocks, Blocks):
            first = self._geometry.span(block, block + 1).start
            self._blocks.forget(first + thrown)
            return Verdict(fails=True, set_aside=len(thrown))
        self._blocks.drop(block)
        return Verdict(fails=True, is_dropped=True)

    def decoded(self, block: int, lacks: int, forged: Symbols, *, ok: bool) -> Verdict:
        """Take the answer to `Decode`; what nobody waits for is nothing."""
        verdict = self._decoding.answer(block, lacks, forged, ok=ok) if self._decoding else None
        if verdict and verdict.is_right:
            self._verified[block] = True
        return verdict or Verdict()

    def doubt(self, blocks: Sequence[int]) -> None:
        """Take blocks that were verified for missing."""
        for block in blocks:
            self._blocks.drop(block)
            self._verified[block] = False

    @property
    def digests(self) -> bytes | None:
        """The digests of all blocks, once every block was verified."""
        return self._tree.digests if self._tree and self._verified.all() else None
