"""Receivers of a sender with several channels: one alone, several at once, one after another."""

from __future__ import annotations

import warnings
from itertools import chain
from math import inf
from random import Random
from statistics import mean
from typing import Any

import numpy as np
import pytest

from pgmlite.core.config import NakConfig, ReceiverConfig, RepairConfig, SenderConfig
from pgmlite.core.course import course_of
from pgmlite.core.machine import MS, SECOND, Action
from pgmlite.core.receive.carousels import Carousel, Carousels, time_left
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.ring import Ring
from pgmlite.core.send.rate import Fixed
from pgmlite.core.send.rings import rings_of
from pgmlite.core.send.sender import Sender
from pgmlite.sim.network import Link, Node
from pgmlite.wire.batch import HEADER_SIZE, PacketBatch
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import Order
from tests.support.builders import Sample, make_object
from tests.support.nak_builders import Group, completion
from tests.support.rounds import Listener, at_random

T, K = 64, 1_024


def on_channels(channels: int, blocks: int = 2, block: int = K) -> Sample:
    """Return an object with as many repair symbols as so many channels take."""
    symbols = blocks * block - block // 2
    geometry = Geometry.laddered(T * symbols - 3, T, block, channels)
    return make_object(
        geometry.size,
        symbol_size=T,
        block_symbols=geometry.block_symbols,
        repair_symbols=geometry.repair_symbols,
        tile_blocks=geometry.tile_blocks,
    )


def rings(sample: Sample, channels: int, seed: int = 0) -> list[Ring]:
    """Return the rings of a sender's channels, from anywhere in them on."""
    geometry = sample.manifest.geometry
    return rings_of(geometry, channels, Order.ROUNDS, None, Random(seed))


def twice(listener: Listener) -> float:
    """Return which share of the object came though it was there."""
    return listener.machine.counters.duplicates / listener.sample.manifest.symbols


AT_THE_END = 0.015
"""What may come of a block that is whole while another is not: a part of a visit."""


class TestOneAlone:
    @pytest.mark.parametrize("channels", [2, 3, 6])
    def test_any_is_enough_whenever_it_is_joined(self, channels: int) -> None:
        # spec: FEC-1, FEC-4, SND-13
        sample, rng = on_channels(channels), Random(1)
        lengths = []
        for seed in range(2):
            for ring in rings(sample, channels, seed):
                listener = Listener(sample)
                listener.follow(ring, rng.randrange(3 * ring.turn))
                assert twice(listener) <= AT_THE_END
                lengths.append(listener.lengths)
        assert max(lengths) <= 1.03
        assert mean(lengths) <= 1.02

    def test_the_fastest_from_its_beginning_takes_no_decoding(self) -> None:
        # spec: SND-13
        sample = on_channels(2)
        listener = Listener(sample)
        listener.follow(Ring.in_territory(sample.manifest.geometry, 0, 2))
        assert listener.machine.counters.decoded == 0
        assert listener.lengths <= 1.02

    @pytest.mark.parametrize("channel", [0, 1])
    def test_losses_cost_what_was_lost(self, channel: int) -> None:
        sample = on_channels(2)
        ring = rings(sample, 2)[channel]
        listener = Listener(sample, lossy=at_random(0.05, 1))
        listener.follow(ring, 999)
        assert listener.lengths <= 1.10


class TestSeveral:
    def test_at_once_they_add_up(self) -> None:
        # spec: FEC-4
        sample, channels = on_channels(3), 3
        for seed in range(3):
            listener = Listener(sample)
            places = [Random(seed).randrange(ring.turn) for ring in rings(sample, channels, seed)]
            while not listener.is_complete:
                for channel, ring in enumerate(rings(sample, channels, seed)):
                    speed = (2, 5, 14)[channel]
                    listener.hear(ring.ids(places[channel], speed), tsi=channel)
                    places[channel] += speed
            assert twice(listener) <= AT_THE_END
            assert listener.lengths <= 1.03

    @pytest.mark.parametrize("loss", [0.0, 0.05])
    def test_one_after_another_nothing_comes_twice(self, loss: float) -> None:
        # spec: FEC-4
        sample = on_channels(2)
        half = sample.manifest.symbols // 2
        for seed in range(4):
            rng = Random(seed)
            some = rings(sample, 2, seed)
            first, then = some if seed % 2 else reversed(some)
            listener = Listener(sample, lossy=at_random(loss, seed))
            listener.hear(first.ids(rng.randrange(first.turn), half))
            listener.follow(then, rng.randrange(then.turn), tsi=7)
            assert twice(listener) <= AT_THE_END
            assert listener.lengths <= 1.03 / (1 - loss) + 0.02

    def test_back_and_forth(self) -> None:
        sample = on_channels(2)
        some, listener = rings(sample, 2), Listener(sample)
        places, sent = [5, 7], 0
        while not listener.is_complete:
            # The one that is not heard goes on.
            channel = sent // 300 % 2
            listener.hear(some[channel].ids(places[channel], 16), tsi=channel)
            places, sent = [place + 16 for place in places], sent + 16
        assert twice(listener) <= AT_THE_END
        assert listener.lengths <= 1.03


