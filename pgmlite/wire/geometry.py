"""Where everything of an object is: the only owner of that arithmetic (spec/protocol.md section 4).

An object is cut into source symbols, and these into source blocks. On the wire a symbol is named by
its block and its encoding symbol id; a source symbol also has a number, counted through the object:
block times K plus id. Behind its source symbols a block has repair symbols, as many as the manifest
says: both together are its ring, which carousels send visit by visit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pgmlite.wire.layout import DIGEST_SIZE, SYMBOL_DIGEST_SIZE, TILE_BLOCKS, VISIT_SYMBOLS
from pgmlite.wire.request import Rings, Symbols

LAST_REPAIRS = 32
"""Repair symbols that a short last block has beyond its share: losses of few symbols vary more."""

LEAST_REPAIRS = 64
"""Repair symbols that a full block may have however small it is, and that senders give it: the
fewer symbols, the more their losses vary."""

MOST_REPAIRS = 7
"""Times as many repair symbols as source symbols, at most: what six channels take."""

FEC_STEPS = 10_000
"""Shares of repair symbols are in hundredths of a percent."""


def pieces(size: int, piece: int) -> int:
    """Return how many pieces of `piece` bytes `size` bytes are cut into, the last maybe shorter."""
    return -(-size // piece)


def most_repairs(block_symbols: int) -> int:
    """Return how many repair symbols a block of `block_symbols` source symbols may have."""
    return max(MOST_REPAIRS * block_symbols, LEAST_REPAIRS)


def most_tile_blocks(symbol_size: int) -> int:
    """Return how many blocks a tile may have of which a leaf fits in a symbol; 0: none."""
    # spec: TILE-1
    room = (symbol_size - DIGEST_SIZE) // (VISIT_SYMBOLS * SYMBOL_DIGEST_SIZE)
    return max(0, min(TILE_BLOCKS, room))


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

    def cut(self, start: int, stop: int) -> Ids:
        """Return those from `start` to `stop`."""
        return Ids(self.blocks[start:stop], self.esis[start:stop])


@dataclass(frozen=True, slots=True, eq=False)
class Named(Ids):
    """Encoding symbols, and what their packets' headers say of them (`Geometry.named`).

    Attributes:
        offsets: (n,) byte offset of source symbols, of repair symbols that of their block.
        are_repairs: (n,) whether each is a repair symbol.
    """

    offsets: npt.NDArray[np.int64]
    are_repairs: npt.NDArray[np.bool_]

    def cut(self, start: int, stop: int) -> Named:
        """Return those from `start` to `stop`."""
        span = slice(start, stop)
        return Named(self.blocks[span], self.esis[span], self.offsets[span], self.are_repairs[span])


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
        repair_symbols: M, repair symbols of a block with K source symbols; 0: there are none.
        tile_blocks: D, blocks that carousels send symbol by symbol in turn.
    """

    block_symbols: int
    repair_symbols: int = 0
    tile_blocks: int = 1

    @cached_property
    def block_size(self) -> int:
        """Bytes in every block but the last."""
        return self.symbol_size * self.block_symbols

    @cached_property
    def blocks(self) -> int:
        """Source blocks in the object."""
        return pieces(self.symbols, self.block_symbols)

    @cached_property
    def groups(self) -> int:
        """Groups of neighbouring blocks that are sent in turn."""
        return pieces(self.blocks, self.tile_blocks)

    @cached_property
    def rings(self) -> Rings:
        """How many encoding symbols blocks have."""
        last = self.ring(self.blocks - 1) if self.blocks else 0
        return Rings(self.blocks, self.block_symbols + self.repair_symbols, last)

    @property
    def counted(self) -> Rings | None:
        """What requests count symbols of; None: they name symbols (spec: REQ-5)."""
        return self.rings if self.repair_symbols else None

    @property
    def is_coded(self) -> bool:
        """Whether there are blocks, and they have repair symbols."""
        return bool(self.repair_symbols and self.symbols)

    @cached_property
    def source_visits(self) -> int:
        """Visits in which carousels send the source symbols of every block."""
        return pieces(self.block_symbols, VISIT_SYMBOLS)

    @cached_property
    def visits(self) -> int:
        """Visits in which carousels send the ring of every block, source symbols first."""
        return self.source_visits + pieces(self.repair_symbols, VISIT_SYMBOLS)

    @classmethod
    def planned(
        cls,
        size: int,
        symbol_size: int,
        block_symbols: int,
        fec: float,
        *,
        is_signed: bool = False,
    ) -> Geometry:
        """Return the sizes that a sender chooses (spec: OBJ-3, FEC-1, TILE-1).

        Args:
            block_symbols: K at most.
            fec: Repair symbols of a block as a share of its source symbols, at least 64 of them;
                0: none.
            is_signed: It gets leaves of tiles, which have to fit a symbol.
        """
        symbols = pieces(size, symbol_size)
        block_symbols = max(1, min(block_symbols, symbols))
        if not fec:
            tile = cls._tile(symbols, symbol_size, block_symbols, is_signed) if is_signed else 1
            return cls(size, symbol_size, block_symbols, tile_blocks=tile)
        # Whoever is told the same percents has the same object: no rounding of fractions.
        repairs = pieces(block_symbols * round(fec * FEC_STEPS), FEC_STEPS)
        return cls._coded(size, symbol_size, block_symbols, repairs, is_signed)

    @classmethod
    def laddered(
        cls,
        size: int,
        symbol_size: int,
        block_symbols: int,
        channels: int,
        *,
        is_signed: bool = False,
    ) -> Geometry:
        """Return the sizes that a sender with several channels chooses (spec: FEC-1).

        Each channel's territory is 4/3 of the source symbols: enough by itself up to a fourth of
        all packets lost.

        Args:
            block_symbols: K at most.
            is_signed: As of `planned`.
        """
        block_symbols = max(1, min(block_symbols, pieces(size, symbol_size)))
        repairs = pieces((4 * channels - 3) * block_symbols, 3)
        return cls._coded(size, symbol_size, block_symbols, repairs, is_signed)

    @classmethod
    def _coded(
        cls, size: int, symbol_size: int, block_symbols: int, repairs: int, is_signed: bool
    ) -> Geometry:
        """Return sizes with about so many repair symbols, as many as are allowed and good."""
        repairs = min(max(repairs, LEAST_REPAIRS), most_repairs(block_symbols))
        tile = cls._tile(pieces(size, symbol_size), symbol_size, block_symbols, is_signed)
        return cls(size, symbol_size, block_symbols, repairs, tile)

    @staticmethod
    def _tile(symbols: int, symbol_size: int, block_symbols: int, is_signed: bool) -> int:
        """Return D: as many blocks as there are and a tile may have."""
        most = most_tile_blocks(symbol_size) if is_signed else TILE_BLOCKS
        return max(1, min(most, pieces(symbols, block_symbols)))

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

    def sources(self, blocks: Symbols) -> Symbols:
        """Return K of each of (n,) blocks."""
        last = self.blocks - 1
        return np.where(blocks == last, self.source(last), self.block_symbols)

    def are_repairs(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Return whether each is a repair symbol."""
        found: npt.NDArray[np.bool_] = ids.esis >= self.sources(ids.blocks)
        return found

    def named(self, ids: Ids) -> Named:
        """Return symbols with what their headers say."""
        are_repairs = self.are_repairs(ids)
        places = np.where(are_repairs, 0, ids.esis) if self.repair_symbols else ids.esis
        offsets = (ids.blocks * self.block_symbols + places) * self.symbol_size
        return Named(ids.blocks, ids.esis, offsets, are_repairs)

    def extents(self, ids: Ids) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of the stretches of bytes of source symbols, in their order."""
        if len(ids) == 1:
            first = int(ids.blocks[0]) * self.block_symbols + int(ids.esis[0])
            offset, end = self.bytes_of(first, first + 1)
            yield offset, end - offset
            return
        symbols = self.symbols_of(ids)
        breaks = np.flatnonzero(np.diff(symbols) != 1) + 1
        for start, stop in pairwise([0, *breaks.tolist(), len(symbols)]):
            first = int(symbols[start])
            offset, end = self.bytes_of(first, first + stop - start)
            yield offset, end - offset

    def are_last(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Return whether each is the object's last source symbol, which may be short."""
        last = self.blocks - 1
        found: npt.NDArray[np.bool_] = (ids.blocks == last) & (ids.esis == self.source(last) - 1)
        return found

    def length(self, ids: Ids) -> int:
        """Return the bytes of (n,) symbols, of which the object's last is none but the last."""
        block, esi = int(ids.blocks[-1]), int(ids.esis[-1])
        is_last = block == self.blocks - 1 and esi == self.source(block) - 1  # one, so no arrays
        short = self.symbols * self.symbol_size - self.size if is_last else 0
        return len(ids) * self.symbol_size - short

    def repairs_at(self, offsets: npt.NDArray[np.int64], esis: Symbols) -> npt.NDArray[np.bool_]:
        """Return whether (n,) byte `offsets` and encoding symbol ids are those of repair symbols.

        None of an object without repair symbols is.
        """
        blocks = offsets // self.block_size
        firsts = self.sources(blocks)
        found: npt.NDArray[np.bool_] = (
            (offsets < self.size)
            & (blocks * self.block_size == offsets)
            & (esis >= firsts)
            & (esis < self.rings.of(blocks))
        )
        return found

    # Of one block.

    def block_of(self, symbol: int) -> int:
        """Return the block of a source symbol."""
        return symbol // self.block_symbols

    def esi_of(self, symbol: int) -> int:
        """Return the encoding symbol id of a source symbol."""
        return symbol % self.block_symbols

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

    def repairs(self, block: int) -> int:
        """Return how many repair symbols `block` has (spec: FEC-2)."""
        source = self.source(block)
        if source == self.block_symbols or not self.repair_symbols:
            return self.repair_symbols
        share = pieces(self.repair_symbols * source, self.block_symbols)
        return min(self.repair_symbols, share + LAST_REPAIRS)

    def ring(self, block: int) -> int:
        """Return how many encoding symbols `block` has."""
        return self.source(block) + self.repairs(block)

    def extent(self, block: int) -> tuple[int, int]:
        """Return the byte offset and the length of `block`."""
        offset = block * self.block_size
        return offset, min(self.block_size, self.size - offset)
