"""The interface: is it there, is it up, does it carry multicast, has it addresses of the family?"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from pgmlite.core.figures import CheckResult
from pgmlite.core.human import human_list
from pgmlite.net.doctor.place import Place
from pgmlite.net.doctor.results import fail, ok, warn

MOST_INTERFACES = 12
"""Interfaces that are named in one line."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What the system says of an interface.

    Attributes:
        flags: Such as ``up``, ``running`` and ``multicast``.
        families: Address families of its addresses.
    """

    name: str
    index: int
    flags: frozenset[str]
    families: frozenset[int]

    @property
    def is_loopback(self) -> bool:
        """Whether it leads to this machine alone."""
        return "loopback" in self.flags

    def can_carry(self, family: int) -> bool:
        """Whether multicast of a family may come in by it."""
        return {"up", "running", "multicast"} <= self.flags and family in self.families


def interfaces() -> dict[str, Interface]:
    """Return the interfaces of this machine, by name."""
    addresses = psutil.net_if_addrs()
    found = {}
    for name, stats in psutil.net_if_stats().items():
        try:
            index = socket.if_nametoindex(name)
        except OSError:  # it is gone
            continue
        families = frozenset(int(one.family) for one in addresses.get(name, ()))
        found[name] = Interface(name, index, frozenset(stats.flags.split(",")), families)
    return found


def candidates(place: Place, known: Mapping[str, Interface]) -> list[Interface]:
    """Return the interfaces that could be meant where none is named, in order of their names."""
    return [
        one
        for _, one in sorted(known.items())
        if one.can_carry(place.family) and not one.is_loopback
    ]


def chosen(place: Place, known: Mapping[str, Interface]) -> Interface | None:
    """Return the interface that a receiver would use; None: there is none, or no one."""
    if place.interface:
        return known.get(place.interface)
    found = candidates(place, known)
    return found[0] if len(found) == 1 else None


def check_interface(place: Place, known: Mapping[str, Interface]) -> list[CheckResult]:
    """Look at the interface that is named, or for the one that is meant."""
    names = [one.name for one in candidates(place, known)]
    all_names = human_list(sorted(known), MOST_INTERFACES)
    one = chosen(place, known)
    if one is None and place.interface:
        return [
            fail(
                "interface",
                f"{place.interface}: not found; this machine has {all_names}",
                "name one of them with -i",
            )
        ]
    if one is None and names:
        text = f"{human_list(names, MOST_INTERFACES)} could all carry {place.where}"
        return [fail("interface", text, "name the one that leads to the sender with -i")]
    if one is None:
        text = f"none is up that carries multicast and has an {place.ip} address"
        return [fail("interface", text, "set one up, and give it an address", "")]
    return _state(one) or [ok("interface", f"{one.name} is up and carries multicast")]


def _state(one: Interface) -> list[CheckResult]:
    """Return what is wrong with an interface."""
    if "up" not in one.flags:
        command = f"ip link set {one.name} up"
        return [fail("interface", f"{one.name} is down", "set it up", command)]
    if "running" not in one.flags:
        return [fail("interface", f"{one.name} has no link", "look at its cable, or at its Wi-Fi")]
    if one.is_loopback:
        return [
            warn("interface", f"{one.name} leads to this machine alone", "name another with -i")
        ]
    if "multicast" not in one.flags:
        command = f"ip link set {one.name} multicast on"
        return [fail("interface", f"{one.name} carries no multicast", "switch it on", command)]
    return []


def check_family(place: Place, known: Mapping[str, Interface]) -> list[CheckResult]:
    """Look whether group, sources and addresses of the interface are of one kind."""
    results = [
        fail(
            "family",
            f"source {source} is IPv{source.version}, group {place.group} is {place.ip}",
            f"name the sender's {place.ip} address, or the group that it sends to by "
            f"IPv{source.version}",
        )
        for source in place.sources
        if source.version != place.group.version
    ]
    one = chosen(place, known)
    if one and place.family not in one.families:
        other = "IPv4" if place.ip == "IPv6" else "IPv6"
        results.append(
            fail(
                "family",
                f"{one.name} has no {place.ip} address for group {place.group}",
                f"give it one, or use an {other} group at both ends",
            )
        )
    return results
