"""From a captured frame to its UDP datagram: link layers, IPv4, IPv6, lengths and checksums."""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pgmlite.capture import tunnels
from pgmlite.capture.datagrams import stride_of
from pgmlite.capture.tunnels import BY_VERSION, IPV4, IPV6, Skipped, Walk
from pgmlite.wire.batch import CONGESTION_EXPERIENCED, Octets
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import MAGIC, VERSION

LINK_TYPES = {
    0: "null",
    1: "Ethernet",
    12: "raw IP",
    14: "raw IP",
    101: "raw IP",
    108: "loop",
    113: "Linux cooked (SLL)",
    228: "raw IPv4",
    229: "raw IPv6",
    276: "Linux cooked (SLL2)",
}
"""Link types that are read, by their numbers in captures (tcpdump.org/linktypes.html)."""

HEAD = 512
"""Bytes of a frame in which all its headers have to be."""

MAX_LAYERS = 16
"""Headers before UDP, at most: a stranger's frame may wrap itself for ever."""

SLL_LLC = 4
"""Protocol of cooked frames in which LLC follows."""

UDP = 17
FRAGMENT = 44
EXTENSIONS = frozenset({0, 43, 60})
"""IPv6 headers that may stand before UDP: hop-by-hop options, routing, destination options."""

IP_IN_IP = {4: IPV4, 41: IPV6}

OURS = MAGIC.to_bytes(2, "big") + bytes([VERSION])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame has its UDP datagram.

    Attributes:
        udp: Byte of the frame at which the UDP header starts.
        width: Bytes behind the UDP header.
        varying: Bytes of the headers that differ from packet to packet of one flow.
        pseudo: Sum of the words of the pseudo header, folded to 16 bits.
        is_ipv4: UDP may go without a checksum.
        is_congested: A router marked the packet, or the tunnel that it is in (RFC 6040).
    """

    udp: int
    width: int
    source: Endpoint
    destination: Endpoint
    varying: tuple[int, ...]
    pseudo: int
    is_ipv4: bool
    is_congested: bool


@dataclass(frozen=True, slots=True)
class _Ip:
    """An IP header."""

    protocol: int
    end: int
    """Byte of the frame at which the packet says that it ends."""

    addresses: bytes
    is_v4: bool


def _start(frame: bytes, link: int) -> Walk:
    """Return where the first header behind the link's own is, and what it is.

    Raises:
        Skipped: The frame ends before it.
    """
    walk = Walk(frame, 0, BY_VERSION)
    if link == 1:
        walk.kind = tunnels.ETHERNET
    elif link in (113, 276):
        walk.kind = walk.word(14 if link == 113 else 0)
        walk.at = 16 if link == 113 else 20
        if walk.kind == SLL_LLC:
            walk.kind = tunnels.LLC
        elif walk.kind in tunnels.TAGS:
            walk.step(4, walk.word(2))
    elif link in (0, 108):
        walk.at = 4  # the family's number differs between systems: the IP version tells
    return walk


@lru_cache(maxsize=1_024)
def _address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _folded(packed: bytes) -> int:
    """Return the one's complement sum of 16-bit words, folded."""
    return _fold(sum(int.from_bytes(packed[at : at + 2], "big") for at in range(0, len(packed), 2)))


def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _ip(walk: Walk, *, is_cut: bool) -> _Ip:
    """Step over an IP header.

    Args:
        is_cut: The capture has only the start of the frame.

    Raises:
        Skipped: It is none, or the packet is only a part of one.
    """
    frame, ip = walk.frame, walk.at
    if ip >= len(frame):
        raise Skipped("cut" if is_cut else "malformed")
    version = frame[ip] >> 4
    if version == 4:
        header = (frame[ip] & 0xF) * 4
        if header < 20:
            raise Skipped("malformed")
        if walk.word(6) & 0x3FFF:  # more fragments, or not the first one
            raise Skipped("fragment")
        if ip + 20 > len(frame):
            raise Skipped("cut")
        end = ip + walk.word(2)
        walk.vary(4, 6)
        walk.vary(10, 12)
        walk.is_congested |= walk.word(0) & 3 == CONGESTION_EXPERIENCED
        walk.step(header, 0)
        return _Ip(frame[ip + 9], end, frame[ip + 12 : ip + 20], is_v4=True)
    if version != 6:
        raise Skipped("not_ip")
    if ip + 40 > len(frame):
        raise Skipped("cut")
    protocol, end = frame[ip + 6], ip + 40 + walk.word(4)
    walk.is_congested |= walk.word(0) >> 4 & 3 == CONGESTION_EXPERIENCED
    walk.step(40, 0)
    while protocol in EXTENSIONS:
        protocol, size = walk.word(0) >> 8, (walk.word(0) & 0xFF) * 8 + 8
        walk.step(size, 0)
    if protocol == FRAGMENT:
        raise Skipped("fragment")
    return _Ip(protocol, end, frame[ip + 8 : ip + 40], is_v4=False)


