"""What the receivers of a group have stored, and which blocks that makes whole, as arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pgmlite.core.receive.counts import EXTRA
from pgmlite.sim.luck import extra_symbols
from pgmlite.wire.batch import Flags
from pgmlite.wire.geometry import Geometry, Ids

Counts = npt.NDArray[np.int64]


class Stock:
    """Encoding symbols at every member of a group.

    A block is whole when all of its source symbols are there, or so many symbols that a random code
    decodes them.
    """

    def __init__(self, geometry: Geometry, members: int, luck: np.random.Generator) -> None:
        """
        Args:
            luck: Draws how many symbols too many each block needs at each member.
        """
        blocks = geometry.blocks
        self.geometry = geometry
        self._full = geometry.rings.full
        cells = (blocks - 1) * self._full + geometry.rings.last
        # Column slices of all members are what packets touch; rows are what NAK machines read.
        self.have: Flags = np.zeros((members, cells), np.bool_)
        """(members, cells): whether each symbol came, those of a block after those of another."""

        self._knows: Flags = np.zeros((members, blocks), np.bool_)
        """(members, blocks): whether the digest is known; before nobody tries to decode."""

        self.is_whole: Flags = np.zeros((members, blocks), np.bool_)
        self.open: Counts = np.full(members, blocks, np.int64)
        """(members,): blocks that are not whole."""

        sources: Counts = geometry.sources(np.arange(blocks, dtype=np.int64))
        self.had: Counts = np.zeros((members, blocks), np.int64)
        """(members, blocks): symbols that came."""

        self.needed: Counts = np.tile(sources + bool(geometry.repair_symbols) * EXTRA, (members, 1))
        """(members, blocks): so many have to come before it is looked whether they are enough."""

        self._missing: Counts = np.tile(sources, (members, 1))
        """(members, blocks): source symbols that did not."""

        self._luck = luck.random((members, blocks)) if geometry.repair_symbols else np.zeros((0, 0))

    def cells(self, ids: Ids) -> Counts:
        """Return the columns of (n,) symbols."""
        return ids.blocks * self._full + ids.esis

    def row(self, member: int, block: int) -> Flags:
        """Return (ring,) which symbols of a block a member has."""
        first = block * self._full
        return self.have[member, first : first + self.geometry.ring(block)]

    def take(self, ids: Ids, kept: Flags) -> None:
        """Store symbols, none of them twice.

        Args:
            kept: (members, n), who gets which of (n,) symbols.
        """
        cells = self.cells(ids)
        first, last = int(cells[0]), int(cells[-1])
        if last - first == len(cells) - 1 and (np.diff(cells) == 1).all():
            span = self.have[:, first : last + 1]
            fresh = kept & ~span
            span |= kept
        else:
            before = self.have[:, cells]
            fresh = kept & ~before
            self.have[:, cells] = before | kept
        is_source = ~self.geometry.are_repairs(ids)
        blocks = np.unique(ids.blocks)
        for block in blocks.tolist():
            mine = fresh if len(blocks) == 1 else fresh[:, ids.blocks == block]
            sources = is_source if len(blocks) == 1 else is_source[ids.blocks == block]
            came = np.count_nonzero(mine, axis=1)
            self.had[:, block] += came
            if sources.all():
                self._missing[:, block] -= came
            elif sources.any():
                self._missing[:, block] -= np.count_nonzero(mine[:, sources], axis=1)
            self._finish(block, np.flatnonzero((came > 0) & ~self.is_whole[:, block]))

    def learn(self, blocks: range, members: Counts) -> None:
        """Let members know the digests of some blocks."""
        self._knows[members, blocks.start : blocks.stop] = True
        for block in blocks:
            self._finish(block, members[~self.is_whole[members, block]])

    def _finish(self, block: int, members: Counts) -> None:
        """Find out who has a block, of the members that got something of it."""
        whole = self._missing[members, block] == 0
        enough = self.had[members, block] >= self.needed[members, block]
        tries = np.flatnonzero(enough & self._knows[members, block] & ~whole)
        if len(tries):
            tried = members[tries]
            lacks = self.lacks(tried, block)
            whole[tries] = lacks <= 0
            self.needed[tried, block] = self.had[tried, block] + lacks
        done = members[whole]
        self.is_whole[done, block] = True
        self.open[done] -= 1

    def lacks(self, members: Counts, block: int) -> Counts:
        """Return (n,) how many symbols more members need to decode a block."""
        extra = extra_symbols(self._missing[members, block], self._luck[members, block])
        lacks: Counts = self.geometry.source(block) + extra - self.had[members, block]
        return lacks


class MemberStock:
    """What one member knows of the symbols that it has, as NAK machines ask for it."""

    def __init__(self, stock: Stock, member: int) -> None:
        self._stock = stock
        self._member = member

    @property
    def had(self) -> Counts:
        """(blocks,) different encoding symbols that came of each block."""
        had: Counts = self._stock.had[self._member]
        return had

    @property
    def wanted(self) -> Counts:
        """(blocks,) how many more each takes before it can be made whole; 0: it is."""
        stock, member = self._stock, self._member
        wanted: Counts = np.maximum(0, stock.needed[member] - stock.had[member])
        wanted[stock.is_whole[member]] = 0
        return wanted

    def lacking(self, block: int, esis: Counts) -> Flags:
        """Return whether each of (n,) encoding symbols of a block is not there."""
        return ~self._stock.row(self._member, block)[esis]
