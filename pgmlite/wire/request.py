"""What a NAK asks for and an NCF confirms: symbols by name, or counts of a block's symbols.

Names stand in ranges or in a bitmap, whichever is shorter (spec/protocol.md section 3.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from pgmlite.errors import RefusedPacket
from pgmlite.wire.derive import numpy_dtype
from pgmlite.wire.layout import (
    COUNT,
    HEADER,
    MAX_CONTROL,
    NAK_HEAD,
    RANGE,
    REQUEST_HEAD,
    RequestForm,
)

Symbols = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# A fast sender gets thousands of NAKs a second: not by way of construct.
REQUEST_HEAD_DTYPE = numpy_dtype(REQUEST_HEAD)
RANGE_DTYPE = numpy_dtype(RANGE)
COUNT_DTYPE = numpy_dtype(COUNT)
NAK_HEAD_DTYPE = numpy_dtype(NAK_HEAD)

FIXED_SIZE = REQUEST_HEAD_DTYPE.itemsize
NAK_FIXED_SIZE = NAK_HEAD_DTYPE.itemsize
"""Bytes of a NAK between the header and the request."""

RANGE_SIZE = RANGE_DTYPE.itemsize
COUNT_SIZE = COUNT_DTYPE.itemsize

MAX_BODY = MAX_CONTROL - HEADER.sizeof()
"""Bytes of a NAK or an NCF behind the header, at most (spec: REQ-1)."""

NAK_ROOM = MAX_BODY - NAK_FIXED_SIZE
"""Bytes of the request in a NAK, at most."""

MAX_REQUESTED = 65_536
"""Symbols one request may name: a range of eight bytes must not cost a whole object."""


class Rings(NamedTuple):
    """How many symbols can be sent of each block of an object: source and repair symbols.

    Attributes:
        blocks: Blocks in the object.
        full: Of every block but the last.
        last: Of the last block.
    """

    blocks: int
    full: int
    last: int

    def of(self, blocks: Symbols) -> Symbols:
        """Return how many encoding symbols each of (n,) blocks has."""
        return np.where(blocks == self.blocks - 1, self.last, self.full)


ANY_RINGS = Rings(1 << 32, 0xFFFF, 0xFFFF)
"""What an object may have at most."""


def likely_rings(request: bytes) -> Rings | None:
    """Return rings that let a request pass whose object is not known."""
    return ANY_RINGS if request[:1] == bytes([RequestForm.COUNTS]) else None


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """So many symbols of each of some blocks, whichever the repairer sends (spec: REQ-5).

    Attributes:
        blocks: (n,), ascending, distinct.
        firsts: (n,) encoding symbol ids of the first symbols that come; a NAK has 0.
        counts: (n,), at least 1 each.
    """

    blocks: Symbols
    firsts: Symbols
    counts: Symbols


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Symbols by name, as (n,) runs: what they cost grows with the request, not with the symbols.

    Attributes:
        starts: (n,) first symbols, ascending.
        ends: (n,) each behind the last symbol of its run and of all before it.
    """

    starts: Symbols
    ends: Symbols

    def __len__(self) -> int:
        return len(self.starts)

    def has(self, symbols: Symbols) -> Flags:
        """Return which of (n,) symbols are in one of the runs."""
        places = np.searchsorted(self.starts, symbols, "right") - 1
        found: Flags = (places >= 0) & (symbols < self.ends[places])
        return found

    def touch(self, starts: Symbols, ends: Symbols) -> Flags:
        """Return in which of (n,) spans of symbols, from `starts` to `ends`, some of them lie."""
        places = np.searchsorted(self.ends, starts, "right")
        found: Flags = places < len(self.starts)
        found[found] = self.starts[places[found]] < ends[found]
        return found

    @classmethod
    def union(cls, parts: Sequence[Runs]) -> Runs:
        """Return what is in any of `parts`."""
        if len(parts) == 1:
            return parts[0]
        starts = np.concatenate([part.starts for part in parts])
        order = np.argsort(starts, kind="stable")
        ends = np.concatenate([part.ends for part in parts])[order]
        return cls(starts[order], np.maximum.accumulate(ends))


