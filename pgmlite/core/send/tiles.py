"""Which nodes of the tree of tiles leave with what is sent (spec: SND-14, REP-13).

A receiver uses nothing of a tile before it has the tile's leaf, and no leaf before the nodes above
it. So the leaf goes right before its tile, behind those nodes above it that were not sent lately,
and what went before a tile goes once more before the next one: a receiver that lost the first of
them still holds the tile. One that comes in the midst of all needs the nodes above whatever is
being sent, and can use them once it has an SPM: they are repeated behind SPMs.
"""

from __future__ import annotations

from pgmlite.core.tiles import TileTree

PATH_EVERY = 4
"""Tiles after which the nodes above one are repeated behind an SPM: those may come often."""


class TileNodes:
    """The nodes beside what one lane sends, of its schedule or of its repairs, tile after tile."""

    def __init__(self, tree: TileTree) -> None:
        self._tree = tree
        self._shape = tree.tiles.tree
        # In the order blocks that is once a group: a node may be needed a visit sooner in the next.
        self._lately = max(1, tree.tiles.geometry.source_visits - 1)
        """What was sent before one of so many tiles is not sent again."""

        self._at: tuple[int, int] | None = None
        """The tile that is sent, and which one of its name it is."""

        self._begun = 0
        """Tiles so far."""

        self._sent: dict[int, int] = {}
        """Of the nodes above leaves, those sent lately, and before which tile; oldest first. What
        SPMs have repeated does not count: whoever comes later would miss it in the next group."""

        self._due: list[int] = []
        self._again: list[int] = []
        """What went before the tile that is sent, and has to go once more."""

        self._path_at = 0
        """Before which tile all nodes above it went out last."""

        self._is_told = False
        """Whether an SPM went out behind which they are to be repeated."""

    @property
    def is_pressing(self) -> bool:
        """Whether nodes come before anything else."""
        return self._is_told or bool(self._due)

    @property
    def left(self) -> int:
        """Nodes that go out even if no symbol follows."""
        return len(self._due) + len(self._again)

    def most(self, tiles: int) -> int:
        """Return how many nodes go out with so many tiles that follow, at most."""
        return 2 * tiles * (len(self._shape.levels) + 1)

    def begin(self) -> None:
        """Begin anew as another session: whatever is sent next needs all its nodes before it."""
        self._sent.clear()
        self._due, self._at = [], None

    def announced(self) -> None:
        """Take note that an SPM went out: who waited for one needs the nodes above what follows."""
        self._is_told = self._is_told or self._begun - self._path_at >= PATH_EVERY

    def enter(self, tile: int, which: int = 0) -> list[int]:
        """Say of which tile the next symbol is.

        Args:
            which: Tells this tile from the same one a turn later.

        Returns:
            Of how many bytes each node is that is due for nothing but an SPM.
        """
        is_new = self._at != (tile, which)
        if not is_new and not self._is_told:
            return []
        self._begun += is_new
        leaf = self._shape.nodes + tile
        above = self._shape.above(leaf)
        fresh = self._not_lately(above)
        path = above if self._is_told else fresh
        before = path
        if is_new:
            before = [*path, leaf]
            self._due += [node for node in self._again if node not in before]
            self._again = [*fresh, leaf]
            self._at = tile, which
        self._due += before
        for node in fresh:
            self._sent[node] = self._begun
        if len(path) == len(above):
            self._path_at = self._begun
        self._is_told = False
        return [self._shape.length(node) for node in path if node not in fresh]

    def finish(self) -> None:
        """Say that no symbol follows."""
        self._due += self._again
        self._again, self._at = [], None

    def take(self, most: int) -> list[tuple[int, bytes]]:
        """Return the next nodes, at most so many: (number, what its packet carries)."""
        numbers, self._due = self._due[:most], self._due[most:]
        return [(number, self._tree.node(number)) for number in numbers]

    def _not_lately(self, nodes: list[int]) -> list[int]:
        """Return which of `nodes` were not sent lately, and forget what is too long ago."""
        oldest = self._begun - self._lately
        while self._sent:
            node, begun = next(iter(self._sent.items()))
            if begun > oldest:
                break
            del self._sent[node]
        return [node for node in nodes if node not in self._sent]
