"""Frozen configuration of the machines: units, defaults and limits, checked at construction."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pgmlite.core.machine import MS, SECOND
from pgmlite.errors import UsageError
from pgmlite.wire.endpoint import Endpoint

MIN_RATE = 10_000
"""bit/s; below it an SPM a second would leave no room for the object."""

MAX_RATE = 400_000_000_000

DEFAULT_BLOCK_SYMBOLS = 1_024
"""About 1 MiB a block: what is fetched again after damage, and one digest in the tree."""


@dataclass(frozen=True, slots=True)
class SenderConfig:
    """How one sender sends.

    Raises:
        UsageError: A value is out of its limits.
    """

    rate: int | None
    """bit/s on the wire, IP headers included; None: as fast as the socket takes packets."""

    packet_overhead: int
    """Bytes of IP and UDP headers a packet: 28 (IPv4) or 48 (IPv6)."""

    max_burst: int = 44
    """Packets that leave at once, at most: what one system call takes."""

    unpaced_bursts: int = 8
    """Bursts in one Transmit where the rate is not limited: large batches cost less."""

    carousel: bool = True
    """Send the object; False: only answer NAKs, as a stand-alone repairer."""

    start: int = 0
    """Byte offset at which the first cycle starts; rounded down to a symbol."""

    cycles: int | None = None
    """Stop after this many whole cycles; None: go on."""

    duration: int | None = None
    """Stop after this many ns; None: go on."""

    spm_min: int = 250 * MS
    """Shortest time between SPMs, ns."""

    spm_max: int = 1 * SECOND
    """Longest time between SPMs, ns; receivers are told."""

    tree_share: int = 100
    """One leaf of the tree for at most this many ODATA packets, so about 1% of the rate."""

    @property
    def transmit_limit(self) -> int:
        """Packets in one Transmit, at most."""
        return self.max_burst * (self.unpaced_bursts if self.rate is None else 1)

    def __post_init__(self) -> None:
        if self.rate is not None and not MIN_RATE <= self.rate <= MAX_RATE:
            raise UsageError(f"rate {self.rate} bit/s: must be {MIN_RATE} to {MAX_RATE}, or max")
        if not 1 <= self.max_burst <= 64:
            raise UsageError(f"burst of {self.max_burst} packets: must be 1 to 64")
        if self.unpaced_bursts < 1:
            raise UsageError("bursts in one Transmit: must be at least 1")
        if self.cycles is not None and self.cycles < 1:
            raise UsageError(f"{self.cycles} cycles: must be at least 1")
        if self.duration is not None and self.duration <= 0:
            raise UsageError("duration: must be more than 0 s")
        if not 0 < self.spm_min <= self.spm_max:
            raise UsageError("SPM intervals: must be more than 0, the shortest first")
        if self.start < 0 or self.tree_share < 1:
            raise UsageError("start and tree share: must not be negative")


@dataclass(frozen=True, slots=True)
class RepairConfig:
    """How a repairer answers NAKs; times in ns.

    Raises:
        UsageError: A value is out of its limits.
    """

    port: int = 0
    """UDP port that receivers are told; 0: none."""

    share: float = 0.5
    """Share of the rate that repairs may take ahead of the carousel."""

    backoff_factor: int | None = None
    """K of RFC 5401; None: by the size of the group."""

    grtt_start: int = 20 * MS
    """GRTT until the first NAK measures it."""

    grtt_min: int = 2 * MS
    """Machines answer no sooner, however short the way is."""

    grtt_max: int = 2 * SECOND
    """Longer round trips are not believed."""

    probe_time: int = 250 * MS
    """How often the GRTT may fall."""

    probe_grtt: int = 10
    """The same in GRTT; the longer one counts."""

    probe_longest: int = 1 * SECOND
    """The longest time after which it may fall again."""

    grtt_life: int = 10 * SECOND
    """Without an answer for as long it is halved, down to the start value."""

    gsize_time: int = 1 * SECOND
    """How often the group size may change."""

    gsize_start: int = 10
    """Receivers expected at first, and at least."""

    overlaps_wanted: int = 16
    """NAKs for what is queued already, in one such time, before the group counts as larger."""

    linger: int = 1 * SECOND
    """A sender with a limit of cycles answers NAKs for as long after the last, and again after
    every repair."""

    linger_grtt: int = 20
    """The same in GRTT; the longer one counts (ROBUST of RFC 5740)."""

    nonce_life: int = 2 * SECOND
    """A nonce is good for three times as long."""

    naks_per_second: float = 2_000.0
    """NAKs looked at, of all sources."""

    source_naks_per_second: float = 250.0
    """NAKs looked at, of one address."""

    source_symbols_per_second: float = 100_000.0
    """Symbols queued for one source."""

    ncf_share: float = 0.1
    """What NCFs may take of the repairs' share; more are joined into fewer."""

    max_waiting: int = 1 << 20
    """Symbols in the queue."""

    max_sources: int = 4_096
    """Sources with a budget of their own; the one silent for longest makes room."""

    source_life: int = 600 * SECOND
    """A source counts as one of the group for as long after its latest NAK."""

    max_held: int = 1 << 18
    """Symbols remembered for the hold-off."""

    def __post_init__(self) -> None:
        if not 0.05 <= self.share <= 0.9:
            raise UsageError(f"repair share {self.share:.0%}: must be 5% to 90%")
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"repair port {self.port}: must be 1 to 65535")


