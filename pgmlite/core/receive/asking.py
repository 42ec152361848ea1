"""What one transfer asks for, and of whom: `nak` with what its object's packets tell it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import Action, SendNak
from pgmlite.core.needs import Count, Exact
from pgmlite.core.receive import policy
from pgmlite.core.receive.asks import Ask, build_nak_packet
from pgmlite.core.receive.counters import NakCounters, ReceiverCounters
from pgmlite.core.receive.demand import Holdings
from pgmlite.core.receive.losses import LossCounts
from pgmlite.core.receive.nak import Naks, naks_for
from pgmlite.core.receive.sessions import SessionKey, repaired_by, session_of
from pgmlite.core.ring import Ring
from pgmlite.errors import RefusedPacket
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.control import Spm
from pgmlite.wire.geometry import Ids
from pgmlite.wire.manifest import Manifest


class Asking:
    """The asking side of one transfer; it does nothing before the manifest came."""

    def __init__(
        self,
        config: ReceiverConfig,
        *,
        counters: ReceiverCounters,
        losses: LossCounts,
        rng: Random,
    ) -> None:
        """
        Args:
            losses: Of the transfer.
            rng: Draws the back-offs before NAKs.
        """
        self._config = config
        self._counters = counters
        self._losses = losses
        self._rng = rng
        self._manifest: Manifest | None = None
        self._naks: Naks | None = None

    def learn(self, manifest: Manifest, held: Holdings) -> None:
        """Take the manifest of an object that is not empty, and what there is of it."""
        self._manifest = manifest
        self._naks = naks_for(self._config.nak, manifest.geometry, held, rng=self._rng)

    @property
    def counters(self) -> NakCounters:
        """What was asked for."""
        return self._naks.counters if self._naks else NakCounters()

    @property
    def knows_repairer(self) -> bool:
        """Whether somebody takes NAKs."""
        return self._naks is not None and self._naks.knows_repairer

    @property
    def deadline(self) -> int | None:
        """When a NAK is due, ns."""
        return self._naks.deadline if self._naks else None

    def time_left(self, now: int) -> float | None:
        """Return the ns until carousels will have brought what is missing; None: not known."""
        return self._naks.time_left(now, self._losses.share) if self._naks else None

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget the sessions of channels that are not heard."""
        if self._naks:
            self._naks.forget(hears)

    # What comes.

    def take_sqn(self, now: int, batch: PacketBatch) -> None:
        """Note how far a session has sent."""
        if self._naks:
            self._naks.take_sqn(now, session_of(batch), int(batch.rows["sqn"][-1]))

    def take_data(self, now: int, key: SessionKey, batch: PacketBatch) -> None:
        """Learn from data packets of a session where its carousel is, and what was repaired."""
        naks, manifest = self._naks, self._manifest
        if naks is None or manifest is None:
            return
        block_size, is_repair = manifest.geometry.block_size, batch.repairs
        if not is_repair.all():
            last = len(batch) - 1 - int(is_repair[::-1].argmin())
            block = int(batch.offsets[last]) // block_size
            naks.take_data(now, key, block, int(batch.rows["esi"][last]))
            tracker = self._losses.get(key)
            if tracker and policy.is_trusted(self._config.nak, tracker.received):
                naks.trust(key)
        if is_repair.any():
            repaired = batch.select(is_repair)
            ids = Ids(repaired.offsets // block_size, repaired.rows["esi"].astype(np.int64))
            naks.take_repair(now, key, ids)

    def take_ncfs(self, now: int, batch: PacketBatch) -> None:
        """Take what others were promised."""
        if self._naks is None:
            return
        for body, last in zip(batch.payload, repaired_by(batch), strict=True):
            try:
                if not self._naks.take_ncfs(now, session_of(batch), (body.tobytes(),), last):
                    self._counters.refused["promise"] += 1
            except RefusedPacket as refusal:
                self._counters.refused[refusal.reason] += 1

    def take_spm(self, now: int, batch: PacketBatch, spm: Spm) -> None:
        """Learn where the carousel is, and whether its sender may be asked."""
        naks, manifest = self._naks, self._manifest
        if naks is None or manifest is None:
            return
        key = session_of(batch)
        if spm.position and (ring := Ring.at(manifest.geometry, spm.position)):
            tracker = self._losses.get(key)
            received = tracker.received if tracker else 0
            naks.take_position(now, key, ring, spm.position.place, received=received)
        told = self._config.repairers.union(manifest.repairers)
        if found := policy.endpoint_of(spm, batch.source, told):
            endpoint, is_told = found
            naks.take_repairer(now, endpoint, key, spm, preferred=is_told)

    # What is asked for.

    def tick(self, now: int) -> list[Action]:
        """Send the NAKs that are due."""
        naks, manifest, deadline = self._naks, self._manifest, self.deadline
        if naks is None or manifest is None or deadline is None or deadline > now:
            return []
        loss = self._losses.share
        return [self._nak(now, ask, manifest, loss) for ask in naks.tick(now, loss=loss)]

    def _nak(
        self, now: int, ask: Ask[Exact] | Ask[Count], manifest: Manifest, loss: float
    ) -> SendNak:
        tracker = self._losses.get(ask.repairer.key)
        return build_nak_packet(
            now,
            ask,
            symbol_size=manifest.symbol_size,
            oid=manifest.oid,
            size=manifest.size,
            sqn=tracker.highest if tracker else 0,
            loss=loss,
        )
