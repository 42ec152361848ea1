"""Progress, how often it is said, journals, and where events go."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.cells import cell_len

from pgmlite import cli
from pgmlite.capture.file import Capture
from pgmlite.cli import takes_stdout
from pgmlite.cli.json_lines import EVENTS, by_capture, by_system_clock, moment_text
from pgmlite.cli.lines import Priority, is_journal, say
from pgmlite.cli.output import Output
from pgmlite.cli.progress import Bar, Shown, has_bar, laid_out, shown
from pgmlite.cli.words import text_of
from pgmlite.core.events import (
    Adopted,
    Completed,
    Encoding,
    Event,
    Hashing,
    ReceiveProgress,
    SendProgress,
    SendStarted,
    Warned,
)
from pgmlite.core.figures import (
    NetworkFigures,
    ReceiveFigures,
    RepairFigures,
    SendFigures,
)
from pgmlite.core.machine import SECOND
from pgmlite.errors import UsageError
from tests.support.builders import make_object
from tests.support.event_schema import read_line
from tests.support.loopback import endpoint, make_file, receiving, run, sending

CAPTURE = Path(__file__).parents[2] / "captures" / "clean-carousel.pcap"
MANIFEST = make_object(1_000, name="fw.bin").manifest


def received(**more: object) -> ReceiveFigures:
    """Return what a receiver counted: nothing, but for this."""
    counts = dict.fromkeys(ReceiveFigures.__slots__, 0) | {"refused": {}, "seconds": 12.0}
    return ReceiveFigures(**counts | {"packets": 10, "lost": 3} | more)


def network(**more: object) -> NetworkFigures:
    known = {"kernel_drops": 0, "naks_unsent": 0, "rate": 12_345_678, "silence": 0.1}
    return NetworkFigures(**known | {"waited_seconds": 8.0, "transfer_seconds": 4.0} | more)


def progress(at: float = 12, stored: int = 34, **more: object) -> ReceiveProgress:
    left = more.pop("time_left", 42.0)
    figures = received(**{name: more.pop(name) for name in ("packets", "lost") if name in more})
    has_manifest = bool(more.pop("has_manifest", True))
    symbols = int(more.pop("symbols", 100))
    now = int(at * SECOND)
    return ReceiveProgress(now, stored, symbols, has_manifest, left, figures, network(**more))


def sent(at: float = 12, *, repairs: RepairFigures | None = None, **more: object) -> SendProgress:
    known = {"seconds": 12.0, "cycles": 2.25, "packets": 9, "bytes": 9, "odata": 8, "unsent": 0}
    figures = SendFigures(**known | {"achieved_rate": 5, "rate": 9_876_543} | more)
    return SendProgress(int(at * SECOND), figures, repairs)


REPAIRS = RepairFigures(12, 5, 0, 0.1, {})


# What is shown.


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (progress(), "fw.bin: 34%, 12 Mbit/s, 42.0 s left, 3 lost"),
        (progress(time_left=None), "fw.bin: 34%, 12 Mbit/s, 3 lost"),
        (progress(stored=0), "fw.bin: 0%, waiting for what is missing, 12 Mbit/s, 3 lost"),
        (progress(silence=7.0), "fw.bin: 34%, nothing for 7 s: is the sender gone?, 3 lost"),
        (progress(packets=0, symbols=0), "fw.bin: waiting: no packets, 12.0 s so far"),
        (sent(), "fw.bin: 25%, cycle 3, 9.9 Mbit/s, 12.0 s so far"),
        (
            sent(repairs=REPAIRS),
            "fw.bin: 25%, cycle 3, 9.9 Mbit/s, 12.0 s so far, 5 NAKs, 12 packets repeated",
        ),
        (
            sent(repairs=REPAIRS, achieved_rate=None, rate=0),
            "fw.bin: repairing, 0 bit/s, 5 NAKs, 12 packets repeated, 12.0 s so far",
        ),
        (Hashing(0, 1, 4), "fw.bin: 25%, hashing"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_a_line_of_progress_says(event: Event, line: str) -> None:
    what = shown(event, "fw.bin")
    assert what is not None
    assert what.line == line


def test_before_there_is_a_name() -> None:
    line = shown(progress(symbols=0, has_manifest=False), "").line
    assert line == "waiting: nothing to take yet, 12.0 s so far"
    assert shown(Warned(0, "x"), "") is None


@pytest.mark.parametrize("columns", range(16, 130, 3))
@pytest.mark.parametrize(
    "name", ["fw.bin", "a-name-that-is-longer-than-any-bar-bears.img", "漢" * 30]
)
def test_a_bar_fits(columns: int, name: str) -> None:
    what = Shown(name, ("12 Mbit/s", "42.0 s left", "3 lost"), 34, 100)
    shown_name, width, rest = laid_out(what, columns)
    gap = 2 if width else 1
    assert cell_len(shown_name) + width + cell_len(rest) + gap <= columns
    assert " 34%".startswith(rest[:4])
    if columns >= 40:
        assert "12 Mbit/s" in rest
    if columns >= 60 and name == "fw.bin":
        assert width >= 8
        assert "left" in rest


@pytest.mark.parametrize(
    ("term", "is_terminal", "has"),
    [("xterm", True, True), ("dumb", True, False), ("xterm", False, False), ("", True, False)],
)
def test_who_gets_a_bar(monkeypatch, term: str, is_terminal: bool, has: bool) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", Terminal() if is_terminal else io.StringIO())
    assert has_bar() is has


def test_what_is_said_above_a_bar_has_no_pictures(monkeypatch):
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    with Bar() as bar:
        bar.say("[red]x:x:x[/red] from fd00:b:1:ab:2::5")
    assert "[red]x:x:x[/red] from fd00:b:1:ab:2::5" in shown.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("waited", "words"), [(8.0, "verified in 4.0 s after 8.0 s of waiting"), (0.2, "in 4.0 s, ")]
)
def test_receiving_is_told_apart_from_waiting(waited: float, words: str) -> None:
    done = Completed(
        *(0, MANIFEST, "out", True, 0, (), {}, ()), received(), network(waited_seconds=waited)
    )
    assert words in text_of(done, 0)


@pytest.mark.slow
def test_a_receiver_counts_what_it_waited(tmp_path: Path) -> None:
    source, place = make_file(tmp_path / "source", 300_000), endpoint()
    with receiving(tmp_path / "copy", place) as receiver:
        receiver.event("progress")
        with sending(source, place, rate="2M"):
            ended = receiver.end()
    said = ended.last
    assert said["waited_seconds"] >= 1
    assert said["waited_seconds"] + said["transfer_seconds"] == pytest.approx(
        said["seconds"], abs=0.01
    )
    assert 500_000 < said["rate"] < 4_000_000


# How often.


def lines(capsys: pytest.CaptureFixture[str], output: Output, events: list[Event]) -> list[str]:
    for event in events:
        output.show(event, 0)
    captured = capsys.readouterr()
    return (captured.out + captured.err).splitlines()


EACH_SECOND = [progress(second, stored=second) for second in range(1, 121)]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"as_json": False}, 12),
        ({"as_json": True}, 120),
        ({"as_json": False, "log_interval": 30}, 4),
        ({"as_json": True, "log_interval": 30}, 4),
        ({"as_json": False, "log_interval": 0}, 0),
        ({"as_json": True, "log_interval": 0}, 0),
        ({"as_json": False, "is_quiet": True}, 2),
        ({"as_json": True, "is_quiet": True}, 2),
        ({"as_json": True, "is_quiet": True, "log_interval": 1}, 120),
    ],
    ids=str,
)
def test_how_often_progress_is_said(capsys, options: dict, count: int) -> None:
    assert len(lines(capsys, Output(**options), EACH_SECOND)) == count


def test_who_stays_says_nothing_while_nothing_happens(capsys) -> None:
    idle = [progress(s, stored=0, symbols=0, packets=0) for s in range(1, 4_000)]
    assert lines(capsys, Output(as_json=False, is_quiet=True), idle) == []
    assert lines(capsys, Output(as_json=True, is_quiet=True), idle) == []


def test_an_interval_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(UsageError, match=r"log_interval 0\.5"):
        Output(as_json=True, log_interval=0.5)


@pytest.mark.parametrize("verb", ["send", "recv", "repair"])
def test_the_option_is_there(monkeypatch, capsys, verb: str) -> None:
    words = [verb, "x", "--log-interval", "100ms"]
    if verb == "recv":
        words = [verb, "-o", "x", "--log-interval", "100ms"]
    assert cli.run(words) == 2
    assert "--log-interval 0.1: give 1s or more" in capsys.readouterr().err
    words[-1] = "often"
    assert cli.run(words) == 2
    assert "--log-interval often: give a time" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("interval", "count"), [("1s", 2), ("off", 0)])
def test_a_process_keeps_to_it(tmp_path: Path, interval: str, count: int) -> None:
    source, place = make_file(tmp_path / "source", 5_000), endpoint()
    options = ("-r", "1M", "--duration", "2500ms", "--log-interval", interval)
    ended = run("send", source, *place.flags, *options)
    assert len([one for one in ended.stderr if "so far" in one]) <= count
    ended = run("send", source, *place.flags, *options, "--json")
    assert [one["event"] for one in ended.events].count("progress") <= count
    assert ended.last["event"] == "stopped"


def test_what_is_computed_ahead_is_said_beside_the_rest(capsys) -> None:
    started = SendStarted(0, MANIFEST, "lo", "127.0.0.1", ())
    output = Output(as_json=False)
    said = lines(capsys, output, [started, Encoding(9 * SECOND, 1, 4), sent(11)])
    assert said[-1].endswith("12.0 s so far, repair symbols 25% computed")
    assert len(said) == 2


# Journals.


@contextmanager
def journal(path: Path, monkeypatch: pytest.MonkeyPatch, stream: str = "{}:{}") -> Iterator[None]:
    """Have a file stand for the journal, and for standard error.

    Args:
        stream: What systemd says of it, of a device and an inode.
    """
    with path.open("w") as file, monkeypatch.context() as patched:
        found = os.fstat(file.fileno())
        patched.setenv("JOURNAL_STREAM", stream.format(found.st_dev, found.st_ino))
        patched.setattr(sys, "stderr", file)
        yield


def test_lines_of_a_journal_have_priorities(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "journal"
    with journal(path, monkeypatch):
        output = Output(as_json=False)
        for event in (Warned(0, "beware"), progress(20), Adopted(0, MANIFEST, 5)):
            output.show(event, 0)
        say("two\nlines", Priority.ERROR)
        cli.run(["fetch"])
    said = path.read_text().splitlines()
    assert said[0] == "<4>warning: beware"
    assert re.fullmatch(r"<7>34%, 12 Mbit/s, .*", said[1])
    assert said[2].startswith("<6>object ")
    assert said[3:5] == ["<3>two", "<3>lines"]
    assert said[5].startswith("<3>pgmlite: there is no 'fetch'")


@pytest.mark.parametrize(
    "stream", ["", "junk", "1:2", ":", "{0}:", ":{1}", "9{0}:{1}", "{0}:9{1}", "-{0}:-{1}", "²:³"]
)
def test_elsewhere_they_have_none(tmp_path: Path, monkeypatch, stream: str) -> None:
    path = tmp_path / "journal"
    with journal(path, monkeypatch, stream):
        Output(as_json=False).show(Warned(0, "beware"), 0)
    assert path.read_text() == "warning: beware\n"
    assert not is_journal(io.StringIO())


# Events.


def test_events_have_the_time_of_the_clock(tmp_path: Path) -> None:

    before = datetime.now(UTC)
    ended = run(
        "send", make_file(tmp_path / "s", 5_000), *endpoint().flags, "--cycles", 1, "--json"
    )
    after = datetime.now(UTC)
    times = [datetime.fromisoformat(one["time"]) for one in ended.events]
    slack = 0.002  # of rounding
    assert (before - times[0]).total_seconds() < slack
    assert (times[-1] - after).total_seconds() < slack
    for one, other in zip(ended.events[:-1], ended.events[1:], strict=True):
        passed = datetime.fromisoformat(other["time"]) - datetime.fromisoformat(one["time"])
        assert passed.total_seconds() == pytest.approx(other["at"] - one["at"], abs=0.05)


def test_events_of_a_replay_have_the_time_of_the_capture(tmp_path: Path) -> None:
    ended = run("replay", CAPTURE, "-o", tmp_path / "out", "--json")
    first = int(next(iter(Capture(CAPTURE).datagrams())).times[0])
    begin, end = ended.events[0], ended.last
    assert (begin["at"], begin["time"]) == (0, moment_text(first))
    assert end["time"] == moment_text(first + round(end["at"] * SECOND))


def test_moments() -> None:
    assert moment_text(1_796_100_001_123_456_789) == "2026-12-01T04:40:01.123Z"
    assert moment_text(0) == "1970-01-01T00:00:00.000Z"
    assert moment_text(1 << 80) == "1970-01-01T00:00:00.174Z"
    assert by_capture(5) == 5
    assert by_system_clock(0) < by_system_clock(SECOND)


@pytest.mark.parametrize(
    ("words", "takes"),
    [
        ("recv -o - -i lo", True),
        ("recv --output - --json", True),
        ("recv --output=-", True),
        ("recv -o-", True),
        ("recv -o x", False),
        ("recv -o ./-", False),
        ("send - --name x", False),
        ("", False),
    ],
)
def test_what_takes_standard_output(words: str, takes: bool) -> None:
    assert takes_stdout(words.split()) is takes


def test_where_standard_output_is_data_events_leave_it_alone(capsys) -> None:
    assert cli.run(["recv", "-o", "-", "--json", "--bogus"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()  # and nothing beside it that is no JSON
    assert read_line(line)["exit_code"] == 2
    try:
        EVENTS.stdout_is_data = True
        Output(as_json=True).show(Warned(0, "beware"), 0)
    finally:
        EVENTS.stdout_is_data = False
    captured = capsys.readouterr()
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)


@pytest.mark.slow
def test_sigterm_ends_with_one_line(tmp_path: Path) -> None:
    with receiving(tmp_path / "copy", endpoint()) as receiver:
        receiver.event("start")
        ended = receiver.stop()
    assert [one for one in ended.stderr if "SIGTERM" in one] == ["pgmlite: stopped by SIGTERM"]


IMPORTING = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
sys.argv = ["pgmlite", "info", "x"]
from pgmlite.__main__ import main
main()
"""
"""The command, and Ctrl-C while it imports what it needs."""


def test_ctrl_c_at_the_very_start_ends_with_one_line() -> None:
    ended = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (6, "pgmlite: interrupted\n")
