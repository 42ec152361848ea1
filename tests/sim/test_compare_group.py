"""A group of receivers does what as many single receivers do."""

from collections import Counter
from dataclasses import replace
from functools import cache
from random import Random
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgmlite.core.config import ReceiverConfig, RepairConfig, SenderConfig
from pgmlite.core.decode import CODEC
from pgmlite.core.machine import MS, SECOND, Action
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.ring import Ring
from pgmlite.core.send.repairer import Repairer
from pgmlite.core.send.sender import Sender
from pgmlite.sim.group import NEVER, Arrival, Counts, ReceiverGroup, gather
from pgmlite.sim.network import Audience, GroupNode, Link, Network
from pgmlite.sim.stock import Stock
from pgmlite.wire.batch import HEADER_DTYPE, PacketBatch
from pgmlite.wire.control import Spm, SpmPosition
from pgmlite.wire.layout import Order, PacketType
from tests.support.builders import Sample, make_object
from tests.support.nak_builders import completion

LATENCY = 2 * MS
RATE = 2_000_000
LUCK = np.random.default_rng(1)


class Fated:
    """Loses packets by their numbers: the same for whoever asks."""

    def __init__(self, receivers: int, share: float, seed: int) -> None:
        self.receivers, self.share, self.seed = receivers, share, seed
        self._drawn: dict[tuple[int, int], np.ndarray] = {}

    def draw(self, batch: PacketBatch) -> np.ndarray:
        return np.column_stack([self._of(int(r["tsi"]), int(r["sqn"])) for r in batch.rows])

    def _of(self, tsi: int, sqn: int) -> np.ndarray:
        if (tsi, sqn) not in self._drawn:
            draws = np.random.default_rng([self.seed, tsi, sqn]).random(self.receivers)
            self._drawn[tsi, sqn] = draws < self.share
        return self._drawn[tsi, sqn]


class Single(Receiver):
    """A receiver that gets what a `Fated` way leaves of the packets."""

    def __init__(self, config: ReceiverConfig, rng: Random, fate: Fated, member: int) -> None:
        super().__init__(config, rng=rng)
        self._fate, self._member = fate, member

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        return super().receive(now, batch.select(~self._fate.draw(batch)[self._member]))


class Coded(Stock):
    """What members have, decoded as real receivers do it."""

    def lacks(self, members: Counts, block: int) -> Counts:
        rows = [self.row(member, block) for member in members.tolist()]
        source = self.geometry.source(block)
        return np.array([CODEC.solve(source, np.flatnonzero(row)).lacks for row in rows])


@cache
def sample(symbols: int, block: int, repairs: int = 0) -> Sample:
    tile = 3 if repairs else 1
    return make_object(
        symbols * 64 - 5, block_symbols=block, repair_symbols=repairs, tile_blocks=tile
    )


def network_of(one: Sample, seed: int, *, repairer: bool, order: Order = Order.ROUNDS) -> Network:
    """Return a network with a sender, with or without a repairer of its own."""
    network = Network(seed)
    repair = RepairConfig(port=9, grtt_start=2 * LATENCY, grtt_min=2 * LATENCY)
    for name in ("S", "R") if repairer else ("S",):
        config = SenderConfig(rate=RATE, packet_overhead=48, spm_min=20 * MS, spm_max=50 * MS)
        rng = network.rng(name)
        if name == "R":
            machine: Sender = Repairer(config, one.manifest, repair=repair, rng=rng)
        else:
            answers = None if repairer else repair
            rings = [Ring(one.manifest.geometry, order)]
            machine = Sender(config, one.manifest, one.tree, rings=rings, repair=answers, rng=rng)
        network.add(name, machine, data=one.data, link=Link(latency=LATENCY))
    return network


def naks(network: Network) -> list[tuple[int, str, bytes]]:
    return sorted((at, name, nak.packet) for at, name, nak in network.nak_log)


