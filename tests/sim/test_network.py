"""Senders and receivers together, under a virtual clock."""

from hashlib import sha256
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import MS, SECOND, Action, Complete, Finished
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import UsageError
from pgmlite.sim.network import Link, Network, Node
from pgmlite.wire import batch as wire
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.endpoint import Endpoint
from tests.support.builders import Sample, joined, make_object, make_sender
from tests.support.disk import Disk

SAMPLE = make_object(300_000, symbol_size=500, block_symbols=32)
RATE = 4_000_000
CYCLE = SAMPLE.manifest.symbols * (500 + 48 + 48) * 8 * SECOND // RATE
"""ns of one cycle, TREE and SPM left out."""


class Recording(Receiver):
    """A receiver that hashes all that happens to it."""

    def __init__(self, config: ReceiverConfig) -> None:
        super().__init__(config, rng=Random(0))
        self.trace = sha256()

    def start(self, now: int) -> list[Action]:
        self.trace.update(f"start {now}".encode())
        return super().start(now)

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        self.trace.update(f"receive {now} {batch.source}".encode())
        self.trace.update(batch.rows.tobytes() + batch.payload.tobytes())
        return super().receive(now, batch)

    def tick(self, now: int) -> list[Action]:
        self.trace.update(f"tick {now}".encode())
        return super().tick(now)


def add_sender(network: Network, name: str = "sender", **config: int) -> Node:
    machine = make_sender(SAMPLE, rng=network.rng(name), **({"rate": RATE} | config))
    return network.add(name, machine, data=SAMPLE.data, at=network.now)


def add_receiver(network: Network, name: str = "receiver", link: Link | None = None) -> Node:
    machine = Recording(ReceiverConfig())
    return network.add(name, machine, link=link, at=network.now)


def completed(node: Node, sample: Sample = SAMPLE) -> int:
    """Return when `node` was complete, with the right bytes."""
    (now,) = (at for at, action in node.outcome if isinstance(action, Complete))
    assert bytes(node.store.data[: len(sample.data)]) == sample.data
    return now


def is_done(node: Node) -> bool:
    """Whether a receiver has said that it is complete."""
    return any(isinstance(action, Complete) for _, action in node.outcome)


ROUGH = Link(loss=0.1, reorder=0.3, jitter=20 * MS, duplicate=0.2)


class TestTrace:
    @staticmethod
    def trace(seed: int, link: Link) -> list[str]:
        network = Network(seed)
        receivers = [add_receiver(network, f"r{n}", link) for n in range(3)]
        add_sender(network)
        network.run(2 * CYCLE)
        return [f"{node.machine.trace.hexdigest()} {node.outcome}" for node in receivers]

    @pytest.mark.slow
    @pytest.mark.parametrize("link", [Link(), ROUGH], ids=["clean", "rough"])
    def test_the_same_only_from_the_same_seed(self, link: Link) -> None:
        once = self.trace(1, link)
        assert self.trace(1, link) == once
        assert set(self.trace(2, link)).isdisjoint(once)

    def test_receivers_lose_independently(self) -> None:
        traces = self.trace(1, Link(loss=0.1))
        assert len(set(traces)) == len(traces)

    def test_one_more_receiver_does_not_disturb_the_others(self) -> None:
        traces = []
        for count in (1, 2):
            network = Network(5)
            first = add_receiver(network, "r0", ROUGH)
            add_sender(network)
            for number in range(1, count):
                add_receiver(network, f"r{number}", ROUGH)
            network.run(2 * CYCLE)
            traces.append(first.machine.trace.hexdigest())
        assert traces[0] == traces[1]


