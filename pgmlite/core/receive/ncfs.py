"""NCFs heard, remembered for needs that are known later (spec: NAK-5)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic

from pgmlite.core.config import NakConfig
from pgmlite.core.receive.wants import N


@dataclass(frozen=True, slots=True)
class _Heard(Generic[N]):
    """An NCF heard: what it names is on its way until `until`."""

    until: int
    named: N
    first: int
    last: int


class HeardNcfs(Generic[N]):
    """The latest NCFs, for wants that start later."""

    def __init__(self, config: NakConfig) -> None:
        self._config = config
        self._heard: deque[_Heard[N]] = deque()
        self.size = 0
        """Symbols that they name."""

    def __len__(self) -> int:
        return len(self._heard)

    def add(self, now: int, until: int, named: N) -> None:
        """Remember one; forget those that are over, and the oldest of too many."""
        heard = self._heard
        heard.append(_Heard(until, named, *named.bounds))
        self.size += len(named)
        while heard and (
            heard[0].until <= now
            or self.size > self._config.max_ncf_symbols
            or len(heard) > self._config.max_ncfs
        ):
            self.size -= len(heard.popleft().named)

    def unnamed(self, now: int, need: N) -> N:
        """Return what of `need` none of them names."""
        first, last = need.bounds
        for one in self._heard:
            if one.until > now and one.first <= last and one.last >= first:
                need = need.less(one.named)
        return need
