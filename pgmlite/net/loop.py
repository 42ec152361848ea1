"""What every loop that drives a machine shares: signals, the listener, disks, waiting."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from pgmlite.core.events import Adopted, Damaged, Superseded
from pgmlite.core.machine import (
    MS,
    SECOND,
    Action,
    Prepare,
    Store,
    Verify,
)
from pgmlite.errors import Interrupted

if TYPE_CHECKING:
    # A sender starts sooner without them.
    from pgmlite.core.receive.receiver import Receiver
    from pgmlite.storage.part import PartFile

POLL = 100 * MS
"""Longest wait before signals and time limits are looked at again."""

REPORT_EVERY = 1 * SECOND

EXPECTED_SYMBOL_SIZE = 1_404
"""Bytes; what senders on one Ethernet choose. A guess: others cost one more copy, once."""


class Stop:
    """Turns SIGINT and SIGTERM into `Interrupted` at the next safe point."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None

    def install(self) -> None:
        """Take over both signals, in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)

    def check(self) -> None:
        """
        Raises:
            Interrupted: A signal came.
        """
        if self._signal:
            raise Interrupted(f"stopped by {self._signal.name}")


class Listener(Protocol):
    """What the loops tell the user."""

    def adopted(self, action: Adopted) -> None:
        """The manifest came."""

    def superseded(self, action: Superseded) -> None:
        """Another object took this one's place."""

    def damaged(self, action: Damaged) -> None:
        """A block did not verify and will be fetched again."""

    def progress(self) -> None:
        """Called about once a second."""

    def warn(self, text: str, **facts: Any) -> None:
        """Something the user can mend; `facts` are for programs, `cause` a word among them."""


def sleep(nanoseconds: int) -> None:
    """Sleep, but not past the next look at signals."""
    if nanoseconds > 0:
        time.sleep(min(nanoseconds, POLL) / SECOND)


def tell_of_disk(part: PartFile, listener: Listener) -> None:
    """Pass on what the disk refused, and was gone on without."""
    while part.warnings:
        listener.warn(part.warnings.pop(0))


def attend(action: Action, machine: Receiver, part: PartFile, listener: Listener) -> list[Action]:
    """Do what a receiver says of disks and people; return what follows from it.

    Raises:
        DiskError: The disk refuses.
    """
    match action:
        case Store():
            part.store(action.pieces())
        case Verify():
            ok = part.matches(action.offset, action.length, action.digest)
            return machine.verified(action.oid, action.block, ok=ok)
        case Prepare():
            return machine.resume(action.oid, part.prepare(action))
        case Adopted():
            part.begin(action.manifest)
            listener.adopted(action)
        case Superseded():
            listener.superseded(action)
        case Damaged():
            listener.damaged(action)
    return []
