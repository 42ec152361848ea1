"""Receivers that choose a rate behind one bottleneck: the product's own machine, no payload.

Senders are streams of numbered packets at the rates of a ladder; the receivers' machines are those
of `recv` as far as rates are concerned (`Listening`), driven by what gets over the link.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from pgmlite.core.config import MAX_RATE
from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.events_listening import RateChanged
from pgmlite.core.machine import MS, SECOND, Action, Join, Leave
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.sources import Sources
from pgmlite.sim.bottleneck import Bottleneck, Times
from pgmlite.wire.batch import HEADER_DTYPE, HEADER_SIZE, Octets, PacketBatch
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import IPV6_UDP_HEADERS, PacketType
from pgmlite.wire.manifest import Manifest, Rung

SLICE = 50 * MS
"""What is simulated at a time, ns."""

PACKET = 1280
"""Bytes, IP headers included."""

JOIN_LATENCIES = 10 * MS, 370 * MS
"""From a join to the first packet, ns, as measured over two routers."""

UNEVEN = 0.5
"""By how much packets leave late, in packets of their channel: senders have other work."""

SENDER = Endpoint("fd00::1", 28775)
PAYLOADS: Octets = np.broadcast_to(
    np.zeros(1, np.uint8), (MAX_RATE * SLICE // SECOND, PACKET - IPV6_UDP_HEADERS - HEADER_SIZE)
)
"""Of more packets than come in a slice; it takes no memory."""


@dataclass(frozen=True, slots=True)
class RatesTrial:
    """One run: everything that its outcome depends on.

    Attributes:
        ladder: bit/s of the channels.
        capacity: bit/s of the link.
        leave_latency: ns.
        loss: Share of the packets that each receiver loses besides.
        starts: When each receiver begins, ns.
        duration: ns.
    """

    ladder: tuple[int, ...]
    capacity: int
    leave_latency: int
    loss: float
    starts: tuple[int, ...]
    duration: int
    seed: int
    repetition: int

    @property
    def effort(self) -> float:
        """How long it takes, in seconds of one receiver."""
        return (1 + len(self.starts)) * self.duration / SECOND

    @property
    def right(self) -> int:
        """The highest channel that the link carries."""
        on_link = (PACKET + Bottleneck(1).header) / PACKET
        fits = [k for k, rate in enumerate(self.ladder) if rate * on_link <= self.capacity]
        return max(fits, default=0)


@dataclass(frozen=True, slots=True)
class RatesOutcome:
    """What became of one receiver.

    Attributes:
        climbed: s from its start until it was on the right channel to stay; None: it was not at
            the end.
        failed: Tries that failed.
        disturbed: Tries that said nothing.
        left: Times that it left a channel.
        goodput: bit/s that came on channels that it was a member of, IP headers included.
        channels: (s, channel) of every change.
    """

    climbed: float | None
    failed: int
    disturbed: int
    left: int
    goodput: float
    channels: tuple[tuple[float, int], ...]


@dataclass(slots=True, eq=False)
class _Stream:
    """One channel's packets."""

    rung: Rung
    channel: int
    next: float
    sqn: int
    rng: np.random.Generator

    def between(self, start: int, end: int) -> tuple[Times, int]:
        """Return when packets leave in some time, and the number of the first."""
        takes = PACKET * 8 * SECOND / self.rung.rate
        unseen = max(0, math.ceil((start - self.next) / takes))
        self.next += takes * unseen
        self.sqn += unseen
        count = max(0, math.ceil((end - self.next) / takes))
        times = self.next + takes * np.arange(count)
        first = self.sqn
        self.next += takes * count
        self.sqn += count
        return (times + self.rng.random(count) * takes * UNEVEN).astype(np.int64), first


