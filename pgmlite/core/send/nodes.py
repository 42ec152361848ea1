"""Whose turn it is: pieces of the index come between symbols (spec: SND-4)."""

from __future__ import annotations


class NodeTurns:
    """Says when which pieces of the index are sent, and how many symbols come between."""

    def __init__(self, nodes: int, symbols: int, *, share: int) -> None:
        """
        Args:
            nodes: Packets that carry the index once.
            symbols: Source symbols in the object.
            share: One packet for at most so many symbols.
        """
        self._nodes = nodes
        self._symbols = symbols
        self._share = share
        self._head = 0
        self.left = nodes
        """Packets that may go out until the next SPM."""

        # Who is there from the start can verify from the first block on.
        self._symbols_first = 0

    @property
    def is_due(self) -> bool:
        """Whether the next packet has to be one of them."""
        return self.left > 0 and self._symbols_first <= 0

    def allow(self) -> None:
        """Note that an SPM left: one more round."""
        self.left = self._nodes

    def begin(self) -> None:
        """Send one as soon as there is one to send."""
        self._symbols_first = 0

    def next(self, most: int) -> tuple[int, int]:
        """Return the first of up to `most` pieces to send now, and how many."""
        first = self._head
        count = min(most, self._nodes - first, self.left)
        self._head = (first + count) % self._nodes
        self.left -= count
        # A short cycle carries all once, at more than their share.
        cycle_share = self._symbols * count // self._nodes
        self._symbols_first = max(1, min(self._share * count, cycle_share))
        return first, count

    def room(self, most: int) -> int:
        """Return how many symbols may come now, up to `most`."""
        return min(most, self._symbols_first) if self.left else most

    def passed(self, symbols: int) -> None:
        """Note that so many symbols left."""
        self._symbols_first -= symbols
