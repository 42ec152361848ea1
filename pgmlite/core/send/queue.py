"""What is to be repeated next (spec: REP-4, REP-10)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic

from pgmlite.core.send.pool import N, Pool


class RepairQueue(Generic[N]):
    """What receivers asked for, each symbol once, in the order it came, and what is held off."""

    def __init__(
        self,
        queued: Pool[N],
        held: Pool[N],
        *,
        union: Callable[[list[N]], N],
        holds_own: bool,
        max_held: int,
    ) -> None:
        """
        Args:
            queued: For what is queued; empty, as `held` for what is held off.
            union: Returns what several needs, which are queued, take together.
            holds_own: Hold off what left from here; else what others send in place of it.
            max_held: Symbols remembered for the hold-off.
        """
        self._queued = queued
        self._pending: deque[N] = deque()
        self._held = held
        self._holds: deque[tuple[int, N]] = deque()
        self._union = union
        self._holds_own = holds_own
        self._max_held = max_held

    @property
    def waiting(self) -> int:
        """Symbols in the queue."""
        return self._queued.size

    @property
    def queued(self) -> N:
        """What waits, ascending."""
        return self._union([*self._pending])

    def has_any(self, need: N) -> bool:
        """Whether something of `need` is queued."""
        return len(self._queued.lacks(need)) < len(need)

    def missing(self, now: int, need: N) -> N:
        """Return what of `need` is neither queued nor was repaired a moment ago."""
        self._release(now)
        return self._held.lacks(self._queued.lacks(need))

    def add(self, need: N) -> None:
        """Queue `need`, of which nothing is queued."""
        if need:
            self._queued.add(need)
            self._pending.append(need)

    def take(self, now: int, limit: int, hold_off: int) -> N:
        """Return up to `limit` symbols to send now, held off for `hold_off` ns from then on."""
        taken: list[N] = []
        while self._pending and limit > 0:
            first, rest = self._pending.popleft().cut(limit)
            if rest:
                self._pending.appendleft(rest)
            limit -= len(first)
            taken.append(first)
        need = self._union(taken)
        self._queued.remove(need)
        self._release(now)
        # Others may have repaired some while it waited.
        free = self._held.lacks(need)
        if self._holds_own:
            self.hold(now, free, hold_off)
        else:
            self._held.remove(need.less(free))
        return free

    def hold(self, now: int, need: N, hold_off: int) -> None:
        """Note that `need` was repaired: it need not be sent again for `hold_off` ns."""
        self._release(now)
        if need:
            self._held.add(need)
            self._holds.append((now + hold_off, need))
            self._release(now)

    def _release(self, now: int) -> None:
        while self._holds and (self._holds[0][0] <= now or self._held.size > self._max_held):
            self._held.remove(self._holds.popleft()[1])
