"""The data path: packets as rows, checked in place.

A buffer holds packets of one length, `stride` bytes apart, as UDP_GRO and UDP_SEGMENT lay them
out; only the last may be shorter. Every access is checked against the buffer's real length: the
length is the attacker's choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pgmlite.wire.derive import numpy_dtype
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import (
    DATA_TYPES,
    DIGEST_SIZE,
    HEADER,
    MAGIC,
    SYMBOL_DIGEST_SIZE,
    VERSION,
    Flag,
    PacketType,
    Tree,
)
from pgmlite.wire.manifest import MAX_OBJECT_SIZE, is_symbol_size

HEADER_DTYPE = numpy_dtype(HEADER, overlays={"key": (">u8", 0)})
"""`key` overlays magic to symbol_size: rows with one key differ in nothing but their place."""

HEADER_SIZE = HEADER_DTYPE.itemsize

WHOLE_HEADER = np.dtype((np.void, HEADER_SIZE))
"""The same bytes as one item: numpy copies fields one by one, which takes ten times as long."""

CONGESTION_EXPERIENCED = 3
"""What a router sets the two lowest bits of TOS or traffic class to (RFC 3168)."""

AS_ODATA = np.uint64((PacketType.RDATA - PacketType.ODATA) << 32)
"""What the `key` of RDATA has more than that of ODATA."""

MOST_TURNS = 16
"""Stretches of one type in one read from which on the packets of each type are brought together;
if there are fewer, each is a batch in place."""

AHEAD = frozenset({PacketType.TREE, PacketType.NCF})
"""What is given ahead of the data that it came between: it speaks of that, and would cut it into
small batches."""

Rows = np.ndarray[Any, np.dtype[np.void]]
Octets = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def stretches(changes: Flags) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the stretches that (n - 1,) `changes` cut n things into."""
    return pairwise([0, *(np.flatnonzero(changes) + 1).tolist(), len(changes) + 1])


