"""What to ask for, and when a repair is worth it: by name or by count (spec/protocol.md 7.1, 7.2).

Theory
======

**What brings what.** Whatever is missing of an object will come by a carousel, or it can be asked
for. Asking costs everybody: what repairs take of the rate, the carousel does not have. It is worth
it where the carousel would take far longer: twice as long as a repair (`carousel_margin`).

**By name.** A plain object has one symbol for each place. A carousel that went past it brings it
again a turn later, and nothing else does. So a block is looked at when its pass is over: all that
is missing then was lost, and what of it does not come within the margin is asked for. Who joined in
the middle of a pass did not lose its beginning: that block is looked at when the carousel has come
round to there.

**By count.** With repair symbols any symbol of a block serves. In a *lead* (blocks in order)
nothing comes of a block that was sent before the rounds begin, which is long. In *rounds* the
carousel brings symbols of all blocks in turn, all of them new, and the last block decides when an
object is complete, so that one block more or less does not matter. Then it is worth to ask if a
repairer could send all that is lacking, *of all blocks*, in half of the time that the carousel
takes. That is so for the last few blocks only, and after the carousel has stopped. Who joined late
asks for nothing either: as long as blocks lack most of their symbols the sum is too large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pgmlite.core.config import NakConfig
from pgmlite.core.cursor import steps_from
from pgmlite.core.needs import NO_SYMBOLS, Count, Exact, Need
from pgmlite.core.receive import policy
from pgmlite.core.receive.carousels import TOO_MANY, Carousel, Passing, time_left
from pgmlite.core.receive.ncfs import Cursors, HeardNcfs
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.ring import Ring
from pgmlite.wire.batch import Flags
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.request import Counts, Runs, Symbols, parse_request, parse_runs

N = TypeVar("N", bound=Need)
"""What is asked for."""

H = TypeVar("H", Runs, Counts)
"""What NCFs say."""

MARGIN = 3
"""Symbols asked for beyond those that a block lacks: a random code needs some more than K."""


class Holdings(Protocol):
    """What somebody knows of the symbols of an object that are there."""

    @property
    def had(self) -> npt.NDArray[np.integer]:
        """(blocks,) different encoding symbols that are held of each block."""

    @property
    def wanted(self) -> npt.NDArray[np.integer]:
        """(blocks,) how many more each block takes, at least, before it can be made whole.

        0: it is whole, or somebody is about to find out.
        """

    def lacking(self, block: int, esis: Symbols) -> Flags:
        """Return whether each of (n,) encoding symbols of a block is not held."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What can be expected if nobody asks, and of whom would be asked.

    Attributes:
        now: ns.
        coming: Carousels that go on.
        delay: From a NAK to its repair, ns.
        symbol_time: ns from repair to repair.
        loss: Share of packets lost, 0 to less than 1.
    """

    now: int
    coming: Sequence[Carousel]
    delay: int
    symbol_time: float
    loss: float


class Demand(Protocol[N, H]):
    """What a NAK machine asks about needs."""

    geometry: Geometry
    nothing: N
    """The empty need."""

    finds_again: bool
    """Whether each look finds all blocks that are due, and not only those that became so."""

    def parse(self, bodies: tuple[bytes, ...]) -> H:
        """Return what NCFs of one moment say together.

        Raises:
            RefusedPacket: reason ``request``.
        """

    def look(self, passings: Iterable[Passing], outlook: Outlook) -> Symbols:
        """Return (n,) blocks that are due by now, for what carousels went past and will bring."""

    def is_too_much(self, block: int) -> bool:
        """Whether so much is missing of a block that it is left to the carousel (spec: NAK-6)."""

    def need(self, block: int) -> N:
        """Return what is needed of a block."""

    def lacking(self, need: N) -> N:
        """Return what of `need`, which is of one block, is needed still."""

    def take_ncf(self, now: int, until: int, key: SessionKey, named: H) -> None:
        """Remember what an NCF says until `until` ns."""

    def is_of(self, named: H, blocks: Symbols) -> Flags:
        """Return of which of (n,) blocks an NCF says something."""

    def promisers(self, now: int, need: N) -> Iterable[SessionKey]:
        """Return the sessions whose NCFs say that something of `need` is on its way."""

    def take_repair(self, key: SessionKey, ids: Ids) -> None:
        """Take note of RDATA as it arrives."""

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget what sessions promised on channels that are not heard (spec: RTE-9)."""

    def distrust(self, key: SessionKey) -> None:
        """Forget what a session promised (spec: NAK-18)."""

    def beside(self, now: int, need: N) -> N:
        """Return what of `need` no NCF says is on its way."""

    def beside_one(self, now: int, need: N, named: H) -> N:
        """Return what of `need` is left beside what is `named` by the latest NCF."""

    def retry(self, block: int) -> None:
        """Note that what NCFs promised of a block has left."""

    def request(self, now: int, need: N, key: SessionKey, ring: Ring | None) -> N:
        """Return what to ask a session for, so that `need` is satisfied.

        Args:
            ring: Of its carousel; None: it has none, or it is not known.
        """

    def beyond(self, need: N, outlook: Outlook, backlog: Iterable[int]) -> N:
        """Return what of `need` carousels do not bring in time (spec: NAK-7).

        Args:
            backlog: The blocks that are asked for.
        """

    def rest(self, block: int, until: int) -> None:
        """Leave a block to the carousel until `until` ns, if that is not so by itself."""

    def time_left(self, coming: Sequence[Carousel], loss: float) -> float | None:
        """Return the ns until carousels bring all that is lacking; None: that can't be said."""


