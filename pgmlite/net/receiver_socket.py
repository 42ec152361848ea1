"""The socket of a receiver: one group on one interface, from all sources or from some."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Sequence

import psutil

from pgmlite.errors import NetworkError
from pgmlite.net.address import Channel, resolve
from pgmlite.net.drops import DropCount
from pgmlite.net.udp import (
    SO_RCVBUFFORCE,
    SO_RXQ_OVFL,
    SOL_UDP,
    UDP_GRO,
    Arrival,
    open_socket,
    pin,
    raise_buffer,
    read,
)
from pgmlite.wire.buffers import ReceiveBuffer
from pgmlite.wire.endpoint import ip_version

IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29

MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP = 42, 45
MCAST_JOIN_SOURCE_GROUP, MCAST_LEAVE_SOURCE_GROUP = 46, 47
"""Options of RFC 3678 section 5.1, the same for both families."""

SOURCE_LIMITS = {
    socket.AF_INET6: "net.ipv6.mld_max_msf",
    socket.AF_INET: "net.ipv4.igmp_max_msf",
}
"""What says how many sources of a group a socket may have: 64 and 10 unless somebody changed it."""

MAX_RECEIVE_BUFFER = 256 << 20
"""Bytes: a receiver that is slower than the sender for a moment catches up instead of losing.

It is a limit, not a reservation: the kernel fills it only as far as the receiver lags.
"""

RECEIVE_BUFFER_SHARE = 64
"""A receive buffer asks for at most this fraction of the machine's memory: one part in 64."""


def _storage(address: str) -> bytes:
    """Return an address as a `struct sockaddr_storage`."""
    if ip_version(address) == 6:
        packed = socket.inet_pton(socket.AF_INET6, address)
        sockaddr = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, packed, 0)
    else:
        sockaddr = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(address))
    return sockaddr.ljust(128, b"\0")


def group_request(channel: Channel, source: str) -> bytes:
    """Return a membership as a `struct group_req`, or `group_source_req` with a source."""
    request = struct.pack("@I4x", channel.index) + _storage(channel.group)
    return request + _storage(source) if source else request