@dataclass(frozen=True, slots=True)
class PacketBatch:
    """Packets of one type, one length and one source, shape-checked.

    Data packets stand together, ODATA and RDATA, in the order they came: they take turns while
    losses are repaired, and would make many small batches.

    Attributes:
        kind: Their type; of data RDATA only if no ODATA is among them.
        rows: (n,) headers, a view on the receive buffer.
        offsets: (n,) the rows' offsets in machine order.
        payload: (n, width) bytes behind the headers, a view.
        source: Who sent them.
        at: When they were read, ns of the reader's clock; None: nobody looked.
        marks: (n,) whether a router marked each, congestion experienced (RFC 3168); None: none is.
    """

    kind: PacketType
    rows: Rows
    offsets: Offsets
    payload: Octets
    source: Endpoint
    at: int | None = None
    marks: Flags | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def congested(self) -> int:
        """How many of them a router marked instead of dropping them."""
        return 0 if self.marks is None else int(np.count_nonzero(self.marks))

    @property
    def channel(self) -> int:
        """The channel that they came on."""
        return int(self.rows["channel"][0])

    @property
    def has_repair_symbols(self) -> bool:
        """Whether they carry repair symbols; if not, data packets carry source symbols."""
        return bool(self.rows["flags"][0] & Flag.REPAIR_SYMBOL)

    @property
    def repairs(self) -> Flags:
        """(n,): whether each packet is RDATA."""
        flags: Flags = self.rows["type"] == PacketType.RDATA
        return flags

    def select(self, mask: Flags | slice) -> PacketBatch:
        """Return the batch of some rows: `mask` is (n,) of bool, or a slice; itself if of all."""
        if not isinstance(mask, slice) and mask.all():
            return self  # a mask of numpy copies every payload
        return self.take(mask)

    def take(self, mask: Flags | slice | npt.NDArray[np.intp]) -> PacketBatch:
        """Return the batch of some rows, which may be numbers in any order."""
        return PacketBatch(
            self.kind,
            self.rows[mask],
            self.offsets[mask],
            self.payload[mask],
            self.source,
            self.at,
            None if self.marks is None else self.marks[mask],
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
    # spec: PKT-2: only data can be a repair symbol.
    if key >> 16 & 0xFF & ~(Flag.REPAIR_SYMBOL if kind in DATA_TYPES else 0):
        return None, 0, "reserved"
    symbol_size = key & 0xFFFF
    if not is_symbol_size(symbol_size):
        return None, 0, "symbol_size"
    return kind, symbol_size, ""


def read(
    buffer: Octets,
    stride: int,
    source: Endpoint,
    refused: Counter[str],
    *,
    at: int | None = None,
    is_congested: bool = False,
) -> list[PacketBatch]:
    """Split `buffer` into batches of valid packets; count the others in `refused` by reason.

    Args:
        buffer: One-dimensional; the packets, `stride` bytes apart, the last maybe shorter.
        stride: Bytes from packet to packet, at least 1.
        at: As in `PacketBatch`.
        is_congested: A router marked all of them.
    """
    count, tail = divmod(len(buffer), stride)
    batches = []
    for start, number, length in ((0, count, stride), (count * stride, 1, tail)):
        if not number or not length:
            continue
        if length < HEADER_SIZE:
            refused["short"] += number
            continue
        rows: Rows = np.ndarray((number,), HEADER_DTYPE, buffer, start, (length,))
        width = length - HEADER_SIZE
        payload: Octets = np.ndarray(
            (number, width), np.uint8, buffer, start + HEADER_SIZE, (length, 1)
        )
        marks = np.ones(number, np.bool_) if is_congested else None
        batches += read_rows(rows, payload, source, refused, at=at, marks=marks)
    return batches


def read_rows(
    rows: Rows,
    payload: Octets,
    source: Endpoint,
    refused: Counter[str],
    *,
    at: int | None = None,
    marks: Flags | None = None,
) -> list[PacketBatch]:
    """Return (n,) headers and (n, width) payloads as batches of valid packets, like `read`.

    Args:
        at: As in `PacketBatch`; `marks` too.
    """
    came = _Came(source, at, marks)
    keys = rows["key"]
    first = keys[0]
    if len(rows) == 1 or bool((keys == first).all()):
        return _check(int(first), rows, payload, came, refused)
    alike = np.where(rows["type"] == PacketType.RDATA, keys - AS_ODATA, keys)
    parts = list(stretches(alike[1:] != alike[:-1]))
    selections: list[slice] | list[Flags]
    if len(parts) < MOST_TURNS:
        selections = [slice(start, stop) for start, stop in parts]
    else:
        selections = [alike == key for key in np.unique(alike)]
    ahead: list[PacketBatch] = []
    batches: list[PacketBatch] = []
    for some in selections:
        found = _check(int(keys[some].min()), rows[some], payload[some], came.select(some), refused)
        (ahead if found and found[0].kind in AHEAD else batches).extend(found)
    return ahead + batches


class _Came(NamedTuple):
    """How rows came, as in `PacketBatch`."""

    source: Endpoint
    at: int | None
    marks: Flags | None

    def select(self, mask: Flags | slice) -> _Came:
        """Return the same of some rows."""
        return self if self.marks is None else self._replace(marks=self.marks[mask])


def _check(
    key: int, rows: Rows, payload: Octets, came: _Came, refused: Counter[str]
) -> list[PacketBatch]:
    """Return the valid rows, all of one `key`, as at most one batch."""
    kind, symbol_size, reason = _classify(key)
    if kind is None:
        refused[reason] += len(rows)
        return []
    width = payload.shape[1]
    # spec: PKT-3
    if kind in DATA_TYPES:
        fits = 1 <= width <= symbol_size
    else:
        # Nodes have digests of 32 bytes, and the leaves of tiles digests of 8 behind one of 32.
        fits = kind is not PacketType.TREE or (
            DIGEST_SIZE <= width <= symbol_size and width % SYMBOL_DIGEST_SIZE == 0
        )
    if not fits:
        refused["length"] += len(rows)
        return []
    sizes = rows["size"].astype(np.uint64)
    wide_offsets = rows["offset"].astype(np.uint64)
    bad: Flags = (sizes | wide_offsets) > MAX_OBJECT_SIZE
    offsets: Offsets = wide_offsets.view(np.int64)
    esis = rows["esi"].astype(np.int64)
    if kind in DATA_TYPES:
        # Not offset + width, which a stranger's offset would make overflow.
        room = sizes.view(np.int64) - offsets
        if key >> 16 & Flag.REPAIR_SYMBOL:
            # spec: PKT-4: a repair symbol is whole, whatever the last source symbol is.
            bad |= (room <= 0) | (width != symbol_size)
            odd = np.zeros(len(rows), np.bool_)
        else:
            # spec: PKT-4: whole symbols inside the object; only the object's last may be short.
            bad |= room < width if width == symbol_size else room != width
            odd = esis > offsets // symbol_size  # its block would begin before the object
        bad |= offsets % symbol_size != 0
    else:
        odd = esis > (Tree.TILES if kind is PacketType.TREE else 0)
    odd &= ~bad
    if bad.any():
        refused["offset"] += int(np.count_nonzero(bad))
    if odd.any():
        refused["esi"] += int(np.count_nonzero(odd))
    bad |= odd
    if bad.all():
        return []
    return [PacketBatch(kind, rows, offsets, payload, *came).select(~bad)]