@dataclass(slots=True, eq=False)
class _Climber:
    """One receiver."""

    machine: Listening
    start: int
    rng: np.random.Generator
    heard: dict[Endpoint, int] = field(default_factory=dict)
    """Groups, and from when on they come, ns."""

    octets: int = 0
    channels: list[tuple[int, int]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def reach(self, now: int, link: Bottleneck) -> None:
        """Let the joins arrive that have been on their way for long enough."""
        for group, begins in self.heard.items():
            if begins <= now:
                link.join(group, id(self))

    def live(
        self,
        now: int,
        arrived: Sequence[tuple[_Stream, Times]],
        manifest: Manifest,
        link: Bottleneck,
        loss: float,
    ) -> None:
        """Take what got over the link in one slice, as far as it is heard, and do what is due."""
        if not self.heard:
            self.perform(now, self.machine.start(now), link)
            self.perform(now, self.machine.adopt(now, manifest), link)
        for stream, sqns in arrived:
            begins = self.heard.get(stream.rung.group)
            if begins is None or begins > now:
                continue
            kept = self.rng.random(len(sqns)) >= loss
            if kept.any():
                batch = _batch(stream.channel, sqns[kept])
                self.octets += len(batch) * PACKET
                self.perform(now, self.machine.receive(now, batch), link)
        deadline = self.machine.deadline
        if deadline is not None and deadline <= now:
            self.perform(now, self.machine.tick(now), link)

    def perform(self, now: int, actions: list[Action], link: Bottleneck) -> None:
        """Do what the machine says."""
        for action in actions:
            match action:
                case Join(group=group):
                    self.heard[group] = now + int(self.rng.integers(*JOIN_LATENCIES))
                case Leave(group=group):
                    link.leave(now, group, id(self))
                    del self.heard[group]
                case RateChanged():
                    self.reasons[action.reason] += 1
                    self.channels.append((now, action.channel))

    def outcome(self, trial: RatesTrial) -> RatesOutcome:
        """Return what became of it."""
        stays: int | None = None
        for at, channel in self.channels:
            if channel != trial.right:
                stays = None
            elif stays is None:
                stays = at
        time = (trial.duration - self.start) / SECOND
        return RatesOutcome(
            climbed=None if stays is None else (stays - self.start) / SECOND,
            failed=self.reasons["failed"],
            disturbed=self.reasons["disturbed"],
            left=self.reasons["down"],
            goodput=self.octets * 8 / time,
            channels=tuple(((at - self.start) / SECOND, one) for at, one in self.channels),
        )


def climb(trial: RatesTrial, config: RatesConfig | None = None) -> list[RatesOutcome]:
    """Do one run; return what became of each receiver."""
    rng = Random(f"{trial.seed}/{trial.repetition}/{trial.ladder}")
    rungs = tuple(
        Rung(rate, Endpoint(f"ff3e::8000:{channel}", 28775))
        for channel, rate in enumerate(trial.ladder)
    )
    streams = [
        _Stream(rung, channel, rng.random() * MS, 0, _numbers(rng))
        for channel, rung in enumerate(rungs)
    ]
    link = Bottleneck(trial.capacity, leave_latency=trial.leave_latency)
    manifest = Manifest(64, 1, 64, bytes(32), "object", ladder=rungs)
    climbers = [
        _Climber(
            Listening([rungs[0].group], Sources(), config, Random(rng.getrandbits(64))),
            start,
            _numbers(rng),
        )
        for start in trial.starts
    ]
    for now in range(0, trial.duration, SLICE):
        for climber in climbers:
            climber.reach(now, link)
        arrived = list(_over_link(link, streams, now))
        for climber in climbers:
            if climber.start <= now:
                climber.live(now, arrived, manifest, link, trial.loss)
    return [climber.outcome(trial) for climber in climbers]


def _numbers(rng: Random) -> np.random.Generator:
    return np.random.default_rng(rng.getrandbits(64))


def _over_link(
    link: Bottleneck, streams: list[_Stream], now: int
) -> Iterator[tuple[_Stream, Times]]:
    """Yield what of each stream gets over the link in one slice: its numbers."""
    flowing = [stream for stream in streams if link.flows(now, stream.rung.group)]
    sent = [(stream, *stream.between(now, now + SLICE)) for stream in flowing]
    sent = [one for one in sent if len(one[1])]
    if not sent:
        return
    times = np.concatenate([one[1] for one in sent])
    order = np.argsort(times, kind="stable")
    kept = np.empty(len(times), np.bool_)
    kept[order], _ = link.send(times[order], np.full(len(times), PACKET))
    start = 0
    for stream, own, first in sent:
        stop = start + len(own)
        mine = kept[start:stop]
        start = stop
        if mine.any():
            yield stream, first + np.flatnonzero(mine)


def _batch(channel: int, sqns: Times) -> PacketBatch:
    rows = np.zeros(len(sqns), HEADER_DTYPE)
    rows["channel"], rows["sqn"], rows["tsi"] = channel, sqns, 1
    payload = PAYLOADS[: len(sqns)]
    return PacketBatch(PacketType.ODATA, rows, np.zeros(len(sqns), np.int64), payload, SENDER)
