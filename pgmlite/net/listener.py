"""Joins and leaves what a receiver's machine says, and tells of it."""

from __future__ import annotations

from collections.abc import Callable

from pgmlite.core.events import Tell, Warned
from pgmlite.core.events_listening import Joined, Left
from pgmlite.core.machine import Join, Leave
from pgmlite.core.receive.listening import Membership
from pgmlite.errors import NetworkError, UsageError
from pgmlite.net.address import Channel
from pgmlite.net.membership import Memberships


class Listener:
    """The memberships of one receiver.

    What can't be joined first ends it. Later it goes on without that: a manifest may name
    repairers, and channels, that this machine or its network can't join.
    """

    def __init__(
        self,
        memberships: Memberships,
        tell: Tell,
        begin: Callable[[Channel, tuple[str, ...]], None],
    ) -> None:
        """
        Args:
            begin: Takes, once it is a member of something, the first group and all sources then;
                none: whoever sends.
        """
        self._memberships = memberships
        self._tell = tell
        self._begin = begin
        self._has_begun = False
        self._new: list[Membership] = []
        """What was joined, and not yet told of."""

        self._is_short = self._is_down = False
        """Whether something could not be joined, or the interface is gone, and that was said."""

    def join(self, now: int, join: Join) -> None:
        """Hear a source of a group; `tell_of_joined` tells.

        Raises:
            UsageError: It is among the first, and no group that can be heard so.
            NetworkError: It is among the first, and the system refuses it.
        """
        try:
            self._memberships.join(join.group, join.source)
        except (NetworkError, UsageError) as error:
            if not self._has_begun:
                raise
            if not self._is_short:
                self._tell(Warned(now, f"{error}; going on without", "membership"))
            self._is_short = True
        else:
            self._new.append((join.group, join.source))

    def leave(self, now: int, leave: Leave) -> None:
        """Hear a source of a group no longer."""
        if self._memberships.leave(leave.group, leave.source):
            self._tell_of_left(now, (leave.group, leave.source), leave.reason)

    def tell_of_joined(self, now: int) -> None:
        """Tell of what was joined since the last time, and once of the beginning."""
        if not self._new:
            return
        self._is_short = False
        if not self._has_begun and self._memberships.channel:
            self._has_begun = True
            sources = dict.fromkeys(source for _, source in self._new if source)
            self._begin(self._memberships.channel, tuple(sources))
        for (group, port), source in self._new:
            self._tell(Joined(now, group, port, source))
        self._new.clear()

    def rejoin(self, now: int) -> None:
        """Join everything anew: nothing was heard for some time (spec: NET-7)."""
        try:
            self._memberships.rejoin()
            self._is_down = False
        except NetworkError as error:
            if not self._is_down:
                self._tell(Warned(now, f"{error}; waiting for it", "interface"))
            self._is_down = True
            return
        self._new += self._memberships.retry()
        self.tell_of_joined(now)

    def close(self, now: int) -> None:
        """Leave everything."""
        for membership in self._memberships.close():
            self._tell_of_left(now, membership, "end")

    def _tell_of_left(self, now: int, membership: Membership, reason: str) -> None:
        (group, port), source = membership
        self._tell(Left(now, group, port, source, reason))
