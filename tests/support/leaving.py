"""What leaves of signed objects, packet by packet, for the tests of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from pgmlite.core.machine import ObjectSymbols, Transmit
from pgmlite.core.send.sender import Sender
from pgmlite.core.tiles import TileTree, tiles_of
from pgmlite.sim.experiment import manifest_of
from pgmlite.wire.digests import BlockTree
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import DIGEST_SIZE, PacketType, Tree
from pgmlite.wire.manifest import Manifest
from tests.support.builders import play
from tests.support.nak_builders import kind_of
from tests.support.signed import SignedSample, make_signed

SPM, ODATA, RDATA = PacketType.SPM, PacketType.ODATA, PacketType.RDATA
TREE, NCF = PacketType.TREE, PacketType.NCF

SHAPES = {
    "plain": (160 * 20 * 14 - 3, 20, 0, 1),
    "coded": (160 * 40 * 9 - 7, 40, 64, 1),
    "groups": (600 * (64 * 9 + 1), 64, 64, 4),
    "one": (160 * 70, 70, 64, 1),
    "tile": (160 * 12 - 1, 16, 0, 1),
}


@lru_cache
def sample_of(shape: str) -> SignedSample:
    """Return the signed object of a name."""
    size, block_symbols, repair_symbols, tile_blocks = SHAPES[shape]
    return make_signed(
        size,
        symbol_size=600 if shape == "groups" else 160,
        block_symbols=block_symbols,
        repair_symbols=repair_symbols,
        tile_blocks=tile_blocks,
    )


def without_content(blocks: int) -> tuple[Manifest, BlockTree, TileTree]:
    """Return an object of so many blocks of 1024 symbols, of which senders need no bytes."""
    geometry = Geometry(1_404 * 1_024 * blocks, 1_404, 1_024, 512, 8)
    tiles = tiles_of(geometry)
    tree = TileTree(tiles, bytes(tiles.count * DIGEST_SIZE), lambda tile: bytes(tiles.length(tile)))
    return *manifest_of(geometry), tree


@dataclass(frozen=True)
class Leaving:
    """A packet that left: a node of the tree of tiles, or a symbol with its tile."""

    kind: PacketType
    sqn: int
    node: int = -1
    tile: int = -1
    symbol: tuple[int, int] = (-1, -1)


def leaving(bursts: list[Transmit], sample: SignedSample) -> list[Leaving]:
    """Return the packets of bursts, without nodes of the tree of blocks."""
    tiles, found = sample.tiles.tiles, []
    for burst in bursts:
        kind = kind_of(burst)
        first = int(burst.rows["sqn"][0])
        if kind is TREE:
            if int(burst.rows["esi"][0]) == Tree.TILES:
                node = int(burst.rows["offset"][0])
                assert burst.payload == sample.tiles.node(node)
                found.append(Leaving(kind, first, node))
        elif isinstance(burst.payload, ObjectSymbols):
            ids = burst.payload.ids
            names = zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True)
            found += [
                Leaving(kind, first + place, tile=tile, symbol=name)
                for place, (tile, name) in enumerate(
                    zip(tiles.of(ids).tolist(), names, strict=True)
                )
            ]
        else:
            found.append(Leaving(kind, first))
    return found


def sent_by(sender: Sender, **limits: int) -> list[Transmit]:
    """Start a sender; return what leaves."""
    sender.start(0)
    return [one for _, one in play(sender, **limits) if isinstance(one, Transmit)]


def runs_of(sent: list[Leaving], kind: PacketType, turn: int = 1 << 62) -> list[tuple[int, int]]:
    """Return where the first and the last symbol is of each tile in a row.

    Args:
        turn: A tile is another one after so many symbols.
    """
    places = [place for place, one in enumerate(sent) if one.kind is kind]
    numbered = [(sent[place].tile, number // turn, place) for number, place in enumerate(places)]
    runs = [[place for *_, place in run] for _, run in groupby(numbered, key=lambda one: one[:2])]
    return [(run[0], run[-1]) for run in runs]


def check(sent: list[Leaving], sample: SignedSample, kind: PacketType, turn: int = 1 << 62) -> int:
    """Check that what comes before tiles does, and once more; return how many tiles there were."""
    shape = sample.tiles.tiles.tree
    first_sent: dict[int, int] = {}
    for place, one in enumerate(sent):
        if one.kind is TREE:
            first_sent.setdefault(one.node, place)
    runs = runs_of(sent, kind, turn)
    before = 0
    for (first, last), (after, _) in zip(runs, [*runs[1:], (len(sent), 0)], strict=True):
        leaf = shape.nodes + sent[first].tile
        assert leaf in [one.node for one in sent[before:first]]
        assert leaf in [one.node for one in sent[last:after]]
        for node in shape.above(leaf):
            assert first_sent[node] < first
        before = last
    return len(runs)
