"""Which objects a follower takes: the policy alone, and beneath a receiver."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.config_following import FollowConfig
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.following import Following
from pgmlite.core.receive.offers import Offer, Refuse, Take, Wait
from pgmlite.errors import UsageError
from tests.support.builders import Drive, make_object
from tests.support.signed import STREAM

OLD, NOW, NEW = 1, 2, 3
SWITCH = ReceiverConfig().switch_after
PATIENCE = FollowConfig().patience


@dataclass
class Output:
    """What is in place, as the test says."""

    there: int | None = None
    published: list[int] = field(default_factory=list)

    def in_place(self, now: int) -> int | None:
        return self.there


class Follower:
    """A policy under a clock of the test."""

    def __init__(self, there: int | None = NOW, published: tuple[int, ...] = (OLD, NOW)) -> None:
        self.output = Output(there, list(published))
        self.policy = Following(self.output, FollowConfig(), SWITCH)
        self.transfers: dict[int, SimpleNamespace] = {}

    def receives(self, oid: int, heard: float, *, stream: str = "") -> None:
        release = SimpleNamespace(stream=stream) if stream else None
        manifest = SimpleNamespace(release=release)
        one = SimpleNamespace(manifest=manifest, heard=int(heard * SECOND), is_complete=False)
        self.transfers[oid] = one

    def hears(self, at: float, oid: int, **fields: object):
        offer = Offer(oid, 1_000, 64, **({"is_announced": True} | fields))
        return self.policy.offer(int(at * SECOND), offer, self.transfers)


def test_what_is_in_place_is_refused_whatever_comes_of_it():
    # spec: FOL-2
    follower = Follower()
    for fields in ({}, {"is_announced": False}, {"has_carousel": False}, {"stream": STREAM}):
        assert follower.hears(0, NOW, **fields) == Refuse("in_place")


def test_what_was_never_here_is_taken_at_once():
    # spec: FOL-3
    assert Follower().hears(0, NEW) == Take()
    assert Follower(None, ()).hears(0, NEW) == Take()


def test_nothing_is_taken_before_its_manifest():
    # spec: FOL-1
    assert Follower().hears(0, NEW, is_announced=False) == Wait()
    assert Follower().hears(0, NEW, has_carousel=False) == Refuse()


def test_what_was_here_waits_until_the_one_in_place_is_gone_for_long():
    # spec: FOL-3
    follower = Follower()
    follower.hears(0, NOW)
    for second in range(1, 60):
        assert follower.hears(second, OLD) == Wait("published")
    assert follower.hears(60, OLD) == Take()


def test_one_word_of_the_one_in_place_starts_the_time_anew():
    # spec: FOL-3
    follower = Follower()
    for second in range(500):
        assert follower.hears(second, OLD) == Wait("published")
        if second % 50 == 0:
            follower.hears(second, NOW)
    answers = [follower.hears(500 + second, OLD) for second in range(20)]
    assert answers[:10] == [Wait("published")] * 10
    assert answers[-1] == Take()


def test_silence_of_all_says_nothing_of_one():
    # spec: FOL-3
    follower = Follower()
    follower.hears(0, NOW)
    # The cable was out for an hour, and the old one comes first.
    assert follower.hears(3_600, OLD) == Wait("published")
    assert follower.hears(3_601, NOW) == Refuse("in_place")
    assert follower.hears(3_602, OLD) == Wait("published")


def test_what_was_here_last_is_taken_at_once_if_somebody_took_it_away():
    # spec: FOL-4
    follower = Follower(None)
    assert follower.hears(0, OLD) == Wait("published")
    assert follower.hears(0, NOW) == Take()


def test_with_a_key_releases_say_what_is_newer():
    # spec: FOL-3
    follower = Follower()
    assert follower.hears(0, OLD, stream=STREAM) == Take()  # floors have refused what is older


def test_what_is_received_stays_while_it_is_heard():
    # spec: FOL-4
    follower = Follower()
    follower.receives(NEW, 0)
    assert follower.hears(4, 4) == Wait()
    assert follower.hears(5, 4) == Take((NEW,))
    assert follower.hears(6, NOW) == Refuse("in_place")


def test_a_higher_release_takes_the_place_of_a_lower_one_at_once():
    # spec: FOL-4
    follower = Follower()
    follower.receives(NEW, 0, stream=STREAM)
    assert follower.hears(0, 4, stream=STREAM) == Take((NEW,))


def test_empty_objects_and_those_without_room_are_refused():
    follower = Follower()
    assert follower.policy.offer(0, Offer(NEW, 0, 64, is_announced=True), {}) == Refuse("empty")
    follower.policy.has_room = lambda size: size < 1_000
    assert follower.hears(0, NEW) == Refuse("disk")


def test_what_could_not_be_put_in_place_is_not_taken_again():
    # spec: FOL-6
    follower = Follower()
    for oid in range(100, 165):
        follower.policy.shun(oid)
    assert follower.hears(0, 164) == Refuse("unfit")
    assert follower.hears(0, 100) == Take()  # the oldest made room


def test_nothing_is_taken_beside_what_is_complete():
    follower = Follower()
    follower.receives(NEW, 0)
    follower.transfers[NEW].is_complete = True
    assert follower.hears(100, 4) == Refuse()


@pytest.mark.parametrize("wrong", [{"retry_min": 40 * SECOND}, {"patience": 0}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(UsageError):
        FollowConfig(**wrong)


def test_beneath_a_receiver_nothing_of_what_is_in_place_is_stored():
    # spec: FOL-2
    sample = make_object(20_000, symbol_size=64)
    output = Output(sample.manifest.oid, [sample.manifest.oid])
    policy = Following(output, FollowConfig(), SWITCH)
    drive = Drive(policy=policy)
    packets = [*sample.all_odata(), sample.spm(), *sample.nodes(), *sample.all_odata()]
    assert not drive.give(packets)
    counters = drive.machine.counters
    assert drive.machine.current is None
    assert counters.fetched == counters.odata == 0
    assert counters.refused["in_place"] == 2 * sample.manifest.symbols + 1
    assert not drive.machine.evidence.others
