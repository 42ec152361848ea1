"""What is heard, on the loopback interface and from packets that were never sent."""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.cli.doctor import text_of
from pgmlite.core.figures import CheckResult
from pgmlite.net.doctor import hearing as hearing_module
from pgmlite.net.doctor.arrival import check_data, check_sessions
from pgmlite.net.doctor.hearing import MOST_QUERIES, MOST_STREAMS, Hearing, first_packet
from pgmlite.net.doctor.place import Place
from pgmlite.net.doctor.tap import Datagram, Query
from tests.support.builders import make_object
from tests.support.loopback import (
    Ended,
    Endpoint,
    Inside,
    Running,
    endpoint,
    make_file,
    raw_sender,
    sending,
)

GROUP = "ff15::7067:6d"
PLACE = Place(ipaddress.ip_address(GROUP), 28_775)


@pytest.fixture
def inside(monkeypatch, capfd) -> Inside:
    return Inside(monkeypatch, capfd)


def doctor(inside: Inside, place: Endpoint, *options: object, seconds: float = 1) -> Ended:
    return inside("doctor", *place.flags, "--json", "--seconds", seconds, *options)


def about(ended: Ended, cause: str) -> dict:
    """Return the last result about something."""
    return [one for one in ended.events if one.get("cause") == cause][-1]


def all_of(ended: Ended) -> str:
    """Return all that was found, in words."""
    return " ".join(one["text"] for one in ended.events if one["event"] == "check")


@pytest.mark.slow
def test_data_that_arrives(tmp_path: Path, inside: Inside) -> None:
    source, place = make_file(tmp_path / "source", 50_000), endpoint()
    with sending(source, place, rate="5M") as sender:
        oid = sender.event("start")["oid"]
        sender.event("progress")
        ended = doctor(inside, place)
        asked = doctor(inside, place, "--object", oid)
        other = doctor(inside, place, "--object", "0" * 16)
    assert (ended.code, ended.last["event"], ended.last["exit_code"]) == (0, "examined", 0)
    assert ended.last["failures"] == 0
    assert f"source, 48.8 KiB, object {oid}, comes from " in about(ended, "data")["text"]
    assert about(ended, "interface")["state"] == "warn"
    assert asked.code == 0
    assert (other.code, other.error) == (5, "pgmlite: no data arrives: object")
    assert oid in all_of(other)


@pytest.mark.slow
def test_two_objects_on_a_group(tmp_path: Path, inside: Inside) -> None:
    place = endpoint()
    files = [make_file(tmp_path / name, size) for name, size in (("a", 50_000), ("b", 60_000))]
    with sending(files[0], place, rate="2M") as one, sending(files[1], place, rate="2M") as other:
        oids = [each.event("start")["oid"] for each in (one, other)]
        for each in (one, other):
            each.event("progress")
        ended = doctor(inside, place, seconds=2)
    assert ended.code == 0
    assert all(oid in all_of(ended) for oid in oids)


