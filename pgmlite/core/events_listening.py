"""Events of what a receiver hears: groups, sources, channels (see `events`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pgmlite.core.events import Event
from pgmlite.core.figures import CheckResult, OfferedChannel
from pgmlite.errors import PgmliteError
from pgmlite.wire.manifest import Manifest


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


# What is on the air.


@dataclass(frozen=True, slots=True)
class ListStarted(Event):
    """``list`` begins to listen."""

    NAME: ClassVar[str] = "start"

    name: str
    """In DNS; empty: none was given."""

    group: str
    """The first one, if there are several."""

    port: int
    interface: str
    sources: tuple[str, ...]
    """Addresses whose packets are asked for; none: whoever sends."""

    seconds: float
    """For how long it will listen."""

    keys: tuple[bytes, ...]
    """Ids of those by which signatures are checked; none: they are claims."""


@dataclass(frozen=True, slots=True)
class SignedBy:
    """A key that has signed an object, or is said to have."""

    key: bytes
    state: str
    """``valid``, ``wrong``, or ``claimed``: the key was not given."""


@dataclass(frozen=True, slots=True)
class SessionHeard(Event):
    """An object that is announced to a group, and who sends it there: claims of theirs, but for
    what was heard and for signatures that are valid.
    """

    NAME: ClassVar[str] = "session"

    group: str
    port: int
    manifest: Manifest
    created: int | None
    """When it was signed, seconds since 1970; None: it is not made to be signed."""

    expires: int | None
    """Likewise; 0: never."""

    sources: tuple[str, ...]
    """Addresses that packets of it came from: the first 16."""

    rate: int
    """bit/s that all its carousels announce together; 0: not limited, or there are none."""

    heard_rate: int | None
    """bit/s that came, IP headers included; None: too little to say."""

    packets: int
    has_carousel: bool
    """False: it is only repeated to who lost something."""

    orders: tuple[str, ...]
    """In which its carousels send."""

    signatures: tuple[SignedBy, ...]
    nak_ports: tuple[int, ...]
    """UDP ports at senders that take NAKs."""

    repairers: tuple[str, ...]
    """``ADDR:PORT`` of repairers that the manifest names."""

    time_left: float | None
    """Seconds that a receiver takes that begins now, without losses; None: not known."""


@dataclass(frozen=True, slots=True)
class Listed(Event):
    """The end of ``list``: whether anything was heard."""

    NAME: ClassVar[str] = "listed"

    error: PgmliteError | None
    """None: something was."""

    sessions: int
    """That were told of."""

    more: int
    """Objects that were announced and are not listed, of the first 1024."""

    packets: int
    """Valid ones, of all objects."""

    refused: Mapping[str, int]
    """Packets that were not valid, by reason."""
