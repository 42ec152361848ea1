"""The sender: loops the object for ever, paced, and never reads a packet.

spec/protocol.md section 5 (SND).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from pgmlite.core import serial
from pgmlite.core.config import SenderConfig
from pgmlite.core.machine import MS, SECOND, Action, Finished, ObjectRange, Transmit
from pgmlite.core.timing import Pacer
from pgmlite.errors import UsageError
from pgmlite.wire.batch import HEADER_DTYPE, HEADER_SIZE, PacketBatch, Rows
from pgmlite.wire.control import SPM_FIXED_SIZE, Manifest, Spm
from pgmlite.wire.layout import MAGIC, VERSION, PacketType

SPM_SHARE = 100
"""SPMs take at most one part in this many of the rate, as far as their longest interval allows."""


@dataclass(slots=True)
class Counters:
    """What a sender has sent since its start; names as in ``--json``."""

    packets: int = 0
    bytes: int = 0
    odata: int = 0


class Sender:
    """One sender of one object. See `pgmlite.core.machine` for how to drive it."""

    def __init__(
        self, config: SenderConfig, manifest: Manifest, index: bytes, *, rng: Random
    ) -> None:
        """
        Args:
            index: One digest a block, as the manifest's digest covers them.
            rng: Draws the tsi and the first sqn (spec: SND-1).

        Raises:
            UsageError: The start offset lies outside the object.
        """
        if config.start and config.start >= manifest.size:
            raise UsageError(f"start at byte {config.start}: the object has {manifest.size} bytes")
        self._config = config
        self._manifest = manifest
        self._index = index
        self.counters = Counters()
        self.tsi = rng.getrandbits(64)
        self._sqn = rng.getrandbits(32)
        self._head = config.start // manifest.symbol_size
        self._template: Rows = np.zeros(config.transmit_limit, HEADER_DTYPE)
        self._template["magic"] = MAGIC
        self._template["version"] = VERSION
        self._template["symbol_size"] = manifest.symbol_size
        self._template["tsi"] = self.tsi
        self._template["oid"] = manifest.oid
        self._template["size"] = manifest.size
        self._steps = np.arange(config.transmit_limit, dtype=np.int64)
        self._index_head = 0
        # spec: SND-4: who is there from the start can verify from the first block on.
        self._odata_until_index = 0
        self._index_left = manifest.index_packets
        self._spm_interval = self._plan_spms()
        self._spm_due = 0
        self._end: int | None = None
        self._pacer = Pacer(config.rate, 0)
        self._finished = False

    @property
    def cycles(self) -> float:
        """Object lengths sent since the start."""
        return self.counters.odata / self._manifest.symbols if self._manifest.symbols else 0.0

    @property
    def deadline(self) -> int | None:
        """When the next packet is due, in ns; None after the end."""
        if self._finished:
            return None
        if not self._manifest.symbols:
            return max(self._spm_due, self._pacer.due)
        return self._pacer.due

    def start(self, now: int) -> list[Action]:
        """Begin: the first tick is due at once."""
        self._pacer = Pacer(self._config.rate, now)
        self._spm_due = now
        if self._config.duration is not None:
            self._end = now + self._config.duration
        return []

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """A sender of a pure carousel hears nothing (spec: SND-2)."""
        return []

    def tick(self, now: int) -> list[Action]:
        """Send one burst if it is due."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return []
        if self._is_over(now):
            self._finished = True
            return [Finished()]
        if now >= self._spm_due:
            burst = self._spm(now)
        elif self._index_left and self._odata_until_index <= 0:
            burst = self._index_burst()
        else:
            burst = self._odata_burst()
        length = len(burst.payload) if isinstance(burst.payload, bytes) else burst.payload.length
        count = len(burst.rows)
        self.counters.packets += count
        self.counters.bytes += length + count * HEADER_SIZE
        self._pacer.sent(now, length + count * (HEADER_SIZE + self._config.packet_overhead))
        return [burst]

    def _is_over(self, now: int) -> bool:
        cycles = self._config.cycles
        # An empty object has cycles of no packet: its SPM is sent once all the same.
        if (
            cycles is not None
            and self.counters.packets
            and self.counters.odata >= cycles * self._manifest.symbols
        ):
            return True
        return self._end is not None and now >= self._end

    def _plan_spms(self) -> int:
        """Return the time between SPMs in ns (spec: SND-5)."""
        if self._config.rate is None:
            return self._config.spm_min
        body = SPM_FIXED_SIZE + len(self._manifest.raw)
        bits = (HEADER_SIZE + body + self._config.packet_overhead) * 8
        interval = bits * SPM_SHARE * SECOND // self._config.rate
        return min(max(interval, self._config.spm_min), self._config.spm_max)

    def _burst_size(self) -> int:
        packet = HEADER_SIZE + self._manifest.symbol_size + self._config.packet_overhead
        return self._pacer.burst(packet, self._config.transmit_limit)

    def _rows(self, kind: PacketType, offset: int, count: int) -> Rows:
        """Return `count` headers from byte `offset` on, a symbol apart, with fresh sqns."""
        rows = self._template[:count].copy()
        rows["type"] = kind
        rows["offset"] = self._steps[:count] * self._manifest.symbol_size + offset
        rows["sqn"] = (self._steps[:count] + self._sqn) % serial.MODULUS
        self._sqn = serial.add(self._sqn, count)
        return rows

    def _spm(self, now: int) -> Transmit:
        self._spm_due = now + self._spm_interval
        self._index_left = self._manifest.index_packets
        body = Spm(
            timestamp=now,
            rate=self._config.rate or 0,
            cycle=int(self.cycles) % serial.MODULUS,
            spm_interval=-(-self._spm_interval // MS),
            manifest=self._manifest.raw,
        ).build()
        head = self._head * self._manifest.symbol_size
        return Transmit(self._rows(PacketType.SPM, head, 1), body)

    def _index_burst(self) -> Transmit:
        size, packets = self._manifest.symbol_size, self._manifest.index_packets
        count = min(self._burst_size(), packets - self._index_head, self._index_left)
        offset = self._index_head * size
        self._index_head = (self._index_head + count) % packets
        self._index_left -= count
        # A short cycle carries it once, at more than its share.
        cycle_share = self._manifest.symbols * count // packets
        self._odata_until_index = max(1, min(self._config.index_share * count, cycle_share))
        payload = self._index[offset : offset + count * size]
        return Transmit(self._rows(PacketType.INDEX, offset, count), payload)

    def _odata_burst(self) -> Transmit:
        size = self._manifest.symbol_size
        left = self._manifest.symbols - self._head
        if self._config.cycles is not None:
            goal = self._config.cycles * self._manifest.symbols
            left = min(left, goal - self.counters.odata)
        count = min(self._burst_size(), left)
        if self._index_left:
            count = min(count, self._odata_until_index)
        offset = self._head * size
        self._head = (self._head + count) % self._manifest.symbols
        self.counters.odata += count
        self._odata_until_index -= count
        length = min(count * size, self._manifest.size - offset)
        return Transmit(self._rows(PacketType.ODATA, offset, count), ObjectRange(offset, length))
