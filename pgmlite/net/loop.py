"""What the loops that drive a receiver share: what it says of disks, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgmlite.core.events import Adopted, Event, Tell, Warned
from pgmlite.core.machine import SECOND, Action, Decode, Prepare, Store, Verify

if TYPE_CHECKING:
    # A sender starts sooner without them.
    from pgmlite.core.decode import Decoded
    from pgmlite.core.receive.receiver import Receiver
    from pgmlite.storage.contract import Part

REPORT_EVERY = 1 * SECOND

REJOIN_AFTER = 5 * SECOND
"""Silence after which the group is joined anew: a switch may have forgotten us."""

EXPECTED_SYMBOL_SIZE = 1_404
"""Bytes; what senders on one Ethernet choose. A guess: others cost one more copy, once."""


def tell_of_disk(now: int, part: Part, tell: Tell) -> None:
    """Pass on what the disk refused, and was gone on without."""
    while part.warnings:
        tell(Warned(now, part.warnings.pop(0)))


def attend(action: Action, machine: Receiver, part: Part, tell: Tell) -> list[Action]:
    """Do what a receiver says of disks, and pass its events on; return what follows from it.

    Raises:
        DiskError: The disk refuses.
    """
    match action:
        case Store():
            part.store(action.pieces(), action.lying)
        case Decode():
            return take_decoded(part.decode(action), machine, part)
        case Verify():
            ok = part.matches(action.offset, action.length, action.digest)
            return machine.verified(action.oid, action.block, ok=ok)
        case Prepare():
            return machine.resume(action.oid, part.prepare(action))
        case Adopted():
            part.begin(action.manifest)
            tell(replace(action, stored=machine.progress[0]))
        case Event():
            tell(action)
    return []


def take_decoded(decoded: Decoded, machine: Receiver, part: Part) -> list[Action]:
    """Put a decoded block in its place, and tell the machine; return what follows from it.

    Raises:
        DiskError: The disk refuses.
    """
    action, ok = decoded.action, part.place(decoded)
    return machine.decoded(
        action.oid, action.block, lacks=decoded.lacks, forged=decoded.forged, ok=ok
    )
