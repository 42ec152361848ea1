"""Packets of the link layer, whatever they say, and the filter that chooses among them."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.net.doctor.tap import ALL, Datagram, Query, parse, program
from pgmlite.wire.layout import MAGIC

PORT = 28_775
PAYLOAD = MAGIC.to_bytes(2, "big") + b"rest"


def udp(port: int, payload: bytes) -> bytes:
    return struct.pack(">HHHH", 40_000, port, 8 + len(payload), 0) + payload


def ipv6(kind: int, body: bytes, to: str = "ff15::1", source: str = "fe80::1") -> bytes:
    head = struct.pack(">IHBB", 6 << 28, len(body), kind, 1)
    addresses = (socket.inet_pton(socket.AF_INET6, one) for one in (source, to))
    return head + b"".join(addresses) + body


def ipv4(
    kind: int, body: bytes, to: str = "239.1.1.1", options: bytes = b"", fragment: int = 0
) -> bytes:
    first = 0x40 | (5 + len(options) // 4)
    length = 20 + len(options) + len(body)
    head = struct.pack(">BBHHHBBH", first, 0, length, 0, fragment, 1, kind, 0)
    return head + socket.inet_aton("10.0.0.1") + socket.inet_aton(to) + options + body


ALERT = b"\x3a\x00\x05\x02\x00\x00\x01\x00"
"""Hop-by-hop options with a router alert, before ICMPv6."""

MLD1 = bytes([130]) + bytes(23)
IGMP1, IGMP2, IGMP3 = b"\x11" + bytes(7), b"\x11\x64" + bytes(6), b"\x11\x64" + bytes(10)


@pytest.mark.parametrize(
    ("packet", "found"),
    [
        (ipv6(17, udp(PORT, PAYLOAD)), Datagram("ff15::1", PORT, "fe80::1", PAYLOAD)),
        (ipv6(17, udp(PORT, PAYLOAD) + b"padding"), Datagram("ff15::1", PORT, "fe80::1", PAYLOAD)),
        (ipv6(17, udp(PORT, PAYLOAD), to="fd01::1"), None),
        (ipv4(17, udp(9, PAYLOAD)), Datagram("239.1.1.1", 9, "10.0.0.1", PAYLOAD)),
        (ipv4(17, udp(9, b""), options=bytes(8)), Datagram("239.1.1.1", 9, "10.0.0.1", b"")),
        (ipv4(17, udp(9, PAYLOAD), to="10.0.0.9"), None),
        (ipv4(17, udp(9, PAYLOAD), fragment=5), None),
        (ipv4(6, bytes(40)), None),
        (ipv6(0, ALERT + MLD1), Query("mld", 1, "fe80::1")),
        (ipv6(0, ALERT + MLD1 + bytes(4)), Query("mld", 2, "fe80::1")),
        (ipv6(0, ALERT + bytes([131]) + bytes(23)), None),
        (ipv6(0, b"\x3a\xff" + MLD1), None),
        (ipv6(0, b"\x11\x00" + bytes(6) + MLD1), None),
        (ipv4(2, IGMP1, options=bytes(4)), Query("igmp", 1, "10.0.0.1")),
        (ipv4(2, IGMP2), Query("igmp", 2, "10.0.0.1")),
        (ipv4(2, IGMP3), Query("igmp", 3, "10.0.0.1")),
        (ipv4(2, IGMP2) + bytes(18), Query("igmp", 2, "10.0.0.1")),
        (ipv4(2, b"\x16" + bytes(7)), None),
        (b"", None),
        (b"\x50" + bytes(60), None),
        (ipv6(17, b"")[:47], None),
        (b"\x41" + bytes(60), None),
    ],
)
def test_what_a_packet_is(packet: bytes, found: Query | Datagram | None) -> None:
    assert parse(packet) == found


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x60", b"\x45", b"\x46", b"\x4f"]))
def test_any_bytes_are_read(octets: bytes, head: bytes) -> None:
    said = parse(head + octets)
    assert said is None or said.source


def passes(packet: bytes) -> bool:
    """Run the filter as the kernel does (bpf(4)): what lies behind the packet ends it."""
    accumulator = index = at = 0
    lines = program(PORT)

    def load(place: int, size: int) -> int | None:
        piece = packet[place : place + size]
        return int.from_bytes(piece, "big") if len(piece) == size else None

    while True:
        code, if_true, if_false, operand = lines[at]
        at += 1
        if code == 0x06:
            return operand == ALL
        if code == 0x15:
            at += if_true if accumulator == operand else if_false
        elif code == 0x54:
            accumulator &= operand
        elif code == 0xB1:
            first = load(operand, 1)
            index = 4 * ((first or 0) & 15)
        else:
            place, size = {0x30: (0, 1), 0x28: (0, 2), 0x48: (index, 2)}[code]
            value = load(place + operand, size)
            if value is None:
                return False
            accumulator = value


OTHER = b"xx" + bytes(8)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (ipv6(17, udp(PORT, OTHER)), True),
        (ipv6(17, udp(5, PAYLOAD)), True),
        (ipv6(17, udp(5, OTHER)), False),
        (ipv6(0, ALERT + MLD1), True),
        (ipv6(58, MLD1), False),
        (ipv4(17, udp(PORT, OTHER)), True),
        (ipv4(17, udp(PORT, OTHER), options=bytes(8)), True),
        (ipv4(17, udp(5, PAYLOAD), options=bytes(8)), True),
        (ipv4(17, udp(5, OTHER)), False),
        (ipv4(2, IGMP2), True),
        (ipv4(6, bytes(40)), False),
        (b"\x00" * 60, False),
        (b"", False),
        (ipv6(17, udp(5, b"")), False),
    ],
)
def test_what_the_filter_passes(packet: bytes, expected: bool) -> None:
    assert passes(packet) is expected
