"""What a receiver says where the choice is empty, or is none."""

from __future__ import annotations

import pytest

from pgmlite.core.machine import MS
from tests.support.builders import Sample, make_object
from tests.support.watched import SYMBOL, Watched, at


@pytest.fixture(scope="module")
def sample() -> Sample:
    return make_object(600 * SYMBOL, symbol_size=SYMBOL, block_symbols=128, name="fw.bin")


def test_one_of_several_is_received_and_nobody_chose(sample: Sample) -> None:
    watched, old = Watched(), make_object(3_000, name="v1.bin", seed=9)
    third = make_object(4_000, name="v3.bin", seed=10)
    for second in range(1, 6):
        watched.drive.give([old.spm(sqn=second), sample.spm(sqn=second)], now=at(second))
        if second > 3:
            watched.drive.give([third.spm(sqn=second)], now=at(second))
        watched.pass_time(at(second))
    told = watched.only("ambiguous")
    oids = [f"{one.manifest.oid:016x}" for one in (old, sample)]
    assert told.facts == {"oid": oids[0], "objects": 2}
    assert all(word in told.text for word in ("v1.bin", "fw.bin", *oids, "choose"))


def test_nothing_is_ambiguous_where_one_was_asked_for(sample: Sample) -> None:
    old = make_object(3_000, name="v1.bin", seed=9)
    watched = Watched(oid=sample.manifest.oid)
    watched.drive.give([old.spm(), sample.spm(), old.spm(sqn=1)])
    watched.pass_time(at(5))
    assert "ambiguous" not in watched.causes()
    assert "nothing_to_take" not in watched.causes()


def test_what_is_called_otherwise_is_no_rival(sample: Sample) -> None:
    # spec: TRU-7
    watched = Watched(name="fw.*")
    old = make_object(3_000, name="v1.bin", seed=9)
    for second in range(1, 4):
        watched.drive.give([sample.spm(sqn=second), old.spm(sqn=second)], now=at(second))
        watched.pass_time(at(second))
    assert "ambiguous" not in watched.causes()
    told = watched.only("object")
    assert told.facts["reason"] == "name"
    assert "its name is not the one that was asked for" in told.text


def test_nothing_that_is_heard_is_to_be_taken(sample: Sample) -> None:
    watched = Watched(name="router-*")
    others = [make_object(3_000, name=f"v{number}.bin", seed=number) for number in range(2)]
    for second in range(1, 9):
        packets = [one.spm(sqn=second) for one in others]
        watched.drive.give(packets, now=at(second))
        watched.drive.give(packets, now=at(second) + 200 * MS)
        watched.pass_time(at(second))
    told = watched.only("nothing_to_take")
    assert told.facts == {"objects": 2}
    assert "v0.bin is of another name, v1.bin is of another name" in told.text
    late = watched.diagnosis.why_late(at(9))
    assert all(word in late for word in ("v0.bin", "v1.bin", "not the one that was asked for"))
    # What is wanted comes at last: that was all there is to say.
    wanted = make_object(3_000, name="router-1", seed=5)
    watched.drive.give([wanted.spm()], now=at(9))
    watched.pass_time(at(20))
    assert watched.causes().count("nothing_to_take") == 1


def test_a_moment_without_what_is_wanted_is_no_news(sample: Sample) -> None:
    watched = Watched(name="fw.*")
    watched.drive.give([make_object(3_000, name="v1.bin", seed=9).spm()], now=at(1))
    watched.pass_time(at(2))
    watched.drive.give([sample.spm()], now=at(2.5))
    watched.pass_time(at(6))
    assert "nothing_to_take" not in watched.causes()
