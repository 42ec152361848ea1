"""The packets of one lane: what they carry, under fresh numbers, and who keeps account of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pgmlite.core.machine import ObjectSymbols, Transmit
from pgmlite.core.send.headers import Headers
from pgmlite.core.send.repairs import Repairs
from pgmlite.wire.batch import Rows
from pgmlite.wire.geometry import Named
from pgmlite.wire.layout import Flag, PacketType, Tree
from pgmlite.wire.manifest import Manifest

REPAIR_SYMBOL = np.uint8(Flag.REPAIR_SYMBOL)


class Packets:
    """Makes the packets of a lane."""

    def __init__(self, manifest: Manifest, channel: int, *, limit: int) -> None:
        """
        Args:
            limit: Packets that are made at once, at most.
        """
        self._channel = channel
        self._geometry = manifest.geometry
        self.headers = Headers(manifest, channel, limit)
        self.repairs: Repairs | None = None
        """Who wants to know what went out."""

    def control(self, kind: PacketType, body: bytes, *, offset: int = 0) -> Transmit:
        """Return the packet of an SPM or an NCF."""
        rows = self._rows(kind, 1)
        rows["offset"] = offset
        return Transmit(self._channel, rows, body)

    def nodes(self, tree: Tree, nodes: Iterable[tuple[int, bytes]]) -> list[Transmit]:
        """Return nodes in a row: one at a time, since they are not as long as symbols."""
        bursts = []
        for number, node in nodes:
            rows = self._rows(PacketType.TREE, 1)
            rows["offset"], rows["esi"] = number, tree
            bursts.append(Transmit(self._channel, rows, node))
        return bursts

    def data(self, kind: PacketType, ids: Named) -> Transmit:
        """Return packets of symbols."""
        geometry = self._geometry
        rows = self._rows(kind, len(ids))
        rows["offset"], rows["esi"] = ids.offsets, ids.esis
        if geometry.repair_symbols:
            rows["flags"] = ids.are_repairs * REPAIR_SYMBOL
        if self.repairs:
            self.repairs.log.carried(ids)
        return Transmit(self._channel, rows, ObjectSymbols(ids, geometry))

    def _rows(self, kind: PacketType, count: int) -> Rows:
        if self.repairs:
            self.repairs.log.count(count)
        return self.headers.rows(kind, count)
