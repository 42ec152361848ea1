"""The headers of one lane, numbered (spec: PKT-6, PKT-7)."""

from __future__ import annotations

import numpy as np

from pgmlite.core import serial
from pgmlite.wire.batch import HEADER_DTYPE, WHOLE_HEADER, Rows
from pgmlite.wire.layout import MAGIC, VERSION, PacketType
from pgmlite.wire.manifest import Manifest


class Headers:
    """Makes headers with fresh sqns."""

    def __init__(self, manifest: Manifest, channel: int, limit: int) -> None:
        """
        Args:
            limit: Rows that are made at once, at most.
        """
        template: Rows = np.zeros(limit, HEADER_DTYPE)
        template["magic"], template["version"] = MAGIC, VERSION
        template["channel"], template["symbol_size"] = channel, manifest.symbol_size
        template["oid"], template["size"] = manifest.oid, manifest.size
        self._fields = template
        self._template: Rows = template.view(WHOLE_HEADER)
        self._steps = np.arange(limit, dtype=np.int64)
        self._sqn = 0

    def begin(self, tsi: int, sqn: int) -> None:
        """Go on as the session `tsi`, whose next packet has the number `sqn`."""
        self._fields["tsi"] = tsi
        self._sqn = sqn

    @property
    def last(self) -> int:
        """The sqn of the latest packet."""
        return serial.add(self._sqn, -1)

    def rows(self, kind: PacketType, count: int) -> Rows:
        """Return `count` headers; `offset` and `esi` are 0."""
        rows: Rows = self._template[:count].copy().view(HEADER_DTYPE)
        rows["type"] = kind
        rows["sqn"] = (self._steps[:count] + self._sqn) % serial.MODULUS
        self._sqn = serial.add(self._sqn, count)
        return rows
