"""What a receiver knows of the sessions it hears: where carousels are, who takes NAKs.

Packets lost are counted by session (spec: RCV-9); the rest outlives the cycles of the NAK machine
(spec: NAK-1, NAK-2, NAK-7, NAK-9 to NAK-11).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pgmlite.core import serial
from pgmlite.core.config import NakConfig
from pgmlite.core.serial import SequenceTracker, Sqns
from pgmlite.core.timing import grtt_of, gsize_of
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.control import Spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.request import Symbols

Flags = npt.NDArray[np.bool_]
SessionKey = tuple[Endpoint, int, int]
"""(source, tsi, channel)."""


def session_of(batch: PacketBatch) -> SessionKey:
    """Return the session of a batch's last packet."""
    row = batch.rows[-1]
    return batch.source, int(row["tsi"]), int(row["channel"])


def repaired_by(batch: PacketBatch) -> list[int | None]:
    """Return of each NCF the sqn by which all that it names was sent; None: it does not say."""
    distances, sqns = batch.offsets.tolist(), batch.rows["sqn"].tolist()
    return [
        serial.add(sqn, ahead) if 0 < ahead < serial.HALF else None
        for sqn, ahead in zip(sqns, distances, strict=True)
    ]


@dataclass(slots=True)
class _Sum:
    """Packets lost and received, and lost by sessions that are not believed (spec: RCV-9)."""

    lost: int = 0
    received: int = 0
    unbelieved: int = 0

    def add(self, tracker: SequenceTracker) -> None:
        """Add what one session has."""
        if tracker.is_plausible:
            self.lost += tracker.lost
            self.received += tracker.received
        else:
            self.unbelieved += tracker.lost


class Senders:
    """Counts received and lost packets of each session (spec: RCV-9)."""

    def __init__(self, limit: int) -> None:
        """
        Args:
            limit: Sessions at most; the one silent for longest makes room.
        """
        self._limit = limit
        self._trackers: dict[SessionKey, SequenceTracker] = {}
        self._evicted = _Sum()
        """What was counted of sessions that made room for others."""

        self._lost_before = self._unbelieved_before = 0

    def __len__(self) -> int:
        return len(self._trackers)

    def get(self, key: SessionKey) -> SequenceTracker | None:
        """Return the count of one session."""
        return self._trackers.get(key)

    def count(self, batch: PacketBatch) -> None:
        """Take the sequence numbers of a batch."""
        rows = batch.rows
        channel = int(rows["channel"][0])
        sqns = rows["sqn"].astype(np.uint32)
        tsis = rows["tsi"]
        first = tsis[0]
        if len(batch) == 1 or bool((tsis == first).all()):
            self._tracker((batch.source, int(first), channel), sqns).update(sqns)
            return
        for tsi in np.unique(tsis):
            some = sqns[tsis == tsi]
            self._tracker((batch.source, int(tsi), channel), some).update(some)

    def _tracker(self, key: SessionKey, sqns: Sqns) -> SequenceTracker:
        tracker = self._trackers.pop(key, None)
        if tracker is None:
            while len(self._trackers) >= self._limit:
                # Strangers can invent senders without end.
                self._evict(next(iter(self._trackers)))
            tracker = SequenceTracker(int(sqns[0]))
        self._trackers[key] = tracker
        return tracker

    def _evict(self, key: SessionKey) -> None:
        self._evicted.add(self._trackers.pop(key))

    def _counted(self) -> _Sum:
        """Return what was counted since `forget`."""
        counted = replace(self._evicted)
        for tracker in self._trackers.values():
            counted.add(tracker)
        return counted

    @property
    def lost(self) -> int:
        """Packets missing by their numbers, over all sessions so far."""
        return self._lost_before + self._counted().lost

    @property
    def lost_unbelieved(self) -> int:
        """Packets that sessions miss whose numbers look made up, so far."""
        return self._unbelieved_before + self._counted().unbelieved

    @property
    def loss(self) -> float:
        """Share of packets lost since `forget`, 0 to less than 1."""
        counted = self._counted()
        return counted.lost / max(1, counted.lost + counted.received)

    def forget(self) -> None:
        """Start to count anew, for another object."""
        self._lost_before, self._unbelieved_before = self.lost, self.lost_unbelieved
        self._trackers.clear()
        self._evicted = _Sum()


