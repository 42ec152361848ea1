"""A multicast network in namespaces: sender S and receivers R1..Rn on a bridge.

Needs root and the tools that `missing` looks for. Nothing leaves the namespaces, and their names
belong to one `Lab` of one process, so that any number of labs may run side by side.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self

import psutil

from tests.support.event_schema import read_line

PGMLITE = (sys.executable, "-m", "pgmlite")
PORT = 28_775
NAK_PORT = PORT + 1
GROUPS = {6: "ff15::7067:1", 4: "239.70.67.1"}
ETHERNET_HEADER = 14

PLAIN = ("--fec", "off", "--order", "blocks")
"""Of a sender: what is lost comes again a cycle later, or is asked for. So repairs can be told from
all else."""

SPM = "@th,88,8 0x00"
"""nftables: the packet type, byte 3 behind the UDP header, is SPM."""

PATIENCE = 60.0
"""Seconds until something that should happen in a few counts as failed: machines may be busy."""

_numbers = itertools.count()


class CommandFailed(Exception):
    """A command of the lab itself failed; the message has its words."""


@functools.cache
def missing() -> str:
    """Return what keeps this machine from running a lab, as a sentence; empty if nothing does."""
    if os.geteuid():
        return "Labs need root."
    tools = ("ip", "bridge", "ss", "nft", "ethtool", "tcpdump")
    if absent := [tool for tool in tools if not shutil.which(tool)]:
        return f"Labs need these tools: {', '.join(absent)}."
    try:
        with Lab(receivers=0):
            return ""
    except CommandFailed as error:
        return f"No lab can be made: {error}."


def run(*command: str, text: str | None = None) -> str:
    """Run a command to its end, which must be a good one; return what it printed."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Return as soon as `condition` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def calm_tries(most: int, in_all: int) -> Iterator[None]:
    """Yield for each try: `most` in which this machine had its processors, `in_all` at most.

    A virtual machine stands still while its host takes the processors for something else. What was
    timed then says nothing.
    """
    calm = 0
    for _ in range(in_all):
        before = psutil.cpu_times().steal
        yield
        calm += psutil.cpu_times().steal - before < 0.02
        if calm == most:
            return


def random_file(path: Path, mebibytes: int, seed: int = 1) -> Path:
    """Write a file of bytes that depend on the seed alone; return its path."""
    path.write_bytes(Random(seed).randbytes(mebibytes << 20))
    return path


class Packet(NamedTuple):
    """A captured packet: seconds, and bytes of the IP packet."""

    at: float
    length: int


class Capture(list[Packet]):
    """What tcpdump read, without some of the last packets; filled when it ends."""

    matched = 0
    """Packets that the system counted, the last ones included."""

    frames: list[tuple[float, bytes]]
    """Seconds and the first bytes of each frame."""