class ReceiverSocket:
    """Receives one group on one interface.

    Attributes:
        sources: Whose packets it asks for; an empty one: whoever sends.
        granted: Receive buffer in bytes that the system allows.
        wanted: What was asked for.
    """

    READS_AT_ONCE = 8
    """Of a stand-alone repairer, before a look at the time: fewer would be small batches."""

    def __init__(self, channel: Channel, sources: Iterable[str] = ()) -> None:
        """
        Args:
            sources: Addresses; none: whoever sends.

        Raises:
            NetworkError: The port is taken, or the system refuses the group or a source.
        """
        self.channel = channel
        self.sources: frozenset[str] = frozenset(sources) or frozenset({""})
        self.granted = self.wanted = 0
        self._drops = DropCount()
        self._sock = self._open(channel)

    def _open(self, channel: Channel) -> socket.socket:
        sock = open_socket(channel)
        try:
            # Several receivers of one group may run on one machine.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            pin(sock, channel)
            sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
            memory = psutil.virtual_memory().total
            self.wanted = min(MAX_RECEIVE_BUFFER, memory // RECEIVE_BUFFER_SHARE)
            self.granted = raise_buffer(sock, socket.SO_RCVBUF, SO_RCVBUFFORCE, self.wanted)
            with contextlib.suppress(OSError):
                sock.setsockopt(SOL_UDP, UDP_GRO, 1)
            sock.bind(channel.address)
            level, ipv6 = _level(channel), channel.family == socket.AF_INET6
            with contextlib.suppress(OSError):
                sock.setsockopt(level, socket.IPV6_RECVTCLASS if ipv6 else socket.IP_RECVTOS, 1)
            # The system then gives it what its own memberships ask for, and nothing else.
            sock.setsockopt(level, IPV6_MULTICAST_ALL if ipv6 else IP_MULTICAST_ALL, 0)
            sock.setblocking(False)
            for number, source in enumerate(sorted(self.sources)):
                self._join(sock, channel, source, number)
        except NetworkError:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            reason = error.strerror or os.strerror(error.errno or 0)
            if error.errno == errno.EADDRINUSE:
                reason = "the port is taken by another program"
            raise NetworkError(f"can't receive {channel}: {reason}") from error
        return sock

    @staticmethod
    def _join(sock: socket.socket, channel: Channel, source: str, joined: int) -> None:
        """Ask for a source, or with an empty one for all, beside `joined` others.

        Raises:
            NetworkError: The system refuses it.
        """
        option = MCAST_JOIN_SOURCE_GROUP if source else MCAST_JOIN_GROUP
        if source and ip_version(source) != ip_version(channel.group):
            raise NetworkError(f"can't receive {channel} from {source}: another kind of address")
        try:
            sock.setsockopt(_level(channel), option, group_request(channel, source))
        except OSError as error:
            # spec: NET-17: it is a member already: what the system forgot and what it kept when an
            # interface came back, nobody can tell.
            if source and error.errno == errno.EADDRNOTAVAIL:
                return
            whence = f" from {source}" if source else ""
            reason = error.strerror or os.strerror(error.errno or 0)
            if source and joined and error.errno == errno.ENOBUFS:
                reason = (
                    f"the system takes no more than {joined} sources of a group; as root: "
                    f"sysctl -w {SOURCE_LIMITS[channel.family]}={2 * joined}"
                )
            raise NetworkError(f"can't receive {channel}{whence}: {reason}") from error

    def join(self, source: str) -> None:
        """Hear a source as well (spec: NET-13).

        Raises:
            NetworkError: The system refuses it.
        """
        if source not in self.sources:
            self._join(self._sock, self.channel, source, len(self.sources))
            self.sources |= {source}

    def leave(self, source: str) -> None:
        """Hear a source no longer; for the last one, close the socket instead."""
        self.sources -= {source}
        self._leave(source)

    def _leave(self, source: str) -> None:
        option = MCAST_LEAVE_SOURCE_GROUP if source else MCAST_LEAVE_GROUP
        with contextlib.suppress(OSError):  # the membership may have gone with its address
            self._sock.setsockopt(_level(self.channel), option, group_request(self.channel, source))

    def fileno(self) -> int:
        """File descriptor, for selectors."""
        return self._sock.fileno()

    def read_into(self, pieces: Sequence[memoryview | bytearray]) -> Arrival | None:
        """Read what one system call gives; None if nothing is there.

        Args:
            pieces: Filled in order; 64 KiB together, at least.

        Raises:
            OSError: As the system says.
        """
        arrival, drops = read(self._sock, pieces)
        if arrival and arrival.length:
            self._drops.take(drops, -(-arrival.length // arrival.stride))
        return arrival

    def rejoin(self) -> None:
        """Leave and join again, each source of its own: for an interface that came back, or a
        switch that forgot us.

        Raises:
            NetworkError: The interface has not come back.
        """
        channel = resolve(self.channel.group, self.channel.port, self.channel.interface)
        if channel.index == self.channel.index:
            # spec: NET-17
            for number, source in enumerate(sorted(self.sources)):
                self._leave(source)
                with contextlib.suppress(NetworkError):
                    self._join(self._sock, channel, source, number)
            return
        sock = self._open(channel)
        self._sock.close()
        self._sock, self.channel = sock, channel
        self._drops.restart()

    @property
    def kernel_drops(self) -> int:
        """Packets the system dropped because the buffer was full, as near as can be told."""
        return self._drops.packets

    def close(self) -> None:
        """Leave the group and close the socket."""
        self._sock.close()


def _level(channel: Channel) -> int:
    return socket.IPPROTO_IPV6 if channel.family == socket.AF_INET6 else socket.IPPROTO_IP


def read_all(group: ReceiverSocket, buffer: ReceiveBuffer, refused: Counter[str]) -> None:
    """Read what a socket has, up to a buffer; errors of the system count as its end.

    Args:
        refused: Datagrams without a byte are counted there.
    """
    for _ in range(buffer.ROWS):
        room = buffer.room()
        if room is None:
            return
        try:
            arrival = group.read_into(room)
        except OSError:
            return
        if arrival is None:
            return
        if arrival.length:
            buffer.add(arrival.length, arrival.stride, arrival.source)
        else:
            refused["short"] += 1
