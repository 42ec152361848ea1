"""From a captured frame to its UDP datagram: link layers, IPv4, IPv6, lengths and checksums."""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pgmlite.wire.batch import Octets

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

IPV4 = 0x0800
IPV6 = 0x86DD
TAGS = frozenset({0x8100, 0x88A8, 0x9100})
"""Ethernet types of VLAN tags."""

UDP = 17
FRAGMENT = 44
EXTENSIONS = frozenset({0, 43, 60})
"""IPv6 headers that may stand before UDP: hop-by-hop options, routing, destination options."""


class Skipped(Exception):
    """A frame is of no use; the text is the reason, as it is counted."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame has its UDP datagram.

    Attributes:
        udp: Byte of the frame at which the UDP header starts.
        width: Bytes behind the UDP header.
        varying: Bytes of the headers that differ from packet to packet of one flow.
        pseudo: Sum of the words of the pseudo header, folded to 16 bits.
        is_ipv4: UDP may go without a checksum.
    """

    udp: int
    width: int
    source: tuple[str, int]
    destination: tuple[str, int]
    varying: tuple[int, ...]
    pseudo: int
    is_ipv4: bool


def _word(frame: bytes, at: int) -> int:
    """Return the 16 bits at byte `at`.

    Raises:
        Skipped: The frame ends before them.
    """
    if at + 2 > len(frame):
        raise Skipped("cut")
    return frame[at] << 8 | frame[at + 1]


def _network(frame: bytes, link: int) -> int:
    """Return where the IP header starts.

    Raises:
        Skipped: The frame carries something else.
    """
    if link in (1, 113, 276):
        at = {1: 12, 113: 14, 276: 0}[link]
        kind = _word(frame, at)
        after = 20 if link == 276 else at + 2
        while kind in TAGS and link != 276:
            kind = _word(frame, after + 2)
            after += 4
        if kind not in (IPV4, IPV6):
            raise Skipped("not_ip")
        return after
    if link in (0, 108):
        return 4  # the family's number differs between systems: the IP version tells
    if link in (12, 14, 101, 228, 229):
        return 0
    raise Skipped("link_type")


@lru_cache(maxsize=1_024)
def _address(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _folded(packed: bytes) -> int:
    """Return the one's complement sum of 16-bit words, folded."""
    total = sum(int.from_bytes(packed[at : at + 2], "big") for at in range(0, len(packed), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def find_udp(frame: bytes, link: int, kept: int, length: int) -> Place:
    """Return where the UDP datagram of a frame is.

    Args:
        frame: The start of the frame, 256 bytes if it has as many.
        link: Link type.
        kept: Bytes of the frame that the capture has.
        length: Bytes that the frame had.

    Raises:
        Skipped: It has none, or only a part of one.
    """
    ip = _network(frame, link)
    if ip >= len(frame):
        raise Skipped("cut" if kept < length else "malformed")
    version = frame[ip] >> 4
    if version == 4:
        header = (frame[ip] & 0xF) * 4
        if header < 20:
            raise Skipped("malformed")
        if _word(frame, ip + 6) & 0x3FFF:  # more fragments, or not the first one
            raise Skipped("fragment")
        if ip + 20 > len(frame):
            raise Skipped("cut")
        protocol, udp, end = frame[ip + 9], ip + header, ip + _word(frame, ip + 2)
        addresses = frame[ip + 12 : ip + 20]
        varying = [ip + 4, ip + 5, ip + 10, ip + 11]
    elif version == 6:
        if ip + 40 > len(frame):
            raise Skipped("cut")
        protocol, udp, end = frame[ip + 6], ip + 40, ip + 40 + _word(frame, ip + 4)
        addresses = frame[ip + 8 : ip + 40]
        varying = []
        while protocol in EXTENSIONS:
            protocol, step = _word(frame, udp) >> 8, (_word(frame, udp) & 0xFF) * 8 + 8
            udp += step
    else:
        raise Skipped("not_ip")
    if protocol == FRAGMENT and version == 6:
        raise Skipped("fragment")
    if protocol != UDP:
        raise Skipped("not_udp")
    if udp + 8 > len(frame):
        raise Skipped("cut")
    size = _word(frame, udp + 4)
    if size < 8 or udp + size > end:
        raise Skipped("malformed")
    if udp + size > kept:
        raise Skipped("cut" if kept < length else "malformed")
    half = len(addresses) // 2
    return Place(
        udp,
        size - 8,
        (_address(addresses[:half]), _word(frame, udp)),
        (_address(addresses[half:]), _word(frame, udp + 2)),
        (*varying, udp + 6, udp + 7),
        _folded(addresses + UDP.to_bytes(2, "big") + size.to_bytes(2, "big")),
        version == 4,
    )


def checksums_hold(datagrams: Octets, place: Place) -> npt.NDArray[np.bool_]:
    """Return (n,) whether each of (n, 8 + width) datagrams may be what was sent.

    A checksum that a network card was to fill in holds the sum of the pseudo header only; captures
    on the machine that sends show it so.
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
    return holds
