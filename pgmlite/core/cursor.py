"""In which order repairers send what counts ask for (spec: REP-12).

The cursor of a block begins at the last encoding symbol id of its ring and runs down through the
repair symbols, then the source symbols, and again from the top: carousels come from the other end.
Where a carousel has a territory, whoever hears it has much of that: the cursor begins below it.
"""

from __future__ import annotations

import numpy as np

from pgmlite.core.ring import Ring
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import Order
from pgmlite.wire.request import Symbols


def first_of(geometry: Geometry, block: int, ring: Ring | None = None) -> int:
    """Return the encoding symbol id at which a repairer's cursor in a block begins.

    Args:
        ring: Of the carousel of the same session: several sessions begin in different parts, so
            what they send is different; None: it has none.
    """
    top = geometry.ring(block) - 1
    if ring is None:
        return top
    if ring.order is Order.TERRITORY:
        return (ring.lowest(block) - 1) % (top + 1)
    return top - ring.sector * geometry.repairs(block) // ring.sectors


def steps_from(esi: int, count: int, ring: int) -> Symbols:
    """Return the `count` encoding symbol ids that a cursor at `esi` sends next.

    Args:
        ring: Encoding symbols of the block.
    """
    esis: Symbols = (esi - np.arange(count, dtype=np.int64)) % ring
    return esis
