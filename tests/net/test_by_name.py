"""Receivers that are told a name: from a real DNS server to a file, on the loopback interface."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.asyncresolver
import pytest

import pgmlite
from pgmlite.core.events import Event, ReceiveStarted, Waiting
from pgmlite.core.events_listening import Joined, Resolved, SourceState
from pgmlite.errors import Interrupted, NetworkError, TimedOut, UsageError
from pgmlite.net import discovery, whom
from tests.support.dns_server import DnsServer, asks, fake_server, need
from tests.support.loopback import LO, PATIENCE, Cli, Inside, make_file

NAME = "fw.example.org"
PORT = random.randint(20_000, 32_000)
GROUP = f"232.{random.randint(1, 255)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
ZONE = f"""
_pgmlite._udp.fw SRV 0 0 {PORT} s1
_pgmlite._udp.fw TXT "txtvers=1" "d0={GROUP},5M"
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
def resolved(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked up at the test's server."""
    use(monkeypatch, server.resolver)


def use(
    monkeypatch: pytest.MonkeyPatch, resolver: Callable[[], dns.asyncresolver.Resolver]
) -> None:
    monkeypatch.setattr(whom, "Discovery", lambda versions: discovery.Discovery(versions, resolver))


@contextmanager
def carousel(source: Path) -> Iterator[None]:
    """A file on the air, from 127.0.0.1."""
    where = {"group": GROUP, "port": PORT, "interface": LO, "source": "127.0.0.1"}
    sender = pgmlite.send(source, **where, rate=5_000_000)  # type: ignore[arg-type]
    thread = threading.Thread(target=drain, args=(sender,))
    thread.start()
    try:
        yield
    finally:
        sender.stop()
        thread.join()


def drain(sender: pgmlite.api.Handle[Any]) -> None:
    with pytest.raises(Interrupted):
        sender.run()


def of(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.usefixtures("resolved")
def test_a_name_is_enough(tmp_path: Path) -> None:
    # spec: DNS-1
    source = make_file(tmp_path / "source", 50_000)
    with carousel(source):
        handle = pgmlite.receive(tmp_path / "copy", name=NAME, interface=LO, timeout=PATIENCE)
        events = list(handle)
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    (told,) = of(events, Resolved)
    assert (told.name, told.sources, told.port) == (NAME, ("127.0.0.1",), PORT)
    (joined,) = of(events, Joined)
    assert (joined.group, joined.port, joined.source) == (GROUP, PORT, "127.0.0.1")
    (started,) = of(events, ReceiveStarted)
    assert (started.group, started.sources) == (GROUP, ("127.0.0.1",))
    assert [(one.address, one.state) for one in of(events, SourceState)] == [("127.0.0.1", "heard")]
    assert handle.result.per_source.keys() == {"127.0.0.1"}


@pytest.mark.usefixtures("resolved")
def test_a_host_may_be_a_source(tmp_path: Path) -> None:
    # spec: DNS-1
    source = make_file(tmp_path / "source", 50_000)
    where: dict[str, Any] = {"group": GROUP, "port": PORT, "interface": LO}
    with carousel(source):
        done = pgmlite.receive(
            tmp_path / "copy", **where, sources=["s1.example.org"], timeout=PATIENCE
        ).run()
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert done.per_source.keys() == {"127.0.0.1"}


@pytest.mark.slow
@pytest.mark.usefixtures("resolved")
def test_what_dns_has_not_is_waited_for(tmp_path: Path, server: DnsServer) -> None:
    # spec: DNS-8
    source = make_file(tmp_path / "source", 50_000)
    late = ZONE.replace("_udp.fw", "_udp.late")
    with carousel(source):
        handle = pgmlite.receive(
            tmp_path / "copy", name="late.example.org", interface=LO, timeout=PATIENCE
        )
        for event in handle:
            if isinstance(event, Waiting):
                assert event.cause == "dns"
                assert event.waiting == "_pgmlite._udp.late.example.org: DNS has no such name"
                server.change(ZONE + late)
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    server.change(ZONE)


@pytest.mark.usefixtures("resolved")
@pytest.mark.parametrize(
    ("name", "sources", "words"),
    [
        ("no.example.org", (), "timed out: _pgmlite._udp.no.example.org: DNS has no such name"),
        (None, ("six.example.org",), "timed out: six.example.org: DNS has no IPv4 address of it"),
    ],
)
def test_time_is_up_in_the_words_of_dns(
    tmp_path: Path, name: str | None, sources: tuple[str, ...], words: str
) -> None:
    # spec: DNS-8
    where: dict[str, Any] = {"name": name} if name else {"group": GROUP, "port": PORT}
    with pytest.raises(TimedOut) as caught:
        pgmlite.receive(
            tmp_path / "copy", **where, interface=LO, sources=sources, timeout=0.5
        ).run()
    assert str(caught.value) == words


@pytest.mark.usefixtures("resolved")
def test_a_service_that_is_not_offered_is_the_end(tmp_path: Path) -> None:
    # spec: DNS-2
    words = "_pgmlite._udp.off.example.org: DNS says that it is not offered"
    with pytest.raises(NetworkError, match=words):
        pgmlite.receive(tmp_path / "copy", name="off.example.org", interface=LO).run()


def test_dns_that_is_silent_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: DNS-1
    source = make_file(tmp_path / "source", 50_000)
    where: dict[str, Any] = {"group": GROUP, "port": PORT, "interface": LO}
    with fake_server(lambda _: None) as dead, carousel(source):
        use(monkeypatch, lambda: asks(dead))
        events = list(
            pgmlite.receive(
                tmp_path / "copy",
                **where,
                sources=["127.0.0.1", "s1.example.org"],
                timeout=PATIENCE,
            )
        )
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert not of(events, Resolved)


# The command line.


@pytest.mark.usefixtures("resolved")
def test_the_command_line_takes_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGMLITE_GROUP", "239.1.2.3")
    inside = Inside(monkeypatch, capfd)
    source = make_file(tmp_path / "source", 50_000)
    with carousel(source):
        ended = inside("recv", NAME, "-o", tmp_path / "copy", "-i", LO, "--timeout", PATIENCE)
    assert ended.code == 0
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert f"{NAME}: 127.0.0.1" in ended.stderr
    assert "127.0.0.1 is heard" in ended.stderr


@pytest.mark.usefixtures("resolved")
@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("off", 3, "DNS says that it is not offered"),
        ("no", 5, "timed out: _pgmlite._udp.no.example.org: DNS has no such name"),
    ],
)
def test_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    code: int,
    words: str,
) -> None:
    options = ("-o", tmp_path / "copy", "-i", LO, "--timeout", "0.5", "--json")
    ended = Inside(monkeypatch, capfd)("recv", f"{name}.example.org", *options)
    assert ended.code == code
    assert words in ended.error
    assert (ended.last["event"], ended.last["exit_code"]) == ("failed", code)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((NAME, "-g", "232.1.2.3"), "name fw.example.org: has its groups and its port in DNS"),
        ((NAME, "-p", "7000"), "give no others"),
        (("a..b",), "name a..b: DNS can't have such a name"),
        (("2001:db8::1",), "name 2001:db8::1: is an address, no name"),
        ((NAME, "--source", "10.0.0.300"), "--source 10.0.0.300: give the address of a sender"),
        ((NAME, "--source", "a..b"), "--source a..b: DNS can't have such a name"),
        ((NAME, "--source", "2001:db8::1"), "lo can't use all of 2001:db8::1 for one group"),
        (
            (NAME, "--source", "192.0.2.1", "--repairer", "[2001:db8::1]:5"),
            "lo can't use all of 192.0.2.1, 2001:db8::1 for one group",
        ),
    ],
    ids=str,
)
def test_names_that_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    refused = Cli(monkeypatch, capsys).refuse("recv", *options, "-o", tmp_path / "o", "-i", LO)
    assert refused[0] == 2
    assert words in refused[1]


def test_a_program_gives_a_name_or_a_group(tmp_path: Path) -> None:
    for more in ({"group": "232.1.2.3"}, {"port": 1}):
        with pytest.raises(UsageError, match="give no others"):
            pgmlite.receive(tmp_path / "copy", name=NAME, **more)  # type: ignore[arg-type]


@pytest.mark.usefixtures("resolved")
def test_asyncio_goes_on_meanwhile(tmp_path: Path) -> None:
    source = make_file(tmp_path / "source", 50_000)

    async def work() -> None:
        await pgmlite.receive(tmp_path / "copy", name=NAME, interface=LO, timeout=PATIENCE)

    with carousel(source):
        asyncio.run(work())
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
