"""One object being received: its symbols, its digests, what may be there before the first packet.

spec/protocol.md section 6 (RCV-8, RCV-10, RCV-11).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np

from pgmlite.core.config import NakConfig
from pgmlite.core.machine import Held
from pgmlite.core.receive.blocks import SymbolMap
from pgmlite.core.receive.digests import Candidates, VerifiedTree
from pgmlite.core.receive.nak import NakMachine
from pgmlite.core.receive.sessions import Flags
from pgmlite.wire.control import Manifest
from pgmlite.wire.request import Symbols


class Transfer:
    """One object being received; thrown away whole when another takes its place."""

    def __init__(
        self, oid: int, size: int, symbol_size: int, now: int, config: NakConfig, rng: Random
    ) -> None:
        self.oid = oid
        self.size = size
        self.symbol_size = symbol_size
        self.heard = now
        self.odata_bytes = 0
        self.symbols = SymbolMap(size, symbol_size)
        self.naks = NakMachine(config, self.symbols.have, rng=rng)
        self.head = 0
        """Symbol of the latest ODATA."""

        self.extents: Sequence[tuple[int, int]] = ()
        """Bytes that may match and wait for the manifest."""

        self.unlooked: Flags = np.zeros(0, np.bool_)
        """(blocks,): whether bytes that may match lie there and have not been looked at."""

        self.waiting = 0
        """Blocks that are unlooked."""

        self.has_record = False
        self.believed: set[int] = set()
        """Blocks that are whole by the word of an earlier run's record."""

        self.manifest: Manifest | None = None
        self.tree: VerifiedTree | None = None
        self.candidates: Candidates | None = None
        self.verified: Flags = np.zeros(0, np.bool_)

    @property
    def guards(self) -> bool:
        """Whether somewhere nothing may be written over yet (spec: RCV-8)."""
        return bool(self.extents or self.waiting)

    def early(self, symbols: Symbols) -> Flags | None:
        """Return which of (n,) `symbols` must not be stored yet; None: all may."""
        if self.extents:
            return np.ones(len(symbols), np.bool_)  # where blocks begin is not known yet
        if not self.waiting or self.manifest is None:
            return None
        early = self.unlooked[symbols // self.manifest.block_symbols]
        return early if early.any() else None

    def hold(self, held: Held) -> None:
        """Take what is there before the first packet."""
        for first, symbols in held.symbols:
            self.symbols.hold(first, symbols)
        self.has_record = bool(held.symbols)
        self.extents = held.extents
        self._group()

    def looked_at(self, block: int) -> None:
        """Allow to write over what lies there."""
        self.waiting -= int(self.unlooked[block])
        self.unlooked[block] = False

    def learn(self, manifest: Manifest) -> None:
        """Take the manifest: group the symbols in blocks, note which may be whole."""
        self.manifest = manifest
        self.tree = VerifiedTree(manifest)
        self.candidates = Candidates(self.tree)
        self.verified = np.zeros(manifest.blocks, np.bool_)
        self.unlooked = np.zeros(manifest.blocks, np.bool_)
        self.naks.set_blocks(manifest.block_symbols)
        self._group()

    def _group(self) -> None:
        """Note the blocks that may be whole, and those in which bytes lie that may match."""
        manifest, candidates = self.manifest, self.candidates
        if manifest is None or candidates is None:
            return
        whole = self.symbols.set_blocks(manifest.block_symbols)
        if self.has_record:
            self.believed.update(whole)
        # spec: RCV-8: the tree is the journal: what matches it is there, whoever wrote it.
        for start, stop in self.extents:
            first = start // manifest.block_size
            self.unlooked[first : -(-min(stop, self.size) // manifest.block_size)] = True
        self.extents = ()
        self.unlooked[whole] = False  # they are looked at anyway
        found = np.flatnonzero(self.unlooked)
        self.waiting = len(found)
        candidates.add(whole)
        candidates.add(found)

    @property
    def due(self) -> int:
        """Blocks that can be looked at now."""
        return self.candidates.due if self.candidates else 0

    def next_due(self, manifest: Manifest, candidates: Candidates) -> int:
        """Return the block to look at next; only if one is due."""
        # What the carousel brings next must not come too early.
        first = self.head // manifest.block_symbols if self.waiting else 0
        return candidates.take(first)
