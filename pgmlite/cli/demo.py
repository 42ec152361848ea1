"""``demo``: the whole thing on this machine in seconds, without root."""

from __future__ import annotations

import filecmp
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from pgmlite.cli.lines import Priority, columns, fit, say
from pgmlite.cli.options import option
from pgmlite.cli.signals import Signals
from pgmlite.cli.tables import Column, render
from pgmlite.cli.values import parse_rate, parse_share
from pgmlite.core.human import human_bytes, human_rate, human_time
from pgmlite.errors import DiskError, NetworkError, ObjectError, TimedOut, UsageError

CHUNK = 1 << 20
LIMIT = 90.0
"""Seconds after which the demonstration gives up."""

WORTH_IT = 1.1
"""Object lengths of the plain carousel for each of another mode, from which on that is better."""

JOIN_LATE = 0.5
"""Cycles after the sender's start at which the late receiver joins."""

PLAIN = ("--fec", "off", "--order", "blocks")
MODES = {"plain": PLAIN, "fec": (), "nak": (*PLAIN, "--repair")}
"""What is shown, and the sender's options for it."""


@dataclass(slots=True)
class Program:
    """A sender or receiver of its own process, and what it said."""

    name: str
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    def start(self, *words: str) -> None:
        """Run ``pgmlite WORDS --json``.

        Raises:
            DiskError: Python can't be started.
        """
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pgmlite", *words, "--json"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError as error:
            raise DiskError(f"{sys.executable}: {error.strerror}") from error
        self.reader = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self.reader.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self.events.append(json.loads(line))

    def stop(self) -> None:
        """End it and hear its last words."""
        if self.process and self.reader:
            self.process.terminate()
            self.process.wait()
            self.reader.join()
            if self.process.stdout:
                self.process.stdout.close()

    @property
    def complaint(self) -> str:
        """Why it ended."""
        if self.reader:
            self.reader.join()
        last = self.last("failed") or self.last("stopped")
        return str(last.get("error", "it ended without a word"))

    def last(self, event: str) -> dict[str, Any]:
        """Return the latest event of that name, or an empty one."""
        return next((e for e in reversed(self.events) if e["event"] == event), {})


@dataclass(slots=True)
class Copy(Program):
    """A receiver."""

    loss: str = "0%"
    late: bool = False
    path: Path = Path()

    @property
    def state(self) -> str:
        """What it is doing, for the screen."""
        if self.last("complete"):
            return "complete"
        progress = self.last("progress")
        if progress.get("symbols"):
            return f"{progress['stored'] / progress['symbols']:.0%}"
        return "listening" if self.last("start") else "not joined yet"


@click.command(short_help="Show all of it on this machine, in seconds.")
@option(
    "--size",
    type=click.IntRange(1, 1024),
    default=16,
    metavar="MIB",
    help="Size of the file in MiB.",
)
@option("-r", "--rate", default="80M", metavar="RATE", help="Rate of the sender.")
@option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def demo(size: int, rate: str, as_json: bool) -> None:
    """Send a file to three receivers on this machine, in three ways; compare the copies.

    The plain carousel, the carousel with repair symbols (FEC), and the plain one that repeats what
    receivers ask for (NAK). Real processes, real sockets, real multicast over the loopback
    interface; the receivers lose packets on purpose, and one joins when half a cycle has gone by.
    """
    bits = parse_rate(rate)
    if bits is None:
        raise UsageError("rate max: the demonstration needs a number")
    signals = Signals()
    signals.install()
    end = time.monotonic() + LIMIT
    rows, sent = [], {}
    with tempfile.TemporaryDirectory(prefix="pgmlite-demo-") as folder:
        source = Path(folder) / "firmware.bin"
        with source.open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(CHUNK))
        for mode, options in MODES.items():
            place = Path(folder) / mode
            place.mkdir()
            copies = [
                Copy("R1", loss="0%", path=place / "copy1.bin"),
                Copy("R2", loss="5%", path=place / "copy2.bin"),
                Copy("R3", loss="1%", late=True, path=place / "copy3.bin"),
            ]
            where = _place()
            if not as_json:
                say(
                    f"{mode}: {human_bytes(size * CHUNK)} at {human_rate(bits)} to group "
                    f"{where[1]}, port {where[3]}, on the loopback interface"
                )
            command = ["send", "-r", rate, *where, *options, str(source)]
            cycle = size * CHUNK * 8 / bits
            shown = Mode(command, where, copies, cycle, end)
            shown.run(signals, quiet=as_json)
            rows += [_row(mode, copy, source) for copy in copies]
            sent[mode] = _lengths(shown.sender)
    if as_json:
        print(json.dumps({"receivers": rows, "object_lengths_sent": sent}))
    else:
        _table(rows, sent)
    if not all(row["equal"] for row in rows):
        raise ObjectError("a copy differs from the original")


def _place() -> list[str]:
    """Return the options of a group and port that nobody else is likely to use."""
    # An administratively scoped group, RFC 2365; loopback delivers no IPv6 multicast.
    draw = random.SystemRandom()
    group = f"239.255.{draw.randrange(256)}.{draw.randrange(1, 255)}"
    return ["-g", group, "-p", str(draw.randrange(20_000, 30_000)), "-i", "lo"]


