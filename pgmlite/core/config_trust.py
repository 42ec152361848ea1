"""Configuration of whose objects a receiver takes (see `config`)."""

from __future__ import annotations

from dataclasses import dataclass

from pgmlite.core.machine import MS, SECOND
from pgmlite.core.tunables import check, tunable


@dataclass(frozen=True, slots=True)
class TrustConfig:
    """What checks of signatures may cost; times in ns.

    Raises:
        UsageError: A value is out of its limits.
    """

    checks_per_second: float = tunable(500.0, "a second")
    """Signatures checked of announcements that came before and were not looked at then."""

    checks_at_once: int = tunable(2 * SECOND, "ns")
    """As many as fall into this time may be checked at once: a machine that is busy reads late."""

    new_checks_per_second: float = tunable(250.0, "a second")
    """Those of announcements that come for the first time, of all addresses."""

    source_checks_per_second: float = tunable(100.0, "a second")
    """The same of one address."""

    new_checks_at_once: int = tunable(250 * MS, "ns")
    """As many of these as fall into this time may be checked at once."""

    max_sources: int = tunable(256, "addresses")
    """Addresses with a budget of their own; the one silent for longest makes room."""

    max_remembered: int = tunable(4_096, "announcements")
    """Those that were refused, or not looked at yet; the oldest makes room."""

    max_verified: int = tunable(64, "manifests")
    """Manifests whose signatures are valid, whether they are taken or not; likewise."""

    def __post_init__(self) -> None:
        check(self)
