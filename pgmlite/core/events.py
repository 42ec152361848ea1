"""What happens, as one stream of typed events: what a program, a terminal and metrics go by.

Machines put events among their actions, loops pass them on and add their own. An event has facts
and a time; an event's words for people are made by the command line. ``--json`` is their
serialisation: a class's `NAME` is the line's ``event``, fields keep their names, and a field that
is a dataclass is spread over the line. ``spec/events.json`` is generated from these classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pgmlite.core.causes import Fact
from pgmlite.core.figures import (
    CaptureFigures,
    HookEnding,
    NetworkFigures,
    OtherObject,
    ReceiveFigures,
    RepairFigures,
    SendChannel,
    SendFigures,
)
from pgmlite.errors import PgmliteError
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        at: When, in ns of the clock that drives the machine: the system's monotonic one, or that
            of a capture.
        job: Of several at once, the name of the one that it is about; empty: there is only one.
    """

    NAME: ClassVar[str] = ""

    at: int
    job: str = field(default="", kw_only=True)


Tell = Callable[[Event], None]
"""What takes events, one after another."""


# Starting.


@dataclass(frozen=True, slots=True)
class Waiting(Event):
    """The start has to wait."""

    NAME: ClassVar[str] = "waiting"

    cause: str
    """``addresses``: the system still checks them; ``dns``: the name has no answer yet;
    ``sender``: no manifest has come yet."""

    waiting: str
    """In words."""


@dataclass(frozen=True, slots=True)
class Hashing(Event):
    """Bytes of the source that are hashed, and how many there are."""

    NAME: ClassVar[str] = "hashing"

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Spooling(Event):
    """Bytes of a folder or of standard input that are copied, and how many there are."""

    NAME: ClassVar[str] = "spooling"

    done: int
    total: int | None
    """None: it is not known before the end."""


@dataclass(frozen=True, slots=True)
class Unpacking(Event):
    """Bytes of a folder's files that are unpacked, and how many there are."""

    NAME: ClassVar[str] = "unpacking"

    done: int
    total: int | None
    """None: it is not known yet."""


@dataclass(frozen=True, slots=True)
class Encoding(Event):
    """Repair symbols that are computed ahead of the carousel, and how many will be."""

    NAME: ClassVar[str] = "encoding"

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class SendStarted(Event):
    """A sender begins."""

    NAME: ClassVar[str] = "start"

    manifest: Manifest
    interface: str
    source: str
    """The address that packets come from."""

    channels: tuple[SendChannel, ...]
    """By number, at rising rates."""

    replaces: int | None = None
    """The object that was sent before it, by the same sender; None: it is the first."""


@dataclass(frozen=True, slots=True)
class RepairStarted(Event):
    """A repairer has found its sender and begins."""

    NAME: ClassVar[str] = "start"

    manifest: Manifest
    group: str
    port: int
    interface: str
    rate: int
    nak_port: int
    sources: tuple[str, ...]
    """Addresses whose packets are asked for; none: whoever sends."""


@dataclass(frozen=True, slots=True)
class ReceiveStarted(Event):
    """A receiver listens."""

    NAME: ClassVar[str] = "start"

    group: str
    port: int
    interface: str
    sources: tuple[str, ...]
    """Addresses whose packets are asked for; none: whoever sends."""

    buffer: int
    """Bytes of the receive buffer."""

    output: str
    keys: tuple[bytes, ...]
    """Ids of the keys whose objects are taken; none: integrity is checked, origin is not."""


@dataclass(frozen=True, slots=True)
class InPlace(Event):
    """What a receiver that follows finds in place when it begins: it is not fetched."""

    NAME: ClassVar[str] = "in_place"

    path: str
    oid: int
    name: str
    stream: str
    """What it is a release of, if a key says so; else empty."""

    release: int
    """Its number; 0 without a key."""


@dataclass(frozen=True, slots=True)
class ReplayStarted(Event):
    """A capture is about to be read."""

    NAME: ClassVar[str] = "start"

    capture: str
    group: str
    port: int
    output: str
    keys: tuple[bytes, ...]
    """As of `ReceiveStarted`."""


@dataclass(frozen=True, slots=True)
class ExamineStarted(Event):
    """``doctor`` begins: what it was given, and for how long it will listen."""

    NAME: ClassVar[str] = "start"

    name: str
    """In DNS; empty: none was given."""

    group: str
    """Empty: DNS has it, and the port."""

    port: int
    interface: str
    """Empty: none was given."""

    seconds: float


# On the way.


@dataclass(frozen=True, slots=True)
class Adopted(Event):
    """The manifest of the object being received is in hand."""

    NAME: ClassVar[str] = "manifest"

    manifest: Manifest
    rate: int
    """bit/s that the sender announces; 0: not limited."""

    stored: int = 0
    """Symbols that are there already: whoever knows the disk fills this in."""

    signed_by: tuple[bytes, ...] = ()
    """Ids of the keys, of those that were given, that signed it; none: whose it is, is not
    known, nor whether its stream and release are what they say."""


