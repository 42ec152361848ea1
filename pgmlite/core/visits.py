"""Visits and tiles of an object, in whatever order they are sent (spec: FEC-3).

The ring of every block, its source symbols and its repair symbols, is cut into *visits* of about 16
symbols, as many visits for a short last block as for any other. One visit of a *group* of
neighbouring blocks is a *tile*, which is sent symbol by symbol in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.request import Symbols


def visit_edges(total: int, visits: int) -> Symbols:
    """Return where the visits of `total` symbols begin and end, (visits + 1,) numbers."""
    return np.arange(visits + 1, dtype=np.int64) * total // max(1, visits)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The rings of a group, visit after visit, symbol by symbol in turn.

    Attributes:
        blocks: (n,) block of each symbol, counted from the group's first.
        esis: (n,) its encoding symbol id.
        starts: (visits + 1,) where the visits begin.
    """

    blocks: Symbols
    esis: Symbols
    starts: Symbols

    @classmethod
    def of(cls, edges: list[Symbols]) -> Pattern:
        """Return the pattern of blocks, of each of which it is given where its visits begin."""
        sizes = [np.diff(one) for one in edges]
        blocks = np.repeat(np.arange(len(edges)), [int(one[-1]) for one in edges])
        esis = np.concatenate([np.arange(int(one[-1])) for one in edges])
        visits = np.concatenate([np.repeat(np.arange(len(one)), one) for one in sizes])
        firsts = np.concatenate([np.repeat(a[:-1], b) for a, b in zip(edges, sizes, strict=True)])
        turn = np.lexsort((blocks, esis - firsts, visits))
        return cls(blocks[turn], esis[turn], np.sum(edges, axis=0))


@dataclass(frozen=True)
class Visits:
    """Where the visits of an object's blocks begin, and what is in its tiles."""

    geometry: Geometry

    @cached_property
    def edges(self) -> tuple[Symbols, Symbols]:
        """Where the visits begin and end in the ring of a full block and in that of the last."""
        geometry = self.geometry
        last = max(0, geometry.blocks - 1)
        repair_visits = geometry.visits - geometry.source_visits

        def edges(source: int, repairs: int) -> Symbols:
            behind = source + visit_edges(repairs, repair_visits)[1:]
            return np.concatenate((visit_edges(source, geometry.source_visits), behind))

        full = edges(geometry.block_symbols, geometry.repair_symbols)
        if not geometry.blocks:
            return full, np.zeros_like(full)
        return full, edges(geometry.source(last), geometry.repairs(last))

    @cached_property
    def patterns(self) -> tuple[Pattern, Pattern]:
        """Those of a full group and of the last one."""
        geometry, (full, last) = self.geometry, self.edges
        others = geometry.blocks - 1 - (geometry.groups - 1) * geometry.tile_blocks
        whole = Pattern.of([full] * geometry.tile_blocks)
        return whole, Pattern.of([full] * others + [last])

    def pattern(self, group: int) -> Pattern:
        """Return the pattern of a group."""
        return self.patterns[group == self.geometry.groups - 1]

    def visits_of(self, ids: Ids) -> Symbols:
        """Return the visit in which each of (n,) symbols is sent."""
        full, last = self.edges
        visits = np.searchsorted(full, ids.esis, side="right") - 1
        is_last = ids.blocks == self.geometry.blocks - 1
        if is_last.any():
            visits[is_last] = np.searchsorted(last, ids.esis[is_last], side="right") - 1
        return visits.astype(np.int64)

    def inside(self, ids: Ids, visits: Symbols, groups: Symbols) -> Symbols:
        """Return how many symbols of its tile are sent before each of (n,) symbols.

        Args:
            visits: (n,) in which they are sent; `groups`: of which they are.
        """
        geometry = self.geometry
        (full, last), final = self.edges, geometry.blocks - 1
        first = groups * geometry.tile_blocks
        # The last block may have fewer symbols in a visit, or other ones, than the others have.
        has_last = first + geometry.tile_blocks > final
        others = np.where(has_last, final - first, geometry.tile_blocks)
        is_last = ids.blocks == final
        step = ids.esis - np.where(is_last, last[visits], full[visits])
        size = np.diff(full)[visits]
        short = np.where(has_last, np.diff(last)[visits], 0)
        inside: Symbols = others * np.minimum(size, step + is_last)
        inside += np.where(is_last, step, ids.blocks - first + np.minimum(short, step))
        return inside


@lru_cache(maxsize=64)
def visits_of(geometry: Geometry) -> Visits:
    """Return one `Visits` for all that ask: what is worked out of it is worked out once."""
    return Visits(geometry)
