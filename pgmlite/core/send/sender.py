"""The sender: loops the object for ever, paced; with a repair queue it answers NAKs as well.

Without one it never reads a packet. Without a carousel it is a stand-alone repairer: it hears the
group, answers NAKs, and sends nothing else but SPMs. spec/protocol.md sections 5 (SND) and 8 (REP).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np

from pgmlite.core import serial
from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import (
    MS,
    SECOND,
    Action,
    Finished,
    ObjectRange,
    ObjectSymbols,
    Transmit,
)
from pgmlite.core.send.nodes import NodeCarousel
from pgmlite.core.send.repairs import RepairQueue, SentLog, Unconfirmed
from pgmlite.core.timing import Pacer
from pgmlite.errors import RefusedPacket, UsageError
from pgmlite.wire.batch import HEADER_DTYPE, HEADER_SIZE, WHOLE_HEADER, PacketBatch, Rows
from pgmlite.wire.control import Manifest, Spm, SpmPosition, SpmRepairs
from pgmlite.wire.digests import BlockTree
from pgmlite.wire.layout import DATA_TYPES, MAGIC, VERSION, PacketType
from pgmlite.wire.request import MAX_BODY, parse_request


@dataclass(slots=True)
class Counters:
    """What a sender has sent since its start; names as in ``--json``."""

    packets: int = 0
    bytes: int = 0
    odata: int = 0
    unsent: int = 0
    """Of `packets`, those that this machine's network did not take."""


