"""How a new output looks: as the one that it replaces, as far as the disk knows of such things."""

from __future__ import annotations

import os
import stat

from pgmlite.storage.folder import Folder
from pgmlite.storage.system import reason


def usual_mode() -> int:
    """Return the permissions that new files get."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def keeps_dress(folder: Folder, old: os.stat_result) -> bool:
    """Whether an output's owner and permissions are those that a new one shall have."""
    # Where others make files, what lies there may be laid for us.
    return old.st_uid == os.geteuid() or not folder.is_shared


def dress_of(folder: Folder, name: str) -> os.stat_result | None:
    """Return the output that a new one shall look like; None: there is none.

    Raises:
        OSError: The system does not say.
    """
    old = folder.status(name)
    is_kept = old and stat.S_ISREG(old.st_mode) and keeps_dress(folder, old)
    return old if is_kept else None


def dress(fd: int, old: os.stat_result | None, mode: int, warnings: list[str]) -> None:
    """Give a file the owner and the permissions of the `old` one; without one, `mode`.

    What the disk or the system refuse of that is a warning.
    """
    if old:
        _give_to(fd, (old.st_uid, old.st_gid), warnings)
        # Replacing a file keeps its permissions, as rewriting it would, but lends nobody's rights.
        mode = old.st_mode & 0o777
    if os.fstat(fd).st_mode & 0o777 == mode:
        return
    try:
        os.fchmod(fd, mode)
    except OSError as error:
        warnings.append(f"permissions {mode:03o}: {reason(error)}; others stay")


def _give_to(fd: int, owner: tuple[int, int], warnings: list[str]) -> None:
    status = os.fstat(fd)
    if (status.st_uid, status.st_gid) == owner:
        return
    for user, group in (owner, (-1, owner[1])):
        try:
            os.fchown(fd, user, group)
            break
        except OSError as error:
            refused = error
    else:
        warnings.append(f"owner {owner[0]}:{owner[1]}: {reason(refused)}; it is not kept")
        return
    if user < 0 and status.st_uid != owner[0]:
        warnings.append(f"owner {owner[0]}: {reason(refused)}; it is not kept")
