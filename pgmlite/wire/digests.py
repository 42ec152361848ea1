"""Digests: of strips, of blocks, and the tree of blocks in nodes of one packet each.

spec/protocol.md section 4. Nodes are numbered from the root on, level by level; here the blocks are
numbered on behind the nodes. So whatever has a digest has a number, the digests of all but the root
stand in one row, by number, and a node is a slice of that row.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from blake3 import blake3

from pgmlite.wire.layout import DIGEST_SIZE, STRIP_SYMBOLS


def digest(data: bytes | memoryview) -> bytes:
    """Return the BLAKE3-256 digest of `data`, 32 bytes."""
    return blake3(data).digest()


def strip_size(symbol_size: int) -> int:
    """Return the bytes of every strip but the last of a block."""
    return STRIP_SYMBOLS * symbol_size


def strip_digests(block: bytes | memoryview, symbol_size: int) -> bytes:
    """Return the digests of the strips of `block`, one after the other."""
    view, size = memoryview(block), strip_size(symbol_size)
    return b"".join([digest(view[at : at + size]) for at in range(0, len(view), size)])


def block_digest(block: bytes | memoryview, symbol_size: int) -> bytes:
    """Return the digest of a block: that of the digests of its strips (spec: TREE-1)."""
    return digest(strip_digests(block, symbol_size))


@dataclass(frozen=True)
class TreeShape:
    """How the digests of so many blocks are put in nodes.

    Attributes:
        blocks: Source blocks of the object.
        symbol_size: Bytes in a symbol: a node has at most as many.
    """

    blocks: int
    symbol_size: int

    @cached_property
    def fanout(self) -> int:
        """F, digests in a node, at most."""
        return self.symbol_size // DIGEST_SIZE

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Nodes of each level, that of the root first; none without blocks."""
        levels: list[int] = []
        below = self.blocks
        while below and (not levels or below > 1):
            below = -(-below // self.fanout)
            levels.append(below)
        return tuple(reversed(levels))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first number of each level, then that of the blocks, then the end of all."""
        return tuple(accumulate((*self.levels, self.blocks), initial=0))

    @cached_property
    def nodes(self) -> int:
        """Nodes in all; the blocks' numbers begin here."""
        return sum(self.levels)

    @property
    def leaves(self) -> range:
        """The nodes that have the digests of blocks."""
        return range(self.nodes - self.levels[-1] if self.levels else 0, self.nodes)

    def parent(self, number: int) -> int:
        """Return the node that has the digest of a node or block; -1 of the root."""
        level = bisect_right(self.starts, number) - 1
        if not level:
            return -1
        return self.starts[level - 1] + (number - self.starts[level]) // self.fanout

    def children(self, node: int) -> range:
        """Return the numbers of the nodes or blocks whose digests a node has."""
        level = bisect_right(self.starts, node) - 1
        first = self.starts[level + 1] + (node - self.starts[level]) * self.fanout
        return range(first, min(first + self.fanout, self.starts[level + 2]))

    def above(self, node: int) -> list[int]:
        """Return the nodes on the way from the root to a node, without itself."""
        above: list[int] = []
        while node:
            node = self.parent(node)
            above.append(node)
        return above[::-1]

    def after(self, node: int) -> int:
        """Return the node that is sent after another: parents first, one subtree after the other.

        After the last of all comes the root again.
        """
        if node not in self.leaves:
            return self.children(node).start
        while node and node == self.children(self.parent(node))[-1]:
            node = self.parent(node)
        return node + 1 if node else 0

    def length(self, node: int) -> int:
        """Return the bytes of a node."""
        return len(self.children(node)) * DIGEST_SIZE

    def place(self, numbers: range) -> slice:
        """Return which bytes of the row of digests are those of `numbers`; not of the root."""
        return slice((numbers.start - 1) * DIGEST_SIZE, (numbers.stop - 1) * DIGEST_SIZE)

    @property
    def row_size(self) -> int:
        """Bytes in the row of digests."""
        return max(0, self.nodes + self.blocks - 1) * DIGEST_SIZE


def rows_of(shape: TreeShape, digests: bytes) -> tuple[bytes, bytes]:
    """Return the digest of the root of a tree, that of nothing if it has none, and its row.

    Args:
        digests: Of all blocks, one after the other.
    """
    size = shape.fanout * DIGEST_SIZE
    rows = [digests]
    for _ in shape.levels:
        below = memoryview(rows[-1])
        nodes = [digest(below[at : at + size]) for at in range(0, len(below), size)]
        rows.append(b"".join(nodes))
    root = rows.pop() if shape.nodes else digest(b"")
    return root, b"".join(reversed(rows))


class BlockTree:
    """The tree of an object that is here whole.

    Attributes:
        shape: Of its nodes.
        root: What the manifest has of it.
        digests: The digests of all blocks, one after the other.
    """

    def __init__(self, digests: bytes, symbol_size: int) -> None:
        """
        Args:
            digests: Of all blocks, one after the other.
        """
        self.shape = TreeShape(len(digests) // DIGEST_SIZE, symbol_size)
        self.digests = digests
        self.root, self._row = rows_of(self.shape, digests)

    def node(self, number: int) -> bytes:
        """Return what the packet of a node carries."""
        return self._row[self.shape.place(self.shape.children(number))]
