"""The channels of an object as a receiver knows them: what each needs, and when it may be tried."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from pgmlite.core.config_listening import RatesConfig


@dataclass(slots=True)
class _Step:
    """What is known of one channel.

    Attributes:
        rate: bit/s of one sender.
        blocked_until: It is not tried before, ns.
        failures: Times that it did not fit.
    """

    rate: int
    blocked_until: int = 0
    failures: int = 0


class Ladder:
    """Channels by number, at rising rates.

    Attributes:
        senders: That send on each channel, at its rate.
    """

    def __init__(self, config: RatesConfig, rates: tuple[int, ...], rng: Random) -> None:
        """
        Args:
            rates: bit/s of one sender.
            rng: Draws how long channels are blocked.
        """
        self._config = config
        self._rng = rng
        self._steps = [_Step(rate) for rate in rates]
        self.senders = 1

    def __len__(self) -> int:
        return len(self._steps)

    def rate(self, channel: int) -> int:
        """Return the bit/s of one sender of a channel."""
        return self._steps[channel].rate

    def needs(self, channel: int) -> int:
        """Return the bit/s of a channel, of all that send on it."""
        return self._steps[channel].rate * self.senders

    # The limit that a user gave.

    def is_allowed(self, *channels: int) -> bool:
        """Whether these channels together keep to the limit."""
        limit = self._config.limit
        return limit is None or sum(map(self.needs, channels)) <= limit

    def highest_allowed(self, most: int) -> int:
        """Return the highest channel up to `most` that the limit allows, else the lowest."""
        return next((one for one in range(most, 0, -1) if self.is_allowed(one)), 0)

    # The capacity that was measured.

    def highest_within(self, most: int, capacity: int) -> int:
        """Return the highest channel up to `most` that fits into so many bit/s, else the lowest."""
        return next((one for one in range(most, 0, -1) if self.fits(one, capacity)), 0)

    def fits(self, channel: int, capacity: int) -> bool:
        """Whether a channel fits into so many bit/s."""
        return self.needs(channel) <= self._config.headroom * capacity

    # When to go on.

    def drawn_wait(self, channel: int, *, gives_way: bool) -> int:
        """Return how long it has to be calm on a channel before the next one is tried, ns."""
        config = self._config
        # Who is low has more to gain and does less harm: they go first.
        factor = 1 + max(0, channel - 1) * config.patience
        factor *= config.gives_way if gives_way else 1
        return round(config.try_after * factor * self._rng.uniform(0.5, 1.5))

    # What is not tried for a while (spec: RTE-6).

    def is_open(self, now: int, channel: int) -> bool:
        """Whether there is such a channel, and it may be tried now."""
        return (
            channel < len(self)
            and self.is_allowed(channel)
            and now >= self._steps[channel].blocked_until
        )

    def fail(self, now: int, channel: int) -> None:
        """Block a channel that did not fit, for longer each time."""
        step, config = self._steps[channel], self._config
        doubled = min(config.block << min(step.failures, 16), config.longest_block)
        # Neighbours that found out together must not try again together.
        time = min(round(doubled * self._rng.uniform(1, 1.5)), config.longest_block)
        self._block(channel, now + time)
        step.failures += 1

    def block_above(self, now: int, tried: int, capacity: int, *, fits: bool) -> None:
        """Block the channels above one that was tried which need more than was measured.

        Args:
            fits: Whether the one that was tried did.
        """
        config = self._config
        for channel in range(tried + 1, len(self)):
            if not self.fits(channel, capacity):
                is_far = self.needs(channel) > config.short_block_up_to * capacity
                time = config.short_block if fits and not is_far else config.block
                self._block(channel, now + time)

    def _block(self, channel: int, until: int) -> None:
        step = self._steps[channel]
        step.blocked_until = max(step.blocked_until, until)