@dataclass(frozen=True, slots=True)
class NakConfig:
    """How a receiver asks for repairs; times in ns."""

    reorder_packets: int = 3
    """A packet is lost when this many later ones came (RFC 3208 section 6.3)."""

    ncf_wait: int = 2
    """GRTT to wait for the NCF after a NAK."""

    ask_ahead: int = 1
    """GRTT: a NAK that leaves takes along the blocks whose back-off ends this soon."""

    ncf_retries: int = 4
    """NAKs of one cycle that may stay without an NCF before the repairer counts as dead."""

    data_retries: int = 5
    """Confirmed requests of one cycle, one after another, that may bring nothing."""

    most_lost: float = 0.5
    """Share of a block that may be asked for; who lost more waits for the carousel."""

    always_asked: int = 16
    """Symbols that may be asked for however small the block is."""

    carousel_margin: float = 1.5
    """A symbol that the carousel brings within this many repair delays is not asked for."""

    silence: int = 500 * MS
    """No NAK if nothing was heard for as long."""

    spm_patience: int = 4 * SECOND
    """A repairer without an SPM for as long is not asked: the nonce may be stale."""

    shortest_death: int = 2 * SECOND
    """A repairer that did not answer is left alone for a cycle, and at least as long."""

    measure_time: int = 50 * MS
    """The carousel's speed is measured over at least as long."""

    unknown_patience: int = 800 * MS
    """How long an NCF of a session without an SPM suppresses."""

    max_cycles: int = 256
    """Blocks asked for at a time."""

    max_ncf_symbols: int = 1 << 18
    """Symbols of NCFs remembered for blocks whose cycle has not started."""

    max_ncfs: int = 1_024
    """NCFs remembered, at most."""

    max_repairers: int = 16
    max_positions: int = 64


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    """How one receiver receives; the limits bound what strangers can make it hold."""

    oid: int | None = None
    """Receive this object and no other; None: the first that is announced."""

    max_object_size: int = 1 << 40
    """Bytes; larger objects are refused. State is two bytes a symbol: 0.14% of the object."""

    max_symbols: int = 1 << 30
    """Symbols; stops a forged symbol size of 64 from growing the state of a large object."""

    max_blocks: int = 1 << 20
    """Blocks; stops a forged manifest with blocks of one symbol from doing the same."""

    max_senders: int = 64
    """Senders with loss statistics; the one silent for longest makes room."""

    switch_after: int = 5 * SECOND
    """Silence of the object, in ns, after which another announced one takes its place."""

    naks: bool = True
    """Ask for what was lost, where somebody listens; False: stay silent."""

    repairers: frozenset[Endpoint] = frozenset()
    """Addresses and ports of repairers that may be asked, beside the sender itself."""

    nak: NakConfig = NakConfig()

    resume_blocks: int = 4
    """Blocks verified at a time, so that packets are read in between."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and field.name not in {"oid", "naks"} and value < 1:
                raise UsageError(f"{field.name}: must be at least 1")
