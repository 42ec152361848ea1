"""The asking side of NAK repair of an object with repair symbols, driven by hand."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import numpy as np

from pgmlite.core.config import NakConfig
from pgmlite.core.cursor import steps_from
from pgmlite.core.machine import MS
from pgmlite.core.needs import Count
from pgmlite.core.receive.asks import Ask
from pgmlite.core.receive.demand import CountDemand
from pgmlite.core.receive.nak import NakMachine
from pgmlite.core.receive.wants import WantState
from pgmlite.core.ring import Ring
from pgmlite.wire.batch import Flags
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import Order
from pgmlite.wire.request import Counts, Symbols, build_counts
from tests.support.builders import make_spm
from tests.support.nak_builders import SPM_FIELDS


class Shelf:
    """What is there of an object with repair symbols, as a test sets it.

    Attributes:
        have: (blocks, ring) which symbols are there.
        tried: (blocks,) so many did not suffice to decode a block, and how many more it takes.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._sources = geometry.sources(np.arange(geometry.blocks))
        self.have: Flags = np.zeros((geometry.blocks, geometry.rings.full), np.bool_)
        self.needed: Symbols = self._sources + 1

    @property
    def had(self) -> Symbols:
        """(blocks,) symbols that are there."""
        had: Symbols = np.count_nonzero(self.have, axis=1).astype(np.int64)
        return had

    @property
    def wanted(self) -> Symbols:
        """(blocks,) symbols that each block takes before it is whole."""
        wanted: Symbols = np.maximum(0, self.needed - self.had)
        for block, source in enumerate(self._sources.tolist()):
            wanted[block] *= not self.have[block, :source].all()
        return wanted

    def lacking(self, block: int, esis: Symbols) -> Flags:
        """Return whether each of (n,) symbols is not there."""
        lacks: Flags = ~self.have[block, esis]
        return lacks


class Counting:
    """A `NakMachine` that hears the carousel of an object with repair symbols, driven by hand."""

    KEY: Any = (("S", 0), 1, 0)
    ENDPOINT = ("S", 9)

    def __init__(
        self,
        blocks: int = 32,
        *,
        block: int = 64,
        repairs: int = 64,
        tile: int = 4,
        order: Order = Order.BLOCKS,
        seed: int = 0,
        loss: float = 0.0,
        answers: bool = True,
        **config: Any,
    ) -> None:
        """
        Args:
            block: Source symbols in a block.
            answers: The carousel's session repaired something before.
            loss: What is said of losses.
        """
        self.geometry = Geometry(64 * block * blocks, 64, block, repairs, tile)
        self.ring = Ring(self.geometry, order)
        self.shelf = Shelf(self.geometry)
        values = {"look_every": 1, "look_block": 0} | config
        settings = NakConfig(**values)
        demand = CountDemand(settings, self.geometry, self.shelf)
        self.machine = NakMachine(settings, demand, rng=Random(seed))
        self.now = 1
        self.sqn = 0
        self.place = 0
        self.loss = loss
        self.spm()
        if answers:
            self.repair(0, 0, 0)

    def state(self, block: int) -> WantState | None:
        """Return where the want of a block is; None: it has none."""
        want = self.machine.want(block)
        return want.state if want else None

    def spm(self, *, has_position: bool = True, **fields: Any) -> None:
        """Hear an SPM of the carousel, or of another session."""
        endpoint, key = fields.pop("endpoint", self.ENDPOINT), fields.pop("key", self.KEY)
        preferred = fields.pop("preferred", True)
        values = SPM_FIELDS | {"timestamp": self.now, "rate": 0} | fields
        spm = make_spm(b"", **values)
        self.machine.take_repairer(self.now, endpoint, key, spm, preferred=preferred)
        if has_position:
            self.machine.take_position(self.now, key, self.ring, self.place, received=self.place)

    def hear(self, count: int, *, lost: Iterable[tuple[int, int]] = (), step: int = MS) -> None:
        """Let so many ODATA go by, `step` ns each, without (block, ESI) that are lost."""
        gone = set(lost)
        ids = self.ring.ids(self.place, count)
        for block, esi in zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True):
            self.now += step
            self.sqn += 1
            self.place += 1
            if (block, esi) not in gone:
                self.shelf.have[block, esi] = True
                self.machine.take_sqn(self.now, self.KEY, self.sqn)
                self.machine.take_data(self.now, self.KEY, block, esi)

    def confirm(
        self, *items: tuple[int, int, int], key: Any = KEY, ahead: int | None = None
    ) -> None:
        """Hear an NCF that says (block, first ESI, count), whose repairs leave within `ahead`."""
        last = None if ahead is None else self.sqn + ahead
        counts = Counts(*np.array(sorted(items), np.int64).T)
        body, said = build_counts(counts, 1_184)
        assert said == len(items)
        self.machine.take_ncfs(self.now, key, (body,), last)

    def repair(self, block: int, first: int, count: int, *, key: Any = KEY, lost: int = 0) -> None:
        """Get RDATA: `count` steps from ESI `first` on, without the first `lost` of them."""
        esis = steps_from(first, count, self.geometry.ring(block))[lost:]
        self.shelf.have[block, esis] = True
        self.machine.take_repair(self.now, key, Ids(np.full_like(esis, block), esis))

    def settle(self) -> list[Ask[Count]]:
        """Tick for as long as something is due now; that must end."""
        asks: list[Ask[Count]] = []
        for _ in range(1_000):
            deadline = self.machine.deadline
            if deadline is None or deadline > self.now:
                return asks
            asks += self.machine.tick(self.now, loss=self.loss)
        raise AssertionError("the machine is due for ever at one instant")

    def asked(self, within: int) -> list[dict[int, int]]:
        """Go on for `within` ns; return what each NAK asked for, by block."""
        end = self.now + within
        asked = []
        while True:
            for ask in self.settle():
                need = ask.need
                asked.append(dict(zip(need.blocks.tolist(), need.numbers.tolist(), strict=True)))
            deadline = self.machine.deadline
            if deadline is None or deadline > end:
                self.now = end
                return asked
            self.now = max(self.now, deadline)
