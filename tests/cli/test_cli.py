"""The command line from end to end: whole transfers, options, hooks, output."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pgmlite
from tests.support.loopback import (
    BLOCK,
    COMMAND,
    HEADER,
    PATIENCE,
    SYMBOL,
    Cli,
    endpoint,
    environment,
    make_file,
    receive,
    receiving,
    run,
    sending,
)

SENDER_COUNTERS = {"seconds", "cycles", "packets", "bytes", "odata"}
RECEIVER_COUNTERS = SENDER_COUNTERS | {"lost", "duplicates", "refused", "kernel_drops"}


@pytest.fixture(scope="module")
def carousel(tmp_path_factory):
    """A small file on the air, for tests whose subject is the receiver."""
    source = make_file(tmp_path_factory.mktemp("carousel") / "small.bin", 5_000)
    place = endpoint()
    with sending(source, place, rate="10M") as sender:
        sender.event("start")
        yield source, place


@pytest.mark.slow
@pytest.mark.parametrize(
    "size",
    [0, 1, SYMBOL, BLOCK, BLOCK + 1, 3 * BLOCK],
    ids=["empty", "byte", "symbol", "block", "block+1", "blocks"],
)
def test_whole_transfer(tmp_path, size):
    source, copy, place = make_file(tmp_path / "source.bin", size), tmp_path / "copy", endpoint()
    with sending(source, place) as sender:
        # spec: RCV-16: an empty object has to be asked for.
        asked = () if size else ("--object", sender.event("start")["oid"])
        received = receive(copy, place, *asked)
        sent = sender.stop()
    assert (received.code, sent.code) == (0, 6), received.stderr
    assert copy.read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "source.bin"]
    names = [event["event"] for event in received.events]
    assert (names[0], names[-1], names.count("manifest")) == ("start", "complete", 1)
    assert received.last.keys() >= RECEIVER_COUNTERS
    assert sent.last.keys() >= SENDER_COUNTERS
    assert received.last["oid"] == sent.event("start")["oid"]
    assert received.last["size"] == received.event("manifest")["size"] == size
    assert received.last["refused"] == {}
    assert received.last["odata"] >= -(-size // SYMBOL) - received.last["duplicates"]


def test_names_with_spaces_and_letters(tmp_path):
    source = make_file(tmp_path / "größe – файл 1.bin", 3_000)
    copy = tmp_path / "aus gabe" / "копия ü.bin"
    copy.parent.mkdir()
    place = endpoint()
    with sending(source, place):
        received = receive(copy, place)
    assert received.code == 0, received.stderr
    assert received.event("manifest")["name"] == source.name
    assert received.last["path"] == str(copy)
    assert copy.read_bytes() == source.read_bytes()


def test_a_name_that_is_no_text_is_printed_all_the_same(tmp_path, carousel):
    source, place = carousel
    copy = tmp_path / os.fsdecode(b"\xff\xfe.bin")
    ended = run("recv", "-o", copy, *place.flags, "--timeout", PATIENCE / 2)
    assert ended.code == 0, ended.stderr
    assert "Traceback" not in "\n".join(ended.stderr)
    assert ended.lines == []  # people read stderr; stdout is for programs
    assert any("complete: " in line for line in ended.stderr)
    assert copy.read_bytes() == source.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("symbol", "options"),
    [(64, []), (1_000, []), (8_000, ["--mtu", 9_000])],
    ids=["64", "1000", "8000"],
)
def test_symbol_sizes(tmp_path, symbol, options):
    source, copy, place = make_file(tmp_path / "source", 100_001), tmp_path / "copy", endpoint()
    with sending(source, place, "--symbol-size", symbol, *options, rate="20M"):
        received = receive(copy, place)
    assert received.code == 0, received.stderr
    assert received.event("manifest")["symbol_size"] == symbol
    assert copy.read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_who_joins_late_gets_the_manifest_of_small_symbols_too(tmp_path):
    # At this rate bursts are segmented, and an SPM is longer than a segment.
    # spec: PKT-9
    source, place = make_file(tmp_path / "source", 50_000), endpoint()
    with sending(source, place, "--symbol-size", 64) as sender:
        sender.event("progress")
        received = receive(tmp_path / "copy", place, "--timeout", 5)
    assert received.code == 0, received.stderr
    assert received.last["refused"] == {}
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_the_output_keeps_its_content_until_the_end_and_its_permissions(tmp_path):
    source, copy, place = make_file(tmp_path / "source", 5_000), tmp_path / "copy", endpoint()
    copy.write_text("before")
    copy.chmod(0o640)
    with receiving(copy, place) as receiver, sending(source, place, rate="10k"):
        receiver.event("manifest")
        assert copy.read_text() == "before"
        with sending(source, place):
            ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_mode & 0o7777 == 0o640


SEND_REFUSALS = [
    (["-r", "fast"], 2, "fast"),
    (["-r", ""], 2, "rate"),
    (["-r", "-5M"], 2, "rate -5"),
    (["-r", "nan"], 2, "nan"),
    (["-r", "10"], 2, "rate 10"),
    (["--start", "50%"], 2, "--start 50%"),
    (["--start", "soon"], 2, "--start soon"),
    (["--start", "-1/2"], 2, "--start -1/2"),
    (["--start", "2/2"], 2, "--start 2/2"),
    (["--start", "random", "--order", "blocks"], 2, "--start random"),
    (["--order", "backwards"], 2, "backwards"),
    (["--fec", "50"], 2, "--fec 50:"),
    (["--fec", "0%"], 2, "--fec 0%"),
    (["--fec", "-1%"], 2, "--fec -1%"),
    (["--fec", "701%"], 2, "--fec 701%"),
    (["--fec", "nan%"], 2, "--fec nan%"),
    (["--fec", "some"], 2, "--fec some"),
    (["--mtu", "100"], 2, "MTU 100"),
    (["--mtu", "70000"], 2, "MTU 70000"),
    (["--symbol-size", "60"], 2, "symbol size 60"),
    (["--symbol-size", "1001"], 2, "symbol size 1001"),
    (["--symbol-size", "65532"], 2, "symbol size 65532"),
    (["--duration", "0"], 2, "duration"),
    (["-g", "nonsense"], 2, "group nonsense"),
    (["-g", "10.0.0.1"], 2, "group 10.0.0.1"),
    (["-g", "239.1.1.1%eth9"], 2, "group 239.1.1.1%eth9"),
    (["-p", "0"], 2, "port 0"),
    (["-p", "65536"], 2, "port 65536"),
    (["-i", "nosuch0"], 3, "interface nosuch0"),
]

RECV_REFUSALS = [
    (["--object", "xyz"], 2, "object xyz"),
    (["--object", "0123456789abcdef0"], 2, "object 0123456789abcdef0"),
    (["--timeout", "0"], 2, "timeout 0"),
    (["--timeout", "-1"], 2, "timeout -1"),
    (["--drop", "150%"], 2, "150%"),
    (["--drop", "some"], 2, "some"),
    (["--on-complete", "'open"], 2, "--on-complete 'open"),
    (["-g", "10.0.0.1"], 2, "group 10.0.0.1"),
    (["-p", "65536"], 2, "port 65536"),
    (["-i", "nosuch0"], 3, "interface nosuch0"),
]


@pytest.mark.parametrize(("options", "code", "named"), SEND_REFUSALS)
def test_send_refuses(tmp_path, monkeypatch, capsys, options, code, named):
    source = make_file(tmp_path / "source", 5_000)
    result, error = Cli(monkeypatch, capsys).refuse(
        "send", source, *endpoint().flags, "--cycles", 1, *options
    )
    assert result == code
    assert named in error


@pytest.mark.parametrize(("options", "code", "named"), RECV_REFUSALS)
def test_recv_refuses(tmp_path, monkeypatch, capsys, options, code, named):
    result, error = Cli(monkeypatch, capsys).refuse(
        "recv", "-o", tmp_path / "copy", *endpoint().flags, "--timeout", 1, *options
    )
    assert result == code
    assert named in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["send", "--cycles", "0"], "--cycles"),
        (["send", "--hops", "0"], "--hops"),
        (["send", "--hops", "256"], "--hops"),
        (["send", "-p", "many"], "--port"),
        (["send"], "FILE"),
        (["recv"], "--output"),
        (["recv", "-o", "x", "--timeout", "soon"], "--timeout"),
        (["fetch"], "fetch"),
    ],
    ids=" ".join,
)
def test_the_option_parser_refuses(monkeypatch, capsys, options, named):
    verb, *rest = options
    file = ["file"] if verb == "send" and rest else []
    code, stderr = Cli(monkeypatch, capsys)(verb, *file, *rest)
    assert code == 2
    assert named in stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["send", "--duration", "nan"],
        ["send", "--duration", "inf"],
        ["send", "-r", "1e5000"],
        ["send", "-r", "1e1000000"],
        ["recv", "--timeout", "nan"],
        ["recv", "--timeout", "inf"],
        ["recv", "--object", "0x12345678901234"],
        ["recv", "--object=-123456789abcdef"],
    ],
    ids=" ".join,
)
def test_numbers_that_are_none(tmp_path, monkeypatch, capsys, arguments):
    verb, *options = arguments
    file = [make_file(tmp_path / "source", 1)] if verb == "send" else ["-o", tmp_path / "copy"]
    code, error = Cli(monkeypatch, capsys).refuse(verb, *file, *endpoint().flags, *options)
    assert code == 2
    assert options[-1].rpartition("=")[2] in error


@pytest.mark.slow
def test_environment_fills_in_and_a_flag_wins(tmp_path):
    place, other = endpoint(), endpoint()
    source = make_file(tmp_path / "source", 1)
    env = {
        "PGMLITE_GROUP": place.group,
        "PGMLITE_PORT": str(place.port),
        "PGMLITE_INTERFACE": "lo",
        "PGMLITE_RATE": "20M",
        "PGMLITE_MTU": "1280",
    }
    start = run("send", source, "--json", "--cycles", 1, env=env).event("start")
    (channel,) = start["channels"]
    assert (channel["group"], channel["port"], start["interface"]) == (
        place.group,
        place.port,
        "lo",
    )
    assert (channel["rate"], start["symbol_size"]) == (20_000_000, 1_280 - 48 - HEADER.size)
    flags = ["-g", other.group, "-r", "30M"]
    start = run("send", source, "--json", "--cycles", 1, *flags, env=env).event("start")
    (channel,) = start["channels"]
    assert (channel["group"], channel["rate"]) == (other.group, 30_000_000)
    assert channel["port"] == place.port
    start = run(
        "send", source, "--json", "--cycles", 1, "--channel", f"{other.group},30M", env=env
    ).event("start")
    (channel,) = start["channels"]
    assert (channel["group"], channel["rate"]) == (other.group, 30_000_000)
    ended = run("recv", "-o", tmp_path / "copy", "--json", "--timeout", 0.1, env=env)
    assert ended.code == 5
    assert ended.event("start")["group"] == place.group


def hook_script(folder: Path, code: int) -> str:
    """Return a command that notes how it was called."""
    script = folder / "hook.py"
    script.write_text(
        "import json, os, sys\n"
        "facts = {k: v for k, v in os.environ.items() if k.startswith('PGMLITE_')}\n"
        f"with open({str(folder / 'calls')!r}, 'a') as calls:\n"
        "    print(json.dumps([sys.argv[1:], facts]), file=calls)\n"
        "print('hook speaks')\n"
        f"sys.exit({code})\n"
    )
    return shlex.join([sys.executable, str(script), "two words"])


def test_hook_runs_once_with_the_path_and_the_facts(tmp_path, carousel):
    source, place = carousel
    copy = tmp_path / "my copy"
    with receiving(copy, place, "--on-complete", hook_script(tmp_path, 0)) as receiver:
        ended = receiver.end()
    assert ended.code == 0, ended.stderr
    (call,) = (tmp_path / "calls").read_text().splitlines()
    arguments, facts = json.loads(call)
    assert arguments == ["two words", str(copy)]
    assert facts["PGMLITE_PATH"] == str(copy)
    assert facts["PGMLITE_NAME"] == source.name
    assert facts["PGMLITE_SIZE"] == "5000"
    complete = json.loads(next(line for line in ended.lines if '"complete"' in line))
    assert facts["PGMLITE_OBJECT_ID"] == complete["oid"]
    assert facts["PGMLITE_TREE_DIGEST"] == complete["tree_digest"]


def test_what_a_hook_prints_does_not_get_between_the_json_lines(tmp_path, carousel):
    ended = receive(tmp_path / "copy", carousel[1], "--on-complete", hook_script(tmp_path, 0))
    assert ended.code == 0, ended.stderr
    assert all(line.startswith("{") for line in ended.lines), ended.lines


def test_failing_hook(tmp_path, carousel):
    source, place = carousel
    ended = receive(tmp_path / "copy", place, "--on-complete", hook_script(tmp_path, 3))
    assert ended.code == 8
    assert "exit code 3" in ended.error
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_missing_hook(tmp_path, carousel):
    ended = receive(tmp_path / "copy", carousel[1], "--on-complete", "/no/such/command")
    assert ended.code == 2  # known before anything is received
    assert "/no/such/command" in ended.error
    assert list(tmp_path.iterdir()) == []


def test_version():
    ended = run("--version")
    assert (ended.code, ended.lines) == (0, [f"pgmlite {pgmlite.__version__}"])


@pytest.mark.parametrize("verb", ["send", "recv"])
def test_help_of_a_verb_has_examples(verb):
    ended = run(verb, "--help")
    assert ended.code == 0
    assert f"pgmlite {verb} " in "\n".join(ended.lines).partition("Examples:")[2]


def test_help_names_the_verbs_and_the_exit_codes():
    ended = run("--help")
    assert ended.code == 0
    text = "\n".join(ended.lines)
    for word in ("send", "recv", "0 verified", "3 network", "8 hook failed"):
        assert word in text


def test_a_sender_does_not_wait_for_what_others_need():
    code = "import sys, pgmlite.cli.send as verb; verb.api.send('x'); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "pgmlite.core.send.sender" in loaded
    for module in ("rich", "matplotlib", "dask", "pgmlite.capture.pcap"):
        assert module not in loaded
    for ring in ("pgmlite.sim", "pgmlite.core.receive"):
        assert not [name for name in loaded if name.startswith(ring)]


@pytest.mark.slow
def test_a_reader_that_goes_away(tmp_path):
    source = make_file(tmp_path / "source", 1)
    with subprocess.Popen(
        [*COMMAND, "send", str(source), *endpoint().flags, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as sender:
        try:
            assert json.loads(sender.stdout.readline())["event"] == "start"
            sender.stdout.close()
            assert sender.wait(PATIENCE)
            assert sender.stderr.read() == ""
        finally:
            sender.kill()


def test_no_stderr_at_all(tmp_path):
    # As some supervisors and shells start services: with `2>&-`.
    source = make_file(tmp_path / "source", 1)
    command = [*COMMAND, "send", str(source), *endpoint().flags, "--cycles", "1"]
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *command],
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.slow
def test_two_senders_of_one_file_add_up(tmp_path):
    # spec: SND-8, FEC-4
    source, place = make_file(tmp_path / "source", BLOCK), endpoint()
    with receiving(tmp_path / "copy", place) as receiver:
        with sending(source, place, "--start", "0/2", rate="4M") as sender:
            # What the second one sends first is three quarters of what is needed.
            receiver.event("progress", lambda event: event["stored"] > 300)
            first = sender.stop()
        with sending(source, place, "--start", "1/2", rate="20M") as sender:
            ended = receiver.end()
            second = sender.stop()
    assert ended.code == 0, ended.stderr
    assert first.event("start")["oid"] == second.event("start")["oid"]
    if not ended.last["lost"] and first.last["odata"] <= 768:
        # Had what the first one sent been thrown away, a whole cycle of the second were needed.
        assert ended.last["duplicates"] == 0
        assert ended.last["odata"] <= 1_024 + 100