@pytest.mark.slow
@given(
    receivers=st.integers(1, 5),
    symbols=st.integers(30, 150),
    block=st.sampled_from([8, 20, 64]),
    repairs=st.sampled_from([0, 0, 12, 64]),
    order=st.sampled_from([Order.BLOCKS, Order.ROUNDS]),
    share=st.sampled_from([0.0, 0.03, 0.2]),
    seed=st.integers(0, 1_000),
    mode=st.sampled_from(["carousel", "nak", "repairer"]),
    late=st.booleans(),
)
@example(1, 130, 20, 12, Order.BLOCKS, 0.2, 108, "repairer", True)  # the sender's SPM is lost
@settings(max_examples=16, deadline=None)
def test_a_group_asks_and_completes_like_single_receivers(
    receivers: int,
    symbols: int,
    block: int,
    repairs: int,
    order: Order,
    share: float,
    seed: int,
    mode: str,
    late: bool,
) -> None:
    one = sample(symbols, min(block, symbols), repairs)
    fate = Fated(receivers, share, seed)
    joins = np.array([100 * MS * late * n for n in range(receivers)], np.int64)
    config = ReceiverConfig(
        naks=mode != "carousel",
        repairers=frozenset({("R", 9)} if mode == "repairer" else ()),
    )
    names = tuple(f"r{n}" for n in range(receivers))

    singles = network_of(one, seed, repairer=mode == "repairer", order=order)
    nodes = [
        singles.add(
            name,
            Single(config, singles.rng(name), fate, n),
            link=Link(latency=LATENCY),
            at=int(joins[n]),
        )
        for n, name in enumerate(names)
    ]
    together = network_of(one, seed, repairer=mode == "repairer", order=order)
    with patch("pgmlite.sim.group.Stock", Coded):
        group = ReceiverGroup(
            one.manifest, config, rngs=[together.rng(name) for name in names], luck=LUCK
        )
    together.add_groups(Audience(fate, (GroupNode(group, names, LATENCY, joins, 0),)))
    while together.now < 2 * SECOND and group.left:
        for network in (singles, together):
            network.run(network.now + 50 * MS)

    assert naks(together) == naks(singles)
    ends = [completion(node) for node in nodes]
    assert group.completed.tolist() == [NEVER if end is None else end for end in ends]
    assert ends.count(None) == group.left
    if mode != "carousel" and share == 0.2 and symbols > 100 and not repairs:
        assert naks(together), "a test in which nobody asks shows nothing"


def test_members_far_away_hear_later() -> None:
    network = network_of(sample(50, 8), 1, repairer=False)
    one = sample(50, 8)
    groups = [
        ReceiverGroup(one.manifest, ReceiverConfig(), rngs=[network.rng(name)], luck=LUCK)
        for name in "ab"
    ]
    nodes = tuple(
        GroupNode(group, (name,), latency, np.zeros(1, np.int64), 0)
        for group, name, latency in zip(groups, "ab", (MS, 9 * MS), strict=True)
    )
    network.add_groups(Audience(Fated(2, 0.0, 1), nodes))
    assert network.run_while(lambda: bool(groups[0].left or groups[1].left), SECOND)
    assert groups[1].completed[0] - groups[0].completed[0] == 8 * MS


def test_a_limit_ends_a_run() -> None:
    network = network_of(sample(50, 8), 1, repairer=False)
    assert not network.run_while(lambda: True, 100 * MS)
    assert network.now <= 100 * MS


def arrival(kind: PacketType, symbols: list[int], tsi: int = 1) -> Arrival:
    rows = np.zeros(len(symbols), HEADER_DTYPE)
    rows["type"], rows["tsi"] = kind, tsi
    rows["offset"] = np.array(symbols) * 64
    rows["esi"] = np.array(symbols) % 8
    batch = PacketBatch(
        kind, rows, rows["offset"].astype(np.int64), np.zeros((len(symbols), 0), np.uint8), "S"
    )
    return Arrival(batch, np.ones((2, len(symbols)), np.bool_))


