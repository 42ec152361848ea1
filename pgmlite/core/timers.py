"""Timers of a machine: times by key on one heap.

A timer is something that waits for a time. What can be done at once needs none: a machine that has
such work says so by a deadline of 0.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

SLACK = 64
"""Entries of timers that were moved or taken off, at least, before the heap is built anew."""


class Timers(Generic[Key]):
    """When what is due; one timer a key. Of timers for one time the one set first comes first."""

    def __init__(self) -> None:
        self._entries: dict[Key, tuple[int, int]] = {}
        """Key -> (time, number) of its entry on the heap; other entries of it don't count."""

        self._heap: list[tuple[int, int, Key]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._entries)

    def set(self, key: Key, at: int) -> None:
        """Let the timer of `key` run out at `at` ns, whatever it was set to."""
        entry = self._entries[key] = at, next(self._numbers)
        if len(self._heap) >= 2 * len(self._entries) + SLACK:
            self._heap = [(*one, of) for of, one in self._entries.items()]
            heapify(self._heap)
        else:
            heappush(self._heap, (*entry, key))

    def at(self, key: Key) -> int:
        """Return when the timer of `key`, which is set, runs out, ns."""
        return self._entries[key][0]

    def cancel(self, key: Key) -> None:
        """Take off the timer of `key`, if it is set."""
        self._entries.pop(key, None)

    @property
    def deadline(self) -> int | None:
        """When the next one runs out, ns; None: none is set."""
        heap = self._heap
        while heap and self._entries.get(heap[0][2]) != heap[0][:2]:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: int) -> list[Key]:
        """Take off the timers that have run out by `now`; return their keys, in order of time."""
        keys: list[Key] = []
        while (deadline := self.deadline) is not None and deadline <= now:
            key = heappop(self._heap)[2]
            del self._entries[key]
            keys.append(key)
        return keys