def find_udp(frame: bytes, link: int, kept: int, length: int) -> Place:
    """Return where the UDP datagram of a frame is, out of whatever tunnels.

    Args:
        frame: The start of the frame, `HEAD` bytes if it has as many.
        link: Link type, one of `LINK_TYPES`.
        kept: Bytes of the frame that the capture has.
        length: Bytes that the frame had.

    Raises:
        Skipped: It has none, or only a part of one.
    """
    walk = _start(frame, link)
    for _ in range(MAX_LAYERS):
        if step := tunnels.LAYERS.get(walk.kind):
            step(walk)
        elif walk.kind in (IPV4, IPV6, BY_VERSION):
            ip = _ip(walk, is_cut=kept < length)
            if ip.protocol != UDP:
                _unwrap(walk, ip.protocol)
            elif place := _udp(walk, ip, kept, length):
                return place
        elif 0 <= walk.kind <= tunnels.LARGEST_LENGTH:
            walk.kind = tunnels.LLC
        else:
            raise _unread(walk, walk.kind, "not_ip")
    raise Skipped("nested")


def _unread(walk: Walk, number: int, other: str) -> Skipped:
    """Return why a header is not read: what it is or, in tunnels, what `other` was in which."""
    where = f"_in_{walk.inside}" if walk.inside else ""
    return Skipped(tunnels.UNREAD.get(number, other + where))


def _unwrap(walk: Walk, protocol: int) -> None:
    """Step into a tunnel that IP carries.

    Raises:
        Skipped: It carries something else.
    """
    if protocol in IP_IN_IP:
        walk.inside = "ip"
        walk.kind = IP_IN_IP[protocol]
    elif protocol == tunnels.GRE:
        tunnels.gre(walk)
    elif protocol == tunnels.ETHERNET_IN_IP:
        walk.inside = "etherip"
        walk.step(2, tunnels.ETHERNET)
    elif protocol == tunnels.MPLS_IN_IP:
        walk.kind = tunnels.MPLS
    else:
        raise _unread(walk, protocol, "not_udp")


def _udp(walk: Walk, ip: _Ip, kept: int, length: int) -> Place | None:
    """Return the UDP datagram that begins here; None if it carries a tunnel, which is open then.

    Raises:
        Skipped: It is not whole, or its tunnel is not understood.
    """
    frame, udp = walk.frame, walk.at
    if udp + 8 > len(frame):
        raise Skipped("cut")
    source, destination, size = walk.word(0), walk.word(2), walk.word(4)
    if size < 8 or udp + size > ip.end:
        raise Skipped("malformed")
    is_ours = frame[udp + 8 : udp + 8 + len(OURS)] == OURS
    if not is_ours and destination in tunnels.PORTS:
        walk.vary(6, 8)
        walk.step(8, 0)
        tunnels.from_udp(walk, destination)
        return None
    if udp + size > kept:
        raise Skipped("cut" if kept < length else "malformed")
    half = len(ip.addresses) // 2
    return Place(
        udp,
        size - 8,
        Endpoint(_address(ip.addresses[:half]), source),
        Endpoint(_address(ip.addresses[half:]), destination),
        (*walk.varying, udp + 6, udp + 7),
        _folded(ip.addresses + UDP.to_bytes(2, "big") + size.to_bytes(2, "big")),
        ip.is_v4,
        walk.is_congested,
    )


def checksums_hold(datagrams: Octets, place: Place) -> npt.NDArray[np.bool_]:
    """Return (n,) whether each of (n, 8 + width) datagrams may be what was sent.

    A checksum that a network card was to fill in holds the sum of the pseudo header only; captures
    on the machine that sends show it so. Where the system joined packets as a list, the length is
    that of all, and the checksum that of the first one.
    """
    count, length = datagrams.shape
    words = np.zeros((count, (length + 1) // 2 * 2), np.uint8)
    words[:, :length] = datagrams
    # The sum of swapped words is the swapped sum, and all ones stay all ones.
    native = words.view(np.uint16)
    pseudo = int.from_bytes(place.pseudo.to_bytes(2, "big"), sys.byteorder)
    total = native.sum(axis=1, dtype=np.uint64) + np.uint64(pseudo)
    for _ in range(3):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    stored = native[:, 3]
    holds: npt.NDArray[np.bool_] = (total == 0xFFFF) | (stored == pseudo)
    if place.is_ipv4:
        holds |= stored == 0
    for row in np.flatnonzero(~holds).tolist():
        holds[row] = _first_holds(datagrams[row], place)
    return holds


def _first_holds(datagram: Octets, place: Place) -> bool:
    """Whether several packets are in a datagram, and its checksum may be that of the first."""
    stride = stride_of(datagram[8:])
    if not stride:
        return False
    length = 8 + stride
    pseudo = _fold(place.pseudo + 0xFFFF - len(datagram) + length)
    if int.from_bytes(datagram[6:8].tobytes(), "big") == pseudo:
        return True
    first = datagram[:4].tobytes() + length.to_bytes(2, "big") + datagram[6:length].tobytes()
    return _fold(pseudo + _folded(first + bytes(length % 2))) == 0xFFFF
