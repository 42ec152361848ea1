"""Services in DNS, in a routed lab: knot serves on router B, and receivers are told a name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.dns_server import ZONE, DnsServer
from tests.support.lab import PORT, Process
from tests.support.routed import GROUPS, RoutedLab, address

SERVICE = f"fw.{ZONE}"
RATE = "2M"
"""Of each server. Slow: how busy a machine is must not matter."""


def records(best: str, standby: str = "") -> str:
    """Return the records of a service with these nodes as servers."""
    lines = [f'_pgmlite._udp.fw TXT "txtvers=1" "c0={GROUPS[6]},{RATE}" "d0={GROUPS[4]},{RATE}"']
    for priority, nodes in ((0, best), (10, standby)):
        for node in nodes:
            lines.append(f"_pgmlite._udp.fw SRV {priority} 0 {PORT} {node}.{ZONE}.")
            lines.append(f"{node} AAAA {address(node)}")
            lines.append(f"{node} A {address(node, 4)}")
    return "\n".join([*lines, ""])


@contextlib.contextmanager
def served(lab: RoutedLab, folder: Path, text: str) -> Iterator[DnsServer]:
    """Serve records on router B, which R1 and R2 ask."""
    where = address("B")
    for node in lab.receivers:
        lab.resolve(node, where)
    inside = lab.inside("B")
    with DnsServer(folder / "dns", text, address=where, port=53, inside=inside) as server:
        yield server


def named(lab: RoutedLab, node: str, out: Path, name: str, *options: str) -> Process:
    """Start a receiver that is told a name."""
    return lab.pgmlite(node, "recv", name, "-i", "eth0", "-o", str(out), *options)
