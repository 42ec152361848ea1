"""What lies where in the blocks of an object with repair symbols, against a model of sets."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core.machine import LYING
from pgmlite.core.receive.blocks import Blocks, HeldBefore, Kept
from pgmlite.core.receive.coded import SPARE_SYMBOLS, SUSPECT_SYMBOLS, CodedBlocks
from pgmlite.core.receive.counts import (
    BLOCK_TRANSITIONS,
    EXTRA,
    BlockEvent,
    BlockState,
)
from pgmlite.core.receive.decoding import Decoding
from pgmlite.core.receive.digests import VerifiedTree
from pgmlite.core.receive.origins import Origins
from pgmlite.wire.geometry import Geometry, Ids
from tests.support.builders import make_object

SIZE = 64
PLENTY = 1 << 20


def numbers(values) -> np.ndarray:
    return np.array(list(values), np.int64)


def ids(named) -> Ids:
    return Ids(numbers(block for block, _ in named), numbers(esi for _, esi in named))


def payload(named) -> np.ndarray:
    """Return symbols that say who they are."""
    rows = np.zeros((len(named), SIZE), np.uint8)
    for row, (block, esi) in zip(rows, named, strict=True):
        row[:4] = block, esi % 256, esi // 256, 1
    return rows


def source(geometry: Geometry, *blocks: int) -> list[tuple[int, int]]:
    return [(block, esi) for block in blocks for esi in range(geometry.source(block))]


class Disk:
    """What was stored: symbols by place, each with its name."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.places: dict[int, tuple[int, int]] = {}

    def store(self, tested: CodedBlocks, kept: Kept, named) -> list[int]:
        """Write what is kept; return the places that may be written over."""
        rows = payload(named)[kept.rows]
        esis = self.geometry.esis(kept.places) if kept.esis is None else kept.esis
        assert len(rows) == len(kept.places) == len(esis)
        assert (np.diff(kept.places) > 0).all()
        for place, esi, row in zip(kept.places.tolist(), esis.tolist(), rows, strict=True):
            assert place not in self.places
            block = place // self.geometry.block_symbols
            assert row[:3].tolist() == [block, esi % 256, esi // 256]
            self.places[place] = (block, esi)
        written: list[int] = []
        filled: list[int] = []
        for together in tested.runs(kept.places, may_fill=True):
            stops = [offset // SIZE + stop - start for offset, start, stop in together]
            starts = [offset // SIZE for offset, _, _ in together]
            for start, stop in zip(starts, stops, strict=True):
                written += range(start, stop)
            for stop, start in zip(stops, starts[1:], strict=False):
                filled += range(stop, start)
        assert written == kept.places.tolist()
        assert not set(filled) & self.places.keys()
        return filled


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    block_symbols = draw(st.integers(1, 12))
    symbols = draw(st.integers(1, 4 * block_symbols))
    return Geometry(
        SIZE * symbols - draw(st.integers(0, SIZE - 1)),
        SIZE,
        min(block_symbols, symbols),
        draw(st.integers(1, 20)),
        draw(st.integers(1, 3)),
    )


class TestPlaces:
    @settings(max_examples=200)
    @given(geometries(), st.data())
    def test_every_symbol_that_is_kept_lies_somewhere_once(
        self, geometry: Geometry, data: st.DataObject
    ) -> None:
        tested, disk = CodedBlocks(geometry, PLENTY), Disk(geometry)
        every = [
            (block, esi) for block in range(geometry.blocks) for esi in range(geometry.ring(block))
        ]
        held: set[tuple[int, int]] = set()
        for _ in range(data.draw(st.integers(1, 8))):
            named = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=30))
            states = tested.counts.states.copy()
            kept = tested.add(ids(named), payload(named))
            disk.store(tested, kept, named)
            lying = {
                (block, int(value) - 1)
                for block in range(geometry.blocks)
                for value in tested.places.of(block)
                if value
            }
            assert lying == set(disk.places.values())
            spare = {
                (block, esi)
                for block in range(geometry.blocks)
                for esi in tested.surplus(block)[1].tolist()
            }
            assert not lying & spare
            for block, esi in spare:
                # All places are taken.
                assert tested.places.of(block).all()
                row = tested.surplus(block)[0][tested.surplus(block)[1].tolist().index(esi)]
                assert row[:3].tolist() == [block, esi % 256, esi // 256]
            fresh = set(named) - held
            held |= lying | spare
            new = len((lying | spare) & fresh)
            assert len(kept.places) + kept.spare == new
            assert kept.duplicates + kept.unneeded == len(named) - new
            for block in range(geometry.blocks):
                had = sum(one == block for one, _ in held)
                assert tested.counts.had[block] == had
                assert had >= min(
                    geometry.source(block), sum(one == block for one, _ in held | fresh)
                )
                own = range(1, geometry.source(block) + 1)
                if tested.places.of(block).tolist() == list(own):
                    assert tested.is_whole(block)
                    assert (block in kept.whole) == (states[block] == BlockState.OPEN)
            assert tested.stored == sum(
                min(int(tested.counts.had[block]), geometry.source(block))
                for block in range(geometry.blocks)
            )
            gone = {
                symbol
                for start, stop in tested.gaps
                for symbol in range(start // SIZE, -(-stop // SIZE))
            }
            assert gone == {
                block * geometry.block_symbols + esi
                for block in range(geometry.blocks)
                for esi in range(geometry.source(block))
                if (block, esi) not in held
            }

    def test_source_symbols_go_to_their_places_and_others_from_the_top_down(self) -> None:
        # spec: FEC-6
        geometry = Geometry(16 * SIZE, SIZE, 8, 8, 2)
        tested = CodedBlocks(geometry, PLENTY)
        # A tile: the blocks take turns.
        named = [(block, esi) for esi in (8, 9, 10) for block in (0, 1)]
        kept = tested.add(ids(named), payload(named))
        assert kept.places.tolist() == [5, 6, 7, 13, 14, 15]
        assert kept.esis is not None
        assert kept.esis.tolist() == [8, 9, 10] * 2
        assert kept.rows.tolist() == [0, 2, 4, 1, 3, 5]
        named = [(0, 4), (0, 5)]
        kept = tested.add(ids(named), payload(named))
        assert kept.places.tolist() == [3, 4]
        assert kept.esis is not None
        assert kept.esis.tolist() == [5, 4]
        kept = tested.add(ids([(0, 0), (0, 1)]), payload([(0, 0), (0, 1)]))
        assert (kept.rows, kept.esis) == (slice(0, 2), None)
        assert tested.places.of(0).tolist() == [1, 2, 0, 6, 5, 9, 10, 11]

    def test_a_block_with_all_its_source_symbols_needs_no_others(self) -> None:
        geometry = Geometry(8 * SIZE, SIZE, 8, 8)
        tested = CodedBlocks(geometry, PLENTY)
        named = source(geometry, 0)
        assert tested.add(ids(named), payload(named)).whole == (0,)
        more = [(0, 8), (0, 9), (0, 3)]
        kept = tested.add(ids(more), payload(more))
        assert (kept.duplicates, kept.unneeded, kept.spare) == (1, 2, 0)
        assert not len(tested.surplus(0)[1])

    def test_all_source_symbols_in_foreign_places_are_enough(self) -> None:
        geometry = Geometry(4 * SIZE, SIZE, 4, 8)
        tested = CodedBlocks(geometry, PLENTY)
        for named in ([(0, 4)], [(0, 3)], [(0, 0), (0, 1)]):
            assert not tested.add(ids(named), payload(named)).enough
        kept = tested.add(ids([(0, 2)]), payload([(0, 2)]))
        assert (kept.spare, kept.enough, kept.whole) == (1, (0,), ())
        assert tested.places.missing(0) == 0

    def test_state_is_three_and_a_half_bytes_a_symbol(self) -> None:
        geometry = Geometry(1 << 30, 1_024, 1_024, 512, 8)
        tested = CodedBlocks(geometry, PLENTY)
        parts = (tested.places, tested.counts)
        arrays = [one for part in parts for one in vars(part).values()]
        held = sum(one.nbytes for one in arrays if isinstance(one, np.ndarray))
        assert held <= 3.52 * geometry.symbols


class TestSurplus:
    GEOMETRY = Geometry(4 * 8 * SIZE, SIZE, 8, 200, 2)

    def filled(self, *blocks: int, limit: int = PLENTY) -> CodedBlocks:
        """Return blocks whose places are all taken by repair symbols."""
        tested = CodedBlocks(self.GEOMETRY, limit)
        named = [(block, 8 + esi) for block in blocks for esi in range(8)]
        kept = tested.add(ids(named), payload(named))
        assert len(kept.places) == len(named)
        return tested

    @staticmethod
    def more(tested: CodedBlocks, block: int, count: int, first: int = 16) -> Kept:
        named = [(block, first + step) for step in range(count)]
        return tested.add(ids(named), payload(named))

    def test_is_bounded_for_each_block(self) -> None:
        tested = self.filled(0)
        kept = self.more(tested, 0, 100)
        assert (kept.spare, kept.unneeded, kept.enough) == (
            SPARE_SYMBOLS,
            100 - SPARE_SYMBOLS,
            (0,),
        )
        tested.reopen(0, 8 + SUSPECT_SYMBOLS, is_suspect=True)
        assert self.more(tested, 0, 100, first=50).spare == SUSPECT_SYMBOLS - SPARE_SYMBOLS
        # What was not kept may come again.
        tested.drop(0)
        assert len(self.more(tested, 0, 8, first=50).places) == 8

    def test_a_block_may_have_what_it_was_found_to_lack(self) -> None:
        tested = self.filled(0)
        tested.reopen(0, 8 + 12, is_suspect=False)
        kept = self.more(tested, 0, 100)
        assert (kept.spare, kept.enough) == (12, (0,))

    def test_is_bounded_in_all_and_who_waits_anyway_makes_room(self) -> None:
        tested = self.filled(0, 1, 2, limit=12 * SIZE + 3 * 256)
        for block in (0, 1):
            tested.reopen(block, 8 + 24, is_suspect=True)
            assert self.more(tested, block, 5).spare == 5
        assert self.more(tested, 2, 6).spare == 6
        # The first that has to wait for more has lost its symbols.
        assert len(tested.surplus(0)[1]) == 0
        assert tested.counts.had[0] == 8
        assert len(tested.surplus(1)[1]) == 5
        assert self.more(tested, 0, 5).spare == 5

    def test_a_block_that_has_enough_keeps_its_own(self) -> None:
        tested = self.filled(0, 1, limit=4 * SIZE + 256)
        assert self.more(tested, 0, 4).enough == (0,)
        kept = self.more(tested, 1, 4)
        assert (kept.spare, kept.unneeded, kept.enough) == (0, 4, ())
        assert len(tested.surplus(0)[1]) == 4

    def test_a_block_makes_no_room_for_itself(self) -> None:
        tested = self.filled(0, limit=4 * SIZE + 256)
        tested.reopen(0, 8 + 24, is_suspect=True)
        assert self.more(tested, 0, 4).spare == 4
        assert self.more(tested, 0, 2, first=30).spare == 0
        assert tested.surplus(0)[1].tolist() == [16, 17, 18, 19]

    def test_while_a_block_is_decoded_its_places_stay(self) -> None:
        tested = self.filled(0)
        tested.forget(0, numbers([8]))
        tested.counts.move(0, BlockEvent.ENOUGH)
        named = [(0, 0), (0, 100)]
        kept = tested.add(ids(named), payload(named))
        assert (len(kept.places), kept.spare) == (0, 2)
        tested.reopen(0, 11, is_suspect=False)
        kept = tested.add(ids([(0, 1)]), payload([(0, 1)]))
        assert kept.places.tolist() == [0]

    def test_what_is_forgotten_makes_room(self) -> None:
        tested = self.filled(0)
        self.more(tested, 0, 3)
        tested.forget(0, numbers([8, 17, 150]))
        assert tested.counts.had[0] == 9
        assert sorted(tested.surplus(0)[1].tolist()) == [16, 18]
        assert np.count_nonzero(tested.places.of(0)) == 7
        # It may come again.
        kept = tested.add(ids([(0, 8)]), payload([(0, 8)]))
        assert len(kept.places) == 1

    def test_a_short_symbol_is_filled_up(self) -> None:
        geometry = Geometry(8 * SIZE - 10, SIZE, 8, 20)
        tested = CodedBlocks(geometry, PLENTY)
        named = [(0, 8 + esi) for esi in range(8)]
        tested.add(ids(named), payload(named))
        tested.add(ids([(0, 7)]), np.full((1, SIZE - 10), 7, np.uint8))
        ((row,), esis) = tested.surplus(0)
        assert esis.tolist() == [7]
        assert row.tolist() == [7] * (SIZE - 10) + [0] * 10


class TestRecords:
    @given(geometries(), st.data())
    def test_whatever_a_record_says_no_symbol_is_there_twice(
        self, geometry: Geometry, data: st.DataObject
    ) -> None:
        plain, tested = Blocks(geometry), CodedBlocks(geometry, PLENTY)
        lying = np.array(
            data.draw(st.lists(st.integers(0, 30), max_size=geometry.symbols + 3)), LYING
        )
        size = data.draw(st.sampled_from([geometry.block_symbols, 3]))
        first = data.draw(st.integers(0, geometry.symbols))
        before = HeldBefore(first, lying, size)
        if data.draw(st.booleans()):  # before the manifest
            plain.hold(before)
            tested.places.take(plain.have, plain.touched)
            for foreign in plain.foreign:
                tested.hold(foreign)
        else:
            tested.hold(before)
        for block in range(geometry.blocks):
            found = [int(value) - 1 for value in tested.places.of(block) if value]
            assert len(set(found)) == len(found) == tested.counts.had[block]
            assert all(esi < geometry.ring(block) for esi in found)
            assert tested.holds(block, numbers(found)).all()
            # Own symbols are believed, whatever else it says.
            start = block * geometry.block_symbols
            for place in range(start, start + geometry.source(block)):
                at = place - first
                if 0 <= at < len(lying) and lying[at] == place % size + 1:
                    assert tested.places.of(block)[place - start] == place - start + 1

    @staticmethod
    def held(*records: tuple[int, list[int], int]) -> list[int]:
        """Return what lies in two blocks of four after records, (first place, lying, K)."""
        tested = CodedBlocks(Geometry(8 * SIZE, SIZE, 4, 8), PLENTY)
        for first, lying, size in records:
            tested.hold(HeldBefore(first, np.array(lying, LYING), size))
        return [*tested.places.of(0).tolist(), *tested.places.of(1).tolist()]

    def test_a_symbol_that_is_there_twice_lies_in_its_own_place(self) -> None:
        assert self.held((0, [4, 7, 6, 4], 4)) == [0, 7, 6, 4, 0, 0, 0, 0]
        assert self.held((2, [7, 7, 7, 7], 4)) == [0, 0, 7, 0, 7, 0, 0, 0]

    def test_the_first_record_of_a_symbol_stays(self) -> None:
        assert self.held((0, [0, 1], 4), (0, [1, 9, 9], 4)) == [0, 1, 9, 0, 0, 0, 0, 0]

    def test_places_of_other_blocks_say_nothing_of_foreign_symbols(self) -> None:
        assert self.held((0, [1, 3, 2, 4, 7, 2], 2)) == [1, 0, 0, 0, 0, 2, 0, 0]

    def test_symbols_that_there_are_not(self) -> None:
        assert self.held((0, [13, 12, 500], 4)) == [0, 12, 0, 0, 0, 0, 0, 0]

    def test_what_is_there_is_looked_at(self) -> None:
        geometry = Geometry(12 * SIZE, SIZE, 4, 8)
        tested = CodedBlocks(geometry, PLENTY)
        lying = np.array([1, 2, 3, 4, 2, 1, 4, 3, 5, 6, 7, 8], LYING)
        tested.hold(HeldBefore(0, lying, 4))
        assert tested.look() == ([0], [1])
        assert tested.counts.lacks.tolist() == [0, EXTRA, EXTRA]


class TestDecoding:
    def decoding(self) -> tuple[CodedBlocks, Decoding]:
        """Return a block that has enough, and waits for its turn."""
        sample = make_object(8 * SIZE, repair_symbols=64)
        manifest = sample.manifest
        blocks = CodedBlocks(manifest.geometry, PLENTY)
        tree = VerifiedTree(manifest.tree, manifest.tree_digest)
        decoding = Decoding(blocks, tree, Origins())
        decoding.learn(tree.add(0, np.frombuffer(sample.tree.node(0), np.uint8)))
        named = [(0, 8 + esi) for esi in range(9)]
        kept = blocks.add(ids(named), payload(named))
        assert kept.enough == (0,)
        decoding.add(kept.enough)
        return blocks, decoding

    def test_is_given_once(self) -> None:
        _, decoding = self.decoding()
        (action,) = decoding.take_due(1)
        assert action.surplus_esis.tolist() == [16]
        decoding.add([0])
        assert decoding.take_due(1) == []

    def test_what_has_lost_its_surplus_meanwhile_waits_for_more(self) -> None:
        blocks, decoding = self.decoding()
        blocks.forget(0, numbers([16]))
        assert decoding.take_due(1) == []
        assert blocks.counts.state(0) is BlockState.OPEN


class TestStates:
    def test_every_way_begins_and_ends_open(self) -> None:
        reached = {BlockState.OPEN}
        for _ in BlockState:
            reached |= {to for (state, _), to in BLOCK_TRANSITIONS.items() if state in reached}
        assert reached == set(BlockState)
        for state in BlockState:
            assert state is BlockState.OPEN or BlockState.OPEN in {
                to for (one, _), to in BLOCK_TRANSITIONS.items() if one is state
            }

    def test_a_right_block_takes_nothing_and_a_spoilt_one_everything(self) -> None:
        geometry = Geometry(8 * SIZE, SIZE, 4, 8)
        tested = CodedBlocks(geometry, PLENTY)
        tested.fill(1)
        assert tested.stored == 4
        named = [(1, 0), (1, 5)]
        kept = tested.add(ids(named), payload(named))
        assert (kept.duplicates, kept.unneeded) == (1, 1)
        tested.drop(1)
        assert tested.stored == 0
        assert len(tested.add(ids(named), payload(named)).places) == 2


def test_repair_symbols_are_those_of_the_code() -> None:
    sample = make_object(700, repair_symbols=16)
    assert len(sample.encoded([(0, 9)])[0]) == 48 + 64
