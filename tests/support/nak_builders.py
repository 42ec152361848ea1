"""Packets of NAK repair, machines driven by hand, and groups of receivers, for the tests of it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from pgmlite.core.config import ReceiverConfig, RepairConfig, SenderConfig
from pgmlite.core.machine import (
    MS,
    Action,
    Complete,
    ObjectSymbols,
    SendNak,
    Transmit,
)
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.send.repairer import Repairer
from pgmlite.core.send.sender import Sender
from pgmlite.core.timing import grtt_of
from pgmlite.sim.memory import MemoryStore
from pgmlite.sim.network import Link, Network, Node, packets
from pgmlite.wire.batch import HEADER_SIZE, PacketBatch
from pgmlite.wire.control import Spm, parse_spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import PacketType
from pgmlite.wire.request import Nak, build_nak, build_request, parse_nak, parse_request
from tests.support.builders import Sample, beside, packet, ring_of, spm_body

Flags = npt.NDArray[np.bool_]
Symbols = npt.NDArray[np.int64]

HEAD = 4
"""Symbols that a carousel in these tests is ahead of what it has passed: the reorder tolerance
and the one that shows the gap."""

GRTT_CODE = 100
GRTT = grtt_of(GRTT_CODE)
"""About 6.6 ms."""

LONGEST = 6 * GRTT
"""The longest back-off before a first NAK."""

OTHER = (("R", 0), 2, 0)
"""The session of a repairer on its own."""


def symbols_of(*numbers: int | Iterable[int]) -> Symbols:
    """Return ascending symbols from numbers and ranges."""
    flat = [n for part in numbers for n in ([part] if isinstance(part, int) else part)]
    return np.array(sorted(set(flat)), np.int64)


def memory_kept(act: Callable[[], None]) -> int:
    """Return how many bytes more are in use after `act` than before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        act()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before


# Packets.


def nak_packet(
    sample: Sample, wanted: Iterable[int], *, nonce: int, timestamp: int = 0, **fields: int
) -> bytes:
    """Return a NAK; `fields` may break any rule of the header."""
    request, _ = build_request(symbols_of(wanted), 1_164)
    body = build_nak(nonce, timestamp % (1 << 64), 0.0, request)
    return packet(PacketType.NAK, body, **(sample.fields | fields))


def ncf_packet(sample: Sample, confirmed: Iterable[int], **fields: int) -> bytes:
    """Return an NCF."""
    body, _ = build_request(symbols_of(confirmed), 1_184)
    return packet(PacketType.NCF, body, **(sample.fields | fields))


def rdata_packets(sample: Sample, wanted: Iterable[int], **fields: int) -> list[bytes]:
    """Return RDATA packets."""
    return sample.odata(wanted, **({"type": PacketType.RDATA} | fields))


SPM_FIELDS = {
    "nonce": 77,
    "grtt": GRTT_CODE,
    "backoff_factor": 6,
    "repair_share": 50,
    "repair_port": 9,
}


def spm_packet(sample: Sample, header: dict[str, int] | None = None, **body: int) -> bytes:
    """Return an SPM of a sender that answers NAKs on port 9, unless told otherwise."""
    content = spm_body(sample.manifest.raw, **(SPM_FIELDS | body))
    return packet(PacketType.SPM, content, **(sample.fields | (header or {})))


# Machines driven by hand.


def parse(nak: SendNak, sample: Sample) -> Nak:
    """Return the body of a NAK that was sent."""
    return parse_nak(nak.packet[HEADER_SIZE:], sample.manifest.symbols)


def kind_of(burst: Transmit) -> PacketType:
    """Return the type of a burst's packets."""
    return PacketType(int(burst.rows["type"][0]))


def spm_of(burst: Transmit) -> Spm:
    """Return the body of an SPM that was sent."""
    (batch,) = packets(burst, b"", Endpoint("", 0))
    return parse_spm(batch.payload.tobytes())


