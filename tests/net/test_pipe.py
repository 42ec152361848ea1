"""``recv -o -``: what comes on standard output, in order, verified, and whoever reads it."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgmlite.core.events import Event, PassedOn
from pgmlite.errors import DiskError, Interrupted, UsageError
from pgmlite.net.destinations import pipe
from pgmlite.net.destinations.pipe import PipeDestination, StandardOutput
from pgmlite.net.waiting import block
from pgmlite.storage.record import Identity
from tests.support.builders import make_object
from tests.support.event_schema import read_line
from tests.support.loopback import (
    BLOCK,
    PATIENCE,
    SYMBOL,
    Endpoint,
    Inside,
    endpoint,
    make_file,
    sending,
    until,
)
from tests.support.piping import Piped, complete, fill_in, prepare

SIZE = 3 * BLOCK + 12_345
SAMPLE = make_object(5 * 512 + 100)


# With real processes.


@pytest.fixture(scope="module")
def carousel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Endpoint]]:
    """A file on the air."""
    source = make_file(tmp_path_factory.mktemp("carousel") / "disk.img", SIZE)
    place = endpoint()
    with sending(source, place, rate="150M") as sender:
        sender.event("start")
        yield source, place


def left(spool: Path) -> list[str]:
    return sorted(one.name for one in spool.iterdir())


def test_all_of_it_comes_in_order_and_nothing_else(carousel, tmp_path) -> None:
    # spec: RCV-26, RCV-27
    source, place = carousel
    with Piped(tmp_path, place, "--drop", "5%") as receiver:
        assert receiver.process.stdout is not None
        assert receiver.process.stdout.read() == source.read_bytes()
        assert receiver.end() == 0, receiver.say()
        assert receiver.errors == []
    last = receiver.events[-1]
    assert (last["event"], last["path"], last["is_new"]) == ("complete", "-", True)
    assert left(tmp_path) == []


@pytest.mark.slow
def test_a_file_and_a_socket_get_it_too(carousel, tmp_path) -> None:
    # spec: RCV-27
    source, place = carousel
    with (tmp_path / "out").open("wb") as out, Piped(tmp_path, place, stdout=out) as receiver:
        out.write(b"before ")
        out.flush()
        assert receiver.end() == 0, receiver.say()
    assert (tmp_path / "out").read_bytes() == b"before " + source.read_bytes()
    ours, theirs = socket.socketpair()
    with ours, theirs, Piped(tmp_path, place, stdout=theirs) as receiver:
        theirs.close()
        data = b"".join(iter(lambda: ours.recv(1 << 20), b""))
        assert receiver.end() == 0, receiver.say()
    assert data == source.read_bytes()
    assert left(tmp_path) == ["out"]


def test_a_reader_that_is_gone_is_said_and_what_came_is_kept(carousel, tmp_path) -> None:
    # spec: RCV-27
    _, place = carousel
    with Piped(tmp_path, place) as receiver:
        assert receiver.process.stdout is not None
        assert receiver.process.stdout.read(100)
        receiver.process.stdout.close()
        assert receiver.end() == 7, receiver.say()
    (error,) = receiver.errors
    assert "nobody reads it any more" in error
    last = receiver.events[-1]
    assert (last["event"], last["exit_code"], last["is_kept"]) == ("failed", 7, True)
    assert Path(last["part"]).name in left(tmp_path)


@pytest.mark.slow
def test_a_slow_reader_holds_nothing_up_and_sigterm_ends_it(carousel, tmp_path) -> None:
    # spec: RCV-27
    source, place = carousel
    with Piped(tmp_path, place) as receiver:
        receiver.event("passed_on")  # all is here, and nobody has read a byte
        receiver.process.send_signal(signal.SIGTERM)
        assert receiver.end() == 6, receiver.say()
    assert len(left(tmp_path)) == 2
    with Piped(tmp_path, place) as receiver:
        receiver.event("passed_on")
        assert receiver.process.stdout is not None
        assert receiver.process.stdout.read() == source.read_bytes()
        assert receiver.end() == 0, receiver.say()
    assert receiver.events[-1]["fetched"] == 0, "it was all in the spool"
    assert left(tmp_path) == []


@pytest.mark.slow
def test_a_receiver_that_was_killed_goes_on(tmp_path) -> None:
    # spec: RCV-26
    source, place = make_file(tmp_path / "source", SIZE), endpoint()
    spool = tmp_path / "spool"
    spool.mkdir()
    # progress is told once a second, and must be told before all of it is there
    with sending(source, place, "--start", "0/1", rate="10M") as sender:
        sender.event("start")
        with Piped(spool, place) as receiver:
            receiver.wait_for_progress(1_000)
        with Piped(spool, place) as receiver:
            assert receiver.process.stdout is not None
            assert receiver.process.stdout.read() == source.read_bytes()
            assert receiver.end() == 0, receiver.say()
    assert receiver.events[-1]["fetched"] < SIZE // SYMBOL - 900


@pytest.mark.slow
def test_what_is_read_is_not_what_somebody_else_wrote_to_the_spool(carousel, tmp_path) -> None:
    # spec: RCV-26
    source, place = carousel
    with Piped(tmp_path, place) as receiver:
        receiver.event("passed_on")
        (part,) = tmp_path.glob("*.part")
        with part.open("r+b") as file:
            file.seek(2 * BLOCK + 99)  # a pipe has room for less than the first block
            file.write(b"somebody else's")
        assert receiver.process.stdout is not None
        said = receiver.process.stdout.read()
        assert receiver.end() == 7, receiver.say()
    assert said == source.read_bytes()[: 2 * BLOCK]
    (error,) = receiver.errors
    assert f"another program changed it at byte {2 * BLOCK}" in error
    with Piped(tmp_path, place) as receiver:
        assert receiver.process.stdout is not None
        assert receiver.process.stdout.read() == source.read_bytes()
        assert receiver.end() == 0, receiver.say()


def test_a_closed_one_is_an_error(tmp_path) -> None:
    with Piped(tmp_path, endpoint(), before=["sh", "-c", 'exec "$@" >&-', "sh"]) as receiver:
        assert receiver.end() == 7, receiver.say()
    assert receiver.errors == ["standard output: is closed; what came is kept"]


@pytest.mark.parametrize(
    ("options", "option"),
    [(["--on-complete", "true"], "--on-complete"), (["--verify-media"], "--verify-media")],
)
def test_what_needs_something_that_stays_is_refused(
    tmp_path, monkeypatch, capfd, options, option
) -> None:
    inside = Inside(monkeypatch, capfd)
    ended = inside.receive("-", endpoint(), "--spool", tmp_path, *options)
    assert (ended.code, ended.lines) == (2, [])
    (event,) = map(read_line, ended.stderr)
    assert event["error"].startswith(f"{option}: ")
    assert (event["event"], event["exit_code"]) == ("failed", 2)


# The parts.


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What is written to the standard output can be read here."""
    ours, theirs = os.pipe()
    monkeypatch.setattr(pipe, "STANDARD_OUTPUT", theirs)
    monkeypatch.setattr(sys, "__stdout__", sys.stdout)
    yield ours
    os.close(theirs)
    with contextlib.suppress(OSError):
        os.close(ours)


