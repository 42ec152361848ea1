"""Strips that are hashed while they are written, against what reading back would say."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pgmlite.storage.stream import END, StripStream
from pgmlite.wire.digests import digest
from tests.support.builders import make_object
from tests.support.parts import Run, System

SYMBOL, STRIP = 4, 64
BLOCK_SYMBOLS = 40  # two whole strips of 64 bytes, and one of 32
BLOCK = SYMBOL * BLOCK_SYMBOLS
SIZE = 2 * BLOCK + 70  # the last block: one strip, and 6 bytes
DATA = Random(0).randbytes(SIZE)

Piece = tuple[int, int]
"""First byte, and the one behind the last."""


def strips_of(block: int, image: bytes = DATA) -> list[bytes]:
    """Return the digests of the strips of a block."""
    content = image[block * BLOCK : (block + 1) * BLOCK]
    return [digest(content[at : at + STRIP]) for at in range(0, len(content), STRIP)]


def begun() -> StripStream:
    stream = StripStream()
    stream.begin(SIZE, SYMBOL, BLOCK_SYMBOLS)
    return stream


def write(
    stream: StripStream, pieces: Iterable[Piece], image: bytes = DATA, *, gap: int = END
) -> None:
    """Give pieces to a stream; what came with each goes on `gap` bytes behind it."""
    for start, stop in pieces:
        stream.update(start, memoryview(image)[start:stop], follower=stop + gap)


FOREIGN = 0
"""In the place of a gap: what is written is not the object's own."""

writes = st.tuples(
    st.integers(0, SIZE - 1),
    st.integers(1, BLOCK + STRIP + 1),
    st.sampled_from([1, STRIP, END, FOREIGN]),
)


@given(steps=st.lists(writes, max_size=12), asked=st.integers(0, 12))
@example(steps=[(0, 20, END), (10, 10, END), (20, 44, END)], asked=12)
@example(steps=[(0, 20, END), (10, 10, 1), (20, 44, END)], asked=12)
@example(steps=[(0, 64, END), (10, 10, END)], asked=12)
@example(steps=[(0, 320, END), (100, 1, FOREIGN)], asked=12)
@example(steps=[(0, 20, END), (10, 1, FOREIGN), (20, 44, END)], asked=12)
@example(steps=[(0, 20, END), (0, 64, END), (20, 44, END)], asked=12)
@example(steps=[(0, 20, END), (30, 34, END), (20, 10, END)], asked=12)
@settings(max_examples=500)
def test_says_what_reading_back_would_say_or_nothing(
    steps: list[tuple[int, int, int]], asked: int
) -> None:
    stream, image = begun(), bytearray(SIZE)
    for number, (offset, length, gap) in enumerate([*steps, (0, 0, END)]):
        stop = min(offset + length, SIZE)
        image[offset:stop] = bytes([number + 1]) * (stop - offset)
        if gap == FOREIGN:
            stream.forget(offset, stop)
        else:
            write(stream, [(offset, stop)], bytes(image), gap=gap)
        if number != asked and number < len(steps):
            continue
        for block in range(3):
            said = stream.take(block * BLOCK)
            for one, true in zip(said, strips_of(block, bytes(image)), strict=bool(said)):
                assert one in (None, true)


@given(st.sets(st.integers(1, SIZE - 1)))
def test_what_comes_in_order_need_not_be_read(cuts: set[int]) -> None:
    stream = begun()
    edges = [0, *sorted(cuts), SIZE]
    write(stream, pairwise(edges))
    assert [stream.take(block * BLOCK) for block in range(3)] == [*map(strips_of, range(3))]
    assert stream.take(0) == []  # it is told once


