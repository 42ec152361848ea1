"""Numbers and sessions that are made up: who chooses a channel must not pay more than they cost."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

import pytest

from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.traffic import Traffic
from pgmlite.wire.batch import PacketBatch
from tests.support.path import Path, always, packets, reasons


@pytest.mark.parametrize(("most_gap", "is_left"), [(16, False), (1 << 30, True)])
def test_a_jump_counts_for_a_few_packets(most_gap: int, is_left: bool) -> None:
    # spec: RTE-3
    def jump(path: Path) -> Iterable[PacketBatch]:
        if path.now % SECOND == 0:
            yield packets(2, [path.now // 7])

    path = Path(RatesConfig(try_after=600 * SECOND, most_gap=most_gap), first=2)
    path.run(2)
    assert bool(reasons(path.run(20, forged=jump))) is is_left


def test_channels_that_are_not_heard_say_nothing() -> None:
    # spec: RTE-3
    numbers = count()

    def invented(path: Path) -> Iterable[PacketBatch]:
        for channel in (0, 1, 3, 5, 63):
            yield packets(channel, [next(numbers) * 1000 for _ in range(50)])

    path = Path(RatesConfig(try_after=600 * SECOND), first=2)
    assert not path.run(30, forged=invented)
    assert path.machine.channel == 2


def test_invented_sessions_neither_raise_nor_lower_it() -> None:
    # spec: RTE-3
    numbers = count(7)

    def invented(path: Path) -> Iterable[PacketBatch]:
        for _ in range(20):
            yield packets(2, [next(numbers)], tsi=next(numbers))

    path = Path(RatesConfig(try_after=600 * SECOND), first=2)
    path.run(2)
    assert not path.run(20, forged=invented)
    # What is really lost is seen all the same.
    events = path.run(18, always(0.3), forged=invented)
    assert reasons(events) == [("down", 1)]


@pytest.mark.parametrize("tsi", [99, None])
def test_an_invented_session_costs_no_more_than_it_sends(tsi: int | None) -> None:
    # spec: RTE-3
    numbers = count(17, 17)

    def invented(path: Path) -> Iterable[PacketBatch]:
        for _ in range(4):
            number = next(numbers)
            yield packets(2, [number], tsi=tsi or 2 + number // 170)

    path = Path(RatesConfig(try_after=600 * SECOND), first=2)
    path.run(2)
    assert not path.run(60, forged=invented)


def test_sessions_that_lose_alike_lose_that() -> None:
    # spec: RTE-3
    traffic = Traffic(RatesConfig())
    for tsi, some in ((1, 10), (2, 1000)):
        traffic.take(packets(0, (4 * number for number in range(some + 1)), tsi=tsi))
    seen = traffic.look()[0][0]
    assert seen.received == 1012
    assert seen.lost == pytest.approx(3 * 1010, abs=2)
