"""pgmlite beside UFTP and udpcast, in one run: goodput, processors, memory, who comes late, kills.

    python -m tests.bench.peers [--mib 256] [--rounds 3] [--loss 0,1,5] [--rate 200] [--json FILE]

As root, and with `apt-get install uftp udpcast` beside what a lab needs. A sender and three
receivers are namespaces on a bridge; files lie in memory (/dev/shm). In a round every tool has its
turn at each loss, so that what else the machine does meets all of them; the table has medians of
the rounds. What others on this machine take of the processors is measured, too: a transfer that
was disturbed is repeated, --tries times at most, and the least disturbed one counts. Every copy is
compared with the original.

* At full speed: from the start of the sender until the last receiver has the whole file. What a
  tool does before it sends, and says to its receivers after, is in it.
* At --rate Mbit/s: one receiver starts when half of the file has gone out; one is killed then and
  started again a second later, while the two others go on.

Exit code 1 if a copy is not equal to the original.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from statistics import median

import psutil

from tests.support.lab import PGMLITE, Lab, missing, until

RECEIVERS = 3
BUFFER = 50_000_000
"""Bytes of the socket buffers of tools that have to be told."""

LIMIT = 60.0
"""Seconds until a transfer counts as never done."""

QUIET = 3.0
"""Seconds after the end of a sender until whoever is not done counts as never done."""

ENOUGH = 0.15
"""Processors that others may take before a transfer counts as disturbed; the kernel's own work for
packets is among them."""

MEMORY = Path("/dev/shm")
STEP = 0.02


class Started:
    """A process on a node, with what it used."""

    def __init__(self, lab: Lab, node: str, command: list[str], log: Path) -> None:
        with log.open("ab") as said:
            self.popen = subprocess.Popen(
                lab.inside(node, *command), stdout=said, stderr=said, stdin=subprocess.DEVNULL
            )
        self.peak = 0
        self.cpu = 0.0
        self.has_ended = False

    def look(self) -> None:
        """Note how much memory it took so far, in bytes, and whether it has ended."""
        if self.has_ended:
            return
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self.popen.pid}/status").read_text()
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                self.peak = max(self.peak, int(found[1]) << 10)
        self._wait(os.WNOHANG)

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it, and wait for that."""
        self.look()
        if self.has_ended:
            return
        os.kill(self.popen.pid, number)
        latest = time.monotonic() + 5
        while not self.has_ended:
            if time.monotonic() > latest:
                os.kill(self.popen.pid, signal.SIGKILL)
            time.sleep(STEP)
            self._wait(os.WNOHANG)

    def _wait(self, options: int) -> None:
        pid, status, used = os.wait4(self.popen.pid, options)
        if pid:
            self.has_ended = True
            self.popen.returncode = os.waitstatus_to_exitcode(status)
            self.cpu = used.ru_utime + used.ru_stime


class Counters:
    """What an interface of a node has carried; read without a command, which would be measured."""

    def __init__(self, lab: Lab, node: str) -> None:
        self._pid = lab.spawn(node, "sleep", "infinity").popen.pid
        ours = Path("/proc/self/ns/net").readlink()
        until(lambda: Path(f"/proc/{self._pid}/ns/net").readlink() != ours, "it is on its node")

    def _fields(self) -> list[str]:
        lines = Path(f"/proc/{self._pid}/net/dev").read_text().splitlines()
        return next(line for line in lines if "eth0:" in line).split()

    @property
    def received(self) -> int:
        """Bytes that came."""
        return int(self._fields()[1])

    @property
    def sent(self) -> int:
        """Bytes that went out."""
        return int(self._fields()[9])


class Tool(ABC):
    """How a tool is told to send a file, and to receive one."""

    name: str

    @abstractmethod
    def version(self) -> str:
        """Return its version."""

    @abstractmethod
    def send(self, source: Path, rate: int | None) -> list[str]:
        """Return the command of a sender at `rate` Mbit/s; None: as fast as it can."""

    @abstractmethod
    def receive(self, number: int, folder: Path) -> list[str]:
        """Return the command of a receiver that writes into a folder."""

    @abstractmethod
    def copy(self, source: Path, folder: Path) -> Path:
        """Return where the copy is when it is whole."""

    def is_done(self, process: Started, copy: Path, size: int) -> bool:
        """Whether a receiver has its file whole."""
        return process.has_ended and copy.exists() and copy.stat().st_size == size


