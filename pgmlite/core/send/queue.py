"""What is to be repeated next (spec: REP-4, REP-10)."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Generic

import numpy as np

from pgmlite.core.needs import NO_SYMBOLS, Count, Exact
from pgmlite.core.send.pool import CountPool, ExactPool, N, Pool
from pgmlite.wire.request import Symbols

MOST_HOLDS = (1 << 16) - 1
"""Hold-offs that one symbol may be in: they overlap."""


class Holds(Generic[N]):
    """What need not be sent for a while: it was repaired, or others are about to."""

    def __init__(self, pool: Pool[N], *, most: int) -> None:
        """
        Args:
            pool: For what is held off, empty.
            most: Symbols that are remembered; the oldest of more make room.
        """
        self._pool: Pool[N] = pool
        self._most = most
        self._until: deque[tuple[int, N]] = deque()

    def add(self, now: int, need: N, hold_off: int) -> None:
        """Hold `need` off for `hold_off` ns."""
        self._pool.add(need)
        self._until.append((now + hold_off, need))
        self.release(now)

    def release(self, now: int) -> None:
        """Forget what has been held off for long enough."""
        while self._until and (self._until[0][0] <= now or self._pool.size > self._most):
            self._pool.remove(self._until.popleft()[1])

    def lacks(self, need: N) -> N:
        """Return what of `need` is not held off."""
        return self._pool.lacks(need)


class ExactQueue:
    """What receivers asked for, each symbol once, in the order it came, and what is held off."""

    def __init__(
        self,
        symbols: int,
        *,
        max_held: int,
        tiles_of: Callable[[Symbols], Symbols] | None = None,
    ) -> None:
        """
        Args:
            symbols: Source symbols in the object.
            max_held: Symbols remembered for the hold-off.
            tiles_of: Returns the tiles of (n,) symbols: what is asked for at once goes out tile by
                tile, and what is taken at once is of one; None: all is one.
        """
        self._tiles_of = tiles_of
        self._queued = ExactPool(symbols)
        self._pending: OrderedDict[int, Exact] = OrderedDict()
        """What waits, by tile, or all that was asked for at once by a number of its own."""

        self._asked = 0
        self._holds = Holds(ExactPool(symbols, most=MOST_HOLDS), most=max_held)

    @property
    def waiting(self) -> int:
        """Symbols in the queue."""
        return self._queued.size

    @property
    def queued(self) -> Exact:
        """What waits, ascending."""
        return Exact.union([*self._pending.values()])

    def has_any(self, need: Exact) -> bool:
        """Whether something of `need` is queued."""
        return len(self._queued.lacks(need)) < len(need)

    def missing(self, now: int, need: Exact) -> Exact:
        """Return what of `need` is neither queued nor was repaired a moment ago."""
        self._holds.release(now)
        return self._holds.lacks(self._queued.lacks(need))

    def add(self, need: Exact) -> None:
        """Queue `need`, of which nothing is queued."""
        if not need:
            return
        self._queued.add(need)
        if self._tiles_of is None:
            self._pending[self._asked] = need
            self._asked += 1
            return
        tiles = self._tiles_of(need.symbols)
        order = np.argsort(tiles, kind="stable")
        firsts = np.flatnonzero(np.diff(tiles[order], prepend=-1))
        parts = np.split(need.symbols[order], firsts[1:])
        for tile, some in zip(tiles[order][firsts].tolist(), map(Exact, parts), strict=True):
            waiting = self._pending.get(tile)
            self._pending[tile] = waiting.joined(some) if waiting else some

    @property
    def tile(self) -> int | None:
        """The tile of what is next; None: nothing waits."""
        if self._tiles_of is None or not self._pending:
            return None
        return next(iter(self._pending))

    @property
    def tiles(self) -> int:
        """How many tiles wait."""
        return len(self._pending)

    def take(self, now: int, limit: int, hold_off: int) -> Exact:
        """Return up to `limit` symbols to send now, held off for `hold_off` ns from then on."""
        taken: list[Exact] = []
        while self._pending and limit > 0 and not (taken and self._tiles_of):
            key, need = next(iter(self._pending.items()))
            first, rest = need.cut(limit)
            if rest:
                self._pending[key] = rest
            else:
                del self._pending[key]
            limit -= len(first)
            taken.append(first)
        need = Exact.union(taken)
        self._queued.remove(need)
        self._holds.release(now)
        # Others may have repaired some while it waited.
        free = self._holds.lacks(need)
        self.hold(now, free, hold_off)
        return free

    def hold(self, now: int, need: Exact, hold_off: int) -> None:
        """Note that `need` was repaired: it need not be sent again for `hold_off` ns."""
        if need:
            self._holds.add(now, need, hold_off)


class CountQueue:
    """How many symbols of which blocks receivers asked for, in the order in which they did, and
    what other repairers are about to send.
    """

    def __init__(self, blocks: int, *, max_held: int) -> None:
        """
        Args:
            blocks: Blocks in the object.
            max_held: Symbols of other repairers that are remembered.
        """
        self._queued = CountPool(blocks)
        self._pending: deque[Count] = deque()
        self._spared = CountPool(blocks)
        """What is pending, and was taken out of the queue since."""

        self._holds = Holds(CountPool(blocks), most=max_held)

    @property
    def waiting(self) -> int:
        """Symbols in the queue."""
        return self._queued.size

    @property
    def queued(self) -> Count:
        """What waits."""
        return self._queued.all

    def of(self, blocks: Symbols) -> Symbols:
        """Return how many symbols of each of (n,) blocks wait."""
        return self._queued.of(blocks)

    def has_any(self, need: Count) -> bool:
        """Whether symbols of the blocks of `need` are queued."""
        return bool(self.of(need.blocks).any())

    def missing(self, now: int, need: Count) -> Count:
        """Return how many more symbols `need` takes than are queued here and sent by others."""
        self._holds.release(now)
        return self._holds.lacks(self._queued.lacks(need))

    def add(self, need: Count) -> None:
        """Queue `need`, beside what is queued of the same blocks."""
        if need:
            self._queued.add(need)
            self._pending.append(need)

    @property
    def pending(self) -> Iterable[Count]:
        """What was asked for, as it was asked for: some of it may not have to be sent any more."""
        return self._pending

    @property
    def first(self) -> Count:
        """What waits of what was asked for first; nothing waits if it is empty."""
        while self._pending:
            if free := self._spared.lacks(self._pending[0]):
                return free
            self._spared.remove(self._pending.popleft())
        return Count(NO_SYMBOLS, NO_SYMBOLS)

    def take_first(self, need: Count) -> None:
        """Take `need`, which is of `first`."""
        if rest := self._pending.popleft().less(need):
            self._pending.appendleft(rest)
        self._queued.remove(need)

    def take(self, limit: int) -> Count:
        """Return up to `limit` symbols to send now."""
        taken: list[Count] = []
        while self._pending and limit > 0:
            first, rest = self._pending.popleft().cut(limit)
            if rest:
                self._pending.appendleft(rest)
            free = self._spared.lacks(first)
            self._spared.remove(first.less(free))
            limit -= len(free)
            taken.append(free)
        need = Count.union(taken)
        self._queued.remove(need)
        return need

    def hold(self, now: int, need: Count, hold_off: int) -> None:
        """Note that others send `need`: for `hold_off` ns so many fewer are asked for here."""
        spared = Count(need.blocks, np.minimum(need.numbers, self.of(need.blocks)))
        self._queued.remove(spared)
        self._spared.add(spared)
        self._holds.add(now, need, hold_off)
