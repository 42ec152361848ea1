"""The machine: its receive buffer and its clock."""

from __future__ import annotations

from datetime import UTC, datetime

from pgmlite.core.figures import CheckResult
from pgmlite.core.human import human_bytes, human_rate
from pgmlite.net.doctor.results import ok, warn
from pgmlite.net.receiving import BUFFER_MS

FIRST_YEAR = 2026
"""When this was written: a clock that says less is not set."""

SMALL_BUFFER = 1 << 20
"""Bytes: what 80 Mbit/s bring in 100 ms, for a sender whose rate is not known."""


def check_buffer(granted: int, wanted: int, rate: int | None) -> list[CheckResult]:
    """Look whether the receive buffer outlasts a pause of a busy machine.

    Args:
        granted: Bytes that the system allows; `wanted`: what a receiver asks for.
        rate: bit/s that the sender announces; 0: not limited; None: it was not heard.
    """
    needed = rate * BUFFER_MS // 8_000 if rate else SMALL_BUFFER
    if granted >= min(needed, wanted):
        return [ok("buffer", f"the receive buffer may be {human_bytes(granted)}")]
    most = f"the receive buffer may be {human_bytes(granted)} at most"
    of = f"{BUFFER_MS} ms of {human_rate(rate)} are" if rate else "fast senders need"
    text = f"{most}, {of} {human_bytes(needed)}: packets may be lost"
    command = f"sysctl -w net.core.rmem_max={wanted}"
    return [warn("buffer", text, "allow more, or run as root", command)]


def check_clock(seconds: float) -> list[CheckResult]:
    """Look whether a clock is set, `seconds` since 1970 being what it says."""
    try:
        now = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return [warn("clock", "the clock is not set", "set it; data arrives all the same")]
    if now.year < FIRST_YEAR:
        text = f"the clock says {now:%Y-%m-%d}: it is not set"
        return [
            warn("clock", text, "set it: times of files will be wrong; data arrives all the same")
        ]
    return [ok("clock", f"the clock says {now:%Y-%m-%d %H:%M} UTC")]
