"""A path whose content is replaced, as a sender that follows it looks at it (spec: SND-17)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pgmlite.storage.system import close_quietly

QUIET = 1_000_000_000
"""ns without a change after which nobody writes there any more."""


@dataclass(frozen=True, slots=True)
class Look:
    """What stands at a path.

    Attributes:
        inode: Device and inode; None: nothing is there, or nothing that can be looked at.
        change: Size and times, ns: of content and of status.
    """

    inode: tuple[int, int] | None
    change: tuple[int, int, int] = (0, 0, 0)


def look_at(path: Path | int) -> Look:
    """Return what stands at a path, or is open; links are followed."""
    try:
        found = os.stat(path)
    except OSError:
        return Look(None)
    return Look((found.st_dev, found.st_ino), (found.st_size, found.st_mtime_ns, found.st_ctime_ns))


class Watched:
    """The path whose renames count, and what was there when it was last taken up.

    That stays open, so that nothing else gets the number of its inode.
    """

    def __init__(self, path: Path, beside: Path | None = None) -> None:
        """
        Args:
            beside: A second path that belongs to the first: what is written there counts, and a
                rename counts as written.
        """
        self.path = path
        self._beside = beside
        self._fd = -1
        self._seen = self._latest = (Look(None), Look(None))
        self._since = 0
        self._is_dirty = False

    def take(self) -> None:
        """Note what is there now: it is about to be opened."""
        self.close()
        try:
            self._fd = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            self._fd = -1
        mine = look_at(self._fd) if self._fd >= 0 else Look(None)
        self._seen = self._latest = (mine, self._look_beside())
        self._is_dirty = False

    def _look_beside(self) -> Look:
        return look_at(self._beside) if self._beside else Look(None)

    def soil(self, now: int) -> None:
        """Note that what was taken up is not what is there any more, though the name is."""
        self._is_dirty, self._since = True, now

    @property
    def is_gone(self) -> bool:
        """Whether nothing is there."""
        return look_at(self.path).inode is None

    @property
    def is_replaced(self) -> bool:
        """Whether something else is there than was taken up."""
        return look_at(self.path).inode not in (None, self._seen[0].inode)

    def has_settled(self, now: int) -> bool:
        """Whether something was written there since it was taken up, and nothing lately.

        To be asked again and again.
        """
        found = look_at(self.path), self._look_beside()
        if found != self._latest:
            self._latest, self._since, self._is_dirty = found, now, True
        return self._is_dirty and now - self._since >= QUIET and found[0].inode is not None

    def close(self) -> None:
        """Let go of what was taken up."""
        if self._fd >= 0:
            close_quietly(self._fd)
            self._fd = -1
