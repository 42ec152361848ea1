"""An object as a folder: the archive of one, unpacked (spec: FLD-5 to FLD-10)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Thread

import psutil

from pgmlite.core.events import Tell, Unpacking, Warned
from pgmlite.core.machine import Complete
from pgmlite.errors import DiskError, ObjectError
from pgmlite.net.destinations.contract import Before
from pgmlite.net.hashing import work_beside
from pgmlite.net.limits import MEMORY_SHARE
from pgmlite.net.waiting import Waits
from pgmlite.storage.archive_part import ArchivePart
from pgmlite.storage.exchange import Exchange
from pgmlite.storage.listing import folder_identity, folder_mark
from pgmlite.storage.record import Identity, Mark, PublishedRecord
from pgmlite.storage.spooled import Report
from pgmlite.storage.survey import check_library
from pgmlite.storage.system import close_quietly
from pgmlite.storage.unpack import MEMBER_MEMORY, Unpacker, judge
from pgmlite.wire.manifest import Archive, Manifest


def memory_here() -> int:
    """Return how many bytes of memory the members of an archive may take."""
    return int(psutil.virtual_memory().total) // MEMORY_SHARE


class FolderDestination:
    """A folder, which is replaced at once when everything is verified and unpacked."""

    is_begun = False
    is_choosy = True
    needs_record = True

    def __init__(
        self,
        path: Path,
        keep: int,
        before: Before,
        tell: Tell,
        *,
        bases: Sequence[Path] = (),
        output_is_seed: bool = True,
        verify_media: bool = False,
    ) -> None:
        """
        Args:
            keep: How many folders that were replaced are kept, as ``DIR.1`` and so on.
            bases: Files that may have a part of the archive.
            output_is_seed: What is in place already need not come again.
            verify_media: Read everything back from the disk before it is put in place.

        Raises:
            UsageError: This Python can't judge archives.
            DiskError: No folder can be put there, or what is there is not ours to replace; or as
                `PartFile`.
        """
        check_library()
        self._user_path = path
        self._before, self._tell = before, tell
        self._verify_media = verify_media
        self._is_seed = output_is_seed
        self._removal: Thread | None = None
        with ExitStack() as opened:
            self.part = ArchivePart(path, bases=bases, verify_media=verify_media)
            opened.callback(self.part.close)
            self._path = self.part.output
            self.record = PublishedRecord(self._path, self._warn)
            opened.callback(self.record.close)
            self.record.check()
            self._exchange = Exchange(self._path, keep, self.part.warnings)
            opened.callback(self._exchange.close)
            named = self.record.peek()
            self._exchange.kept.check(self.record.kept)
            self._exchange.mend(named, self.record.kept)
            self._check()
            self._opened = opened.pop_all()

    def _warn(self, text: str) -> None:
        self._tell(Warned(time.monotonic_ns(), text))

    def _check(self) -> None:
        """Make sure that what is there may be replaced.

        Raises:
            DiskError: It may not.
        """
        if not self._exchange.kept.most and not self._is_ours() and not self._exchange.is_empty():
            raise DiskError(
                f"output {self.name}: has files that no recv put there; move it away, or keep it "
                "with --keep 1"
            )

    def _is_ours(self) -> bool:
        """Whether the record names the folder, whatever was changed in it since."""
        named = self.record.latest
        return named is not None and named.mark == self._mark()

    def _mark(self) -> Mark | None:
        """Return which folder is in place; None: none is, or it can't be told."""
        with contextlib.suppress(OSError):
            return folder_mark(self._path)
        return None

    @property
    def name(self) -> str:
        """The folder's path, and a slash."""
        return f"{self._user_path}{os.sep}"

    def identity(self) -> Identity | None:
        """Return that of the folder: what it has in it, without a look inside."""
        return folder_identity(self._path)

    def refuses(self, manifest: Manifest) -> str:
        """Refuse files, and archives for which there is no room."""
        archive = manifest.archive
        if archive is None:
            return "archive"
        if self.holds(manifest):
            return ""
        if archive.entries > memory_here() // MEMBER_MEMORY:
            return "too_large"
        return "" if self.part.has_room_unpacked(manifest, archive) else "disk"

    def holds(self, manifest: Manifest) -> bool:
        """Whether the record says that the folder is the object, and it was not changed since."""
        named, found = self.record.latest, None
        # What others can have put there is no reason to say that something is verified.
        if self._is_seed and named and named.is_of(manifest) and self.record.is_believed:
            found = self.identity()
        self.part.is_there = named is not None and found is not None and named.names(found)
        return self.part.is_there

    def publish(self, complete: Complete) -> Waits[bool]:
        """Unpack the archive, and give the folder its name.

        Raises:
            ObjectError: It is no archive that can be unpacked.
            DiskError: The disk refuses, or somebody put files in the way.
            Interrupted: It was asked to stop.
        """
        manifest = complete.manifest
        if self.part.is_there:
            if not self.holds(manifest):
                raise DiskError(f"output {self.name}: another program changed it; try again")
            self.part.reused = manifest.size
            self.part.drop()
            return False
        self.part.steady(complete)
        try:
            yield from work_beside(partial(self._unpack, manifest), self._tell, Unpacking)
            self.part.check_untouched()
            self._put()
        except ObjectError as error:
            raise ObjectError(f"output {self.name}: {error}; it is not unpacked") from error
        finally:
            # What failed, or what was replaced; the command need not wait for that.
            self._removal = Thread(target=self._exchange.discard, name="removal")
            self._removal.start()
        self.part.drop()
        return True

    def _unpack(self, manifest: Manifest, report: Report) -> None:
        """Unpack the archive beside the folder, for good."""
        fd, announced = self.part.fd, manifest.archive or Archive(0, 0)
        members = judge(
            fd,
            manifest.size,
            announced,
            report,
            folds_case=self.part.folds_case,
            memory=memory_here(),
        )
        tree = self._exchange.make()
        try:
            work = Unpacker(fd, members, tree, self.name, self.part.warnings)
            work.run(report, reads_back=self._verify_media)
        finally:
            close_quietly(tree)

    def _put(self) -> None:
        """Put what was unpacked in place.

        Raises:
            DiskError: It can't be.
        """
        was, is_ours = self.record.latest, self._is_ours()
        self._check()
        self._exchange.kept.check(self.record.kept)
        found = self._exchange.identity()
        if found is None:
            raise DiskError(
                f"output {self.name}: what was unpacked is not there any more, or can't be read"
            )
        # Noted before it is replaced: whatever ends this process, it is known to be kept.
        replaced = self._mark() if self._exchange.kept.most or is_ours else None
        others = [one for one in self._exchange.kept.marks(self.record.kept) if one != replaced]
        self.record.kept = (*filter(None, (replaced,)), *others)
        self._before(found)
        try:
            self._exchange.put(was.inode if was and is_ours else 0)
        except DiskError:
            # What is in place stays ours: the next run may replace it.
            with contextlib.suppress(DiskError):
                if was:
                    self.record.write(was)
            raise

    def close(self) -> None:
        """Close all, once what was replaced is gone."""
        if self._removal:
            self._removal.join()
        while self.part.warnings:
            self._warn(self.part.warnings.pop(0))
        self._opened.close()
