"""Who uses a block device: mounts, swap, and devices that are made of it (spec: RCV-28)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
SWAPS = Path("/proc/swaps")
DEVICES = Path("/sys/dev/block")


def number_text(number: int) -> str:
    """Return the number of a device as the system writes it: major and minor."""
    return f"{os.major(number)}:{os.minor(number)}"


def is_read_only(number: int) -> bool:
    """Whether the system takes no writes to a device."""
    return _line(DEVICES / number_text(number) / "ro") == "1"


def use_of(number: int) -> str:
    """Return who uses a device or a part of it, in words; empty: nobody, as far as can be seen."""
    for one, name in _device_and_parts(number):
        what = f"its partition {name} is" if name else "is"
        for used, where in _mounted():
            if used == one:
                return f"{what} mounted at {where}; unmount it first"
        if one in _swaps():
            return f"{what} used as swap; swapoff it first"
        if holders := _names(DEVICES / one / "holders"):
            return f"{what} a part of {', '.join(holders)}; take that apart first"
    return ""


def is_mount_point(path: Path) -> bool:
    """Whether a disk, or a folder of one, is mounted at a path."""
    real = os.path.realpath(path)
    return os.path.ismount(real) or any(where == real for _, where in _mounted())


def _device_and_parts(number: int) -> Iterator[tuple[str, str]]:
    """Yield the number of a device, and those of its partitions with their names."""
    device = number_text(number)
    yield device, ""
    folder = DEVICES / device
    for name in _names(folder):
        if (folder / name / "partition").exists() and (part := _line(folder / name / "dev")):
            yield part, name


def _mounted() -> Iterator[tuple[str, str]]:
    """Yield the number of each device that is mounted here, and where."""
    for line in _lines(MOUNTS):
        left, _, right = line.partition(" - ")
        fields, source = left.split(), right.split()
        if len(fields) < 5 or len(source) < 2:
            continue
        where = _unescaped(fields[4])
        yield fields[2], where
        # Some file systems have numbers of their own: what they are mounted from says more.
        if number := _number_of(_unescaped(source[1])):
            yield number, where


def _swaps() -> set[str]:
    """Return the numbers of devices that are swap."""
    return {_number_of(_unescaped(line.split()[0])) for line in _lines(SWAPS)[1:] if line.split()}


def _number_of(path: str) -> str:
    """Return the number of a block device; empty: it is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    return number_text(status.st_rdev) if stat.S_ISBLK(status.st_mode) else ""


def _unescaped(text: str) -> str:
    r"""Return a path of these lists, in which blanks are written as ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []


def _line(path: Path) -> str:
    return next(iter(_lines(path)), "")


def _names(path: Path) -> list[str]:
    try:
        return sorted(one.name for one in path.iterdir())
    except OSError:
        return []