class TestGathering:
    def test_data_of_one_type_and_session_is_one_batch(self) -> None:
        piles = list(
            gather(
                [
                    arrival(PacketType.ODATA, [1, 2]),
                    arrival(PacketType.RDATA, [9]),
                    arrival(PacketType.ODATA, [3]),
                    arrival(PacketType.ODATA, [4], tsi=2),
                ]
            )
        )
        assert [(pile[0].batch.offsets // 64).tolist() for pile in piles] == [[1, 2, 3], [4], [9]]

    def test_ncfs_are_read_before_repairs(self) -> None:
        kinds = [PacketType.RDATA, PacketType.NCF, PacketType.ODATA, PacketType.SPM]
        piles = list(gather([arrival(kind, [1]) for kind in kinds]))
        assert [pile[0].batch.kind for pile in piles] == [
            PacketType.SPM,
            PacketType.NCF,
            PacketType.ODATA,
            PacketType.RDATA,
        ]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([PacketType.ODATA, PacketType.RDATA]),
                st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
            )
        )
    )
    def test_nothing_is_lost_and_no_batch_repeats_a_symbol(
        self, given_batches: list[tuple[PacketType, list[int]]]
    ) -> None:
        piles = list(gather([arrival(kind, symbols) for kind, symbols in given_batches]))
        seen: Counter[tuple[PacketType, int]] = Counter()
        for (one,) in piles:
            symbols = (one.batch.offsets // 64).tolist()
            assert len(set(symbols)) == len(symbols) == one.kept.shape[1]
            seen.update((one.batch.kind, symbol) for symbol in symbols)
        assert seen == Counter((kind, s) for kind, symbols in given_batches for s in symbols)


def test_a_symbol_that_comes_twice_counts_once() -> None:
    one = sample(30, 8)
    group = ReceiverGroup(
        one.manifest, ReceiverConfig(naks=False), rngs=[Random(1), Random(2)], luck=LUCK
    )
    everything = list(range(29))
    for now, symbols in ((1, everything), (2, everything), (3, [5, 3, 7])):
        group.receive(now, [arrival(PacketType.ODATA, symbols)])
    assert group.stock.have.sum(axis=1).tolist() == [29, 29]
    assert group.left == 2


def test_repair_symbols_of_an_object_that_is_not_known_are_dropped() -> None:
    one = sample(30, 8, 64)
    group = ReceiverGroup(one.manifest, ReceiverConfig(), rngs=[Random(1), Random(2)], luck=LUCK)
    source, repair = arrival(PacketType.ODATA, [16, 17]), arrival(PacketType.ODATA, [16, 16])
    repair.batch.rows["esi"] = [8, 9]
    group.receive(1, [source])
    group.receive(2, [repair])
    assert group.stock.had.tolist() == [[0, 0, 2, 0]] * 2
    body = Spm(0, 0, 0, one.manifest.raw, SpmPosition(0), None).build()
    payload = np.frombuffer(body, np.uint8).reshape(1, -1)
    spm = replace(arrival(PacketType.SPM, [0]).batch, payload=payload)
    group.receive(3, [Arrival(spm, np.array([[True], [False]]))])
    group.receive(4, [repair])
    assert group.stock.had.tolist() == [[0, 0, 4, 0], [0, 0, 2, 0]]


def test_bursts_of_all_kinds_have_a_bare_form() -> None:
    network = network_of(sample(50, 8), 3, repairer=False)
    group = ReceiverGroup(
        sample(50, 8).manifest, ReceiverConfig(), rngs=[network.rng("a")], luck=LUCK
    )
    node = GroupNode(group, ("a",), LATENCY, np.zeros(1, np.int64), 10 * MS)
    network.add_groups(Audience(Fated(1, 0.1, 3), (node,)))
    assert network.run_while(lambda: bool(group.left), 10 * SECOND)
    # Read only now and then, and never between.
    assert group.completed[0] % (10 * MS) == pytest.approx(0)
