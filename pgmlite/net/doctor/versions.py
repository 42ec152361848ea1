"""MLD and IGMP: which version this machine speaks, and whether anybody asks for members.

Source-specific groups need MLDv2 (RFC 3810) or IGMPv3 (RFC 3376). A kernel speaks an older version
where a setting forces it, or where a querier of that version was heard.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pgmlite.core.figures import CheckResult
from pgmlite.core.human import MOST_NAMED, human_list
from pgmlite.net.doctor.place import Place
from pgmlite.net.doctor.results import fail, ok, warn
from pgmlite.net.doctor.system import igmp_versions, sysctl
from pgmlite.net.doctor.tap import Query

QUERY_INTERVAL = 125
"""Seconds from query to query by default (RFC 3810 section 9.2, RFC 3376 section 8.2)."""

NEEDED = {"mld": 2, "igmp": 3}
"""The version that can name sources."""

FORCED = {
    "mld": ("net", "ipv6", "conf", "force_mld_version"),
    "igmp": ("net", "ipv4", "conf", "force_igmp_version"),
}
"""Where the kernel has its settings: the interface's name stands before the last part."""


def protocol_of(place: Place) -> str:
    """Return ``mld`` or ``igmp``."""
    return "mld" if place.group.version == 6 else "igmp"


def forced_version(place: Place, interface: str, proc: Path) -> tuple[int, str]:
    """Return the version that a setting forces, and that setting; 0: none does.

    For MLD that for all interfaces goes before the interface's; for IGMP the older one counts.
    """
    protocol = protocol_of(place)
    *folder, setting = FORCED[protocol]
    found = [
        # Not in dots: a name of an interface may have some.
        (version, f"{'/'.join(folder)}/{name}/{setting}")
        for name in ("all", interface)
        if (version := sysctl(proc, *folder, name, setting) or 0) > 0
    ]
    if not found:
        return 0, ""
    return found[0] if protocol == "mld" else min(found)


def check_version(place: Place, interface: str, proc: Path, *, arrives: bool) -> list[CheckResult]:
    """Look whether this machine speaks the version that can name sources.

    Args:
        arrives: Data comes to the receiver.
    """
    protocol = protocol_of(place)
    needed, said = NEEDED[protocol], protocol.upper()
    forced, setting = forced_version(place, interface, proc)
    if forced >= needed:
        return [ok(protocol, f"{said}v{forced} is forced on {interface}, as it should be")]
    if forced:
        text = f"{said}v{forced} is forced on {interface}, which can't name sources"
        command = f"sysctl -w {setting}=0"
        return [_too_old(place, protocol, text, "let the kernel choose", command, arrives=arrives)]
    if protocol == "mld":
        return [ok(protocol, f"no old MLD is forced on {interface}")]
    version = igmp_versions(proc).get(interface, needed)
    if version < needed:
        text = f"{interface} speaks IGMPv{version} since a querier there does"
        return [_too_old(place, protocol, text, "have it speak IGMPv3", arrives=arrives)]
    return [ok(protocol, f"IGMPv{version} is spoken on {interface}")]


def _too_old(
    place: Place, protocol: str, text: str, advice: str, command: str = "", *, arrives: bool
) -> CheckResult:
    """Return what an old version means: no sources, or nothing where none is named."""
    if not place.sources:
        return warn(protocol, f"{text}; without --source data may arrive", advice, command)
    state = warn if arrives else fail
    return state(protocol, f"{text}: routers send nothing", advice, command)


def check_querier(
    place: Place, queries: Collection[Query], seconds: float, *, arrives: bool, why: str
) -> list[CheckResult]:
    """Look whether somebody asks who is a member: switches with snooping need it.

    Args:
        queries: What was heard.
        why: Why nothing could be heard; empty: it could.
    """
    protocol = protocol_of(place)
    said, needed = protocol.upper(), NEEDED[protocol]
    if why:
        return [] if arrives else [warn("querier", f"no query can be heard: {why}")]
    heard = sorted({one for one in queries if one.protocol == protocol})
    if not heard:
        text = f"no {said} query came in {seconds:g} s"
        if seconds < QUERY_INTERVAL:
            text += f", and they need not: by default one comes in {QUERY_INTERVAL} s"
        if arrives and seconds < QUERY_INTERVAL:
            return [ok("querier", text)]
        advice = "where switches snoop, one of them or a router must be the querier"
        return [warn("querier", text, advice)]
    names = human_list([f"{one.source} ({said}v{one.version})" for one in heard], MOST_NAMED)
    oldest = min(one.version for one in heard)
    if oldest < needed:
        text = f"the querier {names} can't take sources"
        return [_too_old(place, "querier", text, f"have it speak {said}v{needed}", arrives=arrives)]
    return [ok("querier", f"the querier is {names}")]
