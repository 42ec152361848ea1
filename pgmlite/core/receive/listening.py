"""Which groups are heard, and from whom: what a receiver joins and leaves (spec: NET-13).

Membership is (group, source), on the one interface of the receiver. Sources and channels are
chosen apart: `Sources` says whom to hear, and everybody sends on every channel.
"""

from __future__ import annotations

from collections.abc import Collection

from pgmlite.core.machine import Action, DnsAnswer, Join, Leave
from pgmlite.core.receive.sources import Sources
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.control import Manifest
from pgmlite.wire.endpoint import Endpoint

Membership = tuple[Endpoint, str]
"""Group and source."""


class Listening:
    """What one receiver hears: a part of its machine.

    Attributes:
        joined: What it is a member of.
    """

    def __init__(self, groups: Collection[Endpoint], sources: Sources) -> None:
        """
        Args:
            groups: Those that a user named; none: `sources` has a service, which says them.
        """
        self.joined: frozenset[Membership] = frozenset()
        self._groups = frozenset(groups)
        self._sources = sources

    @property
    def deadline(self) -> int | None:
        """When to call `tick` next, ns; None: only after something came."""
        return self._sources.deadline

    def start(self, now: int) -> list[Action]:
        """Begin to listen."""
        return self._sources.start(now) + self._follow()

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take packets of an object that is being received."""
        return self._sources.receive(now, batch.source.address)

    def resolved(self, now: int, answer: DnsAnswer) -> list[Action]:
        """Take what DNS says of who sends, and where.

        Raises:
            NetworkError: The service is decidedly not offered, and no answer came before.
        """
        actions = self._sources.resolved(now, answer)
        return actions + self._follow()

    def adopt(self, now: int, manifest: Manifest) -> list[Action]:
        """Take what an object's manifest says of who sends, and where."""
        self._sources.add([endpoint.address for endpoint in manifest.repairers])
        return self._follow()

    def tick(self, now: int) -> list[Action]:
        """Do what is due."""
        if self.deadline is None or now < self.deadline:
            return []
        return self._sources.tick(now) + self._follow()

    def _follow(self) -> list[Action]:
        """Join and leave what makes the difference to what is wanted."""
        ladder = self._sources.ladder
        groups = frozenset({ladder[0].group}) if ladder else self._groups
        wanted = {(group, source) for group in groups for source in self._sources.wanted}
        gone, new = self.joined - wanted, wanted - self.joined
        self.joined = frozenset(wanted)
        return [
            *(
                Leave(group, source, "channel" if source in self._sources.wanted else "source")
                for group, source in sorted(gone)
            ),
            *(Join(group, source) for group, source in sorted(new)),
        ]
