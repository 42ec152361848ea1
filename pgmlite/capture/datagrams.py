"""From UDP datagrams to packets.

One datagram is one packet (spec: PKT-1). But where the system cuts or joins packets, a capture
shows many in one datagram. All but the last have one length there, that of the first (UDP_SEGMENT,
UDP_GRO). The capture does not say which; the first packet does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from pgmlite.capture.clock import Times
from pgmlite.wire import batch as wire
from pgmlite.wire.batch import HEADER_DTYPE, HEADER_SIZE, Octets, PacketBatch, Rows, stretches
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import DATA_TYPES, MAGIC, VERSION, Flag, PacketType, RequestForm
from pgmlite.wire.request import (
    COUNT_SIZE,
    FIXED_SIZE,
    NAK_FIXED_SIZE,
    RANGE_SIZE,
    REQUEST_HEAD_DTYPE,
)

OURS = MAGIC.to_bytes(2, "big") + bytes([VERSION])
"""What every packet begins with."""

ITEM_SIZES = {RequestForm.RANGES.value: RANGE_SIZE, RequestForm.COUNTS.value: COUNT_SIZE}
"""Bytes of an item of a request, by its form; of a bitmap one."""

CHANNEL = 4
"""Byte of the header that is the channel."""

OBJECT = slice(6, 32)
"""Bytes of the header that all packets of a session have in common (spec: PKT-7)."""


@dataclass(frozen=True, slots=True)
class Datagrams:
    """UDP datagrams of one flow and one length that follow one another.

    Attributes:
        times: (n,) ns since 1970, never falling.
        source: Address and port.
        destination: Address and port.
        octets: (n, width), what is behind the UDP headers; a view on what was read.
        steps: How often the clock was set before them: between two that differ in it, nobody knows
            how much time passed.
        is_congested: A router marked all of them.
    """

    times: Times
    source: Endpoint
    destination: Endpoint
    octets: Octets
    steps: int = 0
    is_congested: bool = False

    def __len__(self) -> int:
        return len(self.times)

    @property
    def rows(self) -> Rows | None:
        """(n,) their headers, as far as they are packets; None if they are too short for one."""
        if self.octets.shape[1] < HEADER_SIZE:
            return None
        rows: Rows = self.octets[:, :HEADER_SIZE].view(HEADER_DTYPE)[:, 0]
        return rows

    def select(self, which: slice | np.ndarray) -> Datagrams:
        """Return some of them: `which` is a slice, or (n,) of bool."""
        return replace(self, times=self.times[which], octets=self.octets[which])


def split(datagrams: Datagrams, refused: Counter[str], at: int | None = None) -> list[PacketBatch]:
    """Return the valid packets of datagrams; count the others.

    Args:
        at: When they came, by the reader's clock; as in `PacketBatch`.
    """
    octets, source, rows = datagrams.octets, datagrams.source, datagrams.rows
    if rows is None:
        refused["short"] += len(octets)
        return []
    reasons: Counter[str] = Counter()
    payload = octets[:, HEADER_SIZE:]
    marks = np.ones(len(rows), np.bool_) if datagrams.is_congested else None
    batches = wire.read_rows(rows, payload, source, reasons, at=at, marks=marks)
    if reasons or any(batch.kind not in DATA_TYPES for batch in batches):
        strides = _strides(octets, rows)
        if strides.any():
            return _taken_apart(datagrams, rows, strides, refused, at)
    refused.update(reasons)
    return batches


def _taken_apart(
    datagrams: Datagrams,
    rows: Rows,
    strides: wire.Offsets,
    refused: Counter[str],
    at: int | None,
) -> list[PacketBatch]:
    """Return the packets of datagrams some of which have several, in order.

    Args:
        strides: (n,) bytes from packet to packet in each; 0: it is one.
    """
    octets, source = datagrams.octets, datagrams.source
    is_congested = datagrams.is_congested
    batches = []
    for start, stop in stretches((strides[1:] != strides[:-1]) | (strides[1:] > 0)):
        if stride := int(strides[start]):
            one = np.ascontiguousarray(octets[start])
            batches += wire.read(one, stride, source, refused, at=at, is_congested=is_congested)
        else:
            payload = octets[start:stop, HEADER_SIZE:]
            marks = np.ones(stop - start, np.bool_) if is_congested else None
            batches += wire.read_rows(
                rows[start:stop], payload, source, refused, at=at, marks=marks
            )
    return batches


def _strides(octets: Octets, rows: Rows) -> wire.Offsets:
    """Return (n,) of datagrams the bytes from packet to packet, 0 where there is only one."""
    sizes = rows["size"].astype(np.int64) - rows["offset"].astype(np.int64)
    is_whole = rows["flags"] == Flag.REPAIR_SYMBOL
    widths = np.where(is_whole, rows["symbol_size"], np.minimum(rows["symbol_size"], sizes))
    is_data = (rows["type"] == PacketType.ODATA) | (rows["type"] == PacketType.RDATA)
    strides = np.zeros(len(rows), np.int64)
    for place in np.flatnonzero(~is_data | (widths != octets.shape[1] - HEADER_SIZE)).tolist():
        strides[place] = stride_of(octets[place])
    return strides


def stride_of(octets: Octets) -> int:
    """Return the bytes from packet to packet in a datagram, 0 if it is not several."""
    length = len(octets)
    head = octets[:HEADER_SIZE].tobytes()
    if length < 2 * HEADER_SIZE or not head.startswith(OURS):
        return 0
    stride = _length(octets)
    if not HEADER_SIZE <= stride < length or 0 < length % stride < HEADER_SIZE:
        return 0
    for at in range(stride, length, stride):
        if not _begins_like(octets[at : at + 8].tobytes(), head):
            return 0
    return stride


def _length(octets: Octets) -> int:
    """Return how long the packet is that `octets` begin with, by what it says; 0: it does not."""
    row = octets[:HEADER_SIZE].view(HEADER_DTYPE)[0]
    kind = int(row["type"])
    if kind in DATA_TYPES:
        symbol_size, room = int(row["symbol_size"]), int(row["size"]) - int(row["offset"])
        is_whole = row["flags"] == Flag.REPAIR_SYMBOL
        return HEADER_SIZE + (symbol_size if is_whole else max(0, min(symbol_size, room)))
    if kind in (PacketType.TREE, PacketType.SPM):
        return _next_packet(octets)
    if kind not in (PacketType.NAK, PacketType.NCF):
        return 0
    at = HEADER_SIZE + (NAK_FIXED_SIZE if kind == PacketType.NAK else 0)
    if len(octets) < at + FIXED_SIZE:
        return 0
    head = octets[at : at + FIXED_SIZE].view(REQUEST_HEAD_DTYPE)[0]
    step = ITEM_SIZES.get(int(head["form"]), 1)
    return at + FIXED_SIZE + int(head["count"]) * step


def _begins_like(start: bytes, head: bytes) -> bool:
    """Whether the first 8 bytes of a packet are of the version, channel and symbol size of
    `head`.
    """
    return (start[: len(OURS)], start[CHANNEL], start[6:8]) == (OURS, head[CHANNEL], head[6:8])


def _next_packet(octets: Octets) -> int:
    """Return where the next packet of the same session begins, 0 if there is none.

    How long a node of the tree is depends on the manifest, which is not here, and options end
    with the packet. No digest and no manifest looks like the header of the packet that it is in.
    """
    raw = octets.tobytes()
    start = raw.find(raw[OBJECT], HEADER_SIZE + OBJECT.start) - OBJECT.start
    return start if start > 0 and _begins_like(raw[start : start + 8], raw[:8]) else 0
