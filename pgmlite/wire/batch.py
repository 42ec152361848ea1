"""The data path: rows out of a GRO buffer and headers into a GSO buffer, both in place.

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

TYPE_AT = HEADER_DTYPE.fields["type"][1] if HEADER_DTYPE.fields else 0
"""Where in a packet its type stands."""

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
        at: As in `PacketBatch`.
        marks: As in `PacketBatch`.
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


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Rows of the buffer that one source sent."""

    start: int
    stop: int
    source: Endpoint


@dataclass(frozen=True, slots=True)
class _Odd:
    """One read that did not fit the rows."""

    octets: Octets
    stride: int
    source: Endpoint
    is_congested: bool

    @property
    def begins_with_node(self) -> bool:
        """Whether it is whole packets, and the first of them looks like a node of a tree."""
        is_whole = self.stride > TYPE_AT and len(self.octets) % self.stride == 0
        return is_whole and bool(self.octets[TYPE_AT] == PacketType.TREE)

    def read(self, refused: Counter[str], at: int | None) -> list[PacketBatch]:
        """Return the batches of it, as `read` does."""
        marked = self.is_congested
        return read(self.octets, self.stride, self.source, refused, at=at, is_congested=marked)


class ReceiveBuffer:
    """A reusable buffer that takes many reads and gives few batches.

    It offers the system a place for each header and each payload of the packets it expects, so
    that both lie side by side without a copy. Whatever does not have the expected length is put
    together again and read as one piece.
    """

    ROWS = 1_440
    """Packets of the expected length before the batches have to be taken."""

    READ_ROWS = 64
    """Packets the system joins in one read, at most (UDP_GRO)."""

    READ_BYTES = 65_536
    """Bytes one read can give."""

    def __init__(self, symbol_size: int) -> None:
        """
        Args:
            symbol_size: Payload bytes of the packets expected first.
        """
        self._spill = bytearray(self.READ_BYTES)
        self.stride = 0
        self.expect(symbol_size)

    def expect(self, symbol_size: int) -> None:
        """Lay the buffer out for payloads of `symbol_size` bytes; batches given stay good."""
        if self.stride == HEADER_SIZE + symbol_size:
            return
        self.stride = HEADER_SIZE + symbol_size
        # The system looks at every piece offered, filled or not.
        self._read_rows = min(self.READ_ROWS, self.READ_BYTES // self.stride + 1)
        count = self.ROWS + self._read_rows
        headers, payload = bytearray(count * HEADER_SIZE), bytearray(count * symbol_size)
        self._rows: Rows = np.ndarray((count,), HEADER_DTYPE, headers)
        self._headers: Octets = np.ndarray((count, HEADER_SIZE), np.uint8, headers)
        self._payload: Octets = np.ndarray((count, symbol_size), np.uint8, payload)
        header_view, payload_view = memoryview(headers), memoryview(payload)
        self._pieces: list[memoryview] = []
        for row in range(count):
            self._pieces.append(header_view[row * HEADER_SIZE : (row + 1) * HEADER_SIZE])
            self._pieces.append(payload_view[row * symbol_size : (row + 1) * symbol_size])
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._used = 0
        self._stretches: list[_Stretch | _Odd] = []
        self._marks: Flags | None = None

    def room(self) -> list[memoryview | bytearray] | None:
        """Return the pieces that the next read fills, in order; None when the buffer is full."""
        if self._used >= self.ROWS or len(self._stretches) >= self.ROWS:
            return None
        start = 2 * self._used
        return [*self._pieces[start : start + 2 * self._read_rows], self._spill]

    def add(
        self, length: int, stride: int, source: Endpoint, *, is_congested: bool = False
    ) -> None:
        """Take note of a read of `length` bytes: packets `stride` bytes apart, from `source`.

        Args:
            is_congested: A router marked all of them.
        """
        count, tail = divmod(length, stride)
        if stride != self.stride or tail or count > self._read_rows:
            self._stretches.append(_Odd(self._join(length), stride, source, is_congested))
            return
        start, self._used = self._used, self._used + count
        if is_congested:
            if self._marks is None:
                self._marks = np.zeros(len(self._rows), np.bool_)
            self._marks[start : self._used] = True
        self._stretches.append(_Stretch(start, self._used, source))

    def _join(self, length: int) -> Octets:
        """Return a copy of the last `length` bytes read, in one piece."""
        rows = min(-(-length // self.stride), self._read_rows)
        span = slice(self._used, self._used + rows)
        joined = np.concatenate((self._headers[span], self._payload[span]), axis=1).reshape(-1)
        if length > len(joined):
            spilt = np.frombuffer(self._spill, np.uint8)[: length - len(joined)]
            return np.concatenate((joined, spilt))
        return joined[:length]

    def batches(self, refused: Counter[str], at: int | None = None) -> list[PacketBatch]:
        """Return what came, in order, and begin anew; views, good until the next read.

        NCFs and nodes of trees stand first, what is alike of one source together: they speak of
        what follows, and must not cut what they came between into small batches.

        Args:
            at: When it was read, as in `PacketBatch`.
        """
        ahead: list[PacketBatch] = []
        parts: list[_Stretch | PacketBatch] = []
        nodes: dict[tuple[int, Endpoint, bool], list[Octets]] = {}
        for part in self._stretches:
            if isinstance(part, _Odd) and part.begins_with_node:
                key = part.stride, part.source, part.is_congested
                nodes.setdefault(key, []).append(part.octets)
            elif isinstance(part, _Odd):
                for batch in part.read(refused, at):
                    (ahead if batch.kind in AHEAD else parts).append(batch)
            elif parts and isinstance(parts[-1], _Stretch) and parts[-1].source == part.source:
                parts[-1] = _Stretch(parts[-1].start, part.stop, part.source)
            else:
                parts.append(part)
        for (stride, source, is_congested), pieces in nodes.items():
            ahead += _Odd(np.concatenate(pieces), stride, source, is_congested).read(refused, at)
        batches = ahead
        for one in parts:
            if isinstance(one, _Stretch):
                span = slice(one.start, one.stop)
                batches += read_rows(
                    self._rows[span],
                    self._payload[span],
                    one.source,
                    refused,
                    at=at,
                    marks=None if self._marks is None else self._marks[span],
                )
            else:
                batches.append(one)
        self._begin_anew()
        return batches


class SendBuffer:
    """A reusable buffer of `count` packets: headers and payloads apart, joined when they are sent.

    Payloads lie side by side, so that one read of the source fills many packets; the system
    gathers the pieces.
    """

    def __init__(self, symbol_size: int, count: int) -> None:
        """
        Args:
            symbol_size: Payload bytes of every packet but a shorter last one.
        """
        self.stride = HEADER_SIZE + symbol_size
        self._symbol_size = symbol_size
        headers = memoryview(bytearray(HEADER_SIZE * count))
        self._headers: Rows = np.ndarray((count,), WHOLE_HEADER, headers)
        self.payload = memoryview(bytearray(symbol_size * count))
        self._pieces: list[memoryview] = []
        for place in range(count):
            self._pieces.append(headers[place * HEADER_SIZE : (place + 1) * HEADER_SIZE])
            self._pieces.append(self.payload[place * symbol_size : (place + 1) * symbol_size])

    def write_headers(self, rows: Rows) -> None:
        """Put the headers of the first packets in place."""
        self._headers[: len(rows)] = rows.view(WHOLE_HEADER)

    def pieces(self, start: int, stop: int, payload_bytes: int) -> list[memoryview]:
        """Return packets `start` to `stop` in pieces, header, payload, header ...

        Args:
            payload_bytes: Bytes of payload from the first packet of the buffer to packet `stop`.
        """
        pieces = self._pieces[2 * start : 2 * stop]
        if payload_bytes < stop * self._symbol_size:
            pieces[-1] = self.payload[(stop - 1) * self._symbol_size : payload_bytes]
        return pieces
