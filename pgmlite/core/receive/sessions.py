"""Sessions as a receiver tells them apart (spec/protocol.md section 1)."""

from __future__ import annotations

from pgmlite.core import serial
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.endpoint import Endpoint

SessionKey = tuple[Endpoint, int, int]
"""(source, tsi, channel)."""


def session_of(batch: PacketBatch) -> SessionKey:
    """Return the session of a batch's last packet."""
    row = batch.rows[-1]
    return batch.source, int(row["tsi"]), int(row["channel"])


def repaired_by(batch: PacketBatch) -> list[int | None]:
    """Return of each NCF the sqn by which all that it names was sent; None: it does not say."""
    distances, sqns = batch.offsets.tolist(), batch.rows["sqn"].tolist()
    return [
        serial.add(sqn, ahead) if 0 < ahead < serial.HALF else None
        for sqn, ahead in zip(sqns, distances, strict=True)
    ]
