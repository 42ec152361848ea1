"""Who sends symbols that are not what the object's maker signed (spec: RCV-23).

An address can be made up: whoever is blamed is silenced only while others bring as much as is left
aside. So a stranger who takes the sender's address silences nobody: he would have to bring what the
sender does.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from pgmlite.core.machine import SECOND

MOST_SOURCES = 64
"""Addresses remembered; the one silent for longest makes room, those that brought nothing first, of
these those that never were shunned."""

WINDOW = 10 * SECOND
"""What was right and wrong longer ago does not count."""

LEAST_WRONG = 8
"""Wrong symbols in that time before a source is shunned."""

WRONG_SHARE = 64
"""And as many for each right one."""

SHUNNED_FOR = 10 * SECOND

LEFT_ASIDE = 64
"""Packets of a source that are left aside at most, over what others brought of use since it was
shunned first. Then it is heard for good: whoever had it shunned brings nothing himself."""

BROUGHT_FOR = 5 * SECOND
"""A source is shunned only if another one brought something of use as short a time ago."""


@dataclass(slots=True)
class _Record:
    """What one source sent since `began`, and in all.

    Attributes:
        until: It is shunned until then.
        brought_at: When it brought something of use, ns; None: it never did.
        brought: Symbols of use that it brought.
        aside: Its packets that were left aside.
        others: What others had brought when it was shunned first; None: it never was.
        is_spared: It is not shunned any more.
    """

    began: int
    right: int = 0
    wrong: int = 0
    total: int = 0
    until: int = 0
    brought_at: int | None = None
    brought: int = 0
    aside: int = 0
    others: int | None = None
    is_spared: bool = False

    @property
    def worth(self) -> int:
        """The lower, the sooner it is forgotten."""
        if self.brought_at is not None:
            return 2
        return 0 if self.others is None else 1


class Blame:
    """What each source of symbols was worth."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._brought = 0
        """Symbols of use, of all sources."""

    @property
    def forgers(self) -> dict[str, int]:
        """Addresses from which wrong symbols came, and how many."""
        return {address: one.total for address, one in self._records.items() if one.total}

    def shuns(self, now: int, address: str, count: int) -> bool:
        """Whether `count` packets from an address are left aside, whatever they are."""
        record = self._records.get(address)
        if record is None or record.until <= now or not self._others_suffice(now, address):
            return False
        if record.aside + count > LEFT_ASIDE + self._by_others(record) - (record.others or 0):
            record.until, record.is_spared = 0, True
            return False
        record.aside += count
        return True

    def _by_others(self, record: _Record) -> int:
        return self._brought - record.brought

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
        if not wrong or not is_forger or record.is_spared:
            return
        if self._others_suffice(now, address):
            record.until = now + SHUNNED_FOR
            if record.others is None:
                record.others = self._by_others(record)
            record.began, record.right, record.wrong = record.until, 0, 0

    def bring(self, now: int, address: str, count: int) -> None:
        """Note that a source brought so many symbols of use."""
        record = self._record(now, address)
        record.brought_at = now
        record.brought += count
        self._brought += count

    def _record(self, now: int, address: str) -> _Record:
        record = self._records.get(address)
        if record is None:
            if len(self._records) >= MOST_SOURCES:
                del self._records[min(self._records, key=lambda one: self._records[one].worth)]
            record = self._records[address] = _Record(now)
        self._records.move_to_end(address)
        return record
