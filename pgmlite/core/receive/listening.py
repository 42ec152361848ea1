"""Which groups are heard, and from whom: what a receiver joins and leaves (spec: NET-13, RTE-1).

Membership is (group, source), on the one interface of the receiver. Sources and channels are
chosen apart: `Sources` says whom to hear, `Rates` on which of an object's channels, and everybody
sends on every channel.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random

from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.events import Warned
from pgmlite.core.machine import SECOND, Action, DnsAnswer, Join, Leave
from pgmlite.core.reach import is_near
from pgmlite.core.receive.rates import Rates
from pgmlite.core.receive.sources import Sources
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.manifest import Manifest, Rung

Membership = tuple[Endpoint, str]
"""Group and source."""

ANY_CHANNEL = None
"""Whatever comes is heard: there is no ladder to choose from."""


class Listening:
    """What one receiver hears: a part of its machine.

    Attributes:
        joined: What it is a member of.
        channels: Numbers of the channels that are heard; `ANY_CHANNEL`: all that come.
        rates: Chooses the channel; None: there is nothing to choose.
    """

    def __init__(
        self,
        groups: Collection[Endpoint],
        sources: Sources,
        config: RatesConfig | None = None,
        rng: Random | None = None,
    ) -> None:
        """
        Args:
            groups: Those that a user named; none: `sources` has a service, which says them.
            config: How channels are chosen; None: as by default.
            rng: Draws how long to wait before tries.
        """
        self.joined: frozenset[Membership] = frozenset()
        self.channels: frozenset[int] | None = ANY_CHANNEL
        self.rates: Rates | None = None
        self._home = self._named = frozenset(groups)
        """What the user or the service named, and what is heard without a channel to choose."""

        self._sources = sources
        self._config = config or RatesConfig()
        self._rng = rng or Random(0)
        self._ladder: tuple[Rung, ...] | None = None
        """Of an object; None: no manifest came yet."""

        self._service: tuple[Rung, ...] = ()
        """The channels that a service has."""

        self._told: frozenset[int] | None = ANY_CHANNEL
        """The channels as of the latest `has_changed`."""

        self._heard_since = 0
        self._seconds: list[float] = []
        self._heard_at = 0
        """When something of an object came last, or other groups were joined, ns."""

        self._is_lost = False
        """Nothing came of what is heard for long: the groups that were named are heard besides."""

    # What drivers and reports ask.

    @property
    def deadline(self) -> int | None:
        """When to call `tick` next, ns; None: only after something came."""
        times = (
            self._sources.deadline,
            self.rates.deadline if self.rates else None,
            self._heard_at + self._config.lost_after if self._is_away else None,
        )
        return min((one for one in times if one is not None), default=None)

    def hears(self, channel: int) -> bool:
        """Whether what comes on a channel says something about it: it was not left (RTE-9)."""
        return self.channels is ANY_CHANNEL or channel in self.channels

    def has_changed(self) -> bool:
        """Whether other channels are heard than when this was asked before."""
        before, self._told = self._told, self.channels
        return before != self.channels

    def channel_seconds(self, now: int) -> tuple[float, ...]:
        """Return how long each channel of the ladder was heard, s; none without a ladder."""
        self._count_time(now)
        return tuple(round(one, 3) for one in self._seconds)

    # The contract.

    def start(self, now: int) -> list[Action]:
        """Begin to listen."""
        return self._sources.start(now) + self._hear_service(now)

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take packets of an object that is being received."""
        self._heard_at = now
        if self.rates:
            self.rates.receive(batch)
        actions = self._sources.receive(now, batch.source.address)
        if self._is_lost and self.channels is not ANY_CHANNEL and batch.channel in self.channels:
            self._is_lost = False
            actions += self._follow()
        return actions

    def resolved(self, now: int, answer: DnsAnswer) -> list[Action]:
        """Take what DNS says of who sends, and where.

        Raises:
            NetworkError: The service is decidedly not offered, and no answer came before.
        """
        actions = self._sources.resolved(now, answer)
        return actions + self._hear_service(now)

    def adopt(self, now: int, manifest: Manifest) -> list[Action]:
        """Take what an object's manifest says of who sends, and where."""
        families = {":" in group.address for group in self._groups}
        named = [endpoint.address for endpoint in manifest.repairers]
        self._sources.adopt([address for address in named if (":" in address) in families])
        return self.climb(now, manifest.ladder)

    def climb(self, now: int, ladder: Sequence[Rung]) -> list[Action]:
        """Take the channels that there are, by number; hear those that are wanted."""
        ladder = tuple(ladder)
        if ladder == self._ladder:
            return self._follow()
        self._count_time(now)
        self._heard_at = now
        self._named = self._home if self._is_lost else frozenset(self._groups)
        self._is_lost = False
        self._ladder, self.rates, self.channels = ladder, None, ANY_CHANNEL
        self._seconds = [0.0] * len(ladder)
        told = [*self._choose(now, ladder)] if ladder else self._refuse_choice(now)
        return [*told, *self._follow()]

    def dropped(self, total: int) -> None:
        """Take how many packets the own system has dropped since the start."""
        if self.rates:
            self.rates.dropped(total)

    def tick(self, now: int, progress: tuple[int, int] = (0, 0)) -> list[Action]:
        """Do what is due.

        Args:
            progress: Symbols of the object that are stored, and all.
        """
        if self.deadline is None or now < self.deadline:
            return []
        actions = self._sources.tick(now)
        if self.rates:
            stored, symbols = progress
            told = self.rates.tick(now, stored / max(1, symbols))
            if told:
                actions += [*told, *self._hear(now, self.rates.wanted)]
        if self._is_away and now - self._heard_at >= self._config.lost_after:
            actions += self._come_back(now)
        return actions + self._hear_service(now)

    # Channels.

    def _choose(self, now: int, ladder: tuple[Rung, ...]) -> list[Action]:
        """Begin to choose among the channels of a ladder, or hear what a user named of them."""
        places = _places(ladder, self._named)
        if why_not := _why_not(ladder, places):
            self._seconds = []
            return [_warning(now, why_not)] if self._named else []
        rates = tuple(rung.rate for rung in ladder)
        if self._config.channels is None:
            self.rates = Rates(self._config, rates, first=min(places), rng=self._rng)
            told: list[Action] = [*self.rates.start(now), *self._tell_of_limit(now, rates)]
            self._hear_first(now, self.rates.wanted)
            return told
        wanted = [number for number in self._config.channels if number < len(ladder)]
        told = []
        if len(wanted) < len(self._config.channels):
            told.append(_warning(now, f"the object has channels 0 to {len(ladder) - 1} only"))
        wanted = wanted or [len(ladder) - 1]
        allowed = self._within_limit(rates, wanted)
        over = self._tell_of_limit(now, rates)
        if allowed != wanted and not over:
            numbers = ", ".join(map(str, allowed))
            told.append(_warning(now, f"the rate limit allows channels {numbers} only"))
        self._hear_first(now, frozenset(allowed))
        return [*told, *over]

    @property
    def _is_away(self) -> bool:
        """Whether something that was named is not heard."""
        return bool(self.joined) and not self._is_lost and not self._home <= set(self._groups)

    def _come_back(self, now: int) -> list[Action]:
        """Hear again what was named: of what is heard nothing came for long (spec: RTE-14)."""
        self._heard_at = now
        places = _places(self._ladder or (), self._home)
        if self.rates and places:
            told = self.rates.come_back(now, min(places))
            return [*told, *self._hear(now, self.rates.wanted)]
        self._is_lost = True
        return self._follow()

    def _hear_service(self, now: int) -> list[Action]:
        """Hear what is wanted of the channels that a service has, as long as no object says more.

        Where nothing comes from a service any more, it may have moved to other groups.
        """
        service = self._sources.ladder
        if service == self._service:
            return self._follow()
        self._service = service
        rates = tuple(rung.rate for rung in service)
        wanted = [number for number in self._config.channels or () if number < len(rates)]
        if not wanted:
            limit = self._config.limit
            fit = [number for number, rate in enumerate(rates) if limit and rate <= limit]
            wanted = fit[-1:] or [0]
        self._count_time(now)
        ladder, self._ladder, self.rates, self.channels = self._ladder, None, None, ANY_CHANNEL
        self._home = frozenset(service[one].group for one in self._within_limit(rates, wanted))
        self._named, self._is_lost = self._home, False
        return self._follow() if ladder is None else self.climb(now, ladder)

    def _within_limit(self, rates: tuple[int, ...], wanted: list[int]) -> list[int]:
        """Return the lowest of the channels that the limit allows together, one at least."""
        if self._config.limit is None:
            return wanted
        limit = self._config.limit
        allowed: list[int] = []
        for number in wanted:
            limit -= rates[number]
            if limit >= 0:
                allowed.append(number)
        below = [one for one in range(wanted[0]) if rates[one] <= self._config.limit]
        return allowed or below[-1:] or [0]

    def _tell_of_limit(self, now: int, rates: tuple[int, ...]) -> list[Action]:
        """Say so if no channel keeps to the limit: the lowest is heard all the same (RTE-2)."""
        if self._config.limit is None or rates[0] <= self._config.limit:
            return []
        return [_warning(now, "even the lowest channel has more than the rate limit")]

    def _refuse_choice(self, now: int) -> list[Action]:
        """Say so if a user chose of channels, and there is one only."""
        if self._config.channels is None:
            return []
        return [_warning(now, "channels can't be chosen: the object has only one")]

    def _hear_first(self, now: int, channels: frozenset[int]) -> None:
        self._heard_since, self.channels = now, channels

    def _hear(self, now: int, channels: frozenset[int]) -> list[Action]:
        """Hear these channels from now on, and no others."""
        self._count_time(now)
        self.channels = channels
        return self._follow()

    def _count_time(self, now: int) -> None:
        """Add the time since the last change to the channels that are heard."""
        for channel in self.channels or ():
            self._seconds[channel] += (now - self._heard_since) / SECOND
        self._heard_since = now

    # Membership.

    @property
    def _groups(self) -> Collection[Endpoint]:
        home = self._home if self._is_lost else frozenset()
        if self.channels is ANY_CHANNEL or not self._ladder:
            return self._named | home
        return {self._ladder[channel].group for channel in self.channels} | home

    def _follow(self) -> list[Action]:
        """Join and leave what makes the difference to what is wanted."""
        wanted = {(group, source) for group in self._groups for source in self._sources.wanted}
        gone, new = self.joined - wanted, wanted - self.joined
        self.joined = frozenset(wanted)
        return [
            *(
                Leave(group, source, "channel" if source in self._sources.wanted else "source")
                for group, source in sorted(gone)
            ),
            *(Join(group, source) for group, source in sorted(new)),
        ]


def _places(ladder: Sequence[Rung], groups: Collection[Endpoint]) -> list[int]:
    """Return which channels of a ladder are heard in these groups."""
    return [number for number, rung in enumerate(ladder) if rung.group in groups]


def _why_not(ladder: Sequence[Rung], places: Sequence[int]) -> str:
    """Return why nothing is chosen of a ladder of which `places` are heard; empty: it may be."""
    if not places:
        first = ladder[0].group
        return (
            "the group that is heard is none of the object's channels: its rate can't be chosen; "
            f"join {first.address} port {first.port} instead"
        )
    heard = ladder[places[0]].group
    # spec: RTE-13
    if far := [rung.group for rung in ladder if not is_near(rung.group, heard)]:
        return f"the object says that {far[0]} is a channel beside {heard}: not believed"
    return ""


def _warning(now: int, text: str) -> Warned:
    return Warned(now, text, "channels", {})
