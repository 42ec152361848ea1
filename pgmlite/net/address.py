"""Where packets go and where they come from: a group, one interface, and its addresses.

psutil lists interfaces and addresses; in which state the system has an IPv6 address, it shows in
``/proc/net/if_inet6`` alone.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import psutil

from pgmlite.core.events import Tell, Waiting
from pgmlite.core.machine import MS, SECOND
from pgmlite.errors import NetworkError, UsageError
from pgmlite.net.groups import check_group, check_port, parse_group
from pgmlite.net.waiting import Wait, Waits
from pgmlite.wire.endpoint import Endpoint, ip_version, udp_headers

CHECK_PATIENCE = 5 * SECOND
"""ns that a start waits for addresses which the system still checks: that takes it up to 2 s."""

CHECK_PAUSE = 50 * MS

IPV6_STATES = Path("/proc/net/if_inet6")
TENTATIVE, DUPLICATE = 0x40, 0x08
"""Flags of an address in `IPV6_STATES` (IFA_F_TENTATIVE, IFA_F_DADFAILED)."""


class AddressState(Enum):
    """Whether an address of an interface can be sent from."""

    READY = auto()
    CHECKING = auto()
    """The system still makes sure that no other machine has it (RFC 4862 section 5.4)."""

    DUPLICATE = auto()
    """Another machine has it."""


@dataclass(frozen=True, slots=True)
class Channel:
    """Where packets go: a group, a port, and the one interface they use."""

    group: str
    port: int
    interface: str
    index: int

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET6 or AF_INET."""
        return socket.AF_INET6 if ip_version(self.group) == 6 else socket.AF_INET

    @property
    def address(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """The group as sockets take it."""
        return self.at(self.group, self.port)

    def at(self, address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return an address on the channel's interface as sockets take it."""
        if self.family == socket.AF_INET6:
            return (address, port, 0, self.index)
        return (address, port)

    @property
    def overhead(self) -> int:
        """Bytes of IP and UDP headers a packet."""
        return udp_headers(self.group)

    def __str__(self) -> str:
        return f"{Endpoint(self.group, self.port)} on {self.interface}"


def resolve(group: str, port: int, interface: str | None) -> Channel:
    """Check a group, a port and an interface against this machine.

    Args:
        group: ``ADDR`` or ``ADDR%INTERFACE``.
        interface: None: the one of ``%INTERFACE``, or the only one that can be meant.

    Raises:
        UsageError: Not a multicast group, one that nobody should use, or two interfaces.
        NetworkError: No such interface, or it can't carry the group.
    """
    address, named = parse_group(group, interface)
    if not address.is_multicast:
        raise UsageError(f"group {group}: not a multicast address (ff00::/8 or 224.0.0.0/4)")
    check_port(port)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    check_group(address, is_loopback=bool(named) and "loopback" in _flags(named))
    name = named or _only_interface(f"group {group}", lambda one: has_family(one, family))
    index = _index(name)
    _check_family(name, group, family)
    return Channel(str(address), port, name, index)


def _flags(name: str) -> list[str]:
    """Return the flags of an interface; none if there is no such interface."""
    stats = psutil.net_if_stats().get(name)
    return stats.flags.split(",") if stats else []


def has_family(name: str, family: socket.AddressFamily) -> bool:
    """Whether an interface has an address of a family."""
    return any(a.family == family for a in psutil.net_if_addrs().get(name, []))


def _check_family(name: str, group: str, family: socket.AddressFamily) -> None:
    if has_family(name, family):
        return
    kind = "IPv6" if family == socket.AF_INET6 else "IPv4"
    stats = psutil.net_if_stats().get(name)
    state = "is down and " if stats and not stats.isup else ""
    raise NetworkError(f"interface {name}: {state}has no {kind} address for group {group}")


def usable_versions(interface: str | None) -> tuple[str, tuple[int, ...]]:
    """Return an interface, and the versions of IP by which it hears others, the better one first.

    An IPv6 address that is link-local does not count: nothing that comes across routers is meant
    for who has no other (spec: DNS-4).

    Args:
        interface: None: the only one that can be meant.

    Raises:
        NetworkError: There is no such interface, or it has no address that can be used.
    """
    name = interface or _only_interface("multicast", lambda one: bool(_versions(one)))
    versions = _versions(name)
    if not versions:
        _index(name)
        raise NetworkError(f"interface {name}: has no IPv4 address, and no IPv6 address of use")
    return name, versions


def own_usable(name: str) -> list[str]:
    """Return the addresses of an interface by which it hears others, as of `usable_versions`."""
    addresses = [
        ipaddress.ip_address(plain(one.address))
        for one in psutil.net_if_addrs().get(name, [])
        if one.family in {socket.AF_INET, socket.AF_INET6}
    ]
    return [
        str(one)
        for one in addresses
        if one.version == 4 or not (one.is_link_local or one.is_loopback)
    ]


def _versions(name: str) -> tuple[int, ...]:
    return tuple(sorted(set(map(ip_version, own_usable(name))), reverse=True))


def _index(name: str) -> int:
    """Return the index of an interface.

    Raises:
        NetworkError: There is no such interface.
    """
    try:
        return socket.if_nametoindex(name)
    except OSError:
        known = ", ".join(sorted(psutil.net_if_stats()))
        raise NetworkError(f"interface {name}: not found; this machine has {known}") from None


def _only_interface(what: str, can_carry: Callable[[str], bool]) -> str:
    """Return the only interface that can carry multicast.

    Args:
        what: That it shall carry, for the error.
        can_carry: Whether an interface has the addresses for it.

    Raises:
        NetworkError: There is none, or there are several: the wrong one would be silence.
    """
    names: list[str] = [
        name
        for name, stats in psutil.net_if_stats().items()
        if stats.isup
        and {"multicast"} <= set(stats.flags.split(","))
        and "loopback" not in stats.flags.split(",")
        and can_carry(name)
    ]
    if len(names) == 1:
        return names[0]
    if not names:
        raise NetworkError(f"no interface is up that can carry {what}: name one", cause="interface")
    raise NetworkError(
        f"several interfaces could carry {what}: name one of {', '.join(sorted(names))}",
        cause="interface",
    )


def interface_mtu(channel: Channel) -> int:
    """Return the MTU of the channel's interface in bytes.

    Raises:
        NetworkError: The interface is gone.
    """
    stats = psutil.net_if_stats().get(channel.interface)
    if stats is None:
        raise NetworkError(f"interface {channel.interface}: gone")
    return int(stats.mtu)


# The addresses of this machine.


def own_addresses(channel: Channel, *, anywhere: bool = False) -> dict[str, AddressState]:
    """Return the addresses of the channel's family that its interface has now.

    Args:
        anywhere: Those of all interfaces of this machine.
    """
    states = _ipv6_states() if channel.family == socket.AF_INET6 else {}
    wanted = channel.interface
    with contextlib.suppress(OSError):  # it is gone, or came back as another one
        wanted = socket.if_indextoname(channel.index)  # packets go on if it was renamed
    return {
        plain(one.address): states.get((name, plain(one.address)), AddressState.READY)
        for name, addresses in psutil.net_if_addrs().items()
        if anywhere or name == wanted
        for one in addresses
        if one.family == channel.family
    }


def plain(address: str) -> str:
    """Return an address as it is compared: its short form, without ``%INTERFACE``."""
    return str(ipaddress.ip_address(address.partition("%")[0]))


def _ipv6_states() -> dict[tuple[str, str], AddressState]:
    """Return which (interface, IPv6 address) can't be used, and why."""
    try:
        lines = IPV6_STATES.read_text().splitlines()
    except OSError:  # no IPv6 here, or no /proc: then sending tells
        return {}
    states = {}
    for line in lines:
        digits, _, _, _, flags, name = line.split()
        if int(flags, 16) & (TENTATIVE | DUPLICATE):
            is_duplicate = int(flags, 16) & DUPLICATE
            address = str(ipaddress.IPv6Address(bytes.fromhex(digits)))
            states[name, address] = (
                AddressState.DUPLICATE if is_duplicate else AddressState.CHECKING
            )
    return states


def check_own(address: str, channel: Channel) -> None:
    """Make sure that the channel's interface has `address`.

    Raises:
        NetworkError: It has not: what comes from there would not come from this machine.
    """
    known = own_addresses(channel)
    if address not in known:
        raise NetworkError(
            f"{address}: not an address of {channel.interface}, which has {', '.join(known)}"
        )
    if known[address] is AddressState.DUPLICATE:
        raise NetworkError(
            f"{address}: another machine on the link of {channel.interface} has it too"
        )


def await_addresses(channel: Channel, address: str, tell: Tell) -> Waits[None]:
    """Wait while the system checks addresses that packets may come from: a link is just up.

    The wait is bounded: who sends from an address that is still not ready learns it then.

    Args:
        address: The only one that matters; empty: all of the interface, for the best of them may
            be the last.
        tell: Takes one event, if there is something to wait for.
    """
    # spec: NET-11
    end = time.monotonic_ns() + CHECK_PATIENCE
    told = False
    while True:
        checking = [
            one
            for one, state in own_addresses(channel).items()
            if state is AddressState.CHECKING and address in ("", one)
        ]
        now = time.monotonic_ns()
        if not checking or now >= end:
            return
        if not told:
            told = True
            what = (
                f"{', '.join(checking)} on {channel.interface}: the system still checks that no "
                "other machine has it"
            )
            tell(Waiting(now, "addresses", what))
        yield Wait(CHECK_PAUSE)
