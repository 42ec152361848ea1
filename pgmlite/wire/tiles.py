"""Leaves of the tree of tiles: the digests by which symbols are known (spec: TILE-2).

A leaf has the digest of its tile, 32 bytes, and behind it one of 8 bytes for each of its symbols,
in the order in which they are sent. All symbols are whole here: an object's last source symbol, if
it is short, is filled up with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from pgmlite.wire.digests import digest
from pgmlite.wire.layout import DIGEST_SIZE, SYMBOL_DIGEST_SIZE
from pgmlite.wire.request import Symbols

NO_TILE = bytes(DIGEST_SIZE)
"""What a tile without symbols has in its parent."""

BOUND_DTYPE = np.dtype([("block", ">u8"), ("esi", ">u4"), ("rest", "V20")])
"""The key under which a symbol is hashed: it binds the digest to what the symbol is called."""

Digests = npt.NDArray[np.uint64]
"""Digests of symbols, as numbers: their bytes in the machine's order."""


def leaf_length(symbols: int) -> int:
    """Return the bytes of a leaf of a tile with so many symbols."""
    return DIGEST_SIZE + symbols * SYMBOL_DIGEST_SIZE


def symbol_digests(blocks: Symbols, esis: Symbols, symbols: npt.NDArray[np.uint8]) -> Digests:
    """Return the digests of (n,) symbols: BLAKE3 under a key, cut to 8 bytes.

    Args:
        symbols: (n, T) whole ones; rows of any stride.
    """
    keys = np.zeros(len(blocks), BOUND_DTYPE)
    keys["block"], keys["esi"] = blocks, esis
    key_bytes, size = keys.tobytes(), BOUND_DTYPE.itemsize
    # There is no call that hashes many: this is the one loop over packets, and not on the way of
    # tiles that came whole.
    found = b"".join(
        [
            blake3(row, key=key_bytes[at : at + size]).digest(SYMBOL_DIGEST_SIZE)
            for at, row in zip(range(0, len(key_bytes), size), symbols, strict=True)
        ]
    )
    return np.frombuffer(found, np.uint64)


def tile_digest(symbols: npt.NDArray[np.uint8]) -> bytes:
    """Return the digest of a whole tile: (n, T) symbols in their order."""
    return digest(np.ascontiguousarray(symbols).reshape(-1).data)


def build_leaf(blocks: Symbols, esis: Symbols, symbols: npt.NDArray[np.uint8]) -> bytes:
    """Return the leaf of a tile: what its (n,) symbols are, and (n, T) their bytes."""
    return tile_digest(symbols) + symbol_digests(blocks, esis, symbols).tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A leaf that was checked against its parent.

    Attributes:
        tile: Digest of the whole tile.
        symbols: (n,) digests of its symbols.
    """

    tile: bytes
    symbols: Digests

    @classmethod
    def of(cls, octets: bytes) -> Leaf:
        """Return the leaf that has these bytes."""
        return cls(octets[:DIGEST_SIZE], np.frombuffer(octets[DIGEST_SIZE:], np.uint64))
