"""Snapshots of counters, spread over the events that carry them (`pgmlite.core.events`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OfferedChannel:
    """One channel of a service, as DNS has it."""

    group: str
    port: int
    rate: int
    """bit/s."""


@dataclass(frozen=True, slots=True)
class SendChannel:
    """One channel of a sender."""

    group: str
    port: int
    rate: int
    """bit/s; 0: not limited."""

    order: str
    """``rounds``, ``blocks``, ``random`` or ``territory``."""

    first: int
    """Where it begins: the visit (rounds, territory), the group of blocks (blocks), or what the
    order of visits is drawn from (random)."""

    sector: int
    sectors: int
    """The sector i/n with which it begins, or the territory that it sends; 0/1 without one."""


@dataclass(frozen=True, slots=True)
class SendFigures:
    """What a sender or repairer has done so far."""

    seconds: float
    """Since the start."""

    cycles: float
    packets: int
    bytes: int
    odata: int
    unsent: int
    """Of `packets`, those that this machine's network did not take."""

    achieved_rate: int | None
    """bit/s that went out, IP headers included, while there was a link; None: no carousel."""

    rate: int
    """bit/s that went out in the last seconds, IP headers included."""


@dataclass(frozen=True, slots=True)
class RepairFigures:
    """What was asked for and repeated so far."""

    rdata: int
    naks_received: int
    ncfs_sent: int
    grtt: float
    """Estimate of the longest round trip in the group, seconds."""

    refused: Mapping[str, int]
    """NAKs and other packets that did not count, by reason."""


@dataclass(frozen=True, slots=True)
class ReceiveFigures:
    """What a receiver has seen so far, over all objects."""

    seconds: float
    """Since the start."""

    cycles: float
    packets: int
    bytes: int
    odata: int
    rdata: int
    repair_symbols_received: int
    """Of `odata` and `rdata`, those that carry repair symbols."""

    naks_sent: int
    naks_suppressed: int
    lost: int
    fetched: int
    early: int
    unneeded: int
    """Symbols of blocks that have enough of others."""

    lost_unbelieved: int
    duplicates: int
    congested: int
    """Packets that a router marked instead of dropping them."""

    decoded: int
    """Blocks that are right by decoding."""

    recovered: int
    """Source symbols that are there by decoding."""

    damaged: int
    """Times that a block did not match its digest."""

    forged: int
    """Symbols that were found to be other ones than were sent."""

    refused: Mapping[str, int]
    """Packets that did not count, by reason."""


@dataclass(frozen=True, slots=True)
class NetworkFigures:
    """What only a receiver on a network has."""

    kernel_drops: int
    naks_unsent: int
    rate: int
    """bit/s that came in the last seconds, IP headers included."""

    waited_seconds: float | None
    """From the start to the first packet of the object; None: there was none."""

    transfer_seconds: float | None
    """Since the first packet of the object; None: there was none."""

    silence: float | None
    """Seconds since a carousel of the object was heard; None: none was."""


@dataclass(frozen=True, slots=True)
class DamagedPlace:
    """A stretch of a capture that can't be read, in bytes."""

    at: int
    what: str
    until: int | None
    """Where reading goes on; None: nowhere."""


@dataclass(frozen=True, slots=True)
class ClockStep:
    """A packet of a capture at which its clock was set."""

    packet: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CaptureFigures:
    """What there is to say of a capture as a file, as far as it was read."""

    skipped: Mapping[str, int]
    is_cut: bool
    damaged_places: tuple[DamagedPlace, ...]
    clock_steps: tuple[ClockStep, ...]


@dataclass(frozen=True, slots=True)
class OtherObject:
    """An object that was announced and not taken.

    Attributes:
        reason: Why, in a word of section 3.8 of the protocol.
    """

    oid: int
    name: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class HookEnding:
    """How the command of a hook ended."""

    code: int | None
    signal: str | None
    timed_out: bool
    seconds: float
    """How long it ran."""

    error: str | None
    """What went wrong; None: nothing."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check of `doctor` found."""

    state: str
    """``ok``, ``warn`` or ``fail``: this keeps data from arriving, if anything does."""

    cause: str
    """The word for what was looked at."""

    text: str
    """What was found, in words."""

    advice: str = ""
    """What to do, in words; empty: nothing."""

    command: str = ""
    """The command that does it on this machine, as root; empty: there is none."""
