"""Listing what is on the air from its arguments to its end: it listens, and keeps nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.events import Event, Tell
from pgmlite.core.events_listening import Listed, ListStarted
from pgmlite.core.human import MOST_NAMED, human_list
from pgmlite.core.machine import SECOND, Action, DnsAnswer, Join, Leave, Resolve
from pgmlite.core.receive.heard import Heard
from pgmlite.errors import TimedOut
from pgmlite.net.address import Channel
from pgmlite.net.discovery import Discovery
from pgmlite.net.listener import Listener
from pgmlite.net.loop import EXPECTED_SYMBOL_SIZE
from pgmlite.net.membership import Memberships
from pgmlite.net.receiver_socket import ReceiverSocket, read_all
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.net.whom import Whom, whom_of_group, whom_of_name
from pgmlite.storage.keys import PublicKey, load_public_keys
from pgmlite.wire.buffers import ReceiveBuffer
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import MOST_CHANNELS

DNS_PATIENCE = 10 * SECOND
"""ns until DNS must have said where to listen."""

ALL_CHANNELS = RatesConfig(range(MOST_CHANNELS), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListJob:
    """Where to listen, and for how long.

    Attributes:
        seconds: ns, from when it is a member of a group.
        name: Of a service in DNS, which has groups and port; None: there is none.
        sources: Addresses of the senders that are heard, or names; none: whoever sends.
        keys: Public keys, or folders of them, by which signatures are checked.
    """

    name: str | None
    group: str
    port: int
    interface: str | None
    sources: tuple[str, ...]
    keys: tuple[Path, ...]
    seconds: int

    def run(self, tell: Tell) -> Waits[Listed]:
        """
        Raises:
            UsageError: An argument does not fit this machine or the group, or a key is none.
            NetworkError: The network can't be used as asked, or DNS says that there is no service.
            TimedOut: Nothing was heard.
            Interrupted: It was asked to stop.
        """
        keys = load_public_keys(self.keys) if self.keys else []
        rest = (self.interface, self.sources, (), ALL_CHANNELS)
        whom = (
            whom_of_group(self.group, self.port, *rest)
            if self.name is None
            else whom_of_name(self.name, *rest)
        )
        listening = _Listening(self, whom, keys, tell)
        yield from listening.run()
        now = time.monotonic_ns()
        found = listening.heard.sessions(now)
        for session in found:
            tell(session)
        error = None if found else TimedOut(listening.why_nothing(), cause="not_heard")
        refused = dict(sorted(listening.refused.items()))
        heard = listening.heard
        listed = Listed(now, error, len(found), heard.more, heard.packets, refused)
        tell(listed)
        if error:
            raise error
        return listed


class _Listening:
    """Hears all that comes to some groups.

    Attributes:
        refused: Packets that were not valid, by reason.
    """

    def __init__(self, job: ListJob, whom: Whom, keys: Sequence[PublicKey], tell: Tell) -> None:
        self.heard = Heard(keys)
        self.refused: Counter[str] = Counter()
        self._job = job
        self._tell = tell
        self._key_ids = tuple(key.key_id for key in keys)
        self._machine = whom.listening
        self._discovery = whom.discovery or Discovery(())
        self._memberships = Memberships(whom.interface)
        self._listener = Listener(self._memberships, tell, self._begin)
        self._buffer = ReceiveBuffer(EXPECTED_SYMBOL_SIZE)
        self._where = ""
        self._now = 0
        self._end = 0
        """When it stops, ns."""

    def run(self) -> Waits[None]:
        """Listen until the time is up; errors are as of `ListJob.run`."""
        with ExitStack() as opened:
            opened.callback(self._discovery.close)
            opened.callback(lambda: self._listener.close(time.monotonic_ns()))
            self._now = now = time.monotonic_ns()
            self._end = now + DNS_PATIENCE
            self._do(self._machine.start(now))
            while now < self._end:
                yield Wait(
                    min(POLL, self._end - now), (*self._memberships.fds, *self._discovery.fds)
                )
                self._now = now = time.monotonic_ns()
                for answer in self._discovery.take():
                    self._do(self._take_answer(answer))
                for socket in self._memberships.in_turn():
                    self._read(socket)
                self._do(self._machine.tick(now))

    def why_nothing(self) -> str:
        """Return why there is nothing to list."""
        job = self._job
        if not self._where:
            return f"{job.name}: DNS did not say in {DNS_PATIENCE // SECOND} s where to listen"
        seconds = job.seconds / SECOND
        if self.heard.packets:
            return f"packets but no announcement came to {self._where} in {seconds:g} s"
        if count := self.refused.total():
            return f"{count} packets came to {self._where} in {seconds:g} s, none of them valid"
        return f"nothing came to {self._where} in {seconds:g} s"

    def _begin(self, channel: Channel, sources: tuple[str, ...]) -> None:
        job = self._job
        self._where = str(channel)
        if sources:
            self._where += f" from {human_list(sources, MOST_NAMED)}"
        self._end = self._now + job.seconds
        place = (channel.group, channel.port, channel.interface, sources)
        seconds = job.seconds / SECOND
        self._tell(ListStarted(self._now, job.name or "", *place, seconds, self._key_ids))

    def _take_answer(self, answer: DnsAnswer) -> list[Action]:
        return self._machine.resolved(self._now, answer)

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Join():
                    self._listener.join(self._now, action)
                case Leave():
                    self._listener.leave(self._now, action)
                case Resolve():
                    self._discovery.add(action)
                case Event():
                    self._tell(action)
        self._listener.tell_of_joined(self._now)

    def _read(self, socket: ReceiverSocket) -> None:
        """Read what a socket has, up to a buffer."""
        buffer = self._buffer
        # If the interface went away, what was heard is told all the same.
        read_all(socket, buffer, self.refused)
        group = Endpoint(socket.channel.group, socket.channel.port)
        for batch in buffer.batches(self.refused, self._now):
            self.heard.take(self._now, group, batch)
