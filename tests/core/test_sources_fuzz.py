"""Names in DNS, whatever it says and whoever sends: what always holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.config_listening import SourcesConfig
from pgmlite.core.machine import (
    FAILURES,
    NOT_OFFERED,
    SECOND,
    Action,
    DnsAnswer,
    Join,
    Leave,
    Resolve,
)
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.sources import Sources
from pgmlite.errors import NetworkError
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.manifest import Rung

NAMES = ("fw", "h")
ADDRESSES = [f"192.0.2.{n}" for n in range(24)]
LADDERS = [(Rung(1_000_000 * n, Endpoint(f"232.1.2.{n}", 5)),) for n in (1, 2)]
CONFIG = SourcesConfig()

tiers = st.lists(st.lists(st.sampled_from(ADDRESSES), max_size=14, unique=True), max_size=4)
answers = st.builds(
    lambda name, tiers, ladder, ttl, is_whole, failure: DnsAnswer(
        name=name,
        tiers=() if failure else tuple(map(tuple, tiers)),
        ladder=() if failure or name == "h" else ladder,
        ttl=ttl,
        is_whole=is_whole,
        failure=failure,
        text=failure,
    ),
    st.sampled_from(NAMES),
    tiers,
    st.sampled_from(LADDERS),
    st.integers(0, 2**31 * SECOND),
    st.booleans(),
    st.just("") | st.sampled_from(sorted(FAILURES)),
)
steps = st.lists(
    st.one_of(
        answers,
        st.lists(st.sampled_from(ADDRESSES), max_size=4),
        st.integers(0, 90 * SECOND),
    ),
    max_size=40,
)


class Checked:
    """A receiver's membership, and what has to hold of it after each step."""

    def __init__(self, named: list[str]) -> None:
        self.sources = Sources(named, service="fw", hosts=["h"])
        self.listening = Listening((), self.sources)
        self.named = set(named)
        self.now = 0
        self.asked: dict[str, int] = {}
        self.heard: dict[str, int] = {}
        self.members: set[tuple[Endpoint, str]] = set()

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Join():
                    assert (action.group, action.source) not in self.members
                    self.members.add((action.group, action.source))
                case Leave():
                    self.members.remove((action.group, action.source))
                    is_silent = self.now - self.heard.get(action.source, -(10**12)) >= 5 * SECOND
                    assert is_silent, "who is heard is not left"
                case Resolve():
                    assert self.asked.get(action.name, 0) == 0, "one question at a time"
                    self.asked[action.name] = 1
        assert self.members == self.listening.joined
        sources = {source for _, source in self.members}
        assert len(sources) <= CONFIG.max_sources_ipv4
        assert not self.members or sources >= self.named
        assert len({group for group, _ in self.members}) <= 1

    def answer(self, answer: DnsAnswer) -> bool:
        """Give an answer if one is due; return False at the end."""
        if not self.asked.get(answer.name):
            return True
        self.asked[answer.name] = 0
        try:
            self.do(self.listening.resolved(self.now, answer))
        except NetworkError:
            assert answer.failure == NOT_OFFERED
            return False
        return True

    def receive(self, addresses: list[str]) -> None:
        for address in addresses:
            if address in {source for _, source in self.members}:
                self.heard[address] = self.now
            self.do(self.sources.receive(self.now, address))

    def wait(self, time: int) -> None:
        end = self.now + time
        while (due := self.listening.deadline) is not None and due <= end:
            self.now = max(self.now, due)
            self.do(self.listening.tick(self.now))
            after = self.listening.deadline
            assert after is None or after > self.now, "it gets on"
        self.now = end


@given(st.lists(st.sampled_from(ADDRESSES), max_size=3, unique=True), steps)
def test_whatever_happens(named: list[str], script: list[DnsAnswer | list[str] | int]) -> None:
    # spec: DNS-5, DNS-8, DNS-9
    checked = Checked(named)
    checked.do(checked.listening.start(0))
    for step in script:
        match step:
            case DnsAnswer():
                if not checked.answer(step):
                    return
            case list():
                checked.receive(step)
            case int():
                checked.wait(step)
