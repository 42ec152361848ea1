"""What the system says of itself in files under ``/proc``: read, and never believed blindly."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

PROC = Path("/proc")

MOST_BYTES = 1 << 20
"""Of a file; what stands behind them is left out."""


def read_text(path: Path) -> str:
    """Return what a file says; empty if it is not there or can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode(errors="replace")
    except (OSError, ValueError):  # a name of an interface may be no name of a file
        return ""


def read_number(path: Path) -> int | None:
    """Return the number in a file; None if it is not there, or is something else."""
    text = read_text(path).strip()
    return int(text) if text.isascii() and text.lstrip("-").isdigit() else None


def sysctl(proc: Path, *names: str) -> int | None:
    """Return a setting of the kernel; None if it has none of that name."""
    return read_number(proc.joinpath("sys", *names))


def counter(proc: Path, group: str, name: str) -> int:
    """Return a counter of ``/proc/net/netstat`` (IPv4 and TCP); 0 if it is not there.

    The file has two lines a group: the names, and the numbers in the same order.
    """
    lines = read_text(proc / "net" / "netstat").splitlines()
    for names, numbers in pairwise(lines):
        words, values = names.split(), numbers.split()
        if words[:1] == values[:1] == [f"{group}:"] and name in words:
            place = words.index(name)
            value = values[place] if place < len(values) else ""
            if value.isascii() and value.isdigit():
                return int(value)
    return 0


def igmp_versions(proc: Path) -> dict[str, int]:
    """Return which version of IGMP each interface speaks, by ``/proc/net/igmp``.

    It is the version of the oldest querier that was heard of late, or the one that is forced.
    """
    found = {}
    for line in read_text(proc / "net" / "igmp").splitlines()[1:]:
        # Lines of groups begin with blanks; "4\teth0      :     1      V3" is an interface.
        head, colon, rest = line.partition(":")
        words, behind = head.split(), rest.split()
        if line[:1].isspace() or not colon or len(words) != 2 or len(behind) < 2:
            continue
        version = behind[1]
        if version in {"V1", "V2", "V3"}:
            found[words[1]] = int(version[1])
    return found