@dataclass(slots=True)
class Position:
    """How far the carousel of one session is, as this receiver saw it go by."""

    passed: int
    """Symbol up to which everything has come or is lost."""

    heard: int
    measured_at: int
    to_go: int
    """Symbols until it has come round to where it was first heard; 0 or less: it has."""

    since_measured: int = 0
    spm_head: int = -1
    """What the latest SPM said comes next."""

    symbol_time: float = 0.0
    """ns from symbol to symbol, smoothed; 0: not known yet."""

    def measure(self, now: int, gone: int, shortest: int) -> None:
        """Count `gone` symbols; take the speed once `shortest` ns have passed."""
        self.since_measured += gone
        elapsed = now - self.measured_at
        if elapsed >= shortest:
            sample = elapsed / self.since_measured
            before = self.symbol_time or sample
            self.symbol_time = before + (sample - before) / 4
            self.measured_at, self.since_measured = now, 0


class Carousels:
    """The positions of the sessions heard; the one silent for longest makes room."""

    def __init__(self, config: NakConfig, symbols: int) -> None:
        """
        Args:
            symbols: Symbols in the object.
        """
        self._config = config
        self._total = symbols
        self._positions: dict[SessionKey, Position] = {}

    def __len__(self) -> int:
        return len(self._positions)

    def get(self, key: SessionKey) -> Position | None:
        """Return where a session is."""
        return self._positions.get(key)

    @property
    def passed(self) -> list[int]:
        """The last symbol that went by, of each session."""
        return [position.passed for position in self._positions.values()]

    def cycle_time(self, now: int, key: SessionKey) -> float:
        """Ns a cycle takes of the session `key`, or else of the slowest heard now; 0: not known."""
        own = self._positions.get(key)
        heard = [p for p in self._positions.values() if now - p.heard < self._config.silence]
        times = (position.symbol_time for position in ([own] if own else heard))
        return max(times, default=0.0) * self._total

    def follow(
        self, now: int, key: SessionKey, symbol: int, *, is_head: bool
    ) -> tuple[list[tuple[int, int]], int | None]:
        """Note that a session is at `symbol`.

        Args:
            is_head: `symbol` comes next, as an SPM says; else it just came.

        Returns:
            The (start, stop) of what has gone by; and the last symbol that has, if its block need
            not end any more: the carousel stands, or has come round to where it was first heard.
        """
        total = self._total
        if not total:
            return [], None
        last = (symbol - 1) % total if is_head else symbol
        position = self._positions.pop(key, None)
        if position is None:
            while len(self._positions) >= self._config.max_positions:
                self._positions.pop(next(iter(self._positions)))
            # spec: NAK-2: what went by before we joined was not lost.
            self._positions[key] = Position(last, now, now, total)
            return [], None
        self._positions[key] = position  # the one silent for longest stands first
        gone = (last - position.passed) % total
        # spec: NAK-1: three packets may still overtake one another, but not a carousel that stands.
        stands = is_head and position.spm_head == symbol
        if is_head:
            position.spm_head = symbol
        if not stands:
            position.heard = now
            gone -= self._config.reorder_packets
        if gone <= 0:
            return [], position.passed if stands else None
        if gone > total // 2 and total > 2 * self._config.reorder_packets:
            # Backwards, or more than half the object in one gap: as if we had just joined.
            position.passed, position.to_go = last, total
            return [], None
        if not stands:
            position.measure(now, gone, self._config.measure_time)
        start = (position.passed + 1) % total
        position.passed = (position.passed + gone) % total
        is_round = stands or 0 < position.to_go <= gone
        position.to_go -= gone
        place = position.passed if is_round else None
        if start + gone <= total:
            return [(start, start + gone)], place
        return [(start, total), (0, start + gone - total)], place

    def soon(self, now: int, symbols: Symbols, limit: float) -> Flags:
        """Whether any carousel brings each of `symbols` within `limit` ns."""
        # spec: NAK-7
        soon = np.zeros(len(symbols), np.bool_)
        for position in self._positions.values():
            if position.symbol_time and now - position.heard < self._config.silence:
                ahead = (symbols - position.passed - 1) % self._total + 1
                soon |= ahead * position.symbol_time <= limit
        return soon


