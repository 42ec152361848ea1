"""Multicast sockets: one interface, one group, many packets a system call.

Socket options that Python does not name are Linux's numbers. UDP_SEGMENT and UDP_GRO are probed
when a socket opens; without them the same interface sends and reads packet by packet.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from pgmlite.errors import NetworkError, UsageError
from pgmlite.net.drops import DropCount

IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
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

PASSING = frozenset(
    {
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENODEV,
        errno.ENXIO,
        errno.EADDRNOTAVAIL,
        errno.ENOBUFS,
        errno.EPERM,
        errno.EAGAIN,
        errno.EINVAL,
    }
)
"""Errors of a send that may pass: a link that is down, an address that is not there yet or any
more, a full queue."""

STRANGERS = frozenset({errno.ECONNREFUSED, errno.ENOPROTOOPT, errno.EPROTO, errno.EOPNOTSUPP})
"""Errors of a send that only an ICMP message brings: nobody answers for a group."""


@dataclass(frozen=True, slots=True)
class Channel:
    """Where packets go: a group, a port, and the one interface they use."""

    group: str
    port: int
    interface: str
    index: int

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET6 or AF_INET."""
        return socket.AF_INET6 if ":" in self.group else socket.AF_INET

    @property
    def address(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """The group as sockets take it."""
        return self.at(self.group, self.port)

    def at(self, address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return an address on the channel's interface as sockets take it."""
        if self.family == socket.AF_INET6:
            return (address, port, 0, self.index)
        return (address, port)

    @property
    def overhead(self) -> int:
        """Bytes of IP and UDP headers a packet."""
        return 48 if self.family == socket.AF_INET6 else 28

    def __str__(self) -> str:
        group = f"[{self.group}]" if ":" in self.group else self.group
        return f"{group}:{self.port} on {self.interface}"


def resolve(group: str, port: int, interface: str | None) -> Channel:
    """Check a group, a port and an interface against this machine.

    Args:
        group: ``ADDR`` or ``ADDR%INTERFACE``.
        interface: None: the one of ``%INTERFACE``, or the only one that can be meant.

    Raises:
        UsageError: Not a multicast group, or two different interfaces.
        NetworkError: No such interface, or it can't carry the group.
    """
    text, _, zone = group.partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"group {group}: not an IPv4 or IPv6 address") from None
    if not address.is_multicast:
        raise UsageError(f"group {group}: not a multicast address (ff00::/8 or 224.0.0.0/4)")
    if not 1 <= port <= 65535:
        raise UsageError(f"port {port}: must be 1 to 65535")
    if zone and interface and zone != interface:
        raise UsageError(f"group {group}: names another interface than {interface}")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    name = interface or zone or _only_interface(group, family)
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        known = ", ".join(sorted(psutil.net_if_stats()))
        raise NetworkError(f"interface {name}: not found; this machine has {known}") from None
    _check_family(name, group, family)
    return Channel(str(address), port, name, index)


def _has_family(name: str, family: socket.AddressFamily) -> bool:
    return any(a.family == family for a in psutil.net_if_addrs().get(name, []))


def _check_family(name: str, group: str, family: socket.AddressFamily) -> None:
    if not _has_family(name, family):
        kind = "IPv6" if family == socket.AF_INET6 else "IPv4"
        raise NetworkError(f"interface {name}: has no {kind} address for group {group}")


def _only_interface(group: str, family: socket.AddressFamily) -> str:
    """Return the only interface that can carry multicast of `family`.

    Raises:
        NetworkError: There is none, or there are several: the wrong one would be silence.
    """
    names: list[str] = [
        name
        for name, stats in psutil.net_if_stats().items()
        if stats.isup
        and {"multicast"} <= set(stats.flags.split(","))
        and "loopback" not in stats.flags.split(",")
        and _has_family(name, family)
    ]
    if len(names) == 1:
        return names[0]
    if not names:
        raise NetworkError(f"no interface is up that can carry group {group}: name one with -i")
    raise NetworkError(
        f"several interfaces could carry group {group}: "
        f"choose with -i from {', '.join(sorted(names))}"
    )


def check_own(address: str, channel: Channel) -> None:
    """Make sure that the channel's interface has `address`.

    Raises:
        NetworkError: It has not: what comes from there would not come from this machine.
    """
    known = [
        one.address.partition("%")[0]
        for one in psutil.net_if_addrs().get(channel.interface, [])
        if one.family == channel.family
    ]
    if address not in {str(ipaddress.ip_address(one)) for one in known}:
        raise NetworkError(
            f"{address}: not an address of {channel.interface}, which has {', '.join(known)}"
        )


def interface_mtu(channel: Channel) -> int:
    """Return the MTU of the channel's interface in bytes."""
    stats = psutil.net_if_stats().get(channel.interface)
    if stats is None:
        raise NetworkError(f"interface {channel.interface}: gone")
    return int(stats.mtu)


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


class SenderSocket:
    """Sends to one group through one interface; hears nothing.

    It is connected to the group, so that no packet can ever match it, and is never read.
    """

    def __init__(self, channel: Channel, *, hops: int, source: str = "") -> None:
        """
        Args:
            hops: Hop limit (IPv6) or TTL (IPv4), 1 to 255.
            source: The address to send from, one of the interface's; empty: the system chooses.

        Raises:
            NetworkError: The system refuses the socket.
        """
        self.channel = channel
        self._hops = hops
        self._source = source
        self._segment = 0
        self._sock = self._open(channel)
        self.has_segmentation = self._probe()

    def _open(self, channel: Channel) -> socket.socket:
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
            if self._source:
                sock.bind(channel.at(self._source, 0))
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
                self._send_singly(pieces)
                self.has_segmentation = False  # it was that, and nothing else
                return
        self._send_singly(pieces)

    def _send_singly(self, pieces: Sequence[bytes | memoryview]) -> None:
        for at in range(0, len(pieces), 2):
            self._sock.sendmsg(pieces[at : at + 2])

    def _set_segment(self, stride: int) -> None:
        self._sock.setsockopt(SOL_UDP, UDP_SEGMENT, stride)
        self._segment = stride

    def reopen(self) -> None:
        """Start over with a new socket: the interface may have come back with another index.

        Raises:
            NetworkError: It has not come back.
        """
        channel = resolve(self.channel.group, self.channel.port, self.channel.interface)
        sock = self._open(channel)
        self._sock.close()
        self._sock, self.channel, self._segment = sock, channel, 0

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


@dataclass(frozen=True, slots=True)
class Arrival:
    """One read: `length` bytes of packets `stride` bytes apart, from `source`."""

    length: int
    stride: int
    source: tuple[str, int]


def _read(
    sock: socket.socket, pieces: Sequence[memoryview | bytearray]
) -> tuple[Arrival | None, int | None]:
    """Return what one read gave, and how many packets the system dropped so far if it said."""
    try:
        length, ancillary, _, address = sock.recvmsg_into(pieces, 128)
    except (BlockingIOError, InterruptedError):
        return None, None
    stride, drops = length, None
    for level, kind, value in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            stride = int.from_bytes(value[:4], sys.byteorder)
        elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
            drops = int.from_bytes(value[:4], sys.byteorder)
    return Arrival(length, stride, address[:2]), drops


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

    def send(self, packet: bytes, endpoint: tuple[str, int]) -> None:
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
            sock.setsockopt(level, IPV6_MULTICAST_ALL if ipv6 else IP_MULTICAST_ALL, 0)
            sock.setsockopt(level, join, request)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                reason = "the port is taken by another program"
            else:
                reason = error.strerror or os.strerror(error.errno or 0)
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
            return (
                socket.IPPROTO_IPV6,
                socket.IPV6_LEAVE_GROUP,
                socket.IPV6_JOIN_GROUP,
                request,
            )
        request = packed + struct.pack("@4si", bytes(4), channel.index)
        return socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, socket.IP_ADD_MEMBERSHIP, request

    def close(self) -> None:
        """Leave the group and close the socket."""
        self._sock.close()
