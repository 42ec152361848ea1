"""Errors as events, lines and tables for people: what is said when something is wrong."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from unittest.mock import Mock

import click
import pytest

from pgmlite import cli
from pgmlite.cli import VERBS, app
from pgmlite.cli.lines import columns, fit
from pgmlite.cli.output import Output
from pgmlite.cli.tables import Column, render
from pgmlite.cli.words import text_of
from pgmlite.core.events import Damaged
from pgmlite.errors import DiskError
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.reception import failed
from tests.support.builders import Drive, make_object
from tests.support.loopback import (
    COMMAND,
    PATIENCE,
    Cli,
    Running,
    endpoint,
    environment,
    make_file,
    receive,
    receiving,
    run,
    sending,
)
from tests.support.loops import FakeMemberships, FakeReceiverSocket, Heard

CAPTURE = Path(__file__).parents[2] / "captures" / "clean-carousel.pcap"

# Errors are events.


EARLY = [
    (["send"], 2, "FILE"),
    (["send", "nosuch.bin"], 7, "nosuch.bin"),
    (["send", "SOURCE", "-i", "nosuch0"], 3, "nosuch0"),
    (["send", "SOURCE", "-i", "lo", "--mtu", "5"], 2, "MTU 5"),
    (["send", "SOURCE", "--cycles", "many"], 2, "--cycles"),
    (["recv"], 2, "--output"),
    (["recv", "-o", "out", "-i", "nosuch0"], 3, "nosuch0"),
    (["recv", "-o", "no/such/folder/out", "-i", "lo", "-g", "239.1.1.1"], 7, "no/such/folder"),
    (["recv", "-o", "out", "--bogus"], 2, "--bogus"),
    (["repair", "nosuch.bin"], 7, "nosuch.bin"),
    (["repair", "SOURCE", "-i", "lo", "-g", "239.1.1.1", "--listen", "x"], 2, "--listen x"),
    (["replay", "nosuch.pcap", "-o", "out"], 7, "nosuch.pcap"),
    (["replay", "SOURCE", "-o", "out"], 4, "capture"),
    (["replay", "SOURCE"], 2, "--output"),
    (["info", "nosuch.pcap"], 7, "nosuch.pcap"),
    (["info", "SOURCE", "--fec", "0%"], 2, "--fec 0%"),
    (["keygen", "no/such/folder/k.pem"], 7, "no/such/folder"),
    (["sign", "SOURCE"], 2, "--release"),
    (["sign", "SOURCE", "--release", "1", "--stream", "x"], 2, "--key"),
    (["verify", "SOURCE"], 2, ".pglm"),
    (["compare", "nosuchplan"], 7, "nosuchplan"),
    (["compare", "--loss", "nothing"], 2, "--loss nothing"),
    (["doctor", "-g", "nonsense"], 2, "group nonsense"),
    (["doctor", "-g", "239.1.1.1", "-p", "0"], 2, "port 0"),
    (["list", "-g", "nonsense"], 2, "group nonsense"),
    (["list", "-i", "nosuch0"], 3, "nosuch0"),
    (["demo", "-r", "max"], 2, "rate max"),
    (["demo", "--size", "0"], 2, "--size"),
    (["fetch"], 2, "fetch"),
    ([], 2, "--json"),
]


@pytest.mark.parametrize(
    ("words", "code", "named"), EARLY, ids=lambda one: " ".join(map(str, [one]))
)
def test_an_error_before_the_start_is_one_event(
    tmp_path: Path, monkeypatch, capsys, words: list[str], code: int, named: str
) -> None:
    source = make_file(tmp_path / "source", 5_000)
    monkeypatch.chdir(tmp_path)
    given = [str(source) if word == "SOURCE" else word for word in words]
    ended, event = Cli(monkeypatch, capsys).event(*given, "--json")
    assert event.keys() == {"event", "schema", "time", "error", "exit_code"}
    assert (event["event"], event["exit_code"]) == ("failed", code)
    assert ended == code
    assert named in event["error"]


def test_every_verb_has_such_a_case() -> None:
    assert {words[0] for words, *_ in EARLY if words} >= set(VERBS)


def test_a_defect_is_an_event_too(tmp_path: Path, monkeypatch, capsys) -> None:
    def broken(**options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli.import_module("pgmlite.cli.info").info, "callback", broken)
    assert cli.run(["info", "x", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["exit_code"] == 1
    assert "ZeroDivisionError" in captured.err


def test_without_json_there_are_no_events(capsys) -> None:
    assert cli.run(["recv"]) == 2
    assert capsys.readouterr().out == ""


LAST = {"complete", "failed", "stopped"}


@pytest.mark.slow
def test_a_run_has_one_last_event(tmp_path: Path) -> None:
    source, place = make_file(tmp_path / "source", 5_000), endpoint()
    nobody = receive(tmp_path / "nothing", endpoint(), "--timeout", 0.3)
    cut = run("replay", CAPTURE, "-o", tmp_path / "cut", "--until", 0.1, "--json")
    whole = run("replay", CAPTURE, "-o", tmp_path / "whole", "--json")
    finished = run("send", source, *endpoint().flags, "--cycles", 1, "--json")
    with sending(source, place) as sender, receiving(tmp_path / "copy", place) as receiver:
        received, sent = receiver.end(), sender.stop()
    endings = [(nobody, "failed", 5), (cut, "failed", 5), (whole, "complete", 0)]
    endings += [(finished, "stopped", 0), (received, "complete", 0), (sent, "stopped", 6)]
    for ended, name, code in endings:
        assert ended.code == code, ended.stderr
        assert [one["event"] for one in ended.events if one["event"] in LAST] == [name]
        assert ended.last["event"] == name
        if name != "complete":
            assert ended.last["exit_code"] == code
        if code:
            assert ended.error == f"pgmlite: {ended.last['error']}"


def test_a_hook_that_fails_ends_the_run_with_an_event(tmp_path: Path) -> None:
    source, place = make_file(tmp_path / "source", 5_000), endpoint()
    hook = shlex.join([sys.executable, "-c", "raise SystemExit(3)"])
    with sending(source, place):
        ended = receive(tmp_path / "copy", place, "--on-complete", hook)
    assert ended.code == 8
    assert [one["event"] for one in ended.events][-4:] == [
        "complete",
        "hook",
        "hook",
        "failed",
    ]
    assert (ended.last["exit_code"], "exit code 3" in ended.last["error"]) == (8, True)


def test_a_repairer_that_nobody_needs_has_failed(tmp_path: Path) -> None:
    source, place = make_file(tmp_path / "source", 5_000), endpoint()
    other = make_file(tmp_path / "other", 6_000)
    repairing = Running("repair", source, *place.flags, "--json")
    with sending(other, place), repairing as repairer:
        repairer.event("warning")
        ended = repairer.stop(signal.SIGINT)
    assert (ended.code, ended.last["event"], ended.last["exit_code"]) == (6, "failed", 6)


@pytest.mark.parametrize(
    ("fate", "words"),
    [
        ({"is_dropped": True}, "block 3 does not match its digest: fetching it again"),
        ({"waits_for": 24}, "waiting for 24 symbols beyond it, to find the wrong ones"),
        ({"forged": 2}, "digest: 2 wrong symbols found and thrown away"),
        ({"forged": 2, "is_dropped": True}, "thrown away: fetching it again"),
    ],
)
def test_what_becomes_of_a_damaged_block(fate: dict, words: str) -> None:
    assert text_of(Damaged(0, 1, 3, **fate), 0).endswith(words)


def test_the_reason_is_said_once(tmp_path: Path) -> None:
    source, place = make_file(tmp_path / "source", 5_000), endpoint()
    with Running("send", source, *place.flags) as sender:
        with receiving(tmp_path / "copy", place) as receiver:
            assert receiver.end().code == 0
        ended = sender.stop()
    assert "\n".join(ended.stderr).count("SIGTERM") == 1


# What is named.


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["send", "SOURCE", "--fec", "900%"], "--fec"),
        (["send", "SOURCE", "--start", "150%"], "--start"),
        (["send", "SOURCE", "--order", "blocks", "--start", "random"], "--start"),
        (["send", "SOURCE", "--repair", "--repair-share", "200%"], "--repair-share"),
        (["send", "SOURCE", "--repair", "--listen", "foo"], "--listen"),
        (["send", "SOURCE", "--repairer", "foo"], "--repairer"),
        (["send", "SOURCE", "--repairer", ":9"], "--repairer"),
        (["recv", "-o", "out", "--drop", "200%"], "--drop"),
        (["recv", "-o", "out", "--repairer", "foo"], "--repairer"),
        (["replay", "CAPTURE", "-o", "out", "--drop", "200%"], "--drop"),
        (["replay", "CAPTURE", "-o", "out", "--reorder", "x"], "--reorder"),
        (["replay", "CAPTURE", "-o", "out", "--repairer", "1"], "--repairer"),
        (["doctor", "--seconds", "0"], "--seconds"),
        (["doctor", "--source", "1.2.3"], "--source"),
        (["compare", "--loss", "150%"], "--loss"),
        (["compare", "--repair-share", "x"], "--repair-share"),
    ],
    ids=lambda one: " ".join(map(str, [one])),
)
def test_an_error_names_the_option(
    tmp_path: Path, monkeypatch, capsys, words: list[str], option: str
) -> None:
    files = {"SOURCE": str(make_file(tmp_path / "source", 5_000)), "CAPTURE": str(CAPTURE)}
    place = endpoint().flags if words[0] in {"send", "recv"} else []
    monkeypatch.chdir(tmp_path)
    given = [files.get(word, word) for word in words]
    code, error = Cli(monkeypatch, capsys).refuse(*given, *place)
    assert code == 2
    assert error.startswith(f"pgmlite: {option} {words[-1]}")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("sned", "send"),
        ("receive", "recv"),
        ("rcv", "recv"),
        ("repiar", "repair"),
        ("dem", "demo"),
        ("docter", "doctor"),
    ],
)
def test_a_verb_that_is_misspelt(capsys, typed: str, meant: str) -> None:
    assert cli.run([typed, "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{meant!r}" in line


def test_no_verb_at_all_shows_them(capsys) -> None:
    assert cli.run([]) == 2
    said = capsys.readouterr().err
    assert all(f"\n  {verb} " in said for verb in VERBS)


def test_a_plan_that_is_not_there_names_those_that_are(capsys) -> None:
    assert cli.run(["compare", "nosuchplan"]) == 7
    (line,) = capsys.readouterr().err.splitlines()
    assert all(name in line for name in ("nosuchplan", "kinds", "lab", "large"))


def test_files_are_not_judged_by_the_option_parser(monkeypatch, capsys, tmp_path: Path) -> None:
    """A file that can't be read is the disk's matter (7), not a wrong command (2)."""
    paths = [
        parameter.type
        for verb in VERBS
        for parameter in app.get_command(click.Context(app), verb).params
        if isinstance(parameter.type, click.Path)
    ]
    assert len(paths) >= 7
    assert not any(one.exists or one.readable or one.writable for one in paths)
    # Root may read everything, so the system is made to say no: nobody asked it.
    source = make_file(tmp_path / "source", 5_000)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert cli.run(["info", str(source)]) == 0


# How it is laid out.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


TEXT = "one two three eight-letters /a/path/that/is/longer/than/any/terminal/is/wide end"


@pytest.mark.parametrize("width", [20, 40, 60])
def test_lines_are_broken_between_words(monkeypatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = fit(TEXT, Terminal()).splitlines()
    assert " ".join(lines) == TEXT
    assert all(len(line) <= width or " " not in line for line in lines)
    assert fit(TEXT, io.StringIO()) == TEXT


@pytest.mark.parametrize(
    ("said", "wide"), [("80", 80), ("", 128), ("0", 128), ("-5", 128), ("wide", 128), ("²", 128)]
)
def test_the_width_of_a_pipe(monkeypatch, said: str, wide: int) -> None:
    monkeypatch.setenv("COLUMNS", said)
    assert columns(io.StringIO(), 128) == wide


def on_terminal(width: int, *words: str) -> str:
    """Return what a command shows on a terminal of so many columns."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    env = {k: v for k, v in environment().items() if k != "COLUMNS"} | {"TERM": "xterm"}
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65_536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "")


