"""Who sends symbols that are not what the object's maker signed (spec: RCV-23).

An address can be made up: whoever is blamed is silenced only while others bring what is needed, and
never for long. So a stranger who takes the sender's address silences nobody.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from pgmlite.core.machine import SECOND

MOST_SOURCES = 64
"""Addresses remembered; the one silent for longest makes room, those that brought nothing first."""

WINDOW = 10 * SECOND
"""What was right and wrong longer ago does not count."""

LEAST_WRONG = 8
"""Wrong symbols in that time before a source is shunned."""

WRONG_SHARE = 64
"""And as many for each right one."""

SHUNNED_FOR = 10 * SECOND

BROUGHT_FOR = 5 * SECOND
"""A source is shunned only if another one brought something of use as short a time ago."""


@dataclass(slots=True)
class _Record:
    """What one source sent since `began`, and in all.

    Attributes:
        until: It is shunned until then.
        brought_at: When it brought something of use, ns; None: it never did.
    """

    began: int
    right: int = 0
    wrong: int = 0
    total: int = 0
    until: int = 0
    brought_at: int | None = None


class Blame:
    """What each source of symbols was worth."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    @property
    def forgers(self) -> dict[str, int]:
        """Addresses from which wrong symbols came, and how many."""
        return {address: one.total for address, one in self._records.items() if one.total}

    def shuns(self, now: int, address: str) -> bool:
        """Whether what comes from an address is not even looked at."""
        record = self._records.get(address)
        if record is None or record.until <= now:
            return False
        return self._others_suffice(now, address)

    def _others_suffice(self, now: int, address: str) -> bool:
        return any(
            one.brought_at is not None and now - one.brought_at < BROUGHT_FOR
            for other, one in self._records.items()
            if other != address
        )

    def take(self, now: int, address: str, right: int, wrong: int) -> None:
        """Note how many symbols of a source were as they should be, and how many were not."""
        record = self._record(now, address)
        if now - record.began >= WINDOW:
            record.began, record.right, record.wrong = now, 0, 0
        record.right += right
        record.wrong += wrong
        record.total += wrong
        is_forger = record.wrong >= LEAST_WRONG and record.wrong >= WRONG_SHARE * record.right
        if wrong and is_forger and self._others_suffice(now, address):
            record.until = now + SHUNNED_FOR
            record.began, record.right, record.wrong = record.until, 0, 0

    def bring(self, now: int, address: str) -> None:
        """Note that a source brought symbols of use."""
        self._record(now, address).brought_at = now

    def _record(self, now: int, address: str) -> _Record:
        record = self._records.get(address)
        if record is None:
            if len(self._records) >= MOST_SOURCES:
                idle = (one for one, of in self._records.items() if of.brought_at is None)
                del self._records[next(idle, next(iter(self._records)))]
            record = self._records[address] = _Record(now)
        self._records.move_to_end(address)
        return record
