"""Sends a receiver's NAKs; what can't be sent is told of, and no reason to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from pgmlite.core.machine import SendNak
from pgmlite.core.receive.evidence import Evidence
from pgmlite.errors import NetworkError
from pgmlite.net.membership import Memberships
from pgmlite.net.nak_socket import NakSocket


class NakSender:
    """Where one receiver's NAKs leave: a socket of its own, opened for the first of them."""

    def __init__(
        self, memberships: Memberships, evidence: Evidence, warn: Callable[[str, str], None]
    ) -> None:
        """
        Args:
            evidence: Has the count of what could not be sent.
            warn: Takes a warning and its cause.
        """
        self._memberships = memberships
        self._evidence = evidence
        self._warn = warn
        self._socket: NakSocket | None = None
        self._errors: set[int | None] = set()

    def send(self, nak: SendNak) -> None:
        """Send one; the carousel brings what it would: a failure is no reason to stop."""
        channel = self._memberships.channel
        try:
            if self._socket is None and channel:
                self._socket = NakSocket(channel, 0)
            if self._socket:
                self._socket.send(nak.packet, nak.endpoint)
        except NetworkError as error:
            self._failed(error, None)
        except OSError as error:
            self._failed(f"no NAK can be sent to {nak.endpoint}: {error.strerror}", error.errno)

    def _failed(self, why: object, number: int | None) -> None:
        """Count a NAK that did not leave; say once for each reason why."""
        self._evidence.naks_unsent += 1
        if number not in self._errors:
            self._errors.add(number)
            self._warn(f"{why}; waiting for the carousel instead", "nak")

    def rejoin(self) -> None:
        """Start over if the interface came back as another one."""
        if self._socket:
            with suppress(NetworkError):  # the memberships tell of it
                self._socket.rejoin()

    def close(self) -> None:
        """Close the socket."""
        if self._socket:
            self._socket.close()
