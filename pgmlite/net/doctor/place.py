"""What is examined: a group, where it should come in, and from whom."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from pgmlite.errors import UsageError
from pgmlite.net.address import Channel

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Place:
    """What a receiver would be told, checked only as far as it has to be to look at all.

    Attributes:
        interface: The one that was named; empty: none was.
        sources: Senders that were named.
        oid: The only object that is wanted; None: any.
    """

    group: Address
    port: int
    interface: str = ""
    sources: tuple[Address, ...] = ()
    oid: int | None = None

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET6 or AF_INET."""
        return socket.AF_INET6 if self.group.version == 6 else socket.AF_INET

    @property
    def ip(self) -> str:
        """``IPv6`` or ``IPv4``."""
        return f"IPv{self.group.version}"

    @property
    def where(self) -> str:
        """Group and port, for people."""
        group = f"[{self.group}]" if self.group.version == 6 else str(self.group)
        return f"{group}:{self.port}"

    def on(self, interface: str, index: int) -> Channel:
        """Return the channel of the group on an interface."""
        return Channel(str(self.group), self.port, interface, index)


def place_of(
    group: str, port: int, interface: str | None, sources: tuple[str, ...], oid: int | None
) -> Place:
    """Return the place that arguments of a receiver name.

    Args:
        group: ``ADDR`` or ``ADDR%INTERFACE``.

    Raises:
        UsageError: One of them is not what it should be, on any machine.
    """
    text, _, zone = group.partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"group {group}: not an IPv4 or IPv6 address") from None
    if not 1 <= port <= 65535:
        raise UsageError(f"port {port}: must be 1 to 65535")
    if zone and interface and zone != interface:
        raise UsageError(f"group {group}: names another interface than {interface}")
    return Place(address, port, interface or zone, tuple(map(_source, sources)), oid)


def _source(text: str) -> Address:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise UsageError(f"source {text}: not an IPv4 or IPv6 address", cause="source") from None