def symbols_sent(bursts: Iterable[Transmit], kind: PacketType, sample: Sample) -> list[int]:
    """Return the symbols that packets of `kind` carried, or confirmed, in the order sent."""
    sent: list[int] = []
    for burst in bursts:
        if kind_of(burst) is not kind:
            continue
        if kind is PacketType.NCF:
            assert isinstance(burst.payload, bytes)
            sent += parse_request(burst.payload, sample.manifest.symbols).tolist()
        elif isinstance(burst.payload, ObjectSymbols):
            sent += burst.payload.geometry.symbols_of(burst.payload.ids).tolist()
        else:
            sent += (burst.rows["offset"] // sample.manifest.symbol_size).tolist()
    return sent


# Groups.


class Group:
    """A sender "S", receivers "r0", "r1" ... and whoever else is added, on one network."""

    def __init__(self, sample: Sample, *, seed: int = 1) -> None:
        self.sample = sample
        self.network = Network(seed)
        self.receivers: list[Node] = []

    def add_sender(
        self,
        name: str = "S",
        *,
        repair: RepairConfig | None = None,
        latency: int = 2 * MS,
        at: int = 0,
        machine: type[Sender] = Sender,
        **config: Any,
    ) -> Node:
        """Add a sender of the sample; without `repair` it answers no NAK.

        A plain object is sent in the order of its symbols.
        """
        manifest = self.sample.manifest
        ring = ring_of(manifest.geometry, config)
        values = {"rate": 200_000_000, "packet_overhead": 28} | config
        settings = SenderConfig(**values)
        rng = self.network.rng(name)
        if issubclass(machine, Repairer):
            built: Sender = machine(
                settings, manifest, repair=repair or RepairConfig(), rng=rng, **beside(self.sample)
            )
        else:
            built = machine(
                settings,
                manifest,
                self.sample.tree,
                rings=[ring],
                repair=repair,
                rng=rng,
                **beside(self.sample),
            )
        link = Link(latency=latency)
        return self.network.add(name, built, data=self.sample.data, link=link, at=at)

    def add_receivers(
        self,
        count: int,
        *,
        latency: int = 2 * MS,
        loss: float = 0.0,
        at: int = 0,
        make: Callable[[ReceiverConfig, Random], Receiver] | None = None,
        store: Callable[[], MemoryStore] = MemoryStore,
        **config: Any,
    ) -> list[Node]:
        """Add receivers behind links of their own."""
        added = []
        for _ in range(count):
            name = f"r{len(self.receivers)}"
            rng = self.network.rng(name)
            values = ReceiverConfig(**config)
            machine = make(values, rng) if make else Receiver(values, rng=rng)
            link = Link(latency=latency, loss=loss)
            node = self.network.add(name, machine, link=link, at=at, store=store())
            self.receivers.append(node)
            added.append(node)
        return added

    def run_until_complete(self, nodes: Sequence[Node], *, limit: int, step: int = MS) -> int:
        """Run until all `nodes` are complete, with the right bytes; return when they were, ns."""
        while any(completion(node) is None for node in nodes):
            assert self.network.now < limit, "not complete in time"
            self.network.run(self.network.now // step * step + step)
        for node in nodes:
            assert bytes(node.store.data[: self.sample.manifest.size]) == self.sample.data
        return max(completion(node) or 0 for node in nodes)

    def naks(self) -> list[tuple[int, str, list[int]]]:
        """Return when which receiver asked for which symbols."""
        return [
            (at, name, parse(nak, self.sample).symbols.tolist())
            for at, name, nak in self.network.nak_log
        ]


def completion(node: Node) -> int | None:
    """Return when a receiver was complete, ns."""
    return next((at for at, action in node.outcome if isinstance(action, Complete)), None)


class Unlucky(Receiver):
    """Loses chosen symbols when the carousel brings them first, and nothing else."""

    def __init__(self, config: ReceiverConfig, rng: Random, lost: Flags) -> None:
        super().__init__(config, rng=rng)
        self._hits = lost.copy()
        self.passed: list[int] = []
        """When each block had gone by so that its losses were known, ns."""

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        if batch.kind is PacketType.ODATA:
            symbols = batch.offsets // int(batch.rows["symbol_size"][0])
            if self.manifest:
                known = int(symbols[-1]) - HEAD + 2
                while len(self.passed) < known // self.manifest.block_symbols:
                    self.passed.append(now)
            hit = self._hits[symbols]
            if hit.any():
                self._hits[symbols] = False
                batch = batch.select(~hit)
        return super().receive(now, batch)
