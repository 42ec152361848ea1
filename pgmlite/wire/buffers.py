"""Buffers that reads fill and sends empty: few batches of many packets, without copies.

The system puts headers and payloads each in their place; what is alike comes out together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from pgmlite.wire.batch import (
    AHEAD,
    HEADER_DTYPE,
    HEADER_SIZE,
    WHOLE_HEADER,
    Flags,
    Octets,
    PacketBatch,
    Rows,
    read,
    read_rows,
)
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import PacketType


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Rows that one source sent."""

    start: int
    stop: int
    source: Endpoint


@dataclass(frozen=True, slots=True)
class _Odd:
    """Packets of one length, of a read that did not fit the rows."""

    octets: Octets
    stride: int
    source: Endpoint
    is_congested: bool
    kind: tuple[int, int]
    """The type of the first and its ESI, by its header; -1: it is too short to have one."""

    @classmethod
    def of(cls, octets: Octets, stride: int, source: Endpoint, *, is_congested: bool) -> _Odd:
        """Return packets, and what the first of them looks like."""
        kind = -1, 0
        if len(octets) >= HEADER_SIZE:
            row = np.ndarray((1,), HEADER_DTYPE, octets)[0]
            kind = int(row["type"]), int(row["esi"])
        return cls(octets, stride, source, is_congested, kind)

    def read(self, refused: Counter[str], at: int | None) -> list[PacketBatch]:
        """Return the batches of it, as `read` does."""
        how = self.octets, self.stride, self.source
        return read(*how, refused, at=at, is_congested=self.is_congested)


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
        if stride != self.stride or not count or -(-length // stride) > self._read_rows:
            octets, cut = self._join(length), count * stride
            for some, size in ((octets[:cut], stride), (octets[cut:], tail)):
                if len(some):
                    odd = _Odd.of(some, size, source, is_congested=is_congested)
                    self._stretches.append(odd)
            return
        start, self._used = self._used, self._used + count
        if is_congested:
            if self._marks is None:
                self._marks = np.zeros(len(self._rows), np.bool_)
            self._marks[start : self._used] = True
        self._stretches.append(_Stretch(start, self._used, source))
        if tail:
            # Often a node of a tree: it must not cost a copy of all that came with it.
            odd = _Odd.of(self._join(tail), tail, source, is_congested=is_congested)
            self._stretches.append(odd)

    def _join(self, length: int) -> Octets:
        """Return a copy of the next `length` bytes that were read, in one piece."""
        rows = min(-(-length // self.stride), self._read_rows)
        span = slice(self._used, self._used + rows)
        joined = np.concatenate((self._headers[span], self._payload[span]), axis=1).reshape(-1)
        if length > len(joined):
            spilt = np.frombuffer(self._spill, np.uint8)[: length - len(joined)]
            return np.concatenate((joined, spilt))
        return joined[:length]

    def batches(self, refused: Counter[str], at: int | None = None) -> list[PacketBatch]:
        """Return what came, in order, and begin anew; views, good until the next read.

        NCFs and nodes of trees stand before the data that came since the SPM before them, what is
        alike together: they speak of it, and must not cut it into small batches.

        Args:
            at: When it was read, as in `PacketBatch`.
        """
        batches: list[PacketBatch] = []
        since: list[_Stretch | _Odd] = []
        for came in _spms_together(self._stretches):
            since.append(came)
            if _is_spm(came):
                batches += self._between_spms(since, refused, at)
                since = []
        batches += self._between_spms(since, refused, at)
        self._begin_anew()
        return batches

    def _between_spms(
        self, came: list[_Stretch | _Odd], refused: Counter[str], at: int | None
    ) -> list[PacketBatch]:
        # A node as long as a symbol lies among the data: others may be those above it, or below.
        may_part = not self._has_nodes(came)
        batches = _nodes_of(came, refused, at) if may_part else []
        parts: list[_Stretch | PacketBatch] = []
        for part in came:
            if isinstance(part, _Odd):
                if part.kind[0] != PacketType.TREE or not may_part:
                    for batch in part.read(refused, at):
                        is_ahead = may_part and batch.kind in AHEAD
                        (batches if is_ahead else parts).append(batch)
            elif parts and isinstance(parts[-1], _Stretch) and parts[-1].source == part.source:
                parts[-1] = _Stretch(parts[-1].start, part.stop, part.source)
            else:
                parts.append(part)
        for one in parts:
            if isinstance(one, PacketBatch):
                batches.append(one)
                continue
            span = slice(one.start, one.stop)
            batches += read_rows(
                *(self._rows[span], self._payload[span], one.source, refused),
                at=at,
                marks=None if self._marks is None else self._marks[span],
            )
        return batches

    def _has_nodes(self, came: list[_Stretch | _Odd]) -> bool:
        """Whether nodes lie in the rows, and other packets do not."""
        rows = [one for one in came if isinstance(one, _Stretch)]
        if not rows or len(rows) == len(came):
            return False
        # They stand side by side.
        kinds = self._rows["type"][rows[0].start : rows[-1].stop]
        return bool((kinds == PacketType.TREE).any())


def _is_spm(came: _Stretch | _Odd) -> bool:
    return isinstance(came, _Odd) and came.kind[0] == PacketType.SPM


def _spms_together(stretches: Iterable[_Stretch | _Odd]) -> Iterator[_Stretch | _Odd]:
    """Yield what came, SPMs of one length that a source sent one after the other as one."""
    # Who floods a receiver with SPMs shall not have each of them looked at by itself.
    for is_spm, run in groupby(stretches, _is_spm):
        if not is_spm:
            yield from run
            continue
        odd = (one for one in run if isinstance(one, _Odd))
        for _, alike in groupby(odd, lambda one: (one.stride, one.source, one.is_congested)):
            first, *others = alike
            octets = [first.octets, *(one.octets for one in others)]
            yield replace(first, octets=np.concatenate(octets)) if others else first


def _nodes_of(
    came: list[_Stretch | _Odd], refused: Counter[str], at: int | None
) -> list[PacketBatch]:
    """Return the nodes among what came, those that are alike together."""
    batches: list[PacketBatch] = []
    # Tree by tree, in their order: a leaf is of no use before the nodes above it.
    nodes = [one for one in came if isinstance(one, _Odd) and one.kind[0] == PacketType.TREE]
    nodes.sort(key=lambda one: one.kind)
    for _, alike in groupby(nodes, lambda one: (one.stride, one.source, one.is_congested)):
        first, *others = alike
        joined = np.concatenate([first.octets, *(one.octets for one in others)])
        batches += replace(first, octets=joined).read(refused, at)
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
