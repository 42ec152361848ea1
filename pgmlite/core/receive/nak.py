"""The receiver's side of NAK repair: when to ask for what was lost (spec/protocol.md section 7).

Theory of operation
===================

**What for.** A carousel brings a lost symbol again, a whole cycle later. A NAK brings it within
some round trips, if a repairer listens. Nothing here may fail: without an answer the carousel
comes round. What must not happen is that a thousand receivers that lose the same packet ask a
thousand times. So whoever lost something waits for a random while before asking, and says nothing
if by then it heard that somebody else's request was confirmed. That confirmation, the NCF, goes
to all.

**What is asked for.** A *need*: symbols of one block that were lost. What is there and what was
lost is known by somebody else (`Holder`); this machine sees needs only, and never where a symbol
stands. Lost is what a carousel went past (`carousels`), not what a sequence number says
(`losses`).

**One want a block.** All that is known of a block from its loss to its repair is one `Want`, and
what can happen to it is one table (`wants.WANT_TRANSITIONS`)::

    DUE --STARTED--> BACK_OFF --TIMER: NAK--> WAIT_NCF --NCF--> WAIT_DATA --> DONE
                       ^ `-------------NCF--------------------------^ |
                       `--------------TIMER: retry--------------------'

* DUE: the carousel went past the end of the block, and something of it is lost. It has no timer:
  it waits for a place (`max_cycles`) and for somebody who may be asked. Not asked for at all is a
  block of which too much was lost (NAK-6): LEFT to the carousel.
* BACK_OFF: what is needed is fixed now, and a random wait runs, short for few, long for most. An
  NCF that names a part of the need makes the request smaller; one that names the rest of it ends
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

**What arrives.** ODATA and heads in SPMs move carousels: `take_position` marks what they went
past as lost and makes blocks due. NCFs: `take_ncf`. RDATA: `take_repair`. Any packet's number:
`take_sqn`, for promises. SPMs: `take_repairer`. That a symbol came is not told to this machine:
it asks its holder when a timer runs out (SATISFIED). It would learn it too often otherwise.

**Timers.** A want in BACK_OFF, WAIT_NCF or WAIT_DATA has exactly one, on one heap; a want in DUE
has none. When a NAK leaves, wants whose back-off ends soon go along (NAK-15): what many lost
together is asked for as the random wait demands, and what we lost alone fills the packet.

**Invariants.** (1) A block has at most one want. (2) `_due` has those in DUE and `_cycles` all
others, and none is DONE: `_move` alone changes either. (3) A timer is set for just those in
`_cycles`. (4) Of a want in BACK_OFF, `unconfirmed` is what its NAK will ask for, but for what
came in between. (5) Whatever strangers send: at most `max_cycles` wants with a timer, `max_due`
without one, `max_ncfs` NCFs; one tick starts at most `looked_at`. (6) No NAK goes to an address
that is not trusted (NAK-9).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Generic, Protocol

import numpy as np

from pgmlite.core import serial
from pgmlite.core.config import NakConfig
from pgmlite.core.machine import SendNak
from pgmlite.core.receive import policy
from pgmlite.core.receive.carousels import Carousels
from pgmlite.core.receive.ncfs import HeardNcfs
from pgmlite.core.receive.repairers import KnownRepairer, Repairers
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.receive.wants import N, Promise, Want, WantEvent, WantState
from pgmlite.core.timers import Timers
from pgmlite.core.timing import draw_backoff
from pgmlite.wire.batch import HEADER_DTYPE
from pgmlite.wire.control import Spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import MAGIC, VERSION, PacketType
from pgmlite.wire.request import NAK_ROOM, build_nak


class Holder(Protocol[N]):
    """Who knows what of an object is there and what was lost."""

    nothing: N
    """The empty need."""

    geometry: Geometry | None
    """None: the manifest did not come yet."""

    def __len__(self) -> int:
        """Source symbols of the object."""

    def lose(self, start: int, stop: int) -> None:
        """Note that what is missing of symbols `start` to `stop` was lost."""

    def losing(self, blocks: range) -> list[int]:
        """Return which of consecutive blocks something is lost of."""

    def lost(self, geometry: Geometry, block: int) -> N:
        """Return what is lost of a block and did not come since."""

    def lacking(self, need: N) -> N:
        """Return what of `need`, which was lost, did not come since."""

    def beyond(self, need: N, passed: int, symbol_time: float, limit: float) -> N:
        """Return what of `need` a carousel that passed symbol `passed` does not bring in time."""


@dataclass(frozen=True, slots=True)
class Ask(Generic[N]):
    """Send a NAK for `need` to `repairer`."""

    repairer: KnownRepairer
    need: N


@dataclass(slots=True)
class NakCounters:
    """Names as in ``--json``."""

    naks_sent: int = 0
    naks_suppressed: int = 0
    ncfs_received: int = 0


def _joined(asks: Iterable[Ask[N]]) -> list[Ask[N]]:
    """Return the fewest NAKs that say `asks`, all of one repairer, without splitting one."""
    joined: list[Ask[N]] = []
    for ask in sorted(asks, key=lambda ask: ask.need.bounds):
        if joined:
            together = joined[-1].need.joined(ask.need)
            if together.fits(NAK_ROOM):
                joined[-1] = Ask(ask.repairer, together)
                continue
        joined.append(ask)
    return joined


def build_nak_packet(
    now: int, ask: Ask[N], *, symbol_size: int, oid: int, size: int, sqn: int, loss: float
) -> SendNak:
    """Return the NAK that says `ask`.

    Args:
        sqn: The highest sequence number seen of the session that is asked; 0: none.
        loss: Share of packets lost, 0 to 1.
    """
    repairer = ask.repairer
    _, tsi, channel = repairer.key
    row = np.zeros(1, HEADER_DTYPE)
    row["magic"], row["version"], row["type"] = MAGIC, VERSION, PacketType.NAK
    row["channel"], row["symbol_size"], row["tsi"] = channel, symbol_size, tsi
    row["oid"], row["size"], row["sqn"] = oid, size, sqn
    request, _ = ask.need.pack(NAK_ROOM)
    echo = (repairer.timestamp + now - repairer.heard) % (1 << 64)
    body = build_nak(repairer.nonce, echo, loss, request)
    return SendNak(repairer.endpoint, row.tobytes() + body)


class NakMachine(Generic[N]):
    """Decides what to ask for, and when, for one object."""

    def __init__(self, config: NakConfig, holder: Holder[N], *, rng: Random) -> None:
        self._config = config
        self._holder = holder
        self._rng = rng
        self._carousels = Carousels(config, len(holder))
        self._repairers = Repairers(config)
        self._ncfs: HeardNcfs[N] = HeardNcfs(config)
        self._due: dict[int, Want[N]] = {}
        self._cycles: dict[int, Want[N]] = {}
        self._timers: Timers[int] = Timers()
        self._heard_at = 0
        self.counters = NakCounters()

    def want(self, block: int) -> Want[N] | None:
        """Return what a block wants now."""
        return self._cycles.get(block) or self._due.get(block)

    def _move(self, want: Want[N], event: WantEvent, at: int | None = None) -> None:
        """Move a want on, to wait until `at` ns; None: its timer stays."""
        want.move(event)
        block = want.block
        if want.state is WantState.DUE:
            return
        self._due.pop(block, None)
        if want.state is not WantState.DONE:
            self._cycles[block] = want
            if at is not None:
                self._timers.set(block, at)
            return
        self._cycles.pop(block, None)
        self._timers.cancel(block)
        if want.passed:
            self._make_due([block])

    def _make_due(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            if want := self.want(block):
                self._move(want, WantEvent.PASSED)
            elif len(self._due) < self._config.max_due:
                self._due[block] = Want(block, self._holder.nothing, self._holder.nothing)

    # What arrives.

    def take_geometry(self, geometry: Geometry) -> None:
        """Take note that the holder knows blocks now; those lost from so far become due."""
        # spec: NAK-3: a block that still goes by is due when it ends.
        going = {
            geometry.block_of(head)
            for passed in self._carousels.passed
            if geometry.esi_of(head := (passed + 1) % geometry.symbols)
        }
        losing = self._holder.losing(range(geometry.blocks))
        self._make_due(block for block in losing if block not in going)

    def take_repairer(
        self, now: int, endpoint: Endpoint, key: SessionKey, spm: Spm, *, preferred: bool
    ) -> None:
        """Take an SPM of a session that may be asked at `endpoint` (spec: NAK-9)."""
        self._heard_at = now
        self._repairers.take(now, endpoint, key, spm, preferred=preferred)

    def trust(self, key: SessionKey) -> None:
        """Allow to ask the session at its own address: it sends data of the object."""
        self._repairers.trust(key)

    def take_position(self, now: int, key: SessionKey, symbol: int, *, is_head: bool) -> None:
        """Note that the carousel of a session is at `symbol`; lose what it jumped over.

        Args:
            is_head: `symbol` comes next, as an SPM says; else it just came.
        """
        self._heard_at = now
        spans, place = self._carousels.follow(now, key, symbol, is_head=is_head)
        geometry = self._holder.geometry
        for start, stop in spans:
            self._holder.lose(start, stop)
            if geometry:
                self._make_due(self._holder.losing(geometry.ended(start, stop)))
        if place is not None and geometry:
            # spec: NAK-3: the carousel would end this block late, or never.
            block = geometry.block_of(place)
            self._make_due(self._holder.losing(range(block, block + 1)))

    def take_sqn(self, now: int, key: SessionKey, sqn: int) -> None:
        """Note that a session has sent as far as `sqn`; lose the repairs that are overdue."""
        # spec: NAK-16
        for block, want in self._cycles.items():
            promise = want.promise
            if promise is None or promise.key != key:
                continue
            if serial.distance(promise.last, sqn) >= self._config.reorder_packets:
                want.promise = None
                self._timers.set(block, now)
            else:
                promise.heard = now

    def take_ncf(self, now: int, key: SessionKey, named: N, last: int | None) -> None:
        """Take an NCF: what is `named` will be sent (spec: NAK-5).

        Args:
            last: The sqn by which it all has been; None: it does not say.
        """
        self.counters.ncfs_received += 1
        until = now + self._patience(self._repairers.of_session(key))
        self._ncfs.add(now, until, named)
        promise = None if last is None else Promise(key, last, now)
        for want in self._cycles_of(named):
            self._confirm(want, named, until, promise)

    def _confirm(self, want: Want[N], named: N, until: int, promise: Promise | None) -> None:
        """Let one want know that what is `named` is on its way until `until`."""
        was, before = want.state, self._timers.at(want.block)
        if was is WantState.WAIT_DATA and not want.unconfirmed:
            # The usual case in a large group: it changes nothing but how long to wait.
            self._move(want, WantEvent.CONFIRMED, max(until, before))
            return
        want.unconfirmed = want.unconfirmed.less(named)
        is_all = not self._holder.lacking(want.unconfirmed)
        # Part of what we asked for: the rest did not fit, and is asked for next time.
        if not is_all and was is not WantState.WAIT_NCF:
            return
        if was is WantState.BACK_OFF:
            self.counters.naks_suppressed += 1
        self._move(
            want, WantEvent.CONFIRMED, until if was is WantState.WAIT_NCF else max(until, before)
        )
        want.promise = promise or want.promise

    def take_repair(self, now: int, key: SessionKey, came: N) -> None:
        """Take note of RDATA as it arrives."""
        repairer = self._repairers.of_session(key)
        for want in self._cycles_of(came):
            if want.asked_at and repairer:
                repairer.answered(now - want.asked_at)
                want.asked_at = 0
            if want.state is WantState.WAIT_NCF:
                # They confirm what an NCF that got lost did.
                self._move(want, WantEvent.CONFIRMED, now + self._patience(repairer))

    def _patience(self, repairer: KnownRepairer | None) -> int:
        if repairer and repairer.trusted:
            return repairer.patience
        return self._config.unknown_patience

    def _cycles_of(self, need: N) -> list[Want[N]]:
        """Return the wants, but those in DUE, of the blocks that `need` is of."""
        geometry = self._holder.geometry
        if not self._cycles or geometry is None:
            return []
        blocks = need.blocks_of(geometry)
        return [self._cycles[block] for block in blocks if block in self._cycles]

    # Time.

    @property
    def knows_repairer(self) -> bool:
        """Whether an SPM named somebody who takes NAKs."""
        return bool(self._repairers)

    @property
    def deadline(self) -> int | None:
        """When `tick` has something to do, ns."""
        has_place = len(self._cycles) < self._config.max_cycles
        if self._due and has_place and self._repairers.has_trusted:
            return 0
        return self._timers.deadline

    def tick(self, now: int) -> list[Ask[N]]:
        """Start the wants that are due and move on those whose timer ran out."""
        repairer = self._repairers.choose(now)
        if repairer is None:
            self._leave()
            return []
        self._start_due(now, repairer)
        asks: list[Ask[N]] = []
        for block in self._timers.due(now):
            asks += self._expire(now, self._cycles[block], repairer)
        if asks:
            # spec: NAK-15
            soon = now + self._config.ask_ahead * repairer.grtt
            for want in list(self._cycles.values()):
                is_backing_off = want.state is WantState.BACK_OFF
                if is_backing_off and now < self._timers.at(want.block) <= soon:
                    asks += self._expire(now, want, repairer)
        asks = _joined(asks)
        self.counters.naks_sent += len(asks)
        return asks

    def _leave(self) -> None:
        """Leave everything to the carousel: nobody is there to ask."""
        # spec: NAK-3: it makes blocks due again when it passes them.
        wants = list(self._cycles.values())
        if self._repairers.has_trusted:
            wants += self._due.values()
        for want in wants:
            want.passed = False
            self._move(want, WantEvent.LEFT)

    def _start_due(self, now: int, repairer: KnownRepairer) -> None:
        geometry = self._holder.geometry
        if geometry is None:
            return
        # Few at a time: a forged manifest must not keep us from the socket.
        for want in list(islice(self._due.values(), self._config.looked_at)):
            if len(self._cycles) >= self._config.max_cycles:
                return
            needs = self._holder.lost(geometry, want.block)
            if not needs:
                self._move(want, WantEvent.SATISFIED)
            elif len(needs) > policy.most_asked(self._config, geometry.source(want.block)):
                # spec: NAK-6: who lost most of a block is served cheaper by the carousel.
                self._move(want, WantEvent.LEFT)
            else:
                want.needs, want.unconfirmed = needs, self._ncfs.unnamed(now, needs)
                self._move(want, WantEvent.STARTED, now + self._back_off(repairer, 0))

    def _back_off(self, repairer: KnownRepairer, retries: int) -> int:
        longest = policy.longest_back_off(repairer.backoff_factor, repairer.grtt, retries)
        return draw_backoff(self._rng, longest, repairer.gsize)

    def _expire(self, now: int, want: Want[N], repairer: KnownRepairer) -> list[Ask[N]]:
        """Move a want whose timer ran out; return the NAK to send, if any."""
        missing = self._holder.lacking(want.needs)
        if not missing:
            self._move(want, WantEvent.SATISFIED)
            return []
        if want.state is WantState.BACK_OFF:
            return self._ask(now, want, repairer)
        if want.state is WantState.WAIT_DATA:
            if want.promise and want.promise.heard + repairer.patience > now:
                # Its turn is yet to come.
                self._timers.set(want.block, want.promise.heard + repairer.patience)
                return []
            brought_nothing = len(missing) == len(want.needs)
            want.data_retries = want.data_retries + 1 if brought_nothing else 0
            exhausted = want.data_retries > self._config.data_retries
        else:
            want.ncf_retries += 1
            exhausted = want.ncf_retries > self._config.ncf_retries
            # spec: NAK-10: when nothing comes at all, it is not the repairer that is dead.
            if exhausted and self._heard_at > want.asked_at:
                self._bury(now, want.asked or repairer)
        if exhausted:
            self._move(want, WantEvent.EXHAUSTED)
            return []
        want.needs = want.unconfirmed = missing
        self._move(want, WantEvent.TIMER, now + self._back_off(repairer, want.ncf_retries))
        return []

    def _ask(self, now: int, want: Want[N], repairer: KnownRepairer) -> list[Ask[N]]:
        position = self._carousels.get(repairer.key)
        heard = max(repairer.heard, position.heard if position else 0)
        symbol_time = position.symbol_time if position else 0.0
        if policy.hears_nothing(self._config, now - heard, repairer.grtt, symbol_time):
            # spec: NAK-8: the way there is likely dead as well.
            self._timers.set(want.block, now + self._back_off(repairer, 0) + repairer.grtt)
            return []
        need = self._holder.lacking(want.unconfirmed)
        if not need:
            self.counters.naks_suppressed += 1
            self._move(want, WantEvent.CONFIRMED, now + repairer.patience)
            return []
        limit = repairer.expected_delay * self._config.carousel_margin
        for coming in self._carousels.coming(now):
            need = self._holder.beyond(need, coming.passed, coming.symbol_time, limit)
        if not need:
            # spec: NAK-7: one repair that was late must not be the last.
            repairer.repair_delay *= 7 / 8
            self._move(want, WantEvent.LEFT)
            return []
        want.asked, want.asked_at = repairer, now
        self._move(want, WantEvent.TIMER, now + self._config.ncf_wait * repairer.grtt)
        return [Ask(repairer, need)]

    def _bury(self, now: int, repairer: KnownRepairer) -> None:
        """Leave a repairer alone that does not answer, for about a cycle (spec: NAK-10)."""
        cycle_time = int(self._carousels.cycle_time(now, repairer.key))
        repairer.dead_until = now + max(cycle_time, self._config.shortest_death)
