"""The repairer's side of NAK repair: what is asked for, confirmed, and sent next.

spec/protocol.md section 8 (REP). `RepairQueue` is the part that a sender with repairs and a
stand-alone repairer share: NAKs in, NCFs and the symbols to repeat out.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from pgmlite.core import serial
from pgmlite.core.config import RepairConfig
from pgmlite.core.machine import SECOND
from pgmlite.core.timing import backoff_factor, gsize_of, quantise_grtt, quantise_gsize
from pgmlite.errors import RefusedPacket
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.control import Manifest
from pgmlite.wire.request import Nak, Symbols, build_request, parse_nak


@dataclass(slots=True)
class Counters:
    """Names as in ``--json``."""

    naks_received: int = 0
    ncfs_sent: int = 0
    rdata: int = 0


@dataclass(slots=True)
class _Budget:
    """A token bucket of one source of NAKs."""

    tokens: float
    at: int

    def take_some(self, now: int, wanted: int, rate: float, depth: float) -> int:
        """Take up to `wanted` tokens; `rate` of them come a second, `depth` at most are kept."""
        self.tokens = min(depth, self.tokens + (now - self.at) / SECOND * rate)
        self.at = now
        taken = max(0, min(wanted, int(self.tokens)))
        self.tokens -= taken
        return taken


NONCE_SIZE = 8


class SentLog:
    """Which packet carried each symbol last (spec: REP-4)."""

    def __init__(self, symbols: int, longest: int) -> None:
        """
        Args:
            symbols: Symbols in the object.
            longest: Packets that can be on their way; a NAK that says more is not believed.
        """
        self._longest = longest
        self._packets = 0
        # Modulo 2**32, like sqns: what it can't tell apart is four thousand million packets ago.
        self._carried_by: npt.NDArray[np.uint32] = np.zeros(symbols, np.uint32)

    def count(self, packets: int) -> None:
        """Note that so many packets left."""
        self._packets += packets

    def carried(self, symbols: Symbols) -> None:
        """Note that the latest packets carried `symbols`, (n,) in their order."""
        first = self._packets - len(symbols) + 1
        self._carried_by[symbols] = np.arange(first, self._packets + 1).astype(np.uint32)

    def in_flight(self, symbols: Symbols, heard: int, last: int) -> npt.NDArray[np.bool_]:
        """Return whether each of `symbols` was sent after sqn `heard`; `last` is the latest."""
        ago = serial.distance(heard, last)
        if not 0 < ago <= self._longest:
            return np.zeros(len(symbols), np.bool_)
        since = np.uint32(self._packets % serial.MODULUS) - self._carried_by[symbols]
        flags: npt.NDArray[np.bool_] = since < min(ago, self._packets)
        return flags


class Unconfirmed:
    """Symbols that NCFs are still to name, each once."""

    def __init__(self, symbols: int) -> None:
        """
        Args:
            symbols: Symbols in the object.
        """
        self._is_in: npt.NDArray[np.bool_] = np.zeros(symbols, np.bool_)
        self._parts: list[Symbols] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, symbols: Symbols) -> None:
        """Take `symbols`, (n,)."""
        fresh = symbols[~self._is_in[symbols]]
        if len(fresh):
            self._is_in[fresh] = True
            self._parts.append(fresh)

    def take(self, limit: int) -> bytes:
        """Return an NCF's body of at most `limit` bytes that names the lowest of them."""
        if len(self._parts) > 1:
            self._parts = [np.sort(np.concatenate(self._parts))]
        (rest,) = self._parts
        body, count = build_request(rest, limit)
        self._is_in[rest[:count]] = False
        self._parts = [rest[count:]] if count < len(rest) else []
        return body


