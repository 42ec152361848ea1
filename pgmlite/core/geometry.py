"""Where everything of an object is: the only owner of that arithmetic (spec/protocol.md section 4).

An object is cut into source symbols, and these into source blocks. On the wire a symbol is named by
its block and its encoding symbol id; a source symbol also has a number, counted through the object:
block times K plus id.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pgmlite.wire.control import Manifest
from pgmlite.wire.request import Symbols


def pieces(size: int, piece: int) -> int:
    """Return how many pieces of `piece` bytes `size` bytes are cut into, the last maybe shorter."""
    return -(-size // piece)


@dataclass(frozen=True)
class Geometry:
    """The sizes of one object.

    Attributes:
        size: Bytes in the object.
        symbol_size: Bytes in a symbol; the object's last may be shorter.
        block_symbols: K, source symbols in a block; the object's last block may have fewer.
    """

    size: int
    symbol_size: int
    block_symbols: int

    @classmethod
    def of(cls, manifest: Manifest) -> Geometry:
        """Return the geometry that a manifest says."""
        return cls(manifest.size, manifest.symbol_size, manifest.block_symbols)

    @cached_property
    def symbols(self) -> int:
        """Source symbols in the object."""
        return pieces(self.size, self.symbol_size)

    @cached_property
    def block_size(self) -> int:
        """Bytes in every block but the last."""
        return self.symbol_size * self.block_symbols

    @cached_property
    def blocks(self) -> int:
        """Source blocks in the object."""
        return pieces(self.symbols, self.block_symbols)

    # Of symbols, (n,) numbers each.

    def numbers(self, offsets: npt.NDArray[np.int64]) -> Symbols:
        """Return the numbers of the source symbols at byte `offsets`."""
        return offsets // self.symbol_size

    def offsets(self, symbols: Symbols) -> npt.NDArray[np.int64]:
        """Return the byte offsets of source symbols."""
        return symbols * self.symbol_size

    def blocks_of(self, symbols: Symbols) -> Symbols:
        """Return the blocks of source symbols."""
        return symbols // self.block_symbols

    def esis(self, symbols: Symbols) -> Symbols:
        """Return the encoding symbol ids of source symbols."""
        return symbols % self.block_symbols

    def names(self, offsets: npt.NDArray[np.int64], esis: Symbols) -> npt.NDArray[np.bool_]:
        """Return whether (n,) byte `offsets` and encoding symbol ids are those of symbols."""
        symbols = self.numbers(offsets)
        are_whole = (offsets < self.size) & (self.offsets(symbols) == offsets)
        found: npt.NDArray[np.bool_] = are_whole & (esis == self.esis(symbols))
        return found

    # Of one block.

    def block_of(self, symbol: int) -> int:
        """Return the block of a source symbol."""
        return symbol // self.block_symbols

    def span(self, first: int, stop: int) -> slice:
        """Return the source symbols of the blocks `first` to `stop`."""
        return slice(first * self.block_symbols, min(stop * self.block_symbols, self.symbols))

    def source(self, block: int) -> int:
        """Return K of `block`: how many source symbols it has."""
        span = self.span(block, block + 1)
        return int(span.stop - span.start)

    def extent(self, block: int) -> tuple[int, int]:
        """Return the byte offset and the length of `block`."""
        offset = block * self.block_size
        return offset, min(self.block_size, self.size - offset)
