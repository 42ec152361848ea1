"""The reverse path filter of IPv4: a packet counts only if its source could be answered.

Where it is strict (1), the way back must be the interface that the packet came in by; where it is
loose (2), any way back will do (RFC 3704). The kernel takes the larger of the interface's setting
and that for all.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Collection
from pathlib import Path

from pgmlite.core.figures import CheckResult
from pgmlite.net.doctor.place import Place
from pgmlite.net.doctor.results import fail, ok
from pgmlite.net.doctor.system import counter, sysctl

STRICT, LOOSE = 1, 2
SAID = {STRICT: "strict", LOOSE: "loose"}

RTM_NEWROUTE, RTM_GETROUTE, NLM_F_REQUEST = 24, 26, 1
RTA_DST, RTA_OIF = 1, 4
RTN_UNICAST, RTN_LOCAL = 1, 2
"""rtnetlink(7)."""

NETLINK_HEADER = struct.Struct("=IHHII")
ROUTE_HEADER = struct.Struct("=BBBBBBBBI")
ATTRIBUTE = struct.Struct("=HH")


def dropped_by_filter(proc: Path) -> int:
    """Return how many packets the filter has dropped since the machine started."""
    return counter(proc, "TcpExt", "IPReversePathFilter")


def route_to(address: str) -> tuple[int, str]:
    """Return the kind of the route to an IPv4 address, and the interface that it leaves by.

    Kind 0: there is none.
    """
    destination = socket.inet_aton(address)
    body = ROUTE_HEADER.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    body += ATTRIBUTE.pack(ATTRIBUTE.size + 4, RTA_DST) + destination
    size = NETLINK_HEADER.size + len(body)
    request = NETLINK_HEADER.pack(size, RTM_GETROUTE, NLM_F_REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.settimeout(1)
            sock.send(request + body)
            answer = sock.recv(8_192)
    except OSError:
        return 0, ""
    return parse_route(answer)


def parse_route(answer: bytes) -> tuple[int, str]:
    """Return kind and interface of what the kernel answered; kind 0: there is no route."""
    at = NETLINK_HEADER.size + ROUTE_HEADER.size
    if len(answer) < at or NETLINK_HEADER.unpack_from(answer)[1] != RTM_NEWROUTE:
        return 0, ""
    kind = ROUTE_HEADER.unpack_from(answer, NETLINK_HEADER.size)[7]
    while at + ATTRIBUTE.size <= len(answer):
        length, name = ATTRIBUTE.unpack_from(answer, at)
        if name == RTA_OIF and length >= ATTRIBUTE.size + 4:
            index = int.from_bytes(answer[at + 4 : at + 8], sys.byteorder)
            try:
                return kind, socket.if_indextoname(index)
            except OSError:  # it is gone
                return kind, ""
        if length < ATTRIBUTE.size:
            break
        at += (length + 3) & ~3
    return kind, ""


def check_reverse_path(
    place: Place,
    interface: str,
    sources: Collection[str],
    dropped: int,
    proc: Path,
    *,
    arrives: bool,
    can_see: bool,
) -> list[CheckResult]:
    """Look whether packets of the sources get past the filter.

    Args:
        sources: Addresses that send, as they were named or heard on the wire.
        dropped: Packets that the filter dropped while we listened.
        arrives: Data comes to the receiver.
        can_see: `sources` has all that come to the interface.
    """
    if place.group.version == 6:
        return []
    every = sysctl(proc, "net", "ipv4", "conf", "all", "rp_filter") or 0
    own = sysctl(proc, "net", "ipv4", "conf", interface, "rp_filter") or 0
    mode = max(every, own)
    if not mode or arrives:
        return [ok("rp_filter", f"the reverse path filter of {interface} lets the sender in")]
    said = SAID.get(mode, "loose")
    lost = [result for source in sorted(sources) for result in _judge(source, interface, mode)]
    if lost:
        return lost
    if dropped and not can_see:
        text = f"the {said} reverse path filter dropped {dropped} packets meanwhile"
        return [fail("rp_filter", text, "be content with any way back", _loosen(interface))]
    if sources:
        return [ok("rp_filter", f"the way back to {', '.join(sorted(sources))} is {interface}")]
    return [ok("rp_filter", f"the reverse path filter is {said}, and dropped nothing meanwhile")]


def _judge(source: str, interface: str, mode: int) -> list[CheckResult]:
    """Return why the filter drops packets of a source; nothing if it lets them in."""
    kind, way = route_to(source)
    is_known = kind == RTN_UNICAST
    if kind == RTN_LOCAL or (is_known and (mode != STRICT or way == interface)):
        return []
    back = f"leads by {way}" if is_known and way else "is not known"
    said = SAID.get(mode, "loose")
    text = f"the way back to {source} {back}: the {said} reverse path filter drops its packets"
    if not is_known:
        command = f"ip route add {source} dev {interface}"
        return [fail("rp_filter", text, "add a route to the sender", command)]
    advice = f"be content with any way back, or add a route to it by {interface}"
    return [fail("rp_filter", text, advice, _loosen(interface))]


def _loosen(interface: str) -> str:
    """Return the command that has any way back do.

    The larger setting counts: with 2, strict is over whatever the one for all says.
    """
    return f"sysctl -w net/ipv4/conf/{interface}/rp_filter={LOOSE}"
