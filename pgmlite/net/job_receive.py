"""A receiver from its arguments to its end: of one object."""

from __future__ import annotations

from contextlib import closing

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Completed, Tell
from pgmlite.core.receive.offers import OneObject
from pgmlite.net.destinations.contract import Destination
from pgmlite.net.reception import ReceiveArguments, Reception
from pgmlite.net.waiting import Waits


class ReceiveJob:
    """Receives one object."""

    def __init__(self, arguments: ReceiveArguments) -> None:
        self._arguments = arguments

    def run(self, tell: Tell) -> Waits[Completed]:
        """
        Raises:
            UsageError: An argument does not fit this machine or the group, or a key is none.
            NetworkError: The network can't be used as asked.
            DiskError: The disk refuses.
            TimedOut: `timeout` passed.
            Interrupted: It was asked to stop.
            HookError: The command failed; the output is in place.
        """
        with closing(Reception(self._arguments, tell)) as reception:
            yield from reception.resume()  # before the network, which may not be there yet
            return (yield from reception.receive(self._policy))

    def _policy(self, config: ReceiverConfig, destination: Destination) -> OneObject:
        oid = self._arguments.oid
        return OneObject(
            oid,
            config.switch_after,
            # One that was asked for and does not fit is the user's to know at once.
            destination.part.has_room if oid is None else None,
            is_chosen=bool(self._arguments.keys or self._arguments.object_name),
            is_begun=lambda: destination.is_begun,
        )
