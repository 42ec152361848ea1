"""Multicast sockets: one interface, one group, many packets a system call.

Socket options that Python does not name are Linux's numbers. UDP_SEGMENT and UDP_GRO are probed
when a socket opens; without them the same interface sends and reads packet by packet.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from pgmlite.errors import NetworkError
from pgmlite.net.address import AddressState, Channel, own_addresses, plain, resolve
from pgmlite.net.drops import DropCount
from pgmlite.wire.batch import CONGESTION_EXPERIENCED
from pgmlite.wire.control import is_link_local
from pgmlite.wire.endpoint import Endpoint

IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
ECN = frozenset({(socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)})
"""Where the system says how routers marked what it read: level and kind."""

SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_RXQ_OVFL = 32, 33, 40

MAX_SEGMENTS = 64
"""Packets one UDP_SEGMENT call takes on every kernel that has it."""

MAX_RECEIVE_BUFFER = 256 << 20
"""Bytes: a receiver that is slower than the sender for a moment catches up instead of losing.

It is a limit, not a reservation: the kernel fills it only as far as the receiver lags.
"""

RECEIVE_BUFFER_SHARE = 64
"""A receive buffer asks for at most this fraction of the machine's memory: one part in 64."""

SEND_BUFFER = 4 << 20

LINK_ERRORS = frozenset(
    {
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENODEV,
        errno.ENXIO,
        errno.EADDRNOTAVAIL,
        errno.EINVAL,
    }
)
"""Errors of a send that hold for all packets and may pass: a link that is down, an address that is
not there yet or any more."""

REFUSALS = frozenset({errno.EPERM, errno.EMSGSIZE, errno.ENOBUFS, errno.EAGAIN})
"""Errors of a send that are of these packets: a filter, the MTU, a full queue."""

STRANGERS = frozenset({errno.ECONNREFUSED, errno.ENOPROTOOPT, errno.EPROTO, errno.EOPNOTSUPP})
"""Errors of a send that only an ICMP message brings: nobody answers for a group."""


def _raise_buffer(sock: socket.socket, option: int, forced: int, size: int) -> int:
    """Ask for a buffer of `size` bytes, past the system's limit if allowed; return the grant."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, size)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, option, size)
    # Linux doubles what is asked for, to cover its own bookkeeping.
    return sock.getsockopt(socket.SOL_SOCKET, option) // 2


def _pin(sock: socket.socket, channel: Channel) -> None:
    """Tie the socket to the channel's interface, joins and arrivals alike."""
    # IPv6 checks memberships by group alone: a group joined elsewhere on the host would be heard.
    # Kernels before 5.7 keep this from ordinary users, who are left with the join's own pinning.
    with contextlib.suppress(PermissionError):
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_BINDTODEVICE, channel.interface.encode() + b"\0"
        )


def _place(sock: socket.socket) -> Endpoint:
    """Return the address and the port that a socket sends from."""
    address, port, *_ = sock.getsockname()
    return Endpoint(plain(address), port)