class Before:
    """What is asked before an object is in place."""

    def __init__(self, reader: int) -> None:
        self.calls: list[Identity | None] = []
        self.error: DiskError | None = None
        self._reader = reader

    def __call__(self, identity: Identity | None) -> None:
        os.set_blocking(self._reader, False)
        with pytest.raises(BlockingIOError):  # nothing has left by then
            os.read(self._reader, 1)
        os.set_blocking(self._reader, True)
        self.calls.append(identity)
        if self.error:
            raise self.error


@pytest.fixture
def before(reader: int) -> Before:
    return Before(reader)


@pytest.fixture
def happened() -> list[Event]:
    return []


@pytest.fixture
def destination(tmp_path: Path, before: Before, happened: list[Event]) -> Iterator[PipeDestination]:
    destination = PipeDestination(tmp_path, before, happened.append)
    yield destination
    destination.close()
    assert not [one.name for one in threading.enumerate() if one.name.startswith("pass")]


def publish(destination: PipeDestination, sample=SAMPLE) -> bool:
    waits = destination.publish(complete(sample))
    while True:
        try:
            block(next(waits))
        except StopIteration as end:
            return bool(end.value)


def test_it_is_asked_once_and_before_the_first_byte(destination, before, reader) -> None:
    # spec: RCV-27
    prepare(destination.part, SAMPLE)
    fill_in(destination.part, SAMPLE, [3, 1])
    assert not destination.is_begun
    assert before.calls == []
    fill_in(destination.part, SAMPLE, [0, 2, 4, 5])
    assert destination.is_begun
    assert publish(destination)
    assert before.calls == [None]
    assert os.read(reader, 1 << 16) == SAMPLE.data


