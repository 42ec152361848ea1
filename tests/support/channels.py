"""An object at several rates, in a routed lab: S sends a group for each, receivers choose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.crossing import heard
from tests.support.lab import PORT, Process
from tests.support.routed import HOPS, RoutedLab


def group(channel: int) -> str:
    """Return the group of a channel."""
    return f"ff3e::8070:{0x6710 + channel:x}"


def send(lab: RoutedLab, source: Path, ladder: Sequence[int]) -> Process:
    """Start a sender of some channels on S."""
    channels = [
        word
        for number, rate in enumerate(ladder)
        for word in ("--channel", f"{group(number)},{rate}M")
    ]
    own = (*heard("S", 6), *HOPS, "--mtu", "1500", "-p", str(PORT), "-i", "eth0")
    return lab.pgmlite("S", "send", str(source), *channels, *own)


def receive(lab: RoutedLab, node: str, out: Path, channels: str) -> Process:
    """Start a receiver on a node, and wait until it listens."""
    own = (*heard("S", 6), "-g", group(0), "-p", str(PORT), "-i", "eth0", "-o", str(out))
    process = lab.pgmlite(node, "recv", *own, "--channels", channels)
    process.event("start")
    return process
