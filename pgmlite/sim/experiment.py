"""Runs of a comparison: each one a pure function of its parameters, done here or anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from random import Random

import numpy as np

from pgmlite.core.config import NakConfig, ReceiverConfig, RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.ring import Ring
from pgmlite.core.send.counters import SendCounters
from pgmlite.core.send.repairer import Repairer
from pgmlite.core.send.sender import Sender
from pgmlite.core.timing import grtt_of, gsize_of
from pgmlite.sim import counts
from pgmlite.sim.group import NEVER, Counts, ReceiverGroup
from pgmlite.sim.loss import GilbertElliott, Independent, LossModel, OncePerBlock, Tree
from pgmlite.sim.network import Audience, GroupNode, Link, Network
from pgmlite.sim.plan import (
    ANSWERING,
    PLAIN,
    READ_PACKETS,
    Join,
    LossKind,
    LossShared,
    Method,
    Mode,
    Plan,
    Schedule,
    Trial,
)
from pgmlite.sim.work import do_all
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.digests import BlockTree
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import DIGEST_SIZE, IPV6_UDP_HEADERS, Order
from pgmlite.wire.manifest import Manifest
from pgmlite.wire.request import parse_nak

SENDER = "sender"
REPAIRER = "repairer"
NAK_PORT = 1
"""Any but 0, which means that nobody listens."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one transfer took, up to the moment when its last receiver was complete.

    Attributes:
        times: (receivers,), from each one's start to its completion, s, ascending; by counts
            (100,), when 1%, 2% ... of them were complete.
        duration: From the sender's start to the last completion, s.
        symbols: ODATA and RDATA packets of all senders and repairers.
        rdata: Those of them that are repairs.
        packets: Packets of all senders and repairers.
        wire_bytes: Their bytes with IP headers, and those of the NAKs.
    """

    times: tuple[float, ...]
    duration: float
    symbols: int
    rdata: int
    packets: int
    wire_bytes: int
    naks: int
    naks_suppressed: int
    ncfs: int


@dataclass(frozen=True, slots=True)
class SharedOutcome:
    """What each loss that all receivers shared led to: NAKs, and GRTT from then to the first."""

    naks: tuple[int, ...]
    first: tuple[float, ...]


def manifest_of(geometry: Geometry) -> tuple[Manifest, BlockTree]:
    """Return the manifest and the tree of an object whose content does not matter."""
    tree = BlockTree(bytes(geometry.blocks * DIGEST_SIZE), geometry.symbol_size)
    manifest = Manifest(
        geometry.symbol_size,
        geometry.block_symbols,
        geometry.size,
        tree.root,
        "object",
        repair_symbols=geometry.repair_symbols,
        tile_blocks=geometry.tile_blocks,
    )
    return manifest, tree


def count(run: Trial) -> Outcome:
    """Do a run of a carousel by counts."""
    rng = np.random.default_rng(_seed_of(run))
    losses = np.array(run.loss.shares(run.receivers))
    if run.mode is Mode.CAROUSEL:
        done = counts.plain_carousel(run.symbols, losses, rng)
    else:
        done = counts.fec_carousel(run.geometry, losses, rng)
    done.sort()
    sent = int(done[-1])
    ranks = -(-np.arange(1, 101) * len(done) // 100) - 1
    return Outcome(
        times=tuple((done[ranks] * (run.packet_time / SECOND)).tolist()),
        duration=sent * run.packet_time / SECOND,
        symbols=sent,
        rdata=0,
        packets=sent,
        wire_bytes=sent * run.setting.packet_size,
        naks=0,
        naks_suppressed=0,
        ncfs=0,
    )


def _seed_of(run: Trial) -> int:
    return Random(f"{run.seed}/{run.repetition}/{run.receivers}/{run.loss!r}").getrandbits(62)


def loss_model(run: Trial, rng: np.random.Generator) -> LossModel:
    """Return what loses the packets of `run`."""
    loss = run.loss
    match loss.kind:
        case LossKind.SHARED:
            return Tree(run.receivers, [loss.mean], rng)
        case LossKind.TREE:
            return Tree(run.receivers, loss.levels, rng)
        case LossKind.BURSTS:
            return GilbertElliott(run.receivers * run.copies, loss.mean, loss.burst, rng)
    # The bad ones are spread over those near and far, in each copy in another way.
    shares = np.repeat(np.array(loss.shares(run.receivers))[:, None], run.copies, axis=1)
    return Independent(rng.permuted(shares, axis=0).reshape(-1).tolist(), rng)


class TrialNetwork:
    """The network of one run."""

    def __init__(self, run: Trial) -> None:
        self._run = run
        self._manifest, self._tree = manifest_of(run.geometry)
        self.network = Network(_seed_of(run))
        self.senders = [
            self._add_sender(f"{SENDER}{number}", number) for number in range(self._count)
        ]
        if run.mode is Mode.REPAIRER:
            self.senders.append(self._add_repairer())
        self.nodes = self._groups()
        rng = np.random.default_rng(self.network.rng("loss").getrandbits(64))
        self.network.add_groups(Audience(loss_model(run, rng), self.nodes))

    @property
    def _count(self) -> int:
        return self._run.setting.senders if self._run.mode is Mode.SENDERS else 1

    def _add_sender(self, name: str, number: int) -> Sender:
        run = self._run
        is_in_rounds = run.mode not in PLAIN and run.setting.order is Schedule.ROUNDS
        order = Order.ROUNDS if is_in_rounds else Order.BLOCKS
        ring = Ring.of_sector(run.geometry, order, number, self._count)
        config = SenderConfig(
            rate=run.rate,
            packet_overhead=IPV6_UDP_HEADERS,
        )
        repair = RepairConfig(port=NAK_PORT, share=run.setting.repair_share)
        answers = run.mode in {Mode.NAK, Mode.FEC_NAK}
        machine = Sender(
            config,
            self._manifest,
            self._tree,
            rings=[ring],
            repair=repair if answers else None,
            rng=self.network.rng(name),
        )
        return self._add(name, machine)

    def _add_repairer(self) -> Sender:
        config = SenderConfig(rate=self._run.rate, packet_overhead=IPV6_UDP_HEADERS)
        repair = RepairConfig(port=NAK_PORT)
        rng = self.network.rng(REPAIRER)
        return self._add(REPAIRER, Repairer(config, self._manifest, repair=repair, rng=rng))

    def _add(self, name: str, machine: Sender) -> Sender:
        self.network.add(name, machine, link=Link(latency=min(self._run.setting.latencies)))
        return machine

    def _groups(self) -> tuple[GroupNode, ...]:
        """Return the receivers: a group for each latency."""
        run, setting = self._run, self._run.setting
        told = {Endpoint(REPAIRER, NAK_PORT)} if run.mode is Mode.REPAIRER else ()
        config = ReceiverConfig(
            naks=run.mode in ANSWERING,
            repairers=frozenset(told),
        )
        interval = setting.read_interval or READ_PACKETS * run.packet_time
        members = run.receivers * run.copies
        joins = np.zeros(members, np.int64)
        if setting.join is Join.SPREAD:
            draws = np.random.default_rng(self.network.rng("join").getrandbits(64))
            joins = draws.integers(0, run.symbols * run.packet_time, members)
        nodes = []
        parts = len(setting.latencies)
        # Receiver by receiver, each with all its copies.
        edges = [run.receivers * part // parts * run.copies for part in range(parts + 1)]
        for latency, first, stop in zip(setting.latencies, edges, edges[1:], strict=False):
            if first == stop:
                continue
            names = tuple(f"r{number}" for number in range(first, stop))
            group = ReceiverGroup(
                self._manifest,
                config,
                rngs=[self.network.rng(name) for name in names],
                luck=np.random.default_rng(self.network.rng(f"luck{first}").getrandbits(64)),
            )
            nodes.append(GroupNode(group, names, latency, joins[first:stop], interval))
        return tuple(nodes)

    def limit(self) -> int:
        """Return when to give up, ns: many times later than theory has the last completion."""
        run = self._run
        worst = max(run.loss.mean, *run.loss.shares(run.receivers), run.loss.bad)
        cycles = 3.0
        if worst:
            cycles += (math.log(run.symbols * run.receivers) + 1) / -math.log(worst)
        return int(20 * cycles * (run.symbols * run.packet_time + SECOND))

    def run(self) -> list[Outcome] | None:
        """Run to the end; return what came of each copy, or None if it takes too long."""
        left = sum(node.group.left for node in self.nodes)
        done: dict[int, Outcome] = {}

        def goes_on() -> bool:
            nonlocal left
            now_left = sum(node.group.left for node in self.nodes)
            if now_left < left:
                left = now_left
                self._note(done)
            return left > 0

        if not self.network.run_while(goes_on, self.limit()):
            return None
        return [done[copy] for copy in range(self._run.copies)]

    def _note(self, done: dict[int, Outcome]) -> None:
        """Add the outcomes of copies whose last receiver is complete by now."""
        shape = self._run.receivers, self._run.copies
        completed = np.concatenate([node.group.completed for node in self.nodes]).reshape(shape)
        whole = (completed < NEVER).all(axis=0)
        for copy in np.flatnonzero(whole).tolist():
            if copy not in done:
                joins = np.concatenate([node.joins for node in self.nodes]).reshape(shape)
                done[copy] = self._outcome(completed[:, copy], joins[:, copy])

    def _outcome(self, completed: Counts, joins: Counts) -> Outcome:
        sent = SendCounters.total(sender.counters for sender in self.senders)
        naks = sum(len(nak.packet) + IPV6_UDP_HEADERS for _, _, nak in self.network.nak_log)
        return Outcome(
            times=tuple(sorted(((completed - joins) / SECOND).tolist())),
            duration=int(completed.max()) / SECOND,
            symbols=sent.rdata + sent.odata,
            rdata=sent.rdata,
            packets=sent.packets,
            wire_bytes=sent.bytes + sent.packets * IPV6_UDP_HEADERS + naks,
            naks=len(self.network.nak_log),
            naks_suppressed=sum(node.group.naks_suppressed for node in self.nodes),
            ncfs=sent.ncfs_sent,
        )


GRTT_CODE = 100
GRTT = grtt_of(GRTT_CODE)
"""About 6.6 ms: exactly what eight bits can announce."""

BACKOFF_FACTOR = 6
SHARED_BLOCK = 22
"""Symbols of a block, and packets of a burst, in runs that measure suppression."""

SHARED_BLOCK_TIME = MS // 2


def announced_gsize(receivers: int) -> int:
    """Return the group size that a sender announces which knows that there are `receivers`."""
    sizes = sorted(gsize_of(bits) for bits in range(16))
    return next(size for size in sizes if size >= receivers)


def share_losses(run: LossShared) -> SharedOutcome:
    """Let all receivers lose one symbol of every block; count the NAKs for each.

    The round trip is `GRTT` exactly, and each NAK is confirmed at once: what the closed forms have.
    """
    symbol_size = 64
    symbols = (run.losses + 2) * SHARED_BLOCK
    manifest, tree = manifest_of(Geometry(symbols * symbol_size, symbol_size, SHARED_BLOCK))
    network = Network(Random(f"{run.seed}/{run.repetition}/{run.receivers}/shared").getrandbits(62))
    bits = SHARED_BLOCK * (HEADER_SIZE + symbol_size + IPV6_UDP_HEADERS) * 8
    rate = bits * SECOND // SHARED_BLOCK_TIME
    config = SenderConfig(
        rate=rate,
        packet_overhead=IPV6_UDP_HEADERS,
        cycles=1,
        tree_share=2 * SHARED_BLOCK,
    )
    unlimited = 1e9
    repair = RepairConfig(
        port=NAK_PORT,
        share=0.9,
        backoff_factor=BACKOFF_FACTOR,
        grtt_start=GRTT,
        grtt_min=GRTT,
        gsize_start=announced_gsize(run.receivers),
        overlaps_wanted=int(unlimited),
        ncf_share=unlimited,
        naks_per_second=unlimited,
        source_naks_per_second=unlimited,
        source_symbols_per_second=unlimited,
    )
    rings = [Ring(manifest.geometry, Order.BLOCKS)]
    sender = Sender(config, manifest, tree, rings=rings, repair=repair, rng=network.rng(SENDER))
    network.add(SENDER, sender, link=Link(latency=GRTT // 2))
    names = tuple(f"r{number}" for number in range(run.receivers))
    group = ReceiverGroup(
        manifest,
        # The object is short to save time; the carousel must not be the reason to keep quiet. And
        # what is measured begins when a loss can be told, not when somebody next looks.
        ReceiverConfig(nak=NakConfig(carousel_margin=0.0, look_every=1, look_block=0)),
        rngs=[network.rng(name) for name in names],
        luck=np.random.default_rng(0),
    )
    joins = np.zeros(run.receivers, np.int64)
    node = GroupNode(group, names, GRTT // 2, joins, 0)
    tolerance = NakConfig().reorder_packets
    loss = OncePerBlock(run.receivers, manifest, tolerance=tolerance, clock=lambda: network.now)
    network.add_groups(Audience(loss, (node,)))
    network.run((run.losses + 3) * SHARED_BLOCK_TIME + 10 * GRTT)
    naks = [0] * manifest.blocks
    first: dict[int, int] = {}
    for at, _, nak in network.nak_log:
        for symbol in parse_nak(nak.packet[HEADER_SIZE:], manifest.symbols).symbols.tolist():
            block = symbol // SHARED_BLOCK
            naks[block] += 1
            first.setdefault(block, at - loss.passed[block] - GRTT // 2)
    blocks = range(1, run.losses + 1)
    return SharedOutcome(
        tuple(naks[block] for block in blocks),
        tuple(first[block] / GRTT for block in blocks if block in first),
    )


# Doing all of them.

Result = list[Outcome] | SharedOutcome | None
"""One outcome for each copy of a run; None if it would have taken unreasonably long."""


def perform(run: Trial | LossShared) -> Result:
    """Do one run."""
    if isinstance(run, LossShared):
        return share_losses(run)
    return [count(run)] if run.setting.method is Method.COUNTS else TrialNetwork(run).run()


def perform_all(
    plan: Plan, executor: Executor | None, progress: Callable[[float], None]
) -> list[tuple[Trial | LossShared, Result]]:
    """Do all runs of a plan; the results are the same whoever does them.

    Args:
        executor: Does the runs; None: this process does, one by one.
        progress: Is told what share of the work is done, 0 to 1.
    """
    return do_all(plan.trials(), perform, executor, progress)