class Process:
    """A command on a node. JSON lines on its stdout are events, each stamped `at` its coming."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._command = command
        self._log = log
        self._changed = threading.Condition()
        self._ended = False
        with log.open("wb") as stderr:
            self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # What helpers of the tests print are no events of ours.
        read = read_line if "pgmlite" in self._command else json.loads
        for line in itertools.chain(self.popen.stdout or (), [None]):
            with self._changed:
                if line is None:
                    self._ended = True
                else:
                    self.events.append(read(line) | {"at": time.monotonic()})
                self._changed.notify_all()

    @property
    def stderr(self) -> str:
        """What it has said on stderr so far."""
        return self._log.read_text()

    def has(self, name: str) -> bool:
        """Whether the event `name` has come."""
        return any(event["event"] == name for event in list(self.events))

    def event(
        self, name: str, where: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        """Wait for the first event `name` for which `where` is true; return it."""

        def find() -> dict[str, Any] | None:
            return next((e for e in self.events if e["event"] == name and where(e)), None)

        with self._changed:
            self._changed.wait_for(lambda: find() or self._ended, PATIENCE)
            found = find()
        assert found, f"no event {name} came: {self}"
        return found

    def stored(self, share: float) -> dict[str, Any]:
        """Wait until a receiver has more than this share of its object."""
        return self.event("progress", lambda e: e["stored"] > share * e["symbols"])

    def result(self, code: int = 0) -> dict[str, Any]:
        """Wait for the end, which must be exit code `code`; return the last event."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(PATIENCE)
        assert self.popen.returncode == code, str(self)
        self._reader.join()
        return self.events[-1] if self.events else {}

    def sent(self) -> tuple[float, int, int]:
        """Return the time, and the packets and bytes of IP that its node's eth0 has sent."""
        # A file of our own machine, and no command, so that clock and counters are of one moment.
        lines = Path(f"/proc/{self.popen.pid}/net/dev").read_text().splitlines()
        at = time.monotonic()
        fields = next(line for line in lines if "eth0:" in line).split()
        return at, int(fields[10]), int(fields[9]) - int(fields[10]) * ETHERNET_HEADER

    def waited(self) -> float:
        """Return the seconds for which its main thread was ready, and had no processor so far.

        Those that the machine itself had none, a guest of another one, are among them.
        """
        stat = Path(f"/proc/{self.popen.pid}/schedstat").read_text().split()
        total = Path("/proc/stat").read_text().splitlines()[0].split()
        return int(stat[1]) / 1e9 + int(total[8]) / os.sysconf("SC_CLK_TCK")

    def hurry(self) -> None:
        """Let its main thread run before others: what else this machine does is not the test."""
        os.setpriority(os.PRIO_PROCESS, self.popen.pid, -20)
        with contextlib.suppress(PermissionError):  # in containers, for one
            os.sched_setscheduler(self.popen.pid, os.SCHED_RR, os.sched_param(1))

    def stop(self) -> None:
        """Kill it, stopped or not, if it has not ended."""
        self.popen.kill()
        self.popen.wait(PATIENCE)
        self._reader.join()
        if self.popen.stdout:
            self.popen.stdout.close()

    def __str__(self) -> str:
        lines = [" ".join(self._command), f"exit code {self.popen.returncode}"]
        return "\n".join([*lines, *map(str, self.events[-5:]), self.stderr])