class TestImpairments:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "link",
        [
            Link(),
            Link(latency=0),
            Link(loss=0.3),
            Link(reorder=0.5, jitter=50 * MS),
            Link(duplicate=0.5),
            ROUGH,
        ],
        ids=["clean", "no latency", "loss", "reordering", "duplication", "rough"],
    )
    def test_every_receiver_completes(self, link: Link) -> None:
        network = Network(3)
        receivers = [add_receiver(network, f"r{n}", link) for n in range(3)]
        add_sender(network)
        assert network.run_while(lambda: any(not is_done(node) for node in receivers), 10 * CYCLE)
        for node in receivers:
            completed(node)
            machine = node.machine
            if not link.loss:
                # Packets overtaken by the last one are still on their way.
                assert machine.lost <= link.reorder * link.jitter / CYCLE * 600
            assert machine.cycles >= 0.99
            if link == Link(duplicate=0.5):
                assert machine.counters.duplicates == pytest.approx(300, rel=0.2)

    @pytest.mark.slow
    @pytest.mark.parametrize("loss", [0.02, 0.2])
    def test_loss_is_what_the_links_lose(self, loss: float) -> None:
        network = Network(4)
        nodes = [add_receiver(network, f"r{n}", Link(loss=loss)) for n in range(6)]
        add_sender(network)
        network.run(3 * CYCLE)
        lost = sum(node.machine.lost for node in nodes)
        received = sum(node.machine.counters.packets for node in nodes)
        assert lost / (lost + received) == pytest.approx(loss, rel=0.15)

    @pytest.mark.parametrize(
        "values", [{"loss": -0.1}, {"loss": 1.1}, {"latency": -1}, {"jitter": -1}, {"duplicate": 2}]
    )
    def test_links_that_cannot_be(self, values: dict[str, float]) -> None:
        with pytest.raises(UsageError):
            Link(**values)

    def test_without_hope_nothing_completes(self) -> None:
        network = Network(3)
        node = add_receiver(network, link=Link(loss=1.0))
        add_sender(network)
        network.run(3 * CYCLE)
        assert node.machine.counters.packets == 0
        assert node.outcome == []

    @pytest.mark.parametrize("seed", range(4))
    def test_corrupted_packets_never_reach_the_output(self, seed: int) -> None:
        sample = make_object(64 * 200 + 9)
        network, rng = Network(seed), Random(seed)

        class Corrupting(Receiver):
            """Flips bits of some packets before they are read."""

            def receive(self, now: int, batch: PacketBatch) -> list[Action]:
                octets = np.hstack(
                    [batch.rows.view(np.uint8).reshape(len(batch), -1), batch.payload]
                )
                packets = [bytearray(row.tobytes()) for row in octets]
                for one in packets:
                    if rng.random() < 0.05:
                        one[rng.randrange(len(one))] ^= 1 << rng.randrange(8)
                actions = []
                for read in joined(map(bytes, packets)):
                    data = np.frombuffer(read.data, np.uint8)
                    for found in wire.read(
                        data, read.stride, Endpoint("a", 0), self.counters.refused
                    ):
                        actions += super().receive(now, found)
                return actions

        machine = Corrupting(ReceiverConfig(switch_after=SECOND), rng=Random(seed))
        node = network.add("receiver", machine, store=Disk(b""))
        network.add("sender", make_sender(sample, rate=20_000_000), data=sample.data)
        assert network.run_while(lambda: not is_done(node), 60 * SECOND)
        completed(node, sample)
        assert machine.counters.refused or machine.counters.damaged


