"""Seeded loss for batches, the same in simulation, demonstration and replay."""

from __future__ import annotations

from random import Random

import numpy as np

from pgmlite.wire.batch import PacketBatch


class Loss:
    """Drops packets independently, each with the same probability; same seed, same losses."""

    def __init__(self, probability: float, rng: Random) -> None:
        """
        Args:
            probability: 0 to 1.
            rng: Only its seed is drawn from, once.
        """
        self._probability = probability
        self._draws = np.random.Generator(np.random.PCG64(rng.getrandbits(64)))

    def apply(self, batch: PacketBatch) -> PacketBatch:
        """Return what is left of `batch`, which may be nothing."""
        if not self._probability:
            return batch
        keep = self._draws.random(len(batch)) >= self._probability
        return batch if keep.all() else batch.select(keep)
