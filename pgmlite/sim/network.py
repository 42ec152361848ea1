"""A virtual-clock network: senders, receivers, and links that delay, lose, reorder and repeat.

Everything is a function of the seed: same seed, same trace (spec/decisions.md, record 3).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from random import Random

import numpy as np
import numpy.typing as npt

from pgmlite.core.decode import CODEC
from pgmlite.core.events import Adopted
from pgmlite.core.impair import Loss
from pgmlite.core.machine import (
    MS,
    Action,
    Decode,
    Join,
    Leave,
    Machine,
    ObjectSymbols,
    Prepare,
    SendNak,
    Store,
    Transmit,
    Verify,
)
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import UsageError
from pgmlite.sim.bottleneck import Bottleneck
from pgmlite.sim.group import Arrival, ReceiverGroup, gather
from pgmlite.sim.loss import LossModel
from pgmlite.sim.memory import MemoryStore, answer
from pgmlite.wire.batch import Octets, PacketBatch, read, read_rows
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import PacketType


@dataclass(frozen=True, slots=True)
class Link:
    """The way from the network to one node.

    Attributes:
        latency: One way, ns.
        loss: Probability that a packet is dropped, 0 to 1.
        reorder: Probability that a packet is delayed by up to `jitter` more.
        jitter: ns.
        duplicate: Probability that a packet comes twice.
        bottleneck: What it shares with others; None: it carries whatever is sent.
    """

    latency: int = 1 * MS
    loss: float = 0.0
    reorder: float = 0.0
    jitter: int = 2 * MS
    duplicate: float = 0.0
    bottleneck: Bottleneck | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} {getattr(self, name)}: must be 0 to 1")
        if self.latency < 0 or self.jitter < 0:
            raise UsageError("latency and jitter: must not be negative")


@dataclass(slots=True, eq=False)
class Node:
    """A machine on the network, and what it left behind."""

    name: str
    machine: Machine
    link: Link
    store: MemoryStore
    data: bytes
    loss: Loss
    draws: np.random.Generator
    outcome: list[tuple[int, Action]] = field(default_factory=list)
    """Actions for the user with the time of each: Adopted, Damaged, Complete, Finished ..."""

    has_started: bool = False
    has_stopped: bool = False
    ticking: int | None = None
    """When the next tick is scheduled, ns."""

    groups: set[Endpoint] = field(default_factory=set)
    """What it is a member of, where the network has groups."""


@dataclass(slots=True, eq=False)
class GroupNode:
    """A group of receivers that are all equally far away, and what waits for them to read it."""

    group: ReceiverGroup
    names: tuple[str, ...]
    """(members,): who a member's NAKs come from, and who it is in `Network.nak_log`."""

    latency: int
    joins: npt.NDArray[np.int64]
    """(members,): when each starts to listen, ns."""

    read_interval: int
    """ns; 0: packets are read as they come."""

    mailbox: dict[int, list[Arrival]] = field(default_factory=dict)
    """Packets by the time at which they are read."""

    ticking: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Audience:
    """Groups behind one loss model: consecutive receivers, near and far."""

    loss: LossModel
    nodes: tuple[GroupNode, ...]


