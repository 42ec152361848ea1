"""Real pgmlite processes on the loopback interface, datagrams of our own, and fake sockets.

IPv4 multicast over ``lo`` is delivered without root. Every test takes a group and a port of its
own, so that tests of any number of runs side by side never meet.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random, SystemRandom
from types import TracebackType
from typing import Any, Self

import pytest

from pgmlite import cli
from pgmlite.cli.signals import Signals
from pgmlite.net.address import Channel, resolve
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.sending import SendLoop
from tests.support.event_schema import read_line

LO = "lo"
COMMAND = [sys.executable, "-m", "pgmlite"]

PATIENCE = 60.0
"""Seconds until something that should happen in a few counts as failed: machines may be busy."""

SYMBOL = 1_404
"""Payload bytes of a packet that `send` chooses by default on one link."""

BLOCK = SYMBOL * 1_024

HEADER = struct.Struct(">HBBBBHQQQQII")
"""magic, version, type, channel, flags, symbol size, tsi, oid, size, offset, sqn, esi."""

SPM, ODATA, TREE = 0x00, 0x04, 0x07

_random = SystemRandom()  # a seeded one would bring two runs together


@dataclass(frozen=True)
class Endpoint:
    """A group and a port on ``lo``."""

    group: str
    port: int

    @property
    def flags(self) -> list[str]:
        """Options of the command line."""
        return ["-g", self.group, "-p", str(self.port), "-i", LO]

    @property
    def channel(self) -> Channel:
        """The same for `pgmlite.net`."""
        return resolve(self.group, self.port, LO)


def endpoint() -> Endpoint:
    """Return a group and a port that nobody else uses, most likely; all groups are of one scope."""
    group = f"239.{_random.randint(192, 195)}.{_random.randint(0, 255)}.{_random.randint(1, 254)}"
    return Endpoint(group, _random.randint(20_000, 32_000))


def make_file(path: Path, size: int, *, seed: int = 0) -> Path:
    """Write `size` random bytes, always the same ones."""
    path.write_bytes(Random(f"{seed}/{size}").randbytes(size))
    return path


@dataclass(frozen=True)
class Ended:
    """What a process left behind."""

    code: int
    lines: list[str]
    stderr: list[str]

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """Every line of stdout: one that is no JSON fails the test."""
        return [read_line(line) for line in self.lines]

    @property
    def last(self) -> dict[str, Any]:
        """The last event: it carries the counters."""
        return self.events[-1]

    def event(self, name: str) -> dict[str, Any]:
        """Return the only event of that name."""
        (one,) = [event for event in self.events if event["event"] == name]
        return one

    @property
    def error(self) -> str:
        """The one line that says why."""
        return only_error("\n".join(self.stderr))


def only_error(stderr: str) -> str:
    """Return the line that says why; fail if there is not exactly one, or a traceback."""
    assert "Traceback" not in stderr, stderr
    said = [line for line in stderr.splitlines() if line.startswith("pgmlite: ")]
    assert len(said) == 1, stderr
    return said[0]


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return this environment without what would change pgmlite's options or its output."""
    names = ("PGMLITE_", "FORCE_COLOR", "COLUMNS", "TERMINAL_WIDTH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return kept | {"NO_COLOR": "1", "COLUMNS": "200"} | (extra or {})


class Running:
    """A pgmlite process whose lines are read while it runs; a context, so that it always ends."""

    def __init__(
        self,
        *arguments: object,
        env: dict[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.peak_kib = 0
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._stderr: list[str] = []
        self._process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
            env=environment(env),
        )
        self.pid = self._process.pid
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in (
                (self._process.stdout, self._lines),
                (self._process.stderr, self._stderr),
            )
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        for stream in (self._process.stdout, self._process.stderr, self._process.stdin):
            if stream:
                stream.close()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            with self._changed:
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _find(self, name: str, where: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        for line in self._lines:
            event = read_line(line)
            if event["event"] == name and where(event):
                return dict(event)
        return None

    def event(
        self,
        name: str,
        where: Callable[[dict[str, Any]], bool] = lambda event: True,
        limit: float = PATIENCE,
    ) -> dict[str, Any]:
        """Wait for an event of ``--json``; return the first such one."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._find(name, where) or not self._readers[0].is_alive(), limit
            )
            found = self._find(name, where)
        assert found, f"no {name} in {self._lines} {self._stderr}"
        return found

    def has_said(self, name: str) -> bool:
        """Whether there was an event of that name."""
        with self._changed:
            return self._find(name, lambda event: True) is not None

    def write(self, data: bytes, *, ends: bool = True) -> None:
        """Write to its standard input, which has to be a pipe."""
        assert self._process.stdin
        self._process.stdin.buffer.write(data)  # type: ignore[attr-defined]
        self._process.stdin.buffer.flush()  # type: ignore[attr-defined]
        if ends:
            self._process.stdin.close()

    def say(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self, limit: float = PATIENCE) -> Ended:
        """Wait for the end."""
        code = self._process.wait(limit)
        for reader in self._readers:
            reader.join(limit)
        return Ended(code, self._lines, self._stderr)

    def stop(self, number: int = signal.SIGTERM) -> Ended:
        """Send a signal and wait for the end."""
        self.say(number)
        return self.end()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def memory_kib(self) -> int:
        """Return the resident memory now; keep the highest ever in `peak_kib`."""
        # Not `ru_maxrss`: that counts what the test runner held when the process was started.
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except FileNotFoundError:
            return 0
        values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if "VmHWM" not in values:  # it ended a moment ago
            return 0
        self.peak_kib = max(self.peak_kib, int(values["VmHWM"].split()[0]))
        return int(values["VmRSS"].split()[0])


def run(*arguments: object, env: dict[str, str] | None = None, limit: float = PATIENCE) -> Ended:
    """Run pgmlite to its end."""
    with Running(*arguments, env=env) as process:
        return process.end(limit)


def sending(source: Path, place: Endpoint, *options: object, rate: str = "50M") -> Running:
    """Start a sender."""
    return Running("send", source, *place.flags, "-r", rate, "--json", *options)


def receiving(output: Path, place: Endpoint, *options: object) -> Running:
    """Start a receiver, which gives up after a while."""
    return Running(
        "recv", "-o", output, *place.flags, "--json", "--timeout", PATIENCE / 2, *options
    )


def receive(output: Path, place: Endpoint, *options: object) -> Ended:
    """Run a receiver to its end."""
    with receiving(output, place, *options) as receiver:
        return receiver.end()


class Cli:
    """The command line without a process of its own: for what ends before packets flow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(
            Signals, "install", lambda signals: None
        )  # signals stay the test runner's
        for loop in (SendLoop, ReceiveLoop):
            monkeypatch.setattr(loop, "run", self._accepted)  # it might run for ever
        self._capsys = capsys

    @staticmethod
    def _accepted(loop: SendLoop | ReceiveLoop) -> None:
        pytest.fail("this should have been refused")

    def __call__(self, *arguments: object) -> tuple[int, str]:
        """Return the exit code and what went to stderr."""
        code = cli.run([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.err, captured.err
        return code, captured.err

    def event(self, *arguments: object) -> tuple[int, dict[str, Any]]:
        """Return the exit code and the only event of a command with ``--json``."""
        code = cli.run([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        (line,) = captured.out.splitlines()
        event = read_line(line)
        assert only_error(captured.err) == f"pgmlite: {event['error']}"
        return code, event

    def refuse(self, *arguments: object) -> tuple[int, str]:
        """Return the exit code and the error: the only line there is."""
        code, stderr = self(*arguments)
        assert stderr.count("\n") == 1, stderr
        return code, only_error(stderr)


class Inside:
    """The command line in this process, to its end: for what no signal is sent to.

    It starts sooner than a process of its own.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(
            Signals, "install", lambda signals: None
        )  # signals stay the test runner's
        self._capfd = capfd

    def __call__(self, *arguments: object) -> Ended:
        """Run it; return what it left behind."""
        code = cli.run([str(argument) for argument in arguments])
        captured = self._capfd.readouterr()
        assert "Traceback" not in captured.err, captured.err
        return Ended(code, captured.out.splitlines(), captured.err.splitlines())

    def receive(self, output: Path | str, place: Endpoint, *options: object) -> Ended:
        """Run a receiver, which gives up after a while."""
        flags = (*place.flags, "--json", "--timeout", PATIENCE / 2)
        return self("recv", "-o", output, *flags, *options)


@contextmanager
def raw_sender(place: Endpoint) -> Iterator[socket.socket]:
    """Open a socket that sends anything to the group."""
    request = struct.pack("@4s4si", bytes(4), bytes(4), socket.if_nametoindex(LO))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        sock.connect((place.group, place.port))
        yield sock


@contextmanager
def raw_receiver(place: Endpoint) -> Iterator[socket.socket]:
    """Open a socket that hears the group, packet by packet."""
    request = struct.pack(
        "@4s4si", socket.inet_aton(place.group), bytes(4), socket.if_nametoindex(LO)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((place.group, place.port))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        sock.settimeout(PATIENCE)
        yield sock


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait until `condition` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def drain(sock: socket.socket) -> list[bytes]:
    """Return the datagrams that wait in `sock`."""
    packets = []
    sock.setblocking(False)
    while True:
        try:
            packets.append(sock.recv(65_536))
        except BlockingIOError:
            return packets
