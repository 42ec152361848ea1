"""What is lacking, against plain sets and dictionaries."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.needs import MANY, Count, Exact
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.request import NAK_ROOM, Counts, Rings, parse_request

SYMBOLS = st.sets(st.integers(0, 200))
COUNTS = st.dictionaries(st.integers(0, 20), st.integers(1, 9))
GEOMETRY = Geometry(64 * 5_000, 64, 20)


def exact(symbols: set[int]) -> Exact:
    return Exact(np.array(sorted(symbols), np.int64))


def count(numbers: dict[int, int]) -> Count:
    blocks = sorted(numbers)
    return Count(np.array(blocks, np.int64), np.array([numbers[b] for b in blocks], np.int64))


def as_set(need: Exact) -> set[int]:
    symbols = need.symbols.tolist()
    assert symbols == sorted(set(symbols))
    return set(symbols)


def as_dict(need: Count) -> dict[int, int]:
    blocks = need.blocks.tolist()
    assert blocks == sorted(set(blocks))
    return dict(zip(blocks, need.numbers.tolist(), strict=True))


class TestExact:
    @given(SYMBOLS, SYMBOLS)
    def test_is_a_set_of_symbols(self, one: set[int], other: set[int]) -> None:
        need = exact(one)
        assert (bool(need), len(need)) == (bool(one), len(one))
        assert as_set(need.less(exact(other))) == one - other
        assert as_set(need.joined(exact(other))) == one | other
        assert need.blocks_of(GEOMETRY) == sorted({symbol // 20 for symbol in one})
        if one:
            assert need.bounds == (min(one), max(one))

    def test_blocks_of_many(self) -> None:
        need = Exact(np.arange(7, 7 + 2 * MANY, 3))
        assert need.blocks_of(GEOMETRY) == sorted({s // 20 for s in need.symbols.tolist()})

    def test_a_request_says_what_fits_and_leaves_the_rest(self) -> None:
        need = exact({3 * n for n in range(4_000)})
        assert not need.fits(NAK_ROOM)
        said = set()
        while need:
            body, rest = need.pack(NAK_ROOM)
            assert len(body) <= NAK_ROOM
            said |= set(parse_request(body, 12_000).tolist())
            assert as_set(rest) == as_set(need) - said
            need = rest
        assert said == {3 * n for n in range(4_000)}
        assert exact({1, 2, 3}).fits(NAK_ROOM)


class TestCount:
    @given(COUNTS, COUNTS)
    def test_is_a_number_of_symbols_for_each_block(
        self, one: dict[int, int], other: dict[int, int]
    ) -> None:
        need = count(one)
        assert (bool(need), len(need)) == (bool(one), sum(one.values()))
        left = {b: n - other.get(b, 0) for b, n in one.items()}
        assert as_dict(need.less(count(other))) == {b: n for b, n in left.items() if n > 0}
        both = {b: max(one.get(b, 0), other.get(b, 0)) for b in one.keys() | other.keys()}
        assert as_dict(need.joined(count(other))) == both
        assert need.blocks_of(GEOMETRY) == sorted(one)
        if one:
            assert need.bounds == (min(one), max(one))

    @given(COUNTS, st.integers(0, 200))
    def test_cut(self, numbers: dict[int, int], most: int) -> None:
        first, rest = count(numbers).cut(most)
        assert len(first) == min(most, sum(numbers.values()))
        one, other = as_dict(first), as_dict(rest)
        assert {b: one.get(b, 0) + other.get(b, 0) for b in numbers} == numbers
        # As even as whole numbers allow, but for what was too much for the even share.
        level = most // max(1, len(numbers))
        assert all(one.get(block, 0) >= min(level, n) for block, n in numbers.items())

    @given(st.lists(COUNTS, max_size=4))
    def test_several_take_what_each_of_them_does(self, needs: list[dict[int, int]]) -> None:
        total: Counter[int] = Counter()
        for need in needs:
            total.update(need)
        assert as_dict(Count.union([count(need) for need in needs])) == total

    @given(st.dictionaries(st.integers(0, 400), st.integers(1, 900), min_size=1))
    def test_a_request_says_what_fits_and_leaves_the_rest(self, numbers: dict[int, int]) -> None:
        need, said = count(numbers), {}
        rings = Rings(500, 1_000, 1_000)
        fits = need.fits(NAK_ROOM)
        while need:
            body, rest = need.pack(NAK_ROOM)
            assert len(body) <= NAK_ROOM
            counts = parse_request(body, 1 << 30, rings)
            assert isinstance(counts, Counts)
            said |= dict(zip(counts.blocks.tolist(), counts.counts.tolist(), strict=True))
            assert not counts.firsts.any()
            assert fits is (not rest) or len(said) > len(counts.blocks)
            need = rest
        assert said == numbers


class TestGeometry:
    @given(st.integers(1, 5_000), st.integers(1, 25), st.data())
    def test_of_any_size(self, size: int, block_symbols: int, data: st.DataObject) -> None:
        geometry = Geometry(size, 64, block_symbols)
        total = geometry.symbols
        assert 64 * (total - 1) < size <= 64 * total
        assert sum(geometry.source(block) for block in range(geometry.blocks)) == total
        assert sum(geometry.extent(block)[1] for block in range(geometry.blocks)) == size
        symbols = np.arange(total)
        offsets, esis = geometry.offsets(symbols), geometry.esis(symbols)
        assert geometry.numbers(offsets).tolist() == symbols.tolist()
        assert geometry.names(offsets, esis).all()
        assert all(map(geometry.has, offsets.tolist(), esis.tolist()))
        assert not geometry.names(offsets, esis + 1).any()
        assert not geometry.names(offsets + 1, esis).any()
        assert not geometry.has(64 * total, 0)
        start = data.draw(st.integers(0, total - 1))
        stop = data.draw(st.integers(start + 1, total))
        first, end = geometry.bytes_of(start, stop)
        assert (first, end) == (64 * start, min(64 * stop, size))
        assert list(geometry.blocks_over(first, end)) == sorted(
            {symbol // block_symbols for symbol in range(start, stop)}
        )

    @pytest.mark.parametrize(("offset", "esi"), [(64, 0), (0, 1)])
    def test_nothing_has_one_place_only(self, offset: int, esi: int) -> None:
        nothing = Geometry(0, 64, 8)
        assert (nothing.symbols, nothing.blocks) == (0, 0)
        assert nothing.has(0, 0)
        assert not nothing.has(offset, esi)
