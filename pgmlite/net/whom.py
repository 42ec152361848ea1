"""Whom a receiver hears: what a user named, as its machine and its loop need it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import SystemRandom

from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.sources import Sources
from pgmlite.errors import UsageError
from pgmlite.net.address import resolve, usable_versions
from pgmlite.net.arguments import name_sources, parse_repairer
from pgmlite.net.discovery import Discovery, check_name
from pgmlite.net.groups import check_sources
from pgmlite.wire.endpoint import Endpoint, ip_version


@dataclass(frozen=True, slots=True)
class Whom:
    """Whom a receiver hears.

    Attributes:
        interface: The one on which it does.
        repairers: Those that the user named.
    """

    listening: Listening
    interface: str
    repairers: frozenset[Endpoint]
    discovery: Discovery | None


def split_names(sources: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return what is meant as addresses, and what as names of hosts."""
    addresses: list[str] = []
    names: list[str] = []
    for text in sources:
        (addresses if re.fullmatch(r"[0-9.]*|.*[:%\[].*", text) else names).append(text)
    return addresses, names


def whom_of_group(
    group: str,
    port: int,
    interface: str | None,
    sources: Sequence[str],
    repairers: Sequence[str],
    rates: RatesConfig,
) -> Whom:
    """Return whom a receiver of one group hears.

    Args:
        sources: Addresses and names of hosts.
        repairers: ``ADDR:PORT`` of each.
        rates: How channels are chosen.

    Raises:
        UsageError: An argument does not fit this machine or the group.
        NetworkError: There is no such interface, or it can't carry the group.
    """
    channel = resolve(group, port, interface)
    known = frozenset(parse_repairer(text, channel) for text in repairers)
    addresses, names = split_names(sources)
    named = name_sources(addresses, channel)
    hosts = [check_name("source", name) for name in names]
    check_sources(channel.group, [*named, *hosts])
    whom = Sources(named, hosts=hosts)
    whom.add([address for address, _ in known])
    return Whom(
        Listening([Endpoint(channel.group, channel.port)], whom, rates, SystemRandom()),
        channel.interface,
        known,
        Discovery([ip_version(channel.group)]) if hosts else None,
    )


def whom_of_name(
    name: str,
    interface: str | None,
    sources: Sequence[str],
    repairers: Sequence[str],
    rates: RatesConfig,
) -> Whom:
    """Return whom a receiver hears that is given the name of a service (spec: DNS-1).

    Args:
        sources: Addresses and names of hosts, to be heard as well.
        repairers: ``ADDR:PORT`` of each.
        rates: How channels are chosen.

    Raises:
        UsageError: An argument does not fit this machine.
        NetworkError: There is no such interface, or it has no address that can be used.
    """
    service = check_name("name", name)
    known = frozenset(parse_repairer(text, None) for text in repairers)
    addresses, names = split_names(sources)
    named = name_sources(addresses, None)
    hosts = [check_name("source", one) for one in names]
    chosen, versions = usable_versions(interface)
    given = [*named, *(address for address, _ in known)]
    # Groups are of one kind of IP: that of the addresses which the user gave.
    fitting = [one for one in versions if all(ip_version(address) == one for address in given)]
    if not fitting:
        raise UsageError(
            f"name {name}: {chosen} can't use all of {', '.join(given)} for one group",
            cause="name",
        )
    whom = Sources(named, service=service, hosts=hosts)
    whom.add([address for address, _ in known])
    return Whom(Listening((), whom, rates, SystemRandom()), chosen, known, Discovery(fitting))
