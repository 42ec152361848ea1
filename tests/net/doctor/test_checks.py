"""Checks of the interface, the group, the versions, the routes and the machine."""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.figures import CheckResult
from pgmlite.net.doctor import routes
from pgmlite.net.doctor.groups import check_group
from pgmlite.net.doctor.host import check_buffer, check_clock
from pgmlite.net.doctor.interfaces import Interface, check_family, check_interface, interfaces
from pgmlite.net.doctor.names import place_by
from pgmlite.net.doctor.place import Place, asked_for_group
from pgmlite.net.doctor.routes import check_reverse_path, parse_route
from pgmlite.net.doctor.system import counter, igmp_versions, read_number
from pgmlite.net.doctor.tap import Query
from pgmlite.net.doctor.versions import check_querier, check_version

BOTH = frozenset({int(socket.AF_INET), int(socket.AF_INET6)})
FLAGS = frozenset({"up", "running", "multicast", "broadcast"})


def place(group: str = "ff15::1", interface: str | None = None, *sources: str) -> Place:
    asked = asked_for_group(group, 28_775, interface, sources)
    found = place_by(asked, {})
    assert found
    return found


def machine(*named: Interface) -> dict[str, Interface]:
    return {one.name: one for one in named}


def interface(
    name: str = "eth0", flags: frozenset[str] = FLAGS, families: frozenset[int] = BOTH
) -> Interface:
    return Interface(name, 7, flags, families)


LO = interface("lo", FLAGS - {"multicast"} | {"loopback"})


def only(results: list[CheckResult]) -> tuple[str, str, str, str]:
    """Return what the only result says: state, text, advice and command."""
    (one,) = results
    return one.state, one.text, one.advice, one.command


@pytest.mark.parametrize(
    ("named", "known", "state", "words", "command"),
    [
        ("eth0", [interface()], "ok", "eth0 is up", ""),
        (None, [interface(), LO], "ok", "eth0 is up", ""),
        ("nosuch", [interface(), LO], "fail", "this machine has eth0, lo", ""),
        (None, [interface(), interface("eth1")], "fail", "eth0, eth1 could all carry", ""),
        (None, [LO], "fail", "none is up that carries multicast and has an IPv6", ""),
        ("eth0", [interface(flags=FLAGS - {"up"})], "fail", "is down", "ip link set eth0 up"),
        ("eth0", [interface(flags=FLAGS - {"running"})], "fail", "has no link", ""),
        (
            "eth0",
            [interface(flags=FLAGS - {"multicast"})],
            "fail",
            "carries no multicast",
            "ip link set eth0 multicast on",
        ),
        ("lo", [LO], "warn", "this machine alone", ""),
    ],
)
def test_interfaces(
    named: str | None, known: list[Interface], state: str, words: str, command: str
) -> None:
    said = only(check_interface(place("ff15::1", named), machine(*known)))
    assert (said[0], said[3]) == (state, command)
    assert words in said[1]


def test_interfaces_of_this_machine() -> None:
    lo = interfaces()["lo"]
    assert lo.is_loopback
    assert lo.index == socket.if_nametoindex("lo")


def test_address_families() -> None:
    four = frozenset({int(socket.AF_INET)})
    known = machine(interface(families=four))
    state, text, advice, _ = only(check_family(place("ff15::1", "eth0"), known))
    assert (state, "eth0 has no IPv6 address" in text, "IPv4 group" in advice) == (
        "fail",
        True,
        True,
    )
    assert check_family(place("239.1.1.1", "eth0"), known) == []
    mixed = check_family(place("239.1.1.1", "eth0", "10.0.0.1", "fd01::1"), known)
    state, text, *_ = only(mixed)
    assert (state, "source fd01::1 is IPv6, group 239.1.1.1 is IPv4" in text) == ("fail", True)


@pytest.mark.parametrize(
    ("group", "sources", "state", "words"),
    [
        ("10.0.0.1", (), "fail", "not a multicast address"),
        ("ff01::1", (), "fail", "never leave"),
        ("ff02::1", (), "ok", "reaches one link"),
        ("ff15::1", (), "ok", "reaches one site; routers need a rendezvous point"),
        ("ff19::1", (), "ok", "reaches scope 9"),
        ("224.0.0.9", (), "ok", "for one link"),
        ("239.1.1.1", (), "ok", "routers need a rendezvous point"),
        ("ff3e::8000:1", (), "fail", "source-specific, and no source is named"),
        ("ff3e::8000:1", ("fd01::1",), "ok", "no more than its source"),
        ("ff3e::1", ("fd01::1",), "fail", "8000:0000"),
        ("232.1.1.1", (), "fail", "source-specific, and no source is named"),
        ("232.1.1.1", ("10.0.0.1",), "ok", "no more than its source"),
    ],
)
def test_groups(group: str, sources: tuple[str, ...], state: str, words: str) -> None:
    said = only(check_group(place(group, None, *sources)))
    assert said[0] == state
    assert words in said[1]
    assert bool(said[2]) == (state == "fail")


