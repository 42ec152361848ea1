"""`recv --channels` and `--rate-limit`: which rate is heard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgmlite.cli.words import text_of
from pgmlite.core.events_listening import RateChanged, Trying
from pgmlite.errors import UsageError
from pgmlite.net.arguments import check_rate_limit, parse_hearing
from tests.support.loopback import Cli, Ended, Endpoint, Running, endpoint, make_file


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("auto", None), ("0", [0]), ("5", [5]), (2, [2]), ("0-2", [0, 1, 2]), ("3-3", [3])],
)
def test_channels(text: str | int, numbers: list[int] | None) -> None:
    # spec: RTE-1
    found = parse_hearing(text)
    assert (None if found is None else list(found)) == numbers


@pytest.mark.parametrize(
    "text", ["", "6", "-1", "2-1", "0-6", "0-", "a", "0,1", "\N{SUPERSCRIPT TWO}"]
)
def test_what_are_no_channels(text: str) -> None:
    with pytest.raises(UsageError, match=f"^channels {text}: give auto, .* 0 to 5") as caught:
        parse_hearing(text)
    assert caught.value.cause == "channels"


def test_no_channel_has_so_little() -> None:
    assert check_rate_limit(None) is None
    with pytest.raises(UsageError, match=r"^rate_limit 9999: must be at least 10000$"):
        check_rate_limit(9_999)


def test_the_error_names_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = Cli(monkeypatch, capsys).refuse
    for option, value, said in [
        ("--channels", "2-1", "--channels 2-1: give auto"),
        ("--rate-limit", "fast", "--rate-limit fast: rate fast: give bits"),
    ]:
        code, text = fails("recv", "-o", tmp_path / "out", option, value)
        assert (code, said in text) == (2, True)


@pytest.mark.parametrize(
    ("reason", "capacity", "words"),
    [
        ("start", None, "hearing channel 1, 6 Mbit/s"),
        ("up", None, "up to channel 1, 6 Mbit/s"),
        ("up", 9_000_000, "up to channel 1, 6 Mbit/s: the path carries 9 Mbit/s"),
        ("down", 9_000_000, "down to channel 1, 6 Mbit/s: the path carries 9 Mbit/s"),
        ("failed", 9_000_000, "staying on channel 1, 6 Mbit/s: the path carries 9 Mbit/s"),
        (
            "disturbed",
            None,
            "staying on channel 1, 6 Mbit/s: somebody else tried at the same time",
        ),
        ("silent", None, "back to channel 1, 6 Mbit/s: nothing came"),
    ],
)
def test_words(reason: str, capacity: int | None, words: str) -> None:
    assert text_of(RateChanged(0, 1, 6_000_000, capacity, reason), 0) == words
    assert text_of(Trying(0, 2, 14_000_000), 0) == "trying channel 2, 14 Mbit/s"


def transfer(tmp_path: Path, *options: Any, size: int = 300_000) -> tuple[Ended, list[Endpoint]]:
    """Return how a receiver ended that was told of the lowest of three, and their groups."""
    source = make_file(tmp_path / "source", size)
    places = [endpoint() for _ in range(3)]
    port = places[0].port
    named = [
        part
        for place, rate in zip(places, ("1M", "3M", "9M"), strict=True)
        for part in ("--channel", f"{place.group},{rate}")
    ]
    given = ("-o", tmp_path / "out", *places[0].flags, "--json", "--timeout", "50", *options)
    with Running("recv", *given) as receiver:
        receiver.event("start")
        with Running("send", source, "-p", port, "-i", "lo", *named, "--json") as sender:
            sender.event("start")
            ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    return ended, places


def joins(ended: Ended, places: list[Endpoint]) -> list[tuple[str, int]]:
    """Return what was joined and left, by the numbers of channels."""
    groups = [place.group for place in places]
    return [
        (one["event"], groups.index(one["group"]))
        for one in ended.events
        if one["event"] in {"joined", "left"} and one.get("reason") != "end"
    ]


@pytest.mark.slow
def test_a_channel_that_is_named_is_heard_alone(tmp_path: Path) -> None:
    # spec: RTE-1
    ended, places = transfer(tmp_path, "--channels", "2")
    assert joins(ended, places) == [("joined", 0), ("left", 0), ("joined", 2)]
    assert not [one for one in ended.events if one["event"] in {"rate", "trying"}]
    seconds = ended.last["channel_seconds"]
    assert (len(seconds), seconds[:2], seconds[2] > 0) == (3, [0, 0], True)


@pytest.mark.slow
def test_several_are_heard_at_once_and_add_up(tmp_path: Path) -> None:
    # spec: RTE-1, RTE-9
    ended, places = transfer(tmp_path, "--channels", "0-2")
    assert sorted(joins(ended, places)) == [("joined", 0), ("joined", 1), ("joined", 2)]
    assert all(ended.last["channel_seconds"])


@pytest.mark.slow
def test_the_limit_chooses_where_to_begin(tmp_path: Path) -> None:
    # spec: RTE-2
    ended, places = transfer(tmp_path, "--rate-limit", "8M")
    assert joins(ended, places) == [("joined", 0), ("left", 0), ("joined", 1)]
    rate = ended.event("rate")
    assert (rate["channel"], rate["rate"], rate["reason"]) == (1, 3_000_000, "start")


@pytest.mark.slow
def test_the_next_channel_is_tried(tmp_path: Path) -> None:
    # spec: RTE-4
    ended, _ = transfer(tmp_path, size=1_500_000)
    found = [
        (one["event"], one["channel"], one.get("reason"))
        for one in ended.events
        if one["event"] in {"trying", "rate"}
    ]
    assert found[:2] == [("rate", 0, "start"), ("trying", 1, None)]
    # What follows from what came, tests of `Rates` say: a busy machine may lose some of it, and the
    # object may be complete by then.
