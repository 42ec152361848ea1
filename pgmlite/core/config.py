"""Frozen configuration of the machines: units, defaults and limits, checked at construction."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pgmlite.core.machine import MS, SECOND
from pgmlite.errors import UsageError

MIN_RATE = 10_000
"""bit/s; below it an SPM a second would leave no room for the object."""

MAX_RATE = 400_000_000_000

DEFAULT_BLOCK_SYMBOLS = 1_024
"""About 1 MiB a block: what is fetched again after damage, and one digest in the index."""


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

    unpaced_bursts: int = 16
    """Bursts in one Transmit where the rate is not limited: large batches cost less."""

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

    index_share: int = 100
    """One INDEX packet for at most this many ODATA packets, so about 1% of the rate."""

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
        if self.start < 0 or self.index_share < 1:
            raise UsageError("start and index share: must not be negative")


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    """How one receiver receives; the limits bound what strangers can make it hold."""

    oid: int | None = None
    """Receive this object and no other; None: the first that is announced."""

    max_object_size: int = 1 << 40
    """Bytes; larger objects are refused. State is one byte a symbol: 0.07% of the object."""

    max_symbols: int = 1 << 30
    """Symbols; stops a forged symbol size of 64 from growing the state of a large object."""

    max_blocks: int = 1 << 20
    """Blocks; stops a forged manifest with blocks of one symbol from doing the same."""

    max_senders: int = 64
    """Senders with loss statistics; the one silent for longest makes room."""

    switch_after: int = 5 * SECOND
    """Silence of the object, in ns, after which another announced one takes its place."""

    resume_blocks: int = 4
    """Blocks of an earlier run verified a tick, so that packets are read in between."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "oid" and getattr(self, field.name) < 1:
                raise UsageError(f"{field.name}: must be at least 1")
