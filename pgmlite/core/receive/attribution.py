"""Which symbols of an object with tiles are what was signed (spec: RCV-19 to RCV-23).

Theory of operation
===================

**Fast.** What comes as a whole tile in its order, whose leaf is here, is hashed where it lies and
goes on: one digest for 128 symbols.

**Held.** Everything else is copied, and waits until its tile is whole, or until it can't be
expected to become whole any more: the lane went on to another tile, or was silent. Then each
symbol is compared with its own digest. What is repaired, and the last symbols of the object, are
compared at once. Without its leaf a tile waits: the leaf comes once more before the next tile.

**Refused.** A symbol that is wrong costs itself: what else waits of its tile, of the same place
too, is compared beside it. Its source is blamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.receive.blame import Blame
from pgmlite.core.receive.counters import ReceiverCounters
from pgmlite.core.receive.hold import CANDIDATES, MOST_LANES, MOST_TILES, Hold, Lane, Part, Waiting
from pgmlite.core.receive.leaves import Leaves
from pgmlite.core.tiles import tiles_of
from pgmlite.errors import RefusedPacket
from pgmlite.wire.batch import Flags, PacketBatch, stretches
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import VISIT_SYMBOLS, PacketType
from pgmlite.wire.manifest import Manifest
from pgmlite.wire.request import Symbols
from pgmlite.wire.tiles import Leaf, symbol_digests, tile_digest

Released = list[tuple[PacketBatch, bool]]
"""Packets that are what was signed, and whether their channel is heard."""


class Attribution:
    """Tells the symbols of one object that were signed from all others.

    Attributes:
        blame: What the sources were worth.
        most_waiting: Bytes of symbols that wait, at most.
    """

    def __init__(
        self,
        geometry: Geometry,
        root: bytes,
        *,
        config: ReceiverConfig,
        counters: ReceiverCounters,
        is_ending: Callable[[], bool],
    ) -> None:
        """
        Args:
            root: Digest of the root of the tree of tiles.
            is_ending: Whether so little is missing that nothing waits for its tile.
        """
        self.blame = Blame()
        self._geometry = geometry
        self._config = config
        self._counters = counters
        self._is_ending = is_ending
        self._tiles = tiles_of(geometry)
        self._leaves = Leaves(self._tiles, root, config.max_leaves)
        largest = geometry.tile_blocks * VISIT_SYMBOLS * geometry.symbol_size
        pair = MOST_TILES * CANDIDATES * largest
        lanes = max(1, min(MOST_LANES, config.max_waiting // pair - 1))
        self._hold = Hold(lanes)
        self.most_waiting = (lanes + 1) * pair

    def _ids(self, batch: PacketBatch) -> Ids:
        """Return what the symbols of data packets are called."""
        blocks = batch.offsets // self._geometry.block_size
        return Ids(blocks, batch.rows["esi"].astype(np.int64))

    @cached_property
    def _last_tile(self) -> int:
        """The tile of the object's last source symbol, which may be short."""
        geometry = self._geometry
        return int(self._tiles.of(geometry.ids(np.array([geometry.symbols - 1])))[0])

    # What comes.

    def take(self, now: int, batch: PacketBatch, *, is_heard: bool) -> Released:
        """Take data packets that name symbols of the object.

        Returns:
            Those that are known to be right, and others that waited; views, good as long as those
            of `batch`.
        """
        if self.blame.shuns(now, batch.source.address, len(batch)):
            self._counters.refused["shunned"] += len(batch)
            return []
        released: Released = []
        for lane, some in _lanes(batch):
            ids = self._ids(some)
            tiles, places = self._tiles.locate(ids)
            all_of_it = Part(lane, int(tiles[0]), some, places, is_heard)
            released += self._take_tiles(now, all_of_it, tiles)
        return released

    def _take_tiles(self, now: int, part: Part, tiles: Symbols) -> Released:
        """Take packets of one lane, and (n,) which tiles they are of."""
        released: Released = []
        begin = end = 0
        for start, stop in stretches(tiles[1:] != tiles[:-1]):
            one = part.cut(start, stop, int(tiles[start]))
            right = self._judge(one, goes_on=stop < len(tiles))
            if right is not None and right.all():
                # What stands side by side goes on as one.
                begin, end = (begin if end == start else start), stop
                continue
            if end == start > begin:
                released += self._pass(now, part.cut(begin, end, part.tile))
            if right is None:
                released += self._wait(now, one)
            else:
                released += self._go_on(now, part.lane) + self._select(now, one, right)
        if end > begin and end == len(tiles):
            released += self._pass(now, part.cut(begin, end, part.tile))
        return released

    def _pass(self, now: int, part: Part) -> Released:
        """Let packets go that are right."""
        return self._go_on(now, part.lane) + self._release(now, part)

    def take_nodes(self, now: int, batch: PacketBatch) -> Released:
        """Take packets that carry nodes of the tree of tiles; return what they set free."""
        address = batch.source.address
        if self.blame.shuns(now, address, len(batch)):
            self._counters.refused["shunned"] += len(batch)
            return []
        released: Released = []
        for number, octets in zip(batch.offsets.tolist(), batch.payload, strict=True):
            try:
                tile = self._leaves.add(number, octets)
            except RefusedPacket as refusal:
                self._counters.refused[refusal.reason] += 1
                self.blame.take(now, address, 0, 1)
                continue
            if tile is None:
                self._counters.nodes_unused += 1
            elif tile >= 0:
                released += self._learn(now, tile)
        return released

    def _learn(self, now: int, tile: int) -> Released:
        """Look at what waits for a leaf that came."""
        released: Released = []
        for waiting in [one for one in self._hold if one.tile == tile]:
            is_latest = self._hold.beside(waiting.lane)[-1] is waiting
            if waiting.is_whole or not is_latest or self._is_urgent(waiting.lane):
                released += self._settle(now, waiting)
        return released

    def _is_urgent(self, lane: Lane) -> bool:
        return lane.is_repair or self._is_ending()

    def _judge(self, part: Part, *, goes_on: bool) -> Flags | None:
        """Return which packets of one lane and tile are right; None: they have to wait.

        Args:
            goes_on: Whether their lane goes on to another tile at once.
        """
        leaf = self._leaves.get(part.tile)
        if leaf is None or self._hold.find(part.lane, part.tile):
            return None
        if self._is_whole(part, leaf):
            return np.ones(len(part.batch), np.bool_)
        if goes_on or self._is_urgent(part.lane):
            return self._compare(part, leaf)
        return None

    def _wait(self, now: int, part: Part) -> Released:
        """Let packets of one lane and tile wait; return what waits no longer."""
        size = self._tiles.symbols(part.tile)
        released: Released = []
        waiting = self._hold.find(part.lane, part.tile)
        if waiting is None:
            released += self._go_on(now, part.lane)
            waiting = Waiting.of(now, part, size)
            for gone in self._hold.put(waiting):
                self._drop(gone)
        self._refuse("unattributed", waiting.add(part))
        if waiting.count >= size or self._is_urgent(part.lane):
            released += self._settle(now, waiting)
        return released

    def _go_on(self, now: int, lane: Lane) -> Released:
        """Look at what waits of a lane that goes on to another tile."""
        released: Released = []
        for waiting in self._hold.beside(lane):
            if self._leaves.get(waiting.tile):
                released += self._settle(now, waiting)
        return released

    def _drop(self, waiting: Waiting) -> None:
        self._refuse("unattributed", waiting.count)

    def _refuse(self, reason: str, count: int) -> None:
        if count:
            self._counters.refused[reason] += count

    # What is right.

    def _is_whole(self, part: Part, leaf: Leaf) -> bool:
        """Whether packets are a whole tile in its order, each as it was signed."""
        batch, places = part.batch, part.places
        size = len(leaf.symbols)
        if len(batch) != size or batch.payload.shape[1] != self._geometry.symbol_size:
            return False
        if places[0] or places[-1] != size - 1 or not (places[1:] > places[:-1]).all():
            return False
        return tile_digest(batch.payload) == leaf.tile

    def _compare(self, part: Part, leaf: Leaf) -> Flags:
        """Return which packets have symbols with their own digests."""
        ids = self._ids(part.batch)
        right: Flags = (
            symbol_digests(ids.blocks, ids.esis, part.symbols) == leaf.symbols[part.places]
        )
        return right

    def _settle(self, now: int, waiting: Waiting) -> Released:
        """Let go what waits of a tile, as far as it is right, if its leaf is here."""
        leaf = self._leaves.get(waiting.tile)
        if leaf is None:
            return []
        self._hold.remove(waiting)
        part = waiting.part()
        if waiting.is_whole and tile_digest(part.batch.payload) == leaf.tile:
            released = self._release(now, part)
        else:
            released = self._select(now, part, self._compare(part, leaf))
        if waiting.tile != self._last_tile:
            return released
        return [(one, is_heard) for some, is_heard in released for one in self._cut(some)]

    def _select(self, now: int, part: Part, right: Flags) -> Released:
        """Let packets go that are right, and refuse the others."""
        wrong = len(right) - int(np.count_nonzero(right))
        if wrong:
            self._refuse("forged", wrong)
            self.blame.take(now, part.lane.source.address, 0, wrong)
        if wrong == len(right):
            return []
        some = part.batch.select(right)
        return self._release(now, part._replace(batch=some, places=part.places[right]))

    def _release(self, now: int, part: Part) -> Released:
        self.blame.take(now, part.lane.source.address, len(part.batch), 0)
        for gone in self._hold.trust(now, part.lane):
            self._drop(gone)
        return [(part.batch, part.is_heard)]

    def _cut(self, batch: PacketBatch) -> Iterator[PacketBatch]:
        """Yield packets as they came: the object's last source symbol with its own length."""
        geometry = self._geometry
        width = geometry.size - (geometry.symbols - 1) * geometry.symbol_size
        are_last = geometry.are_last(self._ids(batch))
        if batch.payload.shape[1] == width or not are_last.any():
            yield batch
            return
        whole, last = batch.select(~are_last), batch.select(are_last)
        if len(whole):
            yield whole
        yield replace(last, payload=last.payload[:, :width])

    # Time.

    @property
    def deadline(self) -> int | None:
        """When something has waited long enough, ns."""
        since = min((one.since for one in self._known()), default=None)
        return None if since is None else since + self._config.tile_patience

    def _known(self) -> list[Waiting]:
        return [one for one in self._hold if self._leaves.get(one.tile)]

    def tick(self, now: int) -> Released:
        """Look at what has waited long enough for the rest of its tile."""
        released: Released = []
        for waiting in self._known():
            if waiting.since + self._config.tile_patience <= now:
                released += self._settle(now, waiting)
        return released


