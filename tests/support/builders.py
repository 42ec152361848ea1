"""Objects, packets, and stand-ins for the kernel and the drivers, shared by the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any, Self

import numpy as np

from pgmlite.core.config import ReceiverConfig, RepairConfig, SenderConfig
from pgmlite.core.events import Adopted
from pgmlite.core.machine import (
    Action,
    Complete,
    Decode,
    Finished,
    ObjectSymbols,
    Prepare,
    Store,
    Transmit,
    Verify,
)
from pgmlite.core.receive.offers import Policy
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.receive.transfer import TransferState
from pgmlite.core.ring import Ring
from pgmlite.core.send.sender import Sender
from pgmlite.core.trust import Trust
from pgmlite.sim.memory import MemoryStore, answer
from pgmlite.sim.network import symbol_bytes
from pgmlite.wire import batch as wire
from pgmlite.wire.batch import HEADER_DTYPE, PacketBatch
from pgmlite.wire.control import Spm, SpmPosition, SpmRepairs
from pgmlite.wire.digests import BlockTree, block_digest
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry, Ids, Sizes
from pgmlite.wire.layout import MAGIC, MAX_PACKET, VERSION, Flag, Order, PacketType
from pgmlite.wire.manifest import Manifest
from tests.support.disk import Disk

TSI = 0x5E55_1011_0000_0001
GRO_SEGMENTS = 64


def packet(kind: int, payload: bytes = b"", **fields: int) -> bytes:
    """Return a packet; `fields` may break any rule of the header."""
    row = np.zeros(1, HEADER_DTYPE)
    for name, value in ({"magic": MAGIC, "version": VERSION, "type": kind} | fields).items():
        row[name] = value
    return row.tobytes() + payload


def make_spm(manifest: bytes, **fields: int) -> Spm:
    """Return an SPM that carries `manifest`.

    Args:
        fields: Of the body, its position and its repairs; a `repair_share` of 100 means that there
            is no carousel.
    """
    values = {"timestamp": 1, "rate": 10_000_000, "spm_interval": 1_000}
    values |= {name: fields.pop(name) for name in values if name in fields}
    place = {"place": 0, "order": Order.BLOCKS, "sector": 0, "sectors": 1, "first": 0}
    place |= {name: fields.pop(name) for name in place if name in fields}
    position = None if fields.get("repair_share") == 100 else SpmPosition(**place)
    blank = dict.fromkeys(SpmRepairs.__slots__, 0)
    repairs = SpmRepairs(**(blank | fields)) if fields.get("repair_port") else None
    return Spm(
        values["timestamp"],
        values["rate"],
        values["spm_interval"],
        manifest,
        position,
        repairs,
    )


def spm_body(manifest: bytes, **fields: int) -> bytes:
    """Return the body of an SPM, of the fields that `make_spm` takes."""
    return make_spm(manifest, **fields).build()


@dataclass(frozen=True)
class Sample:
    """An object with all that its sender knows, and its packets."""

    data: bytes
    manifest: Manifest
    tree: BlockTree

    @cached_property
    def fields(self) -> dict[str, int]:
        """The header fields that name the object."""
        manifest = self.manifest
        return {
            "oid": manifest.oid,
            "size": manifest.size,
            "symbol_size": manifest.symbol_size,
            "tsi": TSI,
        }

    def odata(self, symbols: Iterable[int], *, sqn: int = 1, **fields: int) -> list[bytes]:
        """Return ODATA packets of `symbols`, with sqns from `sqn` on."""
        size = self.manifest.symbol_size
        return [
            packet(
                PacketType.ODATA,
                self.data[symbol * size : (symbol + 1) * size],
                **(
                    self.fields
                    | {
                        "offset": symbol * size,
                        "esi": symbol % self.manifest.block_symbols,
                        "sqn": (sqn + place) % (1 << 32),
                    }
                    | fields
                ),
            )
            for place, symbol in enumerate(symbols)
        ]

    def encoded(
        self, ids: Iterable[tuple[int, int]], *, sqn: int = 1, **fields: int
    ) -> list[bytes]:
        """Return ODATA packets of encoding symbols, (block, ESI), with sqns from `sqn` on."""
        geometry, packets = self.manifest.geometry, []
        for place, (block, esi) in enumerate(ids):
            one = geometry.named(Ids(np.array([block]), np.array([esi])))
            own = {
                "offset": int(one.offsets[0]),
                "esi": esi,
                "flags": Flag.REPAIR_SYMBOL * bool(one.are_repairs[0]),
                "sqn": (sqn + place) % (1 << 32),
            }
            payload = symbol_bytes(ObjectSymbols(one, geometry), self.data)
            packets.append(packet(PacketType.ODATA, payload, **(self.fields | own | fields)))
        return packets

    def all_odata(self, *, sqn: int = 1, **fields: int) -> list[bytes]:
        """Return one cycle of ODATA."""
        return self.odata(range(self.manifest.symbols), sqn=sqn, **fields)

    def nodes(self, *, sqn: int = 1, **fields: int) -> list[bytes]:
        """Return TREE packets that carry the tree of blocks once, from the root on."""
        return [
            packet(
                PacketType.TREE,
                self.tree.node(number),
                **(self.fields | {"offset": number, "sqn": (sqn + number) % (1 << 32)} | fields),
            )
            for number in range(self.tree.shape.nodes)
        ]

    def spm(self, *, sqn: int = 0, head: int = 0, **fields: int) -> bytes:
        """Return an SPM of a carousel that sends symbol `head` next, of all in their order."""
        body = spm_body(self.manifest.raw, place=head)
        return packet(PacketType.SPM, body, **(self.fields | {"sqn": sqn} | fields))


def make_object(
    size: int,
    *,
    symbol_size: int = 64,
    block_symbols: int = 8,
    repair_symbols: int = 0,
    tile_blocks: int = 1,
    name: str = "object.bin",
    seed: int = 0,
) -> Sample:
    """Return an object of `size` random bytes."""
    data = Random(f"{seed}/{size}").randbytes(size)
    tree = tree_of(data, symbol_size, block_symbols)
    manifest = Manifest(
        symbol_size,
        block_symbols,
        size,
        tree.root,
        name,
        repair_symbols=repair_symbols,
        tile_blocks=tile_blocks,
    )
    return Sample(data, manifest, tree)


def tree_of(data: bytes, symbol_size: int, block_symbols: int) -> BlockTree:
    """Return the tree of blocks of an object."""
    view, size = memoryview(data), symbol_size * block_symbols
    blocks = [view[at : at + size] for at in range(0, len(data), size)]
    return BlockTree(b"".join(block_digest(block, symbol_size) for block in blocks), symbol_size)


@dataclass(frozen=True)
class Read:
    """What one read of a socket gives."""

    data: bytes
    stride: int
    source: str = "a"


def joined(packets: Iterable[bytes], *, source: str = "a", limit: int = 64) -> Iterator[Read]:
    """Join packets as UDP_GRO does: equal lengths, a shorter one ends the read."""
    pile: list[bytes] = []
    for one in packets:
        room = sum(map(len, pile)) + len(one) <= MAX_PACKET and len(pile) < limit
        open_end = not pile or len(one) <= len(pile[-1]) == len(pile[0])
        if not (room and open_end):
            yield Read(b"".join(pile), len(pile[0]), source)
            pile = []
        pile.append(one)
    if pile:
        yield Read(b"".join(pile), len(pile[0]), source)


def endpoint(source: str | tuple[str, int]) -> Endpoint:
    """Return where packets of `source` come from; a port matters to few tests."""
    return Endpoint(source, 0) if isinstance(source, str) else Endpoint(*source)


def batches(
    packets: Iterable[bytes],
    *,
    source: str = "a",
    limit: int = GRO_SEGMENTS,
    refused: Counter[str] | None = None,
) -> list[PacketBatch]:
    """Return packets as a receiver reads them, up to `limit` in one batch."""
    refused = Counter() if refused is None else refused
    result = []
    for read in joined(packets, source=source, limit=limit):
        octets = np.frombuffer(read.data, np.uint8)
        result += wire.read(octets, read.stride, endpoint(source), refused)
    return result


def cut(read: Read) -> list[bytes]:
    """Return the packets of one read."""
    return [read.data[at : at + read.stride] for at in range(0, len(read.data), read.stride)]


def fill(pieces: Sequence[memoryview | bytearray], data: bytes) -> None:
    """Write `data` over `pieces` in order, as the kernel does."""
    for piece in pieces:
        part, data = data[: len(piece)], data[len(piece) :]
        piece[: len(part)] = part
    assert not data, "more bytes than the pieces take"


def encode(burst: Transmit, data: bytes) -> list[bytes]:
    """Return the packets of a burst as they go on the wire; `data` is the object."""
    payload = burst.payload
    if isinstance(payload, ObjectSymbols):
        payload = symbol_bytes(payload, data)
    assert isinstance(payload, bytes)
    count = len(burst.rows)
    width = len(payload) if count == 1 else int(burst.rows["symbol_size"][0])
    assert -(-len(payload) // width) == count
    return [
        row.tobytes() + payload[place * width : (place + 1) * width]
        for place, row in enumerate(burst.rows)
    ]


class Scripted(Random):
    """Gives a sender the tsi and the first sqn that a test wants."""

    def __new__(cls, **_: int) -> Self:
        return super().__new__(cls)

    def __init__(self, *, tsi: int = TSI, sqn: int = 0) -> None:
        super().__init__(0)
        self._values = {64: tsi, 32: sqn}

    def getrandbits(self, bits: int) -> int:
        return self._values[bits]


def ring_of(geometry: Geometry, config: dict[str, Any]) -> Ring:
    """Return a ring of the fields that are taken out of `config`; by default from the start.

    A plain object is sent in the order of its symbols.
    """
    names = ("order", "first", "sector", "sectors")
    fields = {name: config.pop(name) for name in names if name in config}
    default = Order.ROUNDS if geometry.repair_symbols else Order.BLOCKS
    return Ring(geometry, **({"order": default} | fields))


def beside(sample: Sample) -> dict[str, Any]:
    """Return what senders are given of a signed object beside what they are of any."""
    return {
        name: getattr(sample, name) for name in ("tiles", "signatures") if hasattr(sample, name)
    }


def make_sender(
    sample: Sample,
    *,
    repair: RepairConfig | None = None,
    rng: Random | None = None,
    **config: Any,
) -> Sender:
    """Return a sender of `sample` at 10 Mbit/s, unless told otherwise.

    A plain object is sent in the order of its symbols.
    """
    ring = ring_of(sample.manifest.geometry, config)
    settings = SenderConfig(**({"rate": 10_000_000, "packet_overhead": 48} | config))
    rng = rng or Random("sender")
    return Sender(
        settings,
        sample.manifest,
        sample.tree,
        rings=[ring],
        repair=repair,
        rng=rng,
        **beside(sample),
    )


def play(
    sender: Sender, *, packets: int = 1 << 60, until: int = 1 << 60, step: int = 0
) -> Iterator[tuple[int, Transmit | Finished]]:
    """Tick a started sender at its deadlines, up to a number of packets or a time in ns.

    Args:
        step: ns from tick to tick at least; without a rate no time would pass.
    """
    now, sent = sender.deadline, 0
    while now is not None and now <= until and sent < packets:
        for action in sender.tick(now):
            assert isinstance(action, Transmit | Finished)
            if isinstance(action, Transmit):
                sent += len(action.rows)
            yield now, action
        deadline = sender.deadline
        now = None if deadline is None else max(deadline, now + step)


class Judging(Receiver):
    """A receiver that remembers which blocks were found right."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.right: set[int] = set()

    def verified(self, oid: int, block: int, *, ok: bool) -> list[Action]:
        if ok:
            self.right.add(block)
        return super().verified(oid, block, ok=ok)