class Sender:
    """One sender of one object. See `pgmlite.core.machine` for how to drive it."""

    def __init__(
        self,
        config: SenderConfig,
        manifest: Manifest,
        tree: BlockTree,
        *,
        repair: RepairConfig | None = None,
        rng: Random,
    ) -> None:
        """
        Args:
            tree: The tree of blocks whose root the manifest names.
            repair: Answer NAKs; None: a pure carousel.
            rng: Draws the tsi, the first sqn (spec: SND-1) and the nonces; asked again by `renew`.

        Raises:
            UsageError: The start offset lies outside the object.
        """
        if config.start and config.start >= manifest.size:
            raise UsageError(f"start at byte {config.start}: the object has {manifest.size} bytes")
        self._config = config
        self._manifest = manifest
        self._nodes = NodeCarousel(tree)
        self._rng = rng
        self.counters = Counters()
        self._unsent_bytes = self._unsent_odata = 0
        self.tsi = rng.getrandbits(64)
        self._sqn = rng.getrandbits(32)
        self._head = config.start // manifest.symbol_size
        self._packet_size = self._wire_bytes(manifest.symbol_size, 1)
        template: Rows = np.zeros(config.transmit_limit, HEADER_DTYPE)
        template["magic"], template["version"] = MAGIC, VERSION
        template["symbol_size"], template["tsi"] = manifest.symbol_size, self.tsi
        template["oid"], template["size"] = manifest.oid, manifest.size
        self._template: Rows = template.view(WHOLE_HEADER)
        self._steps = np.arange(config.transmit_limit, dtype=np.int64)
        # spec: SND-4: who is there from the start can verify from the first block on.
        self._odata_until_node = 0
        self._spm_due = 0
        self._end: int | None = None
        self._pacer = Pacer(config.rate, 0, burst_time=config.burst_time)
        self._started = 0
        self._ended: tuple[int, int] | None = None
        """What `throughput` was when the carousel came to its end."""

        self._finished = False
        self.repairs = (
            RepairQueue(repair, manifest, packet_time=self._packet_time(), rng=rng)
            if repair
            else None
        )
        self._repair = repair or RepairConfig()
        self._spm_interval = self._plan_spms()
        self._sent = SentLog(manifest.symbols if repair else 0, self._repair.max_in_flight)
        self._repair_credit = 0.0
        self._unconfirmed = Unconfirmed(manifest.symbols if repair else 0)
        self._ncf_due = 0
        self._head_heard = -self._repair.head_life
        self._lingers_until: int | None = None

    @property
    def cycles(self) -> float:
        """Object lengths sent since the start."""
        return self.counters.odata / self._manifest.symbols if self._manifest.symbols else 0.0

    @property
    def has_carousel(self) -> bool:
        """Whether it sends the object, and does not only answer NAKs."""
        return self._config.carousel

    @property
    def is_paced(self) -> bool:
        """Whether it has a rate to keep."""
        return self._config.rate is not None

    @property
    def rate(self) -> int | None:
        """Bit/s that it was asked to send at; None: as fast as it can."""
        return self._config.rate

    @property
    def throughput(self) -> tuple[int, int]:
        """What the carousel and the repairs beside it let out: wire bytes, and in how many ns."""
        if self._ended:
            return self._ended
        if not self._sends_odata:
            return 0, 0
        sent = self._on_wire(self.counters.bytes, self.counters.packets)
        return sent, self._pacer.due - self._started

    @property
    def achieved_rate(self) -> int:
        """Bit/s on the wire that went out, while the carousel moved; 0: no time has passed."""
        wire_bytes, elapsed = self.throughput
        sent = wire_bytes - self._on_wire(self._unsent_bytes, self.counters.unsent)
        return max(0, sent) * 8 * SECOND // elapsed if elapsed else 0

    @property
    def has_sent_nothing(self) -> bool:
        """Whether there was something to send, and nothing of the object could be sent."""
        counters = self.counters
        due, unsent = counters.odata, self._unsent_odata
        if not due:
            due, unsent = counters.packets, counters.unsent
        return 0 < due == unsent

    @property
    def deadline(self) -> int | None:
        """When the next packet is due, in ns; None after the end."""
        if self._finished:
            return None
        work = [self._spm_due]
        if self._sends_odata or self._has_repairs:
            work.append(self._pacer.due)
        burst = max(self._pacer.due, min(work))
        return min(burst, self._ncf_due) if self._unconfirmed else burst

    @property
    def _sends_odata(self) -> bool:
        return self._config.carousel and self._manifest.symbols > 0 and self._lingers_until is None

    @property
    def _has_repairs(self) -> bool:
        return self.repairs is not None and self.repairs.waiting > 0

    def start(self, now: int) -> list[Action]:
        """Begin: the first tick is due at once."""
        self._started = now
        self._pacer = Pacer(self._config.rate, now, burst_time=self._config.burst_time)
        self._spm_due = now
        if self._config.duration is not None:
            self._end = now + self._config.duration
        return []

    def unsent(self, rows: Rows, octets: int) -> None:
        """Count packets of `octets` bytes that were not taken: the carousel went past them."""
        # spec: SND-11
        self.counters.unsent += len(rows)
        self._unsent_bytes += octets
        self._unsent_odata += int(np.count_nonzero(rows["type"] == PacketType.ODATA))

    def renew(self, now: int, held: Rows) -> None:
        """Go on as another session: its packets will come from another address or port.

        The carousel, what waits to be repeated, and what is known of the group go on.

        Args:
            held: Headers of the latest packets, which will not leave: the carousel goes back.
        """
        # spec: SND-12
        back = int(np.count_nonzero(held["type"] == PacketType.ODATA))
        if back:
            self._head = (self._head - back) % self._manifest.symbols
            self.counters.odata -= back
            self._unsent_odata -= back
        self.tsi = self._rng.getrandbits(64)
        self._sqn = self._rng.getrandbits(32)
        self._template.view(HEADER_DTYPE)["tsi"] = self.tsi
        # An SPM comes first, and a node after it; what it repeats needs no NCF of its own.
        self._spm_due = now
        self._odata_until_node = 0
        self._unconfirmed = Unconfirmed(self._manifest.symbols if self.repairs else 0)

    def stood(self, elapsed: int) -> None:
        """Note that the driver had no link for so many ns: no rate could be kept in them."""
        self._started += elapsed

    def time_is_up(self, now: int) -> bool:
        """Whether its duration is over."""
        return self._end is not None and now >= self._end

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take NAKs, and of a stand-alone repairer what the group hears (spec: SND-2, REP-1)."""
        if self.repairs is None or not len(batch):
            return []
        if batch.kind is PacketType.NAK:
            self._receive_naks(now, batch, self.repairs)
            return []
        if self._config.carousel:
            return []  # we know where our own carousel is; what comes here is a stranger's word
        mine = batch.rows["oid"] == np.uint64(self._manifest.oid)
        mine &= batch.rows["tsi"] != np.uint64(self.tsi)  # our own packets come back to us
        mine &= batch.rows["size"] == np.uint64(self._manifest.size)
        if mine.all():
            self._receive_others(now, batch, self.repairs)
        return []

    def _receive_naks(self, now: int, batch: PacketBatch, repairs: RepairQueue) -> None:
        last = serial.add(self._sqn, -1)
        for symbols in repairs.take_naks(
            now, batch, tsi=self.tsi, sent=self._sent, sqn=last, head=self._moving_head(now)
        ):
            self._unconfirmed.add(symbols)

    def _moving_head(self, now: int) -> int | None:
        """Return what the carousel sends next; None if none is moving."""
        if self._sends_odata:
            return self._head
        is_heard = not self._config.carousel and now - self._head_heard < self._repair.head_life
        return self._head if is_heard else None

    def _receive_others(self, now: int, batch: PacketBatch, repairs: RepairQueue) -> None:
        """Learn where the carousel is and what other repairers repair (spec: REP-7)."""
        size = self._manifest.symbol_size
        if batch.kind in DATA_TYPES:
            symbols, is_repair = batch.offsets // size, batch.repairs
            if len(passing := symbols[~is_repair]):
                self._head_heard = now
                self._head = (int(passing[-1]) + 1) % self._manifest.symbols
            if len(repaired := symbols[is_repair]):
                repairs.take_heard(now, repaired)
        elif batch.kind is PacketType.NCF:
            for body in batch.payload:
                try:
                    symbols = parse_request(body.tobytes(), self._manifest.symbols)
                except RefusedPacket as refusal:
                    repairs.refused[refusal.reason] += 1
                else:
                    repairs.take_heard(now, symbols)

    def _confirm(self, now: int) -> list[Action]:
        """Send NCFs, at once as long as they keep to their share (spec: REP-3)."""
        if self.repairs is None:
            return []
        actions: list[Action] = []
        while self._unconfirmed and self._ncf_due <= now:
            body = self._unconfirmed.take(MAX_BODY)
            wire_bytes = self._wire_bytes(len(body), 1)
            # spec: REP-5: what confirms repairs is a part of what they cost.
            self._repair_credit -= wire_bytes / self._packet_size
            burst = Transmit(self._rows(PacketType.NCF, self._until_repaired(), 1), body)
            self._account(now, burst)
            if self._config.rate:
                share = self._config.rate * self._repair.share * self._repair.ncf_share
                pause = int(wire_bytes * 8 * SECOND / share)
                self._ncf_due = max(self._ncf_due, now - self._repair.ncf_burst) + pause
            self.repairs.counters.ncfs_sent += 1
            actions.append(burst)
        return actions

    def _until_repaired(self) -> int:
        """Return how many packets leave, at most, until what waits now is sent (spec: REP-11)."""
        waiting = self.repairs.waiting if self.repairs else 0
        # A burst is sorted: what was asked for later may come before.
        left = waiting + self._nodes.left + self._repair.ncf_slack + self._burst_size()
        if self._sends_odata:
            share = self._repair.share
            odata = math.ceil(max(0.0, waiting - self._repair_credit) * (1 - share) / share)
            # Other NCFs take credit, up to a tenth; SPMs and TREE packets come between.
            left += odata + odata // 6
        return left

    def tick(self, now: int) -> list[Action]:
        """Send one burst if it is due; nodes of the tree in a row are several."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return []
        if self._is_over(now):
            self._finished = True
            return [Finished()]
        if confirmations := self._confirm(now):
            return confirmations
        bursts = self._next_bursts(now)
        for burst in bursts:
            self._account(now, burst)
        return [*bursts]

    def _next_bursts(self, now: int) -> list[Transmit]:
        """Return what is sent now, by rank: SPM, TREE, repairs within their share, ODATA."""
        if now >= self._spm_due:
            return [self._spm(now)]
        if self._sends_odata and self._nodes.left and self._odata_until_node <= 0:
            return self._tree_bursts()
        # spec: REP-5: repairs go first as long as the carousel has its share.
        may_repair = self._repair_credit >= 1 or not self._sends_odata
        if self._has_repairs and may_repair and (burst := self._repair_burst(now)):
            return [burst]
        return [self._odata_burst()] if self._sends_odata else []

    def _account(self, now: int, burst: Transmit) -> None:
        """Count a burst and pace what follows."""
        count = len(burst.rows)
        self.counters.packets += count
        self.counters.bytes += burst.length + count * HEADER_SIZE
        self._pacer.sent(now, self._wire_bytes(burst.length, count))

    def _on_wire(self, octets: int, packets: int) -> int:
        """Return what packets of `octets` bytes take on the wire."""
        return octets + packets * self._config.packet_overhead

    def _wire_bytes(self, payload: int, packets: int) -> int:
        return self._on_wire(payload + packets * HEADER_SIZE, packets)

    def _is_over(self, now: int) -> bool:
        if self.time_is_up(now):
            return True
        if not self._has_sent_all():
            return False
        if self.repairs is None and not self._manifest.repairers:
            return True
        # spec: SND-9: who lost something of the last cycle still has time to ask, and without us
        # would not know that it was the last.
        self._ended = self._ended or self.throughput
        if self._lingers_until is None or self._has_repairs:
            self._lingers_until = now + max(
                self._repair.linger,
                self._repair.linger_grtt * self.repairs.grtt if self.repairs else 0,
                self._repair.linger_spms * self._spm_interval,
            )
        return now >= self._lingers_until

    def _has_sent_all(self) -> bool:
        cycles = self._config.cycles
        # An empty object has cycles of no packet: its SPM is sent once all the same.
        return (
            cycles is not None
            and self.counters.packets > 0
            and self.counters.odata >= cycles * self._manifest.symbols
        )

    def _plan_spms(self) -> int:
        """Return the time between SPMs in ns (spec: SND-5)."""
        if self._config.rate is None:
            return self._config.spm_min
        repairs = SpmRepairs(0, 0, 0, 0, 0, 1) if self.repairs else None
        body = Spm(0, 0, 0, self._manifest.raw, SpmPosition(0, 0, 0), repairs).build()
        bits = (HEADER_SIZE + len(body) + self._config.packet_overhead) * 8
        interval = bits * self._config.spm_share * SECOND // self._config.rate
        return min(max(interval, self._config.spm_min), self._config.spm_max)

    def _packet_time(self) -> int:
        """Return how long a full packet takes at our rate, ns."""
        return self._packet_size * 8 * SECOND // self._config.rate if self._config.rate else 0

    def _burst_size(self) -> int:
        return self._pacer.burst(self._packet_size, self._config.transmit_limit)

    def _rows(self, kind: PacketType, offset: int, count: int) -> Rows:
        """Return `count` headers from byte `offset` on, a symbol apart, with fresh sqns."""
        rows: Rows = self._template[:count].copy().view(HEADER_DTYPE)
        rows["type"] = kind
        rows["offset"] = self._steps[:count] * self._manifest.symbol_size + offset
        rows["sqn"] = (self._steps[:count] + self._sqn) % serial.MODULUS
        self._sent.count(count)
        self._sqn = serial.add(self._sqn, count)
        return rows

    def _spm(self, now: int) -> Transmit:
        self._spm_due = now + self._spm_interval
        self._nodes.announced()
        body = Spm(
            now,
            self._config.rate or 0,
            -(-self._spm_interval // MS),
            self._manifest.raw,
            *self._options(now),
        ).build()
        return Transmit(self._rows(PacketType.SPM, 0, 1), body)

    def _options(self, now: int) -> tuple[SpmPosition | None, SpmRepairs | None]:
        """Return what an SPM says of the carousel and of repairs (spec: REP-6)."""
        position = repairs = None
        if self._config.carousel:
            place, esi = self._head, self._head % self._manifest.block_symbols
            cycle = int(self.cycles) % serial.MODULUS
            position = SpmPosition(cycle, place * self._manifest.symbol_size, esi)
        if self.repairs is not None:
            grtt, gsize = self.repairs.group(now)
            repairs = SpmRepairs(
                nonce=self.repairs.nonce(now),
                grtt=grtt,
                gsize=gsize,
                backoff_factor=self.repairs.backoff_factor,
                repair_share=round(self._repair.share * 100) if self._config.carousel else 100,
                repair_port=self._repair.port,
            )
        return position, repairs

    def _repair_burst(self, now: int) -> Transmit | None:
        if self.repairs is None:
            return None
        limit = self._burst_size()
        if self._sends_odata:
            limit = min(limit, int(self._repair_credit))
        symbols = self.repairs.take_out(now, limit)
        if not len(symbols):
            return None
        self._repair_credit -= len(symbols)
        size = self._manifest.symbol_size
        rows = self._rows(PacketType.RDATA, 0, len(symbols))
        rows["offset"] = symbols * size
        rows["esi"] = symbols % self._manifest.block_symbols
        self._sent.carried(symbols)
        return Transmit(rows, ObjectSymbols(symbols, size, self._manifest.size))

    def _tree_bursts(self) -> list[Transmit]:
        """Return some nodes in a row: one at a time, since they are not as long as symbols."""
        nodes = self._nodes.take(self._burst_size())
        leaves = self._manifest.tree.leaves
        # Only leaves count: what is above them is little, and of use with the leaf that follows.
        taken = sum(number in leaves for number, _ in nodes)
        # A short cycle carries all of them once, at more than their share.
        cycle_share = self._manifest.symbols * taken // len(leaves)
        if taken:
            self._odata_until_node = max(1, min(self._config.tree_share * taken, cycle_share))
        return [Transmit(self._rows(PacketType.TREE, number, 1), node) for number, node in nodes]

    def _odata_burst(self) -> Transmit:
        size = self._manifest.symbol_size
        left = self._manifest.symbols - self._head
        if self._config.cycles is not None:
            goal = self._config.cycles * self._manifest.symbols
            left = min(left, goal - self.counters.odata)
        count = min(self._burst_size(), left)
        if self._nodes.left:
            count = min(count, self._odata_until_node)
        offset = self._head * size
        self._head = (self._head + count) % self._manifest.symbols
        self.counters.odata += count
        self._odata_until_node -= count
        rows = self._rows(PacketType.ODATA, offset, count)
        rows["esi"] = (self._steps[:count] + offset // size) % self._manifest.block_symbols
        if self.repairs is not None:
            share = self._repair.share
            earned = self._repair_credit + count * share / (1 - share)
            self._repair_credit = min(earned, 2.0 * self._config.transmit_limit)
            self._sent.carried(self._steps[:count] + offset // size)
        length = min(count * size, self._manifest.size - offset)
        return Transmit(rows, ObjectRange(offset, length))
