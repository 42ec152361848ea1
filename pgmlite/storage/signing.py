"""The trees of an object that is to be signed, from its file: group after group, memory flat.

What this costs is spent once, where signing is done: senders and receivers read leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pgmlite.core.tiles import Tiles, tiles_of
from pgmlite.core.visits import visits_of
from pgmlite.fec.encode import add_repairs, parities
from pgmlite.storage.source import Progress, SourceFile
from pgmlite.wire.batch import Octets
from pgmlite.wire.digests import BlockTree, block_digest, digest
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import DIGEST_SIZE, VISIT_SYMBOLS
from pgmlite.wire.tiles import build_leaf, leaf_length

PASS_VISITS = 32
"""Visits of repair symbols that are computed in one go: memory for what they have."""


@dataclass(frozen=True)
class LeafPlaces:
    """Where leaves stand in a row: group after group, in each visit after visit (spec: SIG-3)."""

    tiles: Tiles

    @cached_property
    def _edges(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(visits + 1,) where leaves of a full group, and of the last one, begin and end."""
        empty = leaf_length(0)

        def edges(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            step = leaf_length(1) - empty
            lengths = np.where(sizes > 0, empty + step * sizes, 0)
            return np.concatenate(([0], np.cumsum(lengths)))

        full, last = self.tiles.sizes
        return edges(full), edges(last)

    @property
    def total(self) -> int:
        """Bytes of all leaves."""
        if not self.tiles.count:
            return 0
        full, last = self._edges
        # Sizes come from anywhere: in integers without limits.
        return (self.tiles.geometry.groups - 1) * int(full[-1]) + int(last[-1])

    def group(self, group: int) -> int:
        """Return where the leaves of a group begin."""
        return group * int(self._edges[0][-1])

    def extent(self, tile: int) -> tuple[int, int]:
        """Return where the leaf of a tile begins, and its length; 0: it has none."""
        groups = self.tiles.geometry.groups
        visit, group = divmod(tile, groups)
        edges = self._edges[group == groups - 1]
        return self.group(group) + int(edges[visit]), int(edges[visit + 1] - edges[visit])


Write = Callable[[int, bytes], object]
"""Writes bytes at a place of the row of leaves."""


def build_trees(
    source: SourceFile, geometry: Geometry, write: Write, progress: Progress | None = None
) -> tuple[BlockTree, bytes]:
    """Write the leaves of all tiles; return the tree of blocks and the digests of the leaves.

    Args:
        geometry: Of an object of the file's size.

    Raises:
        DiskError: The file can't be read, or changed meanwhile.
    """
    # In one thread: most of the time goes into calls for single symbols, which let no other run.
    tiles = tiles_of(geometry)
    places = LeafPlaces(tiles)
    leaves = np.zeros((geometry.visits, geometry.groups, DIGEST_SIZE), np.uint8)
    blocks = []
    done = 0
    at_work = _Group(source, geometry)
    for group in range(geometry.groups):
        at_work.read(group)
        blocks.append(at_work.block_digests())
        found = list(at_work.leaves(tiles))
        for visit, leaf in enumerate(found):
            if leaf:
                leaves[visit, group] = np.frombuffer(digest(leaf), np.uint8)
        write(places.group(group), b"".join(found))
        done += at_work.length
        if progress:
            progress(done, source.size)
    source.check()
    return BlockTree(b"".join(blocks), geometry.symbol_size), leaves.tobytes()


class _Group:
    """The symbols of one group after the other, in memory that is used again.

    Attributes:
        blocks: Of the group that was read.
        length: Its bytes.
    """

    def __init__(self, source: SourceFile, geometry: Geometry) -> None:
        self._source = source
        self._geometry = geometry
        tile, size = min(geometry.tile_blocks, geometry.blocks), geometry.symbol_size
        self._symbols: Octets = np.zeros((tile, geometry.block_symbols, size), np.uint8)
        most = PASS_VISITS * VISIT_SYMBOLS if geometry.repair_symbols else 0
        self._repairs: Octets = np.zeros((tile, most, size), np.uint8)
        tile_symbols = max((int(sizes.max()) for sizes in tiles_of(geometry).sizes), default=0)
        self._tile: Octets = np.zeros((tile_symbols, size), np.uint8)
        self.blocks = range(0)
        self.length = 0

    def read(self, group: int) -> None:
        """Read the blocks of a group.

        Raises:
            DiskError: The file can't be read, or changed.
        """
        geometry = self._geometry
        first = group * geometry.tile_blocks
        self.blocks = range(first, min(first + geometry.tile_blocks, geometry.blocks))
        self.length = 0
        for block in self.blocks:
            whole = self._whole(block)
            offset, length = geometry.extent(block)
            self._source.read_into(whole.data[:length], offset)
            whole[length:] = 0
            self.length += length

    def _source_symbols(self, block: int) -> Octets:
        """Return the source symbols of a block, (K, T)."""
        return self._symbols[block - self.blocks.start, : self._geometry.source(block)]

    def _whole(self, block: int) -> Octets:
        """Return the bytes of a block, the last symbol filled up."""
        return self._source_symbols(block).reshape(-1)

    def block_digests(self) -> bytes:
        """Return the digests of the blocks, one after the other."""
        geometry = self._geometry
        return b"".join(
            block_digest(self._whole(block).data[: geometry.extent(block)[1]], geometry.symbol_size)
            for block in self.blocks
        )

    def leaves(self, tiles: Tiles) -> Iterator[bytes]:
        """Yield the leaves of the group by visit; empty where a tile has no symbols."""
        geometry = self._geometry
        group = self.blocks.start // geometry.tile_blocks
        none = np.zeros(len(self.blocks), np.int64)
        for visit in range(geometry.source_visits):
            yield self._leaf(tiles.ids(tiles.number(visit, group)), self._symbols, none)
        if not geometry.repair_symbols:
            return
        dense = [parities(self._source_symbols(block)) for block in self.blocks]
        for first in range(geometry.source_visits, geometry.visits, PASS_VISITS):
            visits = range(first, min(first + PASS_VISITS, geometry.visits))
            firsts = self._encode(visits, dense)
            for visit in visits:
                yield self._leaf(tiles.ids(tiles.number(visit, group)), self._repairs, firsts)

    def _encode(self, visits: range, dense: list[Octets]) -> npt.NDArray[np.int64]:
        """Compute the repair symbols of some visits; return the first ESI of each block."""
        geometry = self._geometry
        full, last = visits_of(geometry).edges
        firsts = np.zeros(len(self.blocks), np.int64)
        for number, block in enumerate(self.blocks):
            edges = last if block == geometry.blocks - 1 else full
            start, stop = int(edges[visits.start]), int(edges[visits.stop])
            firsts[number] = start
            made = self._repairs[number, : stop - start]
            made[:] = 0
            source, esis = self._source_symbols(block), np.arange(start, stop, dtype=np.int64)
            add_repairs(source, np.arange(len(source)), dense[number], esis, made)
        return firsts

    def _leaf(self, ids: Ids, symbols: Octets, firsts: npt.NDArray[np.int64]) -> bytes:
        """Return the leaf of a tile whose symbols stand block after block.

        Args:
            symbols: (blocks, n, T).
            firsts: (blocks,) ESI of the first symbol of each.
        """
        if not len(ids):
            return b""
        inside = ids.blocks - self.blocks.start
        rows = inside * symbols.shape[1] + ids.esis - firsts[inside]
        tile = self._tile[: len(ids)]
        np.take(symbols.reshape(-1, symbols.shape[2]), rows, axis=0, out=tile, mode="clip")
        return build_leaf(ids.blocks, ids.esis, tile)
