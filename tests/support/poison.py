"""A stranger who hears a carousel and forges what it sends next; what that costs a receiver.

Everything that is public is known to the stranger: the manifest, the trees, where the carousel is,
the sender's address and port, its tsi, channel and sequence numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from pgmlite.core.machine import Action, Store, Transmit
from pgmlite.sim.memory import MemoryStore
from pgmlite.sim.network import packets
from pgmlite.wire.batch import HEADER_DTYPE, WHOLE_HEADER, PacketBatch, Rows
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Ids
from pgmlite.wire.layout import DATA_TYPES, PacketType
from tests.support.builders import Drive, Sample, make_sender, play
from tests.support.signed import symbols_of

Stream = Iterator[tuple[int, PacketBatch]]
"""What comes, and when, ns."""

SENDER = Endpoint("fe80::1", 7)
STRANGER = Endpoint("fe80::bad", 8)


class Watched(MemoryStore):
    """A disk that knows what belongs on it.

    Attributes:
        wrong: Symbols that were written, and are not what the object's maker made.
    """

    def __init__(self, sample: Sample) -> None:
        super().__init__()
        self._sample = sample
        self.wrong = 0

    def store(self, action: Store) -> None:
        """Write symbols, and compare them."""
        geometry, size = self._sample.manifest.geometry, self._sample.manifest.symbol_size
        for offset, start, stop in (run for together in action.runs for run in together):
            places = offset // size + np.arange(stop - start)
            esis = geometry.esis(places) if action.esis is None else action.esis[start:stop]
            ids = Ids(geometry.blocks_of(places), esis)
            rows = action.payload[start:stop]
            true = symbols_of(self._sample.data, geometry, ids)[:, : rows.shape[1]]
            self.wrong += int((rows != true).any(axis=1).sum())
        super().store(action)


@dataclass(frozen=True)
class Attack:
    """What a stranger sends.

    Attributes:
        symbols: Forged symbols for each true one.
        nodes: Forged nodes before each true one.
        source: The address that stands on them.
    """

    symbols: float = 0.0
    nodes: int = 0
    source: Endpoint = SENDER


def true_batches(sample: Sample, seed: int, rate: int) -> Stream:
    """Yield what a sender sends without end, as it is read, and when."""
    sender = make_sender(sample, rate=rate, rng=Random(f"sender/{seed}"))
    sender.start(0)
    for now, action in play(sender):
        assert isinstance(action, Transmit)
        for batch in packets(action, sample.data, SENDER):
            yield now, batch


class Stranger:
    """Puts forged packets between true ones.

    Attributes:
        sent: Forged symbols so far.
    """

    def __init__(self, attack: Attack, seed: int) -> None:
        self._attack = attack
        self._rng = np.random.default_rng(seed)
        self._owed = 0.0
        self.sent = 0

    def between(self, stream: Stream) -> Stream:
        """Yield a stream with what is forged: symbols of a batch come with the one before."""
        before: list[tuple[int, PacketBatch]] = []
        for now, batch in stream:
            if batch.kind in DATA_TYPES and before:
                yield from self._forge(before, batch)
                before = []
            before.append((now, batch))

    def _forge(self, before: list[tuple[int, PacketBatch]], ahead: PacketBatch) -> Stream:
        for now, batch in before:
            if batch.kind is PacketType.TREE:
                for _ in range(self._attack.nodes):
                    yield now, self._as_ours(batch, np.arange(len(batch)))
            elif batch.kind in DATA_TYPES:
                self._owed += self._attack.symbols * len(batch)
                count, self._owed = int(self._owed), self._owed % 1
                if count:
                    self.sent += count
                    rows = np.sort(self._rng.integers(0, len(ahead), count))
                    forged = self._as_ours(ahead, rows)
                    if _are_alike(batch, forged):
                        yield now, _mixed(batch, forged, self._rng)
                        continue
                    yield now, forged
            yield now, batch

    def _as_ours(self, batch: PacketBatch, rows: np.ndarray) -> PacketBatch:
        some = batch.take(rows)
        payload = self._rng.integers(0, 256, some.payload.shape, np.uint8)
        return replace(some, payload=payload, source=self._attack.source)


def _are_alike(one: PacketBatch, other: PacketBatch) -> bool:
    """Whether packets may stand in one batch."""
    keys = one.rows["key"][0], other.rows["key"][0]
    widths = one.payload.shape[1], other.payload.shape[1]
    return one.source == other.source and keys[0] == keys[1] and widths[0] == widths[1]


def _mixed(batch: PacketBatch, forged: PacketBatch, rng: np.random.Generator) -> PacketBatch:
    """Return both as one batch: each in its own order, otherwise by chance."""
    among = np.sort(rng.random(len(forged))) * len(batch)
    order = np.argsort(np.concatenate((np.arange(len(batch)) + 0.5, among)))
    rows = np.concatenate([_whole(batch.rows), _whole(forged.rows)])
    return replace(
        batch,
        rows=rows[order].view(HEADER_DTYPE),
        offsets=np.concatenate((batch.offsets, forged.offsets))[order],
        payload=np.concatenate((batch.payload, forged.payload))[order],
    )


def _whole(rows: Rows) -> Rows:
    """Return headers as one item each: numpy would join them field by field, without overlays."""
    return np.ascontiguousarray(rows).view(WHOLE_HEADER)


@dataclass(frozen=True)
class Outcome:
    """What became of a receiver.

    Attributes:
        cycles: Carousel symbols that were sent, in object lengths.
        wrong: Symbols on its disk that nobody signed, at any time.
        forged: Symbols that the stranger sent.
    """

    cycles: float
    is_complete: bool
    is_right: bool
    wrong: int
    refused: dict[str, int]
    forged: int


def receive(
    sample: Sample,
    attack: Attack,
    *,
    loss: float = 0.0,
    seed: int = 0,
    most: float = 10.0,
    rate: int = 1_000_000_000,
) -> Outcome:
    """Let a receiver hear a carousel under attack, until it is complete or after `most` cycles."""
    store = Watched(sample)
    drive = Drive(store=store, naks=False)
    rng, stranger = np.random.default_rng(seed), Stranger(attack, seed)
    symbols, sent = sample.manifest.symbols, 0

    def counted() -> Stream:
        nonlocal sent
        for now, batch in true_batches(sample, seed, rate):
            yield now, batch
            if batch.kind in DATA_TYPES:
                sent += len(batch)

    for now, batch in stranger.between(counted()):
        # SPMs get through: how long they are waited for is another matter.
        is_lossy = loss and batch.kind is not PacketType.SPM
        some = batch.select(rng.random(len(batch)) >= loss) if is_lossy else batch
        if len(some):
            give(drive, now, some)
        if drive.is_complete or sent > most * symbols:
            break
    data = bytes(store.data[: len(sample.data)])
    return Outcome(
        sent / symbols,
        drive.is_complete,
        data == sample.data,
        store.wrong,
        drive.refused,
        stranger.sent,
    )


def give(drive: Drive, now: int, batch: PacketBatch) -> list[Action]:
    """Let a batch come, and do what follows."""
    done = drive.perform(drive.machine.receive(now, batch))
    drive.seen = [one for one in drive.seen if not isinstance(one, Store)]
    return done + drive.settle(now)
