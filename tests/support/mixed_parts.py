"""Partial files in which any symbol of a block lies in any of its places, written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from pgmlite.core.decode import Decoded
from pgmlite.core.machine import LYING, Decode, Held, Store
from pgmlite.fec.codec import RandomLinear
from pgmlite.storage.part import PartFile
from pgmlite.wire.batch import Octets
from tests.support.builders import Sample, make_object
from tests.support.part_files import complete, wanted

Name = tuple[int, int]
"""Block and encoding symbol id."""

Coming = dict[int, tuple[int, bytes]]
"""Encoding symbol id and bytes of what goes to each place."""


SAMPLE = make_object(56 * 64 - 5, block_symbols=20, repair_symbols=64)
"""Two blocks of 20 symbols and one of 16, whose last is short."""

NAMES = [
    (block, esi)
    for block in range(SAMPLE.manifest.blocks)
    for esi in range(SAMPLE.manifest.geometry.ring(block))
]


@cache
def symbols_of(sample: Sample, block: int) -> Octets:
    """Return the ring of a block: (K + M, T)."""
    geometry = sample.manifest.geometry
    offset, length = geometry.extent(block)
    k, size = geometry.source(block), geometry.symbol_size
    data = sample.data[offset : offset + length].ljust(k * size, b"\0")
    source = np.frombuffer(data, np.uint8).reshape(k, size)
    return RandomLinear().encode(source, np.arange(geometry.ring(block)))


class Filled:
    """A partial file, and what lies where in it: what a receiver's machine would know.

    Attributes:
        lying: (symbols,) what lies in the places.
        surplus: Encoding symbols of each block that have no place.
        strays: Share of the source symbols that lie elsewhere although their places are free.
    """

    strays = 0.1

    def __init__(self, output: Path, sample: Sample = SAMPLE, **options: Any) -> None:
        self.sample, self.geometry = sample, sample.manifest.geometry
        self.lying = np.zeros(self.geometry.symbols, LYING)
        self.surplus: dict[int, list[tuple[int, bytes]]] = {}
        self.part = PartFile(output, **options)
        self.held = self.part.prepare(wanted(sample))
        self.part.begin(sample.manifest)
        for first, lying in self.held.lying:
            self.lying[first : first + len(lying)] = lying

    def span(self, block: int) -> slice:
        """Return the places of a block."""
        return self.geometry.span(block, block + 1)

    def have(self, block: int) -> int:
        """Return how many symbols of a block are held."""
        return int(np.count_nonzero(self.lying[self.span(block)])) + len(
            self.surplus.get(block, ())
        )

    def is_held(self, name: Name) -> bool:
        """Whether a symbol is held."""
        block, esi = name
        has_place = (self.lying[self.span(block)] == esi + 1).any()
        return bool(has_place) or any(esi == one for one, _ in self.surplus.get(block, ()))

    def place_of(self, name: Name, rng: Random) -> int | None:
        """Return a place for a symbol: any that is free, but its own is preferred."""
        block, esi = name
        span = self.span(block)
        free = np.flatnonzero(self.lying[span] == 0) + span.start
        if not len(free):
            return None
        own = span.start + esi
        return own if own in free and rng.random() >= self.strays else int(rng.choice(free))

    def give(self, names: Iterable[Name], rng: Random, *, forged: bool = False) -> None:
        """Let symbols come that are not held; store them all at once."""
        came: Coming = {}
        for block, esi in names:
            if self.is_held((block, esi)):
                continue
            octets = bytes(symbols_of(self.sample, block)[esi])
            octets = rng.randbytes(len(octets)) if forged else octets
            place = self.place_of((block, esi), rng)
            if place is None:
                self.surplus.setdefault(block, []).append((esi, octets))
            else:
                self.lying[place] = esi + 1
                came[place] = (esi, octets)
        for some in self._shapes(came):
            self._store(some)

    def _shapes(self, came: Coming) -> Iterator[Coming]:
        """Yield what came, of one length each: the object's last symbol is short."""
        block, geometry = self.geometry.blocks - 1, self.geometry
        last = geometry.source(block) - 1
        short = geometry.size - geometry.offset(block, last)
        ends = {
            place: (esi, octets[:short])
            for place, (esi, octets) in came.items()
            if (geometry.block_of(place), esi) == (block, last)
        }
        whole = {place: one for place, one in came.items() if place not in ends}
        yield from (some for some in (whole, ends) if some)

    def _store(self, came: Coming) -> None:
        order = sorted(came)
        rows = np.frombuffer(b"".join(came[place][1] for place in order), np.uint8)
        esis = np.array([came[place][0] for place in order])
        runs: list[tuple[int, int, int]] = []
        for row, place in enumerate(order):
            if row and place == order[row - 1] + 1:
                runs[-1] = (*runs[-1][:2], row + 1)
            else:
                runs.append((place * self.geometry.symbol_size, row, row + 1))
        own = all(self.geometry.esi_of(place) == came[place][0] for place in order)
        store = Store(
            1, [[run] for run in runs], rows.reshape(len(order), -1), None if own else esis
        )
        self.part.store(store.pieces(), store.lying)

    def action(self, block: int, *, is_search: bool = False) -> Decode:
        """Return what a machine says to have a block decoded."""
        surplus = self.surplus.get(block, [])
        rows = np.frombuffer(b"".join(octets for _, octets in surplus), np.uint8)
        return Decode(
            self.sample.manifest.oid,
            block,
            self.geometry,
            self.lying[self.span(block)].copy(),
            rows.reshape(-1, self.geometry.symbol_size),
            np.array([esi for esi, _ in surplus], np.int64),
            self.sample.tree.digests[32 * block : 32 * block + 32],
            is_search,
        )

    def decode(self, block: int, *, is_search: bool = False) -> Decoded:
        """Decode a block and put it in place, if it is one; take note of it."""
        decoded = self.part.decode(self.action(block, is_search=is_search))
        span = self.span(block)
        if self.part.place(decoded):
            self.lying[span] = np.arange(1, 1 + span.stop - span.start)
            self.surplus.pop(block, None)
        return decoded

    def content(self, place: int) -> bytes:
        """Return what is in a place."""
        size = self.geometry.symbol_size
        return self.part.path.read_bytes()[place * size : (place + 1) * size]

    def right(self, place: int) -> bytes:
        """Return what must be in a place, by what is said to lie there."""
        block = self.geometry.block_of(place)
        return bytes(symbols_of(self.sample, block)[int(self.lying[place]) - 1])

    def check(self) -> None:
        """See that each place has what is said to lie there."""
        for place in np.flatnonzero(self.lying).tolist():
            assert self.content(place) == self.right(place), place

    def publish(self) -> bytes:
        """Publish the object; return it."""
        assert self.part.settle(complete(self.sample)) == []
        self.part.publish(complete(self.sample))
        self.part.close()
        return self.part.output.read_bytes()


def held_places(held: Held) -> dict[int, int]:
    """Return what lies in places, by a record."""
    return {
        first + int(n): int(lying[n]) for first, lying in held.lying for n in np.flatnonzero(lying)
    }