class Network:
    """Runs machines on a network: whatever one sends, all the others may hear.

    With several groups, one for each channel, who has joined a channel's group hears it.
    """

    def __init__(self, seed: int, groups: Sequence[Endpoint] = ()) -> None:
        """
        Args:
            groups: Those of the channels, by number; none: everybody hears everything.
        """
        self._seed = seed
        self._groups = tuple(groups)
        self._heap: list[tuple[int, int, Node | GroupNode, PacketBatch | None]] = []
        self._serial = count()
        self.now = 0
        self.nodes: list[Node] = []
        self.audiences: list[Audience] = []
        self.nak_log: list[tuple[int, str, SendNak]] = []
        """Every NAK with the time and the name of who sent it."""

    def rng(self, name: str) -> Random:
        """Return the generator of `name`; adding a node does not disturb the others'."""
        return Random(f"{self._seed}/{name}")

    def add(
        self,
        name: str,
        machine: Machine,
        *,
        link: Link | None = None,
        data: bytes = b"",
        store: MemoryStore | None = None,
        at: int = 0,
    ) -> Node:
        """Add a machine that starts at `at` ns.

        Args:
            data: The object, for a sender.
            store: The disk, for a receiver that has one already.
        """
        link = link or Link()
        node = Node(
            name,
            machine,
            link,
            store or MemoryStore(),
            data,
            Loss(link.loss, self.rng(f"{name}/loss")),
            np.random.default_rng(self.rng(f"{name}/link").getrandbits(64)),
        )
        self.nodes.append(node)
        self._push(max(at, self.now), node, None)
        return node

    def add_groups(self, audience: Audience) -> None:
        """Add groups of receivers; what they hear has no payload (`ReceiverGroup`)."""
        self.audiences.append(audience)

    def stop(self, node: Node) -> None:
        """Take a machine off the network at once, as a crash would."""
        node.has_stopped = True
        self.nodes.remove(node)

    def run_while(self, goes_on: Callable[[], bool], limit: int) -> bool:
        """Run as long as `goes_on` says so; `False` if that takes longer than to `limit` ns."""
        while self._heap and self._heap[0][0] <= limit:
            self._step()
            if not goes_on():
                return True
        return False

    def run(self, until: int) -> None:
        """Run to `until` ns, or until nothing is left to do."""
        while self._heap and self._heap[0][0] <= until:
            self._step()
        self.now = max(self.now, until)

    def _step(self) -> None:
        """Let happen what is next."""
        self.now, _, node, batch = heapq.heappop(self._heap)
        if isinstance(node, GroupNode):
            self._run_group(node)
            return
        if node.has_stopped:
            return
        if batch is not None:
            if not node.has_started:
                return
            self._perform(node, node.machine.receive(self.now, batch))
        elif not node.has_started:
            node.has_started = True
            self._perform(node, node.machine.start(self.now))
        elif node.ticking != self.now:
            return  # an earlier tick took this one's place
        else:
            node.ticking = None
            self._perform(node, node.machine.tick(self.now))
        self._schedule(node)

    def _push(self, at: int, node: Node | GroupNode, batch: PacketBatch | None) -> None:
        heapq.heappush(self._heap, (at, next(self._serial), node, batch))

    def _run_group(self, node: GroupNode) -> None:
        """Let a group read what has come by now, and do what is due."""
        arrived = node.mailbox.pop(self.now, None)
        if arrived:
            for pile in gather(arrived) if node.read_interval else ([one] for one in arrived):
                node.group.receive(self.now, pile)
        for member, nak in node.group.tick(self.now):
            self._unicast(node.names[member], nak, node.latency)
        deadline = node.group.deadline
        if node.ticking is not None and node.ticking <= self.now:
            node.ticking = None
        if deadline is not None:
            at = max(deadline, self.now)
            if node.ticking is None or at < node.ticking:
                node.ticking = at
                self._push(at, node, None)

    def _schedule(self, node: Node) -> None:
        deadline = node.machine.deadline
        if deadline is None:
            return
        at = max(deadline, self.now)
        if node.ticking is None or at < node.ticking:
            node.ticking = at
            self._push(at, node, None)

    def _perform(self, node: Node, actions: list[Action]) -> None:
        todo = list(actions)
        while todo:
            action = todo.pop(0)
            match action:
                case Transmit():
                    self._transmit(node, action)
                case SendNak():
                    self._unicast(node.name, action)
                case Join() | Leave():
                    self._follow(node, action)
                case Store():
                    node.store.store(action)
                case Prepare() | Verify() | Decode() if isinstance(node.machine, Receiver):
                    todo = answer(node.machine, node.store, action) + todo
                case _:
                    if isinstance(action, Adopted):
                        node.store.begin(action.manifest.geometry)
                    node.outcome.append((self.now, action))

    def _transmit(self, sender: Node, burst: Transmit) -> None:
        source = Endpoint(sender.name, 0)
        if self.audiences:
            bare = headers(burst, source)
            for audience in self.audiences:
                self._address(audience, bare)
        if len(self.nodes) == 1:
            return
        batches = list(packets(burst, sender.data, source)) if not self.audiences else [bare]
        group = self._groups[burst.channel] if self._groups else None
        for batch in batches:
            passed = self._pass(group, batch)
            for node in self.nodes:
                if node is not sender and (group is None or group in node.groups):
                    self._deliver(node, *passed.get(node.link.bottleneck, (batch, 0)))

    def _follow(self, node: Node, action: Join | Leave) -> None:
        """Let a node hear a group, or not any more."""
        bottleneck = node.link.bottleneck
        if isinstance(action, Join):
            node.groups.add(action.group)
            if bottleneck:
                bottleneck.join(action.group, node.name)
        else:
            node.groups.discard(action.group)
            if bottleneck:
                bottleneck.leave(self.now, action.group, node.name)

    def _pass(
        self, group: Endpoint | None, batch: PacketBatch
    ) -> dict[Bottleneck | None, tuple[PacketBatch, int]]:
        """Return what of a batch gets over each bottleneck, and how much later, ns."""
        passed: dict[Bottleneck | None, tuple[PacketBatch, int]] = {}
        for link in {node.link.bottleneck for node in self.nodes} - {None}:
            if link is not None and (group is None or link.flows(self.now, group)):
                passed[link] = link.pass_on(self.now, batch)
        return passed

    def _address(self, audience: Audience, batch: PacketBatch) -> None:
        """Send a batch on its way to groups, to be read when they next read."""
        kept = ~audience.loss.draw(batch)
        first = 0
        for node in audience.nodes:
            here = kept[first : first + len(node.group)]
            first += len(node.group)
            at = self.now + node.latency
            absent = node.joins > at
            if absent.any():
                here = here & ~absent[:, None]
            if node.read_interval:
                at = -(-at // node.read_interval) * node.read_interval
            if at not in node.mailbox:
                node.mailbox[at] = []
                self._push(at, node, None)
            node.mailbox[at].append(Arrival(batch, here))

    def _unicast(self, name: str, nak: SendNak, latency: int | None = None) -> None:
        """Send a NAK from `name`; `latency` in ns is the target's own unless given."""
        octets = np.frombuffer(nak.packet, np.uint8)
        for target in self.nodes:
            if target.name == nak.endpoint.address:
                self.nak_log.append((self.now, name, nak))
                delay = target.link.latency if latency is None else latency
                for batch in read(octets, len(octets), Endpoint(name, 0), Counter()):
                    self._push(self.now + delay, target, batch)

    def _deliver(self, node: Node, batch: PacketBatch, later: int) -> None:
        link = node.link
        batch = node.loss.apply(batch)
        if not len(batch):
            return
        if not link.reorder and not link.duplicate:
            self._push(self.now + link.latency + later, node, batch)
            return
        copies = 1 + (node.draws.random(len(batch)) < link.duplicate)
        for place, times in enumerate(copies.tolist()):
            for _ in range(times):
                late = node.draws.random() < link.reorder
                delay = int(node.draws.integers(0, link.jitter + 1)) if late else 0
                one = batch.select(slice(place, place + 1))
                self._push(self.now + link.latency + later + delay, node, one)


def symbol_bytes(payload: ObjectSymbols, data: bytes) -> bytes:
    """Return the bytes of encoding symbols of the object `data`, in their order."""
    geometry, ids = payload.geometry, payload.ids
    are_repairs = geometry.are_repairs(ids)
    if not are_repairs.any():
        extents = geometry.extents(ids)
        return b"".join(data[offset : offset + length] for offset, length in extents)
    symbols = np.empty((len(ids), geometry.symbol_size), np.uint8)
    for block in np.unique(ids.blocks).tolist():
        mine = ids.blocks == block
        symbols[mine] = _encoded(data, geometry, block)[ids.esis[mine]]
    return symbols.tobytes()[: payload.length]


@lru_cache(maxsize=64)
def _encoded(data: bytes, geometry: Geometry, block: int) -> Octets:
    """Return all encoding symbols of a block: carousels come back to it."""
    offset, length = geometry.extent(block)
    source = np.zeros((geometry.source(block), geometry.symbol_size), np.uint8)
    source.reshape(-1)[:length] = np.frombuffer(data, np.uint8, length, offset)
    return CODEC.encode(source, np.arange(geometry.ring(block)))


def packets(burst: Transmit, data: bytes, source: Endpoint) -> Iterator[PacketBatch]:
    """Yield what a receiver reads of a burst: packets that are alike, then the shorter last one."""
    payload = burst.payload
    if isinstance(payload, ObjectSymbols):
        payload = symbol_bytes(payload, data)
    rows = burst.rows
    octets = np.frombuffer(payload, np.uint8)
    width = -(-len(octets) // len(rows)) if len(rows) == 1 else int(rows["symbol_size"][0])
    full = len(octets) // width
    if full:
        matrix = octets[: full * width].reshape(full, width)
        yield from read_rows(rows[:full], matrix, source, Counter())
    if full < len(rows):
        rest = octets[full * width :].reshape(1, -1)
        yield from read_rows(rows[full:], rest, source, Counter())


def headers(burst: Transmit, source: Endpoint) -> PacketBatch:
    """Return a burst as one batch, without the payload if that is a part of the object."""
    rows = burst.rows
    kind = PacketType(int(rows["type"][0]))
    payload = np.zeros((len(rows), 0), np.uint8)
    if isinstance(burst.payload, bytes) and len(rows) == 1:
        payload = np.frombuffer(burst.payload, np.uint8).reshape(1, -1)
    return PacketBatch(kind, rows, rows["offset"].astype(np.int64), payload, source)
