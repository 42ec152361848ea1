"""Receivers that hear carousels with repair symbols, without network and time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np

from pgmlite.core.machine import ObjectSymbols, Transmit
from pgmlite.core.ring import Ring
from pgmlite.sim.memory import MemoryStore
from pgmlite.sim.network import packets
from pgmlite.wire.batch import HEADER_DTYPE, Flags, PacketBatch
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import MAGIC, VERSION, Flag, Order, PacketType
from tests.support.builders import TSI, Drive, Sample, make_object

Lossy = Callable[[int], Flags]
"""Says of so many packets in a row which are lost."""


def coded(
    symbols: int,
    *,
    short: int = 17,
    block_symbols: int = 1_024,
    symbol_size: int = 64,
    repair_symbols: int | None = None,
    seed: int = 0,
) -> Sample:
    """Return an object of `symbols` source symbols, with K, M and D as senders choose them.

    Args:
        short: Bytes that the last symbol lacks.
    """
    size = symbol_size * symbols - short
    source = min(block_symbols, symbols)
    repairs = max(-(-source // 2), 64) if repair_symbols is None else repair_symbols
    return make_object(
        size,
        symbol_size=symbol_size,
        block_symbols=source,
        repair_symbols=repairs,
        tile_blocks=min(8, -(-symbols // source)),
        seed=seed,
    )


def up_to_last(geometry: Geometry, ids: Ids) -> Ids:
    """Return `ids` as far as the object's last source symbol is none but the last of them."""
    lasts = np.flatnonzero(geometry.are_last(ids))
    return ids.cut(0, int(lasts[0]) + 1) if len(lasts) else ids


def symbol_batches(sample: Sample, ids: Ids, *, sqn: int = 1, tsi: int = TSI) -> list[PacketBatch]:
    """Return ODATA of encoding symbols as a receiver reads it."""
    geometry = sample.manifest.geometry
    found: list[PacketBatch] = []
    while len(ids):
        some = geometry.named(up_to_last(geometry, ids))
        rows = np.zeros(len(some), HEADER_DTYPE)
        rows["magic"], rows["version"], rows["type"] = MAGIC, VERSION, PacketType.ODATA
        rows["flags"] = some.are_repairs * np.uint8(Flag.REPAIR_SYMBOL)
        rows["oid"], rows["size"] = sample.manifest.oid, geometry.size
        rows["symbol_size"], rows["tsi"] = geometry.symbol_size, tsi
        rows["offset"], rows["esi"] = some.offsets, some.esis
        rows["sqn"] = (sqn + np.arange(len(some))) % (1 << 32)
        burst = Transmit(0, rows, ObjectSymbols(some, geometry))
        found += packets(burst, sample.data, Endpoint("a", 0))
        sqn, ids = sqn + len(some), ids.cut(len(some), len(ids))
    return found


def at_random(share: float, seed: int = 0) -> Lossy:
    """Lose each packet with probability `share`."""
    draws = np.random.default_rng(seed)
    return lambda count: draws.random(count) < share


def in_bursts(share: float, length: int, seed: int = 0) -> Lossy:
    """Lose `share` of all packets, `length` in a row."""
    draws, left = np.random.default_rng(seed), 0

    def lost(count: int) -> Flags:
        nonlocal left
        flags = np.zeros(count, np.bool_)
        for at in range(count):
            if not left and draws.random() < share / length / (1 - share):
                left = length
            flags[at] = left > 0
            left -= left > 0
        return flags

    return lost


class Careless(MemoryStore):
    """A disk that writes over whatever it may: short gaps between runs that stand together."""

    def write(self, runs: Sequence[tuple[int, memoryview]]) -> None:
        """Write the bytes of `runs`, and what is worth nothing between them."""
        for (offset, run), (after, _) in pairwise(runs):
            end = offset + len(run)
            self.data[end:after] = b"\xa5" * (after - end)
        super().write(runs)


class Listener(Drive):
    """A receiver that knows the manifest and the tree, and hears carousels.

    Attributes:
        heard: Carousel symbols that went by, lost ones among them.
    """

    def __init__(
        self,
        sample: Sample,
        *,
        store: MemoryStore | None = None,
        lossy: Lossy | None = None,
        is_announced: bool = True,
    ) -> None:
        super().__init__(store=store or Careless())
        self.sample = sample
        self.lossy = lossy or (lambda count: np.zeros(count, np.bool_))
        self.heard = 0
        if is_announced:
            self.give([sample.spm(), *sample.nodes()])

    @property
    def lengths(self) -> float:
        """Object lengths that went by."""
        return self.heard / self.sample.manifest.symbols

    def take(self, batch: PacketBatch) -> None:
        """Let packets come."""
        self.perform(self.machine.receive(0, batch))
        self.settle()

    def hear(self, ids: Ids, *, sqn: int = 1, tsi: int = TSI) -> None:
        """Let symbols come, as far as they are not lost."""
        kept = ~self.lossy(len(ids))
        self.heard += len(ids)
        if kept.any():
            some = Ids(ids.blocks[kept], ids.esis[kept])
            for batch in symbol_batches(self.sample, some, sqn=sqn, tsi=tsi):
                self.take(batch)

    def follow(
        self, ring: Ring, place: int = 0, *, limit: float = 6.0, step: int = 16, tsi: int = TSI
    ) -> int:
        """Hear a carousel from `place` on until the object is complete; return the place then.

        Args:
            limit: Object lengths that are enough.
            step: Symbols that come in one go, but for small objects.
        """
        end = place + limit * self.sample.manifest.symbols + 64
        while not self.is_complete:
            assert place < end, f"not complete after {self.lengths:.2f} lengths"
            count = min(step, max(1, ring.geometry.symbols // 64))
            self.hear(ring.ids(place, count), sqn=place + 1, tsi=tsi)
            place += count
        assert bytes(self.store.data[: len(self.sample.data)]) == self.sample.data
        return place


def kinds(drive: Listener, *types: type) -> int:
    """Return how many actions of some types there were."""
    return sum(isinstance(action, types) for action in drive.seen)


def rounds(sample: Sample, *, first: int = 0, **how: Any) -> Ring:
    """Return the carousel of a sender that sends rounds."""
    return Ring(sample.manifest.geometry, Order.ROUNDS, first, **how)


def some_places(sample: Sample, count: int, seed: int = 0) -> Iterator[int]:
    """Yield places at which somebody might join."""
    rng = Random(seed)
    for _ in range(count):
        yield rng.randrange(2 * rounds(sample).turn)
