"""Whose NCFs are believed, and who is asked that never answered (spec: NAK-18, NAK-19)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.config import NakConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive.promises import Promisers
from pgmlite.wire.request import MAX_REQUESTED, build_request, parse_request, parse_runs
from tests.support.asking import Asking, Listening
from tests.support.builders import make_object
from tests.support.nak_builders import GRTT, LONGEST, OTHER, ncf_packet, spm_packet

STRANGER: Any = (("X", 1), 66, 0)
LOST = range(25, 3_000, 40)


def cycle(machine: Asking, *, ncfs_every: int = 0, key: Any = STRANGER) -> int:
    """Go by once with losses, and repair at once what is asked for; return what is missing then.

    Args:
        ncfs_every: After so many symbols somebody promises all that comes next; 0: never.
    """
    for symbol in range(3_900):
        machine.hear([symbol], lost=LOST)
        if ncfs_every and symbol % ncfs_every == 0:
            machine.confirm(range(symbol, min(symbol + 3_000, 4_000)), key=key)
            machine.confirm(range(max(0, symbol - 500), symbol + 1), key=key)
        if symbol % 500 == 0:
            machine.spm()
        for ask in machine.settle():
            machine.confirm(ask.need.symbols.tolist())
            machine.repair(ask.need.symbols.tolist())
    return int(np.count_nonzero(~machine.have[:3_000]))


def test_ncfs_of_invented_sessions_delay_nothing() -> None:
    # spec: NAK-18: ten a second, which was enough to have a pure carousel
    assert cycle(Asking()) == 0
    assert cycle(Asking(), ncfs_every=100) == 0
    machine = Asking()
    assert machine.machine.take_ncfs(1, STRANGER, (build_request(np.arange(9), 99)[0],), 5) is False


def test_two_broken_promises_of_who_repaired_before_are_enough() -> None:
    # spec: NAK-18
    machine = Asking()
    machine.repair(key=STRANGER)
    assert cycle(machine, ncfs_every=100) <= 2
    assert machine.machine.counters.naks_sent > 50  # of 75


def test_a_want_that_waited_twice_in_vain_asks_whoever_promises() -> None:
    # spec: NAK-18
    machine = Asking()
    machine.hear(range(64), lost=[25])
    machine.settle()
    for number in range(400):
        key = (("X", number), number, 0)
        machine.repair(key=key)
        machine.confirm(range(64), key=key)
        if machine.asked(10 * MS):
            break
        machine.spm()
    else:
        raise AssertionError("it never asks")


def test_who_keeps_promises_is_believed() -> None:
    machine = Asking()
    machine.repair(key=OTHER)
    for first in range(0, 3_000, 100):
        machine.hear(range(first, first + 100), lost=[first + 30], step=MS // 10)
        machine.settle()
        machine.confirm(first + 30, key=OTHER)
        machine.repair(first + 30, key=OTHER)
        machine.spm()
        assert machine.asked(4 * GRTT) == []


class TestPromisers:
    def judged(self, *times: tuple[int, int, bool]) -> list[bool]:
        """Judge promises made and found out at given times; return who is believed after each."""
        promisers, believed = Promisers(NakConfig()), []
        promisers.repaired(OTHER)
        for since, now, kept in times:
            promisers.judge(now, {OTHER: since}, kept=kept, rest=100)
            believed.append(promisers.believes(now, OTHER, may_be_asked=False))
        return believed

    def test_two_one_after_the_other(self) -> None:
        assert self.judged((0, 10, False), (20, 30, False)) == [True, False]
        assert self.judged((0, 10, False), (20, 30, True), (40, 50, False)) == [True] * 3

    def test_those_of_one_outage_are_one(self) -> None:
        assert self.judged(*[(0, 10 + n, False) for n in range(9)]) == [True] * 9

    def test_for_a_cycle(self) -> None:
        promisers = Promisers(NakConfig())
        for now in (10, 20):
            promisers.judge(now, {OTHER: now}, kept=False, rest=100)
        assert not promisers.believes(119, OTHER, may_be_asked=True)
        assert promisers.believes(120, OTHER, may_be_asked=True)

    def test_many_sessions_are_not_remembered(self) -> None:
        promisers = Promisers(NakConfig())
        for number in range(1_000):
            promisers.repaired((("X", number), number, 0))
        assert len(promisers) == NakConfig().max_repairers


@given(st.sets(st.integers(0, 999), min_size=1), st.integers(0, 900), st.integers(1, 99))
def test_runs_are_what_the_request_names(names: set[int], first: int, length: int) -> None:
    symbols = np.array(sorted(names), np.int64)
    body, named = build_request(symbols, 1_184)
    assert named == len(symbols)
    runs = parse_runs(body, 1_000)
    assert parse_request(body, 1_000).tolist() == symbols.tolist()
    assert np.flatnonzero(runs.has(np.arange(1_000))).tolist() == symbols.tolist()
    touched = bool(names & set(range(first, first + length)))
    spans = np.array([first]), np.array([first + length])
    assert runs.touch(*spans).tolist() == [touched]


def test_an_ncf_costs_its_packet_and_not_what_it_names() -> None:
    body, named = build_request(np.arange(MAX_REQUESTED), 1_184)
    assert named == MAX_REQUESTED
    assert len(parse_runs(body, MAX_REQUESTED)) == 1


class TestSilentEndpoints:
    def test_four_naks_and_one_a_second_go_to_who_never_answered(self) -> None:
        # spec: NAK-19
        machine = Asking(answers=False, ncf_retries=99)
        times = []
        for number in range(0, 3_600, 20):
            machine.spm()
            times += [at for at, _ in machine.follow(range(number, number + 20), lost=[number])]
            machine.hear([number + 20])
        assert times
        # Four at once, and one a second.
        assert all(at - times[0] >= (n - 4) * SECOND for n, at in enumerate(times))
        assert len(times) >= (times[-1] - times[0]) // SECOND

    def test_the_first_answer_frees_what_waits(self) -> None:
        # spec: NAK-19
        machine = Asking(answers=False)
        machine.hear(range(300), lost=range(10, 290, 20))
        first = machine.next_ask(LONGEST)
        machine.confirm(first.need.symbols.tolist())
        machine.repair(first.need.symbols.tolist())
        machine.spm()
        rest = machine.asked(2 * LONGEST)
        assert set(first.need.symbols.tolist()) | set(rest) >= set(range(10, 280, 20))

    @pytest.mark.parametrize("endpoints", [1, 280])
    def test_fakes_get_little(self, endpoints: int) -> None:
        # spec: NAK-19
        sample = make_object(64 * 4_000, block_symbols=20)
        receiver = Listening(sample)
        octets, number, seconds = 0, 0, 20
        for millisecond in range(0, 1_000 * seconds, 20):
            source = (f"victim {number % endpoints}", 5)
            fields = {"tsi": number % endpoints, "sqn": millisecond}
            spm = spm_packet(sample, fields, place=number % 3_900)
            data = sample.odata([number % 3_900], **fields)
            receiver.give([spm, *data], source=source)
            octets += len(spm) + len(data[0])
            receiver.wait(20 * MS)
            number += 7
        sent = [nak for _, nak in receiver.naks]
        assert len(sent) <= seconds + 1
        assert sum(len(nak.packet) for nak in sent) <= 0.07 * octets


def test_an_ncf_of_who_is_not_believed_is_counted() -> None:
    # spec: NAK-18
    sample = make_object(64 * 4_000, block_symbols=20)
    receiver = Listening(sample)
    receiver.hear(range(20))
    receiver.spm()
    for _ in range(3):
        receiver.give([ncf_packet(sample, range(100), tsi=9)], source=("X", 1))
    assert receiver.machine.counters.refused == {"promise": 3}
