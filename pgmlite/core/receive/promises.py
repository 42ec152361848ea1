"""Whose NCFs are believed (spec: NAK-18).

An NCF of 64 bytes can name 65 536 symbols, and who believes it does not ask for them. So it has to
come of a session that may be asked, or one that was heard to repair; and what it says has to come
true. Of a promise that somebody waited for, a part must have come when its time is up: packets are
lost, so not all of it. Two that were broken, the second made after the first was found out, and
what the session says means nothing for a cycle. So one outage breaks one promise at most.

Who asked a session itself hears its NCF all the same: it says that the NAK came through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgmlite.core.config import NakConfig
from pgmlite.core.receive.sessions import SessionKey


@dataclass(slots=True)
class _Standing:
    """What a session's promises were worth.

    Attributes:
        broken: Those that were broken one after the other.
        found_at: When the last of them was found to be broken, ns.
        ignored_until: ns.
    """

    broken: int = 0
    found_at: int = 0
    ignored_until: int = 0


class Promisers:
    """The sessions that repair or promised to; the one silent for longest makes room."""

    def __init__(self, config: NakConfig) -> None:
        self._config = config
        self._sessions: dict[SessionKey, _Standing] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def repaired(self, key: SessionKey) -> None:
        """Take note of RDATA of a session."""
        self._of(key)

    def _of(self, key: SessionKey) -> _Standing:
        standing = self._sessions.pop(key, None) or _Standing()
        while len(self._sessions) >= self._config.max_repairers:
            self._sessions.pop(next(iter(self._sessions)))
        self._sessions[key] = standing
        return standing

    def believes(self, now: int, key: SessionKey, *, may_be_asked: bool) -> bool:
        """Whether what a session promises counts."""
        standing = self._sessions.get(key)
        return may_be_asked if standing is None else standing.ignored_until <= now

    def judge(
        self, now: int, relied: dict[SessionKey, int], *, kept: bool, rest: int
    ) -> list[SessionKey]:
        """Take note of what became of promises whose time is up; return who is ignored now.

        Args:
            relied: Who made them, and since when somebody waited for them, ns.
            rest: For how many ns to ignore who broke too many.
        """
        ignored = []
        for key, since in relied.items():
            standing = self._of(key)
            if kept:
                standing.broken = 0
            elif since >= standing.found_at:
                standing.broken += 1
                standing.found_at = now
                if standing.broken >= self._config.broken_promises:
                    standing.broken, standing.ignored_until = 0, now + rest
                    ignored.append(key)
        return ignored

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget the sessions of channels that are not heard (spec: RTE-9)."""
        for key in [key for key in self._sessions if not hears(key[2])]:
            del self._sessions[key]
