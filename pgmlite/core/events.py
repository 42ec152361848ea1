"""What happens, as one stream of typed events: what a program, a terminal and metrics go by.

Machines put events among their actions, loops pass them on and add their own. An event has facts
and a time; words for people are made elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgmlite.wire.control import Manifest


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        at: When, in ns of the clock that the machine is driven by.
    """

    at: int


@dataclass(frozen=True, slots=True)
class Adopted(Event):
    """The manifest of the object being received is in hand."""

    manifest: Manifest
    rate: int
    """bit/s that the sender announces; 0: not limited."""


@dataclass(frozen=True, slots=True)
class Superseded(Event):
    """The senders of object `oid` are gone and another object is on offer: starting anew."""

    oid: int
    by: int


@dataclass(frozen=True, slots=True)
class Damaged(Event):
    """What was stored for `block` does not match its digest: it will be fetched again."""

    oid: int
    block: int