def _is_taken(error: NetworkError) -> bool:
    """Whether a socket could not be opened because another one has its port."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


class SenderSocket:
    """Sends to one group through one interface; hears nothing.

    It is connected to the group, so that no packet can ever match it, and is never read.

    Attributes:
        channel: Where packets go.
        address: The address they come from.
        port: The UDP port they come from.
    """

    def __init__(self, channel: Channel, *, hops: int, source: str = "") -> None:
        """
        Args:
            hops: Hop limit (IPv6) or TTL (IPv4), 1 to 255.
            source: The address to send from, one of the interface's; empty: the system chooses.

        Raises:
            NetworkError: The system refuses the socket.
        """
        self._hops = hops
        self._source = source
        self._take(self._open(channel, source, 0), channel)
        self.has_segmentation = self._probe()

    def _take(self, sock: socket.socket, channel: Channel) -> None:
        self._sock, self.channel, self._segment = sock, channel, 0
        self.address, self.port = _place(sock)
        # On the loopback interface IPv4 packets come from an address of another one.
        self._is_foreign = self.address not in own_addresses(channel)

    def _open(self, channel: Channel, source: str, port: int) -> socket.socket:
        try:
            sock = socket.socket(channel.family, socket.SOCK_DGRAM)
        except OSError as error:
            raise NetworkError(f"{channel}: no socket: {error.strerror}") from error
        try:
            _pin(sock, channel)
            # spec: NET-3: never fragments, and no ICMP message lowers the MTU: it may be forged.
            if channel.family == socket.AF_INET6:
                level = socket.IPPROTO_IPV6
                sock.setsockopt(level, socket.IPV6_MULTICAST_IF, channel.index)
                sock.setsockopt(level, socket.IPV6_MULTICAST_HOPS, self._hops)
                sock.setsockopt(level, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
            else:
                level = socket.IPPROTO_IP
                request = struct.pack("@4s4si", bytes(4), bytes(4), channel.index)
                sock.setsockopt(level, socket.IP_MULTICAST_IF, request)
                sock.setsockopt(level, socket.IP_MULTICAST_TTL, self._hops)
                sock.setsockopt(level, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            _raise_buffer(sock, socket.SO_SNDBUF, SO_SNDBUFFORCE, SEND_BUFFER)
            if source:
                sock.bind(channel.at(source, port))
            sock.connect(channel.address)
        except OSError as error:
            sock.close()
            raise NetworkError(f"can't send to {channel}: {error.strerror}") from error
        return sock

    def _probe(self) -> bool:
        try:
            self._sock.setsockopt(SOL_UDP, UDP_SEGMENT, 1400)
            self._sock.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
        except OSError:
            return False
        return True

    def send(self, pieces: Sequence[bytes | memoryview], stride: int) -> None:
        """Send packets, given as header, payload, header, payload ...

        Args:
            stride: Bytes of a packet; the last may be shorter, a single one may have any length.

        Raises:
            OSError: As the system says; see `PASSING`.
        """
        if len(pieces) == 2:
            if self._segment and sum(map(len, pieces)) > self._segment:
                self._set_segment(0)  # a long SPM is one packet all the same
            self._sock.sendmsg(pieces)
            return
        if self.has_segmentation:
            if stride != self._segment:
                self._set_segment(stride)
            try:
                self._sock.sendmsg(pieces)
                return
            except OSError as error:
                # A device without checksum offload says EIO; some stacks say EINVAL.
                if error.errno not in (errno.EIO, errno.EINVAL):
                    raise
                self._set_segment(0)
                self._sock.sendmsg(pieces[:2])
                self.has_segmentation = False  # it was that, and nothing else
                pieces = pieces[2:]
        for at in range(0, len(pieces), 2):
            self._sock.sendmsg(pieces[at : at + 2])

    def _set_segment(self, stride: int) -> None:
        self._sock.setsockopt(SOL_UDP, UDP_SEGMENT, stride)
        self._segment = stride

    def why_not_here(self) -> str:
        """Say why packets must not come from `address` any more; empty: they may.

        The system sends from it all the same.
        """
        # spec: SND-12
        state = own_addresses(self.channel, anywhere=self._is_foreign).get(self.address)
        if state not in (AddressState.READY, AddressState.CHECKING):
            return f"{self.address} is not an address of {self.channel.interface} any more"
        if self._is_confined(self.channel):
            return f"{self.address} is good for one link only, and now there is a better address"
        return ""

    def _is_confined(self, channel: Channel) -> bool:
        """Whether packets are meant for other links, can't leave this one, and could elsewhere."""
        if self._source or self._hops == 1 or not is_link_local(self.address):
            return False
        with contextlib.suppress(NetworkError), self._open(channel, "", 0) as other:
            return not is_link_local(_place(other)[0])
        return False

    def reopen(self) -> None:
        """Start over if the interface came back as another one, or the address is no more.

        `address` and `port` stay the same where they can. Where they can't, what follows is
        another session.

        Raises:
            NetworkError: The interface, or an address to send from, is not there yet.
        """
        channel = resolve(self.channel.group, self.channel.port, self.channel.interface)
        addresses = own_addresses(channel, anywhere=self._is_foreign)
        stays = addresses.get(self.address) is AddressState.READY and not self._is_confined(channel)
        if stays and channel.index == self.channel.index:
            return
        if not stays and self._source:
            raise NetworkError(f"{self.address}: not an address of {channel.interface} now")
        if not stays and AddressState.CHECKING in addresses.values():
            # The best of them may be the last.
            raise NetworkError(f"interface {channel.interface}: its addresses are not ready yet")
        sock = self._open_at_same(channel) if stays else self._open(channel, "", 0)
        self._sock.close()
        self._take(sock, channel)

    def _open_at_same(self, channel: Channel) -> socket.socket:
        """Open a socket at `address`, and at `port` unless somebody took it meanwhile."""
        try:
            return self._open(channel, self.address, self.port)
        except NetworkError as error:
            if not _is_taken(error):
                raise
        self._sock.close()  # it may be our own old one
        try:
            return self._open(channel, self.address, self.port)
        except NetworkError as error:
            if not _is_taken(error):
                raise
            return self._open(channel, self.address, 0)

    def fileno(self) -> int:
        """File descriptor, for selectors."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


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


def _read(
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


class NakSocket:
    """Unicast beside a group: where a repairer listens, or a receiver sends its NAKs from.

    Attributes:
        channel: The group it stands beside.
        address: The address it is bound to; empty: any of the interface.
        port: The UDP port it is bound to.
    """

    BUFFER = 1 << 20
    """Bytes; a flood beyond it is the system's to drop."""

    READS_AT_ONCE = 1
    """Before a look at the time: each may be of many NAKs."""

    def __init__(self, channel: Channel, port: int, address: str = "") -> None:
        """
        Args:
            port: 0: any that is free.
            address: One of this machine's; empty: all of the channel's interface.

        Raises:
            NetworkError: The port is taken, or the address is not ours.
        """
        self.channel = channel
        self.address = address
        self._sock = self._open(channel, port)
        self.port: int = self._sock.getsockname()[1]

    def _open(self, channel: Channel, port: int) -> socket.socket:
        try:
            sock = socket.socket(channel.family, socket.SOCK_DGRAM)
        except OSError as error:
            raise NetworkError(f"{channel}: no socket: {error.strerror}") from error
        try:
            _pin(sock, channel)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.BUFFER)
            with contextlib.suppress(OSError):
                sock.setsockopt(SOL_UDP, UDP_GRO, 1)
            sock.bind(channel.at(self.address, port) if self.address else ("", port))
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            where = f"[{self.address}]:{port}" if ":" in self.address else f"{self.address}:{port}"
            raise NetworkError(
                f"can't listen for NAKs at {where} on {channel.interface}: {error.strerror}"
            ) from error
        return sock

    def rejoin(self) -> None:
        """Start over if the interface came back as another one.

        Raises:
            NetworkError: It has not come back.
        """
        channel = resolve(self.channel.group, self.channel.port, self.channel.interface)
        if channel.index != self.channel.index:
            sock = self._open(channel, self.port)
            self._sock.close()
            self._sock, self.channel = sock, channel

    def fileno(self) -> int:
        """File descriptor, for selectors."""
        return self._sock.fileno()

    def read_into(self, pieces: Sequence[memoryview | bytearray]) -> Arrival | None:
        """Read one datagram; None if nothing is there (`ReceiverSocket.read_into`)."""
        return _read(self._sock, pieces)[0]

    def send(self, packet: bytes, endpoint: Endpoint) -> None:
        """Send one packet.

        Raises:
            OSError: As the system says; the packet is lost then, as it may be anywhere on the way.
        """
        self._sock.sendto(packet, self.channel.at(*endpoint))

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class ReceiverSocket:
    """Receives one group on one interface.

    Attributes:
        granted: Receive buffer in bytes that the system allows.
        wanted: What was asked for.
    """

    READS_AT_ONCE = 8
    """Of a stand-alone repairer, before a look at the time: fewer would be small batches."""

    def __init__(self, channel: Channel) -> None:
        """
        Raises:
            NetworkError: The port is taken, or the system refuses the group.
        """
        self.channel = channel
        self.granted = self.wanted = 0
        self._drops = DropCount()
        self._sock = self._open(channel)

    def _open(self, channel: Channel) -> socket.socket:
        try:
            sock = socket.socket(channel.family, socket.SOCK_DGRAM)
        except OSError as error:
            raise NetworkError(f"{channel}: no socket: {error.strerror}") from error
        try:
            # Several receivers of one group may run on one machine.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _pin(sock, channel)
            sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
            memory = psutil.virtual_memory().total
            self.wanted = min(MAX_RECEIVE_BUFFER, memory // RECEIVE_BUFFER_SHARE)
            self.granted = _raise_buffer(sock, socket.SO_RCVBUF, SO_RCVBUFFORCE, self.wanted)
            with contextlib.suppress(OSError):
                sock.setsockopt(SOL_UDP, UDP_GRO, 1)
            sock.bind(channel.address)
            level, _, join, request = self._membership(channel)
            ipv6 = channel.family == socket.AF_INET6
            with contextlib.suppress(OSError):
                sock.setsockopt(level, socket.IPV6_RECVTCLASS if ipv6 else socket.IP_RECVTOS, 1)
            sock.setsockopt(level, IPV6_MULTICAST_ALL if ipv6 else IP_MULTICAST_ALL, 0)
            sock.setsockopt(level, join, request)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            reason = error.strerror or os.strerror(error.errno or 0)
            if error.errno == errno.EADDRINUSE:
                reason = "the port is taken by another program"
            raise NetworkError(f"can't receive {channel}: {reason}") from error
        return sock

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
        arrival, drops = _read(self._sock, pieces)
        if arrival and arrival.length:
            self._drops.take(drops, -(-arrival.length // arrival.stride))
        return arrival

    def rejoin(self) -> None:
        """Leave and join again: for an interface that came back, or a switch that forgot us.

        Raises:
            NetworkError: The interface has not come back.
        """
        channel = resolve(self.channel.group, self.channel.port, self.channel.interface)
        if channel.index == self.channel.index:
            level, leave, join, request = self._membership(channel)
            with contextlib.suppress(OSError):  # the membership may have gone with its address
                self._sock.setsockopt(level, leave, request)
            with contextlib.suppress(OSError):
                self._sock.setsockopt(level, join, request)
            return
        sock = self._open(channel)
        self._sock.close()
        self._sock, self.channel = sock, channel
        self._drops.restart()

    @property
    def kernel_drops(self) -> int:
        """Packets the system dropped because the buffer was full, as near as can be told."""
        return self._drops.packets

    @staticmethod
    def _membership(channel: Channel) -> tuple[int, int, int, bytes]:
        """Return (level, option to leave, option to join, their argument)."""
        packed = socket.inet_pton(channel.family, channel.group)
        if channel.family == socket.AF_INET6:
            request = packed + struct.pack("@I", channel.index)
            options = socket.IPV6_LEAVE_GROUP, socket.IPV6_JOIN_GROUP
            return socket.IPPROTO_IPV6, *options, request
        request = packed + struct.pack("@4si", bytes(4), channel.index)
        return socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, socket.IP_ADD_MEMBERSHIP, request

    def close(self) -> None:
        """Leave the group and close the socket."""
        self._sock.close()
