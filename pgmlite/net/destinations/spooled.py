"""What pipes and devices have in common: a partial file in a spool, and a pump that empties it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pgmlite.core.events import PassedOn, Tell
from pgmlite.core.machine import SECOND
from pgmlite.errors import DiskError
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.storage.part import PartFile
from pgmlite.storage.pump import Pump
from pgmlite.storage.seeds import Block
from pgmlite.storage.spool import PlaceSeed
from pgmlite.wire.manifest import Manifest

TELL_EVERY = 1 * SECOND

SPOILT = "partial file: another program changed it at byte {at}; try again"


class Spooled:
    """Passes on what is verified; as `storage.spool.Passing` has it."""

    def __init__(self, pump: Pump, tell: Tell) -> None:
        """
        Args:
            pump: Is closed by whoever made it.
        """
        self._pump = pump
        self._tell = tell

    def place(self) -> PlaceSeed | None:
        """Return where the object goes, as far as that can be read."""
        return None

    def begin(self, part: PartFile) -> None:
        """Pass on the object of a partial file."""
        self._pump.begin(part.fd, f"partial file {part.path}")

    def expect(self, manifest: Manifest) -> None:
        """Take any object."""

    def take_spoilt(self) -> Sequence[Block]:
        """Return blocks that were changed before they were passed on."""
        return self._pump.take_spoilt()

    def check(self) -> None:
        """
        Raises:
            DiskError: A block could not be read, or not be passed on.
        """
        self._pump.check()

    def look(self) -> None:
        """See whether something can be passed on.

        Raises:
            DiskError: Nothing can.
        """
        self.check()

    def end(self) -> None:
        """Pass on nothing more."""
        self._pump.forget()

    def drain(self, size: int) -> Waits[None]:
        """Wait until all that was verified is passed on.

        Args:
            size: Bytes of the object.

        Raises:
            DiskError: It can't be; or another program wrote to the partial file.
            Interrupted: It was asked to stop.
        """
        pump, tell_at = self._pump, time.monotonic_ns() + TELL_EVERY
        while not pump.is_idle:
            self.check()
            yield Wait(POLL, (pump.fd,))
            pump.calm()
            now = time.monotonic_ns()
            if now >= tell_at:
                tell_at = now + TELL_EVERY
                self._tell(PassedOn(now, pump.done, size))
        self.check()
        if spoilt := pump.take_spoilt():
            raise DiskError(SPOILT.format(at=spoilt[0].offset))
