"""Serial numbers, and loss counted with them, against a model made of sets."""

from collections.abc import Iterable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.serial import HALF, MODULUS, SequenceTracker, add, distance

WINDOW = SequenceTracker.WINDOW
SQNS = st.integers(0, MODULUS - 1)
STARTS = st.one_of(SQNS, st.integers(-600, 5).map(lambda n: n % MODULUS))


def sqns(numbers: Iterable[int]) -> np.ndarray:
    return np.array([number % MODULUS for number in numbers], np.uint32)


class Model:
    """What the tracker counts, in unbounded numbers: no wrap-around, no window of slots."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.highest = first - 1
        self.seen: set[int] = set()
        self.duplicates = 0

    def take(self, number: int) -> None:
        late = number <= self.highest - WINDOW
        if number < self.first or late or number in self.seen:
            self.duplicates += 1
        else:
            self.seen.add(number)
        self.highest = max(self.highest, number)

    @property
    def counters(self) -> tuple[int, int, int]:
        received = len(self.seen)
        return received, self.highest - self.first + 1 - received, self.duplicates


def counters(tracker: SequenceTracker) -> tuple[int, int, int]:
    return tracker.received, tracker.lost, tracker.duplicates


@st.composite
def arrivals(draw: st.DrawFn) -> list[int]:
    """Draw what arrives of packets 0, 1, 2 ...: with gaps, repeats, and displaced by some."""
    # Seeded draws instead of a list of hypothesis's own: a failure shrinks in seconds.
    rng = Random(draw(st.integers(0, 1 << 32)))
    loss, spread = draw(st.sampled_from([0, 0.1, 0.6])), draw(st.sampled_from([0, 0, 3, 30]))
    jump_at, jump = rng.randint(0, 150), draw(st.sampled_from([0, 0, 100, 3_000, 5_000, 100_000]))
    order = []
    for number in range(draw(st.integers(1, 150))):
        if rng.random() < loss:
            continue
        is_after = number >= jump_at
        # Nothing is overtaken by more than the window: which of a batch came first would matter.
        era = is_after and jump > WINDOW // 2
        copies = rng.choice([1, 1, 1, 2])
        order += [
            (era, number + rng.uniform(0, spread), number + jump * is_after) for _ in range(copies)
        ]
    return [number for _, _, number in sorted(order)] or [0]


def grouped(numbers: list[int], size: int) -> list[list[int]]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


SIZES = st.sampled_from([1, 2, 7, 64, 300])


class TestArithmetic:
    @pytest.mark.parametrize(
        ("sqn", "other", "ahead"),
        [
            (0, 0, 0),
            (0, 1, 1),
            (1, 0, -1),
            (MODULUS - 1, 0, 1),
            (0, MODULUS - 1, -1),
            (0, HALF - 1, HALF - 1),
            (0, HALF, -HALF),
            (HALF, 0, -HALF),
        ],
    )
    def test_distance(self, sqn: int, other: int, ahead: int) -> None:
        # spec: PKT-6
        assert distance(sqn, other) == ahead

    @given(SQNS, st.integers(-HALF, HALF - 1))
    def test_distance_undoes_add(self, sqn: int, count: int) -> None:
        other = add(sqn, count)
        assert 0 <= other < MODULUS
        assert distance(sqn, other) == count


class TestSequenceTracker:
    @given(arrivals(), STARTS, SIZES)
    def test_counts_what_the_model_counts(self, numbers: list[int], start: int, size: int) -> None:
        tracker, model = SequenceTracker((start + numbers[0]) % MODULUS), Model(numbers[0])
        for group in grouped(numbers, size):
            tracker.update(sqns(start + number for number in group))
            for number in group:
                model.take(number)
            assert counters(tracker) == model.counters
            assert tracker.highest == (start + model.highest) % MODULUS

    @given(arrivals(), STARTS, SIZES)
    def test_batches_of_any_size_count_the_same(
        self, numbers: list[int], start: int, size: int
    ) -> None:
        first = (start + numbers[0]) % MODULUS
        one_by_one, in_groups = SequenceTracker(first), SequenceTracker(first)
        for number in numbers:
            one_by_one.update(sqns([start + number]))
        for group in grouped(numbers, size):
            in_groups.update(sqns(start + number for number in group))
        assert counters(one_by_one) == counters(in_groups)

    def test_a_gap_wider_than_the_window_inside_a_batch_forgets_what_lies_before_it(self) -> None:
        for group in ([[0, 2, 5_000]], [[0], [2], [5_000]]):
            tracker = SequenceTracker(0)
            for numbers in group:
                tracker.update(sqns(numbers))
            tracker.update(sqns([2 + WINDOW]))
            assert counters(tracker) == (4, 4_997, 0)

    def test_a_late_packet_is_no_longer_lost(self) -> None:
        tracker = SequenceTracker(10)
        tracker.update(sqns([10, 13]))
        assert counters(tracker) == (2, 2, 0)
        tracker.update(sqns([11]))
        assert counters(tracker) == (3, 1, 0)
        tracker.update(sqns([11]))
        assert counters(tracker) == (3, 1, 1)

    def test_what_was_sent_before_the_first_was_never_lost(self) -> None:
        tracker = SequenceTracker(10)
        tracker.update(sqns([10, 9, 8]))
        assert counters(tracker) == (1, 0, 2)

    @pytest.mark.parametrize(("behind", "is_late"), [(WINDOW - 1, True), (WINDOW, False)])
    def test_the_window_ends(self, behind: int, is_late: bool) -> None:
        # spec: RCV-9
        tracker = SequenceTracker(0)
        tracker.update(sqns([0]))
        tracker.update(sqns([2 * WINDOW]))
        tracker.update(sqns([2 * WINDOW - behind]))
        assert tracker.received == 2 + is_late
        assert tracker.duplicates == 1 - is_late
