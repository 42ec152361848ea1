"""Where the symbolic links of a folder lead, without asking any disk (spec: FLD-6)."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping

MOST_FOLLOWED = 40
"""Links on one way: the system follows no more."""

MOST_STEPS = 4_096
"""Names on one way: a bound of what a link can cost."""

OUTSIDE = "is a link that leads out of the folder"


Fold = Callable[[str], str]
"""Returns what is the same for all names that a disk takes for one."""


def folded(name: str) -> str:
    """Return what is the same for names that differ in case, or in how accents are written."""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())


def check_link(links: Mapping[str, str], name: str, fold: Fold = str) -> None:
    """Make sure that a link stays in its folder, whatever links it leads through.

    Args:
        links: What each link says, by what `fold` makes of its name from the folder on.
        name: Of one of them; no folder above it is a link.

    Raises:
        ValueError: It does not, or that can't be told.
    """
    here = name.split("/")[:-1]
    ways = [_parts(links[fold(name)])]
    followed = steps = 0
    while ways:
        if not ways[-1]:
            ways.pop()
            continue
        part = ways[-1].pop()
        steps += 1
        if steps > MOST_STEPS:
            raise ValueError("is a link that leads through too many folders")
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                raise ValueError(OUTSIDE)
            here.pop()
            continue
        here.append(part)
        further = links.get(fold("/".join(here)))
        if further is not None:
            followed += 1
            if followed > MOST_FOLLOWED:
                raise ValueError(f"is a link that leads through more than {MOST_FOLLOWED} links")
            here.pop()
            ways.append(_parts(further))


def _parts(target: str) -> list[str]:
    """Return the names that a link says, the first one at the end.

    Raises:
        ValueError: They don't begin in the link's own folder.
    """
    if not target or target.startswith("/"):
        raise ValueError(OUTSIDE)
    return target.split("/")[::-1]
