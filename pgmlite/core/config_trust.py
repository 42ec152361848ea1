"""Configuration of whose objects a receiver takes (see `config`)."""

from __future__ import annotations

from dataclasses import dataclass

from pgmlite.core.machine import MS
from pgmlite.core.tunables import check, tunable


@dataclass(frozen=True, slots=True)
class TrustConfig:
    """What checks of signatures may cost; times in ns.

    Raises:
        UsageError: A value is out of its limits.
    """

    checks_per_second: float = tunable(1_000.0, "a second")
    """Signatures checked, of all sources: a tenth of a processor's time or so."""

    source_checks_per_second: float = tunable(200.0, "a second")
    """Those that come for the first time, of one address."""

    checks_at_once: int = tunable(250 * MS, "ns")
    """As many of both as fall into this time may be checked at once."""

    max_sources: int = tunable(256, "addresses")
    """Addresses with a budget of their own; the one silent for longest makes room."""

    max_remembered: int = tunable(4_096, "announcements")
    """Those that were refused, or not looked at yet; the oldest makes room."""

    max_verified: int = tunable(64, "manifests")
    """Manifests whose signatures are valid, whether they are taken or not; likewise."""

    def __post_init__(self) -> None:
        check(self)
