"""The receiver's side of NAK repair: when to ask for what was lost (spec/protocol.md section 7).

Theory of operation
===================

**What for.** A carousel brings a lost symbol again, a whole cycle later. A NAK brings it within
some round trips, if a repairer listens. Nothing here may fail: without an answer the carousel
comes round. What must not happen is that a thousand receivers that lose the same packet ask a
thousand times. So whoever lost something waits for a random while before asking, and says nothing
if by then it heard that somebody else's request was confirmed. That confirmation, the NCF, goes
to all.

**What is asked for.** A *need*: symbols of one block that were lost, by name, or how many symbols
of it are lacking. What is needed, and when that is worth a NAK, is known by somebody else
(`demand`); this machine sees needs only, and never where a symbol stands. A need comes of what
carousels went past and will bring (`carousels`), not of what a sequence number says (`losses`).

**One want a block.** All that is known of a block from its loss to its repair is one `Want`, and
what can happen to it is one table (`wants.WANT_TRANSITIONS`)::

    DUE --STARTED--> BACK_OFF --TIMER: NAK--> WAIT_NCF --NCF--> WAIT_DATA --> DONE
                       ^ `-------------NCF--------------------------^ |
                       `--------------TIMER: retry--------------------'

* DUE: something of the block is missing, and the carousel will not bring it soon. It has no timer:
  it waits for a place (`max_cycles`) and for somebody who may be asked. Not asked for at all is a
  block of which too much is missing (NAK-6): LEFT to the carousel.
* BACK_OFF: what is needed is fixed now, and a random wait runs, short for few, long for most. An
  NCF that brings a part of the need makes the request smaller; one that brings the rest of it ends
  the wait (CONFIRMED, and nothing is sent). When the time is up we ask, unless nothing is heard
  of the one whom we would ask (NAK-8: wait anew), or the carousel is about to bring it all
  (NAK-7: LEFT).
* WAIT_NCF: our NAK is under way. An NCF or a first repair of the block says that it came through.
  Silence is a retry with a longer back-off, and after some of them the repairer counts as dead
  (EXHAUSTED); but not while nothing at all comes, because then it is the way that is dead.
* WAIT_DATA: the repairs are in somebody's queue. If the NCF said by which packet of its session
  they will have left (a `Promise`), then that packet is the clock, and otherwise a timer. What
  did not come by then was lost again: a retry, and with several in a row that bring nothing,
  EXHAUSTED.
* DONE: the want is gone. If the carousel went past the block in the meantime (PASSED), what it
  lost then is a new want, which is DUE.

**What arrives.** ODATA and positions in SPMs move carousels: `take_data`, `take_position`. NCFs:
`take_ncfs`. RDATA: `take_repair`. Any packet's number: `take_sqn`, for promises. SPMs:
`take_repairer`. That a symbol came is not told to this machine: it asks when a timer runs out
(SATISFIED). It would learn it too often otherwise.

**Looks.** Nor is it worked out with every packet where carousels are and which blocks that makes
due. That is a look at all blocks at once, `look_every` at most, and only after something came.

**Busy receivers.** When a tick comes late, because a disk was slow, say, then packets wait to be
read that would change everything. Nothing is done until they are.

**Timers.** A want in BACK_OFF, WAIT_NCF or WAIT_DATA has exactly one, on one heap; a want in DUE
has none. When a NAK leaves, wants whose back-off ends soon go along (NAK-15): what many lost
together is asked for as the random wait demands, and what we lost alone fills the packet.

**Invariants.** (1) A block has at most one want. (2) `Wants.due` has those in DUE and
`Wants.cycles` all others, and none is DONE: `Wants.move` alone changes either. (3) A timer is set
for just those in `Wants.cycles`. (4) Of a want in BACK_OFF, `unconfirmed` is what its NAK will ask
for, but for what came in between. (5) Whatever strangers send: at most `max_cycles`
wants with a timer, `max_due` without one, `max_ncfs` NCFs; one tick starts at most `looked_at`. (6)
No NAK goes to an address that is not trusted (NAK-9).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from random import Random
from typing import Generic

from pgmlite.core import serial
from pgmlite.core.config import NakConfig
from pgmlite.core.needs import Count, Exact
from pgmlite.core.receive import policy
from pgmlite.core.receive.asks import Ask, joined
from pgmlite.core.receive.counters import NakCounters
from pgmlite.core.receive.demand import (
    CountDemand,
    Demand,
    ExactDemand,
    H,
    Holdings,
    N,
)
from pgmlite.core.receive.lookout import Lookout
from pgmlite.core.receive.promises import Promises
from pgmlite.core.receive.repairers import KnownRepairer, Repairers
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.receive.wants import Want, WantEvent, Wants, WantState
from pgmlite.core.ring import Ring
from pgmlite.core.timing import draw_backoff
from pgmlite.wire.control import Spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.request import Counts, Runs


class NakMachine(Generic[N, H]):
    """Decides what to ask for, and when, for one object."""

    def __init__(self, config: NakConfig, demand: Demand[N, H], *, rng: Random) -> None:
        self._config = config
        self._demand: Demand[N, H] = demand
        self._rng = rng
        self._lookout = Lookout(config, demand.geometry.blocks)
        self._repairers = Repairers(config)
        self._wants = Wants(config.max_due, demand.nothing)
        self.counters = NakCounters()
        self._promises: Promises[N, H] = Promises(
            config, demand, self._wants, counters=self.counters, rest=self._rest
        )

    def want(self, block: int) -> Want[N] | None:
        """Return what a block wants now."""
        return self._wants.get(block)

    # What arrives.

    def take_repairer(
        self, now: int, endpoint: Endpoint, key: SessionKey, spm: Spm, *, preferred: bool
    ) -> None:
        """Take an SPM of a session that may be asked at `endpoint` (spec: NAK-9)."""
        self._lookout.stir(now)
        self._repairers.take(now, endpoint, key, spm, preferred=preferred)

    def trust(self, key: SessionKey) -> None:
        """Allow to ask the session at its own address: it sends data of the object."""
        self._repairers.trust(key)

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget the sessions of channels that are not heard (spec: RTE-9)."""
        for part in (self._lookout.carousels, self._repairers, self._promises, self._demand):
            part.forget(hears)

    def take_position(
        self, now: int, key: SessionKey, ring: Ring, place: int, *, received: int
    ) -> None:
        """Take what an SPM says of a carousel, as `Carousels.tell` does."""
        self._lookout.tell(now, key, ring, place, received)

    def take_data(self, now: int, key: SessionKey, block: int, esi: int) -> None:
        """Take note of the latest ODATA of a session."""
        self._lookout.bring(now, key, block, esi)

    def take_sqn(self, now: int, key: SessionKey, sqn: int) -> None:
        """Note that a session has sent as far as `sqn`; lose the repairs that are overdue."""
        # spec: NAK-16
        for block, want in self._wants.cycles.items():
            promise = want.promise
            if promise is None or promise.key != key:
                continue
            if serial.distance(promise.last, sqn) >= self._config.reorder_packets:
                want.promise = None
                self._wants.timers.set(block, now)
            else:
                promise.heard = now

    def take_ncfs(
        self, now: int, key: SessionKey, bodies: tuple[bytes, ...], last: int | None
    ) -> bool:
        """Take NCFs of one moment, as `Promises.take` does: what they say will be sent."""
        return self._promises.take(now, key, self._hear(now, key), bodies, last)

    def take_repair(self, now: int, key: SessionKey, ids: Ids) -> None:
        """Take note of RDATA as it arrives."""
        self._demand.take_repair(key, ids)
        self._promises.repaired(key)
        repairer = self._hear(now, key)
        if not self._wants.cycles:
            return
        for want in self._wants.some(set(ids.blocks.tolist())):
            if want.asked_at and repairer:
                repairer.repaired(now - want.asked_at)
                want.asked_at = 0
            if want.state is WantState.WAIT_NCF:
                # They confirm what an NCF that got lost did.
                self._wants.move(want, WantEvent.CONFIRMED, now + self._promises.patience(repairer))

    def _hear(self, now: int, key: SessionKey) -> KnownRepairer | None:
        """Take note that a session confirms or repairs; return the repairer that is its own."""
        repairer = self._repairers.of_session(key)
        if repairer is None:
            return None
        if not repairer.answered_at:
            # spec: NAK-19: what waited for that goes on.
            for want in self._wants.waiting_until(self._repairers.ask_silent_at):
                self._wants.timers.set(want.block, now + self._back_off(repairer, 0))
        repairer.answered_at = now
        return repairer

    # Time.

    @property
    def knows_repairer(self) -> bool:
        """Whether an SPM named somebody who takes NAKs."""
        return bool(self._repairers)

    def time_left(self, now: int, loss: float) -> float | None:
        """Return the ns until carousels will have brought all; None: that can't be said.

        Args:
            loss: Share of packets lost, 0 to less than 1.
        """
        return self._demand.time_left(self._lookout.carousels.coming(now), loss)

    @property
    def deadline(self) -> int | None:
        """When `tick` has something to do, ns."""
        times = [self._wants.timers.deadline]
        if self._repairers.has_trusted:
            if self._wants.due and len(self._wants.cycles) < self._config.max_cycles:
                return 0
            times.append(self._lookout.look_at)
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: int, *, loss: float) -> list[Ask[N]]:
        """Start the wants that are due and move on those whose timer ran out.

        Args:
            loss: Share of packets lost, 0 to less than 1.
        """
        if self._lookout.is_late(now, self._wants.timers.deadline):
            return []
        repairer = self._repairers.choose(now)
        self._look(now, repairer, loss)
        if repairer is None:
            self._leave()
            return []
        self._start_due(now, repairer)
        asks: list[Ask[N]] = []
        for block in self._wants.timers.due(now):
            asks += self._expire(now, self._wants.cycles[block], repairer)
        if asks:
            # spec: NAK-15
            soon = now + self._config.ask_ahead * repairer.grtt
            for want in list(self._wants.cycles.values()):
                is_backing_off = want.state is WantState.BACK_OFF
                if is_backing_off and now < self._wants.timers.at(want.block) <= soon:
                    asks += self._expire(now, want, repairer)
        asks = joined(asks)
        if asks and not repairer.answered_at:
            asks = self._first(now, asks, repairer)
        self.counters.naks_sent += len(asks)
        return asks

    def _first(self, now: int, asks: list[Ask[N]], repairer: KnownRepairer) -> list[Ask[N]]:
        """Return the one NAK that goes to who never answered; what others ask for waits."""
        # spec: NAK-19
        self._repairers.asked(now, repairer)
        gone = set(asks[0].need.blocks_of(self._demand.geometry))
        for want in list(self._wants.cycles.values()):
            if want.asked_at == now and want.block not in gone:
                self._wants.move(want, WantEvent.TIMER, self._repairers.ask_silent_at)
                want.asked_at = 0
        return asks[:1]

    def _look(self, now: int, repairer: KnownRepairer | None, loss: float) -> None:
        """Make due what carousels went past, and what they will not bring soon."""
        symbol_size = self._demand.geometry.symbol_size
        passings = self._lookout.look(now, repairer, symbol_size=symbol_size, loss=loss)
        due = self._demand.look(passings, self._lookout.outlook)
        self._wants.make_due(due, again=not self._demand.finds_again)

    def _leave(self) -> None:
        """Leave everything to the carousel: nobody is there to ask."""
        self._wants.due.clear()
        for want in list(self._wants.cycles.values()):
            want.passed = False
            self._wants.move(want, WantEvent.LEFT)

    def _start_due(self, now: int, repairer: KnownRepairer) -> None:
        # Few at a time: a forged manifest must not keep us from the socket.
        for block in list(islice(self._wants.due, self._config.looked_at)):
            if len(self._wants.cycles) >= self._config.max_cycles:
                return
            want = self._wants.new(block)
            needs = self._demand.need(want.block)
            if not needs:
                self._wants.move(want, WantEvent.SATISFIED)
            elif self._demand.is_too_much(want.block):
                # spec: NAK-6: who lost most of a block is served cheaper by the carousel.
                self._wants.move(want, WantEvent.LEFT)
            else:
                want.needs, want.unconfirmed = needs, self._demand.beside(now, needs)
                if len(want.unconfirmed) < len(needs):
                    want.relied = dict.fromkeys(self._demand.promisers(now, needs), now)
                self._wants.move(want, WantEvent.STARTED, now + self._back_off(repairer, 0))

    def _back_off(self, repairer: KnownRepairer, retries: int) -> int:
        longest = policy.longest_back_off(repairer.backoff_factor, repairer.grtt, retries)
        return draw_backoff(self._rng, longest, repairer.gsize)

    def _expire(self, now: int, want: Want[N], repairer: KnownRepairer) -> list[Ask[N]]:
        """Move a want whose timer ran out; return the NAK to send, if any."""
        missing = self._demand.lacking(want.needs)
        if not missing:
            self._promises.judge(now, want, missing)
            self._wants.move(want, WantEvent.SATISFIED)
            return []
        if want.state is WantState.BACK_OFF:
            return self._ask(now, want, repairer)
        if want.state is WantState.WAIT_DATA:
            if want.promise and want.promise.heard + repairer.patience > now:
                # Its turn is yet to come.
                self._wants.timers.set(want.block, want.promise.heard + repairer.patience)
                return []
            self._promises.judge(now, want, missing)
            brought_nothing = len(missing) == len(want.needs)
            want.data_retries = want.data_retries + 1 if brought_nothing else 0
            exhausted = want.data_retries > self._config.data_retries
        else:
            want.ncf_retries += 1
            exhausted = want.ncf_retries > self._config.ncf_retries
            # spec: NAK-10: when nothing comes at all, it is not the repairer that is dead.
            asked = want.asked or repairer
            answers = asked.answered_at > want.asked_at
            if exhausted and self._lookout.heard_at > want.asked_at and not answers:
                asked.dead_until = now + self._rest(now, asked)
        if exhausted:
            self._demand.rest(want.block, now + self._rest(now, repairer))
            self._wants.move(want, WantEvent.EXHAUSTED)
            return []
        self._demand.retry(want.block)
        want.needs = want.unconfirmed = missing
        self._wants.move(want, WantEvent.TIMER, now + self._back_off(repairer, want.ncf_retries))
        return []

    def _ask(self, now: int, want: Want[N], repairer: KnownRepairer) -> list[Ask[N]]:
        carousel = self._lookout.carousels.get(repairer.key)
        heard = max(repairer.heard, carousel.heard if carousel else 0)
        symbol_time = carousel.symbol_time if carousel else 0.0
        if policy.hears_nothing(self._config, now - heard, repairer.grtt, symbol_time):
            # spec: NAK-8: the way there is likely dead as well.
            self._wants.timers.set(want.block, now + self._back_off(repairer, 0) + repairer.grtt)
            return []
        need = self._demand.request(
            now, want.unconfirmed, repairer.key, carousel.course.ring if carousel else None
        )
        if not need:
            self.counters.naks_suppressed += 1
            for key in self._demand.promisers(now, want.needs):
                want.relied.setdefault(key, now)
            self._wants.move(want, WantEvent.CONFIRMED, now + repairer.patience)
            return []
        backlog = (*self._wants.cycles, *self._wants.due)
        need = self._demand.beyond(need, self._lookout.outlook, backlog)
        if not need:
            # spec: NAK-7: one repair that was late must not be the last.
            repairer.repair_delay *= 7 / 8
            self._wants.move(want, WantEvent.LEFT)
            return []
        if not self._repairers.may_ask(now, repairer):
            self._wants.timers.set(want.block, self._repairers.ask_silent_at)
            return []
        want.asked, want.asked_at = repairer, now
        self._wants.move(want, WantEvent.TIMER, now + self._config.ncf_wait * repairer.grtt)
        return [Ask(repairer, need)]

    def _rest(self, now: int, repairer: KnownRepairer | None = None) -> int:
        """Return for how many ns to leave to the carousel what nobody brings."""
        key = repairer.key if repairer else None
        cycle_time = int(self._lookout.carousels.cycle_time(now, key))
        return max(cycle_time, self._config.shortest_death)


Naks = NakMachine[Exact, Runs] | NakMachine[Count, Counts]


def naks_for(config: NakConfig, geometry: Geometry, held: Holdings, *, rng: Random) -> Naks:
    """Return who asks for what is missing of an object, which is not empty."""
    if geometry.repair_symbols:
        return NakMachine(config, CountDemand(config, geometry, held), rng=rng)
    return NakMachine(config, ExactDemand(config, geometry, held), rng=rng)
