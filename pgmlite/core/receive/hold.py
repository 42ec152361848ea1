"""Symbols that wait until it is known whether they are what was signed (spec: RCV-20, RCV-21).

A *lane* is what one session sends on one channel, its RDATA apart: what comes in it comes tile
after tile. What waits is bounded for each lane, so that no lane takes another one's room; lanes of
which nothing was right yet share the room of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pgmlite.core.machine import SECOND
from pgmlite.wire.batch import (
    HEADER_DTYPE,
    HEADER_SIZE,
    WHOLE_HEADER,
    Flags,
    Octets,
    PacketBatch,
    Rows,
)
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import PacketType
from pgmlite.wire.request import Symbols

MOST_TILES = 2
"""Tiles that a lane has waiting."""

MOST_LANES = 8
"""Lanes with room of their own."""

CANDIDATES = 2
"""Symbols for each of a tile's that are held at most: forged ones may come beside."""

LANE_LIFE = 10 * SECOND
"""A lane that brought nothing right for as long makes room for another."""


class Lane(NamedTuple):
    """Whose symbols come one after another."""

    source: Endpoint
    tsi: int
    channel: int
    is_repair: bool

    @property
    def kind(self) -> PacketType:
        """Of its packets."""
        return PacketType.RDATA if self.is_repair else PacketType.ODATA


class Part(NamedTuple):
    """Data packets of one lane and one tile, and which of the tile's symbols they carry.

    Attributes:
        places: (n,) in the tile.
        is_heard: Whether their channel is.
    """

    lane: Lane
    tile: int
    batch: PacketBatch
    places: Symbols
    is_heard: bool

    @property
    def symbols(self) -> Octets:
        """(n, T) the symbols, whole."""
        payload = self.batch.payload
        short = int(self.batch.rows["symbol_size"][0]) - payload.shape[1]
        return np.pad(payload, ((0, 0), (0, short))) if short else payload

    def cut(self, start: int, stop: int, tile: int) -> Part:
        """Return those from `start` to `stop`, which are of `tile`."""
        if stop - start == len(self.batch):
            return self
        span = slice(start, stop)
        batch, places = self.batch.take(span), self.places[span]
        return Part(self.lane, tile, batch, places, self.is_heard)


@dataclass(eq=False)
class Waiting:
    """Symbols of one tile and one lane that wait.

    Attributes:
        symbols: How many the tile has.
        since: When the first came, ns.
        count: How many wait.
        missing: Symbols of the tile of which none waits.
    """

    lane: Lane
    tile: int
    symbols: int
    since: int
    is_heard: bool
    room: int
    rows: Rows = field(repr=False)
    payload: Octets = field(repr=False)
    places: Symbols = field(repr=False)
    came: Flags = field(repr=False)
    count: int = 0
    missing: int = 0
    at: int | None = None

    @classmethod
    def of(cls, now: int, part: Part, symbols: int) -> Waiting:
        """Return room for the tile of some packets; they are not in it yet."""
        size, room = int(part.batch.rows["symbol_size"][0]), CANDIDATES * symbols
        return cls(
            part.lane,
            part.tile,
            symbols,
            now,
            part.is_heard,
            room,
            np.empty(room, HEADER_DTYPE),
            np.empty((room, size), np.uint8),
            np.empty(room, np.int64),
            np.zeros(symbols, np.bool_),
            missing=symbols,
        )

    @property
    def is_whole(self) -> bool:
        """Whether each symbol of the tile is here, and once."""
        return not self.missing and self.count == self.symbols

    def add(self, part: Part) -> int:
        """Copy packets of the lane and the tile; return how many found no room."""
        count = min(len(part.batch), self.room - self.count)
        span, some = slice(self.count, self.count + count), slice(0, count)
        width = part.batch.payload.shape[1]
        self.rows[span].view(WHOLE_HEADER)[:] = _whole(part.batch.rows[some])
        self.payload[span, :width] = part.batch.payload[some]
        if width < self.payload.shape[1]:
            self.payload[span, width:] = 0
        places = self.places[span] = part.places[some]
        self.came[places] = True
        self.missing = self.symbols - int(np.count_nonzero(self.came))
        self.count = span.stop
        self.at = part.batch.at
        return len(part.batch) - count

    def part(self) -> Part:
        """Return what waits, in the order of the tile; of two candidates the first stands first."""
        span = slice(0, self.count)
        places = self.places[span]
        rows, payload = self.rows[span], self.payload[span]
        if not (places[1:] > places[:-1]).all():
            order = np.argsort(places, kind="stable")
            rows, payload, places = rows[order], payload[order], places[order]
        batch = PacketBatch(
            self.lane.kind,
            rows,
            rows["offset"].astype(np.int64),
            payload,
            self.lane.source,
            self.at,
        )
        return Part(self.lane, self.tile, batch, places, self.is_heard)


def _whole(rows: Rows) -> Rows:
    """Return headers as one item each, whatever is between them."""
    if rows.strides[0] == HEADER_SIZE:
        return rows.view(WHOLE_HEADER)
    return np.ascontiguousarray(rows).view(WHOLE_HEADER)


@dataclass(eq=False)
class _Room:
    """What waits of one lane, or of all that share."""

    tiles: list[Waiting] = field(default_factory=list)
    right_at: int = 0
    """When something of it was right, ns."""


class Hold:
    """What waits, by lane."""

    def __init__(self, most_lanes: int) -> None:
        """
        Args:
            most_lanes: Those that have room of their own.
        """
        self._most_lanes = most_lanes
        self._rooms: dict[Lane, _Room] = {}
        self._shared = _Room()

    def __iter__(self) -> Iterator[Waiting]:
        for room in (self._shared, *self._rooms.values()):
            yield from tuple(room.tiles)

    def _room(self, lane: Lane) -> _Room:
        return self._rooms.get(lane, self._shared)

    def find(self, lane: Lane, tile: int) -> Waiting | None:
        """Return what waits of a tile of a lane."""
        for one in self._room(lane).tiles:
            if one.tile == tile and one.lane == lane:
                return one
        return None

    def beside(self, lane: Lane) -> list[Waiting]:
        """Return all that waits where a lane's symbols do, the oldest first."""
        return list(self._room(lane).tiles)

    def put(self, waiting: Waiting) -> list[Waiting]:
        """Let a tile wait; return those that have to go for it."""
        tiles = self._room(waiting.lane).tiles
        gone = tiles[: max(0, len(tiles) + 1 - MOST_TILES)]
        tiles[:] = [*tiles[len(gone) :], waiting]
        return gone

    def remove(self, waiting: Waiting) -> None:
        """Let a tile wait no longer."""
        self._room(waiting.lane).tiles.remove(waiting)

    def trust(self, now: int, lane: Lane) -> list[Waiting]:
        """Note that something of a lane was right: it gets room of its own, if there is any.

        Returns:
            What has to go for it, of a lane that was silent.
        """
        room = self._rooms.get(lane)
        if room is not None:
            room.right_at = now
            return []
        gone: list[Waiting] = []
        if len(self._rooms) >= self._most_lanes:
            oldest = min(self._rooms, key=lambda one: self._rooms[one].right_at)
            if now - self._rooms[oldest].right_at < LANE_LIFE:
                return []
            gone = self._rooms.pop(oldest).tiles
        mine = [one for one in self._shared.tiles if one.lane == lane]
        self._shared.tiles = [one for one in self._shared.tiles if one.lane != lane]
        self._rooms[lane] = _Room(mine, now)
        return gone
