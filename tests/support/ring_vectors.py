"""Carousels' orders: examples of the specification, and the vectors ``rings.json``."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgmlite.core.ring import Ring
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import Order
from tests.support.vectors import CODED

SMALL = CODED.manifest.geometry
PLAIN = Geometry(64 * 23 - 7, 64, 5)
WIDE = Geometry(64 * 330, 64, 33, 3 * 33, 8)
LARGE = Geometry(1_404 * (64 * 1_024 + 5), 1_404, 1_024, 512, 8)

SIX = Geometry(1_404 * (9 * 1_024 + 5), 1_404, 1_024, 7 * 1_024, 8)
ORDERS = (Order.BLOCKS, Order.ROUNDS, Order.RANDOM)

RINGS = [
    *(Ring.of_sector(SMALL, order, 0, 1) for order in ORDERS),
    *(Ring(SMALL, Order.ROUNDS, first) for first in (1, 2)),
    *(Ring.of_sector(SMALL, Order.ROUNDS, sector, 2) for sector in (0, 1)),
    Ring(SMALL, Order.ROUNDS, 2, 1, 2),
    *(Ring.of_sector(SMALL, Order.ROUNDS, sector, 5) for sector in (0, 2)),
    Ring(SMALL, Order.BLOCKS, 1),
    *(Ring.of_sector(SMALL, Order.BLOCKS, sector, 2) for sector in (0, 1)),
    Ring.of_sector(SMALL, Order.BLOCKS, 1, 3),
    Ring(SMALL, Order.RANDOM, 0xFFFF_FFFF),
    *(Ring(PLAIN, Order(order), first) for order, first in ((0, 0), (0, 3), (1, 0), (2, 7))),
    Ring.of_sector(PLAIN, Order.BLOCKS, 1, 2),
    *(Ring.of_sector(WIDE, order, 2, 3) for order in (Order.ROUNDS, Order.BLOCKS)),
    *(Ring.of_sector(LARGE, order, 1, 3) for order in ORDERS),
    *(Ring.in_territory(SMALL, territory, 2) for territory in (0, 1)),
    Ring.in_territory(SMALL, 1, 2, 1, 2),
    Ring.in_territory(SMALL, 6, 7),
    *(Ring.in_territory(SIX, territory, 6, 1, 3) for territory in (0, 1, 5)),
]
SHOWN = 12
"""Symbols in the examples."""

SAMPLES = 48
"""Places in the vectors of which each says what is sent there; of short turns all."""


def named(ring: Ring, place: int, count: int) -> list[tuple[int, int]]:
    """Return block and ESI of what is sent from a place on."""
    ids = ring.ids(place, count)
    return list(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True))


def visits_example() -> str:
    """Return the visits of the small object, as a table."""
    full, last = (SMALL.source(block) for block in (0, SMALL.blocks - 1))
    rows = ["| visit | of | blocks 0 and 1 | block 2 |", "|---:|---|---|---|"]
    for visit in range(SMALL.visits):
        is_source = visit < SMALL.source_visits
        cells = []
        for block, source in ((0, full), (SMALL.blocks - 1, last)):
            turns = SMALL.source_visits if is_source else SMALL.visits - SMALL.source_visits
            total = source if is_source else SMALL.repairs(block)
            at = visit if is_source else visit - SMALL.source_visits
            before = 0 if is_source else source
            first, stop = before + at * total // turns, before + (at + 1) * total // turns
            cells.append(f"{first} to {stop - 1}")
        what = "source" if is_source else "repair"
        rows.append(f"| {visit} | {what} symbols | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def orders_example() -> str:
    """Return how carousels of the small object begin, as a table."""
    rows = ["| order | sector | `first` | lead | visits of a turn | begins with |"]
    rows.append("|---|---|---:|---:|---|---|")
    for ring in RINGS:
        if ring.geometry is not SMALL or ring.sectors > 2:
            continue
        visits = ring.visits_of(ring.ids(ring.lead, ring.turn)).tolist()
        order = ", ".join(map(str, dict.fromkeys(visits)))
        symbols = " ".join(f"{block}:{esi}" for block, esi in named(ring, 0, SHOWN))
        rows.append(
            f"| {ring.order.name.lower()} | {ring.sector}/{ring.sectors} | {ring.first} "
            f"| {ring.lead} | {order} | {symbols} |"
        )
    return "\n".join(rows)


def _samples(ring: Ring) -> list[int]:
    """Return places that show a ring: all of lead and turn, or some of them."""
    length = ring.lead + ring.turn
    if length <= SAMPLES:
        return list(range(length + 2))
    ends = [0, 1, ring.lead - 1, ring.lead, length - 1, length, length + ring.turn]
    spread = np.linspace(2, length - 2, SAMPLES).astype(np.int64).tolist()
    return sorted({place for place in ends + spread if place >= 0})


def rings_file() -> dict[str, Any]:
    """Return ``rings.json``."""
    cases = []
    for ring in RINGS:
        of = ring.geometry
        cases.append(
            {
                "size": of.size,
                "symbol_size": of.symbol_size,
                "block_symbols": of.block_symbols,
                "repair_symbols": of.repair_symbols,
                "tile_blocks": of.tile_blocks,
                "order": int(ring.order),
                "sector": ring.sector,
                "sectors": ring.sectors,
                "first": ring.first,
                "turn": ring.turn,
                "symbols": [[place, *named(ring, place, 1)[0]] for place in _samples(ring)],
            }
        )
    return {
        "about": "Orders of carousels: sizes of an object as in its manifest, a position of an "
        "SPM, how many symbols a turn has, and place, block and ESI of some that are sent (FEC-2 "
        "to FEC-5).",
        "rings": cases,
    }
