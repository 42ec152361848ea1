"""What fuzzers call of signed objects: trees of tiles, and symbols that wait for their leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from cryptography.exceptions import InvalidSignature

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import MS, SECOND, Action, Complete, Decode, Prepare, Store, Verify
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.tiles import tiles_of
from pgmlite.core.trust import MOST_WARNED, Trust
from pgmlite.errors import ObjectError
from pgmlite.sim.memory import answer
from pgmlite.storage.signed import ENTRY_SIZE, FIXED, SignedFile, build_head
from pgmlite.storage.signing import LeafPlaces
from pgmlite.wire import batch as wire
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.digests import digest
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.manifest import Release
from tests.support.builders import batches
from tests.support.disk import Disk
from tests.support.fuzz_pieces import joined, pieces
from tests.support.signed import key_id, private_key, symbols_of
from tests.support.signed_vectors import (
    CREATED,
    NOTHING,
    PLAIN,
    SIGNED,
    malformed_signed,
    signed,
    signed_file,
    valid_signed,
)
from tests.support.vectors import TSI

TILES = SIGNED.tiles.tiles
GEOMETRY = TILES.geometry
NODES = TILES.tree.nodes
STRANGERS_GO = 30 * SECOND
"""Nobody is shunned any more, nor is a lane kept, so long after the last stranger."""


def tile_packets(tile: int) -> list[bytes]:
    """Return the packets of a tile, its leaf first."""
    ids = TILES.ids(tile)
    if not len(ids):
        return []
    pairs = zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True)
    return [*SIGNED.tile_nodes([NODES + tile], tsi=TSI), *SIGNED.encoded(pairs, tsi=TSI)]


ANNOUNCED = [SIGNED.spm(tsi=TSI), *SIGNED.nodes(tsi=TSI)]
TRUE = [
    *ANNOUNCED,
    *SIGNED.tile_nodes(range(NODES), tsi=TSI),
    *(one for tile in range(TILES.count) for one in tile_packets(tile)),
]
"""All packets of the object, once."""

TRUE_BATCHES = batches(TRUE, source="fd02::1")
"""The same as they are read."""

SYMBOLS = {
    (int(block), int(esi)): row.tobytes()
    for tile in range(TILES.count)
    for ids in [TILES.ids(tile)]
    if len(ids)
    for block, esi, row in zip(
        ids.blocks, ids.esis, symbols_of(SIGNED.data, GEOMETRY, ids), strict=True
    )
}
"""What was signed, by block and ESI."""


def check_stored(action: Store) -> None:
    """Nothing but what was signed is written."""
    size = GEOMETRY.symbol_size
    for offset, start, stop in (run for together in action.runs for run in together):
        for row in range(start, stop):
            number = offset // size + row - start
            block, esi = divmod(number, GEOMETRY.block_symbols)
            esi = esi if action.esis is None else int(action.esis[row])
            written = action.payload[row].tobytes()
            assert written == SYMBOLS[block, esi][: len(written)]


class Strict:
    """A receiver of the signed object, at whose disk every write is looked at."""

    def __init__(self, receiver: Receiver) -> None:
        self.machine = receiver
        self.store = Disk(b"")
        self.now = SECOND
        self.is_complete = False
        self.machine.start(self.now)

    def give(self, packets: Iterable[bytes], source: Endpoint) -> None:
        """Let packets arrive, one by one."""
        refused = self.machine.counters.refused
        for one in packets:
            octets = np.frombuffer(one, np.uint8)
            self.take(wire.read(octets, len(one), source, refused) if one else [])

    def take(self, some: Iterable[PacketBatch]) -> None:
        """Let batches arrive."""
        for batch in some:
            self._perform(self.machine.receive(self.now, batch))

    def wait(self, time: int) -> None:
        """Let time pass."""
        self.now += time
        for _ in range(50):
            deadline = self.machine.deadline
            if deadline is None or deadline > self.now:
                return
            self._perform(self.machine.tick(self.now))
        raise AssertionError("due for ever")

    def _perform(self, actions: list[Action]) -> None:
        todo = list(actions)
        while todo:
            action = todo.pop(0)
            match action:
                case Prepare() | Verify() | Decode():
                    todo = answer(self.machine, self.store, action) + todo
                case Store():
                    check_stored(action)
                    self.store.store(action)
                case Complete():
                    self.is_complete = True


def tiles(data: bytes) -> None:
    """A receiver that knows a signed object, and then the object itself from another address."""
    config = ReceiverConfig(oid=SIGNED.manifest.oid)
    strict = Strict(Receiver(config, rng=Random(0)))
    strict.give(ANNOUNCED, Endpoint("fd02::1", 9))
    for how, one in pieces(data):
        strict.wait((how & 3) ** 6 * 10 * MS)
        strict.give([one], Endpoint(f"fd01::{how >> 2 & 3}", 9))
    strict.wait(STRANGERS_GO)
    if not strict.is_complete:
        strict.take(TRUE_BATCHES)
        strict.wait(SECOND)
    assert strict.is_complete, "strangers keep it from completing"
    size = GEOMETRY.size
    assert bytes(strict.store.data[:size]) == SIGNED.data


@dataclass(frozen=True)
class OneKey:
    """The public half of the first key."""

    key_id: bytes = key_id(private_key(0))

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether it signed `message`."""
        try:
            private_key(0).public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True


