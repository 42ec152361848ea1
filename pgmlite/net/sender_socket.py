"""The socket of a sender: one group through one interface, from one address."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Sequence

from pgmlite.errors import NetworkError
from pgmlite.net.address import AddressState, Channel, own_addresses, plain, resolve
from pgmlite.net.udp import SO_SNDBUFFORCE, SOL_UDP, UDP_SEGMENT, open_socket, pin, raise_buffer
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.manifest import is_link_local

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3

MAX_SEGMENTS = 64
"""Packets one UDP_SEGMENT call takes on every kernel that has it."""

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
        sock = open_socket(channel)
        try:
            pin(sock, channel)
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
            raise_buffer(sock, socket.SO_SNDBUF, SO_SNDBUFFORCE, SEND_BUFFER)
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
            OSError: As the system says; see `LINK_ERRORS`, `REFUSALS` and `STRANGERS`.
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
