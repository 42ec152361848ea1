"""Events of what a receiver hears: groups, sources, channels (see `events`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pgmlite.core.events import Event
from pgmlite.core.figures import CheckResult, OfferedChannel


@dataclass(frozen=True, slots=True)
class Joined(Event):
    """A receiver asks the network for a source of a group."""

    NAME: ClassVar[str] = "joined"

    group: str
    port: int
    source: str
    """Its address; empty: whoever sends."""


@dataclass(frozen=True, slots=True)
class Left(Event):
    """A receiver asks the network for a source of a group no longer."""

    NAME: ClassVar[str] = "left"

    group: str
    port: int
    source: str
    reason: str
    """``source``: it is not wanted any more; ``channel``: the group is not; ``end``: the receiver
    ends."""


@dataclass(frozen=True, slots=True)
class Resolved(Event):
    """DNS has said who sends, or something else than before."""

    NAME: ClassVar[str] = "resolved"

    name: str
    sources: tuple[str, ...]
    """Addresses that are heard."""

    standby: tuple[str, ...]
    """Those that will be, should the others fall silent."""

    port: int | None
    """UDP port of a service; None: it is the name of a host."""

    channels: tuple[OfferedChannel, ...]
    """Of a service, at rising rates."""

    ttl: int
    """Seconds."""

    dnssec: bool
    """The server says that it has checked signatures; nothing follows from it."""


@dataclass(frozen=True, slots=True)
class SourceState(Event):
    """A source that is asked for is heard, or silent, or called in for silent ones."""

    NAME: ClassVar[str] = "source"

    address: str
    state: str
    """``heard``, ``silent`` or ``standby``."""


@dataclass(frozen=True, slots=True)
class Checked(Event):
    """``doctor`` has looked at something."""

    NAME: ClassVar[str] = "check"

    result: CheckResult


@dataclass(frozen=True, slots=True)
class Trying(Event):
    """A receiver joins a channel to see whether it fits."""

    NAME: ClassVar[str] = "trying"

    channel: int
    rate: int
    """bit/s that it has."""


@dataclass(frozen=True, slots=True)
class RateChanged(Event):
    """A receiver has chosen a channel."""

    NAME: ClassVar[str] = "rate"

    channel: int
    """The highest that is heard from now on."""

    rate: int
    """bit/s that it has."""

    capacity: int | None
    """bit/s that came while more was sent than fits; None: more never was."""

    reason: str
    """``start``, ``up``, ``down``, ``failed``: the channel that was tried does not fit,
    ``disturbed``: others tried at the same time, so that nothing is known, or ``silent``: nothing
    came of the channel before."""
