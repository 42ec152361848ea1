"""Which ring each channel of a sender has, and how many repair symbols channels take."""

from __future__ import annotations

from itertools import chain
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.ring import Ring
from pgmlite.core.send.rings import has_territories, rings_of
from pgmlite.errors import UsageError
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import MOST_CHANNELS, Order

ROUNDS, RANDOM, TERRITORY = Order.ROUNDS, Order.RANDOM, Order.TERRITORY
T = 64


def laddered(symbols: int, channels: int) -> Geometry:
    """Return the sizes of an object of so many symbols for so many channels."""
    return Geometry.laddered(symbols * T - 1, T, 1_024, channels)


class TestHowManyRepairSymbols:
    @pytest.mark.parametrize(
        ("channels", "repairs"), [(2, 1_707), (3, 3_072), (4, 4_438), (5, 5_803), (6, 7_168)]
    )
    def test_a_territory_is_four_thirds_of_the_source(self, channels: int, repairs: int) -> None:
        # spec: FEC-1
        geometry = laddered(9 * 1_024 + 5, channels)
        assert geometry.repair_symbols == repairs
        assert (geometry.block_symbols, geometry.tile_blocks) == (1_024, 8)
        for number in range(channels):
            turn = Ring.in_territory(geometry, number, channels).turn_of
            assert turn.full >= 4 / 3 * 1_024 - 16
            # The last block, which has 5 symbols, has a share, and 32 more in all.
            assert turn.last > 5

    @given(st.integers(1, 3_000), st.integers(2, MOST_CHANNELS))
    def test_as_many_as_are_allowed(self, symbols: int, channels: int) -> None:
        # spec: FEC-1
        geometry = laddered(symbols, channels)
        k = geometry.block_symbols
        assert 64 <= geometry.repair_symbols <= max(7 * k, 64)
        assert (
            3 * (k + geometry.repair_symbols) >= 4 * channels * k or geometry.repair_symbols == 64
        )


class TestWhichRings:
    @given(st.integers(1, 3_000), st.integers(2, MOST_CHANNELS), st.integers(0, 99))
    def test_territories_where_each_is_enough(self, symbols: int, channels: int, seed: int) -> None:
        # spec: SND-13
        geometry = laddered(symbols, channels)
        rings = rings_of(geometry, channels, ROUNDS, None, Random(seed))
        if not has_territories(geometry, channels):
            assert {ring.order for ring in rings} == {RANDOM}
            assert len({ring.first for ring in rings}) == channels
            return
        # The fastest, which is the last, has the source symbols.
        where = [(ring.order, ring.sector, ring.sectors) for ring in rings]
        assert where == [(TERRITORY, channels - 1 - n, channels) for n in range(channels)]
        assert all(4 * ring.turn_of.full >= 5 * geometry.block_symbols for ring in rings)
        assert rings[-1].visits >= geometry.source_visits
        visits = chain(*(ring.visits_of(ring.ids(0, ring.turn)).tolist() for ring in rings))
        assert sorted(set(visits)) == list(range(geometry.visits))

    @pytest.mark.parametrize("channels", range(2, 7))
    def test_all_but_small_objects_have_them(self, channels: int) -> None:
        # spec: SND-13
        without = [
            n for n in range(1, 1_025) if not has_territories(laddered(n, channels), channels)
        ]
        assert max(without) < 300

    @pytest.mark.parametrize(
        "geometry",
        [
            Geometry(9_216 * T, T, 1_024, 512, 8),
            Geometry(9_216 * T, T, 1_024),
            Geometry(0, T, 1, 64),
            Geometry(0, T, 1),
        ],
        ids=["50%", "off", "empty", "empty and off"],
    )
    def test_with_too_few_repair_symbols_each_has_an_order_of_its_own(
        self, geometry: Geometry
    ) -> None:
        # spec: SND-13
        rings = rings_of(geometry, 3, ROUNDS, (0, 2), Random(1))
        assert [ring.order for ring in rings] == [RANDOM] * 3
        assert len({ring.first for ring in rings}) == 3

    def test_a_random_order_for_each_that_is_told_so(self) -> None:
        # spec: SND-6
        rings = rings_of(laddered(2_048, 2), 2, RANDOM, None, Random(1))
        assert [ring.order for ring in rings] == [RANDOM] * 2
        assert rings[0].first != rings[1].first

    def test_without_a_sector_each_begins_anywhere_in_its_territory(self) -> None:
        # spec: SND-6
        geometry, rng = laddered(1_024, 2), Random(1)
        drawn = [rings_of(geometry, 2, ROUNDS, None, rng) for _ in range(2_000)]
        half = geometry.visits // 2
        for channel, visits in ((0, range(half, geometry.visits)), (1, range(half))):
            assert {rings[channel].first for rings in drawn} == set(visits)

    def test_each_begins_at_the_sector_that_is_named(self) -> None:
        # spec: SND-6
        geometry = laddered(1_024, 2)
        first, second = (rings_of(geometry, 2, ROUNDS, (i, 2), Random(1)) for i in (0, 1))
        for one, other in zip(first, second, strict=True):
            assert one.first == one.sector * geometry.visits // 2
            assert other.first == one.first + one.visits // 2
            # Two such senders have nothing in common until each has sent half of the territory.
            count = one.turn * 4 // 9
            ids = [ring.ids(0, count) for ring in (one, other)]
            names = [set(zip(i.blocks.tolist(), i.esis.tolist(), strict=True)) for i in ids]
            assert not names[0] & names[1]

    def test_one_channel_is_as_ever(self) -> None:
        # spec: SND-6
        geometry = laddered(2_048, 2)
        (ring,) = rings_of(geometry, 1, Order.BLOCKS, (0, 1), Random(1))
        assert ring == Ring(geometry, Order.BLOCKS)
        drawn = [rings_of(geometry, 1, ROUNDS, None, Random(n))[0].first for n in range(99)]
        assert np.ptp(drawn) > 32

    def test_no_sector_that_is_none(self) -> None:
        with pytest.raises(UsageError, match="start"):
            rings_of(laddered(2_048, 2), 1, ROUNDS, (2, 2), Random(1))
