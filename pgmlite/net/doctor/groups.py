"""The group: is it multicast, how far does it reach, does it need sources (RFC 4291, 4607)?"""

from __future__ import annotations

import ipaddress

from pgmlite.core.figures import CheckResult
from pgmlite.net.doctor.place import Address, Place
from pgmlite.net.doctor.results import fail, ok

SSM_IPV4 = ipaddress.IPv4Network("232.0.0.0/8")
LOCAL_IPV4 = ipaddress.IPv4Network("224.0.0.0/24")
"""Link-local groups, which no router forwards (RFC 5771 section 4)."""

SSM_FLAGS = 3
"""Flags of source-specific IPv6 groups: ff3x::/32 (RFC 4607 section 1)."""

FIRST_SSM_ID = 0x8000_0000
"""Group ids below are not for hosts to choose (RFC 4607 section 1, RFC 3307 section 4.3)."""

SCOPES = {1: "this machine", 2: "one link", 4: "an administrative domain", 5: "one site"}
SCOPES |= {8: "one organisation", 14: "everywhere"}
"""How far IPv6 groups reach (RFC 7346)."""


def is_source_specific(group: Address) -> bool:
    """Whether a group means nothing without a source (RFC 4607): ff3x::/32 or 232.0.0.0/8."""
    if isinstance(group, ipaddress.IPv4Address):
        return group in SSM_IPV4
    packed = group.packed
    return packed[0] == 0xFF and packed[1] >> 4 == SSM_FLAGS and not any(packed[2:4])


def check_group(place: Place) -> list[CheckResult]:
    """Look at the group's range, and at what it needs."""
    group = place.group
    if not group.is_multicast:
        text = f"{group} is not a multicast address (ff00::/8 or 224.0.0.0/4)"
        return [fail("group", text, "name the group that the sender's first line names, with -g")]
    if not is_source_specific(group):
        return [_reach(group)]
    if isinstance(group, ipaddress.IPv6Address):
        number = int.from_bytes(group.packed[12:], "big")
        if number < FIRST_SSM_ID:
            better = ipaddress.IPv6Address(int(group) | FIRST_SSM_ID)
            text = f"{group}: ids of source-specific groups are 8000:0000 and above"
            return [fail("group", text, f"use a group such as {better} at both ends")]
    if not place.sources:
        return [
            fail(
                "source",
                f"{group} is source-specific, and no source is named: nobody sends it here",
                "name the sender with --source; its first line has the address",
            )
        ]
    return [ok("group", f"{group} is source-specific: routers need no more than its source")]


def _reach(group: Address) -> CheckResult:
    """Return how far an any-source group reaches."""
    if isinstance(group, ipaddress.IPv4Address):
        if group in LOCAL_IPV4:
            return ok("group", f"{group} is for one link: no router forwards it")
        return ok("group", f"{group} takes all senders; routers need a rendezvous point for it")
    scope = group.packed[1] & 15
    if scope <= 1:
        on_link = ipaddress.IPv6Address(bytes((0xFF, 0x12)) + group.packed[2:])
        text = f"{group}: its scope is {scope}, and its packets never leave a machine"
        return fail("group", text, f"use {on_link} for one link, at both ends")
    reach = SCOPES.get(scope, f"scope {scope}")
    beyond = "no router forwards it" if scope == 2 else "routers need a rendezvous point for it"
    return ok("group", f"{group} takes all senders and reaches {reach}; {beyond}")
