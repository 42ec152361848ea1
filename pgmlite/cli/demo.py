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
from typing import Annotated, Any

import typer

from pgmlite.cli.values import human_bytes, human_rate, human_time, parse_rate, parse_share
from pgmlite.errors import NetworkError, ObjectError, TimedOut, UsageError
from pgmlite.net.driver import Stop

CHUNK = 1 << 20
LIMIT = 25.0
"""Seconds after which the demonstration gives up."""

JOIN_LATE = 0.5
"""Cycles after the sender's start at which the late receiver joins."""


@dataclass(slots=True)
class Copy:
    """One receiver process and what it said."""

    name: str
    loss: str
    late: bool
    path: Path
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    def last(self, event: str) -> dict[str, Any]:
        """Return the latest event of that name, or an empty one."""
        return next((e for e in reversed(self.events) if e["event"] == event), {})

    @property
    def state(self) -> str:
        """What it is doing, for the screen."""
        if self.last("complete"):
            return "complete"
        progress = self.last("progress")
        if progress.get("symbols"):
            return f"{progress['stored'] / progress['symbols']:.0%}"
        return "listening" if self.last("start") else "not joined yet"


def demo(
    size: Annotated[int, typer.Option(min=1, max=1024, help="Size of the file in MiB.")] = 16,
    rate: Annotated[str, typer.Option("-r", "--rate", help="Rate of the sender.")] = "80M",
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Send a file to three receivers on this machine and compare the copies.

    Real processes, real sockets, real multicast over the loopback interface; the receivers lose
    packets on purpose, and one joins when half a cycle has gone by.
    """
    bits = parse_rate(rate)
    if bits is None:
        raise UsageError("rate max: the demonstration needs a number")
    stop = Stop()
    stop.install()
    with tempfile.TemporaryDirectory(prefix="pgmlite-demo-") as folder:
        source = Path(folder) / "firmware.bin"
        with source.open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(CHUNK))
        copies = [
            Copy("R1", "0%", False, Path(folder) / "copy1.bin"),
            Copy("R2", "5%", False, Path(folder) / "copy2.bin"),
            Copy("R3", "1%", True, Path(folder) / "copy3.bin"),
        ]
        where = _place()
        if not as_json:
            print(
                f"Sending {human_bytes(size * CHUNK)} at {human_rate(bits)} to group {where[1]}, "
                f"port {where[3]}, on the loopback interface",
                file=sys.stderr,
            )
        _run(source, copies, where, rate, size * CHUNK * 8 / bits, stop, quiet=as_json)
        rows = [_row(copy, source) for copy in copies]
    if as_json:
        print(json.dumps(rows))
    else:
        _table(rows)
    if not all(row["equal"] for row in rows):
        raise ObjectError("a copy differs from the original")


def _place() -> list[str]:
    """Return the options of a group and port that nobody else is likely to use."""
    # An administratively scoped group, RFC 2365; loopback delivers no IPv6 multicast.
    draw = random.SystemRandom()
    group = f"239.255.{draw.randrange(256)}.{draw.randrange(1, 255)}"
    return ["-g", group, "-p", str(draw.randrange(20_000, 30_000)), "-i", "lo"]


def _start(copy: Copy, where: list[str]) -> None:
    command = [sys.executable, "-m", "pgmlite", "recv", "--json", *where, "-o", str(copy.path)]
    command += ["--drop", copy.loss, "--seed", copy.name[1:], "--timeout", str(LIMIT)]
    copy.process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    copy.reader = threading.Thread(target=_listen, args=(copy, copy.process), daemon=True)
    copy.reader.start()


def _listen(copy: Copy, process: subprocess.Popen[str]) -> None:
    for line in process.stdout or ():
        copy.events.append(json.loads(line))


def _run(
    source: Path,
    copies: list[Copy],
    where: list[str],
    rate: str,
    cycle: float,
    stop: Stop,
    *,
    quiet: bool,
) -> None:
    """Run the sender and the receivers until every receiver has ended; leave no process.

    Raises:
        NetworkError: A receiver can't listen.
        TimedOut: They took too long.
        Interrupted: A signal came.
    """
    started = time.monotonic()
    sender: subprocess.Popen[bytes] | None = None
    late_at = float("inf")
    shown = started
    for copy in copies:
        if not copy.late:
            _start(copy, where)
    try:
        while not all(c.process and c.process.poll() is not None for c in copies):
            stop.check()
            now = time.monotonic()
            if now - started > LIMIT:
                raise TimedOut(f"the demonstration took more than {LIMIT:.0f} s")
            if sender is None and all(c.last("start") for c in copies if not c.late):
                command = [sys.executable, "-m", "pgmlite", "send", "-r", rate, *where, str(source)]
                sender = subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            if sender and late_at > now and any(c.last("manifest") for c in copies):
                late_at = min(late_at, now + JOIN_LATE * cycle)
            for copy in copies:
                if copy.late and copy.process is None and now >= late_at:
                    _start(copy, where)
                elif copy.process and copy.process.poll():
                    error = copy.last("failed").get("error", "it ended without a word")
                    raise NetworkError(f"receiver {copy.name}: {error}")
            if not quiet and now - shown >= 1:
                shown = now
                print("  ".join(f"{c.name}: {c.state}" for c in copies), file=sys.stderr)
            time.sleep(0.02)
    finally:
        for process in (sender, *(copy.process for copy in copies)):
            if process:
                process.terminate()
                process.wait()
        for copy in copies:
            if copy.reader:
                copy.reader.join()


def _row(copy: Copy, source: Path) -> dict[str, Any]:
    counters = copy.last("complete")
    first = copy.last("manifest").get("seconds", 0.0)
    return {
        "receiver": copy.name,
        "loss_injected": parse_share(copy.loss),
        "joined": "mid-cycle" if copy.late else "start",
        "seconds": round(counters["seconds"] - first, 3),
        "cycles": counters["cycles"],
        "lost": counters["lost"],
        "kernel_drops": counters["kernel_drops"],
        "equal": filecmp.cmp(source, copy.path, shallow=False),
    }


def _table(rows: list[dict[str, Any]]) -> None:
    # Imported here: it costs a tenth of a second of every start.
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Pure carousel: nobody asked for anything, everybody got everything")
    for heading in ("receiver", "joined"):
        table.add_column(heading)
    for heading in ("loss", "lost", "cycles", "time"):
        table.add_column(heading, justify="right")
    table.add_column("copy")
    for row in rows:
        table.add_row(
            row["receiver"],
            row["joined"],
            f"{row['loss_injected']:.0%}",
            str(row["lost"]),
            f"{row['cycles']:.2f}",
            human_time(row["seconds"]),
            "equal" if row["equal"] else "DIFFERENT",
        )
    Console().print(table)
