"""Symbols of objects without tiles are kept apart by where they come from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from pgmlite.core.events import Damaged
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.origins import (
    FRESH_WORTH,
    LONGEST_ALONE,
    MOST_CYCLES,
    MOST_SOURCES,
    Origins,
)
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry, Ids
from tests.support.builders import Drive, Sample, make_object
from tests.support.rounds import coded

GEOMETRY = Geometry(64 * 100, 64, 10, 5)
TRUE, OTHER, FORGER = (Endpoint(name, 1) for name in ("t", "o", "f"))


def esis(*some: int) -> np.ndarray:
    return np.array(some, np.int64)


def ids(block: int, some: Iterable[int]) -> Ids:
    found = esis(*some)
    return Ids(np.full_like(found, block), found)


def known() -> Origins:
    """Return origins that know the object."""
    origins = Origins()
    origins.learn(GEOMETRY)
    return origins


class TestOrigins:
    def test_one_source_can_not_be_told_apart(self) -> None:
        origins = known()
        origins.note(TRUE, ids(0, range(10)))
        assert not len(origins.accuse(0, np.arange(10)))
        assert origins.barred(TRUE, esis(0)) is None

    def test_who_sent_less_is_thrown_away(self) -> None:
        origins = known()
        origins.note(TRUE, ids(0, range(8)))
        origins.note(FORGER, ids(0, [8, 9]))
        assert origins.accuse(0, np.arange(10)).tolist() == [8, 9]
        barred = origins.barred(FORGER, esis(0, 1))
        assert barred is not None
        assert barred.tolist() == [True, False]
        assert origins.barred(TRUE, esis(0, 1)) is None

    def test_who_was_right_before_is_believed(self) -> None:
        origins = known()
        origins.note(TRUE, ids(0, range(10)))
        origins.acquit(0, np.arange(10))
        origins.note(TRUE, ids(1, range(3)))
        origins.note(FORGER, ids(1, range(3, 10)))
        assert origins.accuse(1, np.arange(10)).tolist() == [3, 4, 5, 6, 7, 8, 9]

    def test_who_is_believed_has_to_bring_the_rest(self) -> None:
        origins = known()
        origins.note(FORGER, ids(0, range(10)))
        origins.acquit(0, np.arange(10))
        origins.note(TRUE, ids(1, range(9)))
        origins.note(FORGER, ids(1, [9]))
        assert origins.accuse(1, np.arange(10)).tolist() == list(range(9))
        origins.note(FORGER, ids(1, [0]))
        left_aside = 0
        while origins.barred(TRUE, esis(1)) is not None:
            left_aside += 1
        assert left_aside == 10 + FRESH_WORTH
        origins.note(TRUE, ids(1, range(1, 9)))
        assert origins.accuse(1, np.arange(10)).tolist() == [0, 9]
        assert origins.barred(FORGER, esis(1)) is not None
        assert origins.barred(TRUE, esis(1)) is None

    def test_two_that_are_alike_stay_until_the_block_fails_again(self) -> None:
        origins = known()
        origins.note(TRUE, ids(0, range(5)))
        origins.note(OTHER, ids(0, range(5, 9)))
        origins.note(FORGER, ids(0, [9]))
        assert origins.accuse(0, np.arange(10)).tolist() == [9]
        assert origins.accuse(0, np.arange(9)).tolist() == [5, 6, 7, 8]
        assert not len(origins.accuse(0, np.arange(5)))
        # Now everybody is heard again.
        assert origins.barred(FORGER, esis(0)) is None

    def test_who_was_found_is_shunned_for_longer_each_time(self) -> None:
        origins = known()
        for time in range(6):
            block = time
            origins.note(TRUE, ids(block, range(9)))
            origins.note(FORGER, ids(block, [9]))
            thrown = origins.accuse(block, np.arange(10))
            origins.note(TRUE, ids(block, thrown))
            origins.acquit(block, np.arange(10))
            cycles = min(1 << time, MOST_CYCLES)
            for _ in range(cycles - 1):
                assert not origins.shuns(TRUE, 100)
                assert origins.shuns(FORGER, 1)
            assert not origins.shuns(TRUE, 99)
            assert origins.shuns(FORGER, 1)
            assert not origins.shuns(TRUE, 1)
            assert not origins.shuns(FORGER, 1)
        assert origins.forgers == {"f": 6}

    def test_who_is_alone_is_heard(self) -> None:
        origins = known()
        origins.note(TRUE, ids(0, range(9)))
        origins.note(FORGER, ids(0, [9]))
        origins.note(TRUE, ids(0, origins.accuse(0, np.arange(10))))
        origins.acquit(0, np.arange(10))
        assert origins.shuns(FORGER, LONGEST_ALONE - 1)
        assert not origins.shuns(FORGER, 1)

    def test_the_senders_address_does_not_silence_it(self) -> None:
        origins = known()
        origins.note(OTHER, ids(0, range(2)))
        origins.note(TRUE, ids(0, range(2, 10)))
        origins.find(0, esis(8, 9))
        origins.acquit(0, np.arange(8))
        assert not origins.shuns(TRUE, 1)

    def test_sources_without_end_count_as_one(self) -> None:
        origins = known()
        for number in range(2 * MOST_SOURCES):
            origins.note(Endpoint("f", number), ids(number % 10, [number % 15]))
        assert len(origins.accuse(0, np.arange(15)))


class TestReceiver:
    def carousel(self, sample: Sample, drive: Drive, cycles: int, share: int) -> float:
        """Let carousels come, and one forged symbol ahead of `share` true ones; return cycles."""
        symbols = sample.manifest.symbols
        for sent in range(cycles * symbols):
            symbol = sent % symbols
            (true,) = sample.odata([symbol], sqn=sent)
            if symbol % share == 0:
                forged = true[:48] + bytes([true[48] ^ 1]) + true[49:]
                drive.give([forged], source="f")
            drive.give([true])
            if drive.is_complete:
                return (sent + 1) / symbols
        return cycles

    @pytest.mark.parametrize("share", [10, 100])
    def test_an_object_without_repair_symbols_takes_two_cycles(self, share: int) -> None:
        # spec: RCV-24
        sample = make_object(64 * 8 * 40 - 3, block_symbols=40)
        drive = Drive(naks=False)
        drive.give([sample.spm(), *sample.nodes()])
        assert self.carousel(sample, drive, 4, share) <= 2
        assert drive.store.data == sample.data
        damaged = [one for one in drive.seen if isinstance(one, Damaged)]
        assert damaged
        assert all((one.set_aside or one.forged) and not one.is_dropped for one in damaged)
        assert sum(one.set_aside for one in damaged) == drive.machine.counters.forged
        assert drive.refused["shunned"] > 0

    def test_before_the_manifest_too(self) -> None:
        sample = make_object(64 * 40, block_symbols=40)
        drive = Drive(naks=False)
        drive.give(sample.odata(range(10)))
        (one,) = sample.odata([10])
        drive.give([one[:48] + bytes([one[48] ^ 1]) + one[49:]], source="f")
        drive.give([sample.spm(), *sample.nodes(), *sample.odata(range(10, 40))])
        assert not drive.is_complete
        drive.give(sample.odata([10]))
        assert drive.is_complete

    def test_with_repair_symbols_it_takes_hardly_more_than_one(self) -> None:
        # spec: RCV-24
        sample = coded(4 * 128, block_symbols=128)
        drive = Drive(naks=False)
        drive.give([sample.spm(), *sample.nodes()])
        first = [(block, esi) for esi in range(128) for block in range(4)]
        for number, (block, esi) in enumerate(first):
            (true,) = sample.encoded([(block, esi)], sqn=number)
            if number % 50 == 0:
                drive.give([true[:48] + bytes([true[48] ^ 1]) + true[49:]], source="f")
            drive.give([true])
        for esi in range(128, 140):
            for block in range(4):
                drive.give(sample.encoded([(block, esi)]))
        assert drive.is_complete
        current = drive.machine.current
        assert current
        assert set(current.forgers) == {"f"}


def test_a_stranger_who_was_believed_once_stops_nobody() -> None:
    sample = make_object(64 * 64 * 4, symbol_size=64, block_symbols=64)
    drive = Drive(naks=False)
    drive.give([sample.spm(), *sample.nodes()], source="t")
    drive.give(
        sample.odata(64 * block + some for some in range(4) for block in range(4)), source="t"
    )
    # One true block, then a forged symbol of each of the others.
    drive.give(sample.odata(range(4, 64), tsi=9), source="x")
    for one in sample.odata((64 * block + 40 for block in (1, 2, 3)), tsi=9):
        drive.give([one[:-1] + bytes([one[-1] ^ 1])], source="x")
    for cycle in range(4):
        assert not drive.is_complete
        drive.give(sample.all_odata(), source="t", now=cycle * SECOND)
    assert drive.is_complete
