"""Which of an object's channels is heard: one that the path can carry (spec: RTE-1 to RTE-12).

Nobody tells a receiver what its path carries, and finding out costs others: a channel that does
not fit makes everybody behind the same link lose, for as long as it is joined, and then for as long
as routers take to stop it: 2 to 11 s. So a receiver tries seldom, learns much from a try, and does
not mind losses that last no longer than somebody else's try::

    STEADY --nothing lost for a while--> TRYING --it fits, or not--> DEAF --healed--> STEADY
      |  ^                                                            |
      |  '--------------------------losses end----- LOSING <--losses--+
      '-----------losses---------------------------->^  '--they last, the channel is left--> DEAF

**A try measures.** The next channel is joined beside the present one. If no more is lost than
before, it fits. If more is sent than the link carries, then what arrives of both is what the link
has for us, its capacity C: a channel whose rate is at most 0.9 C will fit when the lower one has
been left, though both together do not. So 14 beside 6 is found out on a link of 18.

**What comes in between.** Of two receivers behind one link each sees the other's tries as losses.
They last for a try and a leave, 13 s at most, and a channel is left only after 15 s. While there
are losses nobody tries, and when they end each waits for a time of its own: the longer the higher
its channel is, and the longer if those losses were not its own doing. If two tries overlap all the
same, both would fail. Two things show that. A path that carried the present channel, and what else
was on it, brings at least as many bits when one more channel is joined. And queues fill at once, so
that losses of a try begin with its first packets. If fewer bits come, or losses begin before or
later, somebody else has added something: such a try says nothing, and is repeated.

**What is usual.** Losses that have nothing to do with rates are there before a try, too: a try is
judged by what it adds. What is lost on the lowest channel for long is usual, however much it is.

**Who may be lying.** Numbers of packets count for a few packets at most (`traffic`), channels that
are not heard for nothing, and one look is never enough to leave a channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.events import Event
from pgmlite.core.events_listening import RateChanged, Trying
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.ladder import Ladder
from pgmlite.core.receive.traffic import Onset, Seen, Traffic
from pgmlite.core.receive.usual import UsualLoss
from pgmlite.wire.batch import PacketBatch

CLEARLY = 3
"""Losses as many times as large as those that are allowed are not by chance."""

LEAST_SHARE = 4
"""A session that sends this part of a channel's rate, or more, is one of its senders."""

DISTURBED = 0.9
"""A try in which less than this part of the earlier bits comes was disturbed."""


class RateState(Enum):
    """What a receiver is doing about its rate."""

    STEADY = auto()
    TRYING = auto()
    DEAF = auto()
    LOSING = auto()


class RateEvent(Enum):
    """What moves it from state to state."""

    CALM = auto()
    FITS = auto()
    FAILS = auto()
    HEALED = auto()
    LOSSES = auto()
    LASTING = auto()


_S, _E = RateState, RateEvent

RATE_TRANSITIONS: dict[tuple[RateState, RateEvent], RateState] = {
    (_S.STEADY, _E.CALM): _S.TRYING,
    (_S.TRYING, _E.FITS): _S.DEAF,
    (_S.TRYING, _E.FAILS): _S.DEAF,
    (_S.DEAF, _E.HEALED): _S.STEADY,
    (_S.DEAF, _E.LOSSES): _S.LOSING,
    (_S.STEADY, _E.LOSSES): _S.LOSING,
    (_S.LOSING, _E.HEALED): _S.STEADY,
    (_S.STEADY, _E.LASTING): _S.DEAF,
    (_S.DEAF, _E.LASTING): _S.DEAF,
    (_S.LOSING, _E.LASTING): _S.DEAF,
}
"""LASTING: what the own system drops, or losses that outlast any try, make it leave a channel."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What came in one look.

    Attributes:
        seen: On all channels that are heard.
        bits: bit/s.
        tried: bit/s of the channel that is tried.
        drops: Share of the packets that the own system dropped.
    """

    seen: Seen
    bits: int
    tried: int
    drops: float


def _lasts(now: int, since: int | None, time: int) -> bool:
    return since is not None and now - since >= time


