"""What of an object is there, against a model made of sets."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.ranges import runs
from pgmlite.core.receive.blocks import Blocks
from pgmlite.wire.geometry import Geometry, Sizes


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


class Model:
    """A set of symbols, and blocks worked out anew at every question."""

    def __init__(self, symbols: int) -> None:
        self.all = range(symbols)
        self.have: set[int] = set()
        self.block_symbols = 0

    def block(self, number: int) -> set[int]:
        size = self.block_symbols
        return set(self.all[number * size : (number + 1) * size])

    @property
    def blocks(self) -> int:
        return -(-len(self.all) // self.block_symbols) if self.block_symbols else 0

    @property
    def whole(self) -> set[int]:
        return {number for number in range(self.blocks) if self.block(number) <= self.have}


@st.composite
def batches(draw: st.DrawFn, symbols: int) -> list[int]:
    """Draw a run as it mostly comes, or any symbols in any order."""
    if draw(st.booleans()):
        start = draw(st.integers(0, symbols - 1))
        return list(range(start, draw(st.integers(start, symbols - 1)) + 1))
    return draw(st.lists(st.integers(0, symbols - 1), min_size=1, max_size=20))


class TestBlocks:
    @given(st.integers(1, 60), st.integers(1, 25), st.data())
    def test_knows_what_the_model_knows(
        self, symbols: int, block_symbols: int, data: st.DataObject
    ) -> None:
        short = data.draw(st.integers(0, 63), label="bytes missing in the last symbol")
        sizes = Sizes(64 * symbols - short, 64)
        tested, model = Blocks(sizes), Model(symbols)
        assert tested.symbols == symbols
        geometry = Geometry(sizes.size, 64, block_symbols)
        grouped_at = data.draw(st.integers(0, 5), label="step at which the manifest comes")
        for step in range(12):
            if step == grouped_at:
                model.block_symbols = block_symbols
                tested.group(geometry)
                assert set(tested.look()[0]) == model.whole
            deeds = ["add", "add", "add", "fill", "drop"] if model.block_symbols else ["add"]
            before = model.whole
            match data.draw(st.sampled_from(deeds)):
                case "add":
                    batch = data.draw(batches(symbols))
                    kept = tested.add(numbers(*batch))
                    fresh = numbers(*batch)[kept.rows].tolist()
                    assert fresh == kept.places.tolist() == sorted(set(batch) - model.have)
                    assert kept.duplicates == len(batch) - len(fresh)
                    model.have |= set(batch)
                    assert sorted(kept.whole) == sorted(model.whole - before)
                    assert kept.esis is None
                case "fill":
                    block = data.draw(st.integers(0, model.blocks - 1))
                    tested.fill(block)
                    model.have |= model.block(block)
                case "drop":
                    block = data.draw(st.integers(0, model.blocks - 1))
                    tested.drop(block)
                    model.have -= model.block(block)
            assert tested.stored == len(model.have)
            for block in range(model.blocks):
                assert tested.is_whole(block) == (block in model.whole)

    def test_what_blocks_lack(self) -> None:
        geometry = Geometry(64 * 18, 64, 5)
        blocks = Blocks(geometry)
        blocks.group(geometry)
        blocks.add(numbers(6, 7, 15, 16, 17))
        assert blocks.lacks.tolist() == [5, 3, 5, 0]
        assert blocks.had.tolist() == [0, 2, 0, 3]
        assert blocks.holds(1, np.arange(5)).tolist() == [False, True, True, False, False]
        blocks.drop(1)
        assert blocks.lacks.tolist() == [5, 5, 5, 0]
        assert not blocks.holds(1, np.arange(5)).any()

    def test_of_nothing_has_no_blocks(self) -> None:
        empty = Blocks(Sizes(0, 64))
        empty.group(Geometry(0, 64, 8))
        assert (empty.symbols, empty.look()) == (0, ([], []))

    def test_first_copy_in_a_batch_counts(self) -> None:
        kept = Blocks(Sizes(640, 64)).add(numbers(3, 5, 3))
        assert (kept.rows.tolist(), kept.places.tolist(), kept.duplicates) == ([0, 1], [3, 5], 1)

    @given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
    def test_runs_are_maximal_stretches(self, values: list[int]) -> None:
        edges = list(runs(numbers(*values)))
        assert [start for start, _ in edges] == [0, *(stop for _, stop in edges[:-1])]
        assert edges[-1][1] == len(values)
        for start, stop in edges:
            assert values[start:stop] == list(range(values[start], values[start] + stop - start))
        for (_, stop), _ in pairwise(edges):
            assert values[stop] != values[stop - 1] + 1
