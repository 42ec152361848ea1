"""Who confirms, what and when: NCFs within their share (spec: REP-3)."""

from __future__ import annotations

from collections.abc import Callable

from pgmlite.core.needs import NO_SYMBOLS, Count, Exact
from pgmlite.core.send.pool import ExactPool
from pgmlite.core.timing import TokenBucket
from pgmlite.wire.request import MAX_BODY, Counts, build_counts


class Confirmations:
    """When NCFs may leave."""

    def __init__(self, *, burst: int) -> None:
        """
        Args:
            burst: NCFs of as much of their share may leave at once, ns.
        """
        self._bucket = TokenBucket(burst, 0)

    @property
    def due(self) -> int:
        """When the next NCF may leave, ns, if anything is to be confirmed."""
        return self._bucket.due

    def sent(self, now: int, cost: int) -> None:
        """Note that an NCF left that takes `cost` ns of the share of NCFs."""
        self._bucket.spend(now, cost)


class ExactConfirmations(Confirmations):
    """What NCFs are still to name, each symbol once."""

    def __init__(self, symbols: int, *, burst: int) -> None:
        """
        Args:
            symbols: Source symbols in the object.
            burst: NCFs of as much of their share may leave at once, ns.
        """
        super().__init__(burst=burst)
        self._waiting = ExactPool(symbols)
        self._parts: list[Exact] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, need: Exact) -> None:
        """Confirm `need`, as far as that is not about to be."""
        if fresh := self._waiting.lacks(need):
            self._waiting.add(fresh)
            self._parts.append(fresh)

    def take(self) -> bytes:
        """Return the body of the next NCF, which names the lowest of what is to be confirmed."""
        need = Exact.union(self._parts)
        body, rest = need.pack(MAX_BODY)
        self._waiting.remove(need.cut(len(need) - len(rest))[0])
        self._parts = [rest] if rest else []
        return body

    def clear(self) -> None:
        """Confirm nothing of what waits."""
        for part in self._parts:
            self._waiting.remove(part)
        self._parts = []


class CountConfirmations(Confirmations):
    """Of which blocks NCFs are still to say how much comes."""

    def __init__(self, coming: Callable[[Count], Counts], *, burst: int) -> None:
        """
        Args:
            coming: Returns what there is to say of some blocks when the NCF leaves.
            burst: NCFs of as much of their share may leave at once, ns.
        """
        super().__init__(burst=burst)
        self._coming = coming
        self._need = Count(NO_SYMBOLS, NO_SYMBOLS)

    def __bool__(self) -> bool:
        return bool(self._need)

    def add(self, need: Count) -> None:
        """Confirm `need`."""
        self._need = self._need.joined(need)

    def take(self) -> bytes:
        """Return the body of the next NCF, of the lowest blocks of those to be confirmed."""
        need = self._need
        body, said = build_counts(self._coming(need), MAX_BODY)
        self._need = Count(need.blocks[said:], need.numbers[said:])
        return body

    def clear(self) -> None:
        """Confirm nothing of what waits."""
        self._need = Count(NO_SYMBOLS, NO_SYMBOLS)