@given(st.permutations(range(8)), st.data())
def test_strips_may_come_in_any_order_and_in_pieces(order: list[int], data: st.DataObject) -> None:
    """Each in its own pieces, in order, with pieces of others between them: rounds, batches."""
    stream = begun()
    starts = [block * BLOCK + at for block in range(3) for at in (0, STRIP, 2 * STRIP)][:8]
    queues = []
    for number in order:
        start = starts[number]
        stop = min(start + STRIP, (start // BLOCK + 1) * BLOCK, SIZE)
        cuts = data.draw(st.sets(st.integers(start + 1, stop - 1), max_size=3))
        edges = [start, *sorted(cuts), stop]
        queues.append(list(pairwise(edges)))
    while queues:
        queue = data.draw(st.sampled_from(queues))
        write(stream, [queue.pop(0)])
        queues = [one for one in queues if one]
    assert [stream.take(block * BLOCK) for block in range(3)] == [*map(strips_of, range(3))]


@pytest.mark.parametrize(
    "again",
    [(0, 4), (60, 64), (10, 20), (0, 63)],
    ids=["first symbol", "last symbol", "inside", "all but the end"],
)
def test_bytes_that_are_written_again_make_their_strip_unknown(again: Piece) -> None:
    stream = begun()
    write(stream, [(0, SIZE), again], bytes(SIZE))
    _, second, third = strips_of(0, bytes(SIZE))
    assert stream.take(0) == [None, second, third]
    assert None not in stream.take(BLOCK)


def test_a_whole_strip_that_is_written_again_counts() -> None:
    stream = begun()
    write(stream, [(0, SIZE)], bytes(SIZE))
    write(stream, [(0, STRIP)])
    assert stream.take(0)[0] == strips_of(0)[0]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # The oldest blocks make room.
    monkeypatch.setattr(StripStream, "KEPT", 20 * (256 + 32))
    stream = StripStream()
    stream.begin(1_000 * STRIP, SYMBOL, 16)
    zeros = memoryview(bytes(STRIP))
    for strip in range(1_000):
        stream.update(strip * STRIP, zeros)
    assert [n for n in range(1_000) if stream.take(n * STRIP)] == list(range(980, 1_000))


def test_rounds_over_more_blocks_than_are_kept_keep_as_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(StripStream, "KEPT", 20 * (256 + 4 * 32))
    stream = StripStream()
    stream.begin(200 * 4 * STRIP, SYMBOL, 4 * 16)
    zeros = memoryview(bytes(STRIP))
    for strip in range(4):
        for block in range(100):
            stream.update((4 * block + strip) * STRIP, zeros)
    said = {block: stream.take(block * 4 * STRIP) for block in range(100)}
    assert [block for block in said if said[block]] == list(range(80, 100))
    assert all(None not in said[block] for block in range(80, 100))


def test_strips_that_wait_for_their_rest_are_as_many_as_said() -> None:
    stream = StripStream()
    stream.begin(1_000 * STRIP, SYMBOL, 16)
    zeros = memoryview(bytes(STRIP))
    for strip in range(StripStream.OPEN + 10):
        stream.update(strip * STRIP, zeros[:32])
    for strip in range(StripStream.OPEN + 10):
        stream.update(strip * STRIP + 32, zeros[32:])
    known = [n for n in range(StripStream.OPEN + 10) if stream.take(n * STRIP) == [digest(zeros)]]
    assert known == list(range(10, StripStream.OPEN + 10))


def test_bytes_past_the_object_are_not_hashed() -> None:
    stream = begun()
    stream.update(2 * BLOCK, memoryview(DATA[2 * BLOCK :] + bytes(100)))
    stream.update(4 * BLOCK, memoryview(bytes(100)))
    assert stream.take(2 * BLOCK) == strips_of(2)
    assert stream.take(4 * BLOCK) == []


# What that spares a receiver.

SAMPLE = make_object(4 * 40 * 64 - 13, block_symbols=40)  # blocks of two strips and a half


class Reads(System):
    """Notes which bytes of blocks are read."""

    def __init__(self) -> None:
        self.seen: list[Piece] = []

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do a call."""
        done = super().call(name, function, *args, **kwargs)
        if name == "preadv":
            self.seen.append((args[2], args[2] + done))
        return done


def rounds() -> list[int]:
    """Return all symbols, strip 0 of each block, then strip 1 of each, and so on."""
    every = range(SAMPLE.manifest.symbols)
    return sorted(every, key=lambda symbol: (symbol % 40 // 16, symbol))


def read_of(output: Path, symbols: Sequence[int], *, at_once: int) -> list[Piece]:
    """Return what a receiver reads that gets so many symbols at once."""
    with Reads().on() as reads, Run(output) as run:
        run.announce(SAMPLE)
        packets = SAMPLE.odata(symbols)
        for start in range(0, len(packets), at_once):
            run.give(packets[start : start + at_once])
        assert run.is_done
        assert output.read_bytes() == SAMPLE.data
        return reads.seen


@pytest.mark.parametrize("at_once", [1, 7, 10, 16, 64])
@pytest.mark.parametrize("order", [sorted(rounds()), rounds()], ids=["in order", "in rounds"])
def test_nothing_is_read_back(tmp_path: Path, order: list[int], at_once: int) -> None:
    assert read_of(tmp_path / "out", order, at_once=at_once) == []


def test_only_strips_with_holes_are_read_back(tmp_path: Path) -> None:
    late = [3, 45]  # of the first strip of block 0, and the first of block 1
    order = [symbol for symbol in rounds() if symbol not in late] + late
    strip, block = 16 * 64, 40 * 64
    assert read_of(tmp_path / "out", order, at_once=10) == [(0, strip), (block, block + strip)]


def test_a_damaged_block_is_hashed_anew_when_it_comes_again(tmp_path: Path) -> None:
    # spec: RCV-6
    output = tmp_path / "out"
    with Reads().on() as reads, Run(output) as run:
        run.announce(SAMPLE)
        forged = SAMPLE.odata([3])[0]
        run.give([forged[:-1] + bytes([forged[-1] ^ 1])])
        run.give(SAMPLE.odata([*range(3), *range(4, 40)]))
        assert run.machine.counters.damaged == 1
        reads.seen.clear()
        run.give(SAMPLE.odata(rounds()))
        assert run.is_done
        assert output.read_bytes() == SAMPLE.data
        assert reads.seen == []
