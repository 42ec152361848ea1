"""What TXT records say of channels, and the lines of a zone that say it."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.config import MAX_RATE, MIN_RATE
from pgmlite.core.machine import FAILURES
from pgmlite.errors import NetworkError, UsageError
from pgmlite.net import zone as zone_module
from pgmlite.net.address import usable_versions
from pgmlite.net.groups import check_group, is_source_specific
from pgmlite.net.records import BadRecords, rate_text, read_txt, txt_strings
from pgmlite.net.zone import draw_group, zone_lines
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.manifest import Rung
from tests.support.dns_server import DnsServer, look_up, need
from tests.support.loopback import Inside

A, B = "ff3e::9c1f:77a2", "ff3e::b011:4e02"
PORT = 28_775


def read(*strings: str, version: int = 6) -> tuple[Rung, ...]:
    return read_txt([[one.encode("latin-1") for one in ("txtvers=1", *strings)]], version, PORT)


def groups(*strings: str, version: int = 6) -> list[str]:
    return [rung.group.address for rung in read(*strings, version=version)]


# Reading.


def test_channels_have_a_group_a_rate_and_the_port_of_the_service() -> None:
    # spec: DNS-3
    found = read(f"c0={A},5M", f"c1={B},20M", "d0=232.1.2.3,64000")
    assert found == (Rung(5_000_000, Endpoint(A, PORT)), Rung(20_000_000, Endpoint(B, PORT)))
    (four,) = read(f"c0={A},5M", "d0=232.1.2.3,64000", version=4)
    assert four == Rung(64_000, Endpoint("232.1.2.3", PORT))


def test_strings_are_keys_and_values() -> None:
    # spec: DNS-3
    assert groups("C0=" + A + ",5M") == [A], "case does not matter"
    assert groups(f"c0={A},5M", f"c0={B},5M") == [A], "the first of equal keys counts"
    assert groups("k=sha256:00", "flag", "", "=x", f"\xff\x00={B},5M", f"c0={A},5M") == [A]
    assert groups(f"c0={A},5M", f"c2={B},6M") == [A], "what comes after a gap is ignored"
    assert groups(f"c1={A},5M") == []
    assert groups("c0=FF3E:0:0::9C1F:77A2,5M") == [A], "an address has one form here"


def test_one_record_is_ours() -> None:
    # spec: DNS-3
    ours, other = [b"txtvers=1", f"c0={A},5M".encode()], [b"v=spf1 -all"]
    assert read_txt([other, ours, []], 6, PORT)
    assert read_txt([[b"TxtVers=1", ours[1]]], 6, PORT)
    for records in ([], [other], [[]], [[ours[1], ours[0]]], [[b"txtvers=2", ours[1]]]):
        with pytest.raises(BadRecords, match="no TXT record") as caught:
            read_txt(records, 6, PORT)
        assert caught.value.cause == "no_txt"
    with pytest.raises(BadRecords, match="2 TXT records"):
        read_txt([ours, ours], 6, PORT)


@pytest.mark.parametrize(
    ("strings", "cause", "words"),
    [
        ([f"c0={A}"], "malformed", "c0 in its TXT record is not GROUP,RATE"),
        ([f"c0={A},"], "malformed", "not GROUP,RATE"),
        ([f"c0={A},5m"], "malformed", "not GROUP,RATE"),
        ([f"c0={A},5.5M"], "malformed", "not GROUP,RATE"),
        ([f"c0={A},-5M"], "malformed", "not GROUP,RATE"),
        ([f"c0={A},5M,x"], "malformed", "not GROUP,RATE"),
        ([f"c0={A}%eth0,5M"], "malformed", "not GROUP,RATE"),
        (["c0=\x1b[2Jx,5M"], "malformed", "not GROUP,RATE"),
        (["c0=::::,5M"], "malformed", "c0 in its TXT record has no address"),
        ([f"c0={A},1"], "malformed", "the rate of c0"),
        ([f"c0={A},999999999999G"], "malformed", "the rate of c0"),
        ([f"c0={A},5M", f"c1={B},5M"], "malformed", "rates in its TXT record do not rise"),
        ([f"c0={A},5M", f"c1={A},6M"], "malformed", "two channels"),
        (["c0=232.1.2.3,5M"], "group", "c0 in its TXT record is not of IPv6"),
        (["c0=ff15::7067:6d,5M"], "group", "ff15::7067:6d is not source-specific"),
        (["c0=2001:db8::1,5M"], "group", "is not source-specific"),
        (["c0=ff3e:40::9c1f:77a2,5M"], "group", "is not source-specific"),
        (["c0=ff3e::1,5M"], "group", "source-specific groups end in 8000:0000"),
        (["c0=ff31::9c1f:77a2,5M"], "group", "never leave this machine"),
    ],
)
def test_what_can_not_be(strings: list[str], cause: str, words: str) -> None:
    # spec: DNS-3
    with pytest.raises(BadRecords, match=words) as caught:
        read(*strings)
    assert caught.value.cause == cause
    assert cause in FAILURES


def why_not(strings: list[bytes]) -> BadRecords | None:
    try:
        read_txt([strings], 6, PORT)
    except BadRecords as error:
        return error
    return None


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_whatever_they_say_it_is_read_or_refused(strings: list[bytes]) -> None:
    # spec: DNS-10
    for head in ([], [b"txtvers=1"]):
        for key in (b"", b"c0=", b"c0=ff3e::9c1f:77a2,"):
            failure = why_not([*head, *(key + one for one in strings)])
            assert failure is None or failure.cause in FAILURES
            assert str(failure).isprintable()


# Writing.


@given(st.integers(MIN_RATE, MAX_RATE))
def test_rates_are_exact(rate: int) -> None:
    ((found),) = read(f"c0={A},{rate_text(rate)}")
    assert found.rate == rate


def test_what_is_written_is_read() -> None:
    strings = txt_strings([(A, 5_000_000), ("232.1.2.3", 5_000_000), (B, 20_000_000)])
    assert strings == ["txtvers=1", f"c0={A},5M", "d0=232.1.2.3,5M", f"c1={B},20M"]
    assert groups(*strings[1:]) == [A, B]


@pytest.mark.parametrize("version", [6, 4])
def test_groups_that_are_drawn_are_for_hosts_to_choose(version: int) -> None:
    rng = Random(1)
    drawn = {draw_group(version, rng) for _ in range(200)}
    assert len(drawn) == 200
    for group in drawn:
        assert is_source_specific(group)
        check_group(ipaddress.ip_address(group), is_loopback=False)
        assert not group.startswith("232.0.0.")


def lines(name: str, *channels: tuple[str | None, int], **more: str) -> list[str]:
    where = {"interface": "lo", "source": None} | more
    return zone_lines(name, channels, port=PORT, rng=Random(1), **where)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["2001:db8::7", "192.0.2.7"])
def test_a_zone_that_is_printed_is_found(source: str, tmp_path: Path) -> None:
    # spec: DNS-1, DNS-2, DNS-3
    need()
    printed = lines("fw.example.org", (None, 20_000_000), (None, 5_000_000), source=source)
    with DnsServer(tmp_path, "\n".join(printed) + "\n") as server:
        found = look_up(server.resolver, "fw.example.org")
    assert found.tiers == ((source,),)
    assert [rung.rate for rung in found.ladder] == [5_000_000, 20_000_000]
    assert {rung.group.port for rung in found.ladder} == {PORT}
    for rung in found.ladder:
        assert f"--channel {rung.group.address},{rate_text(rung.rate)}" in printed[-1]


def test_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone_module.socket, "gethostname", lambda: "s1")
    assert lines("fw.example.org", (A, 5_000_000), source="2001:DB8::7") == [
        f"_pgmlite._udp.fw.example.org. 300 IN SRV 0 0 {PORT} s1.fw.example.org.",
        f'_pgmlite._udp.fw.example.org. 300 IN TXT "txtvers=1" "c0={A},5M"',
        "s1.fw.example.org. 300 IN AAAA 2001:db8::7",
        f"; pgmlite send FILE -g {A} -r 5M -p {PORT} --source 2001:db8::7",
    ]
    assert lines("fw.example.org.", ("232.1.2.3", 5_000_000))[2].endswith(" A 127.0.0.1")
    monkeypatch.setattr(zone_module.socket, "gethostname", lambda: "s1.example.net")
    assert " s1.example.net." in lines("fw", (A, 5_000_000), source="2001:db8::7")[0]
    monkeypatch.setattr(zone_module.socket, "gethostname", lambda: "böse host")
    assert " sender.fw." in lines("fw", (A, 5_000_000), source="2001:db8::7")[0]


@pytest.mark.parametrize(
    ("name", "channels", "more", "words"),
    [
        ("", [(A, 1)], {}, "give one such as"),
        ("a..b", [(A, 1)], {}, "give one such as"),
        ("bücher.example", [(A, 1)], {}, "in ASCII"),
        ("x." * 120 + "x", [(A, 1)], {}, "give one such as"),
        ("fw", [("ff15::1", 1)], {}, "is not source-specific"),
        ("fw", [("ff3e::1", 1)], {}, "8000:0"),
        ("fw", [("nonsense", 1)], {}, "not an IPv4 or IPv6 address"),
        ("fw", [(A, 1)], {"source": "192.0.2.1"}, "all of one kind of IP"),
        ("fw", [(A, 1), ("232.1.2.3", 2)], {"source": "192.0.2.1"}, "all of one kind of IP"),
        ("fw", [(None, 1)] * 7, {}, "7 channels"),
        ("fw", [(A, 1)], {"source": "ff02::1"}, "not the address of one machine"),
    ],
)
def test_zones_that_there_can_not_be(
    name: str, channels: list[tuple[str | None, int]], more: dict[str, str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        lines(name, *channels, **more)


def test_the_loopback_interface_hears_by_ipv4() -> None:
    # spec: DNS-4
    assert usable_versions("lo") == ("lo", (4,))
    with pytest.raises(NetworkError, match="none0"):
        usable_versions("none0")


# The command line.


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inside:
    return Inside(monkeypatch, capfd)


def test_send_prints_a_zone_and_sends_nothing(inside: Inside) -> None:
    ended = inside("send", "--print-dns", "fw.example.org", "-i", "lo", "-r", "2.5M")
    assert (ended.code, ended.stderr) == (0, [])
    assert "d0=232." in ended.lines[1]
    assert "2500k" in ended.lines[1]
    again = inside("send", "--print-dns", "fw.example.org", "-i", "lo")
    assert again.lines[1] != ended.lines[1], "a group is drawn each time"
    assert "--hops" not in again.lines[-1]
    where = ("-i", "lo", "-g", "232.1.2.3", "--hops", "8")
    named = inside("send", "--print-dns", "fw.example.org", *where)
    assert "d0=232.1.2.3,10M" in named.lines[1]
    assert named.lines[-1].endswith("--hops 8"), "the sender's command has it"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-r", "max"], "--rate max: DNS names a rate"),
        (["--json"], "--json: has no effect with --print-dns"),
        (["--fec", "50%"], "--fec: has no effect with --print-dns; leave it out"),
        (["fw.bin"], "FILE|DIR|DEVICE|-: has no effect with --print-dns"),
        (["-g", "239.1.2.3"], "is not source-specific"),
    ],
)
def test_zones_that_send_does_not_print(inside: Inside, options: list[str], words: str) -> None:
    ended = inside("send", "--print-dns", "fw.example.org", "-i", "lo", *options)
    assert ended.code == 2
    assert words in ended.error


def test_without_it_send_needs_a_file(inside: Inside) -> None:
    ended = inside("send")
    assert ended.code == 2
    assert "Missing argument 'FILE|DIR|DEVICE|-'" in ended.error
