"""How many symbols too many decoding takes, of many blocks at many receivers at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pgmlite.fec.codec import MOST_TELLING, too_many
from pgmlite.sim.fec_theory import LEAST_EXTRA

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
    extra = too_many(luck, MOST_TELLING)
    few = np.flatnonzero(missing < FEW)
    for number in np.unique(missing[few]).tolist():
        mine = few[missing[few] == number]
        extra[mine] = too_many(luck[mine], number)
    return np.maximum(LEAST_EXTRA, extra)
