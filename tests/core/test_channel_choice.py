"""Which channels a receiver is a member of, and what becomes of those that it left."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from pgmlite.core.config import NakConfig, ReceiverConfig
from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.events import Warned
from pgmlite.core.events_listening import RateChanged, Trying
from pgmlite.core.machine import MS, SECOND, Action, Held, Join, Leave, Prepare
from pgmlite.core.receive.carousels import Carousels
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.ncfs import Cursors
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.receive.repairers import Repairers
from pgmlite.core.receive.sources import Sources
from pgmlite.core.ring import Ring
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import Order
from pgmlite.wire.manifest import Rung
from pgmlite.wire.request import Counts
from tests.support.builders import Sample, batches, make_object, make_spm
from tests.support.nak_builders import SPM_FIELDS, spm_packet
from tests.support.names import NAME, answer
from tests.support.path import packets

M = 1_000_000
GROUPS = [Endpoint(f"ff3e::8000:{number}", 28775) for number in range(4)]
LADDER = tuple(Rung(rate * M, group) for rate, group in zip((2, 6, 14, 40), GROUPS, strict=True))
ONE = make_object(64 * 100)
CLIMBING = Sample(ONE.data, replace(ONE.manifest, ladder=LADDER), ONE.tree)
FEC = make_object(64 * 20, repair_symbols=4)
OTHER = Endpoint("ff15::1", 28775)


def listening(
    *groups: Endpoint, channels: range | None = None, limit: int | None = None
) -> Listening:
    config = RatesConfig(channels=channels, limit=limit)
    return Listening(groups or GROUPS[:1], Sources(), config, Random(1))


def moves(actions: list[Action]) -> list[str]:
    """Return joins and leaves by the numbers of their groups."""
    return [
        f"{'+' if isinstance(one, Join) else '-'}{GROUPS.index(one.group)}"
        for one in actions
        if isinstance(one, Join | Leave)
    ]


def warnings(actions: list[Action]) -> list[str]:
    return [one.warning for one in actions if isinstance(one, Warned)]


class TestWithALadder:
    def test_it_hears_the_group_that_was_named_until_it_knows_more(self) -> None:
        # spec: RTE-1
        one = listening(GROUPS[2])
        assert moves(one.start(0)) == ["+2"]
        told = one.climb(5, LADDER)
        assert moves(told) == []
        assert told == [RateChanged(5, 2, 14 * M, None, "start")]
        assert one.channels == {2}

    def test_a_try_joins_and_leaves(self) -> None:
        # spec: RTE-1
        one = listening()
        one.start(0)
        one.climb(0, LADDER)
        now, seen = 0, []
        for step in range(1, 100):
            now = step * 100 * MS
            for channel in sorted(one.channels or ()):
                count = (20, 60, 140, 400)[channel]
                one.receive(now, packets(channel, range(step * count, step * count + count)))
            seen += one.tick(now) if one.deadline and one.deadline <= now else []
        assert [type(event) for event in seen[:4]] == [Trying, Join, RateChanged, Leave]
        assert moves(seen[:4]) == ["+1", "-0"]
        assert one.channel_seconds(now)[0] == pytest.approx(seen[2].at / SECOND)

    def test_the_limit_chooses_the_first_channel(self) -> None:
        # spec: RTE-2
        one = listening(limit=15 * M)
        one.start(0)
        assert moves(one.climb(0, LADDER)) == ["-0", "+2"]

    def test_it_says_so_if_even_the_lowest_has_more(self) -> None:
        # spec: RTE-2
        one = listening(limit=1 * M)
        one.start(0)
        told = one.climb(0, LADDER)
        assert warnings(told) == ["even the lowest channel has more than the rate limit"]
        assert one.channels == {0}

    def test_the_same_ladder_changes_nothing(self) -> None:
        one = listening(limit=15 * M)
        one.start(0)
        one.climb(0, LADDER)
        assert one.climb(9, LADDER) == []

    def test_another_one_begins_anew(self) -> None:
        one = listening()
        one.start(0)
        one.climb(0, LADDER)
        assert one.climb(9, LADDER[:2]) == [RateChanged(9, 0, 2 * M, None, "start")]
        assert one.channel_seconds(1 * SECOND + 9) == (1.0, 0.0)

    def test_a_group_that_is_none_of_them_is_heard_and_told_once(self) -> None:
        # spec: RTE-1
        one = listening(OTHER)
        one.start(0)
        told = one.climb(0, LADDER)
        assert "none of the object's channels" in warnings(told)[0]
        assert f"{GROUPS[0].address} port 28775" in warnings(told)[0]
        assert one.climb(5, LADDER) == []
        assert {group for group, _ in one.joined} == {OTHER}
        assert one.deadline is None
        assert one.channel_seconds(5) == ()
        assert one.hears(63)


def late(one: Listening, now: int) -> list[Action]:
    """Return what is done until `now`, each thing when it is due."""
    actions: list[Action] = []
    while (due := one.deadline) is not None and due <= now:
        actions += one.tick(due)
        assert one.deadline is None or one.deadline > due, "it gets on"
    return actions


class TestStrangersLadders:
    """Whoever can send to a group can announce an object, and name any groups in its manifest."""

    @pytest.mark.parametrize(
        ("named", "other"),
        [
            ("ff3e::8000:0", "ff3e::8000:1:1"),
            ("ff3e::8000:0", "ff35::8000:1"),
            ("ff3e:40:2001:db8::1", "ff3e::8000:1"),
            ("ff15::1", "ff02::1"),
            ("ff02::1234", "ff02::fb"),
            ("239.1.2.3", "224.0.0.251"),
            ("224.0.0.200", "224.0.0.5"),
            ("239.1.2.3", "239.192.1.1"),
            ("239.192.1.1", "239.255.1.1"),
            ("239.1.2.3", "232.1.2.3"),
            ("239.1.2.3", "233.1.2.3"),
        ],
    )
    @pytest.mark.parametrize("limit", [None, 9 * M])
    def test_they_lead_nowhere_else(self, named: str, other: str, limit: int | None) -> None:
        # spec: RTE-13
        port = 28775 if other != "ff3e::8000:1:1" else 5353
        home, far = Endpoint(named, 28775), Endpoint(other, port)
        one = listening(home, limit=limit)
        one.start(0)
        told = one.climb(0, (Rung(2 * M, home), Rung(3 * M, far)))
        assert warnings(told) == [
            f"the object says that {far} is a channel beside {home}: not believed"
        ]
        assert {group for group, _ in one.joined} == {home}
        assert one.deadline is None
        assert one.climb(5, (Rung(2 * M, home), Rung(3 * M, far))) == []

    @pytest.mark.parametrize("other", ["239.7.7.7", "239.191.0.1"])
    def test_what_is_of_the_same_scope_may_be_a_channel(self, other: str) -> None:
        # spec: RTE-13
        home, near = Endpoint("239.1.2.3", 28775), Endpoint(other, 28775)
        one = listening(home, limit=9 * M)
        one.start(0)
        one.climb(0, (Rung(2 * M, home), Rung(3 * M, near)))
        assert {group for group, _ in one.joined} == {near}

    def test_they_do_not_lead_away_for_good(self) -> None:
        # spec: RTE-14
        one = listening(limit=15 * M)
        one.start(0)
        assert moves(one.climb(0, LADDER)) == ["-0", "+2"]
        one.receive(5 * SECOND, packets(2, range(9)))
        assert moves(late(one, 35 * SECOND - 1)) == []
        told = late(one, 35 * SECOND)
        assert moves(told) == ["-2", "+0"]
        assert [event.reason for event in told if isinstance(event, RateChanged)] == ["silent"]
        assert moves(late(one, 4000 * SECOND)) == []

    def test_who_named_channels_hears_the_first_group_besides(self) -> None:
        # spec: RTE-14
        one = listening(channels=range(3, 4))
        one.start(0)
        one.climb(0, LADDER)
        assert moves(late(one, 30 * SECOND)) == ["+0"]
        one.receive(40 * SECOND, packets(0, range(9)))
        assert one.deadline is None
        assert moves(one.receive(41 * SECOND, packets(3, range(9)))) == ["-0"]
        assert one.deadline == 71 * SECOND

    def test_another_ladder_is_climbed_from_the_group_that_was_named(self) -> None:
        # spec: RTE-14
        one = listening(channels=range(3, 4))
        one.start(0)
        one.climb(0, LADDER)
        late(one, 30 * SECOND)
        assert moves(one.climb(31 * SECOND, (Rung(2 * M, GROUPS[0]),))) == ["-3"]

    def test_so_is_an_object_without_channels_heard_there_alone(self) -> None:
        # spec: RTE-14
        one = listening(channels=range(3, 4))
        one.start(0)
        one.climb(0, LADDER)
        late(one, 30 * SECOND)
        assert moves(one.climb(31 * SECOND, ())) == ["-3"]

    def test_one_without_channels_is_heard_where_it_is_until_it_is_silent(self) -> None:
        # spec: RTE-14
        one = listening(limit=15 * M)
        one.start(0)
        one.climb(0, LADDER)
        assert moves(one.climb(SECOND, ())) == []
        assert moves(late(one, 31 * SECOND)) == ["+0"]
        assert one.deadline is None


class TestNamedChannels:
    def test_one_that_was_named_stays(self) -> None:
        # spec: RTE-1
        one = listening(channels=range(3, 4))
        one.start(0)
        assert moves(one.climb(0, LADDER)) == ["-0", "+3"]
        assert one.channel_seconds(2 * SECOND) == (0.0, 0.0, 0.0, 2.0)

    def test_several_are_heard_at_once(self) -> None:
        # spec: RTE-1
        one = listening(channels=range(3))
        one.start(0)
        assert moves(one.climb(0, LADDER)) == ["+1", "+2"]

    @pytest.mark.parametrize(("channels", "heard"), [(range(2, 6), {2, 3}), (range(5, 6), {3})])
    def test_those_that_do_not_exist_are_told(self, channels: range, heard: set[int]) -> None:
        # spec: RTE-1
        one = listening(channels=channels)
        one.start(0)
        told = one.climb(0, LADDER)
        assert warnings(told) == ["the object has channels 0 to 3 only"]
        assert one.channels == heard

    @pytest.mark.parametrize(
        ("channels", "limit", "heard"),
        [
            (range(3), 21 * M, {0, 1}),
            (range(2, 4), 20 * M, {2}),
            (range(3, 4), 20 * M, {2}),
        ],
    )
    def test_the_limit_holds_for_them_together(
        self, channels: range, limit: int, heard: set[int]
    ) -> None:
        # spec: RTE-2
        one = listening(channels=channels, limit=limit)
        one.start(0)
        told = one.climb(0, LADDER)
        assert one.channels == heard
        assert warnings(told) == [
            f"the rate limit allows channels {', '.join(map(str, sorted(heard)))} only"
        ]

    @pytest.mark.parametrize("channels", [range(1), range(3, 4)])
    def test_it_says_so_too_if_a_user_named_others(self, channels: range) -> None:
        # spec: RTE-2
        one = listening(channels=channels, limit=1 * M)
        one.start(0)
        told = one.climb(0, LADDER)
        assert warnings(told) == ["even the lowest channel has more than the rate limit"]
        assert one.channels == {0}

    def test_it_says_both_of_channels_and_of_the_limit(self) -> None:
        # spec: RTE-1, RTE-2
        one = listening(channels=range(2, 6), limit=20 * M)
        one.start(0)
        told = one.climb(0, LADDER)
        assert warnings(told) == [
            "the object has channels 0 to 3 only",
            "the rate limit allows channels 2 only",
        ]

    def test_an_object_without_a_ladder_has_none(self) -> None:
        # spec: RTE-1
        one = listening(channels=range(1, 2))
        one.start(0)
        assert warnings(one.climb(0, ())) == ["channels can't be chosen: the object has only one"]
        assert one.climb(1, ()) == []
        assert {group for group, _ in one.joined} == {GROUPS[0]}

    def test_nor_is_that_told_of_who_chose_nothing(self) -> None:
        one = listening()
        one.start(0)
        assert one.climb(0, ()) == []


class TestLeaving:
    """A receiver of channel 0 that hears 1 from some time on, as a user or a try would have it."""

    def receiver(self, channels: range) -> Receiver:
        machine = Receiver(
            ReceiverConfig(),
            rng=Random(1),
            listening=Listening(GROUPS[:1], Sources(), RatesConfig(channels=channels), Random(1)),
        )
        machine.start(0)
        return machine

    def give(self, machine: Receiver, raw: list[bytes], now: int = 1) -> None:
        for batch in batches(raw):
            todo = machine.receive(now, batch)
            for action in todo:
                if isinstance(action, Prepare):
                    machine.resume(action.oid, Held())

    def test_what_is_not_heard_is_no_loss_and_its_symbols_count(self) -> None:
        # spec: RTE-9
        machine = self.receiver(range(1, 2))
        self.give(machine, [CLIMBING.spm(sqn=0)])
        self.give(machine, CLIMBING.odata([0], sqn=1, channel=0))
        self.give(machine, CLIMBING.odata([5], sqn=500, channel=0))
        assert machine.lost == 0
        assert machine.progress[0] == 2
        self.give(machine, CLIMBING.odata([6], sqn=1, channel=1))
        self.give(machine, CLIMBING.odata([7], sqn=3, channel=1))
        assert machine.lost == 1

    def test_what_was_lost_before_stays_in_the_sum(self) -> None:
        # spec: RTE-9
        machine = self.receiver(range(1, 2))
        self.give(machine, CLIMBING.odata([0], sqn=1, channel=0))
        self.give(machine, CLIMBING.odata([1], sqn=4, channel=0))
        assert machine.lost == 2
        self.give(machine, [CLIMBING.spm(sqn=5)])
        self.give(machine, CLIMBING.odata([2], sqn=900, channel=0))
        assert machine.lost == 2

    def test_repairers_carousels_and_promises_of_a_left_channel_are_forgotten(self) -> None:
        # spec: RTE-9
        def is_heard(channel: int) -> bool:
            return channel == 1

        left, kept = (Endpoint("S", 0), 1, 0), (Endpoint("S", 0), 1, 1)
        repairers, carousels = Repairers(NakConfig()), Carousels(NakConfig())
        cursors = Cursors(NakConfig(), FEC.manifest.geometry)
        ring = Ring(FEC.manifest.geometry, Order.ROUNDS)
        promised = Counts(*(np.array([number]) for number in (0, 11, 2)))
        for port, key in enumerate((left, kept), 1):
            spm = make_spm(b"", **SPM_FIELDS)
            repairers.take(5, Endpoint("S", port), key, spm, preferred=True)
            carousels.tell(5, key, ring, 0, 0)
            cursors.promise(9, key, promised)
        for one in (repairers, carousels, cursors):
            one.forget(is_heard)
        assert (repairers.of_session(left), carousels.get(left)) == (None, None)
        assert repairers.of_session(kept)
        assert carousels.get(kept)
        assert list(cursors.promised(6, 0)) == [kept]

    def test_who_repairs_on_a_left_channel_is_not_asked(self) -> None:
        # spec: RTE-9
        machine = self.receiver(range(1, 2))
        self.give(machine, [spm_packet(CLIMBING, {"sqn": 0}, **SPM_FIELDS)])
        assert not machine.knows_repairer
        self.give(machine, [spm_packet(CLIMBING, {"sqn": 9}, **SPM_FIELDS)])
        assert not machine.knows_repairer


class TestService:
    """A name in DNS has channels, too: they say what to hear first; an object's count."""

    A = "2001:db8::a"

    def service(self, **config: Any) -> Listening:
        sources = Sources(service=NAME)
        return Listening((), sources, RatesConfig(**config), Random(1))

    def resolve(self, one: Listening, now: int = 0, ladder: tuple[Rung, ...] = LADDER) -> list[str]:
        if now == 0:
            one.start(0)
        return moves(one.resolved(now, answer([self.A], ladder=ladder)))

    @pytest.mark.parametrize(
        ("config", "joined"),
        [
            ({}, ["+0"]),
            ({"limit": 15 * M}, ["+2"]),
            ({"limit": 1 * M}, ["+0"]),
            ({"channels": range(1, 2)}, ["+1"]),
            ({"channels": range(3)}, ["+0", "+1", "+2"]),
            ({"channels": range(3), "limit": 9 * M}, ["+0", "+1"]),
            ({"channels": range(5, 6)}, ["+0"]),
        ],
    )
    def test_it_says_what_to_hear_first(self, config: dict, joined: list[str]) -> None:
        # spec: RTE-1, RTE-2
        assert self.resolve(self.service(**config)) == joined

    def test_an_objects_ladder_is_climbed_from_there(self) -> None:
        # spec: RTE-1
        one = self.service(limit=15 * M)
        self.resolve(one)
        told = one.climb(5, LADDER)
        assert told == [RateChanged(5, 2, 14 * M, None, "start")]
        assert one.rates

    def test_one_that_has_none_is_heard_where_it_comes(self) -> None:
        one = self.service()
        self.resolve(one)
        assert one.climb(5, ()) == []
        assert {group for group, _ in one.joined} == {GROUPS[0]}
        assert one.hears(0)

    def test_a_service_that_fell_silent_may_have_moved(self) -> None:
        # spec: DNS-4, RTE-1
        one = self.service()
        self.resolve(one)
        one.climb(5, LADDER)
        moved = (Rung(3 * M, GROUPS[3]),)
        now = 100 * SECOND
        while one.deadline is not None and one.deadline <= now:
            one.tick(one.deadline)
        assert self.resolve(one, now, moved) == ["-0", "+3"]
        assert one.rates
        assert one.rates.channel == 3
