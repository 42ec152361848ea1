"""A path that carries so much, and the receiver's machine behind it that chooses a channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import numpy as np

from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.events import Event
from pgmlite.core.events_listening import RateChanged, Trying
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive.rates import Rates
from pgmlite.wire.batch import HEADER_DTYPE, PacketBatch
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import PacketType

M = 1_000_000
LADDER = (2 * M, 6 * M, 14 * M, 40 * M)
STEP = 100 * MS
WIRE = 1280
SENDER = Endpoint("fd00::1", 28775)

Loss = Callable[["Path"], float]


def packets(
    channel: int, sqns: Iterable[int], *, tsi: int = 1, source: Endpoint = SENDER
) -> PacketBatch:
    """Return data packets of 1280 bytes with these numbers."""
    numbers = np.fromiter(sqns, np.int64) % (1 << 32)
    rows = np.zeros(len(numbers), HEADER_DTYPE)
    rows["channel"], rows["sqn"], rows["tsi"] = channel, numbers, tsi
    payload = np.broadcast_to(np.zeros(1, np.uint8), (len(rows), WIRE - 96))
    return PacketBatch(PacketType.ODATA, rows, np.zeros(len(rows), np.int64), payload, source)


def none(path: Path) -> float:
    """Nothing is lost."""
    return 0.0


def always(share: float) -> Loss:
    """Return a loss that does not depend on what is sent."""
    return lambda _: share


def link(capacity: float, other: float = 0.0) -> Loss:
    """Return what a link of so many Mbit/s loses, over which others send as well."""

    def loss(path: Path) -> float:
        sent = sum(path.ladder[channel] for channel in path.machine.wanted) + other * M
        return max(0.0, 1 - capacity * M / sent)

    return loss


class Path:
    """Time goes on in steps of 100 ms; what is lost is spread evenly."""

    def __init__(
        self,
        config: RatesConfig | None = None,
        *,
        ladder: tuple[int, ...] = LADDER,
        first: int = 0,
        seed: int = 0,
        senders: int = 1,
    ) -> None:
        self.ladder = ladder
        self.senders = senders
        self.now = 0
        self.machine = Rates(config or RatesConfig(), ladder, first=first, rng=Random(seed))
        self.events: list[Event] = self.machine.start(0)
        self.joined = [self.machine.wanted]
        """What it was a member of, each time that changed."""

        self._sqns = [1 << 20] * len(ladder)
        self._due = [0.0] * len(ladder)
        self._spare = 0.0
        self._drops = 0

    def run(
        self,
        seconds: float,
        loss: Loss = none,
        *,
        drops: float = 0.0,
        share: float = 0.0,
        silent: frozenset[int] = frozenset(),
        forged: Callable[[Path], Iterable[PacketBatch]] = lambda _: (),
    ) -> list[Event]:
        """Go on for so long; return what happened.

        Args:
            drops: Share of the packets that the own system drops, beside `loss`.
            share: Of the object, that is stored.
            silent: Channels on which nothing is sent.
            forged: What comes besides, in each step.
        """
        before = len(self.events)
        for _ in range(round(seconds * SECOND / STEP)):
            self.now += STEP
            for channel in sorted(self.machine.wanted - silent):
                for tsi in range(1, self.senders + 1):
                    self._send(channel, tsi, loss(self), drops)
                self._sqns[channel] += int(self._due[channel])
                self._due[channel] %= 1
            for batch in forged(self):
                self.machine.receive(batch)
            self.machine.dropped(self._drops)
            if self.machine.deadline <= self.now:
                self.events += self.machine.tick(self.now, share)
            if self.joined[-1] != self.machine.wanted:
                self.joined.append(self.machine.wanted)
        return self.events[before:]

    def _send(self, channel: int, tsi: int, loss: float, drops: float) -> None:
        if tsi == 1:
            self._due[channel] += self.ladder[channel] * STEP / SECOND / 8 / WIRE
        first, kept = self._sqns[channel], []
        for sqn in range(first, first + int(self._due[channel])):
            self._spare += (1 - loss) * (1 - drops)
            if self._spare >= 1:
                self._spare -= 1
                kept.append(sqn)
            elif drops:
                self._drops += 1
        if kept:
            self.machine.receive(packets(channel, kept, tsi=tsi))

    def until(
        self, what: Callable[[Event], bool], loss: Loss = none, *, most: float = 200
    ) -> Event:
        """Go on until something happens; return it."""
        for _ in range(round(most * SECOND / STEP)):
            for event in self.run(STEP / SECOND, loss):
                if what(event):
                    return event
        raise AssertionError(f"nothing of the kind in {most} s: {self.events}")

    def until_try(self, loss: Loss = none, *, most: float = 200) -> Trying:
        """Go on until a channel is tried."""
        event = self.until(lambda one: isinstance(one, Trying), loss, most=most)
        assert isinstance(event, Trying)
        return event

    def until_rate(self, loss: Loss = none, *, most: float = 200) -> RateChanged:
        """Go on until it is decided about a channel."""
        event = self.until(lambda one: isinstance(one, RateChanged), loss, most=most)
        assert isinstance(event, RateChanged)
        return event


def reasons(events: Iterable[Event]) -> list[tuple[str, int]]:
    """Return what was decided, and the channel that is heard then."""
    return [(one.reason, one.channel) for one in events if isinstance(one, RateChanged)]
