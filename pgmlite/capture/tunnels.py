"""What may stand between a frame and the IP packet that matters: tags, labels, tunnels.

Each function steps over one header. Mirror ports, routers and access networks wrap what they hand
on, some of them several times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

IPV4 = 0x0800
IPV6 = 0x86DD
ETHERNET = 0x6558
"""Transparent Ethernet bridging: a whole frame follows."""

BY_VERSION = -1
"""An IP packet whose first bits say which."""

LLC = -2
"""A header of IEEE 802.2 follows, where Ethernet has a length in place of a type."""

TAGS = frozenset({0x8100, 0x88A8, 0x9100, 0x9200})
"""Ethernet types of VLAN tags."""

LARGEST_LENGTH = 1_500
"""What is no more than this in the place of an Ethernet type is a length (IEEE 802.3)."""

JUMBO_LLC = 0x8870

MPLS = 0x8847

GRE = 47
ETHERNET_IN_IP = 97
"""EtherIP (RFC 3378)."""

MPLS_IN_IP = 137

PORTS = {
    4_789: "vxlan",
    8_472: "vxlan",
    6_081: "geneve",
    37_008: "tzsp",
    1_701: "l2tp",
    2_152: "gtp",
    4_500: "ipsec",
    5_247: "capwap",
    51_820: "wireguard",
}
"""UDP ports of tunnels: what does not begin like a packet of ours is one there."""

UNREAD = {
    0x88E5: "macsec",
    50: "ipsec",
    51: "ipsec",
    115: "l2tp",
}
"""Ethernet types and IP protocols of what is not opened -> the name it is counted under."""


class Skipped(Exception):
    """A frame is of no use; the text is the reason, as it is counted."""


@dataclass(slots=True)
class Walk:
    """A frame, and how far into it we are.

    Attributes:
        frame: The start of the frame.
        at: Byte of the frame at which the next header begins.
        kind: What it is: an Ethernet type, or one of the names above.
        varying: Bytes of the headers so far that differ from packet to packet of one flow.
        inside: The tunnel that is open; empty: none.
        is_congested: A router marked the packet, or the tunnel that it is in.
    """

    frame: bytes
    at: int
    kind: int
    varying: list[int] = field(default_factory=list)
    inside: str = ""
    is_congested: bool = False

    def word(self, at: int) -> int:
        """Return the 16 bits that stand `at` bytes further on.

        Raises:
            Skipped: The frame ends before them.
        """
        at += self.at
        if at + 2 > len(self.frame):
            raise Skipped("cut")
        return self.frame[at] << 8 | self.frame[at + 1]

    def step(self, size: int, kind: int) -> None:
        """Step over a header of `size` bytes; behind it comes `kind`."""
        self.at += size
        self.kind = kind

    def vary(self, start: int, stop: int) -> None:
        """Say that bytes from `start` to `stop`, further on, differ from packet to packet."""
        self.varying += range(self.at + start, self.at + stop)


def _tag(walk: Walk) -> None:
    walk.step(4, walk.word(2))


def _ethernet(walk: Walk) -> None:
    walk.step(14, walk.word(12))


def _llc(walk: Walk) -> None:
    """LLC with SNAP: AA AA 03, three bytes that say whose type follows, the type."""
    if walk.word(0) != 0xAAAA or walk.word(2) >> 8 != 0x03:
        raise Skipped("llc")
    owner = (walk.word(2) & 0xFF) << 16 | walk.word(4)
    if owner not in (0x000000, 0x0000F8):
        raise Skipped("snap")
    walk.step(8, walk.word(6))


PPP = {0x0021: IPV4, 0x0057: IPV6, 0x0281: MPLS}


def _pppoe(walk: Walk) -> None:
    walk.inside = "pppoe"
    if walk.word(0) != 0x1100:  # version, type, code: a session's data
        raise Skipped("pppoe")
    protocol = walk.word(6)
    if protocol not in PPP:
        raise Skipped("pppoe")
    walk.step(8, PPP[protocol])


def _mpls(walk: Walk) -> None:
    """One label. Nothing says what is below the last one; its first bits do."""
    walk.inside = "mpls"
    is_last = walk.word(2) >> 8 & 1
    walk.step(4, walk.kind)
    if not is_last:
        return
    first = walk.word(0) >> 8
    if first >> 4 in (4, 6):
        walk.kind = BY_VERSION
    elif first:
        walk.kind = ETHERNET
    else:
        walk.vary(2, 4)  # the control word of a pseudowire counts
        walk.step(4, ETHERNET)


def _backbone(walk: Walk) -> None:
    """Provider backbone bridging (802.1ah): a tag, then the customer's whole frame."""
    walk.inside = "pbb"
    walk.step(4, ETHERNET)


LAYERS: dict[int, Callable[[Walk], None]] = {
    **dict.fromkeys(TAGS, _tag),
    ETHERNET: _ethernet,
    LLC: _llc,
    JUMBO_LLC: _llc,
    0x8864: _pppoe,
    MPLS: _mpls,
    0x8848: _mpls,
    0x88E7: _backbone,
}
"""Ethernet types that are stepped over, and how."""

ERSPAN = 0x88BE
ERSPAN_III = 0x22EB


def gre(walk: Walk) -> None:
    """Step over GRE (RFC 2784, 2890), and over ERSPAN in it."""
    walk.inside = "gre"
    flags, protocol = walk.word(0), walk.word(2)
    if flags & 0x4007:  # routing, or another version: PPTP
        raise Skipped("gre")
    size = 4
    for bit in (0x8000, 0x2000, 0x1000):  # checksum, key, sequence number
        if flags & bit:
            if bit != 0x2000:
                walk.vary(size, size + 4)
            size += 4
    walk.step(size, protocol)
    if protocol == ERSPAN:
        walk.inside = "erspan"
        # Type I has neither sequence numbers nor a header of its own.
        walk.step(8 if flags & 0x1000 else 0, ETHERNET)
    elif protocol == ERSPAN_III:
        walk.inside = "erspan"
        size = 20 if walk.word(10) & 1 else 12
        walk.vary(4, 8)  # its time stamp, whose upper half is in what is optional
        walk.vary(12, size)
        walk.step(size, ETHERNET)


def _vxlan(walk: Walk) -> None:
    if not walk.word(0) & 0x0800:  # it has a network identifier
        raise Skipped("vxlan")
    walk.step(8, ETHERNET)


def _geneve(walk: Walk) -> None:
    options = (walk.word(0) >> 8 & 0x3F) * 4
    if walk.word(0) >> 14:  # another version
        raise Skipped("geneve")
    walk.step(8 + options, walk.word(2))


def _tzsp(walk: Walk) -> None:
    if walk.word(0) >> 8 != 1 or walk.word(2) != 1:  # the version, and Ethernet inside
        raise Skipped("tzsp")
    walk.step(4, ETHERNET)
    while (tag := walk.word(0) >> 8) != 1:  # the last one
        size = 2 + (walk.word(0) & 0xFF) if tag else 1
        walk.vary(2, size)
        walk.step(size, ETHERNET)
    walk.step(1, ETHERNET)


OPENED: dict[str, Callable[[Walk], None]] = {"vxlan": _vxlan, "geneve": _geneve, "tzsp": _tzsp}


def from_udp(walk: Walk, port: int) -> None:
    """Step over the header of the tunnel that datagrams to `port`, one of `PORTS`, carry.

    Raises:
        Skipped: It can't be understood, or such tunnels are not opened.
    """
    name = PORTS[port]
    if name not in OPENED:
        raise Skipped(name)
    walk.inside = name
    OPENED[name](walk)