OLDER = signed(160 * 5, 160, 8, "plain.bin", release=Release("x", 1, 0, 0))
SIGNED_BY_IT = {of.manifest.raw for of in (SIGNED, PLAIN, NOTHING, OLDER)}
NOW = CREATED + 1
REASONS = {
    *("unsigned", "key", "signature", "budget", "manifest", "rollback", "equivocation"),
    *("expired", "spm", "type", "object", "empty", "tree", "forged", "unattributed", "shunned"),
    *("short", "magic", "version", "reserved", "symbol_size", "length", "offset", "esi"),
    *("request", "too_large"),
}


def trust(data: bytes) -> None:
    """A receiver with a key: announcements, and what else comes."""
    judge = Trust([OneKey()], unix_time=lambda: NOW)
    machine = Receiver(ReceiverConfig(), rng=Random(0), trust=judge)
    now, refused, store = SECOND, machine.counters.refused, Disk(b"")
    machine.start(now)
    for how, one in pieces(data):
        now += (how & 3) ** 6 * 10 * MS
        octets = np.frombuffer(one, np.uint8)
        source = Endpoint(f"fd01::{how >> 2 & 3}", 9)
        todo = []
        for batch in wire.read(octets, len(one), source, refused) if one else ():
            todo += machine.receive(now, batch)
        while todo:
            action = todo.pop(0)
            if isinstance(action, Prepare | Verify | Decode):
                todo = answer(machine, store, action) + todo
            elif isinstance(action, Store):
                store.store(action)
        for transfer in machine.transfers.values():
            assert transfer.manifest is not None
            assert transfer.manifest.raw in SIGNED_BY_IT
    assert set(refused) <= REASONS
    assert len(judge.warnings) <= MOST_WARNED


def trust_seeds() -> Iterator[bytes]:
    """Yield inputs to begin with."""
    spms = [of.spm(tsi=TSI) for of in (SIGNED, PLAIN, NOTHING, OLDER)]
    odd = [one for _, one in valid_signed()] + [one for _, one, _ in malformed_signed()]
    yield joined((place * 5, one) for place, one in enumerate(spms * 3))
    yield joined((3, one) for one in [*odd, *spms, *TRUE[:40]])
    yield joined((3, one) for one in [*spms[::-1], *odd])


def pglm(data: bytes) -> None:
    """A FILE.pglm from anywhere: as it is, and with a right digest of its head."""
    read_signed(data)
    read_signed(resealed(data))


def read_signed(data: bytes) -> None:
    """Read a FILE.pglm: it is right in itself, or an error says that it is none."""
    number = os.memfd_create("signed")
    try:
        os.write(number, data)
        try:
            found = SignedFile(Path(f"/proc/self/fd/{number}"))
        except ObjectError:
            return
        try:
            manifest, shape = found.manifest, tiles_of(found.manifest.geometry).tree
            assert found.blocks.root == manifest.tree_digest
            assert found.tiles.root == manifest.tiles_digest
            for node in range(shape.nodes + shape.blocks):
                assert len(found.tiles.node(node)) <= manifest.symbol_size
        finally:
            found.close()
    finally:
        os.close(number)


def pglm_seeds() -> Iterator[bytes]:
    """Yield inputs to begin with."""
    for of in (SIGNED, PLAIN, NOTHING):
        tiles = of.tiles.tiles
        leaves = LeafPlaces(tiles)
        rest = bytearray(leaves.total)
        for tile in range(tiles.count):
            at, length = leaves.extent(tile)
            rest[at : at + length] = of.tiles.node(tiles.tree.nodes + tile)
        for signatures in ((), of.signatures):
            yield build_head(of.manifest, signatures) + of.tree.digests + rest


def resealed(data: bytes) -> bytes:
    """Return a FILE.pglm whose head has the digest that it says, as far as it is one."""
    if len(data) < FIXED.size:
        return data
    _, _, count, length = FIXED.unpack_from(data)
    end = FIXED.size + length + count * ENTRY_SIZE
    return data[:end] + digest(data[:end]) + data[end + 32 :]


def tiles_seeds() -> Iterator[bytes]:
    """Yield inputs to begin with."""
    bad = [bytes.fromhex(case["hex"]) for case in signed_file()["refused"]]
    yield joined((0, one) for one in TRUE)
    yield joined((place % 16, one) for place, one in enumerate(TRUE[::-1]))
    yield joined((0, one) for one in [*TRUE[:9], *bad, *TRUE[9:80]])
    odd = [one for _, one in valid_signed()] + [one for _, one, _ in malformed_signed()]
    yield joined((1, one) for one in odd)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "tiles": tiles,
    "trust": trust,
    "pglm": pglm,
}
SEEDS = {"tiles": tiles_seeds, "trust": trust_seeds, "pglm": pglm_seeds}
