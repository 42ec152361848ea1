"""Seeded loss and reordering for batches, the same wherever they are wanted."""

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
        return batch.select(keep)


class Reorder:
    """Holds packets back, each with the same probability, while up to `FURTHEST` others pass."""

    FURTHEST = 8

    def __init__(self, probability: float, rng: Random) -> None:
        """
        Args:
            probability: 0 to 1.
            rng: Drawn from for every packet.
        """
        self._probability = probability
        self._rng = rng
        self._place = 0
        self._held: list[tuple[int, PacketBatch]] = []

    def apply(self, batch: PacketBatch) -> list[PacketBatch]:
        """Return what arrives when `batch` would, in order, in batches of one packet."""
        out = []
        for at in range(len(batch)):
            one = batch.select(slice(at, at + 1))
            self._place += 1
            if self._rng.random() < self._probability:
                due = self._place + self._rng.randrange(1, self.FURTHEST + 1)
                self._held.append((due, one))
            else:
                out.append(one)
            out += self._release(self._place)
        return out

    def flush(self) -> list[PacketBatch]:
        """Return what is still held."""
        return self._release(self._place + self.FURTHEST)

    def _release(self, place: int) -> list[PacketBatch]:
        free = [one for due, one in self._held if due <= place]
        self._held = [(due, one) for due, one in self._held if due > place]
        return free
