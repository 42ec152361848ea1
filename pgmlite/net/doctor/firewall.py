"""The firewall: rules of nftables that drop the group's packets, or what keeps the group alive.

The rules are listed, never changed. What `nft` judges a packet by is here.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgmlite.core.figures import CheckResult
from pgmlite.core.human import MOST_NAMED
from pgmlite.net.doctor.nft import Culprit, Packet, Ruleset, TooMuchError
from pgmlite.net.doctor.place import Place
from pgmlite.net.doctor.results import fail, ok, warn
from pgmlite.net.doctor.system import read_text

LISTING = ("nft", "-j", "list", "ruleset")

PATIENCE = 5.0
"""Seconds for the listing."""

MOST_BYTES = 32 << 20
"""Of a listing."""

INBOUND = ("ingress", "prerouting", "input")
OUTBOUND = ("output", "postrouting")

LEGACY = ("ip_tables_names", "ip6_tables_names")
"""In ``/proc/net``: tables of the older iptables, of which nft knows nothing."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What there is to know of a machine's rules.

    Attributes:
        ruleset: None: they can't be listed; `why` says why.
        has_legacy: There are rules of the older iptables as well.
    """

    ruleset: Ruleset | None
    why: str = ""
    has_legacy: bool = False


def read_rules(proc: Path) -> Rules:
    """List the rules of this machine."""
    has_legacy = any("filter" in read_text(proc / "net" / name).split() for name in LEGACY)
    try:
        done = subprocess.run(
            LISTING, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except FileNotFoundError:
        return Rules(None, "nft is not installed", has_legacy)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Rules(None, f"nft: {error}", has_legacy)
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        return Rules(None, f"nft: {said[0] if said else 'it fails'}", has_legacy)
    return Rules(parse_rules(done.stdout), "nft printed what is no list of rules", has_legacy)


def parse_rules(printed: bytes) -> Ruleset | None:
    """Return the rules that nft printed; None: they are not such."""
    if len(printed) > MOST_BYTES:
        return None
    try:
        listing: Any = json.loads(printed)
    except (ValueError, RecursionError):
        return None
    return Ruleset(listing)


def data_packet(place: Place, interface: str) -> Packet:
    """Return a packet of the group's data as rules see it."""
    facts: dict[tuple[str, str], str | int] = {
        ("udp", "dport"): place.port,
        ("th", "dport"): place.port,
        ("meta", "l4proto"): "udp",
    }
    if len(place.sources) == 1:
        facts[_ip(place), "saddr"] = str(place.sources[0])
    return _packet(place, interface, facts, str(place.group), "udp", "th")


def query_packet(place: Place, interface: str) -> Packet:
    """Return a general query of MLD or IGMP as rules see it."""
    if place.group.version == 4:
        facts: dict[tuple[str, str], str | int] = {("meta", "l4proto"): "igmp"}
        return _packet(place, interface, facts, "224.0.0.1", "igmp")
    facts = {("meta", "l4proto"): "icmpv6", ("icmpv6", "type"): "mld-listener-query"}
    return _packet(place, interface, facts, "ff02::1", "icmpv6")


def report_packet(place: Place, interface: str) -> Packet:
    """Return a report of MLDv2 or IGMPv3 as rules see it on its way out."""
    if place.group.version == 4:
        facts: dict[tuple[str, str], str | int] = {("meta", "l4proto"): "igmp"}
        return _packet(place, interface, facts, "224.0.0.22", "igmp", out=True)
    facts = {("meta", "l4proto"): "icmpv6", ("icmpv6", "type"): "mld2-listener-report"}
    return _packet(place, interface, facts, "ff02::16", "icmpv6", out=True)


def _ip(place: Place) -> str:
    return "ip6" if place.group.version == 6 else "ip"