def test_a_terminal_shows_whole_words(tmp_path: Path) -> None:
    place = endpoint()
    words = ["recv", "-o", str(tmp_path / "x"), *place.flags, "--timeout", "0.2"]
    shown = on_terminal(30, *words)
    for beginning in ("waiting for", "pgmlite: timed out"):
        said = shown[shown.index(beginning) :].splitlines()[:3]
        assert max(map(len, said)) <= 30, said
        assert f"{place.group}:{place.port}" in " ".join(said).split()


FIGURES = [
    Column("name", ["a long text of many words", "b", "c"], wraps=True, is_number=False),
    Column("first\n(s)", ["123.45", "1.00", "7.25"]),
    Column("second", ["0.001", "", "never"], 2),
    Column("third", ["-99.5%", "+1.0%", "+10.0%"], 3),
    Column("last", ["1234567", "2", "3"], 1),
]


@pytest.mark.parametrize("width", range(11, 80, 3))
def test_a_table_shows_numbers_whole_or_not_at_all(width: int) -> None:
    lines = render("Title [of] many words", FIGURES, width, [1])
    assert max(map(len, lines)) <= width
    table, _, gone = "\n".join(lines).partition("Not shown")
    gone = " ".join(gone.split())
    for one in FIGURES[1:]:
        assert all(cell in table for cell in one.cells) != (one.name in gone)
    whole = {cell for one in FIGURES for cell in one.cells}
    assert set(re.findall(r"[-+]?\d[\d.]*%?", table)) <= whole
    assert "\N{HORIZONTAL ELLIPSIS}" not in table
    assert "[of]" in table


