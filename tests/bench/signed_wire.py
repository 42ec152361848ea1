"""What signing costs on the wire and a sender: an object beside the same one unsigned.

    python -m tests.bench.signed_wire [BLOCKS ...]

One turn of the carousel of each is sent by a machine alone, into nothing: objects of 64 MiB and
1 GiB, and of so many blocks of 1024 symbols of 1404 bytes (by default 1 and 9), in rounds and block
by block, at several rates, since SPMs depend on them. Prints how many packets and how many bytes
with IP headers more there are, then the processor time of a packet of both, that of making the
bytes of leaves left out. Ends with 1 where 64 MiB or 1 GiB take more than they may from 100 Mbit/s
on: below that SPMs come oftener for what is sent, and each has the signature.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from random import Random

from pgmlite.core.config import SenderConfig
from pgmlite.core.machine import Transmit
from pgmlite.core.ring import Ring
from pgmlite.core.send.sender import Sender
from pgmlite.core.tiles import TileTree, tiles_of
from pgmlite.sim.experiment import manifest_of
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.control import Signature
from pgmlite.wire.digests import BlockTree
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import (
    DIGEST_SIZE,
    IPV6_UDP_HEADERS,
    KEY_ID_SIZE,
    SIGNATURE_SIZE,
    Order,
    PacketType,
)
from pgmlite.wire.manifest import Manifest, Release

T, K, M, D = 1_404, 1_024, 512, 8

RATES = (10_000_000, 100_000_000, 1_000_000_000)
JUDGED = RATES[1:]

MOST = {Order.ROUNDS: (1.7, 1.3), Order.BLOCKS: (3.5, 3.5)}
"""Percent more packets and bytes that the two objects may take."""


def geometry_of(size: int) -> Geometry:
    """Return how an object of so many bytes is cut by default."""
    symbols = -(-size // T)
    block = min(K, symbols)
    return Geometry(size, T, block, max(-(-block // 2), 64), min(D, -(-symbols // block)))


def object_of(geometry: Geometry) -> tuple[Manifest, BlockTree, TileTree]:
    """Return a signed object whose content does not matter."""
    manifest, blocks = manifest_of(geometry)
    tiles = tiles_of(geometry)
    leaves = {tiles.length(tile): b"" for tile in range(tiles.count)}
    leaves = {length: bytes(length) for length in leaves}
    lengths = [tiles.length(tile) for tile in range(tiles.count)]
    tree = TileTree(tiles, bytes(tiles.count * DIGEST_SIZE), lambda t: leaves[lengths[t]])
    signed = replace(
        manifest,
        release=Release("example.org/firmware", 1, 1_800_000_000, 1_900_000_000),
        tiles_digest=tree.root,
    )
    return signed, blocks, tree


def turn(
    manifest: Manifest, blocks: BlockTree, tree: TileTree | None, order: Order, rate: int
) -> tuple[int, int, float]:
    """Send one turn; return packets, bytes with IP headers, and processor time, s."""
    signature = Signature(bytes(KEY_ID_SIZE), bytes(SIGNATURE_SIZE))
    ring = Ring(manifest.geometry, order)
    sender = Sender(
        SenderConfig(rate=rate, packet_overhead=IPV6_UDP_HEADERS),
        manifest if tree else replace(manifest, release=None, tiles_digest=None),
        blocks,
        tiles=tree,
        signatures=[signature] if tree else [],
        rings=[ring],
        rng=Random(1),
    )
    sender.start(0)
    packets = octets = 0
    left = ring.lead or ring.turn
    began = time.process_time()
    while left > 0:
        now = sender.deadline
        assert now is not None
        for one in sender.tick(now):
            assert isinstance(one, Transmit)
            packets += len(one.rows)
            octets += one.length + len(one.rows) * (HEADER_SIZE + IPV6_UDP_HEADERS)
            if one.rows["type"][0] == PacketType.ODATA:
                left -= len(one.rows)
    return packets, octets, time.process_time() - began


def compare(name: str, geometry: Geometry, order: Order, rate: int) -> tuple[float, float]:
    """Print one line; return percent more packets and bytes."""
    manifest, blocks, tree = object_of(geometry)
    plain = turn(manifest, blocks, None, order, rate)
    signed = turn(manifest, blocks, tree, order, rate)
    more = tuple(100 * (a / b - 1) for a, b in zip(signed[:2], plain[:2], strict=True))
    costs = [1e6 * one[2] / one[0] for one in (plain, signed)]
    print(
        f"{name:>10} {order.name.lower():6} {rate / 1e6:6.0f} Mbit/s: "
        f"{more[0]:6.3f}% packets, {more[1]:6.3f}% bytes; "
        f"{costs[0]:.2f} and {costs[1]:.2f} us a packet, {costs[1] / costs[0]:.2f} times",
        flush=True,
    )
    return more[0], more[1]


def main(*blocks: int) -> int:
    """Print all; return 1 where an object takes more than it may."""
    ended = 0
    for order in (Order.ROUNDS, Order.BLOCKS):
        for name, size in (("64 MiB", 64 << 20), ("1 GiB", 1 << 30)):
            for rate in RATES if size < 1 << 30 else JUDGED:
                more = compare(name, geometry_of(size), order, rate)
                if rate in JUDGED and any(
                    one > most for one, most in zip(more, MOST[order], strict=True)
                ):
                    print("           that is too much")
                    ended = 1
        for number in blocks or (1, 9):
            for rate in RATES:
                compare(f"{number} blocks", geometry_of(number * K * T), order, rate)
    return ended


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
