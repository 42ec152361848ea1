"""Clocks that are set while a capture is made, and interfaces stored one after another."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest

from pgmlite.capture.clock import MAX_STEPS, Clock, Step
from pgmlite.capture.file import Capture
from pgmlite.cli import run
from pgmlite.core.machine import MS, SECOND
from tests.generate import ROOT
from tests.support import pcaps
from tests.support.builders import make_object
from tests.support.pcaps import EPOCH, enhanced, frame, interface, pcap, section

HOUR = 3_600 * SECOND
YEAR = 365 * 24 * HOUR
RECORDED = ROOT / "captures" / "loss-repair-receiver-side.pcap"
ONE = make_object(20_000, symbol_size=256, block_symbols=16)
TWO = make_object(9_000, symbol_size=256, block_symbols=16, name="two.bin", seed=2)


def times(stamps: list[int], interfaces: list[int] | None = None) -> tuple[list[int], Clock]:
    """Return times in ms from the first, and the clock; stamps in ms."""
    clock = Clock()
    of = np.zeros(len(stamps), np.int64) if interfaces is None else np.array(interfaces)
    found, _ = clock.times(np.array(stamps, np.int64) * MS + EPOCH, of, 0)
    return [(at - EPOCH) // MS for at in found.tolist()], clock


def test_jitter_is_no_step() -> None:
    found, clock = times([0, 5, 3, 900, 4, 1_000, 1_000 + 600_000])
    assert found == [0, 5, 5, 900, 900, 1_000, 601_000]
    assert not clock.count


@pytest.mark.parametrize("step", [-3_600_000, 3_600_000, -2_000, 1_000_000_000])
def test_a_step_keeps_the_pace(step: int) -> None:
    stamps = [0, 10, 20, 30 + step, 40 + step, 55 + step]
    found, clock = times(stamps)
    assert found == [0, 10, 20, 30, 40, 55]
    assert clock.steps == [Step(4, (10 + step) * MS, begins=False)]


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("step", [-3_600_000, 365 * 24 * 3_600_000])
def test_a_clock_that_is_put_right_is_believed(step: int, width: int) -> None:
    stamps = [at + step * (3 <= place < 3 + width) for place, at in enumerate(range(0, 100, 10))]
    stamps[-1] += 7
    found, clock = times(stamps)
    assert found == [0, 10, 20, 30, 40, 50, 60, 70, 80, 97]
    assert clock.count == 2


def test_two_clocks_side_by_side() -> None:
    apart = -3_600_000
    stamps = [0, 5 + apart, 10, 15 + apart, 20, 25 + apart, 500_000, 500_005 + apart]
    found, clock = times(stamps, [0, 7] * 4)
    assert found == [0, 0, 10, 10, 20, 20, 500_000, 500_000]
    assert clock.steps == [Step(2, (apart + 5) * MS, begins=True)]


def test_pieces_of_the_file_make_no_difference() -> None:
    rng = Random(4)
    stamps, now = [], EPOCH
    for _ in range(500):
        now += rng.choice([1, 20, 700]) * MS
        if rng.random() < 0.02:
            now += rng.choice([-HOUR, HOUR, -5 * SECOND, YEAR, -YEAR])
        stamps.append(now)
    of = np.array([rng.choice([0, 0, 0, 3]) for _ in stamps])
    raw = np.array(stamps, np.int64)
    whole, places = Clock().times(raw, of, 0)
    clock, pieces, steps = Clock(), [], []
    at = 0
    while at < len(raw):
        stop = min(at + rng.randrange(1, 40), len(raw))
        some, inside = clock.times(raw[at:stop], of[at:stop], at)
        pieces += some.tolist()
        steps += [at + place for place in inside]
        at = stop
    assert pieces == whole.tolist()
    assert steps == places
    assert (np.diff(whole) >= 0).all()
    assert len(clock.steps) <= MAX_STEPS


def test_stamps_of_any_size_and_steps_without_end() -> None:
    rng = Random(5)
    raw = np.array([rng.choice([0, 1 << 62, rng.randrange(1 << 62)]) for _ in range(5_000)])
    clock = Clock()
    found, places = clock.times(raw, np.array([rng.randrange(3) for _ in raw]), 0)
    assert (np.diff(found) >= 0).all()
    assert clock.count == len(places) > 3_000
    assert len(clock.steps) == MAX_STEPS


def moved(frames: list[tuple[int, bytes]], by: int, start: int, stop: int | None = None):
    return [
        (at + by * (start <= place < (stop or len(frames))), one)
        for place, (at, one) in enumerate(frames)
    ]


@pytest.fixture
def replay(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Replay frames, a pcap or a pcapng; give the exit code, the events, and what `info` says."""

    def call(data: bytes, *options: str) -> tuple[int, list[dict], dict, str]:
        path = tmp_path / "c"
        path.write_bytes(data)
        (tmp_path / "out").unlink(missing_ok=True)
        (tmp_path / "out.part").unlink(missing_ok=True)
        code = run(["replay", str(path), "-o", str(tmp_path / "out"), "--json", *options])
        events = list(map(json.loads, capsys.readouterr().out.splitlines()))
        run(["info", str(path), "--json"])
        facts = json.loads(capsys.readouterr().out)
        run(["info", str(path)])
        return code, events, facts, capsys.readouterr().out

    return call


def naks(events: list[dict]) -> list[tuple[float, list]]:
    return [(event["at"], event["symbols"]) for event in events if event["event"] == "nak"]


def warnings(events: list[dict]) -> list[str]:
    return [event["warning"] for event in events if event["event"] == "warning"]


