"""The partial file of an archive that becomes a folder (spec: FLD-7, FLD-9)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from pgmlite.core.machine import Complete
from pgmlite.errors import DiskError
from pgmlite.storage.folder import resolve_folder
from pgmlite.storage.part import PartFile
from pgmlite.storage.system import room_of
from pgmlite.wire.manifest import Archive, Manifest


class ArchivePart(PartFile):
    """``DIR.part`` beside the folder; what is in the folder is no seed.

    Attributes:
        is_there: The folder is the object already: nothing is written.
    """

    resolve = staticmethod(resolve_folder)

    def __init__(
        self, output: Path, *, bases: Sequence[Path] = (), verify_media: bool = False
    ) -> None:
        """
        Args:
            output: The folder; else as `PartFile`.

        Raises:
            DiskError: No folder can be put there; else as `PartFile`.
        """
        self.is_there = False
        super().__init__(output, bases=bases, output_is_seed=False, verify_media=verify_media)

    def has_room_unpacked(self, manifest: Manifest, archive: Archive) -> bool:
        """Whether an archive fits, and beside it what is in it; as far as the disk says."""
        try:
            disk = os.fstatvfs(self.fd)
        except OSError:
            return True
        # A file, or a folder, takes whole blocks of the disk.
        unpacked = archive.size + archive.entries * disk.f_frsize
        if manifest.size + unpacked > room_of(self.fd):
            return False
        return not disk.f_files or archive.entries <= disk.f_favail

    @property
    def folds_case(self) -> bool:
        """Whether the disk takes names for one that differ in case."""
        try:
            other = os.stat(self.path.with_name(self.path.name.swapcase()))
            return os.path.samestat(other, os.fstat(self.fd))
        except OSError:
            return False

    def begin(self, manifest: Manifest) -> None:
        """Expect the object of `manifest`, unless it is there.

        Raises:
            DiskError: It does not fit.
        """
        if not self.is_there:
            super().begin(manifest)

    def settle(self, complete: Complete) -> list[int]:
        """As of `PartFile`; of an object that is there nothing was written.

        Raises:
            DiskError: As of `PartFile`.
        """
        return [] if self.is_there else super().settle(complete)

    def steady(self, complete: Complete) -> None:
        """Make sure that what was verified is what is there, up to now.

        Raises:
            DiskError: Another program writes to it.
        """
        self._content.steady(complete)

    def check_untouched(self) -> None:
        """Make sure that what was read since `steady` is what was verified.

        Raises:
            DiskError: It may not be.
        """
        self._content.watch()
        if self._content.is_touched:
            raise DiskError(f"partial file {self.path}: another program wrote to it; try again")

    def drop(self) -> None:
        """Have the file go: what is in it is in place."""
        if self.is_there and self._is_of_another:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, 0)
            self._folder.drop_empty(self.path.name, self.fd)
        if not self.is_there:
            self.write_back.remove()