@lru_cache(maxsize=16)
def _runs_in(bodies: tuple[bytes, ...], total: int) -> Runs:
    return Runs.union([parse_runs(body, total) for body in bodies])


class ExactDemand:
    """Needs of a plain object: source symbols by name."""

    nothing = Exact(NO_SYMBOLS)
    finds_again = False

    def __init__(self, config: NakConfig, geometry: Geometry, held: Holdings) -> None:
        self.geometry = geometry
        self._config = config
        self._held = held
        self._ncfs = HeardNcfs(config)
        self._most = policy.most_asked(config, geometry.block_symbols)
        """Symbols of a full block that may be asked for."""

    def parse(self, bodies: tuple[bytes, ...]) -> Runs:
        """Return what NCFs of one moment name together.

        Raises:
            RefusedPacket: reason ``request``.
        """
        return _runs_in(bodies, self.geometry.symbols)

    def look(self, passings: Iterable[Passing], outlook: Outlook) -> Symbols:
        """Return the blocks with losses whose pass is over."""
        wanted = self._held.wanted
        due: list[Symbols] = []
        for passing in passings:
            # spec: NAK-3, NAK-6: where most is missing nothing is asked for.
            if passing.is_all:
                return np.flatnonzero((wanted > 0) & (wanted <= self._most))
            blocks = passing.course.ended(passing.start, passing.stop, passing.joined)
            lacks = wanted[blocks]
            due.append(blocks[(lacks > 0) & (lacks <= self._most)])
        return np.concatenate(due) if due else NO_SYMBOLS

    def is_too_much(self, block: int) -> bool:
        """Whether so much is missing of a block that it is left to the carousel (spec: NAK-6)."""
        most = policy.most_asked(self._config, self.geometry.source(block))
        return int(self._held.wanted[block]) > most

    def need(self, block: int) -> Exact:
        """Return what is missing of a block."""
        lacks = self._held.lacking(block, np.arange(self.geometry.source(block), dtype=np.int64))
        first = self.geometry.span(block, block + 1).start
        return Exact(np.flatnonzero(lacks).astype(np.int64) + first)

    def lacking(self, need: Exact) -> Exact:
        """Return what of `need`, which is of one block, did not come since."""
        if not need:
            return need
        ids = self.geometry.ids(need.symbols)
        lacks = self._held.lacking(int(ids.blocks[0]), ids.esis)
        return need if lacks.all() else Exact(need.symbols[lacks])

    def take_ncf(self, now: int, until: int, key: SessionKey, named: Runs) -> None:
        """Remember what an NCF names until `until` ns."""
        self._ncfs.add(now, until, key, named)

    def is_of(self, named: Runs, blocks: Symbols) -> Flags:
        """Return of which of (n,) blocks an NCF names something."""
        size = self.geometry.block_symbols
        return named.touch(blocks * size, (blocks + 1) * size)

    def promisers(self, now: int, need: Exact) -> Iterable[SessionKey]:
        """Return the sessions whose NCFs name something of `need`."""
        return self._ncfs.promisers(now, need)

    def take_repair(self, key: SessionKey, ids: Ids) -> None:
        """Take note of RDATA as it arrives: it says nothing beyond what is stored."""

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget what NCFs named: it may come on a channel that is not heard (spec: RTE-9)."""
        self._ncfs = HeardNcfs(self._config)

    def distrust(self, key: SessionKey) -> None:
        """Forget what a session promised (spec: NAK-18)."""
        self._ncfs.distrust(key)

    def beside(self, now: int, need: Exact) -> Exact:
        """Return what of `need` no NCF names."""
        return self._ncfs.unnamed(now, need)

    def beside_one(self, now: int, need: Exact, named: Runs) -> Exact:
        """Return what of `need` is not `named`."""
        return Exact(need.symbols[~named.has(need.symbols)]) if need else need

    def retry(self, block: int) -> None:
        """Note that what NCFs promised of a block has left: what is missing is asked for anew."""

    def request(self, now: int, need: Exact, key: SessionKey, ring: Ring | None) -> Exact:
        """Return what to ask for: what is missing."""
        return self.lacking(need)

    def beyond(self, need: Exact, outlook: Outlook, backlog: Iterable[int]) -> Exact:
        """Return what of `need` carousels do not bring in time (spec: NAK-7)."""
        blocks = np.fromiter(backlog, np.int64)
        queue = int(self._held.wanted[blocks].sum())
        limit = outlook.delay + queue * outlook.symbol_time
        limit *= self._config.carousel_margin
        ids = self.geometry.ids(need.symbols)
        soon: Flags = np.zeros(len(need), np.bool_)
        for carousel in outlook.coming:
            if carousel.symbol_time:
                ahead = carousel.course.ring.places(ids, carousel.sent) - carousel.sent
                soon |= policy.comes_soon(ahead, carousel.symbol_time, limit)
        return Exact(need.symbols[~soon]) if soon.any() else need

    def rest(self, block: int, until: int) -> None:
        """Leave a block to the carousel: it is until that has passed it again."""

    def time_left(self, coming: Sequence[Carousel], loss: float) -> None:
        """Return None: what is lost once more takes another turn."""


@lru_cache(maxsize=16)
def _counts_in(bodies: tuple[bytes, ...], geometry: Geometry) -> Counts:
    parts = [parse_request(body, geometry.symbols, geometry.rings) for body in bodies]
    if len(parts) == 1:
        return parts[0]
    blocks, firsts, counts = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("blocks", "firsts", "counts")
    )
    # The latest NCF says all that is to come of a block.
    _, places = np.unique(blocks[::-1], return_index=True)
    places = len(blocks) - 1 - places
    return Counts(blocks[places], firsts[places], counts[places])


class CountDemand:
    """Needs of an object with repair symbols: how many of a block, whichever they are."""

    nothing = Count(NO_SYMBOLS, NO_SYMBOLS)
    finds_again = True

    def __init__(self, config: NakConfig, geometry: Geometry, held: Holdings) -> None:
        self.geometry = geometry
        self._config = config
        self._held = held
        self._cursors = Cursors(config, geometry)
        self._rests: dict[int, int] = {}
        self._loss = 0.0
        self._repairs_take = 0.0
        self._carousels_take: npt.NDArray[np.float64] = np.zeros(geometry.blocks)
        """(blocks,) ns until carousels have brought what is needed."""

    @cached_property
    def _sources(self) -> Symbols:
        """(blocks,) K of each."""
        return self.geometry.sources(np.arange(self.geometry.blocks, dtype=np.int64))

    @cached_property
    def _most(self) -> Symbols:
        """(blocks,) symbols of each that may be asked for."""
        return policy.most_asked(self._config, self._sources)

    def parse(self, bodies: tuple[bytes, ...]) -> Counts:
        """Return what NCFs of one moment say together.

        Raises:
            RefusedPacket: reason ``request``.
        """
        return _counts_in(bodies, self.geometry)

    def look(self, passings: Iterable[Passing], outlook: Outlook) -> Symbols:
        """Return the blocks that are due by now, for what carousels will bring."""
        self._loss = min(outlook.loss, self._config.most_believed_loss)
        wanted = self._held.wanted
        if not wanted.any():
            return NO_SYMBOLS
        spare = self._sources + MARGIN - self._held.had
        needs = np.where(wanted > 0, np.maximum(wanted, spare), 0)
        numbers = needs / (1 - self._loss)
        waits: Flags = needs > 0
        takes = np.full(len(needs), np.inf)
        for carousel in outlook.coming:
            waits &= carousel.course.has_left(carousel.passed)
            ahead = carousel.course.symbols_until(carousel.sent, numbers)
            takes = np.minimum(takes, ahead * carousel.symbol_time)
        # spec: NAK-3
        self._carousels_take = takes
        self._repairs_take = outlook.delay + float(numbers[waits].sum()) * outlook.symbol_time
        due = waits & (wanted <= self._most)
        due &= takes >= self._repairs_take * self._config.carousel_margin
        rests = [block for block, until in self._rests.items() if until > outlook.now]
        due[rests] = False
        return np.flatnonzero(due)

    def is_too_much(self, block: int) -> bool:
        """Whether so much is missing of a block that it is left to the carousel (spec: NAK-6)."""
        return int(self._held.wanted[block]) > int(self._most[block])

    def need(self, block: int) -> Count:
        """Return how many symbols to get of a block."""
        wanted = int(self._held.wanted[block])
        if wanted <= 0:
            return self.nothing
        return _count(block, max(wanted, self._spare(block) - int(self._held.had[block])))

    def lacking(self, need: Count) -> Count:
        """Return how many symbols to get now of the block that `need` is of."""
        return self.need(int(need.blocks[0])) if need else need

    def take_ncf(self, now: int, until: int, key: SessionKey, named: Counts) -> None:
        """Remember what an NCF says until `until` ns."""
        self._cursors.promise(until, key, named)

    def is_of(self, named: Counts, blocks: Symbols) -> Flags:
        """Return of which of (n,) blocks an NCF counts something."""
        found: Flags = np.isin(blocks, named.blocks)
        return found

    def promisers(self, now: int, need: Count) -> Iterable[SessionKey]:
        """Return the sessions whose NCFs count something of the block of `need`."""
        return self._cursors.promised(now, int(need.blocks[0]))

    def take_repair(self, key: SessionKey, ids: Ids) -> None:
        """Take note of RDATA as it arrives: it shows where cursors are."""
        self._cursors.bring(key, ids)

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget what sessions promised on channels that are not heard (spec: RTE-9)."""
        self._cursors.forget(hears)

    def distrust(self, key: SessionKey) -> None:
        """Forget what a session promised (spec: NAK-18)."""
        self._cursors.distrust(key)

    def beside(self, now: int, need: Count) -> Count:
        """Return how many symbols of the block are needed that nobody is bound to send.

        What is sent may be lost, as a share of all packets is: what arrives must be enough.
        """
        if not need:
            return need
        block = int(need.blocks[0])
        promised = self._cursors.promised(now, block).values()
        return _count(block, self._numbers(need) - sum(map(partial(self._new, block), promised)))

    def beside_one(self, now: int, need: Count, named: Counts) -> Count:
        """Return the same as `beside`: what NCFs said is remembered with the cursors."""
        return self.beside(now, self.lacking(need))

    def retry(self, block: int) -> None:
        """Note that what NCFs promised of a block has left."""
        self._cursors.end(block)

    def request(self, now: int, need: Count, key: SessionKey, ring: Ring | None) -> Count:
        """Return how many steps of a session's cursor bring what is needed; none if it is bound
        to go as far, or others bring it.
        """
        need = self.lacking(need)
        if not need or not self.beside(now, need):
            return self.nothing
        block = int(need.blocks[0])
        number = self._numbers(need)
        for other, esis in self._cursors.promised(now, block).items():
            if other != key:
                number -= self._new(block, esis)
        total = self.geometry.ring(block)
        steps = steps_from(self._cursors.at(key, block, ring), total, total)
        ahead = np.cumsum(self._held.lacking(block, steps))
        return _count(block, min(int(np.searchsorted(ahead, number)) + 1, total))

    def beyond(self, need: Count, outlook: Outlook, backlog: Iterable[int]) -> Count:
        """Return `need`, or nothing if carousels bring it before a repair would (spec: NAK-7)."""
        is_soon = self._carousels_take[need.blocks] < self._repairs_take
        return self.nothing if is_soon.all() else need

    def rest(self, block: int, until: int) -> None:
        """Leave a block to the carousel until `until` ns."""
        self._rests[block] = until

    def time_left(self, coming: Sequence[Carousel], loss: float) -> float | None:
        """Return the ns until carousels bring all that is lacking; None: that can't be said."""
        known = [carousel for carousel in coming if carousel.symbol_time]
        if not known:
            return None
        whole = self._sources + TOO_MANY
        held = np.where(self._held.wanted > 0, self._held.had, whole)
        ns = time_left(known, held, self._sources, min(loss, self._config.most_believed_loss))
        return ns if math.isfinite(ns) else None

    def _spare(self, block: int) -> int:
        """Return how many symbols of a block are mostly enough."""
        return int(self._sources[block]) + MARGIN

    def _numbers(self, need: Count) -> int:
        """Return how many symbols must leave so that enough of them arrive."""
        return math.ceil(len(need) / (1 - self._loss))

    def _new(self, block: int, esis: Symbols) -> int:
        """Return how many of some symbols are not there."""
        return int(np.count_nonzero(self._held.lacking(block, esis)))


def _count(block: int, number: int) -> Count:
    """Return a need of one block; nothing if the number is none."""
    if number <= 0:
        return CountDemand.nothing
    return Count(np.array([block], np.int64), np.array([number], np.int64))