def test_a_wide_table_shows_everything() -> None:
    lines = render("Title", FIGURES, 80)
    assert not any("Not shown" in line for line in lines)
    assert all(cell in "\n".join(lines) for one in FIGURES for cell in one.cells)


def test_columns_go_before_the_table_does() -> None:
    text = "\n".join(render("Title", FIGURES, 40))
    assert "Not shown in 40 columns: third." in text
    assert "\N{BOX DRAWINGS LIGHT HORIZONTAL}" in text
    assert "Not shown" not in "\n".join(render("Title", FIGURES, 12))  # no table, but all of it


@pytest.mark.parametrize("width", [60, 80])
def test_compare_is_readable_in_few_columns(tmp_path, monkeypatch, capsys, width: int) -> None:
    plan = tmp_path / "small.toml"
    plan.write_text(
        'sizes = [50_000]\nrates = ["20M"]\nreceivers = [1, 3]\nsymbol_size = 512\n'
        'repetitions = 1\nshared_losses = 5\n[loss]\nkind = "mixed"\nmean = 0.02\nbad = 0.3\n'
        "bad_share = 0.5\n"
    )
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.run(["compare", str(plan), "-j", "1"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for word in ("receivers", "mode", "all", "sent", "carousel", "nak", "repair share 50%"):
        assert word in text


# The demonstration.


@pytest.mark.parametrize(
    ("fec", "nak", "words"),
    [
        (1.95, 2.1, ["repair symbols", "NAKs"]),
        (1.6, 3.9, ["repair symbols"]),
        (5.6, 1.9, ["NAKs"]),
        (3.8, 5.66, []),
    ],
)
def test_the_demonstration_claims_what_it_shows(fec: float, nak: float, words: list[str]) -> None:
    title = demo_module().title_of({"plain": 4.0, "fec": fec, "nak": nak})
    assert [word for word in ("repair symbols", "NAKs") if word in title] == words
    assert ("sooner" in title) == bool(words)


def demo_module():
    return cli.import_module("pgmlite.cli.demo")


def test_a_demonstration_whose_python_can_not_be_started(monkeypatch, capsys, tmp_path) -> None:
    private = tmp_path / "python"
    private.write_text("")
    monkeypatch.setattr(sys, "executable", str(private))
    code, error = Cli(monkeypatch, capsys)("demo", "--size", "1")
    assert code == 7
    assert f"pgmlite: {private}: Permission denied" in error


@pytest.mark.slow
def test_a_demonstration_whose_sender_fails(monkeypatch, capsys) -> None:
    place = endpoint()
    module = demo_module()
    monkeypatch.setattr(module, "_place", lambda: place.flags)
    monkeypatch.setattr(module, "MODES", {"carousel": ("--mtu", "5")})
    code, error = Cli(monkeypatch, capsys)("demo", "--size", "1")
    assert code == 3
    assert "the sender: MTU 5" in error


# Time.


@pytest.mark.slow
def test_the_time_of_a_transfer_begins_with_its_first_packet(tmp_path: Path) -> None:
    source, place = make_file(tmp_path / "source", 5_000), endpoint()
    with receiving(tmp_path / "copy", place) as receiver:
        waited = receiver.event("progress")
        assert (waited["transfer_seconds"], waited["silence"]) == (None, None)
        with sending(source, place):
            ended = receiver.end()
    assert ended.code == 0
    assert 0 < ended.last["transfer_seconds"] <= ended.last["seconds"] - waited["seconds"]


@pytest.mark.parametrize("is_there", [True, False])
def test_only_what_is_kept_is_said_to_be_kept(tmp_path, capsys, is_there):
    sample, part = make_object(1_000), tmp_path / "out.part"
    drive = Drive()
    drive.give([sample.spm(), *sample.odata(range(4))])
    if is_there:
        part.write_bytes(sample.data)
    socket = FakeReceiverSocket()
    loop = ReceiveLoop(drive.machine, FakeMemberships(socket), Mock(), Heard(), output=str(part))
    error = DiskError("another file")
    Output(as_json=False).show(failed(error, loop, str(part)), 0)
    socket.release()
    said = capsys.readouterr().err
    assert (str(part) in said) is is_there
    assert ("nothing of the object is kept" in said) is not is_there
