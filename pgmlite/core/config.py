"""Frozen configuration of the machines: units, defaults and limits, checked at construction.

Here is every number that decides what a machine sends, takes, asks for or remembers. A `tunable`
has its limits beside it, and a row in section 9 of the specification, which is written from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgmlite.core.machine import MS, SECOND
from pgmlite.core.tunables import check, tunable
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

    max_burst: int = tunable(44, "packets", most=64)
    """Packets that leave at once, at most: what one system call takes."""

    burst_time: int = tunable(MS // 2, "ns")
    """A burst is as much of the rate, and being late is made up for by as much again: never more
    than twice of it, or one packet, leaves at once."""

    unpaced_bursts: int = tunable(8, "bursts")
    """Bursts in one step where the rate is not limited: large batches cost less."""

    cycles: int | None = None
    """Stop after this many object lengths, on each channel; None: go on."""

    duration: int | None = None
    """Stop after this many ns; None: go on."""

    spm_min: int = tunable(50 * MS, "ns")
    """Shortest time between SPMs: until one came, repair symbols are of no use to a receiver."""

    spm_max: int = tunable(1 * SECOND, "ns")
    """Longest time between SPMs; receivers are told."""

    spm_share: int = tunable(100, "th of the rate")
    """SPMs take at most this part of the rate, as far as their longest interval allows."""

    tree_share: int = tunable(100, "ODATA packets")
    """One leaf of the tree for at most as many, so about 1% of the rate."""

    @property
    def transmit_limit(self) -> int:
        """Packets in one Transmit, at most."""
        return self.max_burst * (self.unpaced_bursts if self.rate is None else 1)

    def __post_init__(self) -> None:
        if self.rate is not None and not MIN_RATE <= self.rate <= MAX_RATE:
            raise UsageError(f"rate {self.rate} bit/s: must be {MIN_RATE} to {MAX_RATE}, or max")
        if self.cycles is not None and self.cycles < 1:
            raise UsageError(f"{self.cycles} cycles: must be at least 1")
        if self.duration is not None and self.duration <= 0:
            raise UsageError("duration: must be more than 0 s")
        check(self)
        if self.spm_min > self.spm_max:
            raise UsageError("SPM intervals: the shortest first")


@dataclass(frozen=True, slots=True)
class RepairConfig:
    """How a repairer answers NAKs; times in ns.

    Raises:
        UsageError: A value is out of its limits.
    """

    port: int = 0
    """UDP port that receivers are told; 0: none."""

    share: float = tunable(0.5, "of the rate", least=0.05, most=0.9)
    """What repairs may take ahead of the carousel."""

    backoff_factor: int | None = None
    """K of RFC 5401; None: by the size of the group."""

    grtt_start: int = tunable(20 * MS, "ns")
    """GRTT until the first NAK measures it."""

    grtt_min: int = tunable(2 * MS, "ns")
    """Machines answer no sooner, however short the way is; nor than two packets take."""

    grtt_max: int = tunable(2 * SECOND, "ns")
    """Longer round trips are not believed."""

    probe_time: int = tunable(250 * MS, "ns")
    """How often the GRTT may fall."""

    probe_grtt: int = tunable(10, "GRTT")
    """The same in GRTT; the longer one counts."""

    probe_longest: int = tunable(1 * SECOND, "ns")
    """The longest time after which it may fall again."""

    grtt_life: int = tunable(10 * SECOND, "ns")
    """Without an answer for as long it is halved, down to the start value."""

    gsize_time: int = tunable(1 * SECOND, "ns")
    """How often the group size may change."""

    gsize_start: int = tunable(10, "receivers")
    """Group size at first, and at least."""

    overlaps_wanted: int = tunable(16, "NAKs", least=0)
    """More for what is queued already, in one such time, and the group counts as twice as large."""

    most_silent: int = tunable(10, "receivers")
    """What the group counts for each source that sends NAKs, at most."""

    linger: int = tunable(1 * SECOND, "ns", least=0)
    """A sender with a limit of cycles answers NAKs for as long after the last, and again after
    every repair."""

    linger_grtt: int = tunable(20, "GRTT", least=0)
    """The same in GRTT; the longest one counts (ROBUST of RFC 5740)."""

    linger_spms: int = tunable(3, "intervals of SPMs", least=2)
    """The same in SPMs: the second that says the same place says that nothing more comes."""

    head_life: int = tunable(1 * SECOND, "ns")
    """A stand-alone repairer takes the carousel for stopped without ODATA for as long."""

    nonce_life: int = tunable(2 * SECOND, "ns")
    """How often the nonce changes; one is good for three times as long."""

    naks_per_second: float = tunable(2_000.0, "a second")
    """NAKs looked at, of all sources."""

    source_naks_per_second: float = tunable(250.0, "a second")
    """NAKs looked at, of one address."""

    source_symbols_per_second: float = tunable(100_000.0, "a second")
    """Symbols queued for one source."""

    alone_share: float = tunable(0.1, "of the ODATA", least=0, most=1)
    """Symbols queued for one source while the carousel goes on, whatever it says it lost."""

    alone_margin: float = tunable(0.02, "of the object", least=0, most=1)
    """Those that it may have beyond what it says it lost, once."""

    alone_burst: int = tunable(64, "symbols", least=0)
    """The same however small the object is."""

    symbols_a_nak: int = tunable(1_024, "symbols")
    """A NAK counts as one more for each time that it names as many: they cost our time."""

    ncf_share: float = tunable(0.1, "of the repairs' share", least=0.01)
    """What NCFs may take; more are joined into fewer."""

    ncf_burst: int = tunable(50 * MS, "ns", least=0)
    """NCFs of as much of their share may leave at once."""

    ncf_slack: int = tunable(16, "packets", least=0)
    """What may come between an NCF and the last repair it names, such as other NCFs."""

    max_in_flight: int = tunable(1 << 16, "packets", most=1 << 31)
    """Packets that can be on their way; a NAK that says more is too old, or a lie."""

    max_logged: int = tunable(1 << 14, "symbols")
    """Repairs of which it is remembered when they left, where counts are asked for."""

    max_waiting: int = tunable(1 << 20, "symbols")
    """What is queued, at most."""

    max_sources: int = tunable(4_096, "sources")
    """Sources with a budget of their own; the one silent for longest makes room."""

    source_life: int = tunable(600 * SECOND, "ns")
    """A source counts as one of the group for as long after its latest NAK."""

    max_held: int = tunable(1 << 18, "symbols")
    """What is remembered for the hold-off, at most; a hold-off is one GRTT."""

    def __post_init__(self) -> None:
        if not 0.05 <= self.share <= 0.9:
            raise UsageError(f"repair share {self.share:.0%}: must be 5% to 90%")
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"repair port {self.port}: must be 1 to 65535")
        if self.backoff_factor is not None and not 1 <= self.backoff_factor <= 15:
            raise UsageError(f"back-off factor {self.backoff_factor}: must be 1 to 15")
        check(self)


@dataclass(frozen=True, slots=True)
class NakConfig:
    """How a receiver asks for repairs; times in ns.

    Raises:
        UsageError: A value is out of its limits.
    """

    reorder_packets: int = tunable(3, "packets", least=0)
    """A packet is lost when this many later ones came (RFC 3208 section 6.3)."""

    ncf_wait: int = tunable(2, "GRTT")
    """How long to wait for the NCF after a NAK."""

    ask_ahead: int = tunable(1, "GRTT", least=0)
    """A NAK that leaves takes along the blocks whose back-off ends this soon."""

    ncf_retries: int = tunable(4, "NAKs")
    """Those of one cycle that may stay without an NCF before the repairer counts as dead."""

    data_retries: int = tunable(5, "requests")
    """Confirmed ones of one cycle, one after another, that may bring nothing."""

    most_lost: float = tunable(0.5, "of a block", least=0, most=1)
    """What may be asked for; who lost more waits for the carousel."""

    always_asked: int = tunable(16, "symbols", least=0)
    """What may be asked for however small the block is."""

    carousel_margin: float = tunable(2.0, "times", least=0)
    """What the carousel brings within as many times of what repairs take is not asked for."""

    most_believed_loss: float = tunable(0.75, "of the packets", least=0, most=0.9)
    """No more is allowed for when counts are asked for."""

    look_every: int = tunable(10 * MS, "ns")
    """How often it is looked at what carousels went past and are about to bring, at most."""

    look_block: int = tunable(2_000, "ns", least=0)
    """The same for each block of the object and each carousel; the longer one counts."""

    silence: int = tunable(500 * MS, "ns")
    """No NAK if nothing was heard for as long."""

    trusted_packets: int = tunable(16, "packets")
    """What a session must have sent before its own address is asked."""

    grtt_min: int = tunable(2 * MS, "ns")
    """A shorter GRTT is not believed: a forged SPM must not keep a receiver busy with timers."""

    grtt_max: int = tunable(2 * SECOND, "ns")
    """Nor a longer one: it must not put it to sleep."""

    spm_patience: int = tunable(4 * SECOND, "ns")
    """A repairer without an SPM for as long is not asked: the nonce may be stale."""

    shortest_death: int = tunable(2 * SECOND, "ns")
    """A repairer that did not answer is left alone for a cycle, and at least as long."""

    latest_tick: int = tunable(100 * MS, "ns", least=0)
    """Who gets to work later than this reads what came before it asks for anything."""

    measure_time: int = tunable(50 * MS, "ns")
    """The carousel's speed is measured over at least as long."""

    unknown_patience: int = tunable(800 * MS, "ns")
    """How long an NCF of a session that may not be asked suppresses."""

    kept_promise: float = tunable(0.25, "of what was lacking", least=0, most=1)
    """What must have come by the time for a promise to count as kept."""

    broken_promises: int = tunable(2, "promises")
    """Those one after the other from which on NCFs of a session are ignored for a cycle. A want
    that waited for as many in vain listens only to whom it asked."""

    ask_silent: int = tunable(1 * SECOND, "ns", least=0)
    """Between two NAKs to endpoints from which neither NCF nor RDATA ever came."""

    ask_silent_at_once: int = tunable(4, "NAKs")
    """As many may leave without that, once."""

    max_cycles: int = tunable(256, "blocks")
    """Blocks asked for at a time."""

    max_due: int = tunable(1 << 14, "blocks")
    """Those that wait to be asked for, at most; more are left to the carousel."""

    looked_at: int = tunable(1_024, "blocks")
    """Due blocks looked at in one step."""

    max_ncf_runs: int = tunable(1 << 16, "runs of symbols")
    """Those of NCFs remembered for blocks whose cycle has not started."""

    max_ncfs: int = tunable(1_024, "NCFs")
    """NCFs remembered, at most."""

    max_repairers: int = tunable(16, "repairers")
    """Repairers kept, at most; the one silent for longest makes room."""

    max_cursors: int = tunable(1 << 14, "blocks")
    """Those of one repairer of which it is remembered what it sends next."""

    max_positions: int = tunable(16, "carousels")
    """Carousels followed, at most; the one silent for longest makes room."""

    def __post_init__(self) -> None:
        check(self)
        if self.grtt_min > self.grtt_max:
            raise UsageError("GRTT that is believed: the shortest first")


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    """How one receiver receives; the limits bound what strangers can make it hold.

    Raises:
        UsageError: A value is out of its limits.
    """

    oid: int | None = None
    """Receive this object and no other; None: the first that is announced."""

    max_object_size: int = tunable(1 << 40, "bytes")
    """Larger objects are refused. State is two bytes a symbol, three and a half where half as many
    repair symbols are: 0.14 or 0.25% of the object."""

    max_symbols: int = tunable(1 << 30, "symbols")
    """Stops a forged symbol size of 64 from growing the state of a large object."""

    max_blocks: int = tunable(1 << 20, "blocks")
    """Stops a forged manifest with blocks of one symbol from doing the same."""

    max_senders: int = tunable(64, "sessions")
    """Sessions with loss statistics; the one silent for longest makes room."""

    switch_after: int = tunable(5 * SECOND, "ns")
    """Silence of the object after which another announced one takes its place."""

    naks: bool = True
    """Ask for what was lost, where somebody listens; False: stay silent."""

    repairers: frozenset[Endpoint] = frozenset()
    """Addresses and ports of repairers that may be asked, beside the sender itself."""

    nak: NakConfig = NakConfig()

    resume_blocks: int = tunable(4, "blocks")
    """Blocks verified at a time, so that packets are read in between."""

    max_surplus: int = tunable(16 << 20, "bytes")
    """Symbols in memory for which their blocks have no place left: they help to decode these."""

    max_leaves: int = tunable(512, "leaves")
    """Leaves of the tree of tiles that are kept, the latest used: they come with their tiles."""

    max_waiting: int = tunable(64 << 20, "bytes")
    """Symbols in memory that wait until their tile is whole or its leaf is there, at most."""

    tile_patience: int = tunable(2 * SECOND, "ns")
    """A tile whose leaf is there waits no longer for its other symbols."""

    last_symbols: int = tunable(256, "symbols", least=0)
    """With fewer missing of the object, no symbol waits for its tile."""

    def __post_init__(self) -> None:
        check(self)
