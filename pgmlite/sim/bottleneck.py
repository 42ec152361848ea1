"""A link that carries less than is sent, with a queue before it, and routers that leave late.

The link is a token bucket that lets nothing through in bursts, as Linux' tbf: packets wait in one
queue, and what finds it full is dropped. A group goes on flowing for a while after the last member
behind the link has left it: routers ask first whether somebody is still there.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pgmlite.core.machine import MS, SECOND
from pgmlite.errors import UsageError
from pgmlite.wire.batch import HEADER_SIZE, PacketBatch
from pgmlite.wire.layout import IPV6_UDP_HEADERS

Times = npt.NDArray[np.int64]
Sizes = npt.NDArray[np.int64]
Takes = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class Bottleneck:
    """One link, and what flows over it.

    Attributes:
        rate: bit/s of whole packets, with what the link adds to them.
        queue: How long the last packet of a full queue waits, ns.
        leave_latency: For how long a group flows after its last member left, ns.
        header: Bytes that the link adds to each packet: 14 with Ethernet.

    Raises:
        UsageError: The rate is not positive, or a time is negative.
    """

    rate: int
    queue: int = 50 * MS
    leave_latency: int = 2 * SECOND
    header: int = 14
    _members: dict[Hashable, set[Hashable]] = field(default_factory=dict)
    _flows_until: dict[Hashable, int] = field(default_factory=dict)
    _empty_at: float = 0.0
    """When the link will have sent all that waits, ns."""

    def __post_init__(self) -> None:
        if self.rate <= 0 or min(self.queue, self.leave_latency, self.header) < 0:
            raise UsageError("bottleneck: its rate must be positive, its times not negative")

    # Groups.

    def join(self, group: Hashable, member: Hashable) -> None:
        """Let somebody behind the link hear a group."""
        self._members.setdefault(group, set()).add(member)

    def leave(self, now: int, group: Hashable, member: Hashable) -> None:
        """Let somebody hear it no longer."""
        members = self._members.get(group, set())
        if member in members:
            members.discard(member)
            if not members:
                self._flows_until[group] = now + self.leave_latency

    def flows(self, now: int, group: Hashable) -> bool:
        """Whether a group's packets are sent over the link."""
        return bool(self._members.get(group)) or now < self._flows_until.get(group, 0)

    # Packets.

    def send(self, times: Times, sizes: Sizes) -> tuple[Flags, Times]:
        """Return which packets get over the link, and when each of them has.

        Args:
            times: (n,), at least one, when they come to the link, ns; ascending, and not before
                those of earlier calls.
            sizes: (n,) bytes, IP headers included.
        """
        takes: Takes = (sizes + self.header) * np.float64(8 * SECOND / self.rate)
        # If nothing is dropped: each is sent when it has come and the one before it is through.
        through = np.cumsum(takes)
        ready = np.maximum(times - (through - takes), self._empty_at)
        done = np.maximum.accumulate(ready) + through
        kept: Flags = np.ones(len(times), np.bool_)
        if (done - takes - times > self.queue).any():
            done = self._drop(times, takes, kept)
        self._empty_at = float(done[kept][-1]) if kept.any() else self._empty_at
        return kept, done.astype(np.int64)

    def pass_on(self, now: int, batch: PacketBatch) -> tuple[PacketBatch, int]:
        """Return what of a batch that comes now gets over the link, and how much later, ns."""
        packet = HEADER_SIZE + IPV6_UDP_HEADERS + batch.payload.shape[1]
        times = np.full(len(batch), now, np.int64)
        kept, done = self.send(times, np.full(len(batch), packet, np.int64))
        last = int(done[kept][-1]) if kept.any() else now
        return batch.select(kept), last - now

    def _drop(self, times: Times, takes: Takes, kept: Flags) -> Takes:
        """Drop what finds the queue full; return when the others are through."""
        empty_at, queue = self._empty_at, self.queue
        done = []
        for place, (time, take) in enumerate(zip(times.tolist(), takes.tolist(), strict=True)):
            if empty_at - time > queue:
                kept[place] = False
            else:
                empty_at = max(empty_at, time) + take
            done.append(empty_at)
        return np.array(done)
