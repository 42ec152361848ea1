"""A receiver from its arguments to its end: of one object, or of one after another."""

from __future__ import annotations

from contextlib import closing

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Completed, Followed, Tell
from pgmlite.core.receive.offers import OneObject
from pgmlite.errors import UsageError
from pgmlite.net.destinations.choice import Kind
from pgmlite.net.destinations.contract import Destination
from pgmlite.net.handle import Handle
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
            # Before the network, which may not be there yet.
            yield from reception.look()
            yield from reception.resume()
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


class Receiving(Handle[Completed]):
    """A receiver of one object, as of `Handle`; or what one is made of that stays."""

    def __init__(self, arguments: ReceiveArguments) -> None:
        super().__init__(ReceiveJob(arguments).run)
        self._arguments = arguments

    def follow(self) -> Handle[Followed]:
        """Return what takes one object after another, in place of this, until it is stopped.

        With keys the newest release of the stream; without, what is announced under the chosen name
        or group. What is in place is never fetched, and nothing that passes ends it.

        Raises:
            UsageError: An argument is for one object.
        """
        from pgmlite.net.job_follow import FollowJob

        check_following(self._arguments)
        job = FollowJob(self._arguments)
        return Handle(job.run, reload=job.reload)


def check_following(arguments: ReceiveArguments) -> None:
    """Make sure that a receiver can follow.

    Raises:
        UsageError: An argument is for one object.
    """
    if arguments.where.kind not in (Kind.FILE, Kind.FOLDER):
        what = "output" if arguments.where.kind is Kind.PIPE else "device"
        raise UsageError(
            f"{what}: takes one object; who follows needs a file, or a folder named with a / at "
            "the end",
            cause=what,
        )
    if arguments.keys and not arguments.stream:
        raise UsageError(
            "stream: who follows with keys needs one: numbers of releases count within a stream",
            cause="stream",
        )
    for name, is_given, why in (
        ("timeout", arguments.timeout is not None, "who follows never ends"),
        ("object", arguments.oid is not None, "is one; who follows takes one after another"),
        ("allow_rollback", arguments.allow_rollback, "who follows would go back and forth"),
    ):
        if is_given:
            raise UsageError(f"{name}: {why}", cause=name)
