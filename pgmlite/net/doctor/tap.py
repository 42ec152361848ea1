"""What comes to the interfaces, whatever becomes of it behind them: packets of the link layer.

Only root may look (CAP_NET_RAW). A filter in the kernel passes what `parse` has a use for: UDP to
our port or with our magic number, and queries of MLD and IGMP. While the tap is open, interfaces
let in all multicast, as they do for tcpdump; that ends with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pgmlite.wire.layout import MAGIC

ETH_P_ALL = 3
SO_ATTACH_FILTER, SOL_PACKET, PACKET_ADD_MEMBERSHIP = 26, 263, 1
PACKET_MR_ALLMULTI = 2
PACKET_OUTGOING = 4
"""Linux's numbers: packet(7), socket(7)."""

BUFFER = 2 << 20
"""Bytes; what comes sooner than it is read is the system's to drop."""

MOST_UNFILTERED = 10_000
"""Packets that fit in the system's buffer, and more."""

LARGEST = 65_536
"""Bytes of what one read gives: the system joins packets."""

HOP_BY_HOP, IGMP, UDP, ICMPV6 = 0, 2, 17, 58
MLD_QUERY, IGMP_QUERY = 130, 0x11

QUERY_SIZES = {"mld": 24, "igmp": 8}
"""Bytes of a query of a version that can't name sources; those that can are longer
(RFC 3810 section 8.1, RFC 3376 section 7.1)."""

RETURN, ALL = 0x06, 0x40000
LOAD_BYTE, LOAD_HALF, LOAD_HALF_BEHIND = 0x30, 0x28, 0x48
LOAD_LENGTH, AND, JUMP_IF_EQUAL = 0xB1, 0x54, 0x15
"""Instructions of classic BPF (linux/filter.h); offsets are from the IP header."""


@dataclass(frozen=True, slots=True, order=True)
class Query:
    """A query of MLD or IGMP: of which version, and who asks."""

    protocol: str
    version: int
    source: str


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram to a group."""

    group: str
    port: int
    source: str
    payload: bytes


def program(port: int) -> list[tuple[int, int, int, int]]:
    """Return the filter: (instruction, jump if true, jump if false, operand)."""
    return [
        (LOAD_BYTE, 0, 0, 0),
        (AND, 0, 0, 0xF0),
        (JUMP_IF_EQUAL, 0, 7, 0x60),  # else 10
        (LOAD_BYTE, 0, 0, 6),
        (JUMP_IF_EQUAL, 15, 0, HOP_BY_HOP),
        (JUMP_IF_EQUAL, 0, 13, UDP),
        (LOAD_HALF, 0, 0, 42),
        (JUMP_IF_EQUAL, 12, 0, port),
        (LOAD_HALF, 0, 0, 48),
        (JUMP_IF_EQUAL, 10, 9, MAGIC),
        (JUMP_IF_EQUAL, 0, 8, 0x40),
        (LOAD_BYTE, 0, 0, 9),
        (JUMP_IF_EQUAL, 7, 0, IGMP),
        (JUMP_IF_EQUAL, 0, 5, UDP),
        (LOAD_LENGTH, 0, 0, 0),
        (LOAD_HALF_BEHIND, 0, 0, 2),
        (JUMP_IF_EQUAL, 3, 0, port),
        (LOAD_HALF_BEHIND, 0, 0, 8),
        (JUMP_IF_EQUAL, 1, 0, MAGIC),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, ALL),
    ]


class Tap:
    """Reads what comes in by all interfaces."""

    def __init__(self, port: int, indices: Iterable[int]) -> None:
        """
        Args:
            indices: Of interfaces that shall let in all multicast.

        Raises:
            OSError: It is not allowed, or not there.
        """
        # A socket without a protocol hears nothing, and binding it would be to one interface.
        kind = socket.htons(ETH_P_ALL)
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, kind)
        try:
            self._attach(port)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            for index in indices:
                request = struct.pack("@iHH8s", index, PACKET_MR_ALLMULTI, 0, bytes(8))
                with contextlib.suppress(OSError):  # it is gone, or has no such mode
                    self._sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
            self._sock.setblocking(False)
            self._drain()
        except OSError:
            self._sock.close()
            raise

    def _attach(self, port: int) -> None:
        lines = program(port)
        code = b"".join(struct.pack("@HBBI", *line) for line in lines)
        buffer = ctypes.create_string_buffer(code, len(code))
        request = struct.pack("@HP", len(lines), ctypes.addressof(buffer))
        self._sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, request)

    def _drain(self) -> None:
        """Throw away what came before the filter was there."""
        for _ in range(MOST_UNFILTERED):
            try:
                self._sock.recv(1)
            except OSError:
                return

    def fileno(self) -> int:
        """File descriptor, for selectors."""
        return self._sock.fileno()

    def read(self, most: int) -> Iterator[tuple[str, Query | Datagram]]:
        """Yield interfaces and what came in by them, after `most` packets at the latest."""
        for _ in range(most):
            try:
                packet, (interface, _, kind, *_) = self._sock.recvfrom(LARGEST)
            except OSError as error:
                if error.errno in (errno.ENETDOWN, errno.ENOBUFS):  # an interface went away
                    continue
                return
            parsed = None if kind == PACKET_OUTGOING else parse(packet)
            if parsed:
                yield interface, parsed

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def why_no_tap(error: OSError) -> str:
    """Say why the wire can't be looked at."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return "only root may look at the wire"
    return f"the wire can't be looked at: {error.strerror or os.strerror(error.errno or 0)}"