class Namespaces(contextlib.ExitStack):
    """Namespaces that are gone at the end of the context: nodes, and SW with all their switches.

    A node's interface is eth0; its port on the switch is `v` and its name.
    """

    def __init__(self, receivers: Sequence[str], mode: str, prefix: str) -> None:
        """
        Args:
            receivers: Names of the nodes that lose packets if nothing else is said.
            mode: "wire": datagrams are cut to the MTU before they cross a link, as on Ethernet,
                and receivers may aggregate; "offload": bursts pass whole.
            prefix: How the names of its namespaces begin.
        """
        super().__init__()
        self.receivers = list(receivers)
        self._wire = mode == "wire"
        self._prefix = f"{prefix}{os.getpid()}-{next(_numbers)}-"

    def __enter__(self) -> Self:
        try:
            self._folder = Path(self.enter_context(tempfile.TemporaryDirectory()))
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    @abstractmethod
    def _build(self) -> None:
        """Make all nodes and links."""

    def _add(self, *nodes: str) -> None:
        """Add nodes without links."""
        for node in nodes:
            delete = ["ip", "netns", "del", self._prefix + node]
            self.callback(subprocess.run, delete, check=False, capture_output=True)
            run("ip", "netns", "add", self._prefix + node)
            # Addresses may be used at once: nobody else has them here.
            self.sh(node, "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad")
            self.ip(node, "link set lo up")

    def _add_drops(self) -> None:
        """Let the switches drop packets."""
        # Before the receivers join packets together: after that, a drop would be 40 packets.
        hook = "{ type filter hook forward priority 0; }"
        self.nft("SW", "add table bridge lab", f"add chain bridge lab impair {hook}")
        # There it is one packet, and not yet one for each port: what is lost, all lose.
        hook = "{ type filter hook prerouting priority 0; }"
        self.nft("SW", f"add chain bridge lab shared {hook}")

    def _cable(self, node: str, interface: str, port: str, bridge: str, *addresses: str) -> None:
        """Connect an interface of a node to a port of a switch, both new."""
        add = f"link add {port} type veth peer name {interface} netns {self._prefix}{node}"
        self.ip("SW", add, f"link set {port} master {bridge} up")
        lines = [f"addr add {address} dev {interface}" for address in addresses]
        self.ip(node, f"link set {interface} up", *lines)
        if self._wire:
            self.sh(node, f"ethtool -K {interface} tx-udp-segmentation off gro on")
            self.sh("SW", f"ethtool -K {port} tso off")

    def _forwarding(self, ports: int) -> None:
        """Wait until so many ports of the switches forward."""
        until(lambda: self.sh("SW", "bridge link").count("forwarding") == ports, "forwarding")

    def inside(self, node: str, *command: str) -> list[str]:
        """Return the command that runs `command` on a node."""
        return ["ip", "netns", "exec", self._prefix + node, *command]

    def resolve_at(self, node: str, address: str) -> None:
        """Let what runs on a node from now on ask this DNS server."""
        # What lies there takes the place of /etc/resolv.conf, for `ip netns exec` alone.
        folder = Path("/etc/netns") / (self._prefix + node)
        folder.mkdir(parents=True)
        self.callback(shutil.rmtree, folder)
        (folder / "resolv.conf").write_text(f"nameserver {address}\n")

    def run(self, node: str, *command: str, text: str | None = None) -> str:
        """Run a command on a node to its end; return what it printed."""
        return run(*self.inside(node, *command), text=text)

    def sh(self, node: str, line: str) -> str:
        """Run a line of shell on a node to its end; return what it printed."""
        return self.run(node, "sh", "-ec", line)

    def ip(self, node: str, *lines: str) -> None:
        """Run `ip` on a node with each of the lines."""
        run("ip", "-n", self._prefix + node, "-batch", "-", text="\n".join(lines))

    def nft(self, node: str, *lines: str) -> None:
        """Run `nft` on a node with these lines."""
        self.run(node, "nft", "-f", "-", text="\n".join(lines))

    def spawn(self, node: str, *command: str) -> Process:
        """Start a command on a node; it ends with the lab at the latest."""
        process = Process(self.inside(node, *command), self._folder / f"{next(_numbers)}.log")
        self.callback(process.stop)
        return process

    def pgmlite(self, node: str, verb: str, *options: str) -> Process:
        """Start a verb of the product on a node; what it says comes as events."""
        return self.spawn(node, *PGMLITE, verb, "--json", *options)

    def send(
        self, node: str, file: Path, *options: str, rate: str = "20M", group: str = GROUPS[6]
    ) -> Process:
        """Start a sender on a node."""
        where = ["-g", group, "-p", str(PORT), "-i", "eth0", "-r", rate]
        return self.pgmlite(node, "send", str(file), *where, *options)

    def recv(
        self, node: str, out: Path, *options: str, group: str = GROUPS[6], wait: bool = True
    ) -> Process:
        """Start a receiver on a node, and wait until it listens."""
        where = ["-g", group, "-p", str(PORT), "-i", "eth0", "-o", str(out)]
        process = self.pgmlite(node, "recv", *where, *options)
        if wait:
            process.event("start")
        return process

    def repair(
        self, node: str, file: Path, *options: str, rate: str = "20M", group: str = GROUPS[6]
    ) -> Process:
        """Start a repairer on a node; its NAK port is `NAK_PORT`."""
        where = ["-g", group, "-p", str(PORT), "-i", "eth0", "-r", rate]
        return self.pgmlite(node, "repair", str(file), *where, *options)

    def drop(self, match: str, *, shared: bool = False) -> Callable[[], str]:
        """Drop what matches an nftables expression on the switch; call the result to lift that.

        Args:
            shared: Decide once for all receivers; else for each.
        """
        chain = ("rule", "bridge", "lab", "shared" if shared else "impair")
        echo = self.run("SW", "nft", "-a", "-e", "add", *chain, match, "drop")
        handle = echo.split("# handle ")[1].split()[0]
        return functools.partial(self.run, "SW", "nft", "delete", *chain, "handle", handle)

    def loss(self, share: float, nodes: Sequence[str] | None = None) -> None:
        """Drop this share of the UDP packets towards each node (all receivers), independently."""
        for node in self.receivers if nodes is None else nodes:
            chance = f"numgen random mod 10000 < {share * 10_000:.0f}"
            self.drop(f"oifname v{node} meta l4proto udp {chance}")

    def close_inbound(self, node: str) -> None:
        """Let nothing into a node but neighbour discovery and MLD."""
        mld = "mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report"
        neighbours = "nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert"
        chain = "inet closed input"
        accept = f"add rule {chain} icmpv6 type {{ {mld}, {neighbours} }} accept"
        hook = "{ type filter hook input priority 0; policy drop; }"
        self.nft(node, "add table inet closed", f"add chain {chain} {hook}", accept)

    def link(self, node: str, state: str, interface: str = "eth0") -> None:
        """Set an interface of a node `up` or `down`."""
        self.ip(node, f"link set {interface} {state}")

    @contextlib.contextmanager
    def capture(
        self, node: str, interface: str = "eth0", *, match: str = f"udp port {PORT}", keep: int = 64
    ) -> Iterator[Capture]:
        """Capture what is for the lab's port while the context lasts, `keep` bytes of each."""
        capture = Capture()
        with tempfile.TemporaryFile() as pcap, tempfile.TemporaryFile() as said:
            # A buffer for a second of 100 Mbit/s, so that a pause of tcpdump costs no packet.
            options = [
                f"-nns{keep}",
                "-B8192",
                "--immediate-mode",
                "--time-stamp-precision=nano",
                "-w-",
            ]
            command = self.inside(node, "tcpdump", *options, "-i", interface, match)
            process = subprocess.Popen(command, stdout=pcap, stderr=said)

            def messages() -> str:
                return os.pread(said.fileno(), 4096, 0).decode()

            try:
                until(lambda: "listening on" in messages(), "tcpdump listens")
                yield capture
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait(PATIENCE)
            assert "\n0 packets dropped by kernel" in messages(), messages()
            capture.matched = int(re.findall(r"(\d+) packets? received by", messages())[0])
            pcap.seek(0)
            frames = list(read_capture(pcap.read()))
            capture.frames = [(at, frame) for at, _, frame in frames]
            capture += [Packet(at, length - ETHERNET_HEADER) for at, length, _ in frames]

    def carried(self, node: str, seconds: float) -> int:
        """Return how many packets the switch sends to a node in this time."""
        with self.capture("SW", f"v{node}") as capture:
            time.sleep(seconds)
        return capture.matched


