"""Names in DNS under a virtual clock: who is joined when, and when DNS is asked."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from pgmlite.core.config_listening import SourcesConfig
from pgmlite.core.events import Waiting, Warned
from pgmlite.core.events_listening import Resolved, SourceState
from pgmlite.core.figures import OfferedChannel
from pgmlite.core.machine import NOT_OFFERED, SECOND, DnsAnswer, Join, Leave, Resolve
from pgmlite.core.receive.names import NAME_TRANSITIONS, Name, NameEvent, NameState
from pgmlite.core.receive.sources import ANY_SOURCE, Sources
from pgmlite.errors import NetworkError, UsageError
from pgmlite.wire.manifest import Rung
from tests.support.names import (
    GROUP,
    LADDER,
    NAME,
    OTHER,
    A,
    B,
    C,
    D,
    World,
    answer,
    failure,
    service,
)

# The table.


def test_every_state_is_reached_and_left() -> None:
    assert {state for state, _ in NAME_TRANSITIONS} == set(NameState)
    assert {*NAME_TRANSITIONS.values(), NameState.RESOLVING} == set(NameState)


@pytest.mark.parametrize(("state", "event"), list(product(NameState, NameEvent)))
def test_the_table_is_complete(state: NameState, event: NameEvent) -> None:
    """What has no place in the table can't happen: the machine never gets there."""
    name = Name(NAME, is_service=True, config=SourcesConfig())
    name.answered(0, answer([A], [B], [C]), ())
    name.state = state
    now = {
        NameEvent.ANSWERED: 0,
        NameEvent.HEARD: 0,
        NameEvent.QUIET: 5 * SECOND,
        NameEvent.DEAD: 10 * SECOND,
    }[event]
    match event:
        case NameEvent.ANSWERED:
            name.answered(now, answer([A], [B], [C]), [A])
        case NameEvent.HEARD if state is not NameState.RESOLVING:
            name.heard(now)
        case _:
            name.tick(now, lambda _: 0)
    expected = NAME_TRANSITIONS.get((state, event), state)
    if event is NameEvent.DEAD and (state, NameEvent.QUIET) in NAME_TRANSITIONS:
        expected = NameState.STANDBY  # by way of SILENT, as the clock went past both
    assert name.state is expected


def test_the_silences_have_an_order() -> None:
    with pytest.raises(UsageError):
        SourcesConfig(silent_after=11 * SECOND)


# Without names.


def test_without_sources_anybody_is_heard_and_nothing_is_ever_due() -> None:
    world = World(Sources(), lambda _: None, [GROUP])
    assert world.log == [(0, Join(GROUP))]
    assert world.sources.wanted == ANY_SOURCE
    world.sources.receive(1, A)
    assert world.listening.deadline is None


def test_sources_that_a_user_named_are_told_of() -> None:
    world = World(Sources([A, B]), lambda _: None, [GROUP])
    world.sending = {A}
    world.run(20)
    assert world.joined == {A, B}
    assert not world.times(Resolve)
    assert world.times(SourceState, address=A, state="heard") == [0.1]
    assert world.times(SourceState, address=B, state="silent") == [5]
    world.sending = {B}
    world.run(20)
    assert world.times(SourceState, address=A, state="silent") == [25]
    assert world.times(SourceState, address=B, state="heard") == [20.1]
    assert len(world.events(SourceState)) == 4


def test_repairers_are_joined_and_not_told_of() -> None:
    world = service(lambda at: answer([A]) if at < 1 else answer([A, C]))
    world.run(1)
    world.sources.add([B, A])
    world.run(60)
    assert world.joined == {A, B, C}
    world.sources.receive(world.now, B)
    told = {event.address for event in world.events(SourceState)}
    assert told == {A, C}


def test_a_source_may_repair_as_well() -> None:
    world = service(lambda _: answer([A], [B]))
    world.sources.add([A])
    world.sending = {A}
    world.run(60)
    assert world.joined == {A}
    assert world.times(SourceState, address=A, state="heard") == [0.1]


