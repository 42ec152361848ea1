"""The receiver's side of NAK repair: what was lost, when to ask, whom (spec/protocol.md section 7).

One cycle per source block, as a table of states::

    BACK_OFF --timer: NAK--> WAIT_NCF --NCF--> WAIT_DATA --all there--> done
        ^ `------------NCF-------------------------^ |
        `-----------------timer (retry)--------------'

Nothing here fails: a repairer that does not answer is dead for a while, and the carousel brings
what is missing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from random import Random

import numpy as np

from pgmlite.core import serial
from pgmlite.core.config import NakConfig
from pgmlite.core.machine import SendNak
from pgmlite.core.receive.sessions import Carousels, Flags, Repairer, Repairers, SessionKey
from pgmlite.core.timing import draw_backoff
from pgmlite.wire.batch import HEADER_DTYPE
from pgmlite.wire.control import Spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import MAGIC, VERSION, PacketType
from pgmlite.wire.request import (
    MAX_REQUESTED,
    NAK_ROOM,
    Symbols,
    build_nak,
    build_request,
    request_size,
)

MANY = 256
"""Numbers from which on numpy is faster than a set."""


class State(Enum):
    """Where the cycle of one block is (RFC 3208 section 6.3)."""

    BACK_OFF = auto()
    WAIT_NCF = auto()
    WAIT_DATA = auto()
    DONE = auto()


class Event(Enum):
    """What moves a cycle on."""

    TIMER = auto()
    CONFIRMED = auto()
    SATISFIED = auto()
    EXHAUSTED = auto()


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.BACK_OFF, Event.TIMER): State.WAIT_NCF,
    (State.WAIT_NCF, Event.TIMER): State.BACK_OFF,
    (State.WAIT_DATA, Event.TIMER): State.BACK_OFF,
    (State.BACK_OFF, Event.CONFIRMED): State.WAIT_DATA,
    (State.WAIT_NCF, Event.CONFIRMED): State.WAIT_DATA,
    (State.WAIT_DATA, Event.CONFIRMED): State.WAIT_DATA,
    (State.BACK_OFF, Event.SATISFIED): State.DONE,
    (State.WAIT_NCF, Event.SATISFIED): State.DONE,
    (State.WAIT_DATA, Event.SATISFIED): State.DONE,
    (State.WAIT_NCF, Event.EXHAUSTED): State.DONE,
    (State.WAIT_DATA, Event.EXHAUSTED): State.DONE,
}


@dataclass(slots=True)
class Cycle:
    """The NAK cycle of one block."""

    block: int
    deadline: int
    needs: Symbols
    """Frozen when the cycle starts: what is lost later is asked for later (RFC 5401 3.2.1)."""

    confirmed: Flags
    state: State = State.BACK_OFF
    asked: Repairer | None = None
    asked_at: int = 0
    ncf_retries: int = 0
    data_retries: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a NAK for `symbols` to `repairer`."""

    repairer: Repairer
    symbols: Symbols


@dataclass(slots=True)
class Counters:
    """Names as in ``--json``."""

    naks_sent: int = 0
    naks_suppressed: int = 0
    ncfs_received: int = 0


@dataclass(slots=True)
class _Heard:
    """An NCF heard: `symbols` are on their way until `until`."""

    until: int
    symbols: Symbols
    first: int
    last: int


@dataclass(slots=True)
class _Promise:
    """The repairs of a block leave before the session `key` is past sqn `last`."""

    key: SessionKey
    last: int
    heard: int


def _is_in(symbols: Symbols, others: Symbols) -> Flags:
    """Whether each of `symbols` is among `others`; both ascending, the second not empty."""
    places = np.minimum(np.searchsorted(others, symbols), len(others) - 1)
    found: Flags = others[places] == symbols
    return found


def _joined(asks: list[Ask]) -> list[Ask]:
    """Return the fewest NAKs that say `asks`, all of one repairer, without splitting one."""
    joined: list[Ask] = []
    for ask in sorted(asks, key=lambda ask: int(ask.symbols[0])):
        if joined:
            together = np.concatenate((joined[-1].symbols, ask.symbols))
            if len(together) <= MAX_REQUESTED and request_size(together) <= NAK_ROOM:
                joined[-1] = Ask(ask.repairer, together)
                continue
        joined.append(ask)
    return joined


