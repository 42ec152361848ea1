"""Words of the command line to values."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from decimal import Decimal
from random import Random

from pgmlite.core.config import MAX_RATE, MIN_RATE, NakConfig
from pgmlite.core.human import human_rate
from pgmlite.core.machine import SECOND
from pgmlite.errors import UsageError
from pgmlite.net.address import Channel
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.control import is_link_local
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import (
    IPV6_UDP_HEADERS,
    MAX_PACKET,
    MIN_SYMBOL_SIZE,
    SYMBOL_ALIGNMENT,
)

SUFFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}

MAX_SECONDS = 1e9

ETHERNET_MTU = 1_500
IPV6_MINIMUM_MTU = 1_280
MIN_MTU = 576
MAX_MTU = MAX_PACKET + IPV6_UDP_HEADERS


def parse_rate(text: str) -> int | None:
    """Return ``10M``, ``2.5G``, ``64000`` in bit/s; None for ``max``.

    Raises:
        UsageError: It is none of these.
    """
    if text == "max":
        return None
    number, suffix = (text[:-1], text[-1]) if text[-1:] in set("kKMG") else (text, "")
    try:
        rate = Decimal(number) * SUFFIXES[suffix]
        if not MIN_RATE <= rate <= MAX_RATE:
            raise UsageError(
                f"rate {text}: must be {human_rate(MIN_RATE)} to {human_rate(MAX_RATE)}"
            )
    except ArithmeticError:
        raise UsageError(
            f"rate {text}: give bits a second such as 500k, 10M or 2.5G, or max"
        ) from None
    return int(rate)


def parse_share(option: str, text: str) -> float:
    """Return ``5%`` or ``0.05`` as a number from 0 to 1; `option` names it in the error.

    Raises:
        UsageError: It is neither.
    """
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{option} {text}: give a share such as 5% or 0.05")
    return share


def parse_endpoint(option: str, text: str, channel: Channel | None) -> Endpoint:
    """Return ``ADDR:PORT`` or ``[ADDR]:PORT``, the address as packets show it; it may be empty.

    Args:
        option: Names it in the error.
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
            f"{option} {text}: give an address and a port, such as [fd01::2]:28776"
        ) from None
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        raise UsageError(f"{option} {text}: not the address of one machine")
    if channel and (address.version == 6) != (":" in channel.group):
        raise UsageError(f"{option} {text}: the group is of the other kind of IP addresses")
    if zone and (channel is None or zone != channel.interface):
        raise UsageError(f"{option} {text}: the interface is that of the group; leave %{zone} out")
    return Endpoint(str(address), int(port))


def parse_repairer(text: str, channel: Channel | None) -> Endpoint:
    """Return ``ADDR:PORT`` or ``[ADDR]:PORT`` of a repairer; `channel` as of `parse_endpoint`.

    Raises:
        UsageError: It is neither, or no machine can have that address there.
    """
    endpoint = parse_endpoint("--repairer", text, channel)
    if not endpoint.address:
        raise UsageError(f"--repairer {text}: the address of the repairer is missing")
    return endpoint


def name_repairers(texts: Sequence[str], channel: Channel) -> tuple[Endpoint, ...]:
    """Return the endpoints that a manifest names (spec: MAN-6).

    Raises:
        UsageError: One of them can't be named, or they are more than receivers keep.
    """
    endpoints = tuple(dict.fromkeys(parse_repairer(text, channel) for text in texts))
    for address, _ in endpoints:
        if is_link_local(address):
            raise UsageError(
                f"--repairer {address}: a link-local address can't be named for others; "
                "tell the receivers, with their --repairer"
            )
    most = NakConfig().max_repairers
    if len(endpoints) > most:
        raise UsageError(f"{len(endpoints)} repairers: receivers keep {most}; name no more")
    return endpoints


def parse_start(text: str, size: int) -> int:
    """Return ``50%`` or a byte offset as an offset into `size` bytes.

    Raises:
        UsageError: It is neither, or outside the object.
    """
    if text.endswith("%"):
        share = parse_share("--start", text)
        return int(size * share) if share < 1 else 0
    try:
        offset = int(text)
    except ValueError:
        offset = -1
    if offset < 0 or (offset and offset >= size):
        raise UsageError(f"start {text}: give a share such as 50%, or a byte offset below {size}")
    return offset


def draw_start(size: int, symbol_size: int, rng: Random) -> int:
    """Return the offset of a random symbol of `size` bytes; 0 if there is none."""
    # A sender that is started again and again must not send the same beginning for ever.
    return rng.randrange(max(1, -(-size // symbol_size))) * symbol_size


def parse_oid(text: str) -> int:
    """Return 16 hexadecimal digits as an object identifier.

    Raises:
        UsageError: It is something else.
    """
    if not re.fullmatch("[0-9a-fA-F]{16}", text):
        raise UsageError(f"object {text}: give its 16 hexadecimal digits, as send prints them")
    return int(text, 16)


def check_seconds(option: str, seconds: float | None) -> int | None:
    """Return a time limit in ns; None stays None.

    Raises:
        UsageError: It is not a time that can pass.
    """
    if seconds is None:
        return None
    if not 0 < seconds <= MAX_SECONDS:
        raise UsageError(f"{option} {seconds:g}: must be more than 0 s, at most {MAX_SECONDS:g}")
    return int(seconds * SECOND)


def check_moment(option: str, seconds: float) -> int:
    """Return a time since a beginning in ns.

    Raises:
        UsageError: It lies before the beginning, or too far off.
    """
    if not 0 <= seconds <= MAX_SECONDS:
        raise UsageError(f"{option} {seconds:g}: must be 0 s to {MAX_SECONDS:g}")
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