def test_if_it_may_not_be_nothing_leaves(destination, before, reader) -> None:
    # spec: RCV-27
    before.error = DiskError("a higher release was installed")
    prepare(destination.part, SAMPLE)
    with pytest.raises(DiskError, match="a higher release"):
        fill_in(destination.part, SAMPLE)
    destination.close()
    assert not destination.is_begun
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)


def test_a_reader_that_is_gone_is_found_out_before_anything_comes(destination, reader) -> None:
    # spec: RCV-27
    destination.part.idle()
    os.close(reader)
    with pytest.raises(DiskError, match="nobody reads it any more"):
        destination.part.idle()


def test_an_empty_object_is_nothing_and_is_asked_about(destination, before) -> None:
    empty = make_object(0)
    prepare(destination.part, empty)
    assert publish(destination, empty)
    assert before.calls == [None]


@pytest.mark.slow
def test_waiting_for_a_reader_can_be_interrupted(destination, reader, happened) -> None:
    # spec: RCV-27
    large = make_object(1 << 20, symbol_size=1_024, block_symbols=64)
    prepare(destination.part, large)
    fill_in(destination.part, large)
    waits = destination.publish(complete(large))
    until(lambda: [block(next(waits)), happened][1])
    (told,) = {type(one) for one in happened}
    assert told is PassedOn
    with pytest.raises(Interrupted):
        waits.throw(Interrupted("now"))


def test_a_pipe_of_another_user_is_written_without_being_opened_again(
    tmp_path: Path, reader: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path, *args, **named):
        if str(path).startswith("/proc/self/fd/"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **named)

    monkeypatch.setattr(os, "open", refuse)
    output, data = StandardOutput(), os.urandom(300_000)
    came = []

    def read() -> None:
        while sum(map(len, came)) < len(data):
            came.append(os.read(reader, 1 << 16))

    thread = threading.Thread(target=read)
    thread.start()
    assert output.write(memoryview(data))
    thread.join(PATIENCE)
    assert b"".join(came) == data
    # Full again, it waits, and is told to stop.
    writer = threading.Thread(target=lambda: came.append(output.write(memoryview(data))))
    writer.start()
    output.stop()
    writer.join(PATIENCE)
    assert came[-1] is False
    output.close()


def test_what_can_only_be_read_is_no_output(monkeypatch: pytest.MonkeyPatch, reader: int) -> None:
    monkeypatch.setattr(pipe, "STANDARD_OUTPUT", reader)
    with pytest.raises(DiskError, match="can't be written"):
        StandardOutput()


def test_a_terminal_is_an_error_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setattr(pipe, "STANDARD_OUTPUT", theirs)
    monkeypatch.setattr(sys, "__stdout__", sys.stdout)
    with pytest.raises(UsageError, match="is a terminal"):
        StandardOutput()
    os.close(ours)
    os.close(theirs)