# Answers.


def test_all_sources_of_the_best_priority_are_joined_together() -> None:
    # spec: DNS-5
    world = service(lambda _: answer([A, B], [C]))
    assert world.log == [(0, Resolve(NAME, is_service=True))]
    world.run(1)
    assert world.times(Join, group=GROUP) == [0.01, 0.01]
    assert world.joined == {A, B}
    (told,) = world.events(Resolved)
    channels = (OfferedChannel(*GROUP, 5_000_000),)
    assert told == Resolved(10_000_000, NAME, (A, B), (C,), 28_775, channels, 60, dnssec=False)


def test_hosts_need_no_ladder_and_add_to_what_a_user_named() -> None:
    # spec: DNS-1
    says = lambda _: DnsAnswer(name="h", tiers=((A,),), ttl=SECOND)  # noqa: E731
    world = World(Sources([D], hosts=["h"]), says, [GROUP])
    assert world.joined == {D}
    world.run(1)
    assert world.joined == {A, D}
    assert world.log[0] == (0, Resolve("h", is_service=False))
    (told,) = world.events(Resolved)
    assert told.port is None


def test_nobody_is_heard_before_there_is_an_answer() -> None:
    world = World(Sources(hosts=["h"]), lambda _: None, [GROUP])
    world.run(600)
    assert world.joined == set()
    assert world.times(Resolve) == [0]


@pytest.mark.parametrize(("ip", "most"), [("2001:db8::", 64), ("192.0.2.", 10)])
def test_no_more_are_joined_than_the_system_allows(ip: str, most: int) -> None:
    # spec: DNS-5
    order = [f"{ip}{n}" for n in range(100, 200)]
    world = service(lambda _: answer(order[:40], order[40:]))
    world.run(1)
    assert world.joined == set(order[: min(40, most)])
    world.run(20)  # nobody of the best priority is heard: the others come first
    assert set(order[40:]) >= world.joined or most == 64
    assert len(world.joined) == most
    assert len(world.events(Resolved)[0].sources) == min(40, most)
    assert world.joined >= set(order[40 : 40 + min(60, most)])


def test_who_is_heard_makes_no_room() -> None:
    # spec: DNS-5
    first = [f"192.0.2.{n}" for n in range(10)]
    second = [f"198.51.100.{n}" for n in range(10)]
    world = service(lambda at: answer(first if at < 30 else second))
    world.sending = set(first[:3])
    world.run(100)
    assert world.joined == {*first[:3], *second[:7]}
    world.sources.add(["203.0.113.1"])
    assert "203.0.113.1" not in world.sources.wanted


def test_a_user_comes_first() -> None:
    world = service(lambda _: answer([f"192.0.2.{n}" for n in range(20)]), named=["203.0.113.1"])
    world.run(1)
    assert "203.0.113.1" in world.joined
    assert len(world.joined) == 10


# Silence.


def test_the_next_priority_is_joined_after_10_s_of_silence() -> None:
    # spec: DNS-6
    world = service(lambda _: answer([A, B], [C], [D]))
    world.sending = {A, B}
    world.run(20)
    world.sending = {B}
    world.run(20)
    assert world.joined == {A, B}
    assert not world.times(SourceState, address=C)
    world.sending = set()
    world.run(9.9)
    assert world.joined == {A, B}
    world.run(0.2)
    assert world.joined == {A, B, C}
    assert world.times(SourceState, address=C, state="standby") == [50]
    world.run(9.8)
    assert D not in world.joined
    world.run(0.2)
    assert world.joined == {A, B, C, D}
    world.sending = {C}
    world.run(100)
    assert world.joined == {A, B, C, D}
    assert world.times(SourceState, address=C, state="heard") == [60.2]


