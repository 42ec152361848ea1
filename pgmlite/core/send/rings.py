"""In which order each channel of a sender sends the object (spec: SND-6, SND-13).

What is heard on one channel has to be worth as much on every other. So each of several channels has
a territory of its own, if there are repair symbols enough for it to be whole by itself; the fastest
has the source symbols, which need no decoding. Otherwise each sends everything in an order of its
own: then some of what a receiver hears after a change it has already.
"""

from __future__ import annotations

from random import Random

from pgmlite.core.ring import Ring
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import Order

ENOUGH = 5, 4
"""So many times K, as a fraction, are the symbols of a territory that serves a receiver alone: up
to a fifth of all packets may be lost."""

ANYWHERE = 1 << 32
"""Places in a territory among which one is drawn."""


def rings_of(
    geometry: Geometry,
    channels: int,
    order: Order,
    sector: tuple[int, int] | None,
    rng: Random,
) -> list[Ring]:
    """Return the rings of a sender's channels, 0 being the slowest.

    Args:
        order: Rounds, or the random order for each; of one channel any.
        sector: i and n of i/n, with which it begins, of several channels each within its territory;
            None: somewhere.

    Raises:
        UsageError: There is no such sector.
    """
    if channels == 1:
        ring = Ring.anywhere(geometry, order, rng)
        return [Ring.of_sector(geometry, order, *sector) if sector else ring]
    if order is Order.ROUNDS and has_territories(geometry, channels):
        begins = [sector or (rng.randrange(ANYWHERE), ANYWHERE) for _ in range(channels)]
        return [
            Ring.in_territory(geometry, channels - 1 - channel, channels, *begin)
            for channel, begin in enumerate(begins)
        ]
    return [Ring.anywhere(geometry, Order.RANDOM, rng) for _ in range(channels)]


def has_territories(geometry: Geometry, channels: int) -> bool:
    """Whether each of so many channels can have a territory that is enough for a receiver."""
    if not geometry.is_coded or geometry.visits < channels:
        return False
    times, of = ENOUGH
    rings = [Ring.in_territory(geometry, number, channels) for number in range(channels)]
    return all(of * ring.turn_of.full >= times * geometry.block_symbols for ring in rings)
