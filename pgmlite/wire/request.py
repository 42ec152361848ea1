"""Which symbols a NAK asks for and an NCF confirms: ranges or a bitmap, whichever is shorter.

spec/protocol.md section 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from construct import ConstructError

from pgmlite.errors import RefusedPacket
from pgmlite.wire.layout import HEADER, MAX_CONTROL, NAK_BODY, REQUEST, RequestForm

Symbols = npt.NDArray[np.int64]

FIXED_SIZE = 8
NAK_FIXED_SIZE = 20
"""Bytes of a NAK between the header and the request."""

RANGE_SIZE = 8

MAX_BODY = MAX_CONTROL - HEADER.sizeof()
"""Bytes of a NAK or an NCF behind the header, at most (spec: REQ-1)."""

MAX_REQUESTED = 65_536
"""Symbols one request may name: a range of eight bytes must not cost a whole object."""


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
        packed = np.packbits(bits).tobytes()
        values: dict[str, Any] = {"form": RequestForm.BITMAP, "count": len(packed), "items": packed}
    else:
        kept = starts[starts < in_ranges]
        lengths = np.diff(np.append(kept, in_ranges))
        items = [
            {"start": int(symbols[start]) - base, "length": int(length)}
            for start, length in zip(kept.tolist(), lengths.tolist(), strict=True)
        ]
        values = {"form": RequestForm.RANGES, "count": len(items), "items": items}
    return bytes(REQUEST.build(values | {"base": base})), in_bitmap if as_bitmap else in_ranges


def _covered(starts: npt.NDArray[np.intp], ranges: int, count: int) -> int:
    """Return how many of `count` symbols the first `ranges` runs hold."""
    return count if ranges >= len(starts) else int(starts[ranges])


def _expand(parsed: Any, total: int) -> Symbols:
    """Return the symbols of a parsed request, ascending.

    Raises:
        RefusedPacket: reason ``request``.
    """
    if parsed.form == RequestForm.BITMAP:
        bits = np.unpackbits(np.frombuffer(parsed["items"], np.uint8))
        symbols: Symbols = np.flatnonzero(bits).astype(np.int64) + parsed.base
    else:
        starts = np.array([item.start for item in parsed["items"]], np.int64)
        lengths = np.array([item.length for item in parsed["items"]], np.int64)
        if not lengths.all() or (starts[1:] < (starts + lengths)[:-1]).any():
            raise RefusedPacket("request", "ranges are empty, unsorted or overlap")
        if lengths.sum() > MAX_REQUESTED:
            raise RefusedPacket("request", "too many symbols")
        before = np.cumsum(lengths) - lengths
        symbols = np.repeat(starts - before, lengths) + np.arange(lengths.sum()) + parsed.base
    if not len(symbols) or len(symbols) > MAX_REQUESTED or int(symbols[-1]) >= total:
        raise RefusedPacket("request", "nothing, too much, or outside the object")
    return symbols


def _check_length(body: bytes) -> None:
    """
    Raises:
        RefusedPacket: `body` is longer than any that is sent; parsing it would take its time.
    """
    if len(body) > MAX_BODY:
        raise RefusedPacket("request", f"{len(body)} bytes")


def parse_request(body: bytes, total: int) -> Symbols:
    """Return the symbols that a request names, ascending.

    Args:
        total: Symbols in the object.

    Raises:
        RefusedPacket: reason ``request``.
    """
    _check_length(body)
    try:
        parsed = REQUEST.parse(body)
    except ConstructError as error:
        raise RefusedPacket("request", " ".join(str(error).split())) from error
    return _expand(parsed, total)


@dataclass(frozen=True, slots=True)
class Nak:
    """The body of a NAK.

    Attributes:
        nonce: The latest nonce heard.
        timestamp: Sender's clock as the receiver extrapolates it, ns.
        loss: Share of packets lost, 0 to 1.
        symbols: (n,), ascending.
    """

    nonce: int
    timestamp: int
    loss: float
    symbols: Symbols


def build_nak(nonce: int, timestamp: int, loss: float, request: bytes) -> bytes:
    """Return the body of a NAK around a request's bytes."""
    return bytes(
        NAK_BODY.build(
            {
                "nonce": nonce,
                "timestamp": timestamp,
                "loss": round(min(max(loss, 0.0), 1.0) * 65_535),
                "request": REQUEST.parse(request),
            }
        )
    )


def parse_nak(body: bytes, total: int) -> Nak:
    """Parse the body of a NAK for an object of `total` symbols.

    Raises:
        RefusedPacket: reason ``request``.
    """
    _check_length(body)
    try:
        parsed = NAK_BODY.parse(body)
    except ConstructError as error:
        raise RefusedPacket("request", " ".join(str(error).split())) from error
    symbols = _expand(parsed.request, total)
    return Nak(parsed.nonce, parsed.timestamp, parsed.loss / 65_535, symbols)
