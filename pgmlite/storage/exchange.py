"""How a folder takes the place of another: at once, and whatever is in the way of that is mended.

Beside ``DIR`` there may be, all of them for a while only (spec: FLD-8):

* ``DIR.unpacking``: what is being unpacked or removed. It can go at any time, unless the record
  names it: then it is whole, and about to be put in place.
* ``DIR.new``: a whole folder. If the record names it, it shall be in place; else it was.
* ``DIR.old``: what was in place, where the file system can't exchange names.

The record is written before the first of the names changes, so that it says after a kill at any
instant which of them is what.

Where others may rename what is beside it, a name says nothing: what is put in place is the folder
that was made here, and what is removed is that or one that the record names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container
from pathlib import Path

from pgmlite.errors import DiskError
from pgmlite.storage.folder import lets_others_rename
from pgmlite.storage.listing import folder_identity
from pgmlite.storage.neighbours import Kept, Tick, Unpacking, failed
from pgmlite.storage.record import Identity, Mark, Publication
from pgmlite.storage.removal import remove_tree
from pgmlite.storage.syscalls import exchange_names, rename_alone
from pgmlite.storage.system import beside, close_quietly, reason, status_at, sync_all


class Exchange:
    """The names of a folder that is replaced, and of those that were before it.

    Attributes:
        path: The folder.
        kept: Folders that were replaced.
    """

    def __init__(self, path: Path, keep: int, warnings: list[str]) -> None:
        """
        Args:
            keep: How many folders that were replaced are kept, as ``DIR.1`` and so on.
            warnings: What the user should know is added here.

        Raises:
            DiskError: What the folder is in can't be opened.
        """
        self.path = path
        self._warnings = warnings
        self._unpacking, self._new, self._old = (
            beside(path, suffix).name for suffix in (".unpacking", ".new", ".old")
        )
        try:
            self._fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._is_shared = lets_others_rename(os.fstat(self._fd))
        except OSError as error:
            raise failed(self.path, error) from error
        self._made = Unpacking(self._unpacking, self._fd)
        self.kept = Kept(path, keep, self._fd, self._made)

    def is_empty(self) -> bool:
        """Whether there is no folder, or nothing in it.

        Raises:
            DiskError: That can't be told.
        """
        try:
            return next(self.path.iterdir(), None) is None
        except FileNotFoundError:
            return True
        except OSError as error:
            raise failed(self.path, error) from error

    # Starting.

    def mend(self, named: Publication | None, kept: Container[Mark]) -> None:
        """Finish what a run began that was killed, and clear away what it left.

        Args:
            named: What the record says was about to be in place.
            kept: What was to be kept by then, or removed, and what was kept before.

        Raises:
            DiskError: Something is in the way that is not ours, or the disk refuses.
        """
        try:
            for name in (self._unpacking, self._new, self._old):
                self._check_ours(name, is_begun=named is not None)
            self._finish(named, kept)
            self._clear()
            for name in (self._old, self._new):
                if status_at(name, dir_fd=self._fd):
                    self._bring_away(name, is_kept=self.kept.is_one_of(name, kept))
            self._made.remove()
        except OSError as error:
            raise failed(self.path, error) from error

    def _finish(self, named: Publication | None, kept: Container[Mark]) -> None:
        """Have the new folder in place, unless somebody put another one there since."""
        whole = next((n for n in (self._unpacking, self._new) if self._is(n, named)), None)
        name = self.path.name
        if whole and (self.is_empty() or self.kept.is_one_of(name, kept)):
            if whole == self._unpacking:
                rename_alone(self._unpacking, self._new, dir_fd=self._fd)
            self._put_new()
        elif whole == self._new:
            self._clear()
            rename_alone(self._new, self._unpacking, dir_fd=self._fd)
        elif status_at(name, dir_fd=self._fd) is None and self.kept.is_one_of(self._old, kept):
            rename_alone(self._old, name, dir_fd=self._fd)

    def _bring_away(self, name: str, *, is_kept: bool) -> None:
        to = self._save(name, is_kept=is_kept)
        self._warnings.append(
            f"output {self.path}: a run that was killed had replaced a folder; it is {to} now"
            if is_kept
            else f"{self.path.with_name(name)}: is a name that recv needs; what had it is {to} now"
        )

    def _check_ours(self, name: str, *, is_begun: bool) -> None:
        """Make sure that nobody else's folder has one of our names.

        Args:
            is_begun: There is a record.

        Raises:
            DiskError: One has.
            OSError: That can't be told.
        """
        status = status_at(name, dir_fd=self._fd)
        if status and not (stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()):
            raise DiskError(f"{self.path.with_name(name)}: is not ours; move it away")
        # The record is older than these names: without one they are somebody's own folders.
        if status and not is_begun and name != self._unpacking:
            raise DiskError(
                f"{self.path.with_name(name)}: is there, and no recv put it there; move it away"
            )

    def _clear(self) -> None:
        """Make sure that nothing is called as what is being unpacked.

        Raises:
            DiskError: What is there is not ours.
            OSError: As the system says.
        """
        self._check_ours(self._unpacking, is_begun=True)
        status = status_at(self._unpacking, dir_fd=self._fd)
        if status is None:
            return
        if not self._is_shared:
            remove_tree(self._unpacking, dir_fd=self._fd)
            return
        if status.st_ino in self._made.removable:
            self._made.remove()
            return
        to = self.kept.set_aside(self._unpacking)
        self._warnings.append(
            f"{self.path.with_name(self._unpacking)}: is {to} now and not removed: others may "
            "rename what is there, so it may be anything"
        )

    def _is(self, name: str, named: Publication | None) -> bool:
        """Whether a folder is the one that the record names."""
        found = folder_identity(name, dir_fd=self._fd)
        return named is not None and found is not None and named.names(found)

    # Unpacking, and putting in place.

    def make(self) -> int:
        """Make the new folder, which only we can enter; return its descriptor.

        Raises:
            DiskError: The disk refuses, or what is in the way is not ours.
        """
        try:
            self._clear()
            return self._made.make()
        except OSError as error:
            raise failed(self.path, error) from error

    def identity(self) -> Identity | None:
        """Return that of the new folder; None: it is not there, or can't be looked at."""
        return self._made.identity()

    def discard(self, tick: Tick = lambda: None) -> None:
        """Remove the new folder, or what was replaced; what can't be removed is said."""
        try:
            self._made.remove(tick)
        except OSError as error:
            self._warnings.append(
                f"{self.path.with_name(self._unpacking)}: can't be removed: {reason(error)}"
            )

    def put(self, ours: int) -> None:
        """Put the new folder in place, at once; what was there is kept, or left to `discard`.

        Args:
            ours: The inode of what an earlier run put there; of others only an empty folder may
                go. 0: none did.

        Raises:
            DiskError: It can't be; what was in place still is.
        """
        try:
            rename_alone(self._unpacking, self._new, dir_fd=self._fd)
            try:
                self._made.check_at(self._new)
                gone = self._put_new()
            except OSError:
                rename_alone(self._new, self._unpacking, dir_fd=self._fd)
                raise
        except OSError as error:
            raise failed(self.path, error) from error
        # From here on the folder is new: what goes wrong now is no failure to put it in place.
        try:
            self._made.check_at(self.path.name)
        except FileExistsError as error:
            raise failed(self.path, error) from error
        except OSError as error:
            self._warnings.append(f"output {self.path} is in place, but: {reason(error)}")
        try:
            sync_all(self._fd)
            if gone:
                self._put_away(gone, ours)
        except OSError as error:
            self._warnings.append(f"output {self.path} is in place, but: {reason(error)}")

    def _put_new(self) -> str:
        """Put the new folder in place; return the name of what was there, if anything was.

        Raises:
            OSError: As the system says; what was in place still is.
        """
        name = self.path.name
        if status_at(name, dir_fd=self._fd) is None:
            rename_alone(self._new, name, dir_fd=self._fd)
            return ""
        if exchange_names(self._new, name, dir_fd=self._fd):
            return self._new
        rename_alone(name, self._old, dir_fd=self._fd)
        try:
            rename_alone(self._new, name, dir_fd=self._fd)
        except OSError:
            rename_alone(self._old, name, dir_fd=self._fd)
            raise
        return self._old

    def _put_away(self, gone: str, ours: int) -> None:
        """Keep what was replaced, or have it removed.

        Raises:
            OSError: As the system says.
        """
        if self.kept.most:
            self.kept.rotate(gone)
        elif ours and (status := status_at(gone, dir_fd=self._fd)) and status.st_ino == ours:
            self._made.removable.add(ours)
            rename_alone(gone, self._unpacking, dir_fd=self._fd)
        else:
            try:
                os.rmdir(gone, dir_fd=self._fd)
            except OSError:
                to = self._save(gone, is_kept=False)
                self._warnings.append(
                    f"output {self.path}: somebody put files there meanwhile; they are in {to}"
                )

    def _save(self, gone: str, *, is_kept: bool) -> Path:
        """Save a folder, whether or not any are kept; return where it is.

        Args:
            is_kept: It may be the first of those that are kept.

        Raises:
            OSError: As the system says.
        """
        if self.kept.most and is_kept:
            self.kept.rotate(gone)
            return beside(self.path, ".1")
        # What has such a name is not there to make room, and this is not there to go.
        return self.kept.set_aside(gone)

    def close(self) -> None:
        """Close it."""
        self._made.close()
        close_quietly(self._fd)
