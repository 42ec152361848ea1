"""The socket for NAKs: unicast, beside a group."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from pgmlite.errors import NetworkError
from pgmlite.net.address import Channel, resolve
from pgmlite.net.udp import SOL_UDP, UDP_GRO, Arrival, open_socket, pin, read
from pgmlite.wire.endpoint import Endpoint


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
        sock = open_socket(channel)
        try:
            pin(sock, channel)
            if channel.family == socket.AF_INET6:
                # A repairer of IPv4 may have the same port.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.BUFFER)
            with contextlib.suppress(OSError):
                sock.setsockopt(SOL_UDP, UDP_GRO, 1)
            sock.bind(channel.at(self.address, port) if self.address else ("", port))
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            where = f"{Endpoint(self.address, port)} on {channel.interface}"
            raise NetworkError(f"can't listen for NAKs at {where}: {error.strerror}") from error
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
        return read(self._sock, pieces)[0]

    def send(self, packet: bytes, endpoint: Endpoint) -> None:
        """Send one packet.

        Raises:
            OSError: As the system says; the packet is lost then, as it may be anywhere on the way.
        """
        self._sock.sendto(packet, self.channel.at(*endpoint))

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
