"""The carousel of the tree of blocks: which nodes go out next, and when (spec: SND-4).

Parents before children and one subtree after the other, round and round. Who comes in the midst of
that needs the nodes above the next one as well: they are repeated after an SPM, so that one pass
from there on is enough, where SPMs come often one pass from the next such repetition on.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgmlite.wire.digests import BlockTree

OTHERS_FIRST = 4
"""Times as many other nodes go out before those above are repeated again: SPMs may come often."""


class NodeCarousel:
    """Nodes in their order of sending, as many as the SPMs so far allow, between symbols."""

    def __init__(self, tree: BlockTree, symbols: int, *, share: int) -> None:
        """
        Args:
            symbols: Source symbols in the object.
            share: One leaf for at most so many symbols.
        """
        self._tree = tree
        self._symbols = symbols
        self._share = share
        self._head = 0
        self._above: list[int] = []
        self._pass_left = tree.shape.nodes
        self._since = 0
        """Nodes of passes since some were repeated."""

        self._owed = 0
        """Nodes of passes that are left out for those of the other tree."""

        self._has_made_room = False
        """Whether no node came since room was made for others."""

        # Who is there from the start can verify from the first block on.
        self._symbols_first = 0

    @property
    def left(self) -> int:
        """Nodes that may go out before the next SPM."""
        return len(self._above) + self._pass_left

    def most(self, symbols: int, spms: int) -> int:
        """Return how many nodes come between so many symbols and SPMs from now on, at most."""
        shape = self._tree.shape
        if not shape.nodes:
            return 0
        leaves = symbols // max(1, min(self._share, self._symbols // len(shape.leaves))) + 1
        # Of the nodes that are not repeated less than half are no leaves.
        passes = min(2 * leaves, spms * shape.nodes)
        return self.left + passes + spms * len(shape.levels)

    @property
    def is_due(self) -> bool:
        """Whether nodes come before the next symbol."""
        return self.left > 0 and self._symbols_first <= 0

    def room(self, most: int) -> int:
        """Return how many symbols may come before the next node, up to `most`."""
        return min(most, self._symbols_first) if self.left else most

    def passed(self, symbols: int) -> None:
        """Take note that so many symbols went out."""
        self._symbols_first -= symbols

    def begin(self) -> None:
        """Let a node be the next, as at the start."""
        self._symbols_first = 0

    def announced(self) -> None:
        """Take note that an SPM went out: one more pass."""
        above = self._tree.shape.above(self._head)
        if self._since >= OTHERS_FIRST * len(above):
            self._above, self._since = above, 0
        self._pass_left = self._tree.shape.nodes
        self._pay()

    def make_room(self, others: Sequence[int]) -> None:
        """Leave room to nodes of the other tree, of so many bytes each: both share that for nodes.

        One goes out with each SPM, and between two such, all the same.
        """
        shape = self._tree.shape
        if not others or not shape.nodes:
            return
        if not self._has_made_room:
            self._symbols_first = max(0, self._symbols_first) + self._room_of(len(others))
            self._has_made_room = True
        self._above = []
        self._owed = sum(others) * shape.nodes // shape.row_size
        self._pay()

    def _pay(self) -> None:
        paid = max(0, min(self._owed, self._pass_left - 1))
        self._pass_left -= paid
        self._owed -= paid

    def _room_of(self, leaves: int) -> int:
        """Return how many symbols have to come behind so many leaves."""
        # A short cycle carries all of them once, at more than their share.
        cycle_share = self._symbols * leaves // len(self._tree.shape.leaves)
        return max(1, min(self._share * leaves, cycle_share))

    def take(self, most: int) -> list[tuple[int, bytes]]:
        """Return the next nodes, at most so many: (number, what its packet carries)."""
        self._has_made_room = False
        numbers, self._above = self._above[:most], self._above[most:]
        for _ in range(min(most - len(numbers), self._pass_left)):
            numbers.append(self._head)
            self._head = self._tree.shape.after(self._head)
            self._pass_left -= 1
            self._since += 1
        # Only leaves count: what is above them is little, and of use with the leaf that follows.
        leaves = self._tree.shape.leaves
        taken = sum(number in leaves for number in numbers)
        if taken:
            self._symbols_first = self._room_of(taken)
        return [(number, self._tree.node(number)) for number in numbers]
