"""Tiles of a signed object: their numbers, and the tree that has their leaves (spec: TILE-1 on).

Tile v·G + g is visit v of group g, of G groups. The tree is one of packets as that of blocks is:
inner nodes are numbered from the root on, and the leaf of tile t is number `nodes` + t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from pgmlite.core.visits import Visits, visits_of
from pgmlite.wire.digests import TreeShape, rows_of
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.request import Symbols
from pgmlite.wire.tiles import leaf_length


@dataclass(frozen=True)
class Tiles:
    """The tiles of one object; `tiles_of` gives one for all that ask."""

    geometry: Geometry

    @property
    def count(self) -> int:
        """Tiles of the object, those without symbols among them."""
        return self.geometry.visits * self.geometry.groups if self.geometry.symbols else 0

    @cached_property
    def tree(self) -> TreeShape:
        """The shape of the tree of tiles: its `blocks` are the tiles."""
        return TreeShape(self.count, self.geometry.symbol_size)

    @cached_property
    def _visits(self) -> Visits:
        return visits_of(self.geometry)

    @cached_property
    def sizes(self) -> tuple[Symbols, Symbols]:
        """(visits,) symbols of a tile of each visit: of a full group, and of the last one."""
        full, last = (np.diff(pattern.starts) for pattern in self._visits.patterns)
        return full, last

    def number(self, visit: int, group: int) -> int:
        """Return the number of a tile."""
        return visit * self.geometry.groups + group

    def symbols(self, tile: int) -> int:
        """Return how many symbols a tile has; 0: it has no leaf either."""
        visit, group = divmod(tile, self.geometry.groups)
        return int(self.sizes[group == self.geometry.groups - 1][visit])

    def length(self, tile: int) -> int:
        """Return the bytes of a tile's leaf; 0: it has none."""
        symbols = self.symbols(tile)
        return leaf_length(symbols) if symbols else 0

    def of(self, ids: Ids) -> Symbols:
        """Return the tile of each of (n,) symbols."""
        visits = self._visits.visits_of(ids)
        return visits * self.geometry.groups + ids.blocks // self.geometry.tile_blocks

    def places(self, ids: Ids) -> Symbols:
        """Return which of its tile each of (n,) symbols is, counted from 0."""
        visits = self._visits.visits_of(ids)
        return self._visits.inside(ids, visits, ids.blocks // self.geometry.tile_blocks)

    @cached_property
    def _steps(self) -> tuple[Symbols, Symbols]:
        """(ring,) of each id of a full block: its visit, and how far it is in it."""
        edges = self._visits.edges[0]
        visits = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
        return visits, np.arange(len(visits)) - edges[visits]

    def locate(self, ids: Ids) -> tuple[Symbols, Symbols]:
        """Return the tile of each of (n,) symbols, at least one, and which of it each is."""
        geometry = self.geometry
        groups = ids.blocks // geometry.tile_blocks
        if not self._is_even and int(groups.max()) == geometry.groups - 1:
            return self.of(ids), self.places(ids)
        visits, steps = self._steps
        tiles: Symbols = visits[ids.esis] * geometry.groups + groups
        first = groups * geometry.tile_blocks
        places: Symbols = steps[ids.esis] * geometry.tile_blocks + ids.blocks - first
        return tiles, places

    @cached_property
    def _is_even(self) -> bool:
        """Whether the last group is like the others."""
        geometry = self.geometry
        is_full = geometry.source(geometry.blocks - 1) == geometry.block_symbols
        return is_full and geometry.blocks % geometry.tile_blocks == 0

    def ids(self, tile: int) -> Ids:
        """Return the symbols of a tile in the order in which they are sent."""
        visit, group = divmod(tile, self.geometry.groups)
        pattern = self._visits.pattern(group)
        span = slice(int(pattern.starts[visit]), int(pattern.starts[visit + 1]))
        return Ids(pattern.blocks[span] + group * self.geometry.tile_blocks, pattern.esis[span])


@lru_cache(maxsize=16)
def tiles_of(geometry: Geometry) -> Tiles:
    """Return one `Tiles` for all that ask: what is worked out of it is worked out once."""
    return Tiles(geometry)


class TileTree:
    """The tree of tiles of an object that is here whole; leaves may be kept elsewhere.

    Attributes:
        tiles: Of the object.
        root: What the manifest has of it.
    """

    def __init__(self, tiles: Tiles, digests: bytes, leaf: Callable[[int], bytes]) -> None:
        """
        Args:
            digests: Those of all leaves, one after the other; `NO_TILE` where there is none.
            leaf: Returns the leaf of a tile.
        """
        self.tiles = tiles
        self._leaf = leaf
        self.root, self._row = rows_of(tiles.tree, digests)

    def node(self, number: int) -> bytes:
        """Return what the packet of a node carries, a leaf's too."""
        shape = self.tiles.tree
        if number >= shape.nodes:
            return self._leaf(number - shape.nodes)
        return self._row[shape.place(shape.children(number))]
