"""Which source each symbol came from, of objects without tiles: forged ones are kept apart.

Nobody can tell a forged symbol from a true one by itself; only the block that is made with it turns
out wrong. Then the symbols of the less credible sources are thrown away, and these sources bring
nothing more of this block. If the others don't bring what is lacking then, they were believed
wrongly, and it is the other way round. If it is right without them, those that were thrown away are
shunned for a while: for a cycle, the next time for two. None of this helps against who sends from
the sender's own address.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pgmlite.wire.batch import Flags
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.request import Symbols

MOST_SOURCES = 256
"""That are told apart; all others count as one."""

WRONG_SHARE = 16
"""Wrong symbols for each right one of a source, above which it is shunned."""

MOST_CYCLES = 16
"""For which a source is shunned."""

LONGEST_ALONE = 1_024
"""Symbols in a row of shunned sources after which they are heard again: nobody else is there."""

MOST_ACCUSED = 1 << 14
"""Blocks for which it is remembered whose symbols were thrown away."""


FRESH_WORTH = 4
"""Symbols of a block that others leave aside, for each that comes of those who are believed."""


@dataclass(slots=True)
class _Accused:
    """What became of a block that was wrong.

    Attributes:
        thrown: Symbols that were thrown away, by the number of their source.
        patience: Symbols of those sources that are left aside yet, before they are heard again.
    """

    patience: int
    thrown: Counter[int] = field(default_factory=Counter)

    @property
    def is_over(self) -> bool:
        """Whether who is believed did not bring what the block needs."""
        return self.patience <= 0


class Origins:
    """Who sent what, and who is to be believed.

    Attributes:
        forgers: Addresses from which wrong symbols came, and how many.
    """

    def __init__(self) -> None:
        self.forgers: Counter[str] = Counter()
        self._numbers: dict[Endpoint, int] = {}
        self._geometry: Geometry | None = None
        self._of: npt.NDArray[np.uint8] | None = None
        """(blocks x ring,) number of each symbol's source; None: there was one source only."""

        self._collected: list[tuple[Symbols, int]] = []
        self._right = np.zeros(MOST_SOURCES, np.int64)
        self._wrong = np.zeros(MOST_SOURCES, np.int64)
        self._accused: dict[int, _Accused] = {}
        self._shunned: dict[int, int] = {}
        """For how many symbols of others, by number of the source."""

        self._times: Counter[int] = Counter()
        self._alone = 0

    def learn(self, geometry: Geometry) -> None:
        """Take the sizes that the manifest says."""
        self._geometry = geometry
        for symbols, number in self._collected:
            self._note(number, geometry.ids(symbols))
        self._collected.clear()

    def _number(self, source: Endpoint) -> int:
        number = self._numbers.get(source)
        if number is None:
            number = min(len(self._numbers), MOST_SOURCES - 1)
            if len(self._numbers) < MOST_SOURCES:
                self._numbers[source] = number
        return number

    # What comes.

    def shuns(self, source: Endpoint, count: int) -> bool:
        """Whether `count` symbols of a source are to be left aside, whichever they are."""
        if not self._shunned:
            return False
        if self._number(source) in self._shunned:
            self._alone += count
            if self._alone < LONGEST_ALONE:
                return True
            self._shunned.clear()
        self._alone = 0
        self._shunned = {one: left - count for one, left in self._shunned.items() if left > count}
        return False

    def barred(self, source: Endpoint, blocks: Symbols) -> Flags | None:
        """Return of which of (n,) blocks a source brings nothing; None: of none."""
        if not self._accused:
            return None
        number = self._number(source)
        found, counts = np.unique(blocks, return_counts=True)
        some = []
        for block, count in zip(found.tolist(), counts.tolist(), strict=True):
            accused = self._accused.get(block)
            if accused and number in accused.thrown and not accused.is_over:
                accused.patience -= count
                some.append(block)
        return np.isin(blocks, some) if some else None

    def is_noted(self, source: Endpoint) -> bool:
        """Whether it is of interest what a source sends."""
        return self._of is not None or self._number(source) > 0

    def collect(self, source: Endpoint, symbols: Symbols) -> None:
        """Note who sent (n,) source symbols that are stored, before the manifest."""
        if number := self._number(source):
            self._collected.append((symbols, number))

    def note(self, source: Endpoint, ids: Ids) -> None:
        """Note who sent (n,) symbols that are held from now on."""
        self._note(self._number(source), ids)
        if not self._accused:
            return
        found, counts = np.unique(ids.blocks, return_counts=True)
        for block, count in zip(found.tolist(), counts.tolist(), strict=True):
            accused = self._accused.get(block)
            if accused and not accused.is_over:
                accused.patience += FRESH_WORTH * count

    def _note(self, number: int, ids: Ids) -> None:
        geometry = self._geometry
        if geometry is None:
            return
        if self._of is None:
            # Pages of zeros: all that came so far is of the first source.
            self._of = np.zeros(geometry.blocks * geometry.rings.full, np.uint8)
        self._of[ids.blocks * geometry.rings.full + ids.esis] = number

    # What becomes of blocks.

    def _sources_of(self, block: int, esis: Symbols) -> Symbols:
        """Return the numbers of the sources of (n,) symbols."""
        if self._of is None or self._geometry is None:
            return np.zeros(len(esis), np.int64)
        found: Symbols = self._of[block * self._geometry.rings.full + esis].astype(np.int64)
        return found

    def accuse(self, block: int, held: Symbols) -> Symbols:
        """Say which of a wrong block's (n,) held symbols are to be thrown away.

        Returns:
            Their ids; none: all are of one source, and no more can be said.
        """
        sources = self._sources_of(block, held)
        counts = np.bincount(sources, minlength=MOST_SOURCES)
        present = np.flatnonzero(counts)
        accused = self._accused.get(block)
        if len(present) < 2:
            # Who was believed alone was wrong: everybody is heard again.
            self._accused.pop(block, None)
            return held[:0]
        if accused is not None and accused.is_over:
            kept = _others(present, accused)
            del self._accused[block]
            accused = None
        else:
            kept = self._credible(present, counts, only_one=accused is not None)
        thrown = ~np.isin(sources, kept)
        accused = accused or self._accuse(block)
        if accused is not None:
            accused.thrown.update(sources[thrown].tolist())
        found: Symbols = held[thrown]
        return found

    def _accuse(self, block: int) -> _Accused | None:
        if self._geometry is None or len(self._accused) >= MOST_ACCUSED:
            return None
        accused = self._accused[block] = _Accused(self._geometry.source(block))
        return accused

    def _credible(self, present: Symbols, counts: Symbols, *, only_one: bool) -> Symbols:
        """Return which sources are believed.

        Args:
            counts: (MOST_SOURCES,) symbols of the block that each sent.
        """
        right = self._right[present] > 0
        if not only_one and right.any() and not right.all():
            return present[right]
        weights = np.where(right, self._right[present], counts[present])
        if right.any():
            weights = np.where(right, weights, 0)
        most = int(weights.max())
        near = present[weights * 2 >= most]
        if only_one or len(near) == len(present):
            return present[[int(weights.argmax())]]
        return near

    def find(self, block: int, esis: Symbols) -> None:
        """Take note that (n,) symbols of a block were found forged."""
        self._blame(Counter(self._sources_of(block, esis).tolist()))

    def acquit(self, block: int, held: Symbols) -> int:
        """Take note that a block is right with its (n,) held symbols.

        Returns:
            How many others were thrown away before.
        """
        sources = self._sources_of(block, held)
        self._right += np.bincount(sources, minlength=MOST_SOURCES)
        accused = self._accused.pop(block, None)
        if accused:
            self._blame(accused.thrown)
        self._judge()
        return accused.thrown.total() if accused else 0

    def _blame(self, thrown: Counter[int]) -> None:
        names = {number: source for source, number in self._numbers.items()}
        for number, count in thrown.items():
            self._wrong[number] += count
            if number in names:
                self.forgers[names[number].address] += count

    def _judge(self) -> None:
        """Shun the sources that send nearly nothing but wrong symbols, as long as others do not."""
        guilty = self._wrong > WRONG_SHARE * self._right
        if self._geometry is None or not guilty.any() or not (self._right > 0).any():
            return
        for number in np.flatnonzero(guilty).tolist():
            if number not in self._shunned:
                cycles = min(1 << self._times[number], MOST_CYCLES)
                self._times[number] += 1
                self._shunned[number] = cycles * self._geometry.symbols
                self._wrong[number] = 0


def _others(present: Symbols, accused: _Accused) -> Symbols:
    """Return which sources are believed once those that were did not bring what they had to."""
    others: Symbols = present[np.isin(present, list(accused.thrown))]
    return others if len(others) else present
