"""An object as a file."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pgmlite.core.events import Tell, Warned
from pgmlite.core.machine import Complete
from pgmlite.net.destinations.contract import Before
from pgmlite.net.waiting import Waits
from pgmlite.storage.part import PartFile
from pgmlite.storage.record import Identity, PublishedRecord, identity_of
from pgmlite.wire.manifest import Manifest


class FileDestination:
    """A file, which is replaced at once when everything is verified (spec: RCV-7)."""

    is_begun = False
    is_choosy = False
    needs_record = False

    def __init__(
        self,
        path: Path,
        before: Before,
        tell: Tell,
        *,
        bases: Sequence[Path] = (),
        output_is_seed: bool = True,
        verify_media: bool = False,
    ) -> None:
        """
        Args:
            bases: Files that may have a part of the object.
            output_is_seed: What the output has need not come again.
            verify_media: Read everything back from the disk before it is put in place.

        Raises:
            DiskError: As `PartFile`.
        """
        self._path = path
        with ExitStack() as opened:
            self.part = PartFile(
                path,
                bases=bases,
                output_is_seed=output_is_seed,
                verify_media=verify_media,
                before_rename=before,
            )
            opened.callback(self.part.close)
            self.record = PublishedRecord(
                path, lambda text: tell(Warned(time.monotonic_ns(), text))
            )
            opened.callback(self.record.close)
            self._opened = opened.pop_all()

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self._path)

    def identity(self) -> Identity | None:
        """Return that of the file."""
        try:
            return identity_of(os.stat(self._path))
        except OSError:
            return None

    def refuses(self, manifest: Manifest) -> str:
        """Take any."""
        return ""

    def holds(self, manifest: Manifest) -> bool:
        """Leave it to the partial file, which compares bytes."""
        return False

    def publish(self, complete: Complete) -> Waits[bool]:
        """Give the partial file its name, and close it.

        Raises:
            DiskError: As `PartFile.publish`.
        """
        yield from ()
        is_new = self.part.publish(complete)
        # A command may want to have it alone, as RAUC does.
        self.part.close()
        return is_new

    def close(self) -> None:
        """Close all."""
        self._opened.close()
