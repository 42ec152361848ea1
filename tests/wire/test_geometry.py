"""The sizes that a sender chooses, and how many repair symbols blocks have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.wire.digests import digest
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.manifest import Manifest, parse_manifest

T = 64


def planned(symbols: int, fec: float = 0.5) -> tuple[int, int, int]:
    """Return K, M and D of an object of so many symbols, the last of them short."""
    size = max(0, symbols * T - 1)
    of = Geometry.planned(size, T, 1_024, fec)
    assert (of.size, of.symbol_size, of.symbols) == (size, T, symbols)
    return of.block_symbols, of.repair_symbols, of.tile_blocks


class TestPlanned:
    @pytest.mark.parametrize(
        ("symbols", "chosen"),
        [
            (0, (1, 64, 1)),
            (1, (1, 64, 1)),
            (2, (2, 64, 1)),
            (129, (129, 65, 1)),
            (1_023, (1_023, 512, 1)),
            (1_024, (1_024, 512, 1)),
            (1_025, (1_024, 512, 2)),
            (8 * 1_024, (1_024, 512, 8)),
            (100 * 1_024, (1_024, 512, 8)),
        ],
    )
    def test_by_default(self, symbols: int, chosen: tuple[int, int, int]) -> None:
        # spec: OBJ-3, FEC-1
        assert planned(symbols) == chosen

    @pytest.mark.parametrize(
        ("symbols", "fec", "repairs"),
        [
            (2_048, 1.0, 1_024),
            (2_048, 7.0, 7_168),
            (2_048, 0.01, 64),
            (2_048, 0.07, 72),
            (1_000, 0.07, 70),  # in floats 70.00000000000001
            (100, 1.0, 100),
            (5, 7.0, 64),
            (1, 0.01, 64),
        ],
    )
    def test_as_many_as_told_but_64_at_least(self, symbols: int, fec: float, repairs: int) -> None:
        # spec: FEC-1
        assert planned(symbols, fec)[1] == repairs

    @pytest.mark.parametrize("symbols", [0, 1, 1_000, 1_025, 100_000])
    def test_plain_objects_have_none(self, symbols: int) -> None:
        # spec: FEC-1
        assert planned(symbols, 0) == (max(1, min(1_024, symbols)), 0, 1)

    @given(st.integers(0, 1 << 40), st.sampled_from([64, 1_404]), st.floats(0.01, 7))
    def test_it_is_what_manifests_may_say(self, size: int, symbol_size: int, fec: float) -> None:
        # spec: FEC-1, MAN-3
        of = Geometry.planned(size, symbol_size, 1_024, fec)
        sizes = (of.symbol_size, of.block_symbols, of.size)
        root = bytes(32) if size else digest(b"")
        manifest = Manifest(*sizes, root, "n", (), of.repair_symbols, of.tile_blocks)
        assert parse_manifest(manifest.raw).geometry == of


class TestRepairs:
    @pytest.mark.parametrize(
        ("last", "repairs"), [(1_024, 512), (1_023, 512), (961, 512), (960, 512), (5, 35), (1, 33)]
    )
    def test_of_a_short_last_block(self, last: int, repairs: int) -> None:
        # spec: FEC-2
        of = Geometry((1_024 + last) * T, T, 1_024, 512, 2)
        assert (of.repairs(0), of.repairs(1)) == (512, repairs)
        assert (of.ring(0), of.ring(1)) == (1_536, last + repairs)

    def test_never_more_than_others_have(self) -> None:
        # spec: FEC-2
        of = Geometry((1_024 + 900) * T, T, 1_024, 64, 2)
        assert of.repairs(1) == 64

    @given(st.integers(1, 3_000), st.sampled_from([0.0, 0.5, 2.0]))
    def test_they_are_told_from_source_symbols(self, symbols: int, fec: float) -> None:
        # spec: PKT-4, FEC-2
        of = Geometry.planned(symbols * T - 1, T, 1_024, fec)
        for block in {0, of.blocks - 1}:
            esis = np.arange(of.ring(block))
            offsets = np.full(len(esis), block * of.block_size)
            are_repairs = esis >= of.source(block)
            assert of.repairs_at(offsets, esis).tolist() == are_repairs.tolist()
            beyond = np.array([of.ring(block)])
            assert not of.repairs_at(offsets[:1], beyond).any()
            assert not of.repairs_at(offsets + T, esis).any()
