"""What a receiver is a member of, and how that changes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from pgmlite.core.machine import Join, Leave
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.sources import Sources
from pgmlite.wire.endpoint import Endpoint
from tests.support.builders import make_object

GROUP, OTHER = Endpoint("ff3e::8000:1", 5), Endpoint("ff3e::8000:2", 6)
REPAIRED = replace(make_object(1_000).manifest, repairers=(Endpoint("fd01::9", 7),))


@pytest.mark.parametrize(
    ("sources", "joins"),
    [
        ((), [Join(GROUP), Join(OTHER)]),
        (("fd01::1",), [Join(GROUP, "fd01::1"), Join(OTHER, "fd01::1")]),
    ],
)
def test_every_source_is_heard_on_every_group(sources: tuple[str, ...], joins: list[Join]) -> None:
    # spec: NET-13
    listening = Listening([OTHER, GROUP], Sources(sources))
    assert listening.start(0) == joins
    assert listening.joined == {(join.group, join.source) for join in joins}


def test_repairers_of_a_manifest_are_heard_where_sources_are_named() -> None:
    # spec: NET-13
    named, everybody = (Listening([GROUP], Sources(one)) for one in (["fd01::1"], []))
    for listening in (named, everybody):
        listening.start(0)
    assert named.adopt(1, REPAIRED) == [Join(GROUP, "fd01::9")]
    assert named.adopt(2, REPAIRED) == []
    assert everybody.adopt(1, REPAIRED) == []


def test_repairers_of_another_manifest_are_left() -> None:
    # spec: NET-13
    listening = Listening([GROUP], Sources(["fd01::1"]))
    listening.start(0)
    for number in range(200):
        others = tuple(Endpoint(f"fd02::{number:x}:{n:x}", 7) for n in range(60))
        listening.adopt(number, replace(REPAIRED, repairers=others))
    assert listening.adopt(300, REPAIRED)[-1] == Join(GROUP, "fd01::9")
    assert {source for _, source in listening.joined} == {"fd01::1", "fd01::9"}


def test_repairers_of_the_other_kind_of_ip_are_not_joined() -> None:
    # spec: NET-13
    listening = Listening([Endpoint("232.1.2.3", 5)], Sources(["192.0.2.1"]))
    listening.start(0)
    both = (Endpoint("fd01::9", 7), Endpoint("192.0.2.9", 7))
    joins = listening.adopt(1, replace(REPAIRED, repairers=both))
    assert joins == [Join(Endpoint("232.1.2.3", 5), "192.0.2.9")]


class Moving(Sources):
    """Sources that are others as soon as there is a manifest."""

    def adopt(self, repairers: Collection[str]) -> None:
        self.wanted = frozenset(["fd01::2", "fd01::3"])


def test_why_something_is_left() -> None:
    # spec: NET-13
    listening = Listening([GROUP], Moving(["fd01::1", "fd01::2"]))
    listening.start(0)
    assert listening.adopt(1, REPAIRED) == [
        Leave(GROUP, "fd01::1", "source"),
        Join(GROUP, "fd01::3"),
    ]
