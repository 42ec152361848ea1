"""What happens across routers: runs in a routed lab, and what was seen in them."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests.support.lab import (
    ETHERNET_HEADER,
    NAK_PORT,
    PATIENCE,
    PLAIN,
    Capture,
    Process,
    random_file,
    until,
)
from tests.support.routed import GROUPS, HOPS, RoutedLab, address

IP_HEADER = {6: 40, 4: 20}
UDP_HEADER = 8
SLOW = 200_000
"""bit/s of what lasts: little to do for a busy machine."""

LONG = 3 * PATIENCE
"""Seconds until a transfer that should take a few counts as failed."""

RDATA = 5
"""The packet type, byte 3 behind the UDP header."""

Seen = TypeVar("Seen")


def both(run: Callable[[int], Seen]) -> dict[int, Seen]:
    """Do the same in both families at the same time; return what each saw."""
    with ThreadPoolExecutor(2) as pool:
        futures = {family: pool.submit(run, family) for family in GROUPS}
        return {family: future.result() for family, future in futures.items()}


def heard(node: str, family: int) -> tuple[str, str]:
    """Return the option that lets a receiver hear a node."""
    return "--source", address(node, family)


def sender(lab: RoutedLab, node: str, family: int, file: Path, *options: str, rate: str) -> Process:
    """Start a sender to the family's group from a node's own address."""
    own = (*heard(node, family), *HOPS)
    return lab.send(node, file, *own, *options, rate=rate, group=GROUPS[family])


def receiver(lab: RoutedLab, node: str, family: int, out: Path, source: str, *more: str) -> Process:
    """Start a receiver of the family's group that hears one node, and wait until it listens."""
    return lab.recv(node, out, *heard(source, family), *more, group=GROUPS[family])


def stopped(process: Process) -> dict[str, Any]:
    """Stop a sender or repairer; return its counters."""
    process.popen.terminate()
    return process.result(6)