@pytest.mark.parametrize(
    ("place", "by", "width"),
    [
        (400, -HOUR, None),
        (40, HOUR, None),
        (700, YEAR, 1),
        (400, -YEAR, 1),
        (300, -HOUR, 50),
        (1, -50 * YEAR, None),
    ],
)
def test_naks_are_those_of_a_clock_that_was_not_set(replay, place: int, by: int, width) -> None:
    good = pcaps.frames_of(RECORDED)
    outcome, events, facts, text = replay(pcap(good), "--drop", "10%")
    assert facts["clock_steps"] == []
    expected = naks(events)
    assert len(expected) >= 2
    measured = facts["sessions"][0]["measured_rate"]
    stepped = moved(good, by, place, width and place + width)
    code, events, facts, text = replay(pcap(stepped), "--drop", "10%")
    assert code == outcome
    assert [symbols for _, symbols in naks(events)] == [symbols for _, symbols in expected]
    # How long it was from packet to packet where the clock was set, nobody can know.
    ends = [place, place + width] if width else [place]
    unknown = sum(good[one][0] - good[one - 1][0] for one in ends) / SECOND
    for (at, _), (other, _) in zip(naks(events), expected, strict=True):
        assert abs(at - other) < 0.01 + unknown
    assert [step["packet"] for step in facts["clock_steps"]] == [
        one + 1 for one in (place, width and place + width) if one
    ]
    assert abs(facts["sessions"][0]["measured_rate"] - measured) < 0.02 * measured
    assert f"the clock goes {'back' if by < 0 else 'forward'} by" in text
    assert "the clock goes" in str([events[-1].get("error"), *warnings(events)])


@pytest.mark.parametrize("by", [-HOUR, 2 * HOUR, -50 * YEAR])
def test_another_object_behind_a_step(replay, tmp_path: Path, by: int) -> None:
    # spec: RCV-4: nobody knows how long the step took, but another session is there.
    first = [(at, frame(one)) for at, one in pcaps.carousel(ONE)][:40]
    source = ("fd01::9", 41_000)
    second = [(at + 8 * SECOND + by, frame(one, source=source)) for at, one in pcaps.carousel(TWO)]
    code, events, _, _ = replay(pcap(first + second))
    assert code == 0
    assert "superseded" in [event["event"] for event in events]
    assert (tmp_path / "out").read_bytes() == TWO.data


def test_a_session_that_goes_on_behind_a_step_is_not_superseded(replay, tmp_path: Path) -> None:
    # Two senders side by side, and the clock is set when the other one's turn is.
    mine = [(at, frame(one)) for at, one in pcaps.carousel(ONE)]
    other = [(at + 1, frame(one, source=("fd01::9", 9))) for at, one in pcaps.carousel(TWO)]
    both = sorted([*mine, *other], key=lambda stamped: stamped[0])
    place = next(n for n in range(30, 80) if both[n] in other)
    code, events, _, _ = replay(pcap(moved(both, -HOUR, place)))
    assert code == 0
    assert "superseded" not in [event["event"] for event in events]
    assert (tmp_path / "out").read_bytes() == ONE.data


@pytest.mark.parametrize("split", ["halves", "in turns", "both have all"])
@pytest.mark.parametrize("apart", [0, 2 * SECOND, HOUR])
def test_interfaces_stored_one_after_another(replay, tmp_path: Path, split: str, apart) -> None:
    # A bond's links, or two captures in one file: packets of interface 1 behind all of 0.
    whole = [(at, frame(one)) for at, one in pcaps.carousel(ONE, rate=100_000)]
    assert whole[-1][0] - whole[0][0] > SECOND
    first, second = {
        "halves": (whole[:40], whole[40:]),
        "in turns": (whole[::2], whole[1::2]),
        "both have all": (whole, whole),
    }[split]
    data = section() + interface() + b"".join(enhanced(at, one) for at, one in first)
    data += interface() + b"".join(enhanced(at - apart, one, interface=1) for at, one in second)
    code, _, facts, text = replay(data)
    assert code == 0
    assert (tmp_path / "out").read_bytes() == ONE.data
    began = second[0][0] - apart - first[-1][0]
    if began < -SECOND:
        assert [step["packet"] for step in facts["clock_steps"]] == [len(first) + 1]
        assert "begins another interface or capture, " in text
    assert facts["sessions"][0]["lost"] == 0


def test_memory_stays_flat_however_many_interfaces_there_are(tmp_path: Path) -> None:
    from pgmlite.capture.clock import MAX_LINES
    from pgmlite.capture.pcapng import MAX_INTERFACES

    path = tmp_path / "c"
    one = interface() * 3_000
    body = b"".join(enhanced(EPOCH, frame(b"x"), interface=number) for number in range(0, 3_000, 7))
    path.write_bytes((section() + one + body) * 4 + interface() * (MAX_INTERFACES + 10))
    capture = Capture(path)
    assert sum(map(len, capture.datagrams())) == 4 * len(range(0, 3_000, 7))
    assert len(capture.clock._lines) <= MAX_LINES


def test_nothing_is_full_speed_because_no_time_passed(replay) -> None:
    frames = [(EPOCH, frame(one)) for _, one in pcaps.carousel(ONE)]
    _, _, facts, text = replay(pcap(frames))
    assert facts["sessions"][0]["measured_rate"] is None
    assert "full speed" not in text
    assert "(no time passed; announced 10 Mbit/s)" in text
    assert facts["sessions"][0]["seconds"] == 0
