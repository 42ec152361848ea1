"""The contract of every machine: what goes in, what comes out (spec/decisions.md, record 3).

A driver calls ``start(now)`` once, then ``receive(now, batch)`` for what arrives and ``tick(now)``
when ``deadline`` has passed, and performs the returned actions in order. Early or repeated ticks
do nothing. ``now`` is integer nanoseconds of a clock that never goes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pgmlite.core.events import Event
from pgmlite.core.ranges import runs
from pgmlite.wire.batch import Octets, PacketBatch, Rows
from pgmlite.wire.control import Manifest
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.request import Symbols

MS = 1_000_000
SECOND = 1_000 * MS

Placed = tuple[int, int, int]
"""(offset, start, stop): rows `start` to `stop` of a batch belong at byte `offset`."""


@dataclass(frozen=True, slots=True)
class ObjectSymbols:
    """Source symbols of the object, as the payload of ODATA and RDATA.

    The driver reads them straight into its buffer.
    """

    symbols: Symbols
    """(n,) numbers, ascending; at least one."""

    symbol_size: int
    size: int

    @property
    def length(self) -> int:
        """Bytes in all; the object's last symbol may be short."""
        short = (int(self.symbols[-1]) + 1) * self.symbol_size - self.size
        return len(self.symbols) * self.symbol_size - max(0, short)

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of the stretches of bytes, in order."""
        first, count = int(self.symbols[0]), len(self.symbols)
        # One run, as a carousel sends it, is found without a look at each.
        is_one = int(self.symbols[-1]) - first + 1 == count
        for start, stop in [(0, count)] if is_one else runs(self.symbols):
            offset = int(self.symbols[start]) * self.symbol_size
            yield offset, min((stop - start) * self.symbol_size, self.size - offset)


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send `rows` as packets; the payload is cut into equal pieces, the last maybe shorter.

    Attributes:
        channel: Of the session; a driver has a socket for each.
    """

    channel: int
    rows: Rows
    payload: bytes | ObjectSymbols

    @property
    def length(self) -> int:
        """Payload bytes of all packets together."""
        return len(self.payload) if isinstance(self.payload, bytes) else self.payload.length


@dataclass(frozen=True, slots=True)
class SendNak:
    """Send one packet to a repairer: address and port."""

    endpoint: Endpoint
    packet: bytes


@dataclass(frozen=True, slots=True)
class Prepare:
    """Expect an object of `size` bytes; answer with ``Receiver.resume(oid, held)``.

    Nothing is cut off before the object is published: `size` may be a stranger's invention.
    """

    oid: int
    size: int
    symbol_size: int


@dataclass(frozen=True, slots=True)
class Held:
    """What is there before the first packet; digests judge all of it (spec: RCV-8)."""

    symbols: Sequence[tuple[int, npt.NDArray[np.bool_]]] = ()
    """(first symbol, (n,) whether each is stored): what a record of the earlier run says."""

    extents: Sequence[tuple[int, int]] = ()
    """Ascending (start, stop) bytes that may match and of which no record says what they are:
    nothing is written over them before their blocks were looked at."""


@dataclass(frozen=True, slots=True)
class Store:
    """Write rows of `payload`, (n, width) bytes, to their places in the object `oid`.

    Runs stand together, ascending, where nothing is stored in the short gaps between them:
    whoever writes them may write over these as well. The view is only good until the driver
    reads the next packets.
    """

    oid: int
    runs: Sequence[Sequence[Placed]]
    payload: Octets

    def pieces(self) -> Iterator[list[tuple[int, memoryview]]]:
        """Yield runs that stand together, each as its byte offset and its bytes."""
        width = self.payload.shape[1]
        octets = np.ascontiguousarray(self.payload).reshape(-1).data
        for together in self.runs:
            yield [
                (offset, octets[start * width : stop * width]) for offset, start, stop in together
            ]


@dataclass(frozen=True, slots=True)
class Verify:
    """Compare stored bytes with `digest`; answer: ``Receiver.verified(oid, block, ok=...)``."""

    oid: int
    block: int
    offset: int
    length: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Complete:
    """Every block of `oid` is verified: publish it. Its transfer is over, the receiver is not.

    A driver that finds stored blocks spoilt instead says so with ``Receiver.doubt(oid, blocks)``.
    """

    oid: int
    manifest: Manifest
    digests: bytes = field(repr=False)
    """The digests of all blocks, 32 bytes each."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The sender has sent what it was asked to send."""


Action = Transmit | SendNak | Prepare | Store | Verify | Complete | Finished | Event
"""What a machine says: something to do, or something that happened, to be passed on."""


class Machine(Protocol):
    """What `pgmlite.net` and `pgmlite.sim` drive."""

    @property
    def deadline(self) -> int | None:
        """When to call ``tick`` next, in ns; None: only after a packet."""

    def start(self, now: int) -> list[Action]:
        """Begin; call once, before anything else."""

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take packets that arrived; never raises, whatever they say."""

    def tick(self, now: int) -> list[Action]:
        """Do what is due; does nothing before ``deadline``."""
