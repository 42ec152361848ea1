"""Tunnels, tags and labels around frames, as mirror ports and access networks put them."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable

ENDS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
MACS = bytes.fromhex("020000000002 020000000003")


def over_ip(protocol: int, body: bytes, family: int = 4, number: int = 0) -> bytes:
    """Return an Ethernet frame with an IP packet from one router to another."""
    packed = b"".join(ipaddress.ip_address(end).packed for end in ENDS[family])
    if family == 6:
        head = struct.pack(">IHBB", 6 << 28, len(body), protocol, 64)
        return MACS + b"\x86\xdd" + head + packed + body
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), number, 0, 64, protocol, 0)
    return MACS + b"\x08\x00" + head + packed + body


def over_udp(port: int, body: bytes, family: int = 4, number: int = 0) -> bytes:
    udp = struct.pack(">4H", 50_000, port, 8 + len(body), 0)
    return over_ip(17, udp + body, family, number)


def typed(kind: int, body: bytes) -> bytes:
    return MACS + kind.to_bytes(2) + body


def vxlan(one: bytes, number: int) -> bytes:
    return over_udp(4_789, b"\x08\0\0\0\0\0\x2a\0" + one, 4, number)


def gre(flags: int, protocol: int, body: bytes, number: int, family: int = 4) -> bytes:
    """Return GRE with the fields that the flags say."""
    head = struct.pack(">HH", flags, protocol)
    head += struct.pack(">HH", number, 0) * bool(flags & 0x8000)
    head += struct.pack(">I", 77) * bool(flags & 0x2000)
    head += struct.pack(">I", number) * bool(flags & 0x1000)
    return over_ip(47, head + body, family, number)


def labels(*numbers: int) -> bytes:
    return b"".join(
        struct.pack(">I", label << 12 | (place == len(numbers) - 1) << 8 | 64)
        for place, label in enumerate(numbers)
    )


def ppp(one: bytes) -> bytes:
    protocol = 0x0057 if one[12:14] == b"\x86\xdd" else 0x0021
    return struct.pack(">BBHHH", 0x11, 0, 9, len(one) - 12, protocol) + one[14:]


def erspan3(one: bytes, number: int, *, optional: bool) -> bytes:
    head = struct.pack(">HHIHH", 0x2007, 1, number * 10_000, 0, optional)
    head += struct.pack(">II", 1 << 26, number) * optional
    return gre(0x1000, 0x22EB, head + one, number)


def ip_of(one: bytes) -> tuple[int, bytes]:
    """Return the protocol that stands for the IP packet of a frame, and the packet."""
    return (41 if one[12:14] == b"\x86\xdd" else 4), one[14:]


def type_of(one: bytes) -> int:
    return int.from_bytes(one[12:14])


def snap(one: bytes) -> bytes:
    body = b"\xaa\xaa\x03\0\0\0" + one[12:]
    return MACS + min(len(body), 1_500).to_bytes(2) + body


WRAPS: dict[str, Callable[[bytes, int], bytes]] = {
    "VXLAN": vxlan,
    "VXLAN at its old port": lambda one, n: over_udp(8_472, b"\x08" + bytes(7) + one, 4, n),
    "VXLAN over IPv6": lambda one, n: over_udp(4_789, b"\x08" + bytes(7) + one, 6),
    "GENEVE": lambda one, n: over_udp(6_081, b"\0\0\x65\x58\0\0\x2a\0" + one, 4, n),
    "GENEVE with options": lambda one, n: over_udp(
        6_081, b"\x02\0\x65\x58\0\0\x2a\0" + bytes(8) + one, 4, n
    ),
    "GENEVE without Ethernet": lambda one, n: over_udp(
        6_081, b"\0\0" + one[12:14] + bytes(4) + one[14:], 4, n
    ),
    "TZSP": lambda one, n: over_udp(37_008, b"\1\0\0\1\1" + one, 4, n),
    "TZSP with tags": lambda one, n: over_udp(
        37_008, b"\1\0\0\1\0\x29\4" + struct.pack(">I", n) + b"\1" + one, 4, n
    ),
    "GRE": lambda one, n: gre(0, type_of(one), one[14:], n),
    "GRE over IPv6": lambda one, n: gre(0, type_of(one), one[14:], n, 6),
    "GRE with everything": lambda one, n: gre(0xB000, type_of(one), one[14:], n),
    "GRE with Ethernet": lambda one, n: gre(0x2000, 0x6558, one, n),
    "ERSPAN I": lambda one, n: gre(0, 0x88BE, one, n),
    "ERSPAN II": lambda one, n: gre(0x1000, 0x88BE, b"\x10\x07\0\1\0\0\0\1" + one, n),
    "ERSPAN III": lambda one, n: erspan3(one, n, optional=False),
    "ERSPAN III with a time": lambda one, n: erspan3(one, n, optional=True),
    "IP in IPv4": lambda one, n: over_ip(*ip_of(one), 4, n),
    "IP in IPv6": lambda one, n: over_ip(*ip_of(one), 6, n),
    "EtherIP": lambda one, n: over_ip(97, b"\x30\0" + one, 4, n),
    "PPPoE": lambda one, n: typed(0x8864, ppp(one)),
    "PPPoE in a VLAN": lambda one, n: typed(0x8100, b"\0\7\x88\x64" + ppp(one)),
    "MPLS": lambda one, n: typed(0x8847, labels(17) + one[14:]),
    "MPLS with three labels": lambda one, n: typed(0x8847, labels(17, 3, 900_000) + one[14:]),
    "MPLS with Ethernet": lambda one, n: typed(0x8847, labels(17) + one),
    "MPLS with a control word": lambda one, n: typed(
        0x8848, labels(17) + struct.pack(">HH", 0, n) + one
    ),
    "MPLS in IP": lambda one, n: over_ip(137, labels(17) + one[14:], 4, n),
    "SNAP": lambda one, n: snap(one),
    "802.1ad": lambda one, n: typed(0x88A8, b"\0\7\x81\0\0\x08" + one[12:]),
    "802.1ah": lambda one, n: typed(0x88E7, b"\0\0\0\x2a" + one),
    "VXLAN in GRE in MPLS in a VLAN": lambda one, n: typed(
        0x8100, b"\0\7\x88\x47" + labels(5) + gre(0, 0x0800, vxlan(one, n)[14:], n)[14:]
    ),
}
LINKED = {
    "SLL with LLC": (
        113,
        lambda one: struct.pack(">HHH8sH", 2, 1, 6, bytes(8), 4) + b"\xaa\xaa\3\0\0\0" + one[12:],
    ),
    "raw IP with GRE": (101, lambda one: gre(0, 0x6558, one, 0)[14:]),
}
