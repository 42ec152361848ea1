"""Senders, repairers and receivers that ask for counts, together on a network."""

from collections import Counter
from typing import Any

import pytest

from pgmlite.core.config import RepairConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.send.repairer import Repairer
from pgmlite.sim.network import Node
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import Order
from pgmlite.wire.request import parse_nak
from tests.support.builders import Sample, make_object
from tests.support.nak_builders import Group

K, BLOCKS = 128, 16
SAMPLE = make_object(64 * K * BLOCKS - 20, block_symbols=K, repair_symbols=64, tile_blocks=8)

PACE = {"rate": 4_000_000, "burst_time": 5 * MS}
"""Bursts of some packets cost a simulation less than one packet at a time."""


def a_group(sample: Sample = SAMPLE, **config: Any) -> tuple[Group, Node]:
    """Return a network with a sender that takes some seconds and answers NAKs."""
    group = Group(sample)
    values = PACE | {"order": Order.BLOCKS} | config
    return group, group.add_sender(repair=RepairConfig(port=9), **values)


def rounds(group: Group) -> Counter[int]:
    """Return how many NAKs asked for each block."""
    geometry = group.sample.manifest.geometry
    asked: Counter[int] = Counter()
    for _, _, nak in group.network.nak_log:
        body = parse_nak(nak.packet[HEADER_SIZE:], geometry.symbols, geometry.rings)
        assert body.counts
        asked.update(body.counts.blocks.tolist())
    return asked


@pytest.mark.parametrize("order", [Order.BLOCKS, Order.ROUNDS])
def test_one_cycle_is_enough_where_somebody_answers(order: Order) -> None:
    group, sender = a_group(order=order, cycles=1)
    receivers = group.add_receivers(3, loss=0.05)
    group.run_until_complete(receivers, limit=30 * SECOND)
    counters = sender.machine.counters
    assert counters.odata == K * BLOCKS
    # Whoever lost a sixth more than others takes all of its own: 5% and a few, and not 15%.
    assert counters.rdata < 0.14 * K * BLOCKS
    asked = rounds(group)
    assert sum(asked.values()) <= 2.5 * BLOCKS
    assert counters.naks_received < 3 * BLOCKS


def test_in_rounds_the_carousel_brings_what_was_lost() -> None:
    # spec: NAK-3
    group, sender = a_group(order=Order.ROUNDS)
    receivers = group.add_receivers(3, loss=0.05)
    group.run_until_complete(receivers, limit=30 * SECOND)
    assert sender.machine.counters.rdata < 0.02 * K * BLOCKS


def test_in_order_what_was_lost_comes_soon() -> None:
    # spec: NAK-3
    group, sender = a_group()
    receivers = group.add_receivers(3, loss=0.05)
    group.run_until_complete(receivers, limit=30 * SECOND)
    counters = sender.machine.counters
    assert counters.rdata > 0.03 * K * BLOCKS
    assert counters.odata + counters.rdata < 1.25 * K * BLOCKS


@pytest.mark.parametrize("cycles", [None, 30])
def test_who_loses_every_other_packet_ends(cycles: int | None) -> None:
    group, _ = a_group(cycles=cycles)
    receivers = group.add_receivers(1, loss=0.5)
    group.run_until_complete(receivers, limit=60 * SECOND)


@pytest.mark.slow
def test_two_repairers_send_little_more_than_one() -> None:
    sent = []
    for both in (False, True):
        group, sender = a_group(cycles=1)
        nodes = [sender]
        told = frozenset({Endpoint("R", 9)}) if both else frozenset()
        if both:
            nodes.append(
                group.add_sender(
                    "R",
                    repair=RepairConfig(port=9),
                    machine=Repairer,
                    rate=4_000_000,
                )
            )
        receivers = group.add_receivers(4, loss=0.05)
        receivers += group.add_receivers(4, loss=0.05, repairers=told)
        group.run_until_complete(receivers, limit=30 * SECOND)
        sent.append(sum(node.machine.counters.rdata for node in nodes))
        assert all(node.machine.counters.naks_received for node in nodes)
    one, two = sent
    assert two < 1.5 * one
