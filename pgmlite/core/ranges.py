"""Stretches of consecutive numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pgmlite.wire.batch import stretches
from pgmlite.wire.request import Symbols


def runs(numbers: Symbols) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) places of the stretches of `numbers` that count up by one."""
    return stretches(np.diff(numbers) != 1)
