"""A link that is too slow, and a receiver behind it that chooses its rate."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from pgmlite.core.config import ReceiverConfig, SenderConfig
from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.events_listening import RateChanged
from pgmlite.core.machine import MS, SECOND, Complete
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.receive.sources import Sources
from pgmlite.core.send.rate import Fixed
from pgmlite.core.send.rings import rings_of
from pgmlite.core.send.sender import Sender
from pgmlite.errors import UsageError
from pgmlite.sim.bottleneck import Bottleneck
from pgmlite.sim.network import Link, Network, Node
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import Order
from pgmlite.wire.manifest import Rung
from tests.support.builders import Sample, make_object

K = 1_000
GROUPS = [Endpoint(f"ff3e::8000:{number}", 28775) for number in range(3)]
LADDER = tuple(Rung(rate * K, group) for rate, group in zip((100, 300, 900), GROUPS, strict=True))


class TestLink:
    def test_it_takes_its_time_for_each_packet(self) -> None:
        link = Bottleneck(8 * K, queue=10 * SECOND, header=0)
        kept, done = link.send(np.array([0, 0, 5 * SECOND]), np.array([1000, 500, 1000]))
        assert kept.all()
        assert (done / SECOND).tolist() == [1, 1.5, 6]
        assert (link.send(np.array([5 * SECOND]), np.array([1000]))[1] / SECOND).tolist() == [7]

    def test_what_finds_the_queue_full_is_dropped(self) -> None:
        link = Bottleneck(8 * K, queue=2 * SECOND, header=0)
        kept, _ = link.send(np.zeros(6, np.int64), np.full(6, 1000))
        assert kept.tolist() == [True] * 3 + [False] * 3
        kept, done = link.send(np.full(2, 1 * SECOND), np.full(2, 1000))
        assert kept.tolist() == [True, False]
        assert done[0] == 4 * SECOND

    def test_both_ways_of_counting_agree(self) -> None:
        random = np.random.default_rng(1)
        times = np.sort(random.integers(0, SECOND, 500))
        sizes = random.integers(100, 1500, 500)
        quick = Bottleneck(10_000 * K, queue=10 * SECOND)
        slow = Bottleneck(10_000 * K, queue=10 * SECOND)
        _, done = quick.send(times, sizes)
        parts = [slow.send(times[one : one + 1], sizes[one : one + 1])[1] for one in range(500)]
        assert np.abs(done - np.concatenate(parts)).max() <= 1

    def test_headers_of_the_link_count(self) -> None:
        assert Bottleneck(8 * K).send(np.array([0]), np.array([986]))[1][0] == SECOND

    def test_a_group_flows_as_long_as_somebody_hears_it_and_for_a_while_after(self) -> None:
        link = Bottleneck(1, leave_latency=11)
        assert not link.flows(0, "g")
        link.join("g", 1)
        link.join("g", 2)
        link.leave(5, "g", 1)
        assert link.flows(100, "g")
        link.leave(100, "g", 2)
        link.leave(105, "g", 2)
        assert link.flows(110, "g")
        assert not link.flows(111, "g")

    @pytest.mark.parametrize("wrong", [{"rate": 0}, {"rate": 1, "queue": -1}])
    def test_what_can_not_be(self, wrong: dict) -> None:
        with pytest.raises(UsageError, match="bottleneck"):
            Bottleneck(**wrong)


def network(sample: Sample) -> Network:
    """Return a network with one sender on three channels."""
    network = Network(1, GROUPS)
    sender = Sender(
        SenderConfig(rate=100 * K, packet_overhead=48),
        sample.manifest,
        sample.tree,
        rings=rings_of(sample.manifest.geometry, len(LADDER), Order.ROUNDS, (0, 1), Random(1)),
        rng=network.rng("S"),
        rates=[Fixed(rung.rate) for rung in LADDER],
    )
    network.add("S", sender, data=sample.data)
    return network


def listen(network: Network, name: str, link: Link, config: RatesConfig, *, at: int = 0) -> Node:
    listening = Listening(GROUPS[:1], Sources(), config, Random(1))
    machine = Receiver(ReceiverConfig(), rng=network.rng(name), listening=listening)
    return network.add(name, machine, link=link, at=at)


def changes(node: Node) -> list[tuple[str, int]]:
    return [(one.reason, one.channel) for _, one in node.outcome if isinstance(one, RateChanged)]


@pytest.fixture(scope="module")
def sample() -> Sample:
    plain = make_object(
        1_000 * 1_300, symbol_size=1_000, block_symbols=100, repair_symbols=350, tile_blocks=8
    )
    return Sample(plain.data, replace(plain.manifest, ladder=LADDER), plain.tree)


@pytest.mark.slow
def test_a_receiver_climbs_to_what_its_link_carries(sample: Sample) -> None:
    # spec: RTE-4, RTE-5, RTE-9
    net = network(sample)
    link = Link(bottleneck=Bottleneck(500 * K, leave_latency=2 * SECOND))
    node = listen(net, "R", link, RatesConfig())
    assert net.run_while(lambda: not any(isinstance(o, Complete) for _, o in node.outcome), 10**12)
    assert changes(node)[:3] == [("start", 0), ("up", 1), ("failed", 1)]
    assert bytes(node.store.data[: len(sample.data)]) == sample.data
    machine = node.machine
    assert isinstance(machine, Receiver)
    # At 300 kbit/s it would take 37 s, at the lowest 110 s.
    assert net.now < 50 * SECOND
    # What came twice, on two channels: territories are apart.
    assert machine.counters.duplicates <= 0.05 * 1_300


def test_what_is_sent_after_a_leave_still_fills_the_link(sample: Sample) -> None:
    # spec: RTE-9
    net = network(sample)
    shared = Bottleneck(350 * K, leave_latency=5 * SECOND)
    quiet = Bottleneck(100_000 * K)
    one = listen(net, "R1", Link(bottleneck=shared), RatesConfig(range(1, 2)))
    other = listen(net, "R2", Link(bottleneck=quiet), RatesConfig(range(1, 2)))
    net.run(3 * SECOND)
    for _ in range(2):
        shared.join(GROUPS[2], "somebody")
        net.run(net.now + SECOND)
        shared.leave(net.now, GROUPS[2], "somebody")
    before = one.machine.lost
    assert before > 20
    net.run(net.now + 4 * SECOND)
    still = one.machine.lost
    assert still > before + 20
    net.run(net.now + 2 * SECOND)
    healed = one.machine.lost
    net.run(net.now + 4 * SECOND)
    assert one.machine.lost == healed
    assert other.machine.lost == 0


def test_who_is_no_member_hears_nothing(sample: Sample) -> None:
    net = network(sample)
    node = listen(net, "R", Link(), RatesConfig(range(2, 3)))
    net.run(3 * SECOND)
    assert node.groups == {GROUPS[2]}
    machine = node.machine
    assert isinstance(machine, Receiver)
    assert machine.listening.channel_seconds(net.now)[2] + 200 * MS / SECOND >= 3
    assert machine.lost == 0
