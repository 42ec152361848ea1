"""The stand-alone repairer: a sender without a schedule, beside the receivers (spec: REP-8).

It hears the group, answers NAKs, and sends nothing else but SPMs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import numpy as np

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.course import place_near
from pgmlite.core.machine import Action
from pgmlite.core.needs import Exact
from pgmlite.core.ring import Ring
from pgmlite.core.send.repairs import Repairs
from pgmlite.core.send.schedule import Coming, later_than
from pgmlite.core.send.sender import Sender
from pgmlite.core.tiles import TileTree
from pgmlite.errors import RefusedPacket, UsageError
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.control import Signature, SpmPosition, parse_spm
from pgmlite.wire.digests import BlockTree
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import DATA_TYPES, PacketType
from pgmlite.wire.manifest import Manifest


class Overheard:
    """Where the carousel of another session is, by what is heard of it."""

    def __init__(self, geometry: Geometry, *, life: int) -> None:
        """
        Args:
            life: It counts as stopped when none of it was heard for so many ns.
        """
        self._geometry = geometry
        self._life = life
        self._tsi = 0
        self._ring: Ring | None = None
        self._place = 0
        self._heard: int | None = None

    def tell(self, now: int, tsi: int, position: SpmPosition) -> None:
        """Take what an SPM says; of several sessions one is followed as long as it is heard.

        Raises:
            UsageError: No carousel of the object can be there.
        """
        if tsi != self._tsi and self.moves(now):
            return
        ring = Ring.at(self._geometry, position)
        if ring != self._ring or position.place != self._place:
            self._heard = now
        self._tsi, self._ring, self._place = tsi, ring, position.place

    def pass_by(self, now: int, tsi: int, block: int, esi: int) -> None:
        """Take note of ODATA."""
        if self._ring and tsi == self._tsi:
            place = place_near(self._ring, block, esi, self._place) + 1
            self._place, self._heard = max(self._place, place), now

    def moves(self, now: int) -> bool:
        """Whether it goes on."""
        return self._heard is not None and now - self._heard < self._life

    def later(self, need: Exact, than: float) -> Exact:
        """Return what of `need` more than `than` other symbols come before."""
        return later_than(self._ring, self._place, need, than) if self._ring else need


class Repairer(Sender):
    """Answers NAKs for other senders of the same object."""

    def __init__(
        self,
        config: SenderConfig,
        manifest: Manifest,
        *,
        tiles: TileTree | None = None,
        signatures: Sequence[Signature] = (),
        repair: RepairConfig,
        rng: Random,
        channel: int = 0,
    ) -> None:
        """
        Args:
            config: Of its session; it has no cycles and no start.
            tiles: As for `Sender`; so are `signatures`.
            rng: As for `Sender`.
            channel: On which it hears and sends: receivers ask whom they hear there.
        """
        nothing = BlockTree(b"", manifest.symbol_size)
        super().__init__(
            config,
            manifest,
            nothing,
            tiles=tiles,
            signatures=signatures,
            rings=[None],
            repair=repair,
            rng=rng,
            channel=channel,
        )
        self._geometry = manifest.geometry
        self._manifest = manifest
        self._carousel = Overheard(self._geometry, life=repair.head_life)

    def _coming(self, now: int) -> Coming | None:
        return self._carousel if self._carousel.moves(now) else None

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take NAKs, and what the group hears of the object from other sessions (spec: REP-7)."""
        if batch.kind is not PacketType.NAK and len(batch):
            rows = batch.rows
            others = rows["oid"] == np.uint64(self._manifest.oid)
            others &= rows["tsi"] != np.uint64(self.tsi)  # our own packets come back to us
            others &= rows["size"] == np.uint64(self._manifest.size)
            if batch.kind in DATA_TYPES:
                # What names no symbol of the object is not counted: nobody asked for it.
                geometry, esis = self._geometry, rows["esi"].astype(np.int64)
                names = geometry.repairs_at if batch.has_repair_symbols else geometry.names
                others &= names(batch.offsets, esis)
            if others.any():
                self._overhear(now, batch if others.all() else batch.select(others))
        return super().receive(now, batch)

    def _overhear(self, now: int, batch: PacketBatch) -> None:
        """Learn where the carousel is and what other repairers repair."""
        rows = batch.rows
        if batch.kind in DATA_TYPES:
            ids = Ids(batch.offsets // self._geometry.block_size, rows["esi"].astype(np.int64))
            is_repair = batch.repairs
            if not is_repair.all():
                last = len(rows) - 1 - int(is_repair[::-1].argmin())
                block, esi = int(ids.blocks[last]), int(ids.esis[last])
                self._carousel.pass_by(now, int(rows["tsi"][last]), block, esi)
            if is_repair.any():
                repaired = Ids(ids.blocks[is_repair], ids.esis[is_repair])
                for repairs in self._repairs():
                    repairs.hear_data(now, repaired)
        else:
            for row, body in zip(rows, batch.payload, strict=True):
                try:
                    self._overhear_one(now, batch.kind, int(row["tsi"]), body.tobytes())
                except RefusedPacket as refusal:
                    self.refused[refusal.reason] += 1

    def _overhear_one(self, now: int, kind: PacketType, tsi: int, body: bytes) -> None:
        """Take an SPM or an NCF.

        Raises:
            RefusedPacket: It is not one.
        """
        if kind is PacketType.NCF:
            for repairs in self._repairs():
                repairs.hear_ncf(now, body)
        elif kind is PacketType.SPM and (position := parse_spm(body).position):
            try:
                self._carousel.tell(now, tsi, position)
            except UsageError as error:
                raise RefusedPacket("spm", str(error)) from error

    def _repairs(self) -> Iterator[Repairs]:
        return (lane.repairs for lane in self.lanes if lane.repairs)