class RepairQueue:
    """What receivers asked for, each symbol once, in the order it came."""

    def __init__(
        self, config: RepairConfig, manifest: Manifest, *, packet_time: int, rng: Random
    ) -> None:
        """
        Args:
            packet_time: ns that a packet takes at our rate: no answer comes sooner.
        """
        self._config = config
        self._grtt_floor = max(config.grtt_min, 2 * packet_time)
        self._manifest = manifest
        self._rng = rng
        self._queued: npt.NDArray[np.bool_] = np.zeros(manifest.symbols, np.bool_)
        self._pending: deque[Symbols] = deque()
        self._waiting = 0
        # How many hold-offs each symbol is in: they may overlap.
        self._held: npt.NDArray[np.uint16] = np.zeros(manifest.symbols, np.uint16)
        self._held_symbols = 0
        self._holds: deque[tuple[int, Symbols]] = deque()
        self._sources: dict[str, tuple[_Budget, _Budget]] = {}
        self._naks = _Budget(config.naks_per_second, 0)
        self._nonces = [rng.getrandbits(64)] * 3
        self._nonce_at = 0
        self._grtt = config.grtt_start
        self._grtt_measured = False
        self._grtt_peak = 0
        self._grtt_at = self._answered_at = 0
        self._gsize = float(config.gsize_start)
        self._gsize_at = 0
        self._overlaps = 0
        self.counters = Counters()
        self.refused: Counter[str] = Counter()

    # What an SPM says.

    def nonce(self, now: int) -> int:
        """Return the nonce of now; a new one every few seconds."""
        if now - self._nonce_at >= self._config.nonce_life:
            self._nonce_at = now
            self._nonces = [self._rng.getrandbits(64), *self._nonces[:2]]
        return self._nonces[0]

    def group(self, now: int) -> tuple[int, int]:
        """Return (GRTT, group size), quantised; call once an SPM (spec: REP-6)."""
        if not self._grtt_measured:
            return quantise_grtt(self.grtt), quantise_gsize(self._gsize)
        probe_time = max(self._config.probe_time, self._config.probe_grtt * self._grtt)
        if now - self._grtt_at >= min(probe_time, self._config.probe_longest):
            # RFC 5401 section 3.7.1: up at once, down by a tenth.
            if self._grtt_peak:
                self._grtt = max(self._grtt * 9 // 10, self._grtt_peak)
            self._grtt_peak, self._grtt_at = 0, now
        if now - self._answered_at >= self._config.grtt_life:
            # With one that is too long nobody asks, and it would stay for ever.
            self._grtt = max(self._grtt // 2, min(self._grtt, self._config.grtt_start))
            self._answered_at = now
        if now - self._gsize_at >= self._config.gsize_time:
            self._forget_sources(now - self._config.source_life)
            # NAKs of independent losses overlap as well: those who asked say how far it may go.
            base = max(len(self._sources), self._config.gsize_start)
            grows = self._overlaps > self._config.overlaps_wanted
            grown = self._gsize * (2 if grows else 0.9)
            self._gsize = min(max(grown, base), self._config.most_silent * base)
            self._overlaps, self._gsize_at = 0, now
        return quantise_grtt(self.grtt), quantise_gsize(self._gsize)

    @property
    def backoff_factor(self) -> int:
        """K for the group size, or for those who ask if they are fewer than it starts at."""
        # spec: REP-6
        if self._config.backoff_factor:
            return self._config.backoff_factor
        asking = len(self._sources)
        is_small = asking and self._gsize <= self._config.gsize_start
        return backoff_factor(asking if is_small else gsize_of(quantise_gsize(self._gsize)))

    @property
    def grtt(self) -> int:
        """Group round-trip time, ns."""
        return max(self._grtt, self._grtt_floor)

    def _measure(self, now: int, timestamp: int) -> None:
        rtt = now - timestamp
        if not 0 < rtt <= self._config.grtt_max:
            return
        self._answered_at = now
        self._grtt_peak = max(self._grtt_peak, rtt)
        if not self._grtt_measured:
            # The start value was a guess: the first answer is better.
            self._grtt, self._grtt_measured = rtt, True
            self._grtt_at = self._gsize_at = now
        self._grtt = max(self._grtt, rtt)

    # NAKs.

    def take_naks(
        self, now: int, batch: PacketBatch, *, tsi: int, sent: SentLog, sqn: int, head: int | None
    ) -> list[Symbols]:
        """Take NAKs; return what to confirm, an NCF each.

        Args:
            tsi: Our session: NAKs to another are refused.
            sqn: The last sequence number sent.
            head: The symbol that the carousel sends next; None: no carousel is moving.
        """
        places = self._admitted(now, batch, tsi)
        if not len(places):
            return []
        confirmed = []
        nak_budget, symbol_budget = self._budgets(now, batch.source.address)
        for place in places.tolist():
            if nak_budget.tokens < 0 or self._naks.tokens < 0:
                self.refused["budget"] += 1
                continue
            try:
                nak = parse_nak(batch.payload[place].tobytes(), self._manifest.symbols)
            except RefusedPacket as refusal:
                self.refused[refusal.reason] += 1
                continue
            self.counters.naks_received += 1
            # spec: REP-9
            more = len(nak.symbols) // self._config.symbols_a_nak
            nak_budget.tokens -= more
            self._naks.tokens -= more
            self._measure(now, nak.timestamp)
            in_flight = sent.in_flight(nak.symbols, int(batch.rows["sqn"][place]), sqn)
            symbols = self._enqueue(now, nak, symbol_budget, in_flight, head)
            if len(symbols):
                confirmed.append(symbols)
        return confirmed

    def _admitted(self, now: int, batch: PacketBatch, tsi: int) -> npt.NDArray[np.intp]:
        """Return the places of the NAKs to look at; all of a batch have one source."""
        # spec: REP-2: cheap checks first, and for all at once: a flood must not cost the carousel
        # its time. Who does not hear the session does not know the nonce.
        rows, manifest = batch.rows, self._manifest
        wrong_session = rows["tsi"] != np.uint64(tsi)
        wrong_object = (rows["oid"] != np.uint64(manifest.oid)) | (
            rows["size"] != np.uint64(manifest.size)
        )
        heard = np.zeros(len(batch), np.bool_)
        if batch.payload.shape[1] >= NONCE_SIZE:
            nonces = np.ascontiguousarray(batch.payload[:, :NONCE_SIZE]).view(">u8")
            heard = (nonces == np.array(self._nonces, np.uint64)).any(axis=1)
        left = np.ones(len(batch), np.bool_)
        for reason, bad in (
            ("session", wrong_session),
            ("object", wrong_object),
            ("nonce", ~heard),
        ):
            if count := int(np.count_nonzero(bad & left)):
                self.refused[reason] += count
                left &= ~bad
        places = np.flatnonzero(left)
        if not len(places):
            return places
        # A source's own budget first: one that floods must not use up everybody's.
        budget, _ = self._budgets(now, batch.source.address)
        rate = self._config.source_naks_per_second
        count = budget.take_some(now, len(places), rate, rate)
        rate = self._config.naks_per_second
        count = self._naks.take_some(now, count, rate, rate / 4)
        if count < len(places):
            self.refused["budget"] += len(places) - count
        return places[:count]

    def _budgets(self, now: int, address: str) -> tuple[_Budget, _Budget]:
        budgets = self._sources.pop(address, None)
        if budgets is None:
            while len(self._sources) >= self._config.max_sources:
                self._sources.pop(next(iter(self._sources)))
            depth = self._config.source_symbols_per_second
            budgets = (
                _Budget(self._config.source_naks_per_second, now),
                _Budget(depth, now),
            )
        self._sources[address] = budgets
        return budgets

    def _forget_sources(self, before: int) -> None:
        """Forget who asked last before that time: they have what they want, or left."""
        while self._sources:
            oldest = next(iter(self._sources))
            if self._sources[oldest][0].at >= before:
                return
            del self._sources[oldest]

    def _enqueue(
        self,
        now: int,
        nak: Nak,
        budget: _Budget,
        in_flight: npt.NDArray[np.bool_],
        head: int | None,
    ) -> Symbols:
        """Queue what has to be sent; return what to confirm."""
        symbols = nak.symbols
        if self._queued[symbols].any():
            self._overlaps += 1
        # spec: REP-4: what is queued, on its way, or repaired a moment ago is not queued again.
        fresh = ~self._queued[symbols] & ~in_flight
        self._release(now)
        fresh &= self._held[symbols] == 0
        # spec: REP-5: nor what the carousel brings before the queue would.
        if head is not None:
            delay = self._waiting * (1 - self._config.share) / self._config.share
            ahead = (symbols - head) % self._manifest.symbols
            fresh &= ahead > delay
        wanted = symbols[fresh]
        room = self._config.max_waiting - self._waiting
        rate = self._config.source_symbols_per_second
        # Over its budget: serve what is left of it, confirm no more than that.
        served = wanted[: budget.take_some(now, max(0, min(room, len(wanted))), rate, rate)]
        if len(served):
            self._queued[served] = True
            self._pending.append(served)
            self._waiting += len(served)
        if len(served) < len(wanted):
            fresh[np.flatnonzero(fresh)[: len(served)]] = False
            symbols = symbols[~fresh]
        return symbols

    def take_heard(self, now: int, symbols: Symbols) -> None:
        """Note what another repairer sent: it need not be sent again within the hold-off."""
        self._release(now)
        self._hold(now, symbols)

    def _hold(self, now: int, symbols: Symbols) -> None:
        distinct = np.unique(symbols)
        self._held[distinct] += 1
        self._held_symbols += len(distinct)
        self._holds.append((now + self.grtt, distinct))
        self._release(now)

    def _release(self, now: int) -> None:
        while self._holds and (
            self._holds[0][0] <= now or self._held_symbols > self._config.max_held
        ):
            symbols = self._holds.popleft()[1]
            self._held[symbols] -= 1
            self._held_symbols -= len(symbols)

    def take_out(self, now: int, limit: int) -> Symbols:
        """Return up to `limit` symbols to send now, ascending, or an empty array."""
        taken: list[Symbols] = []
        while self._pending and limit > 0:
            first = self._pending.popleft()
            if len(first) > limit:
                self._pending.appendleft(first[limit:])
                first = first[:limit]
            limit -= len(first)
            taken.append(first)
        if not taken:
            return np.zeros(0, np.int64)
        symbols: Symbols = np.sort(np.concatenate(taken))
        self._waiting -= len(symbols)
        self._queued[symbols] = False
        self._release(now)
        free: Symbols = symbols[self._held[symbols] == 0]
        if len(free):
            self._hold(now, free)
            self.counters.rdata += len(free)
        return free

    @property
    def waiting(self) -> int:
        """Symbols in the queue."""
        return self._waiting
