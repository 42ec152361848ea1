"""What a caller says, checked: numbers, and what depends on the group, the link or the object."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from pgmlite.core.config import MAX_RATE, MIN_RATE, NakConfig, RepairConfig
from pgmlite.core.machine import SECOND
from pgmlite.core.ring import MOST_SECTORS
from pgmlite.errors import UsageError
from pgmlite.net.address import Channel
from pgmlite.storage.system import STDIN
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.endpoint import Endpoint, ip_version
from pgmlite.wire.geometry import MOST_REPAIRS
from pgmlite.wire.layout import (
    IPV6_UDP_HEADERS,
    MAX_PACKET,
    MIN_SYMBOL_SIZE,
    MOST_CHANNELS,
    SYMBOL_ALIGNMENT,
    Order,
)
from pgmlite.wire.manifest import is_link_local

DEFAULT_GROUP = "ff15::7067:6d"
DEFAULT_PORT = 28_775
DEFAULT_RATE = 10_000_000
DEFAULT_REPAIR_SHARE = RepairConfig().share

DEFAULT_FEC = 0.5
"""Repair symbols as a share of source symbols: enough up to a third of all packets lost. Several
channels take more: `Geometry.laddered`."""

LEAST_FEC = 0.01

ORDERS = {"rounds": Order.ROUNDS, "blocks": Order.BLOCKS}

Sector = tuple[int, int]
"""i and n of i/n."""

MAX_SECONDS = 1e9

ETHERNET_MTU = 1_500
IPV6_MINIMUM_MTU = 1_280
MIN_MTU = 576
MAX_MTU = MAX_PACKET + IPV6_UDP_HEADERS


def source_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of something to send; a file that is called ``-`` is not standard input."""
    found = Path(path)
    is_other = found == STDIN and os.fspath(path) != "-"
    return Path.cwd() / found if is_other else found


def parse_endpoint(name: str, text: str, channel: Channel | None) -> Endpoint:
    """Return ``ADDR:PORT`` or ``[ADDR]:PORT``, the address as packets show it; it may be empty.

    Args:
        name: Of the argument, for the error.
        channel: Whose address family it has to be of; None: either.

    Raises:
        UsageError: It is neither, or no machine can have that address there.
    """
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*)):([0-9]{1,5})", text)
    six, four, port = found.groups() if found else (None, None, "0")
    plain, _, zone = (six or four or "").partition("%")
    try:
        if not 1 <= int(port) <= 65_535:
            raise ValueError
        if not plain:
            return Endpoint("", int(port))
        address = ipaddress.ip_address(plain)
    except ValueError:
        raise UsageError(
            f"{name} {text}: give an address and a port, such as [fd01::2]:28776", cause=name
        ) from None
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    if why := _why_not(address, zone, channel):
        raise UsageError(f"{name} {text}: {why}", cause=name)
    return Endpoint(str(address), int(port))


def _why_not(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, zone: str, channel: Channel | None
) -> str:
    """Return why no machine can have an address there; empty: one can."""
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        return "not the address of one machine"
    if channel and address.version != ip_version(channel.group):
        return "the group is of the other kind of IP addresses"
    if zone and (channel is None or zone != channel.interface):
        return f"the interface is that of the group; leave %{zone} out"
    return ""


def parse_source(text: str, channel: Channel | None) -> str:
    """Return the address of a sender, as packets show it; `channel` as of `parse_endpoint`.

    Raises:
        UsageError: It is none, or no machine can have it there.
    """
    plain, _, zone = text.partition("%")
    try:
        address = ipaddress.ip_address(plain)
    except ValueError:
        raise UsageError(
            f"source {text}: give the address of a sender, such as fd01::1", cause="source"
        ) from None
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    if why := _why_not(address, zone, channel):
        raise UsageError(f"source {text}: {why}", cause="source")
    return str(address)


def name_sources(texts: Iterable[str], channel: Channel | None) -> tuple[str, ...]:
    """Return the addresses of the senders that a user names, each once (spec: NET-13).

    Args:
        channel: As of `parse_endpoint`.

    Raises:
        UsageError: One of them is no address of a sender.
    """
    return tuple(dict.fromkeys(parse_source(text, channel) for text in texts))


def parse_repairer(text: str, channel: Channel | None) -> Endpoint:
    """Return ``ADDR:PORT`` or ``[ADDR]:PORT`` of a repairer; `channel` as of `parse_endpoint`.

    Raises:
        UsageError: It is neither, or no machine can have that address there.
    """
    endpoint = parse_endpoint("repairer", text, channel)
    if not endpoint.address:
        raise UsageError(
            f"repairer {text}: the address of the repairer is missing", cause="repairer"
        )
    return endpoint


