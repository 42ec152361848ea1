"""Whose packets are asked for: the sources of a receiver's groups (spec: NET-13)."""

from __future__ import annotations

from collections.abc import Collection

ANY_SOURCE = frozenset({""})
"""Whoever sends: what there is outside of source-specific groups."""


class Sources:
    """The sources that are heard.

    Attributes:
        wanted: Their addresses; `ANY_SOURCE`: all.
    """

    def __init__(self, named: Collection[str] = ()) -> None:
        """
        Args:
            named: Addresses that a user named; none: whoever sends.
        """
        self.wanted: frozenset[str] = frozenset(named) or ANY_SOURCE

    def add(self, addresses: Collection[str]) -> None:
        """Hear these as well: repairers, whose packets come from addresses of their own."""
        if self.wanted != ANY_SOURCE:
            self.wanted |= frozenset(addresses)