def of_package(name: str) -> str:
    """Return the version of a Debian package."""
    command = ["dpkg-query", "-W", "-f", "${Version}", name]
    return subprocess.check_output(command, text=True).partition("-")[0]


class Carousel(Tool):
    """pgmlite with no way back: its defaults."""

    name = "pgmlite"
    extra: tuple[str, ...] = ()

    def version(self) -> str:
        return subprocess.check_output([*PGMLITE, "--version"], text=True).split()[1]

    def send(self, source: Path, rate: int | None) -> list[str]:
        speed = f"{rate}M" if rate else "max"
        return [*PGMLITE, "send", str(source), "-i", "eth0", "-r", speed, *self.extra]

    def receive(self, number: int, folder: Path) -> list[str]:
        return [*PGMLITE, "recv", "-o", str(folder / "copy"), "-i", "eth0"]

    def copy(self, source: Path, folder: Path) -> Path:
        return folder / "copy"


class Repairing(Carousel):
    """pgmlite whose receivers ask for what they lost."""

    name = "pgmlite --repair"
    extra = ("--repair",)


class Uftp(Tool):
    """UFTP: announces, sends, asks each receiver what it lacks, sends that."""

    name = "UFTP"

    def version(self) -> str:
        return of_package("uftp")

    def send(self, source: Path, rate: int | None) -> list[str]:
        speed = str(rate * 1_000) if rate else "-1"
        groups = ["-M", "230.4.4.1", "-P", "230.5.5.x", "-I", "eth0"]
        return ["uftp", "-R", speed, *groups, "-B", str(BUFFER), "-b", "1400", str(source)]

    def receive(self, number: int, folder: Path) -> list[str]:
        before = folder / "before"
        before.mkdir(exist_ok=True)
        where = ["-D", str(folder), "-T", str(before), "-I", "eth0", "-M", "230.4.4.1"]
        return ["uftpd", "-d", *where, "-U", f"0x{number:08x}", "-B", str(BUFFER)]

    def copy(self, source: Path, folder: Path) -> Path:
        return folder / source.name

    def is_done(self, process: Started, copy: Path, size: int) -> bool:
        return copy.exists() and copy.stat().st_size == size


class Udpcast(Tool):
    """udpcast: waits for its receivers, sends slice by slice, each confirmed by all."""

    name = "udpcast"

    def version(self) -> str:
        return of_package("udpcast")

    def send(self, source: Path, rate: int | None) -> list[str]:
        speed = ["--max-bitrate", f"{rate}m"] if rate else []
        start = ["--interface", "eth0", "--nokbd", "--full-duplex", *speed]
        # Who has not come after 2 s is not waited for. That the hello is repeated is the advice of
        # the manual for networks with losses.
        who = ["--min-receivers", str(RECEIVERS), "--max-wait", "2"]
        who += ["--rexmit-hello-interval", "500"]
        return ["udp-sender", *start, *who, "--file", str(source)]

    def receive(self, number: int, folder: Path) -> list[str]:
        start = ["--interface", "eth0", "--nokbd", "--rcvbuf", str(BUFFER)]
        return ["udp-receiver", *start, "--file", str(folder / "copy")]

    def copy(self, source: Path, folder: Path) -> Path:
        return folder / "copy"


TOOLS: tuple[Tool, ...] = (Carousel(), Repairing(), Uftp(), Udpcast())


@dataclass
class Run:
    """What one transfer came to.

    Attributes:
        seconds: From the sender's start until each receiver had its file; None: never.
        again: Bytes that came to the last receiver once it was started anew, in file sizes.
        cpu: Seconds of the sender, and of receivers in the mean.
        peak: Bytes of memory of the sender, and of the receiver that took most.
        others: Processors that everything else on this machine took meanwhile.
    """

    tool: str
    what: str
    loss: float
    round: int
    seconds: list[float | None] = field(default_factory=list)
    again: float | None = None
    cpu: tuple[float, float] = (0.0, 0.0)
    peak: tuple[int, int] = (0, 0)
    others: float = 0.0
    equal: bool = True


