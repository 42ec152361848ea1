"""What a sender did, lane by lane and in all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np

from pgmlite.core.machine import SECOND
from pgmlite.wire.batch import Rows
from pgmlite.wire.layout import PacketType


@dataclass(slots=True)
class SendCounters:
    """Counted since the start; names as in ``--json``."""

    packets: int = 0
    bytes: int = 0
    """Without IP and UDP headers."""

    odata: int = 0
    rdata: int = 0
    unsent: int = 0
    """Of `packets`, those that this machine's network did not take."""

    naks_received: int = 0
    ncfs_sent: int = 0

    @classmethod
    def total(cls, of: Iterable[SendCounters]) -> SendCounters:
        """Return the sums."""
        return cls(*map(sum, zip(*map(astuple, of), strict=True)))


class Tally:
    """What one lane did, and how fast."""

    def __init__(self, *, packet_overhead: int) -> None:
        """
        Args:
            packet_overhead: Bytes of IP and UDP headers a packet.
        """
        self.counters = SendCounters()
        self._overhead = packet_overhead
        self._unsent_bytes = self._unsent_odata = 0

    def on_wire(self, octets: int, packets: int) -> int:
        """Return what packets of `octets` bytes take on the wire."""
        return octets + packets * self._overhead

    @property
    def wire_bytes(self) -> int:
        """Bytes on the wire of all packets, as if all had been taken."""
        return self.on_wire(self.counters.bytes, self.counters.packets)

    def taken_of(self, wire_bytes: int) -> int:
        """Return what is left of so many without those that were not taken."""
        return max(0, wire_bytes - self.on_wire(self._unsent_bytes, self.counters.unsent))

    @property
    def has_sent_nothing(self) -> bool:
        """Whether there was something to send, and nothing of the object could be sent."""
        counters = self.counters
        due, unsent = counters.odata, self._unsent_odata
        if not due:
            due, unsent = counters.packets, counters.unsent
        return 0 < due == unsent

    def unsent(self, rows: Rows, octets: int) -> None:
        """Count packets of `octets` bytes that were not taken."""
        self.counters.unsent += len(rows)
        self._unsent_bytes += octets
        self._unsent_odata += odata_in(rows)

    def back(self, odata: int) -> None:
        """Take back so many ODATA packets, which count as not taken: they will be sent again."""
        self.counters.odata -= odata
        self._unsent_odata -= odata


def odata_in(rows: Rows) -> int:
    """Return how many of the packets are ODATA."""
    return int(np.count_nonzero(rows["type"] == PacketType.ODATA))


def rate_of(wire_bytes: int, elapsed: int) -> int:
    """Return bit/s; 0: no time has passed."""
    return wire_bytes * 8 * SECOND // elapsed if elapsed else 0
