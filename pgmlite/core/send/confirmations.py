"""Who confirms, what and when: NCFs within their share (spec: REP-3)."""

from __future__ import annotations

from pgmlite.core.needs import Exact
from pgmlite.core.send.pool import Pool
from pgmlite.core.timing import TokenBucket
from pgmlite.wire.request import MAX_BODY


class Confirmations:
    """What NCFs are still to name, each symbol once, and when the next may leave."""

    def __init__(self, symbols: int, *, burst: int) -> None:
        """
        Args:
            symbols: Source symbols in the object.
            burst: NCFs of as much of their share may leave at once, ns.
        """
        self._waiting = Pool(symbols)
        self._parts: list[Exact] = []
        self._bucket = TokenBucket(burst, 0)

    def __bool__(self) -> bool:
        return bool(self._parts)

    @property
    def due(self) -> int:
        """When the next NCF may leave, ns, if anything is to be confirmed."""
        return self._bucket.due

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

    def sent(self, now: int, cost: int) -> None:
        """Note that an NCF left that takes `cost` ns of the share of NCFs."""
        self._bucket.spend(now, cost)

    def clear(self) -> None:
        """Confirm nothing of what waits."""
        for part in self._parts:
            self._waiting.remove(part)
        self._parts = []
