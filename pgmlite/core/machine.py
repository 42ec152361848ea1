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
from pgmlite.wire.batch import Octets, PacketBatch, Rows
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry, Named
from pgmlite.wire.manifest import Manifest, Rung
from pgmlite.wire.request import Symbols

MS = 1_000_000
SECOND = 1_000 * MS

Placed = tuple[int, int, int]
"""(offset, start, stop): rows `start` to `stop` of a batch belong at byte `offset`."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectSymbols:
    """Encoding symbols of the object, as the payload of ODATA and RDATA.

    The driver reads or makes them straight in its buffer.

    Attributes:
        ids: (n,) in the order of sending; at least one. The object's last source symbol, which may
            be short, is none but the last of them. All others are whole.
    """

    ids: Named
    geometry: Geometry

    @property
    def length(self) -> int:
        """Bytes in all."""
        return self.geometry.length(self.ids)


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
class Join:
    """Hear what `source` sends to a group; an empty source: whoever sends (spec: NET-13)."""

    group: Endpoint
    source: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """Hear no longer what a `Join` of the same group and source began.

    Attributes:
        reason: ``source``: it is not wanted any more; ``channel``: its group is not.
    """

    group: Endpoint
    source: str = ""
    reason: str = "source"


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask DNS for a name; the answer is ``Receiver.resolved(now, answer)`` (spec: DNS-1).

    Attributes:
        is_service: It has SRV and TXT records, which say which groups to hear; otherwise it is a
            host's, and has addresses.
    """

    name: str
    is_service: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsAnswer:
    """What DNS says of a name, or why it says nothing.

    Attributes:
        name: As in `Resolve`.
        tiers: Addresses of sources by priority, the best first; those of a tier in the order in
            which they are taken if not all can be.
        ladder: The channels of a service, at rising rates; a host has none.
        ttl: ns after which it is worth asking again.
        is_whole: Whether it names all sources; if not, some could not be looked up.
        is_authentic: The server says that it has checked signatures (AD, RFC 4035).
        failure: A word of `FAILURES`; empty: it is an answer.
        text: The failure in words that a terminal may show.
    """

    name: str
    tiers: tuple[tuple[str, ...], ...] = ()
    ladder: tuple[Rung, ...] = ()
    ttl: int = 0
    is_whole: bool = True
    is_authentic: bool = False
    failure: str = ""
    text: str = ""


NOT_OFFERED = "not_offered"

FAILURES = {
    "nxdomain": "there is no such name",
    "no_srv": "the name has no SRV record",
    "no_txt": "the name has an SRV record, and no TXT record",
    "no_address": "no source has an address of a kind that can be used",
    "servfail": "all servers failed to answer, or refused",
    "timeout": "no server answered in time",
    "unreachable": "the machine has no server to ask",
    "malformed": "what came can't be used as it is",
    "group": "a group of the TXT record is none that can be used",
    NOT_OFFERED: "the SRV record says that the service is not offered",
}
"""Why DNS says nothing of a name (spec: DNS-8)."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Expect an object of `size` bytes; answer with ``Receiver.resume(oid, held)``.

    Nothing is cut off before the object is published: `size` may be a stranger's invention.
    """

    oid: int
    size: int
    symbol_size: int


Lying = npt.NDArray[np.uint16]
"""What lies in places, each of which has room for one symbol: 0 nothing, else 1 + the encoding
symbol id, of the place's block, of what lies there."""

LYING: np.dtype[np.uint16] = np.dtype("<u2")


def own_at(places: Symbols, block_symbols: int) -> Lying:
    """Return what lies in (n,) places that have their own symbols, of blocks of so many."""
    return (places % block_symbols + 1).astype(LYING)


@dataclass(frozen=True, slots=True)
class Held:
    """What is there before the first packet; digests judge all of it (spec: RCV-8)."""

    lying: Sequence[tuple[int, Lying]] = ()
    """(first place, (n,) what lies there): what a record of the earlier run says."""

    block_symbols: int = 0
    """Places of a block, as that record has it; 0: there is none."""

    extents: Sequence[tuple[int, int]] = ()
    """Ascending (start, stop) bytes that may match and of which no record says what they are:
    nothing is written over them before their blocks were looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """Write rows of `payload`, (n, width) bytes, to their places in the object `oid`.

    Runs stand together, ascending, where nothing is stored in the short gaps between them:
    whoever writes them may write over these as well. The view is only good until the driver
    reads the next packets.

    Attributes:
        esis: (n,) encoding symbol ids of the rows, each in a place of its block; None: every row is
            the source symbol whose place it is.
    """

    oid: int
    runs: Sequence[Sequence[Placed]]
    payload: Octets
    esis: Symbols | None = None

    @property
    def lying(self) -> Lying | None:
        """What lies in the places of the runs then, one by one; None: their own symbols."""
        if self.esis is None:
            return None
        spans = [(start, stop) for together in self.runs for _, start, stop in together]
        esis = np.concatenate([self.esis[start:stop] for start, stop in spans])
        return (esis + 1).astype(LYING)

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
    """Compare stored bytes with `digest`; answer: ``Receiver.verified(oid, block, ok=...)``.

    Every place of the block has its own symbol.
    """

    oid: int
    block: int
    offset: int
    length: int
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Decode:
    """Make the source symbols of a block from what lies in its places, and compare with `digest`.

    The driver may take its time, beside other work; until the answer nothing is stored in the
    block. The answer is ``Receiver.decoded(oid, block, lacks=..., forged=..., ok=...)``: `lacks`,
    so many symbols more are needed at least; `forged`, the encoding symbol ids that are not what
    their sender sent, found in a search, or what can't be read; `ok`, every place has its own
    symbol now, and all are as the digest says. Neither of them: some symbol is forged, and nothing
    was written.

    Attributes:
        lying: (K of the block,) what lies in its places.
        surplus: (n, symbol_size) more encoding symbols, which have no place.
        surplus_esis: (n,) their encoding symbol ids.
        digest: Of the block.
        is_search: Whether to look for forged symbols first.
    """

    oid: int
    block: int
    geometry: Geometry
    lying: Lying
    surplus: Octets
    surplus_esis: Symbols
    digest: bytes
    is_search: bool = False


@dataclass(frozen=True, slots=True)
class Complete:
    """Every block of `oid` is verified: publish it. Its transfer is over, the receiver is not.

    A driver that finds stored blocks spoilt instead says so with ``Receiver.doubt(oid, blocks)``.
    """

    oid: int
    manifest: Manifest
    digests: bytes = field(repr=False)
    """The digests of all blocks, 32 bytes each; none of an object that was in place."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The sender has sent what it was asked to send."""


Action = (
    Transmit
    | SendNak
    | Join
    | Leave
    | Resolve
    | Prepare
    | Store
    | Verify
    | Decode
    | Complete
    | Finished
    | Event
)
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
