"""Configuration of what a receiver hears: which sources, which channels (see `config`)."""

from __future__ import annotations

from dataclasses import dataclass

from pgmlite.core.config import MIN_RATE
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.tunables import check, tunable
from pgmlite.errors import UsageError


@dataclass(frozen=True, slots=True)
class SourcesConfig:
    """Whom a receiver hears, and when it asks DNS; times in ns.

    Raises:
        UsageError: A value is out of its limits.
    """

    silent_after: int = tunable(5 * SECOND, "ns")
    """Silence after which a source counts as silent, and a name all of whose are is looked up."""

    standby_after: int = tunable(10 * SECOND, "ns")
    """Silence of all sources of the better priorities after which those of the next are joined."""

    leave_after: int = tunable(60 * SECOND, "ns")
    """Silence after which a source is left that a name has no more."""

    refresh_min: int = tunable(30 * SECOND, "ns")
    """A shorter TTL is not believed: names are looked up no more often."""

    refresh_max: int = tunable(3_600 * SECOND, "ns")
    """Nor a longer one."""

    retry_min: int = tunable(SECOND, "ns")
    """Time from a failure of DNS to the next try; it doubles with each."""

    retry_max: int = tunable(60 * SECOND, "ns")
    """It doubles no further."""

    max_sources_ipv6: int = tunable(64, "sources")
    """Joined at a time: what Linux allows a socket (`net.ipv6.mld_max_msf`)."""

    max_sources_ipv4: int = tunable(10, "sources")
    """The same for IPv4 (`net.ipv4.igmp_max_msf`)."""

    def __post_init__(self) -> None:
        check(self)
        if self.standby_after < self.silent_after:
            raise UsageError("a source is silent before others stand in for it")

    def most_sources(self, version: int) -> int:
        """Return how many sources may be joined of a version of IP: 6 or 4."""
        return self.max_sources_ipv6 if version == 6 else self.max_sources_ipv4


@dataclass(frozen=True, slots=True)
class RatesConfig:
    """How a receiver chooses among the channels of an object; times in ns.

    Raises:
        UsageError: A value is out of its limits.
    """

    channels: range | None = None
    """Hear these, all at once; None: choose one."""

    limit: int | None = None
    """bit/s that all that is joined may announce together; None: no limit."""

    look_every: int = tunable(1 * SECOND, "ns")
    """How often it is judged what came since the last time."""

    longest_look: int = tunable(10 * SECOND, "ns")
    """The same where packets are rare."""

    min_packets: int = tunable(100, "packets")
    """It is not judged sooner than after as many."""

    try_after: int = tunable(4 * SECOND, "ns")
    """The next channel is tried after so long without more loss than usual, give or take half."""

    patience: float = tunable(0.8, "of it", least=0, most=10)
    """And as much longer for each channel below the present one, but for the lowest."""

    gives_way: float = tunable(2.0, "times", least=1)
    """And as much longer after losses that no change of our own explains: somebody else is on the
    way to the right channel. Not on the lowest one."""

    try_time: int = tunable(2 * SECOND, "ns")
    """How long it is joined beside the present one; the last look of it is judged."""

    try_look: int = tunable(200 * MS, "ns")
    """How often it is looked, during a try, whether losses begin with it."""

    onset: int = tunable(1, "looks")
    """Losses that begin later than so many of these after its first packet are not its own: queues
    are full by then."""

    try_loss: float = tunable(0.02, "of the packets", least=0, most=0.5)
    """What may be lost beyond what is usual, and beyond what chance does, without more reason."""

    headroom: float = tunable(0.9, "of the capacity", least=0.1, most=1)
    """A channel fits into it if it needs no more."""

    block: int = tunable(80 * SECOND, "ns")
    """A channel that did not fit is not tried again for so long, up to half as long again; twice as
    long after each more time."""

    longest_block: int = tunable(600 * SECOND, "ns")
    """And never longer."""

    short_block: int = tunable(20 * SECOND, "ns")
    """The same for one that was not tried itself, and may fit once another one was left."""

    short_block_up_to: float = tunable(2.2, "times the capacity", least=1)
    """A channel that needs more waits the long time."""

    deaf: int = tunable(15 * SECOND, "ns")
    """After a change losses mean nothing for so long at most: routers send on after a leave."""

    heals_after: int = tunable(1500 * MS, "ns")
    """Nor sooner than so long after it is it taken for over."""

    bad_loss: float = tunable(0.1, "of the packets", least=0.01, most=0.9)
    """More beyond what is usual is too much."""

    bad_for: int = tunable(15 * SECOND, "ns")
    """A channel is left after as long of that: it has to outlast a try of somebody else."""

    own_drops: float = tunable(0.01, "of the packets", least=0, most=0.9)
    """More that the own system drops is too much."""

    own_drops_for: int = tunable(3 * SECOND, "ns")
    """A channel is left after as long of that."""

    last_part: float = tunable(0.2, "of the object", least=0, most=1)
    """No try when no more is missing."""

    lost_after: int = tunable(30 * SECOND, "ns")
    """After so long without any packet the group that was named is heard again."""

    most_gap: int = tunable(16, "packets")
    """What is missing between two packets counts as so many at most: more is an outage, or made
    up."""

    max_sessions: int = tunable(64, "sessions")
    """Sessions of one look whose losses are counted."""

    max_counted: int = tunable(1 << 20, "packets")
    """Packets of one look whose numbers are kept."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < MIN_RATE:
            raise UsageError(f"rate limit {self.limit} bit/s: must be at least {MIN_RATE}")
        check(self)
