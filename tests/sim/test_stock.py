"""What the members of a group have stored."""

import numpy as np
import pytest

from pgmlite.fec.codec import too_many
from pgmlite.sim.stock import MemberStock, Stock
from pgmlite.wire.geometry import Geometry, Ids

CODED = Geometry(3_000, 64, 20, 64, 3)
"""47 symbols: blocks of 20, 20 and 7."""


class Fixed(np.random.Generator):
    """Draws the same luck for everybody."""

    def __init__(self, luck: float) -> None:
        super().__init__(np.random.PCG64(0))
        self._luck = luck

    def random(self, size: tuple[int, int]) -> np.ndarray:
        return np.full(size, self._luck)


def stock_of(geometry: Geometry, members: int = 2, luck: float = 0.9) -> Stock:
    return Stock(geometry, members, Fixed(luck))


def ids(block: int, *esis: int) -> Ids:
    return Ids(np.full(len(esis), block), np.array(esis))


def everybody(stock: Stock, some: Ids) -> None:
    stock.take(some, np.ones((len(stock.open), len(some)), np.bool_))


def test_a_block_of_source_symbols_is_whole_without_its_digest() -> None:
    stock = stock_of(CODED)
    kept = np.ones((2, 7), np.bool_)
    kept[1, 3] = False
    stock.take(ids(2, *range(7)), kept)
    assert stock.is_whole[:, 2].tolist() == [True, False]
    assert stock.open.tolist() == [2, 3]
    assert stock.had[:, 2].tolist() == [7, 6]


def test_nobody_decodes_before_the_digest_is_known() -> None:
    stock = stock_of(CODED)
    everybody(stock, ids(1, *range(3, 30)))
    assert not stock.is_whole.any()
    stock.learn(range(1, 3), np.array([1]))
    assert stock.is_whole[:, 1].tolist() == [False, True]
    assert stock.open.tolist() == [3, 2]


def test_as_many_symbols_as_a_block_has_are_not_tried() -> None:
    stock = stock_of(CODED, luck=0.9)  # none too many are needed, if it were tried
    stock.learn(range(3), np.arange(2))
    everybody(stock, ids(0, *range(1, 21)))
    assert not stock.is_whole.any()
    assert MemberStock(stock, 0).wanted.tolist() == [1, 21, 8]
    everybody(stock, ids(0, 21))
    assert stock.is_whole[:, 0].all()
    assert MemberStock(stock, 0).wanted.tolist() == [0, 21, 8]


def test_who_is_unlucky_wants_more() -> None:
    luck = 0.05
    extra = int(too_many(np.array([luck]), 10)[0])
    assert extra > 2
    stock = stock_of(CODED, luck=luck)
    stock.learn(range(3), np.arange(2))
    everybody(stock, ids(0, *range(10, 31)))
    member = MemberStock(stock, 1)
    assert member.wanted[0] == extra - 1
    assert member.had[0] == 21
    everybody(stock, ids(0, *range(31, 31 + extra - 1)))
    assert member.wanted[0] == 0


def test_symbols_that_come_again_count_once() -> None:
    stock = stock_of(CODED)
    for _ in range(2):
        everybody(stock, ids(0, 5, 6, 40))
        everybody(stock, Ids(np.array([0, 1, 0]), np.array([6, 6, 7])))
    assert stock.had[0].tolist() == [4, 1, 0]
    lacking = MemberStock(stock, 0).lacking(0, np.array([4, 5, 40, 41]))
    assert lacking.tolist() == [True, False, False, True]


@pytest.mark.parametrize("luck", [0.1, 0.9])
def test_plain_objects_need_every_symbol(luck: float) -> None:
    stock = stock_of(Geometry(3_000, 64, 20), luck=luck)
    everybody(stock, ids(2, *range(6)))
    assert MemberStock(stock, 0).wanted.tolist() == [20, 20, 1]
    everybody(stock, ids(2, 6))
    assert stock.is_whole[0].tolist() == [False, False, True]