class TestComingAndGoing:
    @pytest.mark.parametrize("share", [0.01, 0.3, 0.77])
    def test_a_late_joiner_needs_one_cycle(self, share: float) -> None:
        network = Network(6)
        add_sender(network)
        network.run(int((1 + share) * CYCLE))
        joined_at = network.now
        node = add_receiver(network)
        network.run(4 * CYCLE)
        assert completed(node) - joined_at <= 1.03 * CYCLE
        assert 1 <= node.machine.cycles <= 1.03

    def test_a_machine_hears_nothing_before_it_starts(self) -> None:
        network = Network(6)
        add_sender(network)
        node = network.add("late", Recording(ReceiverConfig()), at=CYCLE // 2)
        network.run(CYCLE // 2 - 1)
        assert node.machine.counters.packets == 0
        network.run(3 * CYCLE)
        assert CYCLE <= completed(node) - CYCLE // 2 <= 1.03 * CYCLE

    def test_time_never_goes_back(self) -> None:
        network = Network(6)
        add_sender(network)
        network.run(SECOND)
        before = network.now
        network.add("added without a time", Recording(ReceiverConfig()))
        network.run(before)
        assert network.now >= before

    def test_two_senders_half_a_cycle_apart_take_half_the_time(self) -> None:
        network = Network(7)
        node = add_receiver(network)
        add_sender(network, "a")
        add_sender(network, "b", first=SAMPLE.manifest.geometry.groups // 2)
        network.run(2 * CYCLE)
        assert completed(node) <= 0.56 * CYCLE
        assert node.machine.lost == 0
        assert node.machine.counters.duplicates <= 0.05 * SAMPLE.manifest.symbols

    def test_a_new_sender_goes_on_where_the_old_one_was_cut_off(self) -> None:
        network = Network(8)
        node = add_receiver(network)
        first = add_sender(network, "a")
        network.run(CYCLE // 2)
        network.stop(first)
        network.run(network.now + 10 * SECOND)
        stored, symbols = node.machine.progress
        assert 0.45 < stored / symbols < 0.5
        second = add_sender(network, "b", first=SAMPLE.manifest.geometry.groups * 45 // 100)
        assert second.machine.tsi != first.machine.tsi
        since = network.now
        network.run(since + 3 * CYCLE)
        assert completed(node) - since <= 0.6 * CYCLE
        assert node.machine.lost == 0

    @pytest.mark.parametrize("share", [0.3, 0.9])
    def test_after_a_crash_of_both_ends_what_was_verified_is_not_needed_again(
        self, share: float
    ) -> None:
        network = Network(9)
        nodes = [add_receiver(network), add_sender(network)]
        network.run(int(share * CYCLE))
        for node in nodes:
            network.stop(node)
        since = network.now
        again = Recording(ReceiverConfig())
        receiver = network.add("again", again, store=nodes[0].store, at=since)
        stored, _ = nodes[0].machine.progress
        first = stored // SAMPLE.manifest.block_symbols
        add_sender(network, "another", first=first)
        network.run(since + 3 * CYCLE)
        left = 1 - first / SAMPLE.manifest.blocks
        assert completed(receiver) - since <= (left + 0.07) * CYCLE  # the tree comes once more
        assert again.counters.damaged == 0

    def test_a_sender_with_an_end_ends(self) -> None:
        network = Network(10)
        node = add_receiver(network)
        sender = add_sender(network, cycles=1)
        network.run(100 * CYCLE)
        (ended,) = (at for at, action in sender.outcome if isinstance(action, Finished))
        assert ended <= 1.05 * CYCLE
        assert completed(node) <= ended + 2 * MS
        assert network.now == 100 * CYCLE

    def test_an_empty_object_arrives(self) -> None:
        # spec: OBJ-4
        empty, network = make_object(0), Network(11)
        machine = Recording(ReceiverConfig(oid=empty.manifest.oid))
        node = network.add("receiver", machine)
        network.add("sender", make_sender(empty))
        network.run(SECOND)
        assert completed(node, empty) == node.link.latency


class Hurried:
    """Is due in a second, and sooner with every packet: it counts its ticks."""

    def __init__(self) -> None:
        self.deadline: int | None = SECOND
        self.ticks: list[int] = []

    def start(self, now: int) -> list[Action]:
        return []

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        assert self.deadline is not None
        self.deadline -= MS
        return []

    def tick(self, now: int) -> list[Action]:
        self.ticks.append(now)
        self.deadline = now + SECOND
        return []


def test_a_deadline_that_moved_leaves_no_ticks_behind() -> None:
    network = Network(1)
    machine = Hurried()
    network.add("hurried", machine)
    add_sender(network, cycles=1)
    network.run(20 * SECOND)
    assert 20 <= len(machine.ticks) <= 21
    assert all(later - tick == SECOND for tick, later in pairwise(machine.ticks[5:]))
