"""What a receiver asks of the place where an object goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pgmlite.core.machine import Complete
from pgmlite.net.waiting import Waits
from pgmlite.storage.contract import Part
from pgmlite.storage.record import Identity, PublishedRecord
from pgmlite.wire.manifest import Manifest

Before = Callable[[Identity | None], None]
"""Called right before an object is in place for good, with the identity that it will have there;
None: it will have none. What it raises keeps the object from being put in place."""


class Destination(Protocol):
    """Where objects go, one after the other; only one of them at a time."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def part(self) -> Part:
        """What has come so far."""

    @property
    def record(self) -> PublishedRecord | None:
        """Where what was published is remembered; None: nowhere, it can't be looked at again."""

    @property
    def needs_record(self) -> bool:
        """Whether it is told by its record alone what is there."""

    @property
    def is_begun(self) -> bool:
        """Whether bytes of the object have left this program: no other can take its place."""

    def identity(self) -> Identity | None:
        """Return the identity of what is there now; None: there is nothing, or it does not say."""

    @property
    def is_choosy(self) -> bool:
        """Whether only manifests tell which objects can go there."""

    def refuses(self, manifest: Manifest) -> str:
        """Return why an object can't go there, in a word of section 3.8; empty: it can."""

    def holds(self, manifest: Manifest) -> bool:
        """Whether all of an object is in place, so that nothing of it has to come.

        Where the bytes of what is there are compared anyway: False.
        """

    def publish(self, complete: Complete) -> Waits[bool]:
        """Put the verified object in place, at once and for good.

        Returns:
            False if it was there already, and nothing was touched.

        Raises:
            DiskError: It can't be; what came stays for the next run.
            Interrupted: It was asked to stop.
        """

    def close(self) -> None:
        """Close it; what came stays for the next run."""
