"""The carousel as a schedule: what comes next, and where it stands."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.needs import Exact
from pgmlite.core.ring import Ring
from pgmlite.core.send.schedule import Carousel
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import Order

PLAIN = Ring(Geometry(64 * 250 - 3, 64, 100), Order.BLOCKS)
CODED = Ring(Geometry(64 * 250 - 3, 64, 100, 64, 2), first=3)

RINGS = st.sampled_from([PLAIN, CODED])


def names_of(ring: Ring, place: int, count: int) -> list[tuple[int, int]]:
    """Return what a ring has from a place on."""
    ids = ring.ids(place, count)
    return list(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True))


def drawn(carousel: Carousel, most: int, count: int) -> list[tuple[int, int]]:
    """Return the names of the next symbols, at least `count`, in steps of up to `most`."""
    names: list[tuple[int, int]] = []
    while len(names) < count and not carousel.is_over:
        ids = carousel.next(most)
        assert 1 <= len(ids) <= most
        step = list(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True))
        # The last symbol is short.
        assert (2, 49) not in step[:-1]
        names += step
    return names


@given(RINGS, st.integers(1, 400), st.integers(1, 3))
def test_sends_so_many_lengths_of_its_ring(ring: Ring, most: int, cycles: int) -> None:
    # spec: SND-6, SND-9
    carousel = Carousel(ring, cycles)
    assert carousel.position == ring.position(0)
    assert drawn(carousel, most, 1 << 20) == names_of(ring, 0, 250 * cycles)
    assert carousel.is_over
    assert (carousel.sent, carousel.cycles) == (250 * cycles, cycles)
    assert carousel.position == ring.position(250 * cycles)


@given(RINGS, st.integers(0, 600), st.integers(0, 300))
def test_what_comes_later_is_what_is_drawn_later(ring: Ring, gone: int, than: int) -> None:
    # spec: REP-5
    carousel = Carousel(ring, None)
    drawn(carousel, 1, gone)
    later = carousel.later(Exact(np.arange(250)), than).symbols
    # The first that comes has none before it, and so on.
    comes: dict[int, int] = {}
    for number, (block, esi) in enumerate(drawn(carousel, 7, ring.turn)):
        if esi < ring.geometry.source(block):
            comes.setdefault(block * 100 + esi, number)
    assert later.tolist() == [symbol for symbol in range(250) if comes[symbol] > than]


@given(RINGS, st.integers(1, 720), st.integers(1, 300))
def test_what_did_not_leave_comes_again(ring: Ring, sent: int, back: int) -> None:
    # spec: SND-12
    carousel = Carousel(ring, 3)
    names = drawn(carousel, 1, sent)
    back = min(back, sent)
    carousel.back(back)
    assert names[: sent - back] + drawn(carousel, 50, 1 << 20) == names_of(ring, 0, 750)


def test_an_end_that_is_taken_back_is_none() -> None:
    carousel = Carousel(PLAIN, 1)
    drawn(carousel, 100, 250)
    assert carousel.is_over
    carousel.back(1)
    assert not carousel.is_over
    assert drawn(carousel, 100, 1) == [(2, 49)]


def test_an_empty_object_has_nothing_to_send() -> None:
    carousel = Carousel(Ring(Geometry(0, 64, 100), Order.BLOCKS), 1)
    assert carousel.is_over
    assert (carousel.sent, carousel.cycles) == (0, 0)
    carousel.back(0)