# MLD and IGMP.


def proc(root: Path, **files: str) -> Path:
    """Write files under a folder that stands for ``/proc``; two underscores are a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MLD_ALL, MLD = (f"sys__net__ipv6__conf__{one}__force_mld_version" for one in ("all", "eth0"))
IGMP_ALL, IGMP = (f"sys__net__ipv4__conf__{one}__force_igmp_version" for one in ("all", "eth0"))


@pytest.mark.parametrize(
    ("group", "files", "state", "words"),
    [
        ("ff3e::8000:1", {}, "ok", "no old MLD"),
        ("ff3e::8000:1", {MLD: "0\n", MLD_ALL: "0\n"}, "ok", "no old MLD"),
        ("ff3e::8000:1", {MLD: "1\n"}, "fail", "net/ipv6/conf/eth0/force_mld_version=0"),
        ("ff3e::8000:1", {MLD_ALL: "1\n"}, "fail", "net/ipv6/conf/all/force_mld_version=0"),
        ("ff3e::8000:1", {MLD: "1\n", MLD_ALL: "2\n"}, "ok", "MLDv2 is forced"),
        ("ff3e::8000:1", {MLD: "rubbish"}, "ok", "no old MLD"),
        ("232.1.1.1", {IGMP: "2\n"}, "fail", "net/ipv4/conf/eth0/force_igmp_version=0"),
        ("232.1.1.1", {IGMP: "2\n", IGMP_ALL: "3\n"}, "fail", "conf/eth0/force_igmp_version=0"),
        ("232.1.1.1", {"net__igmp": "Idx\n2\teth0 : 1 V2\n"}, "fail", "since a querier"),
        ("232.1.1.1", {"net__igmp": "Idx\n2\teth0 : 1 V3\n"}, "ok", "IGMPv3"),
        ("232.1.1.1", {}, "ok", "IGMPv3"),
    ],
)
def test_versions(
    tmp_path: Path, group: str, files: dict[str, str], state: str, words: str
) -> None:
    source = "10.0.0.1" if "." in group else "fd01::1"
    where = place(group, None, source)
    said = only(check_version(where, "eth0", proc(tmp_path, **files), arrives=False))
    assert said[0] == state
    assert words in said[1] + said[3]
    if state == "fail":
        any_source = only(
            check_version(
                place("ff15::1" if ":" in group else "239.1.1.1"), "eth0", tmp_path, arrives=False
            )
        )
        here = only(check_version(where, "eth0", tmp_path, arrives=True))
        assert (any_source[0], here[0]) == ("warn", "warn")


def test_what_proc_net_igmp_says(tmp_path: Path) -> None:
    text = (
        "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
        "1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"
        "2\teth0.5    :     2      V2\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"
        "x\n: : :\n3\teth1 :\n4\teth2 : 1 V9\n5 a b : 1 V2\n"
    )
    assert igmp_versions(proc(tmp_path, net__igmp=text)) == {"lo": 3, "eth0.5": 2}
    assert igmp_versions(tmp_path / "nothing") == {}


NEW, OLD = Query("mld", 2, "fe80::1"), Query("mld", 1, "fe80::2")


@pytest.mark.parametrize(
    ("queries", "seconds", "arrives", "why", "state"),
    [
        ([NEW], 10, False, "", "ok"),
        ([NEW, OLD], 10, False, "", "fail"),
        ([NEW, OLD], 10, True, "", "warn"),
        ([Query("igmp", 2, "10.0.0.1")], 10, False, "", "warn"),
        ([], 10, False, "", "warn"),
        ([], 10, True, "", "ok"),
        ([], 130, True, "", "warn"),
        ([], 10, False, "only root may", "warn"),
    ],
)
def test_queriers(
    queries: list[Query], seconds: float, arrives: bool, why: str, state: str
) -> None:
    where = place("ff3e::8000:1", None, "fd01::1")
    said = only(check_querier(where, queries, seconds, arrives=arrives, why=why))
    assert said[0] == state


def test_who_can_not_listen_is_not_bothered_where_data_arrives() -> None:
    assert check_querier(place(), [], 10, arrives=True, why="only root may") == []


# The reverse path.


RP_ALL, RP = (f"sys__net__ipv4__conf__{one}__rp_filter" for one in ("all", "eth0"))


@pytest.mark.parametrize(
    ("every", "own", "route", "state", "words"),
    [
        (0, 0, (1, "eth1"), "ok", "lets the sender in"),
        (1, 0, (1, "eth0"), "ok", "the way back to 10.0.0.1 is eth0"),
        (1, 0, (1, "eth1"), "fail", "leads by eth1: the strict"),
        (0, 1, (1, "eth1"), "fail", "net/ipv4/conf/eth0/rp_filter=2"),
        (1, 2, (1, "eth1"), "ok", "the way back"),
        (0, 2, (0, ""), "fail", "is not known: the loose"),
        (1, 0, (0, ""), "fail", "ip route add 10.0.0.1 dev eth0"),
        (1, 0, (2, "lo"), "ok", "the way back"),
    ],
)
def test_the_reverse_path(
    tmp_path: Path,
    monkeypatch,
    every: int,
    own: int,
    route: tuple[int, str],
    state: str,
    words: str,
) -> None:
    monkeypatch.setattr(routes, "route_to", lambda address: route)
    root = proc(tmp_path, **{RP_ALL: f"{every}\n", RP: f"{own}\n"})
    four = place("239.1.1.1")
    said = only(
        check_reverse_path(four, "eth0", ["10.0.0.1"], 0, root, arrives=False, can_see=True)
    )
    assert said[0] == state
    assert words in said[1] + said[3]
    here = check_reverse_path(four, "eth0", ["10.0.0.1"], 9, root, arrives=True, can_see=True)
    assert only(here)[0] == "ok"


def test_the_counter_of_the_filter_is_evidence_where_nothing_else_is(tmp_path: Path) -> None:
    root = proc(tmp_path, **{RP_ALL: "1", RP: "0"})
    four = place("239.1.1.1")
    for dropped, can_see, state in ((9, False, "fail"), (9, True, "ok"), (0, False, "ok")):
        said = check_reverse_path(four, "eth0", [], dropped, root, arrives=False, can_see=can_see)
        assert only(said)[0] == state
    assert check_reverse_path(place(), "eth0", [], 9, root, arrives=False, can_see=False) == []


def test_counters(tmp_path: Path) -> None:
    text = "TcpExt: A IPReversePathFilter B\nTcpExt: 1 42 3\nIpExt: A\nIpExt: 5\n"
    root = proc(tmp_path, net__netstat=text)
    assert routes.dropped_by_filter(root) == 42
    assert (counter(root, "IpExt", "A"), counter(root, "IpExt", "B")) == (5, 0)
    for odd in ("", "TcpExt: IPReversePathFilter\n", "TcpExt: IPReversePathFilter\nTcpExt:\n"):
        assert routes.dropped_by_filter(proc(tmp_path, net__netstat=odd)) == 0
    assert routes.dropped_by_filter(Path("/proc")) >= 0


@pytest.mark.slow
@given(st.text(max_size=200))
def test_any_file_is_read(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.getbasetemp()
    (root / "net").mkdir(exist_ok=True)
    for name in ("igmp", "netstat"):
        (root / "net" / name).write_text(text)
    igmp_versions(root)
    counter(root, "TcpExt", "IPReversePathFilter")
    assert isinstance(read_number(root / "net" / "igmp"), int | None)


def attribute(kind: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, kind, value)


def answer(kind: int, *attributes: bytes, message: int = 24) -> bytes:
    route = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 0, 0, kind, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(route), message, 0, 1, 0) + route


def test_routes() -> None:
    lo = attribute(4, socket.if_nametoindex("lo"))
    assert parse_route(answer(1, attribute(1, 5), lo)) == (1, "lo")
    assert parse_route(answer(2, lo)) == (2, "lo")
    assert parse_route(answer(1, attribute(4, 1 << 30))) == (1, "")
    assert parse_route(answer(1)) == (1, "")
    assert parse_route(answer(1, lo, message=2)) == (0, "")
    assert parse_route(answer(1, bytes(8), lo)) == (1, "")
    assert parse_route(b"") == (0, "")
    assert routes.route_to("127.0.0.1") == (2, "lo")
    assert sys.byteorder in {"little", "big"}


# The machine.


@pytest.mark.parametrize(
    ("granted", "wanted", "rate", "state"),
    [
        (256 << 20, 256 << 20, None, "ok"),
        (208 << 10, 256 << 20, None, "warn"),
        (208 << 10, 256 << 20, 10_000_000, "ok"),
        (208 << 10, 256 << 20, 100_000_000, "warn"),
        (4 << 20, 4 << 20, 10_000_000_000, "ok"),
        (2 << 20, 256 << 20, 0, "ok"),
    ],
)
def test_buffers(granted: int, wanted: int, rate: int | None, state: str) -> None:
    said = only(check_buffer(granted, wanted, rate))
    assert said[0] == state
    assert said[3] == (f"sysctl -w net.core.rmem_max={wanted}" if state == "warn" else "")


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(0, "warn"), (1.7e9, "warn"), (1.8e9, "ok"), (1e30, "warn"), (float("nan"), "warn")],
)
def test_clocks(seconds: float, state: str) -> None:
    assert only(check_clock(seconds))[0] == state
