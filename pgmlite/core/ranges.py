"""Stretches of consecutive numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pgmlite.wire.request import Symbols


def runs(numbers: Symbols) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) places of the stretches of `numbers` that count up by one."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    edges = [0, *breaks.tolist(), len(numbers)]
    return pairwise(edges)
