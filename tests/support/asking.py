"""The asking side of NAK repair, driven by hand."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import numpy as np

from pgmlite.core.config import NakConfig, ReceiverConfig
from pgmlite.core.machine import MS, Action, Complete, Decode, Prepare, SendNak, Store, Verify
from pgmlite.core.needs import Exact
from pgmlite.core.receive.asks import Ask
from pgmlite.core.receive.demand import ExactDemand
from pgmlite.core.receive.nak import NakMachine
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.receive.wants import WantState
from pgmlite.core.ring import Ring
from pgmlite.sim.memory import answer
from pgmlite.wire.batch import Flags
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import Order
from pgmlite.wire.request import Symbols, build_request
from tests.support.builders import Sample, batches, make_spm
from tests.support.disk import Disk
from tests.support.nak_builders import GRTT, SPM_FIELDS, spm_packet, symbols_of


class Shelf:
    """What is there of a plain object, as flags that a test sets."""

    def __init__(self, geometry: Geometry, have: Flags) -> None:
        self._geometry = geometry
        self._have = have

    @property
    def wanted(self) -> Symbols:
        """(blocks,) missing symbols of each block."""
        starts = np.arange(0, len(self._have), self._geometry.block_symbols)
        return np.add.reduceat(~self._have, starts, dtype=np.int64)

    @property
    def had(self) -> Symbols:
        """(blocks,) symbols of each block that are there."""
        return self._geometry.sources(np.arange(self._geometry.blocks)) - self.wanted

    def lacking(self, block: int, esis: Symbols) -> Flags:
        """Return whether each of (n,) symbols is not there."""
        lacks: Flags = ~self._have[block * self._geometry.block_symbols + esis]
        return lacks


class Asking:
    """A `NakMachine` that hears one plain carousel with repairs, driven by hand."""

    KEY = (("S", 0), 1, 0)
    ENDPOINT = ("S", 9)

    def __init__(
        self,
        total: int = 4_000,
        *,
        block: int = 20,
        seed: int = 0,
        loss: float = 0.0,
        answers: bool = True,
        **config: Any,
    ) -> None:
        """
        Args:
            block: Symbols in a block.
            answers: The carousel's session repaired something before.
            loss: What is said of losses.
        """
        self.have = np.zeros(total, np.bool_)
        self.geometry = Geometry(64 * total, 64, block)
        self.ring = Ring(self.geometry, Order.BLOCKS)
        held = Shelf(self.geometry, self.have)
        values = {"look_every": 1, "look_block": 0} | config
        settings = NakConfig(**values)
        self.machine = NakMachine(
            settings, ExactDemand(settings, self.geometry, held), rng=Random(seed)
        )
        self.now = 1
        self.sqn = 0
        self.loss = loss
        self.places: dict[Any, int] = {}
        """What each carousel sends next."""

        self.spm()
        if answers:
            self.repair()

    def state(self, block: int = 1) -> WantState | None:
        """Return where the want of a block is; None: it has none."""
        want = self.machine.want(block)
        return want.state if want else None

    def spm(self, *, head: int | None = None, received: int = 0, **fields: Any) -> None:
        """Hear an SPM of the carousel.

        Args:
            head: The symbol that comes next; None: it does not say.
        """
        endpoint, key = fields.pop("endpoint", self.ENDPOINT), fields.pop("key", self.KEY)
        preferred = fields.pop("preferred", True)
        values = SPM_FIELDS | {"timestamp": self.now, "rate": 0} | fields
        spm = make_spm(b"", **values)
        self.machine.take_repairer(self.now, endpoint, key, spm, preferred=preferred)
        if head is not None:
            self._tell(key, head, received)

    def _tell(self, key: Any, head: int, received: int) -> None:
        before = self.places.get(key, head)
        place = self.places[key] = before + (head - before) % len(self.have)
        self.machine.take_position(self.now, key, self.ring, place, received=received)

    def hear(
        self, carousel: Iterable[int], *, lost: Iterable[int] = (), step: int = MS, key: Any = KEY
    ) -> None:
        """Let ODATA go by, `step` ns from symbol to symbol, without those that are lost.

        Of a carousel that is new an SPM comes first.
        """
        gone = set(lost)
        for symbol in carousel:
            if key not in self.places:
                self._tell(key, symbol, 0)
            self.now += step
            self.sqn += 1
            self.places[key] += (symbol + 1 - self.places[key]) % len(self.have)
            if symbol not in gone:
                self.have[symbol] = True
                self.machine.take_sqn(self.now, key, self.sqn)
                block, esi = divmod(symbol, self.geometry.block_symbols)
                self.machine.take_data(self.now, key, block, esi)

    def confirm(
        self, *numbers: int | Iterable[int], key: Any = KEY, ahead: int | None = None
    ) -> None:
        """Hear an NCF whose repairs all leave within `ahead` packets."""
        last = None if ahead is None else self.sqn + ahead
        body, _ = build_request(symbols_of(*numbers), 1_184)
        self.machine.take_ncfs(self.now, key, (body,), last)

    def repair(self, *numbers: int | Iterable[int], key: Any = KEY) -> None:
        """Get RDATA."""
        symbols = symbols_of(*numbers)
        self.have[symbols] = True
        self.machine.take_repair(self.now, key, self.geometry.ids(symbols))

    def settle(self) -> list[Ask[Exact]]:
        """Tick for as long as something is due now; that must end."""
        asks: list[Ask[Exact]] = []
        for _ in range(1_000):
            deadline = self.machine.deadline
            if deadline is None or deadline > self.now:
                return asks
            asks += self.machine.tick(self.now, loss=self.loss)
        raise AssertionError("the machine is due for ever at one instant")

    def follow(self, carousel: Iterable[int], **how: Any) -> list[tuple[int, list[int]]]:
        """Hear ODATA and tick in between; return when which symbols were asked for."""
        asks = []
        for symbol in carousel:
            self.hear([symbol], **how)
            asks += [(self.now, ask.need.symbols.tolist()) for ask in self.settle()]
        return asks

    def next_ask(self, within: int) -> Ask[Exact]:
        """Go on until the machine asks, at most `within` ns; return what it asks."""
        end = self.now + within
        while True:
            asks = self.settle()
            if asks:
                (ask,) = asks
                return ask
            deadline = self.machine.deadline
            assert deadline is not None, "it never asks"
            assert deadline <= end, "it asks too late"
            self.now = deadline

    def asked(self, within: int = 10 * GRTT) -> list[int]:
        """Go on for `within` ns; return all symbols asked for, as often as they were."""
        end, asked = self.now + within, []
        while True:
            for ask in self.settle():
                asked += ask.need.symbols.tolist()
            deadline = self.machine.deadline
            if deadline is None or deadline > end:
                self.now = end
                return sorted(asked)
            self.now = deadline


class Listening:
    """A receiver with a disk in memory and the NAKs that it sent, driven by hand."""

    SENDER = ("S", 5_000)

    def __init__(self, sample: Sample, *, seed: int = 0, **config: Any) -> None:
        self.sample = sample
        self.machine = Receiver(ReceiverConfig(**config), rng=Random(seed))
        self.store = Disk(b"")
        self.now = 1
        self.sqn = 0
        self.place = 0
        """What the carousel sends next, whoever it is."""

        self.naks: list[tuple[int, SendNak]] = []
        self.is_complete = False

    def hear(
        self,
        carousel: Iterable[int],
        *,
        lost: Iterable[int] = (),
        step: int = MS,
        source: Any = SENDER,
        **fields: int,
    ) -> None:
        """Let ODATA come, `step` ns from symbol to symbol, without those that are lost."""
        gone = set(lost)
        for symbol in carousel:
            self.wait(step)
            self.sqn += 1
            self.place += (symbol + 1 - self.place) % self.sample.manifest.symbols
            if symbol not in gone:
                self.give(self.sample.odata([symbol], sqn=self.sqn, **fields), source=source)

    def spm(
        self, *, source: Any = SENDER, header: dict[str, int] | None = None, **body: Any
    ) -> None:
        """Let an SPM come."""
        self.sqn += 1
        fields = {"sqn": self.sqn} | (header or {})
        place = {} if body.get("repair_share") == 100 else {"place": self.place}
        self.give([spm_packet(self.sample, fields, **(place | body))], source=source)

    def give(self, given: Iterable[bytes], *, source: Any = SENDER) -> None:
        """Let packets arrive now."""
        for batch in batches(given, source=source, refused=self.machine.counters.refused):
            self._perform(self.machine.receive(self.now, batch))
        self.settle()

    def settle(self) -> int:
        """Tick for as long as something is due now; return how many ticks it took."""
        for ticks in range(1_000):
            deadline = self.machine.deadline
            if deadline is None or deadline > self.now:
                return ticks
            self._perform(self.machine.tick(self.now))
        raise AssertionError("the machine is due for ever at one instant")

    def wait(self, time: int) -> list[SendNak]:
        """Let `time` ns pass; return the NAKs sent in that time."""
        end, before = self.now + time, len(self.naks)
        while (deadline := self.machine.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.settle()
        self.now = end
        return [nak for _, nak in self.naks[before:]]

    def _perform(self, actions: list[Action]) -> None:
        todo = list(actions)
        while todo:
            action = todo.pop(0)
            match action:
                case Prepare() | Verify() | Decode():
                    todo = answer(self.machine, self.store, action) + todo
                case Store():
                    self.store.store(action)
                case SendNak():
                    self.naks.append((self.now, action))
                case Complete():
                    self.is_complete = True
