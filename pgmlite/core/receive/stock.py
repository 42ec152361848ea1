"""What of one object is there: which symbols are stored where, and which blocks are right.

It takes symbols and nodes of the tree, and says what is to be stored, verified and decoded. Where
they come from, and what is asked for, is the transfer's business.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Damaged
from pgmlite.core.machine import Action, Decode, Held, Store, Verify
from pgmlite.core.receive.blocks import Blocks, Kept
from pgmlite.core.receive.coded import CodedBlocks
from pgmlite.core.receive.counters import ReceiverCounters
from pgmlite.core.receive.counts import Numbers
from pgmlite.core.receive.decoding import Verdict
from pgmlite.core.receive.origins import Origins
from pgmlite.core.receive.verification import Verification
from pgmlite.wire.batch import Flags, Octets, PacketBatch
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry, Ids, Sizes
from pgmlite.wire.layout import Tree
from pgmlite.wire.manifest import Manifest
from pgmlite.wire.request import Symbols


class Stock:
    """The symbols of one object."""

    def __init__(
        self, oid: int, sizes: Sizes, *, config: ReceiverConfig, counters: ReceiverCounters
    ) -> None:
        """
        Args:
            counters: Of the receiver, over all objects.
        """
        self._oid = oid
        self._sizes = sizes
        self._config = config
        self._counters = counters
        plain = self._plain = Blocks(sizes)
        self._coded: CodedBlocks | None = None
        self._geometry: Geometry | None = None
        self._unused: Manifest | None = None
        """The manifest, as long as nothing was worked out of its size."""

        self._collected: list[Symbols] = []
        """What came before the manifest."""

        self._origins = Origins()
        self._verification = Verification(plain, self._origins)

    # What there is.

    @property
    def had(self) -> Numbers:
        """(blocks,) different encoding symbols that are held of each block."""
        self._group()
        return self._coded.counts.had if self._coded else self._plain.had

    @property
    def wanted(self) -> Numbers:
        """(blocks,) how many more each block takes, at least, before it can be made whole.

        0: it is whole, or somebody is about to find out.
        """
        self._group()
        return self._coded.counts.lacks if self._coded else self._plain.lacks

    @property
    def progress(self) -> tuple[int, int]:
        """How much is stored, and how much there is, in source symbols."""
        return (self._coded or self._plain).stored, self._sizes.symbols

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The (start, stop) byte ranges of the object that are not stored."""
        return (self._coded or self._plain).gaps

    def lacking(self, block: int, esis: Symbols) -> Flags:
        """Return whether each of (n,) encoding symbols of a block is not held."""
        self._group()
        return ~(self._coded or self._plain).holds(block, esis)

    @property
    def guards(self) -> bool:
        """Whether somewhere nothing may be written over yet (spec: RCV-8)."""
        return self._verification.guards

    @property
    def has_due(self) -> bool:
        """Whether some block can be verified or decoded now."""
        return self._verification.has_due

    @property
    def digests(self) -> bytes | None:
        """The digests of all blocks, once every block was verified."""
        return self._verification.digests

    @property
    def forgers(self) -> dict[str, int]:
        """Addresses from which wrong symbols came, and how many, as far as that can be said."""
        return dict(self._origins.forgers)

    # What comes.

    def shuns(self, batch: PacketBatch) -> bool:
        """Whether data packets are left aside for where they come from; count them if so."""
        if not self._origins.shuns(batch.source, len(batch)):
            return False
        self._counters.refused["shunned"] += len(batch)
        return True

    def hold(self, held: Held) -> None:
        """Take what is there before the first packet."""
        if held.lying:
            self._group()
        self._verification.hold(held)

    def learn(self, manifest: Manifest) -> None:
        """Take the manifest: from now on there are blocks, and maybe repair symbols."""
        collected, self._collected = self._collected, []
        if manifest.tiles_digest is not None:
            # spec: RCV-19: nobody knows whether they are what was signed.
            for symbols in collected:
                self._plain.forget(symbols)
                self._counters.fetched -= len(symbols)
                self._counters.early += len(symbols)
        # spec: RCV-18: its size may be made up, and many of them may come.
        self._geometry, self._unused = manifest.geometry, manifest
        if self._plain.stored or not manifest.geometry.symbols:
            self._group()

    def _group(self) -> None:
        """Group the symbols in blocks, if that was not done since the manifest came."""
        manifest, self._unused = self._unused, None
        if manifest is None:
            return
        geometry, plain = manifest.geometry, self._plain
        if geometry.is_coded:
            coded = self._coded = CodedBlocks(geometry, self._config.max_surplus)
            coded.places.take(plain.have, sorted(plain.touched))
            for before in plain.foreign:
                coded.hold(before)
            # What lies in their places is known to `coded` alone from now on.
            self._plain = Blocks(Sizes(0, self._sizes.symbol_size))
        else:
            plain.group(geometry)
        self._origins.learn(geometry)
        self._verification.learn(manifest, self._coded or plain)

    def take_nodes(self, batch: PacketBatch) -> None:
        """Take packets that carry nodes of the tree of blocks, those of others not."""
        mine = batch.rows["esi"] == Tree.BLOCKS
        self._counters.nodes_unused += len(batch) - int(np.count_nonzero(mine))
        batch = batch.select(mine)
        self._group()
        self._verification.take_nodes(batch, self._counters)

    def right(self, batch: PacketBatch) -> PacketBatch:
        """Return the data packets that name symbols of the object; count the others."""
        # spec: PKT-13: ids are known once the manifest is.
        geometry, esis = self._geometry, batch.rows["esi"].astype(np.int64)
        if geometry is None:
            return batch
        names = geometry.repairs_at if batch.has_repair_symbols else geometry.names
        good = names(batch.offsets, esis)
        if good.all():
            return batch
        self._counters.refused["esi"] += len(batch) - int(np.count_nonzero(good))
        return batch.select(good)

    def keep(self, batch: PacketBatch) -> list[Action]:
        """Store those symbols of a batch that are new and may be stored."""
        self._group()
        counters, symbols, payload = (
            self._counters,
            self._sizes.numbers(batch.offsets),
            batch.payload,
        )
        if batch.has_repair_symbols:
            counters.repair_symbols_received += len(batch)
            if self._coded is None:
                # Which place a block has for them is known once the manifest is.
                counters.early += len(batch)
                return []
        esis = batch.rows["esi"].astype(np.int64)
        barred = self._barred(batch)
        if barred is not None:
            symbols, payload, esis = symbols[~barred], payload[~barred], esis[~barred]
        early = self._verification.early(symbols)
        if early is not None:
            counters.early += int(np.count_nonzero(early))
            symbols, payload, esis = symbols[~early], payload[~early], esis[~early]
        if not len(symbols):
            return []
        kept = self._add(batch.source, symbols, esis, payload)
        self._verification.add(kept.whole, kept.enough)
        counters.fetched += len(kept.places) + kept.spare
        counters.duplicates += kept.duplicates
        counters.unneeded += kept.unneeded
        return self._store(kept, payload)

    def _barred(self, batch: PacketBatch) -> Flags | None:
        """Return which packets their source must not bring; None: it may bring all. Count them."""
        if self._geometry is None:
            return None
        barred = self._origins.barred(batch.source, batch.offsets // self._geometry.block_size)
        if barred is not None:
            self._counters.refused["shunned"] += int(np.count_nonzero(barred))
        return barred

    def _add(self, source: Endpoint, symbols: Symbols, esis: Symbols, payload: Octets) -> Kept:
        """Mark (n,) symbols as held; note who sent them, where several do."""
        geometry, blocks = self._geometry, self._coded or self._plain
        if geometry is None:
            kept = self._plain.add(symbols)
            self._collected.append(kept.places)
            self._origins.collect(source, kept.places)
            return kept
        ids = Ids(geometry.blocks_of(symbols), esis)
        is_noted = self._origins.is_noted(source)
        before = blocks.hold_each(ids) if is_noted else None
        kept = self._coded.add(ids, payload) if self._coded else self._plain.add(symbols)
        if before is not None:
            fresh = ~before & blocks.hold_each(ids)
            self._origins.note(source, Ids(ids.blocks[fresh], ids.esis[fresh]))
        return kept

    def _store(self, kept: Kept, payload: Octets) -> list[Action]:
        may_fill = not self._verification.guards
        runs = (self._coded or self._plain).runs(kept.places, may_fill=may_fill)
        if not runs:
            return []
        rows = payload if isinstance(kept.rows, slice) else payload[kept.rows]
        short = self._sizes.symbol_size - rows.shape[1]
        if kept.esis is not None and short:
            # The object's last symbol, in a place that is not the last.
            rows = np.pad(rows, ((0, 0), (0, short)))
        return [Store(self._oid, runs, rows, kept.esis)]

    # What becomes of blocks.

    def take_due(self, head: int) -> list[Verify | Decode]:
        """Return what is to be verified and decoded next.

        Args:
            head: Symbol of the latest ODATA.
        """
        return self._verification.take_due(self._oid, self._config.resume_blocks, head)

    def verified(self, now: int, block: int, *, ok: bool) -> list[Action]:
        """Take the answer to `Verify`; return what there is to tell."""
        return self._tell(now, block, self._verification.judge(block, ok=ok))

    def decoded(
        self, now: int, block: int, lacks: int, forged: Sequence[int], *, ok: bool
    ) -> list[Action]:
        """Take the answer to `Decode`; return what there is to tell."""
        esis = np.array(forged, np.int64)
        verdict = self._verification.decoded(block, lacks, esis, ok=ok)
        self._counters.decoded += verdict.is_right
        self._counters.recovered += verdict.recovered
        return self._tell(now, block, verdict)

    def _tell(self, now: int, block: int, verdict: Verdict) -> list[Action]:
        counters = self._counters
        counters.damaged += verdict.fails
        counters.forged += verdict.forged
        dropped, aside = verdict.is_dropped, verdict.set_aside
        if not (verdict.fails or verdict.forged or dropped or aside):
            return []
        return [Damaged(now, self._oid, block, verdict.forged, verdict.waits_for, dropped, aside)]

    def doubt(self, now: int, blocks: Sequence[int]) -> list[Action]:
        """Take blocks that were verified for missing; return what there is to tell."""
        self._verification.doubt(blocks)
        self._counters.damaged += len(blocks)
        return [Damaged(now, self._oid, block, is_dropped=True) for block in blocks]
