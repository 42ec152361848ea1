"""How many symbols too many decoding takes, of many blocks at many receivers at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pgmlite.core.receive.counts import EXTRA
from pgmlite.fec.codec import MOST_TELLING, too_many

FEW = 24
"""From so many missing symbols on the odds are those of any more, to seven digits."""


def extra_symbols(
    missing: npt.NDArray[np.integer], luck: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return (n,) how many symbols more than a block has a receiver needs.

    Args:
        missing: (n,) source symbols that it lacks.
        luck: (n,) evenly drawn from 0 to 1, one for each receiver and block.
    """
    extra = np.empty(len(luck), np.int64)
    likes = np.minimum(missing, FEW).astype(np.int16)
    order = np.argsort(likes, kind="stable")
    ends = np.cumsum(np.bincount(likes, minlength=FEW + 1)).tolist()
    for number, (start, stop) in enumerate(pairwise([0, *ends])):
        mine = order[start:stop]
        extra[mine] = too_many(luck[mine], number if number < FEW else MOST_TELLING)
    return np.maximum(EXTRA, extra)
