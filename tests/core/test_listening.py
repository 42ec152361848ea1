"""What a receiver is a member of, and how that changes."""

from __future__ import annotations

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


def test_why_something_is_left() -> None:
    # spec: NET-13
    sources = Sources(["fd01::1", "fd01::2"])
    listening = Listening([GROUP], sources)
    listening.start(0)
    sources.wanted = frozenset(["fd01::2", "fd01::3"])
    assert listening.adopt(1, make_object(1_000).manifest) == [
        Leave(GROUP, "fd01::1", "source"),
        Join(GROUP, "fd01::3"),
    ]
