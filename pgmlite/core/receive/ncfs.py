"""What NCFs promised, remembered for needs that are known later (spec: NAK-5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pgmlite.core.config import NakConfig
from pgmlite.core.cursor import first_of, steps_from
from pgmlite.core.needs import Exact
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.ring import Ring
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.request import Counts, Runs, Symbols


@dataclass(frozen=True, slots=True)
class _Heard:
    """NCFs heard of the session `key`: what they name is on its way until `until`."""

    until: int
    key: SessionKey
    named: Runs
    first: int
    end: int


class HeardNcfs:
    """The latest NCFs that named symbols, for wants that start later."""

    def __init__(self, config: NakConfig) -> None:
        self._config = config
        self._heard: deque[_Heard] = deque()
        self.size = 0
        """Runs of symbols that they name."""

    def __len__(self) -> int:
        return len(self._heard)

    def add(self, now: int, until: int, key: SessionKey, named: Runs) -> None:
        """Remember one; forget those that are over, and the oldest of too many."""
        heard = self._heard
        heard.append(_Heard(until, key, named, int(named.starts[0]), int(named.ends[-1])))
        self.size += len(named)
        while heard and (
            heard[0].until <= now
            or self.size > self._config.max_ncf_runs
            or len(heard) > self._config.max_ncfs
        ):
            self.size -= len(heard.popleft().named)

    def distrust(self, key: SessionKey) -> None:
        """Forget those of a session."""
        self._heard = deque(one for one in self._heard if one.key != key)
        self.size = sum(len(one.named) for one in self._heard)

    def unnamed(self, now: int, need: Exact) -> Exact:
        """Return what of `need` none of them names."""
        for one in self._about(now, need):
            need = Exact(need.symbols[~one.named.has(need.symbols)])
        return need

    def promisers(self, now: int, need: Exact) -> set[SessionKey]:
        """Return the sessions that named something of `need`."""
        about = self._about(now, need)
        return {one.key for one in about if one.named.has(need.symbols).any()}

    def _about(self, now: int, need: Exact) -> list[_Heard]:
        """Return those that may name something of `need`."""
        first, last = need.bounds
        return [
            one for one in self._heard if one.until > now and one.first <= last and one.end > first
        ]


@dataclass(slots=True)
class _Cursor:
    """Where a session's cursor in a block is, as it was heard, and how far it is bound to go.

    Attributes:
        esi: The next encoding symbol id that it sends.
        left: Steps from there on that were promised.
        until: How long the promise is believed, ns.
    """

    esi: int
    left: int = 0
    until: int = 0


class Cursors:
    """Where the cursors of repairers are in the blocks, by what is heard of them."""

    def __init__(self, config: NakConfig, geometry: Geometry) -> None:
        self._config = config
        self._geometry = geometry
        self._sessions: dict[SessionKey, dict[int, _Cursor]] = {}

    def _of(self, key: SessionKey) -> dict[int, _Cursor]:
        """Return the cursors of a session; the one silent for longest makes room."""
        cursors = self._sessions.pop(key, None)
        if cursors is None:
            cursors = {}
            while len(self._sessions) >= self._config.max_repairers:
                self._sessions.pop(next(iter(self._sessions)))
        self._sessions[key] = cursors
        return cursors

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget what sessions promised on channels that are not heard (RTE-9)."""
        for key in [key for key in self._sessions if not hears(key[2])]:
            del self._sessions[key]

    def distrust(self, key: SessionKey) -> None:
        """Forget what a session promised."""
        self._sessions.pop(key, None)

    def promise(self, until: int, key: SessionKey, counts: Counts) -> None:
        """Take an NCF: it says all that is to come of each block that it names."""
        cursors = self._of(key)
        for block, first, count in zip(
            counts.blocks.tolist(), counts.firsts.tolist(), counts.counts.tolist(), strict=True
        ):
            cursors.pop(block, None)
            cursors[block] = _Cursor(first, count, until)
        while len(cursors) > self._config.max_cursors:
            cursors.pop(next(iter(cursors)))

    def bring(self, key: SessionKey, ids: Ids) -> None:
        """Take RDATA: cursors have gone past it."""
        cursors = self._sessions.get(key)
        if not cursors:
            return
        # The latest of each block stands last.
        for block, esi in dict(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True)).items():
            if cursor := cursors.get(block):
                ring = self._geometry.ring(block)
                gone = (cursor.esi - esi) % ring + 1
                if gone <= ring // 2:  # else it was overtaken
                    cursor.esi = (esi - 1) % ring
                    cursor.left = max(0, cursor.left - gone)

    def end(self, block: int) -> None:
        """Note that all that was promised of a block has left."""
        for cursors in self._sessions.values():
            if cursor := cursors.get(block):
                cursor.esi = (cursor.esi - cursor.left) % self._geometry.ring(block)
                cursor.left = 0

    def at(self, key: SessionKey, block: int, ring: Ring | None) -> int:
        """Return the next encoding symbol id that a session sends of a block.

        Args:
            ring: Of its carousel; None: it has none, or it is not known.
        """
        cursor = self._sessions.get(key, {}).get(block)
        return cursor.esi if cursor else first_of(self._geometry, block, ring)

    def promised(self, now: int, block: int) -> dict[SessionKey, Symbols]:
        """Return the encoding symbol ids of a block that sessions are bound to send."""
        ring = self._geometry.ring(block)
        return {
            key: steps_from(cursor.esi, min(cursor.left, ring), ring)
            for key, cursors in self._sessions.items()
            if (cursor := cursors.get(block)) and cursor.left and cursor.until > now
        }
