"""Leaves of the tree of tiles, checked against their parents (spec: RCV-19)."""

from __future__ import annotations

from collections import OrderedDict

from pgmlite.core.receive.digests import VerifiedTree
from pgmlite.core.tiles import Tiles
from pgmlite.errors import RefusedPacket
from pgmlite.wire.batch import Octets
from pgmlite.wire.tiles import Leaf


class Leaves:
    """The inner nodes that came and were right, and the leaves used last."""

    def __init__(self, tiles: Tiles, root: bytes, most: int) -> None:
        """
        Args:
            root: Digest of the root of the tree.
            most: Leaves that are kept: others come again with their tiles.
        """
        self._tiles = tiles
        self._root = root
        self._most = most
        self._tree: VerifiedTree | None = None
        self._leaves: OrderedDict[int, Leaf] = OrderedDict()

    def get(self, tile: int) -> Leaf | None:
        """Return the leaf of a tile; None: it is not here."""
        leaf = self._leaves.get(tile)
        if leaf is not None:
            self._leaves.move_to_end(tile)
        return leaf

    def add(self, number: int, octets: Octets) -> int | None:
        """Take a node: its number, and (n,) bytes.

        Returns:
            The tile whose leaf it is; -1 of an inner node; None if it is of no use, because its
            parent is not there or it is there itself.

        Raises:
            RefusedPacket: reason ``tree``: there is no such node, or its parent says another.
        """
        tree = self._tree
        if tree is None:
            tree = self._tree = VerifiedTree(self._tiles.tree, self._root)
        tile = number - tree.shape.nodes
        if tile < 0:
            return None if tree.add(number, octets) is None else -1
        # spec: TILE-3
        if tile >= self._tiles.count or len(octets) != self._tiles.length(tile) or not len(octets):
            raise RefusedPacket("tree", f"leaf {tile} of {len(octets)} bytes")
        raw = octets.tobytes()
        if tile in self._leaves:
            self._leaves.move_to_end(tile)
            return None
        if not tree.is_right(number, raw):
            return None
        while len(self._leaves) >= self._most:
            self._leaves.popitem(last=False)
        self._leaves[tile] = Leaf.of(raw)
        return tile
