"""The group: is it multicast, how far does it reach, does it need sources (RFC 4291, 4607)?"""

from __future__ import annotations

import ipaddress

from pgmlite.core.figures import CheckResult
from pgmlite.errors import UsageError
from pgmlite.net import groups
from pgmlite.net.doctor.place import Place
from pgmlite.net.doctor.results import fail, ok
from pgmlite.net.groups import Address

LOCAL_IPV4 = ipaddress.IPv4Network("224.0.0.0/24")
"""Link-local groups, which no router forwards (RFC 5771 section 4)."""

SCOPES = {1: "this machine", 2: "one link", 4: "an administrative domain", 5: "one site"}
SCOPES |= {8: "one organisation", 14: "everywhere"}
"""How far IPv6 groups reach (RFC 7346)."""


def check_group(place: Place, *, is_loopback: bool = False) -> list[CheckResult]:
    """Look at the group's range, and at what it needs.

    Args:
        is_loopback: The interface leads to this machine alone.
    """
    group = place.group
    if not group.is_multicast:
        text = f"{group} is not a multicast address (ff00::/8 or 224.0.0.0/4)"
        return [fail("group", text, "name the group that the sender's first line names, with -g")]
    try:
        groups.check_group(group, is_loopback=is_loopback)
    except UsageError as error:
        text, _, advice = str(error).partition("; ")
        return [fail("group", text, advice or "use such a group at both ends")]
    if not groups.is_source_specific(group):
        return [ok("group", f"{group} takes all senders{_reach(group)}")]
    if not place.sources:
        return [
            fail(
                "source",
                f"{group} is source-specific, and no source is named: nobody sends it here",
                "name the sender with --source; its first line has the address",
            )
        ]
    return [ok("group", f"{group} is source-specific: routers need no more than its source")]


def _reach(group: Address) -> str:
    """Say how far a group reaches that takes all senders."""
    if isinstance(group, ipaddress.IPv4Address):
        is_local = group in LOCAL_IPV4
        return ", for one link" if is_local else "; routers need a rendezvous point for it"
    scope = group.packed[1] & 15
    reach = f" and reaches {SCOPES.get(scope, f'scope {scope}')}"
    return reach if scope <= 2 else f"{reach}; routers need a rendezvous point for it"
