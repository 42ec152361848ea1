"""Which groups there are, and who may use which: scopes and source-specific ones.

RFC 4607: what is sent to a source-specific group is routed from each sender of its own, to whoever
asked for that sender. Who asks for all senders gets nothing, and spoils what others on the same
machine asked for: its reports say "all", and routers ignore that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from pgmlite.errors import UsageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_PORT = 65_535

LINK_SCOPE, SITE_SCOPE = 2, 5
WIDEST_NODE_SCOPE = 1
"""IPv6 groups of scope 0 (reserved) and 1 (interface-local) never leave the machine."""

IPV4_SOURCE_SPECIFIC = ipaddress.IPv4Network("232.0.0.0/8")
SOURCE_SPECIFIC_FLAGS = 3
"""Of ff3x::/32: a transient group by RFC 3306, and no prefix in it."""

LEAST_ID = 0x8000_0000
"""The last 32 bits of an IPv6 source-specific group that hosts may choose, at least."""


def check_port(port: int) -> None:
    """
    Raises:
        UsageError: It is no UDP port.
    """
    if not 1 <= port <= MAX_PORT:
        raise UsageError(f"port {port}: must be 1 to {MAX_PORT}")


def parse_group(group: str, interface: str | None) -> tuple[Address, str]:
    """Return the address of a group, and the interface that was named; empty: none was.

    Args:
        group: ``ADDR`` or ``ADDR%INTERFACE``; any address, multicast or not.

    Raises:
        UsageError: It is no address, or two interfaces are named.
    """
    text, _, zone = group.partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"group {group}: not an IPv4 or IPv6 address") from None
    if zone and interface and zone != interface:
        raise UsageError(f"group {group}: names another interface than {interface}")
    return address, interface or zone


def is_source_specific(group: str | Address) -> bool:
    """Whether a group is in ff3x::/32 or 232.0.0.0/8 (RFC 4607 section 1)."""
    if isinstance(group, str):
        group = ipaddress.ip_address(group)
    if isinstance(group, ipaddress.IPv4Address):
        return group in IPV4_SOURCE_SPECIFIC
    first, flags_and_scope, *prefix = group.packed[:4]
    return first == 0xFF and flags_and_scope >> 4 == SOURCE_SPECIFIC_FLAGS and not any(prefix)


def is_for_routers(group: str) -> bool:
    """Whether a group is source-specific, and not for one link."""
    address = ipaddress.ip_address(group)
    is_on_link = address.version == 6 and address.packed[1] & 15 <= LINK_SCOPE
    return is_source_specific(address) and not is_on_link


def check_group(group: Address, *, is_loopback: bool) -> None:
    """Refuse a group that nobody should send to or hear.

    Args:
        is_loopback: Whether it is for the loopback interface.

    Raises:
        UsageError: It stays on this machine (spec: NET-10), or its identifier is not one for hosts
            to choose (spec: NET-15).
    """
    if not isinstance(group, ipaddress.IPv6Address):
        return
    flags, scope = divmod(group.packed[1], 16)
    if scope <= WIDEST_NODE_SCOPE and not is_loopback:
        # A group with the transient flag: the others are assigned by IANA.
        on_link, in_site = (
            ipaddress.IPv6Address(bytes((0xFF, (flags | 1) << 4 | wider)) + group.packed[2:])
            for wider in (LINK_SCOPE, SITE_SCOPE)
        )
        raise UsageError(
            f"group {group}: its scope is {scope}, and its packets never leave this machine; "
            f"use {on_link} for this link or {in_site} for the site"
        )
    if is_source_specific(group) and int(group) & 0xFFFF_FFFF < LEAST_ID:
        first = ipaddress.IPv6Address(int(group) | LEAST_ID)
        raise UsageError(
            f"group {group}: source-specific groups end in 8000:0000 to ffff:ffff (RFC 4607), such "
            f"as {first}"
        )


def check_sources(group: str, sources: Collection[str]) -> None:
    """Refuse to hear whoever sends to a group that is source-specific (spec: NET-14).

    Raises:
        UsageError: No source is named.
    """
    if not sources and is_source_specific(group):
        raise UsageError(f"group {group}: is source-specific: name the sender", cause="sources")
