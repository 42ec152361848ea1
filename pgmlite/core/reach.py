"""Which groups a manifest may lead to from the one that is heard: strangers write manifests, too.

Who can send to a group could otherwise have its receivers join any other one, and load their links
with what others send there (spec: RTE-13).
"""

from __future__ import annotations

import ipaddress

from pgmlite.wire.endpoint import Endpoint

Network = ipaddress.IPv4Network

CONTROL = Network("224.0.0.0/23")
"""Of protocols, on one link or beyond it (RFC 5771 sections 4 and 5)."""

SCOPES = tuple(map(Network, ("239.255.0.0/16", "239.192.0.0/14", "239.0.0.0/8", "232.0.0.0/8")))
"""Local, organization-local, otherwise limited by administrators (RFC 2365 section 6), and
source-specific (RFC 4607); the first that has a group counts."""

TRANSIENT, BY_PREFIX = 0x10, 0x20
"""Flags of an IPv6 group: it is not assigned by IANA (RFC 4291 section 2.7), or is by a prefix or
source-specific, as its next two bytes say (RFC 3306)."""


def is_near(group: Endpoint, heard: Endpoint) -> bool:
    """Whether who hears one group may be led to another: of the same port and of the same scope.

    Args:
        group: Of the same family as `heard`.
    """
    if group == heard:
        return True
    one, other = (ipaddress.ip_address(endpoint.address) for endpoint in (group, heard))
    if group.port != heard.port or _is_assigned(one):
        return False
    return _scope(one) == _scope(other)


def _is_assigned(group: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a group is of protocols and services that are not ours."""
    if isinstance(group, ipaddress.IPv6Address):
        return not group.packed[1] & TRANSIENT
    return group in CONTROL


def _scope(group: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int | bytes:
    """Return what groups of one scope and kind have in common."""
    if isinstance(group, ipaddress.IPv6Address):
        return group.packed[1 : 4 if group.packed[1] & BY_PREFIX else 2]
    return next((number for number, one in enumerate(SCOPES) if group in one), len(SCOPES))
