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
from typing import Generic

import numpy as np

from pgmlite.core.config import NakConfig
from pgmlite.core.receive.counters import NakCounters
from pgmlite.core.receive.demand import Demand, H, N
from pgmlite.core.receive.repairers import KnownRepairer
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.receive.wants import Promise, Want, WantEvent, Wants, WantState


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


class Promises(Generic[N, H]):
    """What NCFs say to the wants of one object, and what it turns out to be worth."""

    def __init__(
        self,
        config: NakConfig,
        demand: Demand[N, H],
        wants: Wants[N],
        *,
        counters: NakCounters,
        rest: Callable[[int], int],
    ) -> None:
        """
        Args:
            counters: Of the machine.
            rest: Returns for how many ns from now on to ignore who does not keep promises.
        """
        self._config = config
        self._demand: Demand[N, H] = demand
        self._wants = wants
        self._counters = counters
        self._rest = rest
        self._promisers = Promisers(config)

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget the sessions of channels that are not heard (spec: RTE-9)."""
        self._promisers.forget(hears)

    def repaired(self, key: SessionKey) -> None:
        """Take note of RDATA of a session."""
        self._promisers.repaired(key)

    def patience(self, repairer: KnownRepairer | None) -> int:
        """Return how long an NCF of a session suppresses, ns (spec: NAK-5)."""
        if repairer and repairer.trusted:
            return repairer.patience
        return self._config.unknown_patience

    def take(
        self,
        now: int,
        key: SessionKey,
        repairer: KnownRepairer | None,
        bodies: tuple[bytes, ...],
        last: int | None,
    ) -> bool:
        """Take NCFs of one moment: what they say will be sent (spec: NAK-5).

        Args:
            repairer: That is the session's own.
            last: The sqn by which it all has been; None: the last of them does not say.

        Returns:
            Whether the session is believed, or was asked.

        Raises:
            RefusedPacket: reason ``request``.
        """
        may_be_asked = repairer is not None and repairer.trusted
        # spec: NAK-18
        is_believed = self._promisers.believes(now, key, may_be_asked=may_be_asked)
        wants = self._wants.cycles.values() if is_believed or repairer else ()
        running = [one for one in wants if is_believed or one.has_asked(key)]
        named = self._demand.parse(bodies)
        if not is_believed and not running:
            return False
        self._counters.ncfs_received += len(bodies)
        until = now + self.patience(repairer)
        if is_believed:
            self._demand.take_ncf(now, until, key, named)
        promise = Promise(key, last, now) if may_be_asked and last is not None else None
        for want in self._meant(running, named):
            if want.data_retries < self._config.broken_promises or want.has_asked(key):
                self._confirm(now, want, named, until, key, promise)
            else:
                # spec: NAK-18: it waited in vain for others often enough.
                self._demand.retry(want.block)
        return True

    def _meant(self, wants: list[Want[N]], named: H) -> list[Want[N]]:
        """Return those of `wants` of whose blocks an NCF says something."""
        blocks = np.fromiter((one.block for one in wants), np.int64, len(wants))
        return [wants[place] for place in np.flatnonzero(self._demand.is_of(named, blocks))]

    def _confirm(
        self,
        now: int,
        want: Want[N],
        named: H,
        until: int,
        key: SessionKey,
        promise: Promise | None,
    ) -> None:
        """Let one want know that what is `named` is on its way until `until`."""
        was, before = want.state, self._wants.timers.at(want.block)
        if was is WantState.WAIT_DATA and not want.unconfirmed:
            # The usual case in a large group: it changes nothing but how long to wait.
            since = min(want.relied.values(), default=now)
            if want.promise or now - since <= until - now:  # else it should have come by now
                want.relied.setdefault(key, now)
                self._wants.move(want, WantEvent.CONFIRMED, max(until, before))
            return
        want.unconfirmed = self._demand.beside_one(now, want.unconfirmed, named)
        want.relied.setdefault(key, now)
        is_all = not self._demand.lacking(want.unconfirmed)
        # Part of what we asked for: the rest did not fit, and is asked for next time.
        if not is_all and was is not WantState.WAIT_NCF:
            return
        if was is WantState.BACK_OFF:
            self._counters.naks_suppressed += 1
        self._wants.move(
            want, WantEvent.CONFIRMED, until if was is WantState.WAIT_NCF else max(until, before)
        )
        want.promise = promise or want.promise

    def judge(self, now: int, want: Want[N], missing: N) -> None:
        """Find out what the promises that a want waited for were worth (spec: NAK-18).

        Args:
            missing: What of its needs did not come.
        """
        if want.relied:
            kept = len(missing) <= len(want.needs) * (1 - self._config.kept_promise)
            for key in self._promisers.judge(now, want.relied, kept=kept, rest=self._rest(now)):
                self._demand.distrust(key)
            want.relied.clear()
