"""Whose packets are asked for: the sources of a receiver's groups (spec: NET-13, DNS-1 to DNS-9).

They are those that a user named by address, those that DNS has for names (`names`), and
repairers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice

from pgmlite.core.config_listening import SourcesConfig
from pgmlite.core.events import Event, Waiting, Warned
from pgmlite.core.events_listening import Resolved, SourceState
from pgmlite.core.figures import OfferedChannel
from pgmlite.core.machine import NOT_OFFERED, SECOND, Action, DnsAnswer
from pgmlite.core.receive.names import Name
from pgmlite.errors import NetworkError
from pgmlite.wire.endpoint import ip_version
from pgmlite.wire.manifest import Rung

ANY_SOURCE = frozenset({""})
"""Whoever sends: what there is outside of source-specific groups."""


@dataclass(slots=True)
class _Source:
    """One that is joined.

    Attributes:
        last: When something of it came last, or it was joined, ns.
        state: As of `SourceState`; empty: it was just joined.
        names: Those that it is of.
    """

    last: int
    state: str
    names: list[Name]


class Sources:
    """The sources that are heard.

    Attributes:
        wanted: Their addresses; `ANY_SOURCE`: all; none as long as no name has an answer.
        ladder: The channels that the service has, at rising rates; none: there is no service, or
            no answer yet.
        deadline: When to call `tick` next, ns; None: only after an answer.
    """

    def __init__(
        self,
        named: Collection[str] = (),
        *,
        service: str = "",
        hosts: Collection[str] = (),
        config: SourcesConfig | None = None,
    ) -> None:
        """
        Args:
            named: Addresses that a user named.
            service: A name that has sources and groups; empty: the groups are known.
            hosts: Names that have addresses of sources. None of all these: whoever sends.
        """
        self._config = config or SourcesConfig()
        self._named = dict.fromkeys(named)
        self._names = {
            name: Name(name, is_service=name == service, config=self._config)
            for name in dict.fromkeys([service, *hosts])
            if name
        }
        self._service = self._names.get(service)
        self._repairers: dict[str, None] = {}
        """Those that a user named, as far as they are no sources."""

        self._of_object: dict[str, None] = {}
        """Those that the manifest in hand names."""

        self._joined: dict[str, _Source] = {}
        self._told: dict[str, Resolved] = {}
        self.ladder: tuple[Rung, ...] = ()
        self.deadline: int | None = None
        self.wanted: frozenset[str] = ANY_SOURCE
        if self._named or self._names:
            self.wanted = frozenset(self._named)

    def add(self, repairers: Collection[str]) -> None:
        """Hear these as well, which a user named: packets come from addresses of their own."""
        self._repairers |= dict.fromkeys(repairers)
        self._choose_anew()

    def adopt(self, repairers: Collection[str]) -> None:
        """Hear those that a manifest names as well, and those of an earlier one no longer."""
        self._of_object = dict.fromkeys(repairers)
        self._choose_anew()

    def _choose_anew(self) -> None:
        if self.wanted != ANY_SOURCE:
            self._choose()

    # The contract of machines. What it returns says nothing of joining: that follows from `wanted`.

    def start(self, now: int) -> list[Action]:
        """Begin: look names up."""
        if self.wanted == ANY_SOURCE:
            return []
        self._follow(now)
        return self._go_on(now)

    def receive(self, now: int, address: str) -> list[Action]:
        """Take note that something valid came from an address."""
        source = self._joined.get(address)
        if source is None:
            return []
        source.last = now
        for name in source.names:
            name.heard(now)
        if source.state == "heard":
            return []
        source.state = "heard"
        self._plan(now)
        return [SourceState(now, address, "heard")]

    def resolved(self, now: int, answer: DnsAnswer) -> list[Action]:
        """Take what DNS says.

        Raises:
            NetworkError: The service is decidedly not offered, and no answer came before.
        """
        name = self._names.get(answer.name)
        if name is None:
            return []
        actions: list[Action] = []
        if answer.failure == NOT_OFFERED and name.answer is None:
            raise NetworkError(answer.text, cause="dns")
        if answer.failure and answer.failure != NOT_OFFERED:
            if name.failed(now, answer.text):
                actions.append(_failure(now, name, answer))
        else:
            name.answered(now, answer, self._joined)
            # Where packets come, no answer moves the groups: they are what they come to.
            if answer.ladder and (not self.ladder or name.is_silent):
                self.ladder = answer.ladder
            self._follow(now)
            actions += self._said_anew(now, name, answer)
        return actions + self._go_on(now)

    def tick(self, now: int) -> list[Action]:
        """Do what is due."""
        if self.deadline is None or now < self.deadline:
            return []
        actions: list[Action] = []
        before = set(self._joined)
        changed = [name.tick(now, lambda one: self._silence(now, one)) for name in self._list]
        if any(changed):
            self._follow(now)
        for address in sorted(self._joined.keys() - before):
            if any(address in name.called for name in self._list):
                self._joined[address].state = "standby"
                actions.append(SourceState(now, address, "standby"))
        for address, source in self._joined.items():
            if source.state != "silent" and now - source.last >= self._config.silent_after:
                source.state = "silent"
                actions.append(SourceState(now, address, "silent"))
        return actions + self._go_on(now)

    # What follows.

    @property
    def _list(self) -> Iterable[Name]:
        return self._names.values()

    def _silence(self, now: int, address: str) -> int:
        """Return for how long nothing came from an address; one that is not joined is silent."""
        source = self._joined.get(address)
        return now - source.last if source else self._config.leave_after

    def _is_heard(self, address: str) -> bool:
        source = self._joined.get(address)
        return bool(source and source.state == "heard")

    def _choose(self) -> None:
        """Choose whom to hear, as many as the system allows."""
        sources = [one for name in self._list for one in name.sources]
        # Whatever an answer says, nobody who is heard makes room for others.
        sources.sort(key=lambda one: not self._is_heard(one))
        # spec: NET-18: of those that a user named the system itself says which it has no room for.
        chosen = dict.fromkeys([*self._named, *sources, *self._repairers, *self._of_object])
        most = self._config.most_sources(max(map(ip_version, chosen), default=6))
        self.wanted = frozenset(islice(chosen, max(most, len(self._named))))

    def _follow(self, now: int) -> None:
        """Choose whom to hear, and take note of each from now on."""
        self._choose()
        if self._service and not self.ladder:
            return  # there is no group yet
        joined = {}
        for one in self.wanted:
            names = [name for name in self._list if one in name.sources]
            # Repairers that are nothing else are silent as long as nobody asks them.
            if names or one in self._named:
                joined[one] = self._joined.get(one) or _Source(now, "", [])
                joined[one].names = names
        self._joined = joined
        for name in self._list:
            name.forget(joined)

    def _said_anew(self, now: int, name: Name, answer: DnsAnswer) -> list[Action]:
        """Return what an answer says, if it is not what was told before."""
        told = Resolved(
            now,
            name.name,
            tuple(sorted(self.wanted.intersection(name.sources))),
            tuple(name.standby),
            answer.ladder[0].group.port if answer.ladder else None,
            tuple(OfferedChannel(*rung.group, rung.rate) for rung in answer.ladder),
            answer.ttl // SECOND,
            answer.is_authentic,
        )
        before = self._told.get(name.name)
        self._told[name.name] = told
        return [] if before and _same(before, told) else [told]

    def _go_on(self, now: int) -> list[Action]:
        """Look up the names whose time it is, and plan."""
        actions: list[Action] = [action for name in self._list for action in name.look_up(now)]
        self._plan(now)
        return actions

    def _plan(self, now: int) -> None:
        """Take note of when there is something to do next; what is heard only puts that off."""
        deadlines = [
            one
            for name in self._list
            for one in name.deadlines(now, lambda one: self._silence(now, one))
        ]
        deadlines += [
            source.last + self._config.silent_after
            for source in self._joined.values()
            if source.state != "silent"
        ]
        self.deadline = min(deadlines, default=None)


def _failure(now: int, name: Name, answer: DnsAnswer) -> Event:
    """Return what there is to tell of a failure."""
    if name.answer is None:
        return Waiting(now, "dns", answer.text)
    text = f"{answer.text}; going on with what it said before"
    return Warned(now, text, "dns", {"name": name.name, "failure": answer.failure})


def _same(a: Resolved, b: Resolved) -> bool:
    """Whether two answers say the same, in whatever order, and however long they hold."""
    return (a.sources, set(a.standby), a.channels, a.dnssec) == (
        b.sources,
        set(b.standby),
        b.channels,
        b.dnssec,
    )