@dataclass(slots=True)
class Mode:
    """A sender and receivers that show one mode.

    Attributes:
        command: The sender's.
        where: Options of the group and port.
        cycle: Seconds.
        end: When it has to be over, on the monotonic clock.
    """

    command: list[str]
    where: list[str]
    copies: list[Copy]
    cycle: float
    end: float
    sender: Program = field(default_factory=lambda: Program("S"))
    _late_at: float = float("inf")

    def run(self, signals: Signals, *, quiet: bool) -> None:
        """Run until every receiver has ended; leave no process.

        Raises:
            NetworkError: A receiver can't listen, or the sender can't send.
            TimedOut: They took too long.
            Interrupted: A signal came.
        """
        shown = time.monotonic()
        try:
            while any(copy.process is None or copy.process.poll() is None for copy in self.copies):
                signals.check()
                now = time.monotonic()
                if now > self.end:
                    raise TimedOut(f"the demonstration took more than {LIMIT:.0f} s")
                self._start_those_due(now)
                self._look_for_failures()
                if not quiet and now - shown >= 1:
                    shown = now
                    states = (f"{copy.name}: {copy.state}" for copy in self.copies)
                    say("  ".join(states), Priority.DEBUG)
                time.sleep(0.02)
        finally:
            for program in (self.sender, *self.copies):
                program.stop()

    def _start_those_due(self, now: float) -> None:
        early = [copy for copy in self.copies if not copy.late]
        if self.sender.process is None and all(copy.last("start") for copy in early):
            self.sender.start(*self.command)
        if self._late_at > now and any(copy.last("manifest") for copy in self.copies):
            self._late_at = min(self._late_at, now + JOIN_LATE * self.cycle)
        for copy in self.copies:
            if copy.process is None and (not copy.late or now >= self._late_at):
                options = ("--drop", copy.loss, "--seed", copy.name[1:], "--timeout", str(LIMIT))
                copy.start("recv", *self.where, "-o", str(copy.path), *options)

    def _look_for_failures(self) -> None:
        """
        Raises:
            NetworkError: One of them has failed.
        """
        for copy in self.copies:
            if copy.process and copy.process.poll():
                raise NetworkError(f"receiver {copy.name}: {copy.complaint}")
        if self.sender.process and self.sender.process.poll():
            raise NetworkError(f"the sender: {self.sender.complaint}")


def _row(mode: str, copy: Copy, source: Path) -> dict[str, Any]:
    counters = copy.last("complete")
    return {
        "mode": mode,
        "receiver": copy.name,
        "loss_injected": parse_share("--drop", copy.loss),
        "joined": "mid-cycle" if copy.late else "start",
        "seconds": counters["transfer_seconds"],
        "cycles": counters["cycles"],
        "lost": counters["lost"],
        "naks_sent": counters["naks_sent"],
        "rdata": counters["rdata"],
        "kernel_drops": counters["kernel_drops"],
        "equal": filecmp.cmp(source, copy.path, shallow=False),
    }


def _lengths(sender: Program) -> float:
    """Return the object lengths that were sent, repairs included."""
    counters, start = sender.last("stopped"), sender.last("start")
    symbols: int = start["symbols"]
    sent: int = counters["odata"] + counters.get("rdata", 0)
    return round(sent / symbols, 4)


def title_of(sent: dict[str, float]) -> str:
    """Return what the table shows, in one line."""
    title = "Lost packets come again with the next cycle"
    ways = {"fec": "repair symbols replace any of them", "nak": "NAKs ask for them"}
    better = [way for mode, way in ways.items() if sent[mode] * WORTH_IT < sent["plain"]]
    return "; sooner where ".join([title, " or ".join(better)]) if better else title


def _table(rows: list[dict[str, Any]], sent: dict[str, float]) -> None:
    figures = [
        Column("mode", [row["mode"] for row in rows], is_number=False),
        Column("receiver", [row["receiver"] for row in rows], is_number=False),
        Column("joined", [row["joined"] for row in rows], 3, is_number=False),
        Column("loss", [f"{row['loss_injected']:.0%}" for row in rows]),
        Column("lost", [str(row["lost"]) for row in rows], 2),
        Column("NAKs", [str(row["naks_sent"]) for row in rows], 1),
        Column("cycles", [f"{row['cycles']:.2f}" for row in rows]),
        Column("time", [human_time(row["seconds"]) for row in rows]),
        Column("copy", ["equal" if row["equal"] else "DIFFERENT" for row in rows], is_number=False),
    ]
    each = len(rows) // len(sent)
    ends = [each * number - 1 for number in range(1, len(sent))]
    print(*render(title_of(sent), figures, columns(sys.stdout), ends), sep="\n")
    lengths = ", ".join(f"{share:.2f} {mode}" for mode, share in sent.items())
    print(fit(f"Object lengths sent until the last receiver was done: {lengths}", sys.stdout))