def name_repairers(texts: Iterable[str], channel: Channel | None) -> tuple[Endpoint, ...]:
    """Return the endpoints that a manifest names (spec: MAN-6); `channel` as of `parse_endpoint`.

    Raises:
        UsageError: One of them can't be named, or they are more than receivers keep.
    """
    endpoints = tuple(dict.fromkeys(parse_repairer(text, channel) for text in texts))
    for address, _ in endpoints:
        if is_link_local(address):
            raise UsageError(
                f"repairer {address}: a link-local address can't be named for others; "
                "tell the receivers themselves",
                cause="repairer",
            )
    most = NakConfig().max_repairers
    if len(endpoints) > most:
        raise UsageError(f"{len(endpoints)} repairers: receivers keep {most}; name no more")
    return endpoints


def parse_order(order: str, start: str | None) -> tuple[Order, Sector | None]:
    """Return the order of a carousel and the sector with which it begins; None: somewhere.

    Args:
        order: ``rounds`` or ``blocks``.
        start: ``0/2``, ``random`` or None.

    Raises:
        UsageError: They are none of these, or do not go together.
    """
    if order not in ORDERS:
        raise UsageError(f"order {order}: must be {' or '.join(ORDERS)}", cause="order")
    chosen = ORDERS[order]
    if start is None:
        return chosen, None
    if start == "random":
        if chosen is not Order.ROUNDS:
            raise UsageError(f"start random: goes with rounds, not with {order}", cause="start")
        return Order.RANDOM, None
    found = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", start)
    sector, sectors = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 <= sector < sectors <= MOST_SECTORS:
        raise UsageError(
            f"start {start}: give a share such as 0/2 or 1/2, of at most {MOST_SECTORS}, or random",
            cause="start",
        )
    return chosen, (sector, sectors)


def check_channels(
    channels: Iterable[tuple[str, int]], order: Order
) -> tuple[tuple[str, int | None], ...]:
    """Return the groups and rates of a sender's channels by number, the slowest first.

    Raises:
        UsageError: A sender can't have them all, or not in this order of the object.
    """
    named = sorted(channels, key=lambda one: one[1])
    if len(named) > MOST_CHANNELS:
        raise UsageError(
            f"channel: {len(named)} of them; an object has at most {MOST_CHANNELS}", cause="channel"
        )
    for group, rate in named:
        if not MIN_RATE <= rate <= MAX_RATE:
            raise UsageError(
                f"channel {group}: a rate of {rate} bit/s; must be {MIN_RATE} to {MAX_RATE}",
                cause="channel",
            )
    for (group, rate), (other, other_rate) in pairwise(named):
        if rate == other_rate:
            raise UsageError(
                f"channel {other}: as fast as {group}; each needs a rate of its own",
                cause="channel",
            )
    if len(named) > 1 and order is Order.BLOCKS:
        raise UsageError("order blocks: goes with one channel; leave it out", cause="order")
    return tuple(named)


def check_fec(fec: float | None) -> float | None:
    """Return a share of repair symbols; None stays None.

    Raises:
        UsageError: No block can have so many.
    """
    if fec is not None and not (fec == 0 or LEAST_FEC <= fec <= MOST_REPAIRS):
        raise UsageError(
            f"fec {fec:g}: must be {LEAST_FEC:g} to {MOST_REPAIRS}, or 0 for none", cause="fec"
        )
    return fec


def parse_hearing(channels: str | int) -> range | None:
    """Return ``auto`` as None, ``2`` or ``0-2`` as the numbers of channels to hear.

    Raises:
        UsageError: It is none of these, or no object has such a channel.
    """
    text = str(channels)
    if text == "auto":
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < MOST_CHANNELS:
        raise UsageError(
            f"channels {text}: give auto, a number, or two such as 0-2; they are 0 to "
            f"{MOST_CHANNELS - 1}",
            cause="channels",
        )
    return range(first, last + 1)


def check_beside_name(name: str | None, *, is_given: bool) -> None:
    """Refuse a group or a port beside the name of a service.

    Args:
        name: None: there is none.
        is_given: Whether there is a group or a port.

    Raises:
        UsageError: There are both.
    """
    if name is not None and is_given:
        raise UsageError(f"name {name}: has its groups and its port in DNS; give no others")


def check_beside_follow(paths: Iterable[str | os.PathLike[str]], cycles: int | None) -> None:
    """
    Args:
        paths: What is to be sent, and its content.

    Raises:
        UsageError: Nothing can take the place of what is sent, or it would have an end.
    """
    if any(os.fspath(path) == "-" for path in paths):
        raise UsageError(
            "follow: nothing takes the place of standard input; leave one out", cause="follow"
        )
    if cycles is not None:
        raise UsageError(
            "follow: what goes on has no number of cycles; leave one out", cause="follow"
        )


