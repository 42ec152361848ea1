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

from pgmlite.wire.request import Symbols


def pieces(size: int, piece: int) -> int:
    """Return how many pieces of `piece` bytes `size` bytes are cut into, the last maybe shorter."""
    return -(-size // piece)


@dataclass(frozen=True, slots=True, eq=False)
class Ids:
    """Encoding symbols by name, in the order in which they are sent.

    Attributes:
        blocks: (n,).
        esis: (n,) encoding symbol ids.
    """

    blocks: Symbols
    esis: Symbols

    def __len__(self) -> int:
        return len(self.blocks)


@dataclass(frozen=True)
class Sizes:
    """What every packet says of its object's size.

    Attributes:
        size: Bytes in the object.
        symbol_size: Bytes in a symbol; the object's last may be shorter.
    """

    size: int
    symbol_size: int

    @cached_property
    def symbols(self) -> int:
        """Source symbols in the object."""
        return pieces(self.size, self.symbol_size)

    def number(self, offset: int) -> int:
        """Return the number of the source symbol at byte `offset`."""
        return offset // self.symbol_size

    def numbers(self, offsets: npt.NDArray[np.int64]) -> Symbols:
        """Return the numbers of the source symbols at byte `offsets`, (n,)."""
        return offsets // self.symbol_size

    def offsets(self, symbols: Symbols) -> npt.NDArray[np.int64]:
        """Return the byte offsets of source symbols, (n,)."""
        return symbols * self.symbol_size

    def bytes_of(self, start: int, stop: int) -> tuple[int, int]:
        """Return the (start, stop) bytes of the source symbols `start` to `stop`."""
        return start * self.symbol_size, min(stop * self.symbol_size, self.size)


@dataclass(frozen=True)
class Geometry(Sizes):
    """The sizes of one object, as its manifest says them.

    Attributes:
        block_symbols: K, source symbols in a block; the object's last block may have fewer.
    """

    block_symbols: int

    @cached_property
    def block_size(self) -> int:
        """Bytes in every block but the last."""
        return self.symbol_size * self.block_symbols

    @cached_property
    def blocks(self) -> int:
        """Source blocks in the object."""
        return pieces(self.symbols, self.block_symbols)

    # Of symbols, (n,) numbers each.

    def blocks_of(self, symbols: Symbols) -> Symbols:
        """Return the blocks of source symbols."""
        return symbols // self.block_symbols

    def esis(self, symbols: Symbols) -> Symbols:
        """Return the encoding symbol ids of source symbols."""
        return symbols % self.block_symbols

    def ids(self, symbols: Symbols) -> Ids:
        """Return the names of source symbols."""
        return Ids(self.blocks_of(symbols), self.esis(symbols))

    def symbols_of(self, ids: Ids) -> Symbols:
        """Return the numbers of source symbols that are named."""
        return ids.blocks * self.block_symbols + ids.esis

    def has(self, offset: int, esi: int) -> bool:
        """Whether a source symbol of this id is at byte `offset`; an empty object has (0, 0)."""
        symbol, odd = divmod(offset, self.symbol_size)
        return offset < max(self.size, 1) and not odd and symbol % self.block_symbols == esi

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

    def esi_of(self, symbol: int) -> int:
        """Return the encoding symbol id of a source symbol."""
        return symbol % self.block_symbols

    def ended(self, start: int, stop: int) -> range:
        """Return the blocks whose last symbol is among the source symbols `start` to `stop`."""
        last = self.blocks if stop == self.symbols else self.block_of(stop)
        return range(self.block_of(start), last)

    def blocks_over(self, start: int, stop: int) -> range:
        """Return the blocks that have one of the bytes `start` to `stop`, beyond the end none."""
        return range(start // self.block_size, pieces(min(stop, self.size), self.block_size))

    def offset(self, block: int, esi: int) -> int:
        """Return the byte offset of one source symbol."""
        return (block * self.block_symbols + esi) * self.symbol_size

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