class OnSome(Receiver):
    """A receiver that hears some channels of a sender."""

    def __init__(self, config: ReceiverConfig, rng: Random, channels: set[int]) -> None:
        super().__init__(config, rng=rng)
        self._channels = channels

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take what comes on these."""
        return super().receive(now, batch) if batch.channel in self._channels else []


SLOW, FAST = 400_000, 1_000_000


def group_of(sample: Sample, *, repair: RepairConfig | None = None, **config: Any) -> Group:
    """Return a network with a sender "S" of two channels."""
    group = Group(sample)
    settings = SenderConfig(rate=SLOW + FAST, packet_overhead=28, **config)
    sender = Sender(
        settings,
        sample.manifest,
        sample.tree,
        rings=rings(sample, 2),
        repair=repair,
        rng=group.network.rng("S"),
        rates=[Fixed(SLOW), Fixed(FAST)],
    )
    group.network.add("S", sender, data=sample.data, link=Link(latency=MS))
    return group


def add_receivers(group: Group, channels: set[int], count: int = 2, **how: Any) -> list[Node]:
    """Add receivers that hear some channels."""
    return group.add_receivers(count, make=lambda c, rng: OnSome(c, rng, channels), **how)


def sender_of(group: Group) -> Sender:
    """Return the sender of a group."""
    sender = group.network.nodes[0].machine
    assert isinstance(sender, Sender)
    return sender


class TestOnANetwork:
    def test_each_says_its_own_rate_and_place(self) -> None:
        # spec: SND-13
        sample = on_channels(2, block=256)
        group = group_of(sample)
        group.network.run(SECOND)
        sender = sender_of(group)
        for lane, rate in zip(sender.lanes, (SLOW, FAST), strict=True):
            assert lane.schedule
            assert lane.rate(group.network.now) == rate
            octets = lane.tally.wire_bytes
            assert abs(octets * 8 - rate) < 0.05 * rate

    def test_alone_and_together(self) -> None:
        # spec: SND-13
        sample = on_channels(2, block=256)
        group = group_of(sample)
        heard: list[tuple[set[int], int]] = [({0}, SLOW), ({1}, FAST), ({0, 1}, SLOW + FAST)]
        nodes = [add_receivers(group, channels, loss=0.01) for channels, _ in heard]
        group.run_until_complete([*chain(*nodes)], limit=60 * SECOND)
        bits = sample.manifest.symbols * (T + HEADER_SIZE + 28) * 8
        for some, (_, rate) in zip(nodes, heard, strict=True):
            for node in some:
                assert isinstance(node.machine, Receiver)
                # Blocks of 256 symbols have 16 visits: a round more is 6%.
                assert (completion(node) or 0) * rate / SECOND <= 1.2 * bits
                assert node.machine.counters.duplicates <= 0.05 * sample.manifest.symbols

    @pytest.mark.parametrize("channel", [0, 1])
    def test_repairs_come_on_the_channel_that_was_named_and_are_new(self, channel: int) -> None:
        # spec: REP-12, SND-13
        sample = on_channels(2, block=256)
        group = group_of(sample, repair=RepairConfig(port=9), cycles=1)
        nodes = add_receivers(group, {channel}, loss=0.05)
        group.run_until_complete(nodes, limit=60 * SECOND)
        sender = sender_of(group)
        repeated = [lane.tally.counters.rdata for lane in sender.lanes]
        assert repeated[1 - channel] == 0
        # Somebody lost a twentieth; and what is asked for is 3 symbols more of each block.
        assert 0 < repeated[channel] <= 0.15 * sample.manifest.symbols
        for node in nodes:
            assert isinstance(node.machine, Receiver)
            assert node.machine.counters.duplicates <= 0.01 * sample.manifest.symbols

    @pytest.mark.slow
    def test_time_left_adds_channels_up(self) -> None:
        # spec: NAK-3
        sample = on_channels(2, blocks=6, block=256)
        group = group_of(sample)
        nodes = [*chain(*(add_receivers(group, some, 1) for some in ({0}, {1}, {0, 1})))]
        length = sample.manifest.symbols * (T + HEADER_SIZE + 28) * 8 * SECOND / FAST
        group.network.run(int(length / 2))
        told = []
        for node in nodes:
            assert isinstance(node.machine, Receiver)
            left = node.machine.time_left(group.network.now)
            assert left
            told.append(group.network.now + left)
        group.run_until_complete(nodes, limit=60 * SECOND)
        for node, end in zip(nodes, told, strict=True):
            assert abs(end - (completion(node) or 0)) <= 0.12 * length * (FAST / SLOW)


def test_a_symbol_of_another_territory_moves_no_carousel() -> None:
    # spec: NAK-1: whoever forges ODATA would else put it at a place that never comes.
    ring = rings(on_channels(2), 2)[0]
    assert ring.sector == 1
    carousels, key = Carousels(NakConfig()), (Endpoint("S", 0), 1, 0)
    carousels.tell(0, key, ring, 10, 10)
    carousels.bring(MS, key, 0, 0)
    (carousel,) = carousels.coming(MS)
    assert carousel.sent == 10
    block, esi = (int(part[0]) for part in (ring.ids(30, 1).blocks, ring.ids(30, 1).esis))
    carousels.bring(2 * MS, key, block, esi)
    (carousel,) = carousels.coming(2 * MS)
    assert carousel.sent == 31


def test_time_left_is_infinite_where_a_territory_has_nothing_of_a_block() -> None:
    # spec: NAK-7
    geometry = Geometry(T * 100, T, 98, 1, 5)
    carousel = Carousel(course_of(Ring.in_territory(geometry, 4, 7)), 0, 0, 0, 0, 0, (0, 0))
    carousel.symbol_time = 1000.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        left = time_left([carousel], np.array([0, 0]), np.array([98, 2]), 0.0)
    assert left == inf
