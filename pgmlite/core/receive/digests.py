"""What is known of a tree, and which blocks wait to be compared with that of the blocks.

spec/protocol.md section 4 (TREE): each node is checked against its parent when it comes, so that a
forged one costs nobody but itself, and a block can be verified as soon as its leaf is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pgmlite.errors import RefusedPacket
from pgmlite.wire.batch import Flags, Octets
from pgmlite.wire.digests import TreeShape, digest


class VerifiedTree:
    """The nodes that came and were right.

    Attributes:
        shape: Of the tree.
    """

    def __init__(self, shape: TreeShape, root: bytes) -> None:
        """
        Args:
            root: Digest of the root.
        """
        self.shape = shape
        self._root = root
        # Pages of zeros cost nothing until a node arrives: a forged manifest costs no memory.
        self._row: Octets = np.zeros(self.shape.row_size, np.uint8)
        self._has: Flags = np.zeros(self.shape.nodes, np.bool_)

    def add(self, number: int, node: Octets) -> range | None:
        """Take a node: its number, and (n,) bytes.

        Returns:
            The blocks whose digests it has, which are none for nodes of nodes; None if it is of no
            use, because its parent is not there or it is there itself.

        Raises:
            RefusedPacket: reason ``tree``: there is no such node, or its parent says another.
        """
        # spec: TREE-4
        if number >= self.shape.nodes or len(node) != self.shape.length(number):
            raise RefusedPacket("tree", f"node {number} of {len(node)} bytes")
        if self._has[number] or not self.is_right(number, node.tobytes()):
            return None
        children = self.shape.children(number)
        self._row[self.shape.place(children)] = node
        self._has[number] = True
        if number not in self.shape.leaves:
            return range(0)
        return range(children.start - self.shape.nodes, children.stop - self.shape.nodes)

    def is_right(self, number: int, octets: bytes) -> bool:
        """Compare a node, or what stands below the nodes, with its parent.

        Returns:
            False: the parent is not there.

        Raises:
            RefusedPacket: reason ``tree``: the parent says another.
        """
        if number and not self._has[self.shape.parent(number)]:
            return False
        expected = self._digest(number) if number else self._root
        if digest(octets) != expected:
            raise RefusedPacket("tree", f"node {number} is not what its parent says")
        return True

    def knows(self, blocks: npt.NDArray[np.int64]) -> Flags:
        """Return whether the digest of each of (n,) blocks is there."""
        known: Flags = self._has[self.shape.leaves.start + blocks // self.shape.fanout]
        return known

    def block_digest(self, block: int) -> bytes:
        """Return the digest that a block must have; only if it is known."""
        return self._digest(self.shape.nodes + block)

    @property
    def digests(self) -> bytes:
        """The digests of all blocks, one after the other; only once all are known."""
        nodes = self.shape.nodes
        return self._row[self.shape.place(range(nodes, nodes + self.shape.blocks))].tobytes()

    def _digest(self, number: int) -> bytes:
        return self._row[self.shape.place(range(number, number + 1))].tobytes()


class Candidates:
    """Blocks that may be whole: they are looked at once their digest is known.

    Attributes:
        due: How many can be looked at now.
    """

    def __init__(self, tree: VerifiedTree) -> None:
        self._tree = tree
        self._early: Flags = np.zeros(tree.shape.blocks, np.bool_)
        self._due: Flags = np.zeros(tree.shape.blocks, np.bool_)
        self.due = 0

    def add(self, blocks: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Let blocks, each of them once, wait to be looked at."""
        if not len(blocks):
            return
        numbers = np.asarray(blocks, np.int64)
        known = self._tree.knows(numbers)
        self._early[numbers[~known]] = True
        self._take_up(numbers[known])

    def learn(self, blocks: range) -> None:
        """Take note that the digests of consecutive blocks are known now."""
        numbers = blocks.start + np.flatnonzero(self._early[blocks.start : blocks.stop])
        self._early[numbers] = False
        self._take_up(numbers)

    def _take_up(self, numbers: npt.NDArray[np.int64]) -> None:
        self.due += len(numbers) - int(np.count_nonzero(self._due[numbers]))
        self._due[numbers] = True

    def take(self, first: int) -> int:
        """Return the next that is due, from block `first` on and round; only if one is."""
        block = first + int(self._due[first:].argmax())
        if not self._due[block]:
            block = int(self._due[:first].argmax())
        self._due[block] = False
        self.due -= 1
        return block