def test_a_standby_that_is_heard_keeps_the_next_out() -> None:
    # spec: DNS-6
    world = service(lambda _: answer([A], [B], [C]))
    world.run(11)
    world.sending = {B}
    world.run(300)
    assert world.joined == {A, B}


def test_silence_of_5_s_asks_again_at_once() -> None:
    # spec: DNS-6
    world = service(lambda at: answer([A] if at < 10 else [B], ttl=3_600))
    world.sending = {A}
    world.run(60)
    assert world.times(Resolve) == [0]
    world.sending = {B}
    world.run(10)
    assert world.times(Resolve) == [0, 65]
    assert world.times(Join, source=B) == [65.01]
    assert world.times(SourceState, address=B, state="heard") == [65.1]


def test_one_that_comes_back_is_told_of() -> None:
    world = service(lambda _: answer([A]))
    world.sending = {A}
    world.run(1)
    world.sending = set()
    world.run(60)
    world.sending = {A}
    world.run(1)
    assert world.times(SourceState, state="heard") == [0.1, 61.1]
    assert world.times(SourceState, state="silent") == [6]
    assert world.listening.joined == {(GROUP, A)}


def test_early_ticks_do_nothing() -> None:
    world = service(lambda _: answer([A]))
    world.run(1)
    for now in range(world.now, world.listening.deadline or 0, SECOND // 7):
        assert world.listening.tick(now) == []


# When DNS is asked.


@pytest.mark.parametrize(("ttl", "every"), [(0, 30), (45, 45), (1e6, 3_600)])
def test_an_answer_is_asked_for_again_by_its_ttl(ttl: float, every: float) -> None:
    # spec: DNS-8
    world = service(lambda _: answer([A], ttl=ttl))
    world.sending = {A}
    world.run(every + 2)
    first, second = world.times(Resolve)
    assert second - first == pytest.approx(every, abs=0.02)
    assert len(world.events(Resolved)) == 1, "the same answer is no news"


def test_a_failure_is_retried_later_each_time() -> None:
    # spec: DNS-8
    world = service(lambda at: answer([A]) if at > 300 else failure())
    world.run(400)
    times = world.times(Resolve)
    gaps = [round(b - a) for a, b in pairwise(times)]
    assert gaps[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert world.times(Resolved) == [next(at for at in times if at > 300) + 0.01]
    assert len(world.events(Waiting)) == 1, "one failure is told once"


def test_an_answer_ends_a_row_of_failures() -> None:
    # spec: DNS-8
    world = service(lambda at: answer([A]) if 20 < at < 50 else failure())
    world.sending = {A}
    world.run(100)
    times = world.times(Resolve)
    assert [round(b - a) for a, b in pairwise(times)] == [1, 2, 4, 8, 16, 60, 1, 2, 4]


def test_another_answer_is_told() -> None:
    world = service(lambda at: answer([A], [B]) if at < 50 else answer([A], [C]))
    world.sending = {A}
    world.run(400)
    assert [event.standby for event in world.events(Resolved)] == [(B,), (C,)]


def test_failures_without_end_cost_nothing() -> None:
    name = Name(NAME, is_service=True, config=SourcesConfig())
    for _ in range(10_000):
        name.failed(0, "x")
    assert list(name.deadlines(0, lambda _: 0)) == [60 * SECOND]


def test_what_fails_is_said_until_there_is_an_answer() -> None:
    # spec: DNS-8
    def says(at: float) -> DnsAnswer:
        return failure("nxdomain", "no name") if at < 2 else failure("timeout", "no answer")

    world = service(says)
    world.run(11)
    said = [event.waiting for event in world.events(Waiting)]
    assert said == ["no name", "no answer"]


def test_a_failure_does_not_touch_what_is_joined() -> None:
    # spec: DNS-8
    words = ("nxdomain", "no_srv", "no_txt", "no_address", "servfail", "timeout", "malformed")
    world = service(lambda at: answer([A], [B]) if at < 1 else failure(words[int(at) % 7]))
    world.sending = {A}
    world.run(4_000)
    assert world.joined == {A}
    assert not world.times(Leave)
    assert len(world.events(Warned)) == 1
    world.sending = set()
    world.run(20)
    assert world.joined == {A, B}, "what it said before holds on"


def test_a_service_that_is_not_offered_ends_it_at_once() -> None:
    # spec: DNS-2
    with pytest.raises(NetworkError, match="not offered"):
        service(lambda _: failure(NOT_OFFERED, "not offered")).run(1)


def test_a_service_that_is_offered_no_more_is_left_when_it_is_silent() -> None:
    # spec: DNS-2, DNS-9
    world = service(lambda at: answer([A]) if at < 1 else failure(NOT_OFFERED))
    world.sending = {A}
    world.run(500)
    assert world.joined == {A}
    world.sending = set()
    world.run(59.8)
    assert world.joined == {A}
    world.run(1)
    assert world.joined == set()


def test_an_answer_to_nothing_that_was_asked_is_ignored() -> None:
    world = service(lambda _: None)
    assert world.listening.resolved(0, answer([A], name="other")) == []


# Changes.


def test_new_ones_are_joined_at_once_and_gone_ones_left_when_silent() -> None:
    # spec: DNS-9
    world = service(lambda at: answer([A, B] if at < 50 else [B, C]))
    world.sending = {A, B}
    world.run(70)
    assert world.times(Join, source=C) == [60.02]
    world.run(100)
    assert world.joined == {A, B, C}, "it is heard: the answer may be wrong"
    world.sending = {B}
    world.run(59.8)
    assert A in world.joined
    world.run(0.4)
    assert world.joined == {B, C}
    assert world.times(Leave) == [230]


def test_one_that_comes_back_into_an_answer_is_not_left() -> None:
    # spec: DNS-9
    world = service(lambda at: answer([B] if 50 < at < 70 else [A, B], ttl=30))
    world.sending = {A, B}
    world.run(35)
    world.sending = {B}
    world.run(600)
    assert world.joined == {A, B}
    assert not world.times(Leave)


def test_an_answer_that_is_not_whole_says_nobody_is_gone() -> None:
    # spec: DNS-8, DNS-9
    world = service(lambda at: answer([A, B]) if at < 50 else answer([B], is_whole=False))
    world.sending = {B}
    world.run(400)
    assert world.joined == {A, B}
    times = world.times(Resolve)
    assert round(times[2] - times[1]) == 1, "it is asked again like a failure"


def test_a_priority_that_could_not_be_looked_up_keeps_its_place() -> None:
    world = service(lambda _: answer([], [B], is_whole=False))
    world.run(9.9)
    assert world.joined == set()
    world.run(1)
    assert world.joined == {B}


def test_a_better_priority_does_not_drop_what_is_heard() -> None:
    # spec: DNS-9
    world = service(lambda at: answer([B]) if at < 50 else answer([A], [B]))
    world.sending = {B}
    world.run(100)
    assert world.joined == {A, B}
    world.run(300)
    assert world.joined == {A, B}


def test_groups_change_only_in_silence() -> None:
    # spec: DNS-9
    other = (Rung(5_000_000, OTHER),)
    world = service(lambda at: answer([A], ladder=LADDER if at < 50 else other))
    world.sending = {A}
    world.run(200)
    assert world.listening.joined == {(GROUP, A)}
    world.sending = set()
    world.run(20)
    assert world.listening.joined == {(OTHER, A)}


def test_ad_is_reported_and_nothing_follows_from_it() -> None:
    # spec: DNS-7
    worlds = [service(lambda _, ad=ad: answer([A], is_authentic=ad)) for ad in (False, True)]
    for world in worlds:
        world.run(100)
    told = [world.events(Resolved)[0].dnssec for world in worlds]
    assert told == [False, True]
    plain, signed = ([one for one in w.log if not isinstance(one[1], Resolved)] for w in worlds)
    assert plain == signed
