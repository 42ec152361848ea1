"""RFC 1982 arithmetic on 32-bit sequence numbers, and loss counted with it (spec: RCV-9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BITS = 32
MODULUS = 1 << BITS
HALF = 1 << (BITS - 1)

Sqns = np.ndarray[Any, np.dtype[np.uint32]]


def add(sqn: int, count: int) -> int:
    """Return `sqn` advanced by `count` (RFC 1982 section 3.1)."""
    return (sqn + count) % MODULUS


def distance(sqn: int, other: int) -> int:
    """Return how far `other` is ahead of `sqn`: -2**31 to 2**31 - 1 (RFC 1982 section 3.2)."""
    return (other - sqn + HALF) % MODULUS - HALF


class SequenceTracker:
    """Counts what one sender sent on one channel: received, lost, repeated.

    A packet counts as lost while its number is missing below the highest seen; a late one takes
    it back if it is less than `WINDOW` behind, else it counts as a duplicate.
    """

    WINDOW = 4_096

    MOST_LOST = 100
    """Lost packets for each one received, at most, of a sender that is one."""

    def __init__(self, first: int) -> None:
        """
        Args:
            first: The first sqn received; what came before it was never lost.
        """
        self.highest = add(first, -1)
        self.received = 0
        self.expected = 0
        self.duplicates = 0
        self._seen: npt.NDArray[np.bool_] = np.zeros(self.WINDOW, np.bool_)
        # Below the first number everything is out of the count: a late one is no gain.
        self._seen[:] = True

    @property
    def lost(self) -> int:
        """Packets missing below the highest sqn seen."""
        return self.expected - self.received

    @property
    def is_plausible(self) -> bool:
        """Whether a sender with losses may look like this, and not numbers out of thin air."""
        return self.lost <= self.received * self.MOST_LOST

    def update(self, sqns: Sqns) -> None:
        """Take the sqns of one batch, (n,) in machine byte order, in any order."""
        ahead = (sqns - np.uint32(self.highest)).view(np.int32).astype(np.int64)
        if len(ahead) > 1 and not bool((ahead[1:] > ahead[:-1]).all()):
            distinct = np.unique(ahead)
            self.duplicates += len(ahead) - len(distinct)
            ahead = distinct
        top = int(ahead[-1])
        if int(ahead[0]) <= 0:
            behind = ahead[ahead <= 0]
            slots = (behind + self.highest) % self.WINDOW
            fresh = (behind > -self.WINDOW) & ~self._seen[slots]
            self._seen[slots[fresh]] = True
            late = int(np.count_nonzero(fresh))
            self.received += late
            self.duplicates += len(behind) - late
            ahead = ahead[len(behind) :]
        if top > 0:
            self._clear(top)
            inside = ahead[ahead > top - self.WINDOW]
            self._seen[(inside + self.highest) % self.WINDOW] = True
            self.received += len(ahead)
            self.expected += top
            self.highest = add(self.highest, top)

    def _clear(self, count: int) -> None:
        """Mark the next `count` numbers as missing."""
        if count >= self.WINDOW:
            self._seen[:] = False
            return
        start = (self.highest + 1) % self.WINDOW
        self._seen[start : start + count] = False
        self._seen[: max(0, start + count - self.WINDOW)] = False
