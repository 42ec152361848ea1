"""Which channel is heard: the rules, one by one, under a virtual clock."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.events_listening import RateChanged, Trying
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.rates import RATE_TRANSITIONS, RateEvent, RateState
from pgmlite.errors import UsageError
from tests.support.path import LADDER, M, Path, always, link, reasons


class TestTable:
    def test_every_state_is_reached_and_left_and_every_event_means_something(self) -> None:
        assert {state for state, _ in RATE_TRANSITIONS} == set(RateState)
        assert set(RATE_TRANSITIONS.values()) == set(RateState)
        assert {event for _, event in RATE_TRANSITIONS} == set(RateEvent)

    @settings(max_examples=30, deadline=None)
    @given(
        st.integers(0, 3),
        st.sampled_from([None, 1 * M, 15 * M, 30 * M]),
        st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.02, 0.09, 0.3, 0.9]),
                st.sampled_from([0.0, 0.0, 0.05]),
                st.sampled_from([0.0, 0.9]),
                st.sampled_from([1.0, 4.0, 16.0]),
            ),
            max_size=12,
        ),
    )
    def test_whatever_happens_it_hears_what_it_may(
        self, first: int, limit: int | None, course: list[tuple[float, float, float, float]]
    ) -> None:
        # spec: RTE-2
        path = Path(RatesConfig(limit=limit), ladder=tuple(r // 10 for r in LADDER), first=first)
        for loss, drops, share, seconds in course:
            path.run(seconds, always(loss), drops=drops, share=share)
        for wanted in path.joined:
            rate = sum(path.ladder[channel] for channel in wanted)
            assert limit is None or rate <= limit or wanted == {0}
            assert 1 <= len(wanted) <= 2


class TestUp:
    def test_the_next_channel_is_joined_beside_the_present_one_for_two_seconds(self) -> None:
        # spec: RTE-4, RTE-5
        path = Path()
        tried = path.until_try()
        assert (tried.channel, tried.rate) == (1, 6 * M)
        assert 2 * SECOND <= tried.at <= 7 * SECOND
        assert path.machine.wanted == {0, 1}
        up = path.until_rate()
        assert (up.channel, up.rate, up.capacity, up.reason) == (1, 6 * M, None, "up")
        assert 2 * SECOND <= up.at - tried.at <= 2.2 * SECOND
        assert path.machine.wanted == {1}

    def test_a_channel_fits_that_needs_no_more_than_what_came_of_both(self) -> None:
        # spec: RTE-5
        path = Path(first=1)
        up = path.until_rate(link(16))
        assert (up.reason, up.channel) == ("up", 2)
        assert up.capacity == pytest.approx(16 * M, rel=0.02)

    def test_one_does_not_fit_that_needs_more_than_nine_tenths_of_it(self) -> None:
        # spec: RTE-5
        path = Path(first=1)
        failed = path.until_rate(link(15.2))
        assert (failed.reason, failed.channel) == ("failed", 1)
        assert failed.capacity == pytest.approx(15.2 * M, rel=0.02)
        assert path.machine.wanted == {1}

    def test_a_channel_on_which_nothing_is_sent_does_not_fit(self) -> None:
        # spec: RTE-5
        path = Path()
        assert reasons(path.run(10, silent=frozenset({1}))) == [("failed", 0)]

    def test_a_sender_that_is_slower_than_it_says_is_climbed_all_the_same(self) -> None:
        # spec: RTE-5
        path = Path()
        path.ladder = tuple(rate * 2 // 5 for rate in path.ladder)
        assert reasons(path.run(10)) == [("up", 1)]

    def test_the_wait_differs_from_receiver_to_receiver_and_is_longer_high_up(self) -> None:
        # spec: RTE-4
        low = [Path(seed=seed).until_try().at / SECOND for seed in range(20)]
        assert min(low) < 3.2 < 5 < max(low) <= 7
        high = [Path(seed=seed, first=2).until_try().at / SECOND for seed in range(20)]
        assert sum(high) > 1.5 * sum(low)

    def test_no_try_while_more_is_lost_than_usual(self) -> None:
        # spec: RTE-4
        path = Path(first=1)
        path.run(1.5)
        assert not path.run(12, always(0.09))
        assert path.until_try(most=13)

    def test_no_try_when_little_is_missing(self) -> None:
        # spec: RTE-4
        path = Path()
        assert not path.run(30, share=0.81)
        assert path.run(10, share=0.79)

    def test_no_try_while_the_own_system_drops(self) -> None:
        # spec: RTE-4
        path = Path()
        assert not path.run(30, drops=0.02)

    def test_the_highest_channel_is_the_end(self) -> None:
        path = Path(first=3)
        assert not path.run(60)


class TestBlocks:
    def test_a_channel_that_failed_waits_and_twice_as_long_each_time(self) -> None:
        # spec: RTE-6
        path = Path(first=2)
        tries = []
        for _ in range(5):
            tries.append(path.until_try(link(20), most=1000).at)
            assert path.until_rate(link(20)).reason == "failed"
        gaps = [(b - a) / SECOND for a, b in pairwise(tries)]
        for gap, least in zip(gaps, (80, 160, 320, 600), strict=True):
            assert least <= gap <= min(1.5 * least, 600) + 30

    def test_one_judged_in_passing_waits_twenty_seconds(self) -> None:
        # spec: RTE-6
        path = Path(ladder=(6 * M, 14 * M, 30 * M))
        up = path.until_rate(link(16))
        assert up.reason == "up"
        again = path.until_try(link(16))
        assert 20 * SECOND <= again.at - up.at <= 24 * SECOND

    def test_one_far_beyond_what_was_measured_waits_long(self) -> None:
        # spec: RTE-6
        path = Path(first=1)
        up = path.until_rate(link(16))
        assert (up.reason, up.channel) == ("up", 2)
        assert path.until_try(link(16)).at - up.at >= 80 * SECOND

    def test_a_failed_try_blocks_what_is_higher(self) -> None:
        # spec: RTE-6
        path = Path(ladder=(4 * M, 14 * M, 30 * M))
        failed = path.until_rate(link(8))
        assert failed.reason == "failed"
        path.machine.channel = 1
        assert path.until_try().at - failed.at >= 80 * SECOND


class TestDeaf:
    def test_losses_after_a_change_mean_nothing_for_fifteen_seconds(self) -> None:
        # spec: RTE-7
        path = Path(first=2)
        path.until_rate(link(20))
        assert not path.run(14, always(0.6))
        assert path.machine.state is RateState.DEAF
        assert not path.run(20)
        assert path.machine.state is RateState.STEADY

    def test_it_ends_with_the_losses(self) -> None:
        # spec: RTE-7
        path = Path(first=2)
        path.until_rate(link(20))
        path.run(1)
        assert path.machine.state is RateState.DEAF
        path.run(2)
        assert path.machine.state is RateState.STEADY


class TestDown:
    def test_a_channel_is_left_after_fifteen_seconds_of_losses_and_not_before(self) -> None:
        # spec: RTE-8
        path = Path(first=2)
        path.run(2)
        since = path.now
        down = path.until_rate(always(0.2))
        assert (down.reason, down.channel, down.rate) == ("down", 1, 6 * M)
        assert 15 * SECOND <= down.at - since <= 17.2 * SECOND
        assert path.machine.wanted == {1}

    def test_a_look_without_them_and_it_begins_anew(self) -> None:
        # spec: RTE-8
        path = Path(first=2)
        path.run(2)
        for _ in range(4):
            assert not reasons(path.run(14, always(0.6)))
            path.run(2)
        assert path.machine.channel == 2

    def test_losses_of_a_neighbours_try_are_none(self) -> None:
        # spec: RTE-8: 2 s of a try, and 11 s until routers have left.
        path = Path(first=2)
        path.run(2)
        for _ in range(3):
            assert not reasons(path.run(13, always(0.6)))
            path.run(2)
        assert path.machine.channel == 2

    def test_who_was_never_right_goes_down_to_what_fits(self) -> None:
        # spec: RTE-8
        path = Path(RatesConfig(limit=40 * M))
        down = path.until_rate(link(5))
        assert (down.reason, down.channel) == ("down", 0)
        assert down.capacity == pytest.approx(5 * M, rel=0.02)

    def test_the_channel_that_was_left_is_blocked(self) -> None:
        # spec: RTE-6, RTE-8
        path = Path(first=2)
        path.run(2)
        down = path.until_rate(always(0.2))
        assert path.until_try().at - down.at >= 80 * SECOND

    def test_on_the_lowest_channel_what_lasts_is_usual(self) -> None:
        # spec: RTE-8
        path = Path()
        assert not path.run(15, always(0.25))
        assert path.until_rate(always(0.25), most=20).reason == "up"

    def test_silence_is_no_reason(self) -> None:
        # spec: RTE-3
        path = Path(first=2)
        path.run(2)
        assert not path.run(100, silent=frozenset({2}))
        assert path.machine.channel == 2


class TestUsual:
    @pytest.mark.parametrize("share", [0.02, 0.05])
    def test_losses_that_were_there_before_do_not_stop_a_try(self, share: float) -> None:
        # spec: RTE-11
        path = Path()
        assert [path.until_rate(always(share), most=30).reason for _ in range(3)] == ["up"] * 3

    def test_it_takes_more_than_a_neighbours_try_to_become_usual(self) -> None:
        # spec: RTE-11
        path = Path(RatesConfig(try_after=60 * SECOND), first=2)
        path.run(24)
        path.run(12, always(0.08))
        assert not [one for one in path.run(12, always(0.08)) if isinstance(one, Trying)]


class TestOwnDrops:
    def test_a_channel_is_left_after_three_seconds_of_them(self) -> None:
        # spec: RTE-12
        path = Path(first=2)
        path.run(2)
        events = path.run(3.2, drops=0.03)
        assert reasons(events) == [("down", 1)]

    def test_not_after_two(self) -> None:
        # spec: RTE-12
        path = Path(first=2)
        path.run(2)
        path.run(1.9, drops=0.03)
        assert not path.run(4)

    def test_a_try_fails_by_them(self) -> None:
        # spec: RTE-12
        path = Path()
        path.until_try()
        assert reasons(path.run(2.2, drops=0.03)) == [("failed", 0)]

    def test_what_was_dropped_before_does_not_count(self) -> None:
        path = Path(first=2)
        path.machine.dropped(1_000_000)
        path.machine.dropped(1_000_000)
        assert not reasons(path.run(1))


class TestNeighbours:
    def test_a_try_that_brings_fewer_bits_than_before_says_nothing(self) -> None:
        # spec: RTE-10
        path = Path(first=1)
        tried = path.until_try()
        void = path.until_rate(link(20, other=80))
        assert (void.reason, void.channel, void.capacity) == ("disturbed", 1, None)
        again = path.until_try()
        assert again.at - tried.at < 30 * SECOND
        assert path.until_rate().reason == "up"

    def test_so_does_one_whose_losses_begin_late(self) -> None:
        # spec: RTE-10
        path = Path()
        path.until_try()
        path.run(1)
        assert path.until_rate(always(0.5)).reason == "disturbed"
        assert path.until_try(most=30)

    def test_or_before_its_first_packet(self) -> None:
        # spec: RTE-10
        path = Path()
        path.until_try()
        path.run(0.5, always(0.5), silent=frozenset({1}))
        assert path.until_rate(always(0.5)).reason == "disturbed"

    def test_a_second_one_in_a_row_has_failed(self) -> None:
        # spec: RTE-10: a path with a long queue looks like one with a neighbour.
        path = Path()
        for reason in ("disturbed", "failed", "disturbed"):
            path.until_try(most=200)
            path.run(1)
            assert path.until_rate(always(0.5)).reason == reason
            path.run(5)

    def test_losses_that_begin_with_it_are_its_own(self) -> None:
        # spec: RTE-10
        path = Path()
        path.until_try()
        path.run(0.3, silent=frozenset({1}))
        assert path.until_rate(always(0.5)).reason == "failed"

    def test_who_sees_others_change_waits_longer_but_not_at_the_bottom(self) -> None:
        # spec: RTE-4
        def mean(first: int, loss: float) -> float:
            times = []
            for seed in range(12):
                path = Path(first=first, seed=seed)
                path.run(1.1)
                path.run(1.1, always(loss))
                since = path.now
                times.append((path.until_try().at - since) / SECOND)
            return sum(times) / len(times)

        assert mean(1, 0.3) > 1.5 * mean(1, 0.0)
        assert mean(0, 0.3) < 6.5


class TestLimit:
    @pytest.mark.parametrize(
        ("limit", "channel"), [(1, 0), (2, 0), (5.9, 0), (6, 1), (39, 2), (40, 3), (400, 3)]
    )
    def test_it_begins_with_the_highest_channel_that_is_allowed(
        self, limit: float, channel: int
    ) -> None:
        # spec: RTE-2
        path = Path(RatesConfig(limit=round(limit * M)))
        assert reasons(path.events) == [("start", channel)]

    def test_without_one_it_begins_where_it_is(self) -> None:
        # spec: RTE-1
        assert reasons(Path(first=2).events) == [("start", 2)]

    def test_a_try_counts_so_that_channels_take_turns(self) -> None:
        # spec: RTE-2
        path = Path(RatesConfig(limit=15 * M))
        path.run(2)
        assert reasons(path.run(18, always(0.3))) == [("down", 1)]
        assert path.until_try().channel == 2
        assert path.machine.wanted == {2}
        assert path.until_rate().reason == "up"
        assert {1, 2} not in path.joined

    def test_every_sender_of_a_channel_counts(self) -> None:
        # spec: RTE-2
        path = Path(RatesConfig(limit=15 * M), senders=2)
        assert reasons(path.run(2.1)) == [("down", 1)]
        assert not path.run(60)

    def test_there_is_a_least_one(self) -> None:
        with pytest.raises(UsageError, match="rate limit 9999 bit/s"):
            RatesConfig(limit=9_999)


class TestTwoSenders:
    def test_a_channel_needs_what_all_of_them_send(self) -> None:
        # spec: RTE-5: 2 x 14 do not fit into 2 x 6 + 2 x 14 on a link of 24.
        path = Path(first=1, senders=2)

        def loss(path: Path) -> float:
            sent = 2 * sum(path.ladder[channel] for channel in path.machine.wanted)
            return max(0.0, 1 - 24 * M / sent)

        failed = path.until_rate(loss)
        assert (failed.reason, failed.channel) == ("failed", 1)


class TestComingBack:
    def test_it_begins_anew_even_in_a_try(self) -> None:
        # spec: RTE-14
        path = Path(first=2)
        path.until_try()
        told = path.machine.come_back(path.now, 0)
        assert reasons(told) == [("silent", 0)]
        assert path.machine.wanted == {0}
        assert path.machine.state is RateState.DEAF
        assert path.until_try().channel == 1


class TestFewPackets:
    def test_it_waits_for_packets_before_it_judges(self) -> None:
        # spec: RTE-3
        path = Path(ladder=(100_000, 300_000))
        tried = path.until_try()
        up = path.until_rate()
        assert up.reason == "up"
        assert up.at - tried.at >= 2 * SECOND
        assert all(isinstance(one, RateChanged | Trying) for one in path.events)

    def test_its_deadline_is_never_in_the_past(self) -> None:
        path = Path(ladder=(20_000, 60_000))
        for _ in range(300):
            path.run(0.1)
            assert path.machine.deadline > path.now

    def test_nothing_is_due_before_the_deadline(self) -> None:
        path = Path()
        path.run(0.5)
        assert not path.machine.tick(path.now, 0.0)
