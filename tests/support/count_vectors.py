"""Requests with counts, of the object with repair symbols."""

from __future__ import annotations

from collections.abc import Iterator

from pgmlite.wire.request import Counts, Rings, build_nak, parse_nak, parse_request
from tests.support.vectors import CODED, counts_request

RINGS = CODED.manifest.geometry.rings
SYMBOLS = CODED.manifest.symbols


def counts() -> Iterator[tuple[str, str, bytes]]:
    """Yield a name, whether a NAK or an NCF has it, and a request with counts, good or bad."""
    yield "one block", "nak", counts_request((1, 0, 3))
    yield "all that there is", "nak", counts_request((0, 0, 104), (1, 0, 104), (2, 0, 64))
    yield "what comes", "ncf", counts_request((0, 103, 2), (2, 63, 1))
    yield "from 0 on, then from the end", "ncf", counts_request((1, 0, 104))
    yield "the first of source symbols", "ncf", counts_request((2, 5, 4))
    yield "which symbols come", "nak", counts_request((0, 103, 2))
    for at in ("nak", "ncf"):
        yield f"no blocks, {at}", at, counts_request()
        yield f"a count of nothing, {at}", at, counts_request((0, 0, 1), (1, 0, 0))
        yield f"more than the block has, {at}", at, counts_request((0, 0, 105))
        yield f"more than the last block has, {at}", at, counts_request((2, 0, 65))
        yield f"a block past the object, {at}", at, counts_request((3, 0, 1))
        yield f"a block twice, {at}", at, counts_request((1, 0, 1), (1, 0, 1))
        yield f"blocks that descend, {at}", at, counts_request((1, 0, 1), (0, 0, 1))
        yield f"a base, {at}", at, counts_request((0, 0, 1), base=1)
        yield f"fewer than are said, {at}", at, counts_request((0, 0, 1), count=2)
        yield f"more than are said, {at}", at, counts_request((0, 0, 1), (1, 0, 1), count=1)
        yield f"a byte too many, {at}", at, counts_request((0, 0, 1)) + b"\0"
    yield "an ESI that the block does not have", "ncf", counts_request((0, 104, 1))
    yield "an ESI that the last block does not have", "ncf", counts_request((2, 64, 1))


def read_counts(at: str, body: bytes, rings: Rings = RINGS) -> Counts:
    """Return the counts of a request in a NAK or in an NCF.

    Raises:
        RefusedPacket: reason ``request``.
    """
    if at == "nak":
        asked = parse_nak(build_nak(1, 2, 0.5, body), SYMBOLS, rings)
        assert not len(asked.symbols)
        found: object = asked.counts
    else:
        found = parse_request(body, SYMBOLS, rings)
    assert isinstance(found, Counts)
    return found