def check_beside_keys(keys: Sequence[object], *, stream: str | None, allow_rollback: bool) -> None:
    """Refuse what only signatures can say where there are no keys.

    Raises:
        UsageError: There are none, or the stream is empty.
    """
    if stream is not None and not stream:
        raise UsageError("stream: is empty; give its name", cause="stream")
    for argument, is_given in (("stream", stream), ("allow_rollback", allow_rollback)):
        if is_given and not keys:
            raise UsageError(
                f"{argument}: needs a key: without one nobody vouches for releases", cause=argument
            )


def check_pattern(object_name: str | None) -> str:
    """Return the pattern that names of objects match; empty: they need not.

    Raises:
        UsageError: It is empty, and was given.
    """
    if object_name is not None and not object_name:
        raise UsageError("name: is empty; give a pattern, such as 'router-*.bin'", cause="name")
    return object_name or ""


def check_rate_limit(limit: int | None) -> int | None:
    """Return bit/s; None: no limit.

    Raises:
        UsageError: No channel can have so little.
    """
    if limit is not None and limit < MIN_RATE:
        raise UsageError(f"rate_limit {limit}: must be at least {MIN_RATE}", cause="rate_limit")
    return limit


def parse_oid(text: str) -> int:
    """Return 16 hexadecimal digits as an object identifier.

    Raises:
        UsageError: It is something else.
    """
    if not re.fullmatch("[0-9a-fA-F]{16}", text):
        raise UsageError(f"object {text}: give its 16 hexadecimal digits, as send prints them")
    return int(text, 16)


def check_seconds(name: str, seconds: float | None) -> int | None:
    """Return a time limit in ns; None stays None.

    Raises:
        UsageError: It is not a time that can pass.
    """
    if seconds is None:
        return None
    if not 0 < seconds <= MAX_SECONDS:
        raise UsageError(
            f"{name} {seconds:g}: must be more than 0 s, at most {MAX_SECONDS:g}", cause=name
        )
    return int(seconds * SECOND)


def check_share(name: str, share: float) -> float:
    """Return a share.

    Raises:
        UsageError: It is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"{name} {share:g}: must be 0 to 1", cause=name)
    return share


def check_hops(hops: int) -> int:
    """Return a number of hops.

    Raises:
        UsageError: No packet can have it.
    """
    if not 1 <= hops <= 255:
        raise UsageError(f"hops {hops}: must be 1 to 255", cause="hops")
    return hops


def check_moment(name: str, seconds: float) -> int:
    """Return a time since a beginning in ns.

    Raises:
        UsageError: It lies before the beginning, or too far off.
    """
    if not 0 <= seconds <= MAX_SECONDS:
        raise UsageError(f"{name} {seconds:g}: must be 0 s to {MAX_SECONDS:g}", cause=name)
    return int(seconds * SECOND)


def choose_symbol_size(
    symbol_size: int | None, mtu: int | None, *, hops: int, interface_mtu: int
) -> int:
    """Return the symbol size in bytes (spec: OBJ-2).

    Packets that stay on one link may use its whole MTU; what lies behind a router is unknown, so
    that packets which go there fit the smallest IPv6 path (RFC 8085 section 3.2).

    Raises:
        UsageError: A size is out of its limits, or does not fit the interface.
    """
    if interface_mtu < MIN_MTU:
        raise UsageError(f"the interface's MTU of {interface_mtu} is below {MIN_MTU} bytes")
    if mtu is None:
        mtu = min(interface_mtu, ETHERNET_MTU if hops == 1 else IPV6_MINIMUM_MTU)
    elif not MIN_MTU <= mtu <= min(interface_mtu, MAX_MTU):
        limit = min(interface_mtu, MAX_MTU)
        raise UsageError(f"MTU {mtu}: must be {MIN_MTU} to {limit} bytes on this interface")
    room = mtu - IPV6_UDP_HEADERS - HEADER_SIZE
    if symbol_size is None:
        return room - room % SYMBOL_ALIGNMENT
    if symbol_size % SYMBOL_ALIGNMENT or not symbol_size >= MIN_SYMBOL_SIZE:
        raise UsageError(
            f"symbol size {symbol_size}: must be a multiple of {SYMBOL_ALIGNMENT}, "
            f"at least {MIN_SYMBOL_SIZE}"
        )
    needed = symbol_size + IPV6_UDP_HEADERS + HEADER_SIZE
    if needed > MAX_MTU or needed > interface_mtu:
        raise UsageError(
            f"symbol size {symbol_size}: needs an MTU of {needed}, "
            f"the interface has {interface_mtu}"
        )
    return symbol_size
