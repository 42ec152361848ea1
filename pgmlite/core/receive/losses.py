"""Packets lost and received, by session: statistics for people and for NAKs (spec: RCV-9).

What is to be asked for is something else: symbols that a carousel went past (`carousels`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pgmlite.core.receive import policy
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.serial import SequenceTracker, Sqns
from pgmlite.wire.batch import PacketBatch

MOST_SOURCES = 64
"""Addresses by which the packets of an object are counted: the first that came."""


@dataclass(slots=True)
class _Sum:
    """Packets lost and received, and lost by sessions that are not believed (spec: RCV-9)."""

    lost: int = 0
    received: int = 0
    unbelieved: int = 0

    def add(self, tracker: SequenceTracker) -> None:
        """Add what one session has."""
        if tracker.is_plausible:
            self.lost += tracker.lost
            self.received += tracker.received
        else:
            self.unbelieved += tracker.lost


class LossCounts:
    """Counts received and lost packets of each session of one object (spec: RCV-9).

    Attributes:
        per_source: Packets by the address that they came from.
    """

    def __init__(self, limit: int) -> None:
        """
        Args:
            limit: Sessions at most; the one silent for longest makes room.
        """
        self.per_source: Counter[str] = Counter()
        self._limit = limit
        self._trackers: dict[SessionKey, SequenceTracker] = {}
        self._evicted = _Sum()
        """What was counted of sessions that were forgotten."""

    def __len__(self) -> int:
        return len(self._trackers)

    def get(self, key: SessionKey) -> SequenceTracker | None:
        """Return the count of one session."""
        return self._trackers.get(key)

    def count(self, batch: PacketBatch, *, is_heard: bool = True) -> None:
        """Take the sequence numbers of a batch.

        Args:
            is_heard: Whether its channel is: if not, nothing of it can be lost (spec: RTE-9).
        """
        address, rows = batch.source.address, batch.rows
        # Addresses can be made up.
        if address in self.per_source or len(self.per_source) < MOST_SOURCES:
            self.per_source[address] += len(batch)
        if not is_heard:
            return
        channel = int(rows["channel"][0])
        sqns = rows["sqn"].astype(np.uint32)
        tsis = rows["tsi"]
        first = tsis[0]
        if len(batch) == 1 or bool((tsis == first).all()):
            self._tracker((batch.source, int(first), channel), sqns).update(sqns)
            return
        for tsi in np.unique(tsis):
            some = sqns[tsis == tsi]
            self._tracker((batch.source, int(tsi), channel), some).update(some)

    def _tracker(self, key: SessionKey, sqns: Sqns) -> SequenceTracker:
        tracker = self._trackers.pop(key, None)
        if tracker is None:
            while len(self._trackers) >= self._limit:
                # Strangers can invent senders without end.
                self._evict(next(iter(self._trackers)))
            tracker = SequenceTracker(int(sqns[0]))
        self._trackers[key] = tracker
        return tracker

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget the sessions of channels that are not heard: what they send is not lost (RTE-9).

        What was counted of them stays.
        """
        for key in [key for key in self._trackers if not hears(key[2])]:
            self._evict(key)

    def _evict(self, key: SessionKey) -> None:
        self._evicted.add(self._trackers.pop(key))

    def _counted(self) -> _Sum:
        counted = replace(self._evicted)
        for tracker in self._trackers.values():
            counted.add(tracker)
        return counted

    @property
    def lost(self) -> int:
        """Packets missing by their numbers."""
        return self._counted().lost

    @property
    def unbelieved(self) -> int:
        """Packets that sessions miss whose numbers look made up."""
        return self._counted().unbelieved

    @property
    def share(self) -> float:
        """Share of packets lost, 0 to less than 1."""
        counted = self._counted()
        return float(policy.lost_share(counted.lost, counted.received))
