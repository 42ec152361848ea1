"""Names in DNS under a virtual clock: a receiver's membership, and DNS that says what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pgmlite.core.machine import SECOND, Action, DnsAnswer, Resolve
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.sources import Sources
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.manifest import Rung

NAME = "fw.example.org"
GROUP = Endpoint("ff3e::9c1f:77a2", 28_775)
OTHER = Endpoint("ff3e::b011:4e02", 28_775)
LADDER = (Rung(5_000_000, GROUP),)
A, B, C, D = (f"2001:db8::{n}" for n in "abcd")

Says = Callable[[float], DnsAnswer | None]
"""Returns what DNS says at a time in seconds; None: nothing, ever."""


def answer(*tiers: Iterable[str], ttl: float = 60, **fields: Any) -> DnsAnswer:
    """Return an answer with a ladder."""
    known: dict[str, Any] = {"name": NAME, "ladder": LADDER} | fields
    return DnsAnswer(tiers=tuple(map(tuple, tiers)), ttl=int(ttl * SECOND), **known)


def failure(word: str = "timeout", text: str = "no answer") -> DnsAnswer:
    """Return an answer that is none."""
    return DnsAnswer(name=NAME, failure=word, text=text)


class World:
    """A receiver's membership, DNS that answers 10 ms later, and sources that send every 100 ms.

    Attributes:
        log: (seconds, action) of all that was done.
        sending: Addresses that send now.
    """

    STEP = SECOND // 10

    def __init__(self, sources: Sources, says: Says, groups: Iterable[Endpoint] = ()) -> None:
        self.sources = sources
        self.listening = Listening(tuple(groups), sources)
        self.says = says
        self.now = 0
        self.log: list[tuple[float, Action]] = []
        self.sending: set[str] = set()
        self._answers: list[tuple[int, DnsAnswer]] = []
        self._do(self.listening.start(0))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            self.log.append((self.now / SECOND, action))
            if isinstance(action, Resolve):
                said = self.says(self.now / SECOND)
                if said:
                    self._answers.append((self.now + SECOND // 100, said))

    def run(self, seconds: float) -> None:
        """Let time pass, to the next thing that is due each time."""
        end = self.now + int(seconds * SECOND)
        while self.now < end:
            due = [at for at, _ in self._answers]
            if self.listening.deadline is not None:
                due.append(self.listening.deadline)
            if self.sending:
                due.append(self.now - self.now % self.STEP + self.STEP)
            then = min([*due, end])
            assert then >= self.now
            self.now = max(then, self.now)
            for one in [one for one in self._answers if one[0] <= self.now]:
                self._answers.remove(one)
                self._do(self.listening.resolved(self.now, one[1]))
            if self.now % self.STEP == 0:
                for address in sorted(self.sending):
                    self._do(self.sources.receive(self.now, address))
            before = self.listening.deadline
            self._do(self.listening.tick(self.now))
            if before is not None and before <= self.now:
                after = self.listening.deadline
                assert after is None or after > self.now, "it does not get on"

    @property
    def joined(self) -> set[str]:
        """Sources that are joined."""
        return {source for _, source in self.listening.joined}

    def times(self, kind: type, **fields: Any) -> list[float]:
        """Return when actions of a kind were done whose fields have these values."""
        return [
            at
            for at, action in self.log
            if isinstance(action, kind)
            and all(getattr(action, name) == value for name, value in fields.items())
        ]

    def events(self, kind: type) -> list[Any]:
        """Return the events of a kind, in order."""
        return [action for _, action in self.log if isinstance(action, kind)]


def service(says: Says, **more: Any) -> World:
    """Return the world of a receiver that was given the name of a service."""
    return World(Sources(service=NAME, **more), says)