def _packet(
    place: Place,
    interface: str,
    facts: dict[tuple[str, str], str | int],
    destination: str,
    *protocols: str,
    out: bool = False,
) -> Packet:
    ip = _ip(place)
    facts = facts | {
        (ip, "daddr"): destination,
        ("meta", "nfproto"): f"ipv{place.group.version}",
        ("meta", "protocol"): ip,
        ("ether", "type"): ip,
        ("ct", "state"): "new",
        ("meta", "oif" if out else "iif"): interface,
        ("meta", "oifname" if out else "iifname"): interface,
    }
    if not out:
        facts["meta", "pkttype"] = "multicast"
    if ip == "ip":
        facts["ip", "protocol"] = facts["meta", "l4proto"]
    elif protocols[0] != "icmpv6":  # MLD has a header of options before it
        facts["ip6", "nexthdr"] = facts["meta", "l4proto"]
    return Packet(place.group.version, facts, frozenset({ip, "ether", *protocols}))


def check_firewall(
    rules: Rules, place: Place, interface: str, *, arrives: bool, is_on_wire: bool
) -> list[CheckResult]:
    """Look for rules that drop the group's data, or what keeps the group alive.

    Args:
        arrives: Its packets come to the receiver.
        is_on_wire: They come to the interface.
    """
    if rules.ruleset is None:
        if arrives:
            return []
        command = "iptables-save; ip6tables-save" if rules.has_legacy else "nft list ruleset"
        text = f"the firewall's rules can't be read: {rules.why}"
        return [warn("firewall", text, "look at them as root", command)]
    try:
        results = _data(rules.ruleset, place, interface, arrives=arrives, is_on_wire=is_on_wire)
        results += _upkeep(rules.ruleset, place, interface)
    except TooMuchError:
        text = "the firewall has more rules than are looked at here"
        return [warn("firewall", text, "look at them yourself", "nft list ruleset")]
    if rules.has_legacy and not arrives:
        text = "there are rules of the older iptables, which nft does not show"
        results.append(warn("firewall", text, "look at them", "iptables-save; ip6tables-save"))
    return results or [ok("firewall", "no rule of nftables drops the group's packets")]


def _data(
    ruleset: Ruleset, place: Place, interface: str, *, arrives: bool, is_on_wire: bool
) -> list[CheckResult]:
    """Look for rules that drop data: what arrives shows that none does."""
    found = ruleset.culprits(data_packet(place, interface), INBOUND, interface)
    if arrives or not found:
        return []
    packets = f"UDP to {place.group} port {place.port}"
    match = f"{_ip(place)} daddr {place.group} udp dport {place.port}"
    results = []
    for base in dict.fromkeys(one.base for one in found):
        culprits = [one for one in found if one.base == base]
        names = _names(culprits)
        advice = "let it in before that"
        command = f"nft insert rule {' '.join(base)} {match} accept"
        if culprits[0].is_certain:
            results.append(fail("firewall", f"{names} drops {packets}", advice, command))
        elif is_on_wire:
            text = f"{packets} comes to {interface} and not to the receiver: {names} may drop it"
            results.append(fail("firewall", text, advice, command))
        else:
            results.append(warn("firewall", f"{names} may drop {packets}", advice, command))
    return results


def _upkeep(ruleset: Ruleset, place: Place, interface: str) -> list[CheckResult]:
    """Look for rules that drop queries and reports: switches and routers forget who is silent."""
    protocol = "MLD" if place.group.version == 6 else "IGMP"
    match = "icmpv6 type { mld-listener-query, mld2-listener-report }"
    results = []
    for what, packet, hooks in (
        (f"{protocol} queries", query_packet(place, interface), INBOUND),
        (f"{protocol} reports", report_packet(place, interface), OUTBOUND),
    ):
        found = ruleset.culprits(packet, hooks, interface)
        certain = [one for one in found if one.is_certain]
        if certain:
            text = f"{_names(certain)} drops {what}: switches and routers will forget this machine"
            rule = match if protocol == "MLD" else "ip protocol igmp"
            command = f"nft insert rule {' '.join(certain[0].base)} {rule} accept"
            results.append(warn("firewall", text, "let them pass", command))
    return results


def _names(culprits: list[Culprit]) -> str:
    names = [str(one) for one in culprits[:MOST_NAMED]]
    more = len(culprits) - len(names)
    return " or ".join(names) + (f" or one of {more} more" if more else "")