class Rates:
    """Chooses one of several channels of rising rates.

    Attributes:
        channel: The one that is heard; beside it the next one, during a try.
        state: What it is doing.
    """

    def __init__(
        self, config: RatesConfig, rates: tuple[int, ...], *, first: int, rng: Random
    ) -> None:
        """
        Args:
            rates: bit/s of the channels, rising.
            first: The channel that is heard already.
            rng: Draws how long to wait.
        """
        self._config = config
        self._rng = rng
        self._ladder = Ladder(config, rates, rng)
        self.channel = first
        self.state = RateState.STEADY
        self._traffic = Traffic(config)
        self._onset: Onset | None = None
        """Of losses, during a try."""

        self._drops: int | None = None
        """Packets that the own system has dropped; None: nobody said."""

        self._drops_before = 0
        self._looked_at = self._look_at = self._wait = 0
        self._calm_since = self._changed_at = self._began = 0
        """When losses ended, when the state was entered, and when joined what is judged, ns."""

        self._usual = UsualLoss()
        self._bits_before = 0
        """bit/s of the present channel in the latest calm look."""

        self._losing_since: int | None = None
        self._dropping_since: int | None = None
        self._is_proven = False
        """The present channel was seen to fit."""

        self._was_disturbed = False
        """The latest try was: a second one in a row is our own doing after all."""

        self._gives_way = False
        """Others were seen to change what they hear."""

    # What is heard.

    @property
    def wanted(self) -> frozenset[int]:
        """The channels to be a member of."""
        if self.state is not RateState.TRYING:
            return frozenset({self.channel})
        tried = self.channel + 1
        # One after the other, where both together are more than is allowed.
        both = self.channel, tried
        return frozenset(both) if self._ladder.is_allowed(*both) else frozenset({tried})

    @property
    def rate(self) -> int:
        """bit/s of one sender of the channel that is heard."""
        return self._ladder.rate(self.channel)

    @property
    def deadline(self) -> int:
        """When to look next, ns."""
        return min(self._look_at, self._onset.deadline) if self._onset else self._look_at

    # The contract.

    def start(self, now: int) -> list[Event]:
        """Begin: with the highest channel that an operator allows, if there is a limit."""
        self._looked_at, self._look_at = now, now + self._config.look_every
        if self._config.limit is not None:
            self.channel = self._ladder.highest_allowed(len(self._ladder) - 1)
        self._begin(now)
        return [RateChanged(now, self.channel, self.rate, None, "start")]

    def receive(self, batch: PacketBatch) -> None:
        """Take packets as evidence, if they came on a channel that is heard."""
        channel = batch.channel
        is_tried = self.state is RateState.TRYING and channel == self.channel + 1
        if channel == self.channel or is_tried:
            self._traffic.take(batch)
            if self._onset:
                self._onset.traffic.take(batch)

    def dropped(self, total: int) -> None:
        """Take how many packets the own system has dropped since it began to count."""
        if self._drops is None:
            self._drops_before = total
        self._drops = total

    def come_back(self, now: int, channel: int) -> list[Event]:
        """Hear a channel that was named instead of the present one, of which nothing comes."""
        self._enter(now, RateEvent.FAILS if self.state is RateState.TRYING else RateEvent.LASTING)
        self.channel, self._onset, self._is_proven = channel, None, False
        self._begin(now)
        return [RateChanged(now, self.channel, self.rate, None, "silent")]

    def tick(self, now: int, share: float) -> list[Event]:
        """Judge what came since the last look.

        Args:
            share: Of the object, that is stored: 0 to 1.
        """
        if self._onset:
            usual = self._usual.share + self._config.bad_loss
            self._onset.tick(now, self.channel + 1, usual)
        elapsed = now - self._looked_at
        if now < self._look_at:
            return []
        is_little = self._traffic.packets < self._config.min_packets
        if is_little and elapsed < self._config.longest_look:
            self._look_at = now + self._config.try_look
            return []
        look = self._look(now, elapsed)
        if self.state is RateState.TRYING:
            return self._judge_try(now, look)
        if not look.seen.received:
            # Nothing comes: that says nothing about rates.
            self._losing_since = self._dropping_since = None
            self._calm_since = now
            return []
        self._watch(now, look)
        if events := self._leave_if_bad(now, look):
            return events
        self._settle(now)
        if self._is_time(now, share):
            return self._try(now)
        return []

    # Looking.

    def _look(self, now: int, elapsed: int) -> _Look:
        by_channel, sessions = self._traffic.look()
        seen = sum(by_channel.values(), Seen())
        if self.state is RateState.STEADY:
            own = sessions.get(self.channel, [])
            least = self.rate * elapsed // SECOND // LEAST_SHARE
            self._ladder.senders = max(1, sum(bits >= least for bits in own))
        drops_now = self._drops or 0
        drops, self._drops_before = max(0, drops_now - self._drops_before), drops_now
        self._looked_at = now
        self._look_at = now + self._config.look_every
        return _Look(
            seen,
            seen.bits * SECOND // elapsed,
            by_channel.get(self.channel + 1, Seen()).bits * SECOND // elapsed,
            drops / max(1, drops + seen.received),
        )

    def _watch(self, now: int, look: _Look) -> None:
        """Note since when too much is lost, and what is usual."""
        config = self._config
        is_bad = self._usual.is_exceeded(look.seen, config.bad_loss)
        if not is_bad:
            self._losing_since = None
        elif self._losing_since is None:
            self._losing_since = now
        if look.drops <= config.own_drops:
            self._dropping_since = None
        elif self._dropping_since is None:
            self._dropping_since = now - config.look_every
        if self._usual.is_exceeded(look.seen, config.try_loss):
            self._calm_since = now
            is_others = self.state is RateState.STEADY and self._usual.is_exceeded(
                look.seen, CLEARLY * config.try_loss
            )
            if is_others and self.channel and not self._gives_way:
                # No change of ours: somebody else is on the way to the right channel.
                self._gives_way = True
                self._wait = self._ladder.drawn_wait(self.channel, gives_way=self._gives_way)
        elif self.state is RateState.STEADY:
            self._bits_before = look.bits
            self._is_proven = True
        if self.state is RateState.STEADY and not is_bad:
            self._usual.add(look.seen.loss)

    # Down.

    def _leave_if_bad(self, now: int, look: _Look) -> list[Event]:
        """Leave the channel if it is more than the path, or this machine, can take."""
        config = self._config
        is_overrun = _lasts(now, self._dropping_since, config.own_drops_for)
        is_losing = _lasts(now, self._losing_since, config.bad_for)
        is_over_limit = not self._ladder.is_allowed(self.channel)
        if not self.channel:
            if is_losing:
                # There is nothing lower: that is how it is here.
                self._usual.settle(look.seen.loss)
                self._losing_since = None
            return []
        if not (is_overrun or is_losing or is_over_limit):
            return []
        left = self.channel
        self.channel -= 1
        if is_losing and not self._is_proven:
            self.channel = self._ladder.highest_within(self.channel, look.bits)
        self.channel = self._ladder.highest_allowed(self.channel)
        self._ladder.fail(now, left)
        self._is_proven = False
        self._enter(now, RateEvent.LASTING)
        self._begin(now)
        capacity = look.bits if is_losing else None
        return [RateChanged(now, self.channel, self.rate, capacity, "down")]

    def _settle(self, now: int) -> None:
        """Find out whether losses begin or end."""
        config = self._config
        since = now - self._changed_at
        if self.state is RateState.STEADY and self._losing_since is not None:
            self._enter(now, RateEvent.LOSSES)
        elif self.state is RateState.LOSING and self._losing_since is None:
            self._enter(now, RateEvent.HEALED)
        elif self.state is RateState.DEAF:
            is_healed = since > config.heals_after and self._calm_since != now
            if is_healed or (since >= config.deaf and self._losing_since is None):
                self._enter(now, RateEvent.HEALED)
            elif since >= config.deaf:
                self._enter(now, RateEvent.LOSSES)

    # Up.

    def _is_time(self, now: int, share: float) -> bool:
        """Whether to try the next channel now."""
        tried = self.channel + 1
        return (
            self.state is RateState.STEADY
            and self._ladder.is_open(now, tried)
            and now - max(self._calm_since, self._began) >= self._wait
            and self._dropping_since is None
            and share < 1 - self._config.last_part
        )

    def _try(self, now: int) -> list[Event]:
        self._enter(now, RateEvent.CALM)
        self._onset = Onset(self._config, now)
        tried = self.channel + 1
        return [Trying(now, tried, self._ladder.rate(tried))]

    def _judge_try(self, now: int, look: _Look) -> list[Event]:
        """Find out whether the channel that is tried fits."""
        config = self._config
        if now - self._changed_at < config.try_time:
            return []
        # What is always lost is lost on the way: the link had room for it.
        capacity = round(look.bits / (1 - min(self._usual.share, 0.5)))
        is_clean = look.drops <= config.own_drops and not self._usual.is_exceeded(
            look.seen, config.try_loss
        )
        reason = self._verdict(look, capacity, is_clean=is_clean)
        # Few losses may be by chance, and are no measure of what the path carries.
        is_full = self._usual.is_exceeded(look.seen, CLEARLY * config.try_loss)
        is_measured = not is_clean and (reason == "failed" or (is_full and reason == "up"))
        measured = capacity if is_measured else None
        self._conclude(now, reason, measured)
        return [RateChanged(now, self.channel, self.rate, measured, reason)]

    def _verdict(self, look: _Look, capacity: int, *, is_clean: bool) -> str:
        """Return what a try showed, as the reason of a `RateChanged`."""
        tried = self.channel + 1
        # Senders may be slower than they say, and lose nothing by it.
        is_more = look.tried > (look.bits - look.tried or self._bits_before)
        is_overrun = look.drops > self._config.own_drops
        if is_more and not is_overrun and (is_clean or self._ladder.fits(tried, capacity)):
            return "up"
        # spec: RTE-10
        is_own = self._onset is None or self._onset.is_own
        is_disturbed = not is_own or look.bits < DISTURBED * self._bits_before
        return "disturbed" if is_disturbed and not self._was_disturbed else "failed"

    def _conclude(self, now: int, reason: str, capacity: int | None) -> None:
        """Do what follows from a try; `capacity` in bit/s, None: it was not measured."""
        tried, self._onset = self.channel + 1, None
        fits, self._was_disturbed = reason == "up", reason == "disturbed"
        if capacity is not None:
            self._ladder.block_above(now, tried, capacity, fits=fits)
        if reason == "failed":
            self._ladder.fail(now, tried)
        self._enter(now, RateEvent.FITS if fits else RateEvent.FAILS)
        if fits:
            self.channel = tried
        self._begin(now)

    # States.

    def _enter(self, now: int, event: RateEvent) -> None:
        self.state = RATE_TRANSITIONS[self.state, event]
        self._changed_at = now

    def _begin(self, now: int) -> None:
        """Judge anew: what is heard has changed."""
        self._began = self._calm_since = now
        self._losing_since = self._dropping_since = None
        self._gives_way = False
        self._wait = self._ladder.drawn_wait(self.channel, gives_way=self._gives_way)