@dataclass(frozen=True, slots=True)
class Superseded(Event):
    """Another object takes the place of object `oid`: starting anew."""

    NAME: ClassVar[str] = "superseded"

    oid: int
    by: int
    by_release: int | None = None
    """It is signed as this release; None: the senders of the first one are gone."""


@dataclass(frozen=True, slots=True)
class Damaged(Event):
    """What came for `block` does not match its digest."""

    NAME: ClassVar[str] = "damaged"

    oid: int
    block: int
    forged: int = 0
    """Symbols that turned out to be other ones than were sent, and were thrown away."""

    waits_for: int = 0
    """Symbols that come first, by which such ones are found; 0: nothing is waited for."""

    is_dropped: bool = False
    """All of it is fetched again."""

    set_aside: int = 0
    """Symbols that came from less credible sources than the others, and were thrown away."""


@dataclass(frozen=True, slots=True)
class NakDue(Event):
    """A receiver that is driven by a capture would send a NAK."""

    NAME: ClassVar[str] = "nak"

    endpoint: Endpoint
    symbols: tuple[tuple[int, int], ...]
    """Ranges of source symbols, the last of each included."""

    counts: tuple[tuple[int, int], ...]
    """Blocks, and how many symbols of each, whichever the repairer sends."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class SendProgress(Event):
    """About once a second."""

    NAME: ClassVar[str] = "progress"

    figures: SendFigures
    repairs: RepairFigures | None


@dataclass(frozen=True, slots=True)
class ReceiveProgress(Event):
    """About once a second."""

    NAME: ClassVar[str] = "progress"

    stored: int
    """Symbols that are stored."""

    symbols: int
    """Symbols of the object; 0: none was adopted yet."""

    has_manifest: bool
    time_left: float | None
    """Seconds until carousels will have brought what is missing; None: not known, as it is for
    objects without repair symbols."""

    figures: ReceiveFigures
    network: NetworkFigures


@dataclass(frozen=True, slots=True)
class PassedOn(Event):
    """Bytes of the object that standard output or the device has taken, and how many there are.

    About once a second, once all of it is here.
    """

    NAME: ClassVar[str] = "passed_on"

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something that somebody can mend, or that is mended; the work goes on."""

    NAME: ClassVar[str] = "warning"

    warning: str
    """In words."""

    cause: str = ""
    """A word of `pgmlite.core.causes`; empty: it is about none of these."""

    facts: Mapping[str, Fact] | None = None


@dataclass(frozen=True, slots=True)
class Hooked(Event):
    """The command for what was published begins or ends."""

    NAME: ClassVar[str] = "hook"

    phase: str
    """``started``, ``done`` or ``failed``."""

    attempt: int
    oid: int
    path: str
    program: str
    ending: HookEnding | None = None


# The end.


@dataclass(frozen=True, slots=True)
class Completed(Event):
    """The object is verified and in place: the end of a receiver, and what it returns."""

    NAME: ClassVar[str] = "complete"

    manifest: Manifest
    path: str
    is_new: bool
    """False: the output was this object already, and was not touched."""

    reused: int
    """Bytes that came from files here."""

    signed_by: tuple[bytes, ...]
    """As of `Adopted`."""

    per_source: Mapping[str, int]
    """Packets of the object by the address that they came from: of the first 64 addresses."""

    channel_seconds: tuple[float, ...]
    """How long each channel of the object was heard, lowest first; none if it has no ladder."""

    figures: ReceiveFigures
    network: NetworkFigures | None = None
    capture: CaptureFigures | None = None


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """An error ends it."""

    NAME: ClassVar[str] = "failed"

    error: PgmliteError


@dataclass(frozen=True, slots=True)
class ReceiveFailed(Failed):
    """An error ends a receiver."""

    stored: int
    symbols: int
    others: tuple[OtherObject, ...]
    """Other objects that were heard."""

    part: str
    """The partial file."""

    is_kept: bool
    """Something of the object is in it, for the next run."""

    figures: ReceiveFigures
    network: NetworkFigures


@dataclass(frozen=True, slots=True)
class ReplayFailed(Failed):
    """The capture ended, or an error ended its replay."""

    missing: tuple[tuple[int, int], ...]
    """(start, stop) bytes of the object."""

    figures: ReceiveFigures
    capture: CaptureFigures


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """The end of a sender or repairer, and what it returns if it has finished."""

    NAME: ClassVar[str] = "stopped"

    reason: str
    error: PgmliteError | None
    """None: it has sent what it was asked for."""

    figures: SendFigures
    repairs: RepairFigures | None


@dataclass(frozen=True, slots=True)
class Followed(Event):
    """The end of a receiver that follows, and what it returns: it was asked to stop."""

    NAME: ClassVar[str] = "stopped"

    reason: str
    objects: int
    """Those that it put in place."""

    fetched: int
    """Symbols that came and were stored, of all objects."""


@dataclass(frozen=True, slots=True)
class Examined(Event):
    """The end of ``doctor``: whether data arrives."""

    NAME: ClassVar[str] = "examined"

    error: PgmliteError | None
    """None: it does."""

    ok: int
    warnings: int
    failures: int
    """Results of checks by their state."""
