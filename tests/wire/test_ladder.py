"""The ladder of an object: its channels in the manifest."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.errors import ObjectError
from pgmlite.wire.control import MAX_SPM, parse_spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import MAX_MANIFEST, MOST_CHANNELS
from pgmlite.wire.manifest import Rung, parse_manifest
from tests.support.builders import spm_body
from tests.support.invalid_vectors import bad_ladders
from tests.support.vectors import LADDER, SMALL, channel, option

GROUPS = {
    True: st.integers(0, (1 << 120) - 1).map(lambda n: str(IPv6Address((0xFF << 120) + n))),
    False: st.integers(0, (1 << 28) - 1).map(lambda n: str(IPv4Address((0xE << 28) + n))),
}
BAD = dict(bad_ladders())


@st.composite
def ladders(draw: st.DrawFn) -> tuple[Rung, ...]:
    """Draw a ladder, with or without rungs."""
    groups = GROUPS[draw(st.booleans())]
    endpoints = st.builds(Endpoint, groups, st.integers(1, 65_535))
    chosen = draw(st.lists(endpoints, max_size=MOST_CHANNELS, unique=True))
    count = len(chosen)
    rates = st.sets(st.integers(1, (1 << 64) - 1), min_size=count, max_size=count)
    return tuple(map(Rung, sorted(draw(rates)), chosen))


@given(ladders())
def test_what_is_written_is_read(ladder: tuple[Rung, ...]) -> None:
    # spec: MAN-7
    manifest = replace(SMALL.manifest, ladder=ladder)
    parsed = parse_manifest(manifest.raw)
    assert parsed == manifest
    assert (parsed.oid == SMALL.manifest.oid) == (not ladder)


@pytest.mark.parametrize("name", BAD)
def test_none_that_nobody_can_climb(name: str) -> None:
    # spec: MAN-7
    with pytest.raises(ObjectError, match="manifest: "):
        parse_manifest(SMALL.manifest.raw + BAD[name])


def test_one_channel_alone_is_a_ladder() -> None:
    # spec: MAN-7
    parsed = parse_manifest(SMALL.manifest.raw + channel(1, "ff15::1", 9))
    assert parsed.ladder == (Rung(1, Endpoint("ff15::1", 9)),)


def test_a_packet_has_room_for_the_longest_and_all_else() -> None:
    # spec: MAN-1, PKT-9
    ladder = tuple(
        Rung((1 << 63) + n, Endpoint(f"ff15:1:2:3:4:5:6:{n}", 65_535)) for n in range(MOST_CHANNELS)
    )
    named = tuple(Endpoint(f"fd01::{n}", 9) for n in range(1, 17))
    longest = replace(SMALL.manifest, name="x" * 255, repairers=named, ladder=ladder)
    assert len(longest.raw) <= MAX_MANIFEST
    assert parse_manifest(longest.raw) == longest
    body = spm_body(longest.raw, repair_port=9) + 2 * option(4, bytes(8 + 64))
    assert len(body) <= MAX_SPM
    assert parse_spm(body).manifest == longest.raw


def test_servers_of_one_ladder_have_one_object() -> None:
    # spec: MAN-7, SND-8
    one, same = (replace(SMALL.manifest, ladder=LADDER) for _ in range(2))
    other = replace(SMALL.manifest, ladder=LADDER[:3])
    assert one.oid == same.oid
    assert len({one.oid, other.oid, SMALL.manifest.oid}) == 3