def without_wire(monkeypatch, number: int = errno.EPERM) -> None:
    """Let the wire be closed to us: what others do on this machine is not the test."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(hearing_module, "Tap", refuse)


def test_nobody_sends(inside: Inside, monkeypatch) -> None:
    without_wire(monkeypatch)
    ended = doctor(inside, endpoint(), seconds=0.2)
    assert (ended.code, ended.last["exit_code"], ended.last["failures"]) == (5, 5, 1)
    assert ended.error == "pgmlite: no data arrives: silence"
    assert "is the sender running" in about(ended, "silence")["advice"]


def test_lines_for_people(inside: Inside, monkeypatch) -> None:
    without_wire(monkeypatch)
    ended = inside("doctor", *endpoint().flags, "--seconds", 0.1)
    assert ended.lines[0].startswith("ok    clock:     the clock says ")
    assert any(line.startswith("FAIL  silence:   nothing came to 239.") for line in ended.lines)
    assert ended.stderr[0] == "listening for 0.1 s"
    assert ended.code == 5


@pytest.mark.slow
def test_another_program_on_the_group(inside: Inside) -> None:
    place = endpoint()
    with (
        raw_sender(place) as stranger,
        Running("doctor", *place.flags, "--json", "--seconds", 2) as running,
    ):
        running.event("check", lambda one: one["cause"] == "group")
        while running.is_running:
            stranger.send(os.urandom(300))
            signal.sigtimedwait([], 0.05)
        ended = running.end()
    assert ended.code == 5
    assert "none of which is valid" in about(ended, "data")["text"]
    assert "another program" in about(ended, "data")["advice"]


def test_a_signal_ends_it() -> None:
    with Running("doctor", *endpoint().flags, "--json", "--seconds", 600) as running:
        running.event("check", lambda one: one["cause"] == "group")
        ended = running.stop(signal.SIGINT)
    assert (ended.code, ended.last["event"], ended.last["exit_code"]) == (6, "failed", 6)


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EPERM, "only root"), (errno.EAFNOSUPPORT, "can't be looked at")]
)
def test_who_may_not_look_at_the_wire_is_told(
    inside: Inside, monkeypatch, number: int, words: str
) -> None:
    without_wire(monkeypatch, number)
    ended = doctor(inside, endpoint(), seconds=0.1)
    wire = about(ended, "wire")
    assert (ended.code, wire["state"], words in wire["text"]) == (5, "warn", True)
    assert ended.error == "pgmlite: no data arrives: silence"


def test_what_strangers_named_is_fit_to_print() -> None:
    text = text_of(CheckResult("fail", "interface", "eth\x1b[2J0\u202e", "a\nb", "c\x07"))
    assert all(line.isprintable() for line in text.split("\n"))
    assert "eth\N{REPLACEMENT CHARACTER}[2J0" in text


# From the wire.


def hearing() -> Hearing:
    return Hearing(PLACE, None, (), Path("/nowhere"))


def say(heard: Hearing, *packets: bytes, group: str = GROUP, port: int = 28_775) -> None:
    for packet in packets:
        heard.take(0, "eth0", Datagram(group, port, "fd01::1", packet))


SAMPLE = make_object(5_000, symbol_size=1_024, block_symbols=8, name="file.bin")


@pytest.mark.parametrize(
    ("group", "port", "cause", "advice"),
    [
        ("ff15::2", 28_775, "group", "-g ff15::2"),
        ("ff15::2", 9, "group", "-g ff15::2 -p 9"),
        (GROUP, 9, "port", f"-g {GROUP} -p 9"),
        ("239.1.2.3", 28_775, "family", "-g 239.1.2.3"),
    ],
)
def test_another_place_is_named(group: str, port: int, cause: str, advice: str) -> None:
    heard = hearing()
    say(heard, SAMPLE.spm(), *SAMPLE.all_odata(sqn=0), group=group, port=port)
    (result,) = check_data(PLACE, "eth0", heard, ())
    assert (result.state, result.cause) == ("fail", cause)
    assert "file.bin, 4.9 KiB, object" in result.text
    assert result.advice.endswith(advice)
    assert check_sessions(PLACE, "eth0", heard, [result]) == []


def test_what_comes_to_the_interface_and_not_further() -> None:
    heard = hearing()
    say(heard, SAMPLE.spm())
    (result,) = check_data(PLACE, "eth0", heard, ())
    assert (result.cause, "packets of fd01::1 come to eth0" in result.text) == ("wire", True)
    assert check_data(PLACE, "eth0", heard, {"firewall"}) == []
    (result,) = check_data(PLACE, "eth1", heard, ())
    assert (result.cause, result.advice) == ("interface", "use that interface: -i eth0")
    named = Place(PLACE.group, PLACE.port, "eth0", (ipaddress.ip_address("fd01::2"),))
    (result,) = check_data(named, "eth0", heard, ())
    assert (result.cause, "--source fd01::1" in result.advice) == ("source", True)


def test_strangers_can_not_fill_the_memory() -> None:
    heard = hearing()
    for port in range(1, 1_000):
        say(heard, b"", b"x", SAMPLE.spm(), bytes(60_000), port=port)
        heard.take(0, "eth0", Query("mld", 2, f"fe80::{port:x}"))
    assert (len(heard.streams), len(heard.queries)) == (MOST_STREAMS, MOST_QUERIES)
    ear = next(iter(heard.streams.values()))
    for number in range(1_000):
        heard.take(0, "eth0", Datagram(GROUP, 1, f"fd01::{number:x}", SAMPLE.spm()))
    assert len(ear.sources) <= hearing_module.MOST_SOURCES
    results = check_data(PLACE, "eth0", heard, ())
    assert len(results) <= 4
    assert all(len(one.text) < 500 for one in check_sessions(PLACE, "eth0", heard, ()))


def test_joined_packets_are_told_apart() -> None:
    packet = SAMPLE.all_odata(sqn=0)[0]
    assert first_packet(packet * 3) == packet
    assert first_packet(SAMPLE.spm()) == SAMPLE.spm()
    assert first_packet(b"short") == b"short"


@given(st.binary(max_size=100))
def test_any_datagram_is_taken(octets: bytes) -> None:
    heard = hearing()
    say(heard, octets, SAMPLE.spm()[:30] + octets, SAMPLE.all_odata(sqn=0)[0][:48] + octets)
    check_data(PLACE, "eth0", heard, ())
