"""The stand-alone repairer: a sender without a schedule, beside the receivers (spec: REP-8).

It hears the group, answers NAKs, and sends nothing else but SPMs.
"""

from __future__ import annotations

from random import Random

import numpy as np

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import Action
from pgmlite.core.needs import Exact
from pgmlite.core.ring import Ring
from pgmlite.core.send.schedule import Coming, Schedule, later_than
from pgmlite.core.send.sender import Sender
from pgmlite.errors import RefusedPacket
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.control import Manifest
from pgmlite.wire.digests import BlockTree
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import DATA_TYPES, Order, PacketType
from pgmlite.wire.request import parse_request


class Overheard:
    """Where the carousel of others is, by what is heard of it."""

    def __init__(self, geometry: Geometry, *, life: int) -> None:
        """
        Args:
            life: It counts as stopped when none of it was heard for so many ns.
        """
        self._geometry = geometry
        self._life = life
        self._head = 0
        self._heard: int | None = None

    def pass_by(self, now: int, symbol: int) -> None:
        """Note that `symbol` went by."""
        self._head = (symbol + 1) % self._geometry.symbols
        self._heard = now

    def moves(self, now: int) -> bool:
        """Whether it goes on."""
        return self._heard is not None and now - self._heard < self._life

    def later(self, need: Exact, than: float) -> Exact:
        """Return what of `need` more than `than` other symbols come before."""
        return later_than(Ring(self._geometry, Order.BLOCKS), self._head, need, than)


class Repairer(Sender):
    """Answers NAKs for other senders of the same object."""

    def __init__(
        self, config: SenderConfig, manifest: Manifest, *, repair: RepairConfig, rng: Random
    ) -> None:
        """
        Args:
            config: Of its session; it has no cycles and no start.
            rng: As for `Sender`.
        """
        nothing = BlockTree(b"", manifest.symbol_size)
        super().__init__(config, manifest, nothing, repair=repair, rng=rng)
        self._geometry = manifest.geometry
        self._manifest = manifest
        self._carousel = Overheard(self._geometry, life=repair.head_life)

    def _schedule(self, geometry: Geometry) -> Schedule | None:
        return None

    def _coming(self, now: int) -> Coming | None:
        return self._carousel if self._carousel.moves(now) else None

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take NAKs, and what the group hears of the object from other sessions (spec: REP-7)."""
        if batch.kind is not PacketType.NAK and len(batch):
            rows = batch.rows
            others = rows["oid"] == np.uint64(self._manifest.oid)
            others &= rows["tsi"] != np.uint64(self.tsi)  # our own packets come back to us
            others &= rows["size"] == np.uint64(self._manifest.size)
            if others.all():
                self._overhear(now, batch)
        return super().receive(now, batch)

    def _overhear(self, now: int, batch: PacketBatch) -> None:
        """Learn where the carousel is and what other repairers repair."""
        if batch.kind in DATA_TYPES and not batch.has_repair_symbols:
            symbols, is_repair = self._geometry.numbers(batch.offsets), batch.repairs
            if len(passing := symbols[~is_repair]):
                self._carousel.pass_by(now, int(passing[-1]))
            self._hold_off(now, Exact(np.unique(symbols[is_repair])))
        elif batch.kind is PacketType.NCF:
            for body in batch.payload:
                try:
                    symbols = parse_request(body.tobytes(), self._geometry.symbols)
                except RefusedPacket as refusal:
                    self.refused[refusal.reason] += 1
                else:
                    self._hold_off(now, Exact(symbols))

    def _hold_off(self, now: int, need: Exact) -> None:
        for lane in self.lanes:
            if lane.repairs:
                lane.repairs.take_heard(now, need)
