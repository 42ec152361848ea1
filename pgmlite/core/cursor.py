"""In which order repairers send what counts ask for (spec: REP-12).

The cursor of a block begins at the last encoding symbol id of its ring and runs down through the
repair symbols, then the source symbols, and again from the top: carousels come from the other end.
"""

from __future__ import annotations

import numpy as np

from pgmlite.wire.geometry import Geometry
from pgmlite.wire.request import Symbols


def first_of(geometry: Geometry, block: int, sector: int = 0, sectors: int = 1) -> int:
    """Return the encoding symbol id at which the cursor of repairer `sector` of `sectors` begins.

    Several begin in different parts of the repair symbols: so what they send is different.
    """
    return geometry.ring(block) - 1 - sector * geometry.repairs(block) // sectors


def steps_from(esi: int, count: int, ring: int) -> Symbols:
    """Return the `count` encoding symbol ids that a cursor at `esi` sends next.

    Args:
        ring: Encoding symbols of the block.
    """
    esis: Symbols = (esi - np.arange(count, dtype=np.int64)) % ring
    return esis
