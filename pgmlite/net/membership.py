"""What a receiver is a member of: a socket for each group, on one interface (spec: NET-13)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from pgmlite.core.receive.listening import Membership
from pgmlite.errors import NetworkError, UsageError
from pgmlite.net.address import Channel, resolve
from pgmlite.net.groups import check_sources
from pgmlite.net.receiver_socket import ReceiverSocket
from pgmlite.wire.endpoint import Endpoint

MOST_REFUSED = 64
"""Memberships that the system refused and that are tried again: manifests may name any number."""


class Memberships:
    """The groups of one receiver.

    Attributes:
        channel: Of the group that was joined first of those that are, or were at last; None: none
            was yet.
        granted: Receive buffer in bytes that the system allows, the smallest of all groups.
        wanted: What was asked for.
    """

    def __init__(self, interface: str | None) -> None:
        """
        Args:
            interface: None: the only one that can carry the first group.
        """
        self.channel: Channel | None = None
        self.granted = self.wanted = 0
        self._interface = interface
        self._sockets: dict[Endpoint, ReceiverSocket] = {}
        self._turn: deque[ReceiverSocket] = deque()
        """All of them, the one that is read first next time at the front."""

        self._fds: tuple[int, ...] = ()
        self._refused: set[Membership] = set()
        self._dropped = 0
        """Packets that the system dropped from sockets that are closed."""

    @property
    def fds(self) -> Sequence[int]:
        """Descriptors to wait for."""
        return self._fds

    @property
    def kernel_drops(self) -> int:
        """Packets the system dropped because a buffer was full, as near as can be told."""
        return self._dropped + sum(one.kernel_drops for one in self._turn)

    def in_turn(self) -> list[ReceiverSocket]:
        """Return what can be read from; each time another one is first."""
        self._turn.rotate(-1)
        return list(self._turn)

    def join(self, group: Endpoint, source: str) -> None:
        """Hear what a source sends to a group; what is refused is remembered for `retry`.

        Raises:
            UsageError: It is no group that can be heard so.
            NetworkError: The system refuses it.
        """
        try:
            self._join(group, source)
        except NetworkError:
            if len(self._refused) < MOST_REFUSED:
                self._refused.add((group, source))
            raise

    def _join(self, group: Endpoint, source: str) -> None:
        socket = self._sockets.get(group)
        if socket:
            socket.join(source)
            return
        channel = resolve(*group, self._interface)
        # Nothing is asked of the network before it is known that it does no harm.
        check_sources(channel.group, {source} - {""})
        socket = ReceiverSocket(channel, {source})
        self._sockets[group] = socket
        self._interface = channel.interface
        self._look()

    def leave(self, group: Endpoint, source: str) -> bool:
        """Hear it no longer; return whether it was heard."""
        self._refused.discard((group, source))
        socket = self._sockets.get(group)
        if socket is None or source not in socket.sources:
            return False
        if len(socket.sources) > 1:
            socket.leave(source)
            return True
        del self._sockets[group]
        self._dropped += socket.kernel_drops
        socket.close()
        self._look()
        return True

    def rejoin(self) -> None:
        """Leave and join again, each source of each group.

        Raises:
            NetworkError: The interface has not come back.
        """
        refused: NetworkError | None = None
        for socket in self._turn:
            try:
                socket.rejoin()
            except NetworkError as error:
                refused = error
        self._look()  # whatever happened to one, others may have new descriptors
        if refused:
            raise refused

    def retry(self) -> list[Membership]:
        """Try again what was refused; return what was not this time."""
        joined = []
        for membership in sorted(self._refused):
            with suppress(NetworkError, UsageError):
                self._join(*membership)
                joined.append(membership)
        self._refused.difference_update(joined)
        return joined

    def close(self) -> list[Membership]:
        """Leave all groups; return what they were."""
        left = [(group, one) for group, socket in self._sockets.items() for one in socket.sources]
        self._dropped = self.kernel_drops
        for socket in self._turn:
            socket.close()
        self._sockets.clear()
        self._refused.clear()
        self._look()
        return sorted(left)

    def _look(self) -> None:
        """Take note of sockets that were opened or closed."""
        self._turn = deque(self._sockets.values())
        if self._turn:
            self.channel = self._turn[0].channel
        self._fds = tuple(socket.fileno() for socket in self._turn)
        self.granted = min((one.granted for one in self._turn), default=self.granted)
        self.wanted = max((one.wanted for one in self._turn), default=self.wanted)
