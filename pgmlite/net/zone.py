"""What a sender's records in DNS have to be, as lines of a zone (spec: DNS-1 to DNS-3)."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from random import Random

from pgmlite.errors import UsageError
from pgmlite.net.address import own_usable, usable_versions
from pgmlite.net.arguments import parse_source
from pgmlite.net.groups import LEAST_ID, check_group, check_port, is_source_specific, parse_group
from pgmlite.net.records import PREFIX, rate_text, txt_strings
from pgmlite.wire.endpoint import ip_version
from pgmlite.wire.layout import MOST_CHANNELS

TTL = 300
"""Seconds: as long as it takes until a new sender is heard, at most."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
MAX_NAME = 200
"""Characters: what stands before it has to fit as well."""

HOST_PLACEHOLDER = "sender"


def draw_group(version: int, rng: Random) -> str:
    """Return a source-specific group that most likely nobody else has (RFC 4607 section 4.3).

    Args:
        version: Of IP: 6 or 4.
    """
    if version == 4:
        # 232.0.0.0/24 is not for hosts to choose.
        return str(ipaddress.IPv4Address((232 << 24) + rng.randrange(1 << 8, 1 << 24)))
    first = int(ipaddress.IPv6Address("ff3e::"))
    return str(ipaddress.IPv6Address(first + rng.randrange(LEAST_ID, 1 << 32)))


def zone_lines(
    name: str,
    channels: Sequence[tuple[str | None, int]],
    *,
    port: int,
    interface: str | None,
    source: str | None,
    hops: int = 1,
    rng: Random,
) -> list[str]:
    """Return the lines to be put into a zone, so that `recv` finds this machine by a name.

    Args:
        name: Of the service.
        channels: (group, bit/s) of each; None: a group that is drawn.
        interface: None: the only one that can be meant.
        source: The address that packets will come from; None: those of the interface.
        hops: With which packets will be sent; goes into the last line, the command of the sender.

    Raises:
        UsageError: A name, a group or an address is none that DNS can have here.
        NetworkError: There is no such interface, or it has no address that can be used.
    """
    service = name.removesuffix(".")
    if len(service) > MAX_NAME or not NAME.fullmatch(service):
        raise UsageError(f"name {name}: give one such as fw.example.org, in ASCII")
    check_port(port)
    addresses = _addresses(interface, source)
    ladder = _ladder(channels, addresses, rng)
    version = ip_version(ladder[0][0])
    mine = [one for one in addresses if ip_version(one) == version]
    if not mine or any(ip_version(group) != version for group, _ in ladder):
        raise UsageError(f"name {name}: groups and addresses are not all of one kind of IP")
    host = _host(service)
    owner = f"{PREFIX}.{service}. {TTL} IN"
    strings = " ".join(f'"{one}"' for one in txt_strings(ladder))
    return [
        f"{owner} SRV 0 0 {port} {host}.",
        f"{owner} TXT {strings}",
        *(f"{host}. {TTL} IN {'AAAA' if version == 6 else 'A'} {one}" for one in mine),
        f"; pgmlite send FILE {_options(ladder)} -p {port} --source {mine[0]}"
        + (f" --hops {hops}" if hops > 1 else ""),
    ]


def _addresses(interface: str | None, source: str | None) -> list[str]:
    """Return the addresses that packets may come from.

    Raises:
        UsageError: `source` is not the address of one machine.
        NetworkError: There is no such interface, or it has no address that can be used.
    """
    if source:
        return [parse_source(source, None)]
    name, _ = usable_versions(interface)
    return own_usable(name)


def _ladder(
    channels: Sequence[tuple[str | None, int]], addresses: Sequence[str], rng: Random
) -> list[tuple[str, int]]:
    """Return the groups and rates of channels, the lowest rate first.

    Raises:
        UsageError: They are too many, or a group is none that DNS may name.
    """
    if len(channels) > MOST_CHANNELS:
        raise UsageError(f"{len(channels)} channels: at most {MOST_CHANNELS} are allowed")
    best = max(map(ip_version, addresses))
    by_rate = sorted(channels, key=lambda channel: channel[1])
    return [(_check(group) if group else draw_group(best, rng), rate) for group, rate in by_rate]


def _options(ladder: Sequence[tuple[str, int]]) -> str:
    """Return the options by which `send` sends as the records say."""
    if len(ladder) > 1:
        return " ".join(f"--channel {group},{rate_text(rate)}" for group, rate in ladder)
    ((group, rate),) = ladder
    return f"-g {group} -r {rate_text(rate)}"


def _check(group: str) -> str:
    """Return a group as DNS may name it.

    Raises:
        UsageError: It is not source-specific, or is not for hosts to choose.
    """
    address, _ = parse_group(group, None)
    if not is_source_specific(address):
        raise UsageError(
            f"group {group}: is not source-specific, and DNS names no others; "
            "without one, one is drawn"
        )
    check_group(address, is_loopback=False)
    return str(address)


def _host(service: str) -> str:
    """Return a name for this machine, in the zone of the service if it has none of its own."""
    own = socket.gethostname().removesuffix(".")
    if not NAME.fullmatch(own) or len(own) + len(service) > MAX_NAME:
        own = HOST_PLACEHOLDER
    return own if "." in own else f"{own}.{service}"
