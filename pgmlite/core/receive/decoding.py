"""Which blocks wait to be decoded, and what is done about forged symbols (spec: FEC-6, FEC-7).

Theory of operation
===================

**When.** A block is decoded as soon as it has a few symbols more than K and its digest is known;
also if it has all source symbols and some lie in foreign places. The driver first finds out
whether the symbols are enough, and says how many are lacking if not: then so many more are waited
for. A receiver that loses nothing never decodes.

**Forged symbols.** No symbol can be checked alone: a forged one spoils the block that is made with
it, and the digest tells. Then the block becomes *suspect*: it collects surplus symbols, by which
the driver can find the forged ones among all of them, source and repair symbols alike (a *search*).
What it finds is thrown away, and the rest is decoded. What it does not find, because there are too
many of them, costs the whole block, which is collected anew.

**What it may cost.** Each search waits for twice the surplus of the one before, and each decoding
for symbols that came since: who floods a block with forged symbols has to send them all the time.
At most `MOST_GIVEN` blocks are in the driver's hands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pgmlite.core.machine import Decode
from pgmlite.core.receive.coded import SUSPECT_SYMBOLS, CodedBlocks
from pgmlite.core.receive.counts import EXTRA, BlockEvent, BlockState
from pgmlite.core.receive.digests import Candidates, VerifiedTree
from pgmlite.core.receive.origins import Origins
from pgmlite.fec.locate import MARGIN
from pgmlite.wire.request import Symbols

MOST_GIVEN = 2
"""Blocks that the driver decodes at a time, or has in its queue."""

LEAST_SURPLUS = MARGIN + 4
"""Symbols beyond K with which forged ones are looked for: it takes `MARGIN` more than there are."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a block that was decoded, or that did not match its digest.

    Attributes:
        is_right: It is verified.
        recovered: Source symbols that it has by decoding alone.
        fails: It does not match its digest, and that was not known before.
        forged: Symbols that turned out to be forged: they are thrown away.
        waits_for: Surplus symbols that it waits for, to find forged ones; 0: it does not.
        is_dropped: Nothing of it could be used.
        set_aside: Symbols of less credible sources, thrown away.
    """

    is_right: bool = False
    recovered: int = 0
    fails: bool = False
    forged: int = 0
    waits_for: int = 0
    is_dropped: bool = False
    set_aside: int = 0


@dataclass(frozen=True, slots=True)
class _Given:
    """A block in the driver's hands: how many symbols it had then, how many source symbols it
    lacked, whether forged ones are looked for, and which symbols it had.
    """

    had: int
    missing: int
    is_search: bool
    held: Symbols


class Decoding:
    """The blocks of one object that are decoded, and those that are searched."""

    def __init__(self, blocks: CodedBlocks, tree: VerifiedTree, origins: Origins) -> None:
        self._blocks = blocks
        self._tree = tree
        self._origins = origins
        self._candidates = Candidates(tree)
        self._given: dict[int, _Given] = {}
        self._waited: dict[int, int] = {}
        """Surplus that a block waited for before it was searched last."""

    @property
    def has_due(self) -> bool:
        """Whether some block can be given to the driver now."""
        return bool(self._candidates.due) and len(self._given) < MOST_GIVEN

    def add(self, blocks: Sequence[int]) -> None:
        """Let blocks that have enough symbols wait for their turn."""
        self._candidates.add(blocks)

    def learn(self, blocks: range) -> None:
        """Take note that the digests of consecutive blocks are known now."""
        self._candidates.learn(blocks)

    def take_due(self, oid: int) -> list[Decode]:
        """Return what the driver is to decode next."""
        actions: list[Decode] = []
        while self.has_due:
            block = self._candidates.take(0)
            if self._blocks.is_enough(block) and block not in self._given:
                actions.append(self._give(oid, block))
        return actions

    def _give(self, oid: int, block: int) -> Decode:
        blocks = self._blocks
        is_search = block in blocks.suspects
        blocks.counts.move(block, BlockEvent.ENOUGH)
        had = int(blocks.counts.had[block])
        missing, held = blocks.places.missing(block), blocks.held(block)
        self._given[block] = _Given(had, missing, is_search, held)
        payload, esis = blocks.surplus(block)
        return Decode(
            oid,
            block,
            blocks.geometry,
            blocks.places.of(block).copy(),
            payload,
            esis,
            self._tree.block_digest(block),
            is_search,
        )

    def answer(self, block: int, lacks: int, forged: Symbols, *, ok: bool) -> Verdict | None:
        """Take the answer to `Decode`; None: nobody waits for it any more.

        Args:
            forged: (n,) encoding symbol ids.
        """
        blocks, given = self._blocks, self._given.pop(block, None)
        if given is None or blocks.counts.state(block) is not BlockState.DECODING:
            return None
        source = int(blocks.counts.sources[block])
        self._origins.find(block, forged)
        if ok:
            aside = self._origins.acquit(block, np.setdiff1d(given.held, forged))
            lost = given.missing + int(np.count_nonzero(forged < source))
            blocks.fill(block)
            return Verdict(is_right=True, recovered=lost, forged=len(forged) + aside)
        if given.is_search and not len(forged):
            if aside := self._set_aside(block):
                return Verdict(set_aside=aside)
            blocks.drop(block)
            return Verdict(is_dropped=True)
        blocks.forget(block, forged)
        left = given.had - len(forged)
        if left >= source and not 0 < lacks <= source + SUSPECT_SYMBOLS - left:
            return self.suspect(block, len(forged))
        blocks.reopen(block, max(left + lacks, source + EXTRA), is_suspect=False)
        self._look(block)
        return Verdict(forged=len(forged))

    def _look(self, block: int) -> None:
        """Let a block wait for its turn if enough of it came meanwhile."""
        if self._blocks.is_enough(block):
            self.add([block])

    def suspect(self, block: int, forged: int = 0) -> Verdict:
        """Let a block that does not match its digest wait for surplus symbols, or drop it.

        Args:
            forged: Symbols that were found already.
        """
        blocks = self._blocks
        if aside := self._set_aside(block):
            return Verdict(fails=True, forged=forged, set_aside=aside)
        # Some of the ring are lost: what is waited for must not be all that there is.
        most = min(SUSPECT_SYMBOLS, blocks.geometry.repairs(block) * 3 // 4)
        surplus = min(max(LEAST_SURPLUS, 2 * self._waited.get(block, 0)), most)
        if surplus < LEAST_SURPLUS:
            blocks.drop(block)
            return Verdict(fails=True, forged=forged, is_dropped=True)
        self._waited[block] = surplus
        blocks.reopen(block, int(blocks.counts.sources[block]) + surplus, is_suspect=True)
        self._look(block)
        return Verdict(fails=True, forged=forged, waits_for=surplus)

    def _set_aside(self, block: int) -> int:
        """Throw away what less credible sources sent of a wrong block; return how much."""
        blocks = self._blocks
        thrown = self._origins.accuse(block, blocks.held(block))
        if len(thrown):
            blocks.forget(block, thrown)
            needed = int(blocks.counts.sources[block]) + EXTRA
            blocks.reopen(block, needed, is_suspect=False)
            self._look(block)
        return len(thrown)