def build_nak_packet(
    now: int, ask: Ask, *, symbol_size: int, oid: int, size: int, sqn: int, loss: float
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
    request, _ = build_request(ask.symbols, NAK_ROOM)
    echo = (repairer.timestamp + now - repairer.heard) % (1 << 64)
    body = build_nak(repairer.nonce, echo, loss, request)
    return SendNak(repairer.endpoint, row.tobytes() + body)


class NakMachine:
    """Decides what to ask for, and when, for one object."""

    def __init__(self, config: NakConfig, have: Flags, *, rng: Random) -> None:
        """
        Args:
            have: (symbols,), whether each symbol is stored; shared with its owner.
        """
        self._config = config
        self._rng = rng
        self._have = have
        self._lost: Flags = np.zeros(len(have), np.bool_)
        self._block_symbols = 0
        self._carousels = Carousels(config, len(have))
        self._repairers = Repairers(config)
        self._due: dict[int, None] = {}
        self._again: dict[int, None] = {}
        """Blocks that ended once more during their cycle, which does not ask for the new losses."""

        self._cycles: dict[int, Cycle] = {}
        self._ncfs: deque[_Heard] = deque()
        self._ncf_symbols = 0
        self._promised: dict[int, _Promise] = {}
        """Of the blocks in WAIT_DATA whose NCFs said so."""

        self._heard_at = 0
        self._deadline: int | None = None
        self._is_stale = False
        self.counters = Counters()

    # What arrives.

    def set_blocks(self, block_symbols: int) -> None:
        """Group the symbols in blocks; blocks lost from so far become due."""
        self._is_stale = True
        self._block_symbols = block_symbols
        if len(self._have):
            self._due.update(dict.fromkeys(self._losing(0, -(-len(self._have) // block_symbols))))
            for passed in self._carousels.passed:
                block, rest = divmod(passed + 1, block_symbols)
                if rest:
                    self._due.pop(block, None)  # it is due when it ends

    def _losing(self, first: int, stop: int) -> list[int]:
        """Return which of the blocks `first` to `stop` something is lost of."""
        size = self._block_symbols
        span = slice(first * size, stop * size)
        open_losses = self._lost[span] & ~self._have[span]
        if not open_losses.any():
            return []
        flags = np.logical_or.reduceat(open_losses, np.arange(0, len(open_losses), size))
        losing: list[int] = (np.flatnonzero(flags) + first).tolist()
        return losing

    def take_repairer(
        self, now: int, endpoint: Endpoint, key: SessionKey, spm: Spm, *, preferred: bool
    ) -> None:
        """Take an SPM of a session that may be asked at `endpoint` (spec: NAK-9)."""
        self._is_stale = True
        self._heard_at = now
        self._repairers.take(now, endpoint, key, spm, preferred=preferred)

    def trust(self, key: SessionKey) -> None:
        """Allow to ask the session at its own address: it sends data of the object."""
        self._is_stale = True
        self._repairers.trust(key)

    def take_position(self, now: int, key: SessionKey, symbol: int, *, is_head: bool) -> None:
        """Note that the carousel of a session is at `symbol`; lose what it jumped over.

        Args:
            is_head: `symbol` comes next, as an SPM says; else it just came.
        """
        self._heard_at = now
        spans, place = self._carousels.follow(now, key, symbol, is_head=is_head)
        for start, stop in spans:
            self._pass(start, stop)
        if place is not None and self._block_symbols:
            # spec: NAK-3: the carousel would end this block late, or never.
            block = place // self._block_symbols
            self._make_due(block, block + 1)

    def take_sqn(self, now: int, key: SessionKey, sqn: int) -> None:
        """Note that a session has sent as far as `sqn`; lose the repairs that are overdue."""
        # spec: NAK-16
        for block, promise in list(self._promised.items()):
            if promise.key != key:
                continue
            promise.heard = now
            if serial.distance(promise.last, sqn) >= self._config.reorder_packets:
                del self._promised[block]
                self._cycles[block].deadline = now
                self._is_stale = True

    def _pass(self, start: int, stop: int) -> None:
        """Lose what is missing of symbols `start` to `stop`; make blocks due that ended."""
        self._is_stale = True
        span = slice(start, stop)
        self._lost[span] |= ~self._have[span]
        if not self._block_symbols:
            return
        size = self._block_symbols
        ended = -(-stop // size) if stop == len(self._have) else stop // size
        if ended > start // size:
            self._make_due(start // size, ended)

    def _make_due(self, first: int, stop: int) -> None:
        for block in self._losing(first, stop):
            (self._again if block in self._cycles else self._due)[block] = None

    def take_ncf(self, now: int, key: SessionKey, symbols: Symbols, last: int | None) -> None:
        """Take an NCF: `symbols`, (n,) ascending, will be sent (spec: NAK-5).

        Args:
            last: The sqn by which they all have been; None: it does not say.
        """
        self._is_stale = True
        self.counters.ncfs_received += 1
        repairer = self._repairers.of_session(key)
        until = now + self._patience(repairer)
        self._ncfs.append(_Heard(until, symbols, int(symbols[0]), int(symbols[-1])))
        self._ncf_symbols += len(symbols)
        while (
            self._ncfs[0].until <= now
            or self._ncf_symbols > self._config.max_ncf_symbols
            or len(self._ncfs) > self._config.max_ncfs
        ):
            self._ncf_symbols -= len(self._ncfs.popleft().symbols)
        for cycle in self._cycles_of(symbols):
            if cycle.state is State.WAIT_DATA and cycle.confirmed.all():
                # The usual case in a large group: it changes nothing but how long to wait.
                cycle.deadline = max(until, cycle.deadline)
                continue
            was_waiting = cycle.state is State.WAIT_NCF
            cycle.confirmed |= _is_in(cycle.needs, symbols)
            open_needs = ~self._have[cycle.needs]
            if not (open_needs & ~cycle.confirmed).any():
                if cycle.state is State.BACK_OFF:
                    self.counters.naks_suppressed += 1
                self._move(cycle, Event.CONFIRMED)
                cycle.deadline = max(until, cycle.deadline if not was_waiting else 0)
            elif was_waiting:
                # Part of what we asked for: the rest did not fit, and is asked for next time.
                self._move(cycle, Event.CONFIRMED)
                cycle.deadline = until
            else:
                continue
            if last is not None:
                self._promised[cycle.block] = _Promise(key, last, now)

    def take_repair(self, now: int, key: SessionKey, symbols: Symbols) -> None:
        """Take note of RDATA, (n,) symbols, as they arrive."""
        self._is_stale = True
        repairer = self._repairers.of_session(key)
        for cycle in self._cycles_of(symbols):
            if cycle.asked_at and repairer:
                sample = now - cycle.asked_at
                before = repairer.repair_delay or sample
                repairer.repair_delay = before + (sample - before) / 8
                cycle.asked_at = 0
            if cycle.state is State.WAIT_NCF:
                # They confirm what an NCF that got lost did.
                self._move(cycle, Event.CONFIRMED)
                cycle.deadline = now + self._patience(repairer)

    def _patience(self, repairer: Repairer | None) -> int:
        if repairer and repairer.trusted:
            return repairer.patience
        return self._config.unknown_patience

    def _cycles_of(self, symbols: Symbols) -> list[Cycle]:
        """Return the cycles of the blocks that `symbols` are of, the first block first."""
        if not self._cycles:
            return []
        numbers = symbols // self._block_symbols
        if len(numbers) > MANY:
            numbers = numbers[np.diff(numbers, prepend=-1) != 0]
        blocks = sorted(set(numbers.tolist()))
        return [self._cycles[block] for block in blocks if block in self._cycles]

    # Time.

    @property
    def knows_repairer(self) -> bool:
        """Whether an SPM named somebody who takes NAKs."""
        return bool(self._repairers)

    @property
    def deadline(self) -> int | None:
        """When `tick` has something to do, ns."""
        if self._is_stale:
            self._deadline, self._is_stale = self._earliest(), False
        return self._deadline

    def _earliest(self) -> int | None:
        if not self._repairers:
            return None
        due = [cycle.deadline for cycle in self._cycles.values()]
        is_open = len(self._cycles) < self._config.max_cycles
        if self._due and is_open and self._repairers.has_trusted:
            due.append(0)
        return min(due, default=None)

    def tick(self, now: int) -> list[Ask]:
        """Start the cycles that are due and move on those whose timer ran out."""
        self._is_stale = True
        asks: list[Ask] = []
        repairer = self._repairers.choose(now)
        if repairer is None:
            # spec: NAK-3: nobody to ask: the carousel makes blocks due again when it passes them.
            if self._repairers.has_trusted:
                self._due.clear()
            self._cycles.clear()
            self._promised.clear()
            self._again.clear()
            return asks
        self._start_due(now, repairer)
        for cycle in list(self._cycles.values()):
            if cycle.deadline <= now:
                asks += self._expire(now, cycle, repairer)
        if asks:
            # spec: NAK-15
            soon = now + self._config.ask_ahead * repairer.grtt
            for cycle in self._cycles.values():
                if cycle.state is State.BACK_OFF and now < cycle.deadline <= soon:
                    asks += self._expire(now, cycle, repairer)
        for cycle in [one for one in self._cycles.values() if one.state is State.DONE]:
            del self._cycles[cycle.block]
            self._promised.pop(cycle.block, None)
            if cycle.block in self._again:
                del self._again[cycle.block]
                self._due[cycle.block] = None
        asks = _joined(asks)
        self.counters.naks_sent += len(asks)
        return asks

    def _start_due(self, now: int, repairer: Repairer) -> None:
        # Few at a time: a forged manifest must not keep us from the socket.
        for block in list(islice(self._due, self._config.looked_at)):
            if len(self._cycles) >= self._config.max_cycles:
                return
            del self._due[block]
            if block in self._cycles:
                continue
            first = block * self._block_symbols
            span = slice(first, min(first + self._block_symbols, len(self._have)))
            needs = np.flatnonzero(self._lost[span] & ~self._have[span]).astype(np.int64) + first
            most = max(self._config.always_asked, int((span.stop - first) * self._config.most_lost))
            # spec: NAK-6: who lost most of a block is served cheaper by the carousel.
            if not len(needs) or len(needs) > most:
                continue
            cycle = Cycle(block, 0, needs, np.zeros(len(needs), np.bool_))
            for heard in self._ncfs:
                if heard.until > now and heard.first < span.stop and heard.last >= first:
                    cycle.confirmed |= _is_in(needs, heard.symbols)
            cycle.deadline = now + self._back_off(repairer, 0)
            self._cycles[block] = cycle

    def _back_off(self, repairer: Repairer, retries: int) -> int:
        longest = repairer.backoff_factor * repairer.grtt << min(retries, 4)
        return draw_backoff(self._rng, longest, repairer.gsize)

    def _move(self, cycle: Cycle, event: Event) -> None:
        cycle.state = TRANSITIONS[cycle.state, event]

    def _expire(self, now: int, cycle: Cycle, repairer: Repairer) -> list[Ask]:
        """Move a cycle whose timer ran out; return the NAK to send, if any."""
        missing = ~self._have[cycle.needs]
        if not missing.any():
            self._move(cycle, Event.SATISFIED)
            return []
        if cycle.state is State.BACK_OFF:
            return self._ask(now, cycle, repairer, missing)
        if cycle.state is State.WAIT_DATA:
            promise = self._promised.get(cycle.block)
            if promise and promise.heard + repairer.patience > now:
                cycle.deadline = promise.heard + repairer.patience  # its turn is yet to come
                return []
            self._promised.pop(cycle.block, None)
            cycle.data_retries = cycle.data_retries + 1 if missing.all() else 0
            exhausted = cycle.data_retries > self._config.data_retries
        else:
            cycle.ncf_retries += 1
            exhausted = cycle.ncf_retries > self._config.ncf_retries
            # spec: NAK-10: when nothing comes at all, it is not the repairer that is dead.
            if exhausted and self._heard_at > cycle.asked_at:
                self._bury(now, cycle.asked or repairer)
        if exhausted:
            self._move(cycle, Event.EXHAUSTED)
            return []
        self._move(cycle, Event.TIMER)
        cycle.needs = cycle.needs[missing]
        cycle.confirmed = np.zeros(len(cycle.needs), np.bool_)
        cycle.deadline = now + self._back_off(repairer, cycle.ncf_retries)
        return []

    def _ask(self, now: int, cycle: Cycle, repairer: Repairer, missing: Flags) -> list[Ask]:
        position = self._carousels.get(repairer.key)
        heard = max(repairer.heard, position.heard if position else 0)
        gap = 3 * int(position.symbol_time) if position else 0
        if now - heard > max(2 * repairer.grtt, self._config.silence, gap):
            # spec: NAK-8: nothing comes: the way there is likely dead as well.
            cycle.deadline = now + self._back_off(repairer, 0) + repairer.grtt
            return []
        symbols = cycle.needs[missing & ~cycle.confirmed]
        if not len(symbols):
            self._move(cycle, Event.CONFIRMED)
            cycle.deadline = now + repairer.patience
            self.counters.naks_suppressed += 1
            return []
        limit = repairer.expected_delay * self._config.carousel_margin
        symbols = symbols[~self._carousels.soon(now, symbols, limit)]
        if not len(symbols):
            # spec: NAK-7: one repair that was late must not be the last.
            repairer.repair_delay *= 7 / 8
            self._move(cycle, Event.SATISFIED)
            return []
        self._move(cycle, Event.TIMER)
        cycle.asked, cycle.asked_at = repairer, now
        cycle.deadline = now + self._config.ncf_wait * repairer.grtt
        return [Ask(repairer, symbols[:MAX_REQUESTED])]

    def _bury(self, now: int, repairer: Repairer) -> None:
        """Leave a repairer alone that does not answer, for about a cycle (spec: NAK-10)."""
        cycle_time = int(self._carousels.cycle_time(now, repairer.key))
        repairer.dead_until = now + max(cycle_time, self._config.shortest_death)
