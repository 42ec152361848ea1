"""What DNS says: answers and failures of a real server, and hostile ones of fakes."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.machine import FAILURES, NOT_OFFERED, SECOND, DnsAnswer, Resolve
from pgmlite.errors import UsageError
from pgmlite.net import discovery as discovery_module
from pgmlite.net.discovery import Discovery, check_name
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.manifest import Rung
from tests.support.dns_server import DnsServer, asks, fake_server, look_up, need

TXT = '"txtvers=1" "c0=ff3e::9c1f:77a2,5M"'
MANY = range(40)

ZONE = f"""
_pgmlite._udp.fw 120 SRV 0 0 28775 s1
_pgmlite._udp.fw 120 SRV 0 0 28775 s2
_pgmlite._udp.fw 120 SRV 10 0 28775 s3
_pgmlite._udp.fw TXT {TXT} "c1=ff3e::b011:4e02,20M" "d0=232.31.119.162,5M"
_pgmlite._udp.fw TXT "v=spf1 -all"
s1 40 AAAA 2001:db8::1
s1 A 192.0.2.1
s2 AAAA 2001:db8::2
s3 AAAA 2001:db8::3
_pgmlite._udp.alias CNAME _pgmlite._udp.fw
_pgmlite._udp.off SRV 0 0 0 .
_pgmlite._udp.partly SRV 0 0 0 .
_pgmlite._udp.partly SRV 0 0 28775 s1
_pgmlite._udp.partly TXT {TXT}
_pgmlite._udp.ports SRV 0 0 28775 s1
_pgmlite._udp.ports SRV 1 0 28776 s2
_pgmlite._udp.ports TXT {TXT}
_pgmlite._udp.port0 SRV 0 0 0 s1
_pgmlite._udp.port0 TXT {TXT}
_pgmlite._udp.notxt SRV 0 0 28775 s1
_pgmlite._udp.txtonly TXT {TXT}
_pgmlite._udp.nowhere SRV 0 0 28775 nobody
_pgmlite._udp.nowhere TXT {TXT}
_pgmlite._udp.asm SRV 0 0 28775 s1
_pgmlite._udp.asm TXT "txtvers=1" "c0=ff15::1,5M"
_pgmlite._udp.bad SRV 0 0 28775 s1
_pgmlite._udp.bad TXT "txtvers=1" "c0=\\027[31mred,5M"
_pgmlite._udp.four SRV 0 0 28775 s1
_pgmlite._udp.four TXT "txtvers=1" "d0=232.31.119.162,5M"
_pgmlite._udp.mixed SRV 0 0 28775 only4
_pgmlite._udp.mixed TXT {TXT} "d0=232.31.119.162,5M"
_pgmlite._udp.lame SRV 0 0 28775 host.broken.example.
_pgmlite._udp.lame SRV 1 0 28775 s2
_pgmlite._udp.lame TXT {TXT}
_pgmlite._udp.allame SRV 0 0 28775 host.broken.example.
_pgmlite._udp.allame TXT {TXT}
_pgmlite._udp.odd SRV 0 0 28775 odd
_pgmlite._udp.odd TXT {TXT}
odd AAAA ff02::1
odd AAAA fe80::1
odd AAAA ::ffff:192.0.2.1
odd AAAA ::
odd AAAA 2001:db8::77
only4 A 192.0.2.4
host A 192.0.2.9
host A 192.0.2.8
host A 255.255.255.255
""" + "".join(
    f"_pgmlite._udp.many SRV 0 1 28775 a-host-with-quite-a-long-name-{n}\n"
    f"a-host-with-quite-a-long-name-{n} AAAA 2001:db8::1:{n}\n"
    for n in MANY
)
ZONE += f"_pgmlite._udp.many TXT {TXT}\n"

SIX = (
    Rung(5_000_000, Endpoint("ff3e::9c1f:77a2", 28_775)),
    Rung(20_000_000, Endpoint("ff3e::b011:4e02", 28_775)),
)
FOUR = (Rung(5_000_000, Endpoint("232.31.119.162", 28_775)),)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsServer]:
    need()
    with DnsServer(Path(tmp_path_factory.mktemp("knot")), ZONE) as one:
        yield one


def ask(server: DnsServer, name: str, *versions: int) -> DnsAnswer:
    return look_up(server.resolver, f"{name}.example.org", *versions)


# Answers.


def test_a_service_has_its_sources_by_priority_and_its_channels(server: DnsServer) -> None:
    # spec: DNS-1, DNS-3
    found = ask(server, "fw")
    assert not found.failure
    assert [set(tier) for tier in found.tiers] == [{"2001:db8::1", "2001:db8::2"}, {"2001:db8::3"}]
    assert found.ladder == SIX
    assert found.ttl == 40 * SECOND, "the smallest of all records"
    assert found.is_whole
    assert not found.is_authentic


def test_an_alias_is_followed(server: DnsServer) -> None:
    # spec: DNS-1
    found = ask(server, "alias")
    assert found.name == "alias.example.org"
    assert found.ladder == SIX
    assert len(found.tiers) == 2


def test_forty_targets_come_by_tcp(server: DnsServer) -> None:
    found = ask(server, "many")
    assert set(found.tiers[0]) == {f"2001:db8::1:{n}" for n in MANY}


@pytest.mark.parametrize(
    ("name", "versions", "ladder", "addresses"),
    [
        ("fw", (6, 4), SIX, {"2001:db8::1", "2001:db8::2"}),
        ("fw", (4,), FOUR, {"192.0.2.1"}),
        ("four", (6, 4), FOUR, {"192.0.2.1"}),
        ("mixed", (6, 4), FOUR, {"192.0.2.4"}),
    ],
)
def test_one_kind_of_ip_is_used(
    server: DnsServer, name: str, versions: tuple[int, ...], ladder: object, addresses: set[str]
) -> None:
    # spec: DNS-4
    found = ask(server, name, *versions)
    assert found.ladder == ladder
    assert set(found.tiers[0]) == addresses


def test_the_kind_of_ip_stays(server: DnsServer) -> None:
    # spec: DNS-4
    discovery = Discovery((6, 4), server.resolver)
    try:
        for name, failure in (("mixed", ""), ("odd", "group"), ("mixed", "")):
            discovery.add(Resolve(f"{name}.example.org", is_service=True))
            while not (found := discovery.take()):
                time.sleep(0.01)
            assert found[0].failure == failure, found
    finally:
        discovery.close()


def test_addresses_that_nobody_sends_from_are_ignored(server: DnsServer) -> None:
    # spec: DNS-4
    assert ask(server, "odd").tiers == (("2001:db8::77",),)


def test_one_port_is_heard(server: DnsServer) -> None:
    # spec: DNS-2
    assert ask(server, "ports").tiers == (("2001:db8::1",),)


def test_a_dot_beside_a_target_is_none(server: DnsServer) -> None:
    assert ask(server, "partly").tiers == (("2001:db8::1",),)


def test_a_host_has_addresses(server: DnsServer) -> None:
    # spec: DNS-1
    found = look_up(server.resolver, "host.example.org", 4, is_service=False)
    assert set(found.tiers[0]) == {"192.0.2.8", "192.0.2.9"}
    assert found.ladder == ()
    assert found.ttl == 60 * SECOND


def test_a_target_that_fails_leaves_its_place_empty(server: DnsServer) -> None:
    # spec: DNS-8
    found = ask(server, "lame")
    assert found.tiers == ((), ("2001:db8::2",))
    assert not found.is_whole
    assert not found.failure


# Failures, and their words.


@pytest.mark.parametrize(
    ("name", "failure", "words"),
    [
        ("nothing", "nxdomain", "_pgmlite._udp.nothing.example.org: DNS has no such name"),
        ("txtonly", "no_srv", "no SRV record"),
        ("notxt", "no_txt", "no TXT record of it begins with txtvers=1"),
        ("nowhere", "no_address", "none of its 1 hosts has an IPv6 address"),
        ("asm", "group", "c0 in its TXT record: group ff15::1 is not source-specific"),
        ("bad", "malformed", "c0 in its TXT record is not GROUP,RATE"),
        ("port0", "malformed", "port 0"),
        ("off", NOT_OFFERED, "not offered"),
        ("allame", "servfail", "127.0.0.1: SERVFAIL"),
    ],
)
def test_failures(server: DnsServer, name: str, failure: str, words: str) -> None:
    # spec: DNS-2, DNS-8
    found = ask(server, name)
    assert (found.failure, found.tiers, found.ladder) == (failure, (), ())
    assert failure in FAILURES
    assert words in found.text
    assert found.text.startswith(f"_pgmlite._udp.{name}.example.org: ")
    assert found.text.isprintable(), "spec: DNS-10"


def test_a_name_without_the_kind_of_ip(server: DnsServer) -> None:
    found = ask(server, "four", 6)
    assert (found.failure, found.text.partition(": ")[2]) == (
        "group",
        "its TXT record has no channel for IPv6",
    )


def test_a_zone_that_does_not_load(server: DnsServer) -> None:
    found = look_up(server.resolver, "fw.broken.example")
    assert found.failure == "servfail"
    assert "no DNS server has an answer (127.0.0.1: SERVFAIL)" in found.text


def test_a_server_that_refuses(server: DnsServer) -> None:
    found = look_up(server.resolver, "fw.example.com")
    assert found.failure == "servfail"
    assert "REFUSED" in found.text


def test_a_host_without_addresses(server: DnsServer) -> None:
    found = look_up(server.resolver, "host.example.org", 6, is_service=False)
    assert found.failure == "no_address"
    assert found.text == "host.example.org: DNS has no IPv6 address of it"


@pytest.mark.slow
def test_a_first_server_that_is_dead_costs_a_second(server: DnsServer) -> None:
    with fake_server(lambda _: None) as dead:
        found = look_up(lambda: server.resolver(dead), "fw.example.org")
    assert found.ladder == SIX


def test_no_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from pgmlite.net import lookups

    monkeypatch.setattr(lookups, "LIFETIME", 0.3)
    monkeypatch.setattr(lookups, "PATIENCE", 0.1)
    with fake_server(lambda _: None) as dead:
        found = look_up(lambda: asks(dead), "fw.example.org")
    assert found.failure == "timeout"
    assert "no DNS server answered within 0.3 s (127.0.0.1: no answer)" in found.text


def test_a_machine_without_a_server() -> None:
    def none() -> dns.asyncresolver.Resolver:
        raise dns.resolver.NoResolverConfiguration

    found = look_up(none, "fw.example.org")
    assert found.failure == "unreachable"
    assert "this machine has no DNS server" in found.text


# What is asked, and what is not believed.


def test_questions_are_absolute_and_ask_for_authentic_data() -> None:
    # spec: DNS-1, DNS-7
    asked: list[dns.message.Message] = []

    def respond(wire: bytes) -> bytes:
        query = dns.message.from_wire(wire)
        asked.append(query)
        answer = dns.message.make_response(query)
        owner, kind = query.question[0].name, query.question[0].rdtype
        records = {
            dns.rdatatype.SRV: ["0 0 28775 s1.example.org."],
            dns.rdatatype.TXT: [TXT],
            dns.rdatatype.AAAA: ["2001:db8::1"],
        }[kind]
        answer.answer.append(dns.rrset.from_text(owner, 60, "IN", kind, *records))
        answer.flags |= dns.flags.AD
        return answer.to_wire()

    def resolver() -> dns.asyncresolver.Resolver:
        made = asks(fake)
        made.search = [dns.name.from_text("evil.example")]
        return made

    with fake_server(respond) as fake:
        found = look_up(resolver, "fw")
    assert found.is_authentic
    names = {str(query.question[0].name) for query in asked}
    assert names == {"_pgmlite._udp.fw.", "s1.example.org."}
    for query in asked:
        assert query.flags & dns.flags.AD
        assert query.ednsflags & dns.flags.DO


def test_one_record_that_is_not_authentic_is_enough() -> None:
    # spec: DNS-7
    def respond(wire: bytes) -> bytes:
        query = dns.message.from_wire(wire)
        answer = dns.message.make_response(query)
        owner, kind = query.question[0].name, query.question[0].rdtype
        text = {dns.rdatatype.SRV: "0 0 28775 s1.", dns.rdatatype.TXT: TXT}.get(kind, "2001:db8::1")
        answer.answer.append(dns.rrset.from_text(owner, 60, "IN", kind, text))
        if kind is not dns.rdatatype.AAAA:
            answer.flags |= dns.flags.AD
        return answer.to_wire()

    with fake_server(respond) as fake:
        assert not look_up(lambda: asks(fake), "fw").is_authentic


def flood(query: dns.message.Message) -> dns.message.Message:
    """Return an answer with more of everything than anybody needs."""
    answer = dns.message.make_response(query)
    owner, kind = query.question[0].name, query.question[0].rdtype
    many = {
        dns.rdatatype.SRV: [f"{n // 10} 0 28775 h{n}." for n in range(500)],
        dns.rdatatype.TXT: [TXT],
        dns.rdatatype.AAAA: [f"2001:db8::{n:x}" for n in range(1, 100)],
    }
    answer.answer.append(dns.rrset.from_text(owner, 2**31 - 1, "IN", kind, *many[kind]))
    return answer


def test_the_numbers_of_an_answer_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # spec: DNS-2
    from pgmlite.net import lookups

    # As long as a busy machine takes: what is bounded here is no time.
    monkeypatch.setattr(lookups, "LIFETIME", 60)
    monkeypatch.setattr(lookups, "PATIENCE", 60)
    questions: list[str] = []

    def respond(wire: bytes) -> bytes:
        query = dns.message.from_wire(wire)
        questions.append(str(query.question[0]))
        return flood(query).to_wire(max_size=65_535)

    with fake_server(respond) as fake:
        found = look_up(lambda: asks(fake), "fw")
    assert len(questions) <= 66
    assert sum(map(len, found.tiers)) == 256
    assert found.ttl == (2**31 - 1) * SECOND


@pytest.mark.parametrize(
    "junk",
    [b"", b"\0", b"\xff" * 12, b"\xc0\x0c" * 300, b"\0" * 512],
    ids=["empty", "short", "header", "loops", "zeros"],
)
def test_junk_is_a_failure(junk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # spec: DNS-10
    from pgmlite.net import lookups

    monkeypatch.setattr(lookups, "LIFETIME", 0.05)
    monkeypatch.setattr(lookups, "PATIENCE", 0.05)
    for head in (0, 2, 12):
        with fake_server(lambda query, head=head: query[:head] + junk) as fake:
            found = look_up(lambda fake=fake: asks(fake), "fw.example.org")  # type: ignore[misc]
        assert found.failure in FAILURES
        assert found.text.isprintable()


@pytest.mark.slow
@given(st.data())
def test_answers_that_are_spoilt_are_answers_or_failures(data: st.DataObject) -> None:
    # spec: DNS-10
    def respond(wire: bytes) -> bytes:
        query = dns.message.from_wire(wire)
        answer = dns.message.make_response(query)
        owner, kind = query.question[0].name, query.question[0].rdtype
        text = {dns.rdatatype.SRV: "0 0 28775 s1.", dns.rdatatype.TXT: TXT}.get(kind, "2001:db8::1")
        answer.answer.append(dns.rrset.from_text(owner, 60, "IN", kind, text))
        octets = bytearray(answer.to_wire())
        for at, value in spoilt:
            octets[12 + at % (len(octets) - 12)] = value
        return bytes(octets)

    places = st.tuples(st.integers(0, 500), st.integers(0, 255))
    spoilt = data.draw(st.lists(places, min_size=1, max_size=4))
    patch = pytest.MonkeyPatch()
    with patch.context() as monkeypatch, fake_server(respond) as fake:
        from pgmlite.net import lookups

        monkeypatch.setattr(lookups, "LIFETIME", 0.03)
        monkeypatch.setattr(lookups, "PATIENCE", 0.05)
        found = look_up(lambda: asks(fake), "fw")
    assert not found.failure or found.failure in FAILURES
    assert found.text.isprintable()


# The thread.


def test_it_ends_at_once_whatever_is_under_way() -> None:
    before = threading.active_count()
    with fake_server(lambda _: None) as dead:
        discovery = Discovery((6,), lambda: asks(dead))
        discovery.add(Resolve("fw.example.org", is_service=True))
        began = time.monotonic()
        discovery.close()
        assert time.monotonic() - began < 4, "a question is given 5 s"
    assert threading.active_count() == before
    assert discovery.fds == ()
    discovery.close()


def test_without_a_name_there_is_no_thread() -> None:
    before = threading.active_count()
    discovery = Discovery((6,))
    assert (discovery.fds, discovery.take()) == ((), [])
    assert threading.active_count() == before
    discovery.close()


# Names that a user gives.


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("fw.example.org", "fw.example.org"),
        ("fw.example.org.", "fw.example.org"),
        ("fw", "fw"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a\x1b[31m.example", "a\\027[31m.example"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert check_name("name", text) == name


@pytest.mark.parametrize("text", ["", ".", "a..b", "x" * 64, ".".join(["x" * 60] * 4), "::1"])
def test_names_that_there_can_not_be(text: str) -> None:
    with pytest.raises(UsageError, match=r"^name "):
        check_name("name", text)


def test_names_need_dnspython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dns.exception", None)
    with pytest.raises(UsageError, match=r"pip install 'pgmlite\[dns\]'"):
        check_name("name", "fw.example.org")


def test_the_servers_are_those_of_the_machine_now() -> None:
    first, second = discovery_module.system_resolver(), discovery_module.system_resolver()
    assert first is not second
