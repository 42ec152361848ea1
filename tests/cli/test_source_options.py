"""`--source`: whom to hear, and where to send from."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgmlite.errors import UsageError
from pgmlite.net.address import Channel
from pgmlite.net.arguments import name_sources, parse_source
from tests.support.loopback import (
    Cli,
    Inside,
    Running,
    endpoint,
    environment,
    make_file,
    receiving,
    sending,
)

IPV6 = Channel("ff3e::8000:1", 28_775, "eth0", 2)
IPV4 = Channel("232.1.2.3", 28_775, "eth0", 2)
OURS, OTHER = "127.0.0.1", "127.0.0.2"


@pytest.mark.parametrize(
    ("text", "channel", "address"),
    [
        ("FD01:0::1", IPV6, "fd01::1"),
        ("fe80::1%eth0", IPV6, "fe80::1"),
        ("10.9.0.1", IPV4, "10.9.0.1"),
        ("::ffff:10.9.0.1", IPV4, "10.9.0.1"),
    ],
)
def test_sources(text: str, channel: Channel, address: str) -> None:
    # spec: NET-13
    assert parse_source(text, channel) == address
    assert name_sources([text, text, address], channel) == (address,)


@pytest.mark.parametrize(
    ("text", "channel", "reason"),
    [
        *((text, IPV6, "give the address of a sender") for text in ("", "[fd01::1]", "fd01::1:x")),
        ("ff3e::8000:1", IPV6, "not the address of one machine"),
        ("::", IPV6, "not the address of one machine"),
        ("255.255.255.255", IPV4, "not the address of one machine"),
        ("232.1.2.3", IPV4, "not the address of one machine"),
        ("10.9.0.1", IPV6, "the other kind"),
        ("fd01::1", IPV4, "the other kind"),
        ("fe80::1%eth1", IPV6, "leave %eth1 out"),
    ],
)
def test_what_is_no_source(text: str, channel: Channel, reason: str) -> None:
    with pytest.raises(UsageError, match=f"^source .*{reason}") as caught:
        name_sources([text], channel)
    assert caught.value.cause == "source"


def test_sources_that_can_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails, place = Cli(monkeypatch, capsys).refuse, endpoint()
    source = make_file(tmp_path / "source", 3_000)
    for verb in (("recv", "-o", tmp_path / "out"), ("repair", source), ("send", source)):
        code, text = fails(*verb, *place.flags, "--source", "fd01::1")
        assert code == 2
        assert text.startswith("pgmlite: --source fd01::1: the group is of the other kind")
    # spec: NET-16
    code, text = fails("send", source, *place.flags, "--source", "192.0.2.1")
    assert (code, "192.0.2.1: not an address of lo" in text) == (3, True)
    listen = ("--repair", "--listen", f"{OURS}:{place.port + 1}")
    code, text = fails("send", source, *place.flags, *listen, "--source", "192.0.2.1")
    assert (code, text.startswith(f"pgmlite: --listen {OURS}: is not the source 192.0.2.1")) == (
        2,
        True,
    )


def test_a_receiver_takes_its_sources_from_the_environment_too(
    tmp_path: Path,
) -> None:
    # spec: NET-13
    place, source = endpoint(), make_file(tmp_path / "source", 300_000)
    options = ("-o", tmp_path / "out", *place.flags, "--json", "--timeout", "30")
    env = environment({"PGMLITE_SOURCE": f"{OTHER} {OURS} {OTHER}"})
    with Running("recv", *options, env=env) as receiver:
        assert receiver.event("start")["sources"] == [OURS, OTHER]
        with sending(source, place, "--source", OURS) as sender:
            start = sender.event("start")
            assert (start["event"], start["source"]) == ("start", OURS)
            ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert list(ended.last["per_source"]) == [OURS]
    assert ended.last["per_source"][OURS] <= ended.last["packets"]


def test_where_nobody_is_heard_it_says_whom_it_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place, source = endpoint(), make_file(tmp_path / "source", 300_000)
    with sending(source, place, "--source", OURS, rate="4M") as sender:
        sender.event("start")
        inside = Inside(monkeypatch, capfd)
        flags = (*place.flags, "--timeout", "0.5")
        ended = inside("recv", "-o", tmp_path / "out", *flags, "--source", OTHER)
    assert ended.code == 5
    where = f"{place.group}:{place.port} on lo from {OTHER}"
    assert ended.stderr[0].startswith(f"waiting for {where} (receive buffer")
    assert ended.error == f"pgmlite: timed out: no valid packet came to {where}"


def test_repairers_that_a_user_names_are_heard_where_sources_are(tmp_path: Path) -> None:
    # spec: NET-13
    place = endpoint()
    named = ("--repairer", f"{OTHER}:9")
    with receiving(tmp_path / "out", place, *named, "--source", OURS) as receiver:
        assert receiver.event("start")["sources"] == [OURS, OTHER]
    with receiving(tmp_path / "out", place, *named) as receiver:
        assert receiver.event("start")["sources"] == []
        assert receiver.event("joined")["source"] == ""


def test_the_first_line_of_a_sender_says_where_it_sends_from(tmp_path: Path) -> None:
    # spec: NET-16
    place, source = endpoint(), make_file(tmp_path / "source", 3_000)
    options = ("--source", OURS, "--cycles", 1)
    with Running("send", source, *place.flags, *options) as sender:
        ended = sender.end()
    assert f"on lo from {OURS} at 10 Mbit/s" in ended.stderr[0]
