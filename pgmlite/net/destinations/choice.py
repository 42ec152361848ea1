"""What kind of destination an output is, and how it is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pgmlite.core.events import Tell
from pgmlite.errors import UsageError
from pgmlite.net.destinations.contract import Before, Destination
from pgmlite.net.destinations.device import DeviceDestination
from pgmlite.net.destinations.file import FileDestination
from pgmlite.net.destinations.pipe import PipeDestination
from pgmlite.storage.record import MAX_FOLDERS
from pgmlite.storage.spool import spool_folder


class Kind(StrEnum):
    """Kinds of destinations."""

    FILE = "file"
    FOLDER = "folder"
    """Named with a slash at its end."""

    PIPE = "pipe"
    """Standard output: ``-``."""

    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Where:
    """A destination as the user names it.

    Attributes:
        spool: The folder of partial files that can't be beside it; None: the system's for
            temporary files.
        keep: How many folders that were replaced are kept.
    """

    kind: Kind
    path: Path
    spool: Path | None = None
    keep: int = 0


def parse_where(
    output: str | None, *, device: str | None = None, spool: str | None = None, keep: int = 0
) -> Where:
    """Return what a user names.

    Raises:
        UsageError: Nothing is named, or too much.
    """
    kind, path = _kind_and_path(output, device)
    if not path:
        raise UsageError("output: is empty; name the file to write", cause="output")
    if spool is not None and kind not in (Kind.PIPE, Kind.DEVICE):
        raise UsageError(
            "spool: is for an output of - and for devices; what comes lies beside any other",
            cause="spool",
        )
    if keep and kind is not Kind.FOLDER:
        raise UsageError("keep: is for folders, named with a / at the end", cause="keep")
    if not 0 <= keep <= MAX_FOLDERS:
        raise UsageError(f"keep {keep}: give 0 to {MAX_FOLDERS}", cause="keep")
    return Where(kind, Path(path), None if spool is None else Path(spool), keep)


def _kind_and_path(output: str | None, device: str | None) -> tuple[Kind, str]:
    """
    Raises:
        UsageError: Nothing is named, or both.
    """
    if device is not None:
        if output is not None:
            raise UsageError("device: takes the place of an output; leave one out", cause="device")
        return Kind.DEVICE, device
    if output is None:
        raise UsageError(
            "output: is missing; name a file, a folder with a / at the end, or -; or else a device",
            cause="output",
        )
    if output == "-":
        return Kind.PIPE, output
    return Kind.FOLDER if output.endswith(os.sep) else Kind.FILE, output


def open_destination(
    where: Where,
    before: Before,
    tell: Tell,
    *,
    bases: Sequence[Path] = (),
    output_is_seed: bool = True,
    verify_media: bool = False,
) -> Destination:
    """Open a destination.

    Args:
        output_is_seed: What a file or folder has already need not come again.

    Raises:
        DiskError: It can't be used.
        UsageError: An argument is not for its kind.
    """
    match where.kind:
        case Kind.FILE:
            return FileDestination(
                where.path,
                before,
                tell,
                bases=bases,
                output_is_seed=output_is_seed,
                verify_media=verify_media,
            )
        case Kind.PIPE:
            if verify_media:
                raise UsageError(
                    "verify_media: is for what stays here; nothing can be read back from -",
                    cause="verify_media",
                )
            spool = spool_folder(where.spool, os.environ)
            return PipeDestination(spool, before, tell, bases=bases)
        case Kind.DEVICE:
            return DeviceDestination(
                where.path,
                spool_folder(where.spool, os.environ),
                before,
                tell,
                bases=bases,
                verify_media=verify_media,
            )
        case Kind.FOLDER:
            # Imported where it is used: others start sooner without it.
            from pgmlite.net.destinations.folder import FolderDestination

            return FolderDestination(
                where.path,
                where.keep,
                before,
                tell,
                bases=bases,
                output_is_seed=output_is_seed,
                verify_media=verify_media,
            )
