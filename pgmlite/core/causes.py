"""What warnings are about."""

from __future__ import annotations

Fact = str | int | float | bool | None

CAUSES: dict[str, dict[str, type]] = {
    "ambiguous": {"oid": str, "objects": int},
    "buffer": {"kernel_drops": int},
    "channels": {},
    "clock": {},
    "disk": {"kernel_drops": int},
    "dns": {"name": str, "failure": str},
    "equivocation": {"stream": str, "release": int, "oid": str},
    "forged": {"source": str, "symbols": int},
    "hook_timed_out": {},
    "hops": {},
    "interface": {},
    "key": {},
    "membership": {},
    "mtu": {"packet_size": int, "sent": int, "mtu": int},
    "mtu_mended": {"packet_size": int},
    "nak": {},
    "nothing_to_take": {"objects": int},
    "numbers": {"lost_unbelieved": int},
    "object": {"oid": str, "name": str, "size": int, "reason": str},
    "objects": {},
    "on_complete": {},
    "rate": {"rate": int, "achieved_rate": int},
    "replacement": {},
    "resumed": {"seconds": float},
    "retry": {"seconds": float},
    "rollback": {"stream": str, "release": int, "was": int},
    "silence": {"seconds": float},
    "source": {},
}
"""What a `Warned` may be about, and the facts that then come with it."""