class Bench:
    """A lab, and a file to send through it."""

    def __init__(self, lab: Lab, folder: Path, source: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._source = source
        self._size = source.stat().st_size
        self._sender = Counters(lab, "S")
        self._last = Counters(lab, f"R{RECEIVERS}")

    def run(self, tool: Tool, what: str, loss: float, number: int, rate: int | None) -> Run:
        """Do one transfer.

        Args:
            what: "speed"; "late": the last receiver comes when half has gone out; "killed": it is
                killed then, and started again.
            rate: Mbit/s; None: as fast as the tool can.
        """
        result = Run(tool.name, what, loss, number)
        folders = [self._folder / f"{tool.name.split()[0]}{n}" for n in range(1, RECEIVERS + 1)]
        for folder in folders:
            folder.mkdir()
        try:
            with self._losing(loss):
                self._transfer(tool, result, folders, rate)
        finally:
            for folder in folders:
                shutil.rmtree(folder)
        return result

    @contextlib.contextmanager
    def _losing(self, loss: float) -> Iterator[None]:
        # Nodes one by one: what one loses another may get.
        chance = f"numgen random mod 10000 < {loss * 10_000:.0f}"
        rules = [
            self._lab.drop(f"oifname v{node} meta l4proto udp {chance}")
            for node in (self._lab.receivers if loss else ())
        ]
        try:
            yield
        finally:
            for lift in rules:
                lift()

    def _transfer(self, tool: Tool, result: Run, folders: list[Path], rate: int | None) -> None:
        copies = [tool.copy(self._source, folder) for folder in folders]
        first = len(folders) - (result.what == "late")
        processes: dict[int, Started] = {}
        past: list[Started] = []
        for number in range(first):
            processes[number] = self._receiver(tool, number, folders)
        time.sleep(1.5)
        sender = Started(self._lab, "S", tool.send(self._source, rate), self._folder / "log")
        began, before, self_before = time.monotonic(), busy(), time.process_time()
        half, ended, came = (self._sender.sent + self._size / 2), None, 0
        done: dict[int, float] = {}
        turn = result.what != "speed"  # something is still to happen to the last receiver
        last = len(folders) - 1
        try:
            while len(done) < len(folders) and time.monotonic() - began < LIMIT:
                if turn and self._sender.sent > half:
                    turn = False
                    if result.what == "killed":
                        processes[last].end(signal.SIGKILL)
                        past.append(processes.pop(last))
                        time.sleep(1)
                    processes[last] = self._receiver(tool, last, folders)
                    came = self._last.received
                for number, process in processes.items():
                    process.look()
                    if number not in done and tool.is_done(process, copies[number], self._size):
                        done[number] = time.monotonic() - began
                        if number == last and came:
                            result.again = (self._last.received - came) / self._size
                sender.look()
                if sender.has_ended:
                    ended = ended or time.monotonic()
                    if time.monotonic() - ended > QUIET:
                        break
                time.sleep(STEP)
        finally:
            for process in (sender, *processes.values()):
                process.end()
        took, all_took = time.monotonic() - began, busy() - before
        whole = [copies[number] for number in done]
        result.equal = all(filecmp.cmp(self._source, copy, shallow=False) for copy in whole)
        result.seconds = [done.get(number) for number in range(len(folders))]
        used = [*processes.values(), *past]
        result.cpu = (sender.cpu, sum(one.cpu for one in used) / len(folders))
        ours = sender.cpu + sum(one.cpu for one in used) + time.process_time() - self_before
        result.others = max(0.0, all_took - ours) / took
        result.peak = (sender.peak, max(one.peak for one in used))

    def _receiver(self, tool: Tool, number: int, folders: list[Path]) -> Started:
        command = tool.receive(number + 1, folders[number])
        return Started(self._lab, f"R{number + 1}", command, self._folder / "log")


def shown(value: float | None, form: str) -> str:
    """Return a figure, or that there is none."""
    return "never" if value is None else format(value, form)


def middle(values: list[float | None]) -> float | None:
    """Return the median; None counts as more than any."""
    known = sorted(values, key=lambda one: (one is None, one))
    return known[(len(known) - 1) // 2] if None in known else median(v for v in known if v)


def tables(runs: list[Run], size: int, losses: list[float], rate: int) -> Iterator[str]:
    """Yield the lines of the tables."""
    names = list(dict.fromkeys(run.tool for run in runs))

    def of(tool: str, what: str, loss: float = 0.0) -> list[Run]:
        return [one for one in runs if (one.tool, one.what, one.loss) == (tool, what, loss)]

    yield "| at full speed | " + " | ".join(names) + " |"
    yield "|---" + "|---:" * len(names) + "|"
    for loss in losses:
        cells = []
        for name in names:
            every = [
                None if None in one.seconds else size / max(s for s in one.seconds if s) / 1e6
                for one in of(name, "speed", loss)
            ]
            cells.append(shown(middle(every), ".0f"))
        yield f"| MB/s, {loss:.0%} lost | " + " | ".join(cells) + " |"
    for text, pick, form in (
        ("processor of the sender, s", lambda one: one.cpu[0], ".1f"),
        ("processor of a receiver, s", lambda one: one.cpu[1], ".1f"),
        ("memory of the sender, MiB", lambda one: one.peak[0] / (1 << 20), ".0f"),
        ("memory of a receiver, MiB", lambda one: one.peak[1] / (1 << 20), ".0f"),
    ):
        for loss in dict.fromkeys((losses[0], losses[-1])):
            cells = [format(median(map(pick, of(name, "speed", loss))), form) for name in names]
            yield f"| {text}, {loss:.0%} lost | " + " | ".join(cells) + " |"
    yield ""
    yield f"Others took {max(one.others for one in runs):.2f} processors at most."
    yield ""
    yield f"| at {rate} Mbit/s | " + " | ".join(names) + " |"
    yield "|---" + "|---:" * len(names) + "|"
    for what, text in (("late", "comes when half is sent"), ("killed", "is killed then")):
        for label, pick in (
            ("it is done after, s", lambda one: one.seconds[-1]),
            ("file sizes it still got", lambda one: one.again),
            (
                "the others after, s",
                lambda one: None if None in one.seconds[:-1] else max(one.seconds[:-1]),
            ),
        ):
            cells = [shown(middle([pick(one) for one in of(name, what)]), ".1f") for name in names]
            yield f"| {text}: {label} | " + " | ".join(cells) + " |"


def busy() -> float:
    """Return the seconds that processors of this machine have worked, or were taken from it."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def least_disturbed(transfer: Callable[[], Run], tries: int, enough: float) -> Run:
    """Repeat a transfer until others leave it the processors; return the one they left most."""
    runs: list[Run] = []
    for _ in range(tries):
        runs.append(transfer())
        print(json.dumps(asdict(runs[-1])), flush=True)
        if runs[-1].others <= enough:
            break
        time.sleep(5)
    return min(runs, key=lambda run: run.others)


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers")
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loss", default="0,1,5", help="per cent")
    parser.add_argument("--rate", type=int, default=200, help="Mbit/s, where not at full speed")
    parser.add_argument("--tools", help="names, such as pgmlite,UFTP; default: all")
    parser.add_argument("--tries", type=int, default=3, help="of a transfer that was disturbed")
    parser.add_argument("--json", type=Path, help="where all figures are written")
    return parser.parse_args()


def main() -> int:
    """Measure; return the exit code."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the lab is taken down
    losses = [float(one) / 100 for one in given.loss.split(",")]
    tools = [one for one in TOOLS if not given.tools or one.name in given.tools.split(",")]
    if why := missing():
        sys.exit(why)
    if absent := [tool for tool in ("uftp", "udp-sender") if not shutil.which(tool)]:
        sys.exit(f"needs {', '.join(absent)}: apt-get install uftp udpcast")
    for tool in tools:
        print(f"{tool.name} {tool.version()}", flush=True)
    runs: list[Run] = []
    plan = [("speed", loss, None) for loss in losses]
    plan += [(what, 0.0, given.rate) for what in ("late", "killed")]
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="peers-") as name, Lab(RECEIVERS) as lab:
        folder = Path(name)
        source = folder / "source.bin"
        with source.open("wb") as file:
            for number in range(given.mib):
                file.write(Random(number).randbytes(1 << 20))
        bench = Bench(lab, folder, source)
        for number in range(given.rounds):
            for what, loss, rate in plan:
                for tool in tools:
                    transfer = partial(bench.run, tool, what, loss, number, rate)
                    runs.append(least_disturbed(transfer, given.tries, ENOUGH))
        size = source.stat().st_size
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in runs], indent=1))
    print("\n".join(["", *tables(runs, size, losses, given.rate)]))
    return 0 if all(one.equal for one in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
