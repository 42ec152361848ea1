"""What is examined: a group, where it should come in, and from whom."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from pgmlite.errors import UsageError
from pgmlite.net.address import Channel
from pgmlite.net.discovery import check_name
from pgmlite.net.groups import Address, check_port, parse_group
from pgmlite.net.whom import split_names
from pgmlite.wire.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Place:
    """What is looked at: checked only as far as it has to be for that.

    Attributes:
        interface: The one that was named; empty: none was.
        sources: Senders, as they were named or as DNS has them.
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
        return str(Endpoint(str(self.group), self.port))

    def on(self, interface: str, index: int) -> Channel:
        """Return the channel of the group on an interface."""
        return Channel(str(self.group), self.port, interface, index)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user named.

    Attributes:
        group: None: DNS has it.
        interface: Empty: none was named.
        sources: Addresses of senders.
        hosts: Names of senders.
        service: The name that DNS has the group and the senders of; empty: none was given.
        oid: The only object that is wanted; None: any.
    """

    group: Address | None
    port: int = 0
    interface: str = ""
    sources: tuple[Address, ...] = ()
    hosts: tuple[str, ...] = ()
    service: str = ""
    oid: int | None = None


def asked_for_group(
    group: str,
    port: int,
    interface: str | None = None,
    sources: Sequence[str] = (),
    oid: int | None = None,
) -> Asked:
    """Return what arguments of a receiver of one group name.

    Args:
        group: ``ADDR`` or ``ADDR%INTERFACE``.
        sources: Addresses or names.

    Raises:
        UsageError: One of them is not what it should be, on any machine.
    """
    address, named = parse_group(group, interface)
    check_port(port)
    return Asked(address, port, named, *_senders(sources), oid=oid)


def asked_for_name(
    name: str, interface: str | None = None, sources: Sequence[str] = (), oid: int | None = None
) -> Asked:
    """Return what arguments of a receiver of a service in DNS name.

    Raises:
        UsageError: One of them is not what it should be, on any machine, or dnspython is missing.
    """
    service = check_name("name", name)
    return Asked(None, 0, interface or "", *_senders(sources), service=service, oid=oid)


def _senders(texts: Sequence[str]) -> tuple[tuple[Address, ...], tuple[str, ...]]:
    """Return the addresses and the names among sources."""
    addresses, names = split_names(texts)
    hosts = tuple(check_name("source", name) for name in names)
    return tuple(map(_source, addresses)), hosts


def _source(text: str) -> Address:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise UsageError(
            f"source {text}: give the address of a sender, such as fd01::1", cause="source"
        ) from None