def attribution_of(
    manifest: Manifest,
    config: ReceiverConfig,
    counters: ReceiverCounters,
    is_ending: Callable[[], bool],
) -> Attribution | None:
    """Return who tells the symbols of an object apart; None: it has no tiles.

    Arguments are as of `Attribution`.
    """
    if manifest.tiles_digest is None:
        return None
    return Attribution(
        manifest.geometry,
        manifest.tiles_digest,
        config=config,
        counters=counters,
        is_ending=is_ending,
    )


def _lanes(batch: PacketBatch) -> Iterator[tuple[Lane, PacketBatch]]:
    """Yield the lanes of data packets, and the packets of each."""
    rows = batch.rows
    same: Flags = rows["tsi"] == rows["tsi"][0]
    same &= rows["channel"] == rows["channel"][0]
    same &= rows["type"] == rows["type"][0]
    if same.all():
        yield _lane_of(batch), batch
        return
    order = np.lexsort((rows["type"], rows["channel"], rows["tsi"]))
    some = rows[order]
    changes: Flags = some["tsi"][1:] != some["tsi"][:-1]
    changes |= some["channel"][1:] != some["channel"][:-1]
    changes |= some["type"][1:] != some["type"][:-1]
    for start, stop in stretches(changes):
        found = batch.take(order[start:stop])
        lane = _lane_of(found)
        yield lane, replace(found, kind=lane.kind)


def _lane_of(batch: PacketBatch) -> Lane:
    """Return the lane of a batch's first packet."""
    row = batch.rows[0]
    is_repair = int(row["type"]) == PacketType.RDATA
    return Lane(batch.source, int(row["tsi"]), int(row["channel"]), is_repair)
