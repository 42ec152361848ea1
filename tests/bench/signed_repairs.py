"""What leaves cost where a signed object is repaired: nodes beside RDATA, and what all of it takes.

    python -m tests.bench.signed_repairs [BLOCKS [SEEDS]]

An object of so many blocks (by default 24) of 1024 symbols of 1404 bytes, sent once to 3 receivers
in a simulated network, plain and with repair symbols, whose losses at random are repaired by NAKs.
Receivers here use whatever comes. Prints the means: RDATA packets and the nodes of the tree of
tiles beside them, each in percent of the object.
"""

from __future__ import annotations

import sys
from statistics import mean

import numpy as np

from pgmlite.core.config import ReceiverConfig, RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.ring import Ring
from pgmlite.core.send.sender import Sender
from pgmlite.core.send.tiles import TileNodes
from pgmlite.core.tiles import TileTree
from pgmlite.sim.group import ReceiverGroup
from pgmlite.sim.loss import Independent
from pgmlite.sim.network import Audience, GroupNode, Link, Network
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import IPV6_UDP_HEADERS, Order
from tests.bench.signed_wire import object_of

RECEIVERS, LATENCY = 3, 2 * MS


class Counted(TileNodes):
    """Counts the nodes that leave."""

    def __init__(self, tree: TileTree) -> None:
        super().__init__(tree)
        self.taken = 0

    def take(self, most: int) -> list[tuple[int, bytes]]:
        nodes = super().take(most)
        self.taken += len(nodes)
        return nodes


def repair(
    geometry: Geometry, loss: float, order: Order, *, signed: bool, seed: int
) -> tuple[int, int]:
    """Send an object once and repair it; return RDATA packets and the nodes beside them."""
    manifest, blocks, tree = object_of(geometry)
    network = Network(seed)
    sender = Sender(
        SenderConfig(rate=100_000_000, packet_overhead=IPV6_UDP_HEADERS, cycles=1),
        manifest,
        blocks,
        tiles=tree if signed else None,
        rings=[Ring(geometry, order)],
        repair=RepairConfig(port=1),
        rng=network.rng("sender"),
    )
    nodes = Counted(tree)
    (lane,) = sender.lanes
    assert lane.repairs
    if signed:
        lane.repairs.tiles = nodes
    network.add("sender", sender, link=Link(latency=LATENCY))
    names = tuple(f"r{number}" for number in range(RECEIVERS))
    group = ReceiverGroup(
        manifest,
        ReceiverConfig(),
        rngs=[network.rng(name) for name in names],
        luck=np.random.default_rng(seed),
    )
    node = GroupNode(group, names, LATENCY, np.zeros(RECEIVERS, np.int64), MS)
    losses = Independent([loss] * RECEIVERS, np.random.default_rng(seed))
    network.add_groups(Audience(losses, (node,)))
    if not network.run_while(lambda: group.left > 0, 600 * SECOND):
        raise RuntimeError("not complete in time")
    return sender.counters.rdata, nodes.taken


def main(blocks: int = 24, seeds: int = 3) -> None:
    """Print all."""
    for repairs, order in ((0, Order.BLOCKS), (512, Order.BLOCKS), (512, Order.ROUNDS)):
        geometry = Geometry(blocks * 1_024 * 1_404, 1_404, 1_024, repairs, 8)
        for loss in (0.01, 0.05, 0.2):
            found = [
                (
                    repair(geometry, loss, order, signed=False, seed=seed),
                    repair(geometry, loss, order, signed=True, seed=seed),
                )
                for seed in range(seeds)
            ]
            plain = mean(one[0][0] for one in found)
            rdata = mean(one[1][0] for one in found)
            nodes = mean(one[1][1] for one in found)
            of = 100 / geometry.symbols
            way = f"{'by count' if repairs else 'by name'}, {order.name.lower()}"
            print(
                f"{way:17} {loss:4.0%} lost: "
                f"RDATA {plain * of:.2f}% unsigned, {rdata * of:.2f}% signed and "
                f"{nodes * of:.2f}% nodes, {100 * nodes / rdata:.0f}% of them",
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