def request_size(symbols: Symbols) -> int:
    """Return the bytes of the shorter request that names all of `symbols`, (n,) ascending."""
    ranges = 1 + int(np.count_nonzero(symbols[1:] != symbols[:-1] + 1))
    span = int(symbols[-1]) - int(symbols[0]) + 1
    return FIXED_SIZE + min(ranges * RANGE_SIZE, (span + 7) // 8)


def build_request(symbols: Symbols, limit: int) -> tuple[bytes, int]:
    """Name as many of `symbols`, lowest first, as fit in `limit` bytes.

    Args:
        symbols: (n,), ascending, distinct, at least one.
        limit: Bytes, at least 16.

    Returns:
        The request's bytes, and how many symbols it names.
    """
    symbols = symbols[:MAX_REQUESTED]
    base = int(symbols[0])
    room = limit - FIXED_SIZE
    starts = np.flatnonzero(np.diff(symbols, prepend=symbols[0] - 2) != 1)
    in_ranges = _covered(starts, room // RANGE_SIZE, len(symbols))
    in_bitmap = int(np.searchsorted(symbols, base + room * 8))
    span = int(symbols[in_bitmap - 1]) - base + 1
    ranges_size = int(np.searchsorted(starts, in_ranges)) * RANGE_SIZE
    bitmap_size = (span + 7) // 8
    as_bitmap = (in_bitmap, -bitmap_size) > (in_ranges, -ranges_size)
    if as_bitmap:
        bits = np.zeros(span, np.bool_)
        bits[symbols[:in_bitmap] - base] = True
        octets = np.packbits(bits)
        count, items, named, form = len(octets), octets.tobytes(), in_bitmap, RequestForm.BITMAP
    else:
        kept = starts[starts < in_ranges]
        ranges = np.zeros(len(kept), RANGE_DTYPE)
        ranges["start"] = symbols[kept] - base
        ranges["length"] = np.diff(np.append(kept, in_ranges))
        count, items, named, form = len(kept), ranges.tobytes(), in_ranges, RequestForm.RANGES
    return np.array((form, 0, count, base), REQUEST_HEAD_DTYPE).tobytes() + items, named


def _covered(starts: npt.NDArray[np.intp], ranges: int, count: int) -> int:
    """Return how many of `count` symbols the first `ranges` runs hold."""
    return count if ranges >= len(starts) else int(starts[ranges])


def counts_size(blocks: int) -> int:
    """Return the bytes of the request that says counts of so many blocks."""
    return FIXED_SIZE + blocks * COUNT_SIZE


def build_counts(counts: Counts, limit: int) -> tuple[bytes, int]:
    """Say as many of `counts`, lowest blocks first, as fit in `limit` bytes.

    Args:
        counts: At least one.
        limit: Bytes, at least 16.

    Returns:
        The request's bytes, and how many blocks it names.
    """
    within = int(np.searchsorted(np.cumsum(counts.counts), MAX_REQUESTED, side="right"))
    named = min(within, (limit - FIXED_SIZE) // COUNT_SIZE)
    items = np.zeros(named, COUNT_DTYPE)
    items["block"] = counts.blocks[:named]
    items["first"] = counts.firsts[:named]
    items["count"] = counts.counts[:named]
    head = np.array((RequestForm.COUNTS, 0, named, 0), REQUEST_HEAD_DTYPE)
    return head.tobytes() + items.tobytes(), named


def _check_length(body: bytes) -> None:
    """
    Raises:
        RefusedPacket: `body` is longer than any that is sent; parsing it would take its time.
    """
    if len(body) > MAX_BODY:
        raise RefusedPacket("request", f"{len(body)} bytes")


@overload
def parse_request(body: bytes, total: int, rings: None = None) -> Symbols: ...


@overload
def parse_request(body: bytes, total: int, rings: Rings) -> Counts: ...


@overload
def parse_request(body: bytes, total: int, rings: Rings | None) -> Symbols | Counts: ...


def parse_request(body: bytes, total: int, rings: Rings | None = None) -> Symbols | Counts:
    """Return the symbols that a request names, ascending, or its counts.

    Args:
        total: Source symbols in the object.
        rings: Of an object with repair symbols, whose requests are counts; None: it has none, and
            symbols are asked for by name.

    Raises:
        RefusedPacket: reason ``request``.
    """
    if rings:
        form, count, base = _head(body)
        # spec: REQ-5
        if form != RequestForm.COUNTS or len(body) != FIXED_SIZE + count * COUNT_SIZE:
            raise _malformed(body, form, count)
        return _counts(np.frombuffer(body, COUNT_DTYPE, offset=FIXED_SIZE), base, rings)
    runs = parse_runs(body, total)
    return expand(runs.starts, runs.ends - runs.starts)


def parse_runs(body: bytes, total: int) -> Runs:
    """Return the symbols that a request names.

    Args:
        total: Source symbols in the object.

    Raises:
        RefusedPacket: reason ``request``.
    """
    form, count, base = _head(body)
    if form == RequestForm.BITMAP and len(body) == FIXED_SIZE + count:
        bits = np.unpackbits(np.frombuffer(body, np.uint8, offset=FIXED_SIZE))
        edges = np.diff(bits.view(np.int8), prepend=0, append=0)
        starts, ends = (np.flatnonzero(edges == step) for step in (1, -1))
    elif form == RequestForm.RANGES and len(body) == FIXED_SIZE + count * RANGE_SIZE:
        ranges = np.frombuffer(body, RANGE_DTYPE, offset=FIXED_SIZE)
        starts, lengths = ranges["start"].astype(np.int64), ranges["length"].astype(np.int64)
        ends = starts + lengths
        if not lengths.all() or (starts[1:] < ends[:-1]).any():
            raise RefusedPacket("request", "ranges are empty, unsorted or overlap")
    else:
        raise _malformed(body, form, count)
    if not len(starts) or base + int(ends[-1]) > total:
        raise RefusedPacket("request", "nothing, or outside the object")
    if int((ends - starts).sum()) > MAX_REQUESTED:
        raise RefusedPacket("request", "too many symbols")
    return Runs(starts + base, ends + base)


def _head(body: bytes) -> tuple[int, int, int]:
    """Return the form of a request, how many items it has, and its base.

    Raises:
        RefusedPacket: reason ``request``.
    """
    _check_length(body)
    if len(body) < FIXED_SIZE:
        raise RefusedPacket("request", f"{len(body)} bytes")
    form, flags, count, base = np.frombuffer(body, REQUEST_HEAD_DTYPE, 1)[0].tolist()
    if flags:
        raise RefusedPacket("request", f"flags {flags}")
    return form, count, base


def _malformed(body: bytes, form: int, count: int) -> RefusedPacket:
    return RefusedPacket("request", f"form {form} with {count} items in {len(body)} bytes")


def _counts(items: npt.NDArray[np.void], base: int, rings: Rings) -> Counts:
    """Return (n,) items as counts.

    Raises:
        RefusedPacket: reason ``request``.
    """
    blocks, firsts, counts = (items[name].astype(np.int64) for name in ("block", "first", "count"))
    if base or not len(blocks) or (np.diff(blocks) <= 0).any() or int(blocks[-1]) >= rings.blocks:
        raise RefusedPacket("request", "no blocks, unsorted ones, or outside the object")
    most = rings.of(blocks)
    if not counts.all() or (counts > most).any() or (firsts >= most).any():
        raise RefusedPacket("request", "a count that its block does not have")
    if int(counts.sum()) > MAX_REQUESTED:
        raise RefusedPacket("request", "too many symbols")
    return Counts(blocks, firsts, counts)


def expand(starts: Symbols, lengths: Symbols) -> Symbols:
    """Return the numbers in (n,) runs, one after another; `starts` are their first ones."""
    ends = np.cumsum(lengths)
    numbers: Symbols = np.repeat(starts - (ends - lengths), lengths)
    return numbers + np.arange(len(numbers))


@dataclass(frozen=True, slots=True)
class Nak:
    """The body of a NAK.

    Attributes:
        nonce: The latest nonce heard.
        timestamp: Sender's clock as the receiver extrapolates it, ns.
        loss: Share of packets lost, 0 to 1.
        symbols: (n,), ascending; none if counts are asked for.
        counts: None: symbols are asked for by name.
    """

    nonce: int
    timestamp: int
    loss: float
    symbols: Symbols
    counts: Counts | None = None

    @property
    def wanted(self) -> int:
        """Symbols that it asks for."""
        return len(self.symbols) if self.counts is None else int(self.counts.counts.sum())


def build_nak(nonce: int, timestamp: int, loss: float, request: bytes) -> bytes:
    """Return the body of a NAK around a request's bytes."""
    share = round(min(max(loss, 0.0), 1.0) * 65_535)
    return np.array((nonce, timestamp, share, 0), NAK_HEAD_DTYPE).tobytes() + request


def parse_nak(body: bytes, total: int, rings: Rings | None = None) -> Nak:
    """Parse the body of a NAK for an object of `total` source symbols.

    Args:
        rings: As for `parse_request`.

    Raises:
        RefusedPacket: reason ``request``.
    """
    _check_length(body)
    if len(body) < NAK_FIXED_SIZE:
        raise RefusedPacket("request", f"{len(body)} bytes")
    nonce, timestamp, loss, reserved = np.frombuffer(body, NAK_HEAD_DTYPE, 1)[0].tolist()
    if reserved:
        raise RefusedPacket("request", f"reserved {reserved}")
    request, share = body[NAK_FIXED_SIZE:], loss / 65_535
    asked = parse_request(request, total, rings)
    if not isinstance(asked, Counts):
        return Nak(nonce, timestamp, share, asked)
    if asked.firsts.any():
        raise RefusedPacket("request", "a NAK that says which symbols come")
    return Nak(nonce, timestamp, share, np.zeros(0, np.int64), asked)
