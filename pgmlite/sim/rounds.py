"""What a carousel in rounds sends, symbol after symbol, for closed forms and counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

Ring = tuple[int, int]
"""Source and repair symbols of a block."""

VISIT = 16
TILE = 8


def _edges(count: int, parts: int) -> Counts:
    """Return (parts + 1,) where each part begins if `count` is shared out evenly."""
    return np.arange(parts + 1, dtype=np.int64) * count // max(1, parts)


class Rounds:
    """Rounds of visits to all blocks, each of the next symbols of their rings."""

    def __init__(self, rings: Sequence[Ring], senders: int = 1) -> None:
        """
        Args:
            rings: Of the blocks.
            senders: Each begins at its sector of the ring.
        """
        self._visits = [-(-max(ring[part] for ring in rings) // VISIT) for part in (0, 1)]
        sectors = [_edges(count, senders) for count in self._visits]
        self._turn = np.concatenate(
            [
                np.arange(edges[sector], edges[sector + 1]) + base
                for sector in range(senders)
                for edges, base in zip(sectors, (0, self._visits[0]), strict=True)
            ]
        )
        self.begins = [sum(int(edges[sector]) for edges in sectors) for sector in range(senders)]
        """(senders,): the place in the turn of each one's first visit."""

        self.kinds = sorted(set(rings))
        self.kind_of: Counts = np.array([self.kinds.index(ring) for ring in rings])
        """(blocks,): which of the kinds of rings each has."""

        self.sizes: Counts = np.array(
            [[len(esis) for esis in self.esis(kind)] for kind in self.kinds]
        )
        """(kinds, visits): symbols of each visit of a turn."""

        self.sequence = lru_cache(1_024)(self._sequence)

    def __len__(self) -> int:
        """Visits of a turn."""
        return len(self._turn)

    @property
    def source(self) -> int:
        """Source visits of a turn; its first ones, if there is one sender."""
        return self._visits[0]

    def esis(self, ring: Ring) -> list[Counts]:
        """Return (visits,) of a turn which symbols of a block each one sends."""
        source, repair = (_edges(*pair) for pair in zip(ring, self._visits, strict=True))
        edges = np.concatenate((source, ring[0] + repair[1:]))
        return [np.arange(edges[visit], edges[visit + 1]) for visit in self._turn.tolist()]

    def _sequence(self, visit: int) -> tuple[Counts, Counts]:
        """Return (symbols,) the block of each symbol of a visit, and which of its ones it is.

        Tile by tile; within a tile a symbol of each block in turn.
        """
        sizes = self.sizes[self.kind_of, visit]
        block = np.repeat(np.arange(len(sizes)), sizes)
        number = np.arange(len(block)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        sent = np.lexsort((block, number, block // TILE))
        return block[sent], number[sent]