@dataclass(slots=True)
class Repairer:
    """A session that takes NAKs, from its latest SPM."""

    endpoint: Endpoint
    key: SessionKey
    preferred: bool
    """We were told of it, by the manifest or by our own configuration."""

    trusted: bool = False
    """It sent data of the object, or we were told of it."""

    nonce: int = 0
    timestamp: int = 0
    heard: int = 0
    grtt: int = 0
    gsize: int = 10
    backoff_factor: int = 6
    dead_until: int = 0
    repair_delay: float = 0.0
    """ns from a NAK to its repair, smoothed; 0: none came yet."""

    def learn(self, now: int, spm: Spm, config: NakConfig) -> None:
        """Take what an SPM says."""
        self.timestamp, self.heard = spm.timestamp, now
        if repairs := spm.repairs:
            self.nonce = repairs.nonce
            self.grtt = min(max(grtt_of(repairs.grtt), config.grtt_min), config.grtt_max)
            self.gsize = gsize_of(repairs.gsize & 0xF)
            self.backoff_factor = min(max(repairs.backoff_factor, 1), 15)

    @property
    def patience(self) -> int:
        """Time that an NCF suppresses what it names, ns (spec: NAK-5)."""
        return (self.backoff_factor + 2) * self.grtt

    @property
    def expected_delay(self) -> int:
        """Time from the decision to ask to the repair, ns."""
        if self.repair_delay:
            return int(self.repair_delay) + self.backoff_factor * self.grtt // 2
        return (self.backoff_factor // 2 + 2) * self.grtt


class Repairers:
    """The sessions that take NAKs, by endpoint."""

    def __init__(self, config: NakConfig) -> None:
        self._config = config
        self._repairers: dict[Endpoint, Repairer] = {}

    def __len__(self) -> int:
        return len(self._repairers)

    def take(
        self, now: int, endpoint: Endpoint, key: SessionKey, spm: Spm, *, preferred: bool
    ) -> None:
        """Take an SPM of a session that may be asked at `endpoint` (spec: NAK-9)."""
        repairer = self._repairers.get(endpoint)
        if repairer is None or repairer.key != key:
            if repairer is None and len(self._repairers) >= self._config.max_repairers:
                others = [r for r in self._repairers.values() if not r.preferred]
                if not others:
                    return
                gone = min(others, key=lambda r: (r.trusted, r.heard))
                del self._repairers[gone.endpoint]
            repairer = self._repairers[endpoint] = Repairer(endpoint, key, preferred)
        repairer.trusted |= preferred
        repairer.learn(now, spm, self._config)

    def trust(self, key: SessionKey) -> None:
        """Allow to ask the session at its own address: it sends data of the object."""
        for repairer in self._repairers.values():
            repairer.trusted |= repairer.key == key

    def of_session(self, key: SessionKey) -> Repairer | None:
        """Return the repairer that is a session's own."""
        return next((r for r in self._repairers.values() if r.key == key), None)

    @property
    def has_trusted(self) -> bool:
        """Whether somebody may be asked, alive or not."""
        return any(repairer.trusted for repairer in self._repairers.values())

    def choose(self, now: int) -> Repairer | None:
        """Return the repairer to ask: those we were told of first, then the latest heard."""
        # spec: NAK-11
        alive = [
            repairer
            for repairer in self._repairers.values()
            if repairer.trusted
            and repairer.dead_until <= now
            and now - repairer.heard < self._config.spm_patience
        ]
        return max(alive, key=lambda r: (r.preferred, r.heard), default=None)