class Lab(Namespaces):
    """Namespaces for S, R1..Rn and the switch SW between them; gone at the end of the context.

    Addresses on each eth0: S fd01::1 and 10.9.0.1, Ri fd01::1i and 10.9.0.1i.
    """

    def __init__(
        self,
        receivers: int = 3,
        mode: str = "wire",
        snooping: bool = False,
        prefix: str = "pl",
    ) -> None:
        """
        Args:
            mode: As for `Namespaces`.
            snooping: The switch is an MLD and IGMP querier and sends groups to members only.
            prefix: How the names of its namespaces begin.
        """
        super().__init__([f"R{number}" for number in range(1, receivers + 1)], mode, prefix)
        self._snooping = snooping

    def _build(self) -> None:
        nodes = ["S", *self.receivers]
        self._add("SW", *nodes)
        lines = ["link add br0 type bridge mcast_snooping 0", "link set br0 up"]
        if self._snooping:
            # Short times, which count from when they are set: a real querier takes minutes.
            times = "mcast_query_response_interval 100 mcast_last_member_interval 20"
            options = (times, "mcast_snooping 1", "mcast_querier 1")
            lines += [f"link set br0 type bridge {option}" for option in options]
        self.ip("SW", *lines)
        for node in nodes:
            self.plug(node, 1 if node == "S" else 10 + int(node[1:]))
        self._add_drops()
        self._forwarding(len(nodes))

    def plug(self, node: str, host: int) -> None:
        """Connect a node to the switch, with new addresses that end in `host`."""
        addresses = (f"fd01::{host}/64 nodad", f"10.9.0.{host}/24 brd +")
        self._cable(node, "eth0", f"v{node}", "br0", *addresses)


def read_capture(pcap: bytes) -> Iterator[tuple[float, int, bytes]]:
    """Yield (seconds, length, first bytes) of the frames of a capture with nanoseconds."""
    at = 24
    while at < len(pcap):
        seconds, nanoseconds, kept, length = struct.unpack_from("=4I", pcap, at)
        yield seconds + nanoseconds / 1e9, length, pcap[at + 16 : at + 16 + kept]
        at += 16 + kept