def parse(packet: bytes) -> Query | Datagram | None:
    """Return what a packet is, its IP header first; None: nothing that we look for."""
    version = packet[0] >> 4 if packet else 0
    if version == 6:
        return _parse_ipv6(packet)
    return _parse_ipv4(packet) if version == 4 else None


def _parse_ipv6(packet: bytes) -> Query | Datagram | None:
    if len(packet) < 48:
        return None
    length = int.from_bytes(packet[4:6], "big")
    source = socket.inet_ntop(socket.AF_INET6, packet[8:24])
    if packet[6] == UDP:
        if packet[24] != 0xFF:
            return None
        group = socket.inet_ntop(socket.AF_INET6, packet[24:40])
        return _datagram(group, source, packet[40:])
    if packet[6] != HOP_BY_HOP or packet[40] != ICMPV6:
        return None
    # Queries have an option for routers in front (RFC 3810 section 5).
    options = (packet[41] + 1) * 8
    body = packet[40 + options : 40 + length]
    return _query("mld", MLD_QUERY, source, body)


def _parse_ipv4(packet: bytes) -> Query | Datagram | None:
    header = (packet[0] & 15) * 4
    if header < 20 or len(packet) < header + 8:
        return None
    length = int.from_bytes(packet[2:4], "big")
    is_rest = int.from_bytes(packet[6:8], "big") & 0x1FFF
    source = socket.inet_ntop(socket.AF_INET, packet[12:16])
    if is_rest:  # of a fragmented packet: no header is in it
        return None
    if packet[9] == UDP and packet[16] >> 4 == 0xE:
        group = socket.inet_ntop(socket.AF_INET, packet[16:20])
        return _datagram(group, source, packet[header:])
    if packet[9] == IGMP:
        return _query("igmp", IGMP_QUERY, source, packet[header:length])
    return None


def _datagram(group: str, source: str, udp: bytes) -> Datagram:
    length = int.from_bytes(udp[4:6], "big")
    return Datagram(group, int.from_bytes(udp[2:4], "big"), source, udp[8 : max(8, length)])


def _query(protocol: str, kind: int, source: str, body: bytes) -> Query | None:
    old = QUERY_SIZES[protocol]
    if len(body) < old or body[0] != kind:
        return None
    if protocol == "mld":
        return Query(protocol, 1 if len(body) == old else 2, source)
    if len(body) > old:
        return Query(protocol, 3, source)
    return Query(protocol, 2 if body[1] else 1, source)
