"""The codecs that stand for each other, and how the counting one draws."""

import numpy as np
import pytest

from pgmlite.fec.codec import Codec, Counting, Plain, RandomLinear, too_many

CODECS: list[Codec] = [RandomLinear(), Plain(), Counting(0.9)]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_a_codec_decodes_what_is_whole(codec: Codec) -> None:
    source = codec.encode(np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(3))
    solution = codec.solve(3, np.array([2, 0, 1]))
    assert (solution.k, solution.lacks, solution.missing.tolist()) == (3, 0, [])
    assert codec.decode(solution, source[[2, 0, 1]]).shape == (0, source.shape[1])


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_a_codec_says_what_is_lacking(codec: Codec) -> None:
    solution = codec.solve(50, np.array([7, *range(10, 50)]))
    assert solution.lacks == 9
    assert solution.missing.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    with pytest.raises(ValueError, match="9 symbols are lacking"):
        codec.decode(solution, np.zeros((41, 0), np.uint8))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_a_codec_refuses_what_is_not_there(codec: Codec) -> None:
    with pytest.raises(ValueError, match="twice"):
        codec.solve(5, np.array([1, 1]))
    with pytest.raises(ValueError, match="1024"):
        codec.solve(1_025, np.array([1]))


def test_the_code_comes_back_through_its_codec() -> None:
    codec = RandomLinear()
    source = np.arange(600, dtype=np.uint16).view(np.uint8).reshape(60, 20)
    esis = np.arange(5, 95)
    symbols = codec.encode(source, esis)
    assert (codec.decode(codec.solve(60, esis), symbols) == source[:5]).all()
    symbols[7] ^= np.arange(20, dtype=np.uint8)
    located = codec.locate(60, esis, symbols)
    assert located is not None
    assert located.esis.tolist() == [12]


def test_source_symbols_alone_have_no_repair_symbols() -> None:
    with pytest.raises(ValueError, match="no repair symbols"):
        Plain().encode(np.zeros((3, 4), np.uint8), np.array([3]))
    assert Plain().locate(3, np.arange(3), np.zeros((3, 4), np.uint8)) is None


def test_counted_symbols_have_no_bytes() -> None:
    codec = Counting(0.5)
    esis = np.arange(3, 13)
    symbols = codec.encode(np.zeros((8, 0), np.uint8), esis)
    assert symbols.shape == (10, 0)
    assert codec.decode(codec.solve(8, esis), symbols).shape == (3, 0)
    assert codec.locate(8, esis, symbols) is None


@pytest.mark.parametrize("draw", [0.0, 0.001, 0.3, 0.7, 0.7113, 0.9, 1.0])
def test_a_block_that_is_counted_needs_what_it_drew(draw: float) -> None:
    (more,) = too_many(np.array([draw]), 100).tolist()
    codec = Counting(draw)
    for surplus in range(-100, 60):
        lacks = codec.solve(200, np.arange(100, 300 + surplus)).lacks
        assert bool(lacks) is (surplus < more)
        assert lacks == max(-surplus, int(surplus < more))


@pytest.mark.parametrize(
    ("missing", "least"),
    [
        # Of one symbol, half of all sums have it; of two, 3/8 of the pairs of sums are independent.
        (1, (0.5, 0.25, 0.125)),
        (2, (0.625, 0.34375)),
        (60, (0.7112, 0.4224, 0.2298, 0.1199)),
        (1_000, (0.7112, 0.4224, 0.2298, 0.1199)),
    ],
)
def test_as_many_are_too_few_as_of_random_matrices(missing: int, least: tuple[float, ...]) -> None:
    """`least` is the probability that none too many fail, one, two, three."""
    draws = (np.arange(100_000) + 0.5) / 100_000
    needed = too_many(draws, missing)
    for more, expected in enumerate(least):
        assert (needed > more).mean() == pytest.approx(expected, abs=2e-4)
    assert not too_many(draws[:5], 0).any()
    assert needed.max() <= 40
