"""The carousel of the tree of blocks: which nodes go out next (spec: SND-4).

Parents before children and one subtree after the other, round and round. Who comes in the midst of
that needs the nodes above the next one as well: they are repeated after an SPM, so that one pass
from there on is enough.
"""

from __future__ import annotations

from pgmlite.wire.digests import BlockTree


class NodeCarousel:
    """Nodes in their order of sending, as many as the SPMs so far allow."""

    def __init__(self, tree: BlockTree) -> None:
        self._tree = tree
        self._head = 0
        self._above: list[int] = []
        self._pass_left = tree.shape.nodes
        self._since = 0
        """Nodes of passes since some were repeated."""

    @property
    def left(self) -> int:
        """Nodes that may go out before the next SPM."""
        return len(self._above) + self._pass_left

    def announced(self) -> None:
        """Take note that an SPM went out: one more pass."""
        above = self._tree.shape.above(self._head)
        # Where SPMs come as often as nodes the pass has to go on all the same.
        if self._since >= len(above):
            self._above, self._since = above, 0
        self._pass_left = self._tree.shape.nodes

    def take(self, most: int) -> list[tuple[int, bytes]]:
        """Return the next nodes, at most so many: (number, what its packet carries)."""
        numbers, self._above = self._above[:most], self._above[most:]
        for _ in range(min(most - len(numbers), self._pass_left)):
            numbers.append(self._head)
            self._head = self._tree.shape.after(self._head)
            self._pass_left -= 1
            self._since += 1
        return [(number, self._tree.node(number)) for number in numbers]
