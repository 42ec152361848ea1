"""The data path: rows out of a GRO buffer and headers into a GSO buffer, both in place.

A buffer holds packets of one length, `stride` bytes apart, as UDP_GRO and UDP_SEGMENT lay them
out; only the last may be shorter. Every access is checked against the buffer's real length: the
length is the attacker's choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pgmlite.wire.control import MAX_OBJECT_SIZE, is_symbol_size
from pgmlite.wire.derive import numpy_dtype
from pgmlite.wire.layout import HEADER, MAGIC, VERSION, PacketType

HEADER_DTYPE = numpy_dtype(HEADER, overlays={"key": (">u8", 0)})
"""`key` overlays magic to symbol_size: rows with one key differ in nothing but their place."""

HEADER_SIZE = HEADER_DTYPE.itemsize

Rows = np.ndarray[Any, np.dtype[np.void]]
Octets = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Source = Hashable


@dataclass(frozen=True, slots=True)
class PacketBatch:
    """Packets of one type, one length and one source, shape-checked.

    Attributes:
        rows: (n,) headers, a view on the receive buffer.
        offsets: (n,) the rows' offsets in machine order.
        payload: (n, width) bytes behind the headers, a view.
        source: Who sent them; opaque to the core.
    """

    kind: PacketType
    rows: Rows
    offsets: Offsets
    payload: Octets
    source: Source

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, mask: npt.NDArray[np.bool_] | slice) -> PacketBatch:
        """Return the batch of some rows: `mask` is (n,) of bool, or a slice."""
        return PacketBatch(
            self.kind, self.rows[mask], self.offsets[mask], self.payload[mask], self.source
        )


@lru_cache(maxsize=256)
def _classify(key: int) -> tuple[PacketType | None, int, str]:
    """Return (type, symbol size, "") of the header's first 8 bytes, or (None, 0, reason)."""
    # spec: PKT-2
    if key >> 48 != MAGIC:
        return None, 0, "magic"
    if key >> 40 & 0xFF != VERSION:
        return None, 0, "version"
    try:
        kind = PacketType(key >> 32 & 0xFF)
    except ValueError:
        return None, 0, "type"
    if key >> 16 & 0xFF:
        return None, 0, "reserved"
    symbol_size = key & 0xFFFF
    if not is_symbol_size(symbol_size):
        return None, 0, "symbol_size"
    return kind, symbol_size, ""


def read(
    buffer: Octets, stride: int, source: Source, refused: Counter[str]
) -> list[PacketBatch]:
    """Split `buffer` into batches of valid packets; count the others in `refused` by reason.

    Args:
        buffer: One-dimensional; the packets, `stride` bytes apart, the last maybe shorter.
        stride: Bytes from packet to packet, at least 1.
    """
    count, tail = divmod(len(buffer), stride)
    batches = _read_uniform(buffer, count, stride, source, refused) if count else []
    if tail:
        batches += _read_uniform(buffer[count * stride :], 1, tail, source, refused)
    return batches


def _read_uniform(
    buffer: Octets, count: int, stride: int, source: Source, refused: Counter[str]
) -> list[PacketBatch]:
    """`read` for `count` packets that are all `stride` bytes long."""
    if stride < HEADER_SIZE:
        refused["short"] += count
        return []
    rows: Rows = np.ndarray((count,), HEADER_DTYPE, buffer, 0, (stride,))
    payload: Octets = np.ndarray(
        (count, stride - HEADER_SIZE), np.uint8, buffer, HEADER_SIZE, (stride, 1)
    )
    keys = rows["key"]
    first = int(keys[0])
    if count == 1 or bool((keys == first).all()):
        return _check(first, rows, payload, source, refused)
    batches = []
    for key in np.unique(keys):
        mask = keys == key
        batches += _check(int(key), rows[mask], payload[mask], source, refused)
    return batches


def _check(
    key: int, rows: Rows, payload: Octets, source: Source, refused: Counter[str]
) -> list[PacketBatch]:
    """Return the valid rows, all of one `key`, as at most one batch."""
    kind, symbol_size, reason = _classify(key)
    if kind is None:
        refused[reason] += len(rows)
        return []
    width = payload.shape[1]
    if kind is not PacketType.SPM and not 1 <= width <= symbol_size:
        refused["length"] += len(rows)  # spec: PKT-3
        return []
    sizes = rows["size"].astype(np.uint64)
    wide_offsets = rows["offset"].astype(np.uint64)
    bad: npt.NDArray[np.bool_] = (sizes | wide_offsets) > MAX_OBJECT_SIZE
    offsets: Offsets = wide_offsets.view(np.int64)
    if kind is PacketType.ODATA:
        ends = offsets + width
        # spec: PKT-4: whole symbols inside the object; only the object's last may be short.
        if width == symbol_size:
            bad |= ends > sizes.view(np.int64)
        else:
            bad |= ends != sizes.view(np.int64)
    if kind is not PacketType.SPM:
        bad |= offsets % symbol_size != 0
    reserved = rows["reserved"] != 0
    if reserved.any():
        refused["reserved"] += int(np.count_nonzero(reserved))
        refused["offset"] += int(np.count_nonzero(bad & ~reserved))
        bad |= reserved
    elif bad.any():
        refused["offset"] += int(np.count_nonzero(bad))
    else:
        return [PacketBatch(kind, rows, offsets, payload, source)]
    if bad.all():
        return []
    batch = PacketBatch(kind, rows, offsets, payload, source)
    return [batch.select(~bad)]


class PacketBuffer:
    """A reusable send buffer of up to `count` packets with payloads of `symbol_size` bytes."""

    def __init__(self, symbol_size: int, count: int) -> None:
        self.stride = HEADER_SIZE + symbol_size
        self._memory = memoryview(bytearray(self.stride * count))
        self._headers: Rows = np.ndarray(
            (count,), HEADER_DTYPE, self._memory, 0, (self.stride,)
        )
        self.payloads = [
            self._memory[at + HEADER_SIZE : at + self.stride]
            for at in range(0, len(self._memory), self.stride)
        ]
        """One writable view a packet, `symbol_size` bytes each."""

    def write_headers(self, rows: Rows) -> None:
        """Put the headers in front of the first payloads."""
        self._headers[: len(rows)] = rows

    def packets(self, count: int, payload_bytes: int) -> memoryview:
        """Return the first `count` packets, which carry `payload_bytes` together."""
        return self._memory[: count * HEADER_SIZE + payload_bytes]
