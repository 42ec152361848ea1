"""The life of one name whose sources are heard: what DNS said, and who is joined for it.

A name is that of a service, whose sources have priorities, or of a host, whose addresses are all
of one (spec/protocol.md section 10.1)::

    RESOLVING --answered--> JOINED <----------heard-----------.
                              | `--quiet--> SILENT --dead--> STANDBY
                              `<--heard------' ^-----quiet-----'

Until there is an answer nothing is joined. Then all sources of the best priority are, together:
they add up. When none of them was heard for 5 s the name is looked up again, for they may have
moved; after 10 s those of the next priority are joined besides, and have as long to be heard.
Nobody is left for being silent. Whoever an answer has no more is left once it is silent: the
answer may be wrong, what comes is not. So a failure of DNS, whatever it is, changes nothing here
but when the name is looked up next.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from enum import Enum, auto

from pgmlite.core.config_listening import SourcesConfig
from pgmlite.core.machine import DnsAnswer, Resolve


class NameState(Enum):
    """Where a name is in its life."""

    RESOLVING = auto()
    JOINED = auto()
    SILENT = auto()
    STANDBY = auto()


class NameEvent(Enum):
    """What moves a name from state to state."""

    ANSWERED = auto()
    HEARD = auto()
    QUIET = auto()
    DEAD = auto()


_S, _E = NameState, NameEvent

NAME_TRANSITIONS: dict[tuple[NameState, NameEvent], NameState] = {
    (_S.RESOLVING, _E.ANSWERED): _S.JOINED,
    (_S.JOINED, _E.QUIET): _S.SILENT,
    (_S.SILENT, _E.HEARD): _S.JOINED,
    (_S.SILENT, _E.DEAD): _S.STANDBY,
    (_S.STANDBY, _E.HEARD): _S.JOINED,
    (_S.STANDBY, _E.QUIET): _S.SILENT,
}

Silence = Callable[[str], int]
"""Returns for how long, ns, nothing came from a source that is joined."""


class Name:
    """One name.

    Attributes:
        state: Where it is in its life.
        answer: The latest answer that was one; None: there is none yet.
        failure: Why there is none, in words; empty: there is one, or nothing is known yet.
        level: Priorities of the answer that are joined.
        extra: Addresses that are joined and of no such priority, and whether they are left once
            they are silent.
    """

    def __init__(self, name: str, *, is_service: bool, config: SourcesConfig) -> None:
        self.name = name
        self.is_service = is_service
        self.state = NameState.RESOLVING
        self.answer: DnsAnswer | None = None
        self.failure = ""
        self.level = 0
        self.extra: dict[str, bool] = {}
        self._config = config
        self._failures = 0
        self._ask_at: int | None = 0
        """None: it is being looked up."""

        self._quiet_since = 0
        """When a source was heard last, or a priority joined."""

    @property
    def tiers(self) -> tuple[tuple[str, ...], ...]:
        """The addresses of the answer by priority."""
        return self.answer.tiers if self.answer else ()

    @property
    def sources(self) -> list[str]:
        """Who is to be joined, the most wanted first: whoever is called in comes for the silent."""
        called = [one for tier in reversed(self.tiers[: self.level]) for one in tier]
        return [*called, *self.extra]

    @property
    def called(self) -> set[str]:
        """Who is to be joined because those of better priorities are silent."""
        return {one for tier in self.tiers[1 : self.level] for one in tier}

    @property
    def standby(self) -> list[str]:
        """Who is not to be joined yet, in order."""
        waiting = [one for tier in self.tiers[self.level :] for one in tier]
        return [one for one in waiting if one not in self.extra]

    @property
    def is_silent(self) -> bool:
        """Whether nobody was heard lately."""
        return self.state is NameState.SILENT

    def _move(self, event: NameEvent) -> None:
        self.state = NAME_TRANSITIONS[self.state, event]

    def heard(self, now: int) -> None:
        """Take note that one of its sources was heard."""
        self._quiet_since = now
        if self.state in {NameState.SILENT, NameState.STANDBY}:
            self._move(NameEvent.HEARD)

    def look_up(self, now: int) -> list[Resolve]:
        """Ask DNS if that is due and not done yet."""
        if self._ask_at is None or now < self._ask_at:
            return []
        self._ask_at = None
        return [Resolve(self.name, self.is_service)]

    def failed(self, now: int, text: str) -> bool:
        """Take a failure of DNS; return whether it is news."""
        self._retry(now)
        is_news = text != self.failure
        self.failure = text
        return is_news

    def _retry(self, now: int) -> None:
        """Ask again, later each time."""
        config = self._config
        # No more doublings than it takes: the number of failures has no bound.
        wait = config.retry_min << min(self._failures, config.retry_max.bit_length())
        self._failures += 1
        self._ask_at = now + min(wait, config.retry_max)

    def answered(self, now: int, answer: DnsAnswer, joined: Container[str]) -> None:
        """Take an answer.

        Args:
            joined: Who is joined.
        """
        config = self._config
        before = self.sources
        self.failure = ""
        if answer.is_whole:
            self._failures = 0
            self._ask_at = now + min(max(answer.ttl, config.refresh_min), config.refresh_max)
        else:
            self._retry(now)
        self.answer = answer
        self.level = min(max(self.level, 1), len(answer.tiers))
        now_wanted = {one for tier in answer.tiers[: self.level] for one in tier}
        self.extra = {
            one: answer.is_whole or self.extra.get(one, False)
            for one in before
            if one in joined and one not in now_wanted
        }
        if self.state is NameState.RESOLVING:
            self._move(NameEvent.ANSWERED)
            self._quiet_since = now

    def forget(self, joined: Container[str]) -> None:
        """Take note that who is of no priority that is joined, and is not joined, is left."""
        self.extra = {one: is_gone for one, is_gone in self.extra.items() if one in joined}

    def tick(self, now: int, silence: Silence) -> bool:
        """Do what is due but looking up; return whether others are to be joined or left."""
        config = self._config
        if self.state is NameState.RESOLVING:
            return False
        quiet = now - self._quiet_since
        if self.state is not NameState.SILENT and quiet >= config.silent_after:
            self._move(NameEvent.QUIET)
            if self._ask_at is not None:
                self._ask_at = now
        called = False
        if self.is_silent and quiet >= config.standby_after and self.level < len(self.tiers):
            self._move(NameEvent.DEAD)
            self._quiet_since = now
            self.level += 1
            called = True
        left = [
            one
            for one, is_gone in self.extra.items()
            if is_gone and silence(one) >= config.leave_after
        ]
        for one in left:
            del self.extra[one]
        return called or bool(left)

    def deadlines(self, now: int, silence: Silence) -> Iterable[int]:
        """Yield when there is something to do, as far as that is known."""
        config = self._config
        if self._ask_at is not None:
            yield self._ask_at
        if self.state is NameState.RESOLVING:
            return
        if not self.is_silent:
            yield self._quiet_since + config.silent_after
        elif self.level < len(self.tiers):
            yield self._quiet_since + config.standby_after
        for one, is_gone in self.extra.items():
            if is_gone:
                yield now - silence(one) + config.leave_after
