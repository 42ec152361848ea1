"""Where the symbolic links of a folder lead, without asking any disk (spec: FLD-6)."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping

MOST_FOLLOWED = 40
"""Links on one way: the system follows no more."""

MOST_STEPS = 4_096
"""Names on one way: a bound of what a link can cost."""

USUAL_STEPS = 64
"""Names on a way in the mean, where there are more than `FREE_STEPS` in all: a link that is short
can lead through one that is long, and so can very many."""

FREE_STEPS = 1 << 20

LONGEST_PLACE = 8_192
"""Characters of where a way is: twice as many as a member's name has."""

OUTSIDE = "is a link that leads out of the folder"


Fold = Callable[[str], str]
"""Returns what is the same for all names that a disk takes for one."""


def folded(name: str) -> str:
    """Return what is the same for names that differ in case, or in how accents are written."""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())


class Ways:
    """Follows the links of a folder."""

    def __init__(self, links: Mapping[str, str], fold: Fold = str) -> None:
        """
        Args:
            links: What each link says, by what `fold` makes of its name from the folder on.
        """
        self._links = links
        self._fold = fold
        self._left = FREE_STEPS + USUAL_STEPS * len(links)

    def check(self, name: str) -> None:
        """Make sure that a link stays in its folder, whatever links it leads through.

        Args:
            name: Of one of them; no folder above it is a link.

        Raises:
            ValueError: It does not, or that can't be told.
        """
        own = self._fold(name)
        here = own.rpartition("/")[0]
        ways = [_parts(self._links[own])]
        followed = steps = 0
        while ways:
            if not ways[-1]:
                ways.pop()
                continue
            part = ways[-1].pop()
            steps += 1
            self._left -= 1
            if steps > MOST_STEPS or self._left < 0 or len(here) > LONGEST_PLACE:
                raise ValueError("is a link that leads through too many folders")
            if part in ("", "."):
                continue
            if part == "..":
                if not here:
                    raise ValueError(OUTSIDE)
                here = here.rpartition("/")[0]
                continue
            there = f"{here}/{self._fold(part)}" if here else self._fold(part)
            further = self._links.get(there)
            if further is None:
                here = there
                continue
            followed += 1
            if followed > MOST_FOLLOWED:
                raise ValueError(f"is a link that leads through more than {MOST_FOLLOWED} links")
            ways.append(_parts(further))


def _parts(target: str) -> list[str]:
    """Return the names that a link says, the first one at the end.

    Raises:
        ValueError: They don't begin in the link's own folder.
    """
    if not target or target.startswith("/"):
        raise ValueError(OUTSIDE)
    return target.split("/")[::-1]
