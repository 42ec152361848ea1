"""`doctor NAME`: what DNS says, from a real server, and what is looked at then."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgmlite.core.machine import FAILURES, SECOND, DnsAnswer
from pgmlite.net import discovery
from pgmlite.net.doctor import names
from pgmlite.net.doctor.names import ADVICE, check_names, place_by
from pgmlite.net.doctor.place import Asked
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.manifest import Rung
from tests.support.dns_server import DnsServer, asks, free_port, need
from tests.support.loopback import LO, Cli, Inside, Running, make_file

PORT = random.randint(20_000, 32_000)
GROUP = f"232.{random.randint(1, 255)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
ZONE = f"""
_pgmlite._udp.fw SRV 0 0 {PORT} s1
_pgmlite._udp.fw TXT "txtvers=1" "d0={GROUP},5M"
_pgmlite._udp.bare SRV 0 0 {PORT} s1
_pgmlite._udp.off SRV 0 0 0 .
s1 A 127.0.0.1
six AAAA 2001:db8::1
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsServer]:
    need()
    with DnsServer(Path(tmp_path_factory.mktemp("knot")), ZONE) as one:
        yield one


@pytest.fixture
def doctor(server: DnsServer, monkeypatch, capfd) -> Inside:
    """The command line, where names are looked up at the test's server."""
    use(monkeypatch, server.resolver)
    return Inside(monkeypatch, capfd)


def use(monkeypatch, resolver) -> None:
    monkeypatch.setattr(
        names, "Discovery", lambda versions: discovery.Discovery(versions, resolver)
    )


def about(events: list[dict], cause: str) -> dict:
    (one,) = [event for event in events if event.get("cause") == cause]
    return one


@pytest.mark.slow
def test_a_name_leads_to_data(tmp_path: Path, doctor: Inside) -> None:
    source = make_file(tmp_path / "source", 50_000)
    flags = ("-g", GROUP, "-p", PORT, "-i", LO, "-r", "5M", "--source", "127.0.0.1", "--json")
    with Running("send", source, *flags) as sender:
        sender.event("progress")
        by_name = doctor("doctor", "fw.example.org", "-i", LO, "--seconds", 1, "--json")
        by_host = doctor(
            *("doctor", "-g", GROUP, "-p", PORT, "-i", LO, "--source", "s1.example.org"),
            *("--seconds", 1, "--json"),
        )
    assert (by_name.code, by_host.code) == (0, 0)
    assert by_name.events[0]["name"] == "fw.example.org"
    said = about(by_name.events, "dns")
    assert said["state"] == "ok"
    assert f"fw.example.org is sent by 127.0.0.1; its group is {GROUP}:{PORT}" in said["text"]
    assert about(by_host.events, "dns")["text"].startswith("s1.example.org is sent by 127.0.0.1")


@pytest.mark.parametrize(
    ("words", "text", "advice"),
    [
        (["no.example.org"], "_pgmlite._udp.no.example.org: DNS has no such name", "--print-dns"),
        (["bare.example.org"], "_pgmlite._udp.bare.example.org: ", "--print-dns"),
        (["off.example.org"], "says that it is not offered", "withdrawn"),
        (["x.broken.example"], "_pgmlite._udp.x.broken.example: ", "/etc/resolv.conf"),
        (
            ["-g", GROUP, "--source", "six.example.org"],
            "six.example.org: DNS has no IPv4 address of it",
            "addresses of a kind",
        ),
    ],
    ids=str,
)
def test_names_that_lead_nowhere(doctor: Inside, words: list[str], text: str, advice: str) -> None:
    ended = doctor("doctor", *words, "-i", LO, "--seconds", 1, "--json")
    assert (ended.code, ended.error) == (5, "pgmlite: no data arrives: dns")
    said = about(ended.events, "dns")
    assert said["state"] == "fail"
    assert text in said["text"]
    assert advice in said["advice"]


def test_a_server_that_is_not_there(monkeypatch, capfd) -> None:
    use(monkeypatch, lambda: asks(("127.0.0.1", free_port())))
    monkeypatch.setattr("pgmlite.net.lookups.LIFETIME", 0.2)
    ended = Inside(monkeypatch, capfd)("doctor", "fw.example.org", "-i", LO, "--json")
    assert (ended.code, about(ended.events, "dns")["state"]) == (5, "fail")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["fw.example.org", "-g", "239.1.1.1"], "name fw.example.org"),
        (["fw.example.org", "-p", "5"], "name fw.example.org"),
        (["127.0.0.1"], "127.0.0.1"),
        (["x" * 70], "xxx"),
    ],
    ids=str,
)
def test_names_that_are_none(monkeypatch, capsys, words: list[str], named: str) -> None:
    code, error = Cli(monkeypatch, capsys).refuse("doctor", *words)
    assert code == 2
    assert named in error


def test_there_is_advice_for_every_failure() -> None:
    assert ADVICE.keys() == FAILURES.keys()


LADDER = (Rung(1, Endpoint("ff3e::8000:1", 7)), Rung(9, Endpoint("ff3e::8000:2", 7)))


def test_the_lowest_channel_and_the_best_sources_are_looked_at() -> None:
    tiers = (tuple(f"2001:db8::{number:x}" for number in range(1, 90)), ("2001:db8::ffff",))
    answer = DnsAnswer(name="fw.x", tiers=tiers, ladder=LADDER, ttl=60 * SECOND)
    place = place_by(Asked(None, service="fw.x"), {"fw.x": answer})
    assert place
    assert (str(place.group), place.port) == ("ff3e::8000:1", 7)
    assert len(place.sources) == 64
    assert ipaddress.ip_address("2001:db8::ffff") not in place.sources
    (said,) = check_names({"fw.x": answer})
    assert "and 85 more, or else 2001:db8::ffff" in said.text
    assert "the lowest of its channels is [ff3e::8000:1]:7; asked again in 60 s" in said.text