class Drive:
    """A receiver with a disk in memory, driven by hand."""

    def __init__(
        self,
        *,
        disk: bytes = b"",
        store: MemoryStore | None = None,
        policy: Policy | None = None,
        trust: Trust | None = None,
        name: str = "",
        **config: Any,
    ) -> None:
        """
        Args:
            disk: What an earlier run left.
            store: A disk that keeps a record, in place of one that does not.
            policy: Which objects are taken; None: as `config` says.
            trust: Whose objects are taken; None: anybody's.
            name: A pattern that their names match; empty: any.
        """
        self.machine = Receiver(
            ReceiverConfig(**config), rng=Random(0), policy=policy, trust=trust, name=name
        )
        self.store = store or Disk(disk)
        self.seen: list[Action] = []
        self._room = 0
        assert self.machine.start(0) == []

    def give(
        self,
        packets: Iterable[bytes],
        *,
        now: int = 0,
        source: str = "a",
        limit: int = GRO_SEGMENTS,
    ) -> list[Action]:
        """Let packets arrive, up to `limit` in a batch; return all that followed."""
        refused = self.machine.counters.refused
        actions = []
        for batch in batches(packets, source=source, limit=limit, refused=refused):
            actions += self.perform(self.machine.receive(now, batch))
            actions += self.settle(now)
        return actions

    def settle(self, now: int = 0) -> list[Action]:
        """Tick until nothing is due."""
        actions = []
        while (deadline := self.machine.deadline) is not None and deadline <= now:
            actions += self.perform(self.machine.tick(now))
        return actions

    def perform(self, actions: list[Action]) -> list[Action]:
        """Do what the machine says; return that and all that followed."""
        done: list[Action] = []
        todo = list(actions)
        while todo:
            action = todo.pop(0)
            done.append(action)
            match action:
                case Prepare() | Verify() | Decode():
                    if isinstance(action, Prepare):
                        sizes = Sizes(action.size, action.symbol_size)
                        self._room = sizes.symbols * sizes.symbol_size
                    todo = answer(self.machine, self.store, action) + todo
                case Store():
                    for runs in action.pieces():
                        assert all(0 <= at <= self._room - len(run) for at, run in runs)
                    self.store.store(action)
                case Adopted():
                    self.store.begin(action.manifest.geometry)
        self.seen += done
        return done

    @property
    def state(self) -> TransferState | None:
        """Where the transfer is; None: nothing came."""
        current = self.machine.current
        return current.state if current else None

    @property
    def refused(self) -> dict[str, int]:
        """Refusals by reason."""
        return dict(self.machine.counters.refused)

    @property
    def is_complete(self) -> bool:
        """Whether the object was said to be complete."""
        return any(isinstance(action, Complete) for action in self.seen)