def ended(process: Process, code: int = 0, seconds: float = LONG) -> dict[str, Any]:
    """Wait for the end of a process within that time, which must be this code; return its end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.popen.wait(seconds)
    return process.result(code)


class Transfer(NamedTuple):
    """A receiver of S behind two routers, and one of silent T on a LAN of its own."""

    result: dict[str, Any]
    other: dict[str, Any]
    joined: set[tuple[str, str]]
    """What the last router had outgoing interfaces for meanwhile."""

    gone: float
    """Seconds from the end of the receiver until its (S,G) was gone from that router."""


def transfer(lab: RoutedLab, family: int, folder: Path) -> Transfer:
    """S sends; R1 hears S, and R2, on another LAN, hears T for 10 s."""
    source = random_file(folder / f"source{family}", 4)
    other = receiver(lab, "R2", family, folder / f"other{family}", "T", "--timeout", "10")
    process = receiver(lab, "R1", family, folder / f"out{family}", "S")
    sender(lab, "S", family, source, rate="8M")
    process.stored(0.2)
    joined = lab.forwarded("B", family)
    result = ended(process)
    end = time.monotonic()
    pair = (address("S", family), GROUPS[family])
    until(lambda: pair not in lab.forwarded("B", family), "the routers forget what was joined")
    gone = time.monotonic() - end
    assert (folder / f"out{family}").read_bytes() == source.read_bytes()
    return Transfer(result, ended(other, 5), joined, gone)


def naming(capture: Capture, group: str) -> list[bytes]:
    """Return the captured packets that name a group, as reports of memberships do."""
    name = ipaddress.ip_address(group).packed
    return [frame for _, frame in capture.frames if name in frame]


def refused(lab: RoutedLab, folder: Path, *options: str, group: str) -> list[bytes]:
    """Start a receiver on R1 that must be refused; return what it said of the group."""
    with lab.capture("R1", match="ip or ip6", keep=400) as capture:
        process = lab.recv("R1", folder / "refused", *options, group=group, wait=False)
        process.result(2)
        # A report would come within a second.
        time.sleep(1.5)
    return naming(capture, group)


class Beside(NamedTuple):
    """Two receivers on a host, of two senders to one group."""

    results: list[dict[str, Any]]
    silence: float
    """Seconds between packets, the longest that either reported."""


def two_sources(lab: RoutedLab, family: int, folder: Path, seconds: float) -> Beside:
    """S and T send an object each that takes `seconds`; R1 has a receiver of each."""
    processes = {}
    for seed, node in enumerate("ST"):
        source = folder / f"source{node}{family}"
        random_file(source, 1, seed)
        os.truncate(source, int(seconds * SLOW / 8))
        processes[node] = receiver(lab, "R1", family, folder / f"out{node}{family}", node)
        sender(lab, node, family, source, rate=str(SLOW))
    results = [ended(process, seconds=seconds + LONG) for process in processes.values()]
    for node in processes:
        out, source = folder / f"out{node}{family}", folder / f"source{node}{family}"
        assert out.read_bytes() == source.read_bytes()
    silences = [
        event["silence"] or 0
        for process in processes.values()
        for event in process.events
        if event["event"] == "progress"
    ]
    return Beside(results, max(silences))


class Flap(NamedTuple):
    """A fault of a second or so, and what came after it."""

    during: int
    """Packets during it; its first quarter of a second does not count."""

    again: float
    """Seconds from its end until data came."""


def flows(process: Process, since: float) -> bool:
    """Whether a receiver has reported, twice since that time, more packets than before."""
    seen = [e["packets"] for e in list(process.events) if e.get("packets") and e["at"] > since]
    return bool(seen) and seen[-1] > seen[0]


def flap(
    lab: RoutedLab,
    receivers: dict[int, tuple[str, Process]],
    down: Callable[[], Any],
    up: Callable[[], Any],
    *,
    inside: bool = False,
) -> dict[int, Flap]:
    """Break something for a second while receivers run, one of each family on a node.

    Args:
        inside: Packets are seen in the node, else at its port on the switch: what stays up.
    """
    with contextlib.ExitStack() as stack:
        captures = {
            family: stack.enter_context(
                lab.capture(
                    *((node, "eth0") if inside else ("SW", f"v{node}")),
                    match=f"udp and dst host {GROUPS[family]}",
                )
            )
            for family, (node, _) in receivers.items()
        }
        down()
        began = time.time()
        time.sleep(1)
        end, since = time.time(), time.monotonic()
        up()
        for _, process in receivers.values():
            until(functools.partial(flows, process, since), "data again", LONG)
    return {
        family: Flap(
            sum(began + 0.25 < at < end for at, _ in capture),
            min(at for at, _ in capture if at > end) - end,
        )
        for family, capture in captures.items()
    }


def listeners(lab: RoutedLab, folder: Path, mebibytes: int) -> dict[int, tuple[str, Process]]:
    """Let S send slowly, and R1 receive by IPv6 and R3 by IPv4; return them once they do."""
    receivers = {}
    for family, node in {6: "R1", 4: "R3"}.items():
        source = random_file(folder / f"source{family}", mebibytes)
        process = receiver(lab, node, family, folder / f"out{family}", "S")
        sender(lab, "S", family, source, rate="1M")
        receivers[family] = (node, process)
    for _, process in receivers.values():
        process.stored(0.05)
    return receivers


def faults(lab: RoutedLab, folder: Path) -> dict[str, dict[int, Flap]]:
    """Break ports, interfaces and the last router while R1 receives by IPv6 and R3 by IPv4.

    No receiver ends before it is complete.
    """
    receivers = listeners(lab, folder, 2)

    def each(act: Callable[..., Any], *more: str) -> Callable[[], Any]:
        return lambda: [act(node, *more) for node, _ in receivers.values()]

    found = {
        "port": flap(lab, receivers, each(lab.port, "down"), each(lab.port, "up"), inside=True),
        "interface": flap(lab, receivers, each(lab.link, "down"), each(lab.restore)),
        "router": flap(lab, receivers, lambda: lab.stop("B"), lambda: lab.start("B")),
    }
    for family, (_, process) in receivers.items():
        ended(process)
        assert (folder / f"out{family}").read_bytes() == (folder / f"source{family}").read_bytes()
    return found


class Repaired(NamedTuple):
    """Receivers of S whose LAN has a repairer that only the manifest names."""

    results: list[dict[str, Any]]
    addresses: set[str]
    """Where RDATA came from."""


def repaired(lab: RoutedLab, family: int, folder: Path) -> Repaired:
    """S sends without repair symbols; R1 and R3 lose 5% each, and P has a copy."""
    source = random_file(folder / f"source{family}", 3)
    host = address("P", family)
    repairer = f"[{host}]:{NAK_PORT}" if family == 6 else f"{host}:{NAK_PORT}"
    lab.repair("P", source, *heard("S", family), rate="8M", group=GROUPS[family])
    outs = {node: folder / f"{node}-{family}" for node in ("R1", "R3")}
    processes = [receiver(lab, node, family, out, "S") for node, out in outs.items()]
    at = IP_HEADER[family] + UDP_HEADER + 3
    match = (
        f"udp and dst host {GROUPS[family]} and ip{family if family == 6 else ''}[{at}] == {RDATA}"
    )
    with lab.capture("SW", "vR1", match=match) as capture:
        sender(lab, "S", family, source, "--repairer", repairer, *PLAIN, rate="8M")
        results = [ended(process) for process in processes]
    for out in outs.values():
        assert out.read_bytes() == source.read_bytes()
    return Repaired(results, sources(capture, family))


def sources(capture: Capture, family: int) -> set[str]:
    """Return the source addresses of captured packets."""
    place = slice(8, 24) if family == 6 else slice(12, 16)
    packets = [frame[ETHERNET_HEADER:] for _, frame in capture.frames]
    return {str(ipaddress.ip_address(packet[place])) for packet in packets}


def too_large(lab: RoutedLab, family: int, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """S sends packets of 1500 bytes over a link of 1400; return R1's warning and its end."""
    source = random_file(folder / f"source{family}", 1)
    sender(lab, "S", family, source, "--mtu", "1500", rate="2M").event("start")
    process = receiver(lab, "R1", family, folder / f"out{family}", "S", "--timeout", "10")
    warning = process.event("warning", lambda event: event.get("cause") == "mtu")
    return warning, ended(process, 5)
