"""The carousel as a schedule: what comes next, and what comes when."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.needs import Exact
from pgmlite.core.send.schedule import Carousel
from pgmlite.errors import UsageError
from pgmlite.wire.geometry import Geometry

SIZES = Geometry(64 * 250 - 3, 64, 100)


def drawn(carousel: Carousel, most: int, count: int) -> list[tuple[int, int]]:
    """Return the names of the next symbols, at least `count`, in steps of up to `most`."""
    names: list[tuple[int, int]] = []
    while len(names) < count and not carousel.is_over:
        ids = carousel.next(most)
        assert 1 <= len(ids) <= most
        names += zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True)
    return names


@given(st.integers(0, SIZES.size - 1), st.integers(1, 400), st.integers(1, 3))
def test_goes_round_and_ends(start: int, most: int, cycles: int) -> None:
    # spec: SND-6
    carousel = Carousel(SIZES, start, cycles)
    assert carousel.head == divmod(start // 64, 100)
    wanted = [divmod((start // 64 + n) % 250, 100) for n in range(250 * cycles)]
    assert drawn(carousel, most, 1 << 20) == wanted
    assert carousel.is_over
    assert (carousel.sent, carousel.cycles) == (250 * cycles, cycles)


@given(st.integers(0, 249), st.integers(0, 600), st.integers(0, 250))
def test_what_comes_later_is_what_is_drawn_later(start: int, gone: int, than: int) -> None:
    # spec: REP-5
    carousel = Carousel(SIZES, start * 64, None)
    drawn(carousel, 1, gone)
    later = carousel.later(Exact(np.arange(250)), than).symbols
    assert SIZES.ids(later).blocks.tolist() == (later // 100).tolist()
    # The first that comes has none before it, and so on.
    order = [block * 100 + esi for block, esi in drawn(carousel, 7, 250)][:250]
    assert later.tolist() == sorted(order[than + 1 :])


@given(st.integers(1, 300), st.integers(1, 300))
def test_what_did_not_leave_comes_again(sent: int, back: int) -> None:
    # spec: SND-12
    carousel = Carousel(SIZES, 0, 3)
    names = drawn(carousel, 1, sent)
    back = min(back, sent)
    carousel.back(back)
    assert names[: sent - back] + drawn(carousel, 50, 1 << 20) == [
        divmod(n % 250, 100) for n in range(750)
    ]


def test_an_end_that_is_taken_back_is_none() -> None:
    carousel = Carousel(SIZES, 0, 1)
    drawn(carousel, 100, 250)
    assert carousel.is_over
    carousel.back(1)
    assert not carousel.is_over
    assert drawn(carousel, 100, 1) == [(2, 49)]


def test_an_empty_object_has_nothing_to_send() -> None:
    carousel = Carousel(Geometry(0, 64, 100), 0, 1)
    assert carousel.is_over
    assert (carousel.head, carousel.cycles) == ((0, 0), 0)
    carousel.back(0)


@pytest.mark.parametrize("start", [SIZES.size, 1 << 70])
def test_a_start_lies_inside_the_object(start: int) -> None:
    with pytest.raises(UsageError, match="start"):
        Carousel(SIZES, start, None)
