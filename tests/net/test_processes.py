"""Whole processes: signals, time limits, and what is kept."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.loopback import (
    BLOCK,
    Running,
    endpoint,
    make_file,
    receive,
    receiving,
    sending,
    until,
)

PLAIN = ("--fec", "off", "--order", "blocks")
"""Options of a sender without repair symbols, block after block."""


def open_files(pid: int) -> set[str]:
    names = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed a moment ago
            names.add(str(link.readlink()))
    return names


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_signals_end_both_with_a_summary(tmp_path, number):
    source, place = make_file(tmp_path / "source", 2 * BLOCK), endpoint()
    with sending(source, place, rate="1M") as sender, receiving(tmp_path / "copy", place) as other:
        other.event("progress", lambda event: event["stored"] > 0)
        received, sent = other.stop(number), sender.stop(number)
    for ended, name in ((received, "failed"), (sent, "stopped")):
        assert ended.code == 6
        assert number.name in ended.error
        assert ended.last["event"] == name
        assert ended.last["packets"] > 0
    assert (tmp_path / "copy.part").exists()
    assert not (tmp_path / "copy").exists()


def test_the_summary_for_people(tmp_path):
    source, place = make_file(tmp_path / "source", 2 * BLOCK), endpoint()
    options = [*place.flags, "-r", "1M"]
    with Running("send", source, *options) as sender, receiving(tmp_path / "x", place) as receiver:
        receiver.event("manifest")
        ended = sender.stop()
    assert (ended.code, ended.lines) == (6, [])
    assert any("cycles" in line and "packets" in line for line in ended.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_signals_while_a_source_is_hashed(tmp_path, number):
    source = tmp_path / "huge"
    with source.open("wb") as file:
        file.truncate(1 << 40)
    with sending(source, endpoint()) as sender:
        until(lambda: str(source) in open_files(sender.pid))
        ended = sender.stop(number)
    assert ended.code == 6
    assert number.name in ended.error


@pytest.mark.slow
def test_time_limit_keeps_what_came_and_the_next_run_goes_on(tmp_path):
    blocks, held = 4, 3
    source, copy, place = (
        make_file(tmp_path / "source", blocks * BLOCK),
        tmp_path / "copy",
        endpoint(),
    )
    # What an earlier run that heard the beginning left; one byte of it went bad since.
    part = tmp_path / "copy.part"
    part.write_bytes(source.read_bytes()[: held * BLOCK])
    with part.open("r+b") as file:
        file.seek(BLOCK + 5)
        file.write(b"\xff\x00"[source.read_bytes()[BLOCK + 5] == 0xFF :][:1])
    ended = receive(copy, place, "--timeout", 0.5)
    assert ended.code == 5
    assert part.stat().st_size == held * BLOCK

    with receiving(copy, place) as receiver:
        receiver.event("start")
        start = f"{held}/{blocks}"
        with sending(source, place, *PLAIN, "--start", start, rate="40M") as sender:
            ended = receiver.end()
            assert sender.stop().code == 6
    assert ended.code == 0, ended.stderr
    assert copy.read_bytes() == source.read_bytes()
    assert not part.exists()
    if not ended.last["lost"]:
        # The end, the beginning as far as the bad block, and what is under way meanwhile.
        assert ended.last["odata"] < blocks * 1_024
        assert ended.last["odata"] >= (blocks - held) * 1_024
        assert ended.last["duplicates"] > 0  # the block before the bad one is not written again


@pytest.mark.slow
def test_a_receiver_that_was_killed_goes_on(tmp_path):
    source, copy, place = make_file(tmp_path / "source", 8 * BLOCK), tmp_path / "copy", endpoint()
    with receiving(copy, place) as receiver:
        receiver.event("start")
        with sending(source, place, *PLAIN, "--start", "0/1", rate="20M"):
            stored = receiver.event("progress", lambda event: event["stored"] > 1_024)["stored"]
            assert receiver.stop(signal.SIGKILL).code == -signal.SIGKILL
    assert not copy.exists()
    whole = stored // 1_024
    with receiving(copy, place) as receiver:
        receiver.event("start")
        with sending(source, place, *PLAIN, "--start", f"{whole}/8", rate="80M"):
            ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert copy.read_bytes() == source.read_bytes()
    if not ended.last["lost"]:
        assert ended.last["odata"] < 8 * 1_024


@pytest.mark.slow
def test_an_object_that_is_replaced(tmp_path):
    """The first sender is gone, and another file is on the air: the receiver takes that."""
    first, second = (make_file(tmp_path / f"source{n}", 2 * BLOCK, seed=n) for n in (1, 2))
    copy, place = tmp_path / "copy", endpoint()
    with receiving(copy, place) as receiver:
        with sending(first, place, rate="1M"):
            receiver.event("manifest")
        with sending(second, place):
            ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert "superseded" in [event["event"] for event in ended.events]
    assert ended.last["oid"] == ended.event("superseded")["by"]
    assert copy.read_bytes() == second.read_bytes()
