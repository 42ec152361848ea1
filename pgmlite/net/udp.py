"""What multicast sockets share: one interface, many packets a system call.

Socket options that Python does not name are Linux's numbers. UDP_SEGMENT and UDP_GRO are probed
when a socket opens; without them the same interface sends and reads packet by packet.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pgmlite.errors import NetworkError
from pgmlite.net.address import Channel
from pgmlite.wire.batch import CONGESTION_EXPERIENCED
from pgmlite.wire.endpoint import Endpoint

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_RXQ_OVFL = 32, 33, 40

ECN = frozenset({(socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)})
"""Where the system says how routers marked what it read: level and kind."""


def open_socket(channel: Channel) -> socket.socket:
    """Return a UDP socket of the channel's family.

    Raises:
        NetworkError: The system has none.
    """
    try:
        return socket.socket(channel.family, socket.SOCK_DGRAM)
    except OSError as error:
        raise NetworkError(f"{channel}: no socket: {error.strerror}") from error


def raise_buffer(sock: socket.socket, option: int, forced: int, size: int) -> int:
    """Ask for a buffer of `size` bytes, past the system's limit if allowed; return the grant."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, size)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, option, size)
    # Linux doubles what is asked for, to cover its own bookkeeping.
    return sock.getsockopt(socket.SOL_SOCKET, option) // 2


def pin(sock: socket.socket, channel: Channel) -> None:
    """Tie the socket to the channel's interface, joins and arrivals alike."""
    # IPv6 checks memberships by group alone: a group joined elsewhere on the host would be heard.
    # Kernels before 5.7 keep this from ordinary users, who are left with the join's own pinning.
    with contextlib.suppress(PermissionError):
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_BINDTODEVICE, channel.interface.encode() + b"\0"
        )


@dataclass(frozen=True, slots=True)
class Arrival:
    """One read: `length` bytes of packets `stride` bytes apart, from `source`.

    Attributes:
        is_congested: A router marked all of them; the system joins only packets marked alike.
    """

    length: int
    stride: int
    source: Endpoint
    is_congested: bool = False


def read(
    sock: socket.socket, pieces: Sequence[memoryview | bytearray]
) -> tuple[Arrival | None, int | None]:
    """Return what one read gave, and how many packets the system dropped so far if it said."""
    try:
        length, ancillary, _, address = sock.recvmsg_into(pieces, 128)
    except (BlockingIOError, InterruptedError):
        return None, None
    stride, drops, is_congested = length, None, False
    for level, kind, value in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            stride = int.from_bytes(value[:4], sys.byteorder)
        elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
            drops = int.from_bytes(value[:4], sys.byteorder)
        elif (level, kind) in ECN:
            # One byte with IPv4, an int with IPv6.
            ecn = int.from_bytes(value, sys.byteorder) & CONGESTION_EXPERIENCED
            is_congested = ecn == CONGESTION_EXPERIENCED
    return Arrival(length, stride, Endpoint(*address[:2]), is_congested), drops
