"""``list``: real senders on the loopback interface, and nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import pgmlite
from pgmlite.cli.listing import table
from pgmlite.core.events_listening import Listed, SessionHeard
from pgmlite.errors import Interrupted, TimedOut
from pgmlite.wire.manifest import Archive
from tests.support.builders import make_object
from tests.support.loopback import (
    LO,
    Endpoint,
    Inside,
    endpoint,
    make_file,
    raw_sender,
    receive,
    receiving,
    sending,
)


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inside:
    """The command line in this process."""
    return Inside(monkeypatch, capfd)


@dataclass(frozen=True)
class Place(Endpoint):
    """A group, and the folder of what is sent there."""

    folder: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where a signed object and another one are sent."""
    folder, where = tmp_path_factory.mktemp("air"), endpoint()
    pgmlite.keygen(folder / "k.pem")
    pgmlite.keygen(folder / "other.pem")
    source = make_file(folder / "fw.bin", 1_000_000)
    more = {"keys": [folder / "k.pem"], "release": 7, "stream": "acme/x1"}
    pgmlite.sign(source, **more).run()
    plain = make_file(folder / "plain.bin", 50_000)
    where = Place(where.group, where.port, folder)
    naks = ("--repair", "--listen", f":{where.port + 2}")
    with (
        sending(folder / "fw.bin.pglm", where, *naks, rate="5M") as one,
        sending(plain, where, "--fec", "off", "--order", "blocks", rate="2M") as other,
    ):
        for sender in (one, other):
            sender.event("start")
        yield where


@pytest.mark.slow
def test_what_is_sent_is_listed(inside: Inside, place: Place) -> None:
    ended = inside("list", *place.flags, "--seconds", "1500ms", "--json")
    assert ended.code == 0
    listed = ended.last
    assert (listed["event"], listed["sessions"], listed["more"]) == ("listed", 2, 0)
    found = {one["name"]: one for one in ended.events if one["event"] == "session"}
    one, other = found["fw.bin"], found["plain.bin"]
    assert (one["stream"], one["release"], one["rate"]) == ("acme/x1", 7, 5_000_000)
    assert 1_000_000 < one["heard_rate"] < 8_000_000
    assert one["time_left"] == pytest.approx(1_000_000 * 8 / 5e6, rel=0.15)
    (signature,) = one["signatures"]
    assert signature["state"] == "claimed"
    assert one["nak_ports"] == [place.port + 2]
    assert (other["signatures"], other["orders"], other["repair_symbols"]) == ([], ["blocks"], 0)
    assert len(one["sources"]) == 1


@pytest.mark.slow
def test_a_receiver_says_that_nobody_chose(place: Place, tmp_path: Path) -> None:
    with receiving(tmp_path / "out", place, "--drop", "97%", "--no-nak") as receiver:
        warning = receiver.event("warning", lambda one: one.get("cause") == "ambiguous")
        receiver.stop()
    assert warning["objects"] == 2
    for words in ("fw.bin", "plain.bin", "--name, --object or --key", "`pgmlite list`"):
        assert words in warning["warning"]


@pytest.mark.slow
def test_a_receiver_says_that_nothing_is_to_be_taken(place: Place, tmp_path: Path) -> None:
    ended = receive(tmp_path / "out", place, "--name", "router-*", "--timeout", "5s")
    assert ended.code == 5
    (warning,) = [one for one in ended.events if one.get("cause") == "nothing_to_take"]
    for said in (warning["warning"], ended.error):
        assert all(name in said for name in ("fw.bin", "plain.bin"))
    assert {one["name"] for one in ended.last["others"]} == {"fw.bin", "plain.bin"}


@pytest.mark.slow
def test_signatures_are_checked_by_a_key(inside: Inside, place: Place) -> None:
    public = place.folder / "k.pub.pem"
    ended = inside("list", *place.flags, "--seconds", "1.5", "--key", public)
    assert ended.code == 0
    assert "(valid)" in " ".join(ended.lines)


@pytest.fixture(scope="module")
def sessions(place: Place) -> list[SessionHeard]:
    """What is heard there."""
    keys = [place.folder / "other.pub.pem"]
    with pgmlite.list_sessions(
        group=place.group, port=place.port, interface=LO, keys=keys, seconds=1.5
    ) as handle:
        found = [one for one in handle if isinstance(one, SessionHeard)]
    assert isinstance(handle.result, Listed)
    return found


@pytest.mark.parametrize("width", [40, 80, 250])
def test_people_can_read_it(sessions: list[SessionHeard], width: int) -> None:
    lines = table(sessions, 0, width)
    assert max(map(len, lines)) <= width
    said = " ".join(" ".join(lines).split())
    for word in ("2 objects", "fw.bin", "plain.bin", "976.6 KiB", "5 Mbit/s", "7 of acme/x1"):
        assert word in said
    for word in ("50%", "off", "blocks", "(claimed)", "NAKs at port"):
        assert word in said


def test_nobody_there(inside: Inside) -> None:
    nobody = endpoint()
    ended = inside("list", *nobody.flags, "--seconds", "300ms")
    assert (ended.code, ended.lines) == (5, [])
    assert f"nothing came to {nobody.group}:{nobody.port} on lo in 0.3 s" in ended.error
    assert "`pgmlite doctor`, given the same, says why" in ended.error
    ended = inside("list", *nobody.flags, "--seconds", "300ms", "--json")
    assert (ended.last["event"], ended.last["exit_code"]) == ("listed", 5)
    assert [one["event"] for one in ended.events] == ["start", "joined", "left", "listed"]


def test_junk_is_said_to_be_junk(inside: Inside) -> None:
    where = endpoint()
    with raw_sender(where) as sock:
        stop = threading.Event()

        def go_on() -> None:
            while not stop.wait(0.02):
                sock.send(b"junk" * 30)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            ended = inside("list", *where.flags, "--seconds", "500ms")
        finally:
            stop.set()
            thread.join()
    assert ended.code == 5
    assert "none of them valid" in ended.error


def test_the_call(place: Place) -> None:
    nobody = endpoint()
    with pytest.raises(TimedOut):
        pgmlite.list_sessions(group=nobody.group, port=nobody.port, interface=LO, seconds=0.1).run()
    where = {"group": place.group, "port": place.port, "interface": LO}
    stopped = pgmlite.list_sessions(**where, seconds=60)
    stopped.stop()
    with pytest.raises(Interrupted):
        stopped.run()


def heard(name: str, **more: Any) -> SessionHeard:
    manifest = replace(make_object(10_240, name=name).manifest, **more)
    return SessionHeard(
        *(0, "239.1.1.1", 9, manifest, None, None),
        *(("a",), 0, None, 1, True, ("rounds",), (), (), (), None),
    )


def test_a_folder_has_members() -> None:
    said = " ".join(table([heard("tree", archive=Archive(12, 5_000))], 0, 80))
    assert "10.0 KiB in 12 members" in said


def test_addresses_are_no_pictures() -> None:
    sources = ("fd00:b:1:ab:2::5", "fd00:a:1::1")
    said = "\n".join(table([replace(heard("x:x:x"), sources=sources)], 0, 400))
    assert "x:x:x" in said
    assert ", ".join(sources) in said


def test_names_of_strangers_do_no_harm() -> None:
    said = "\n".join(table([heard("[red]x[/red]"), heard("ü" * 127)], 5, 80))
    assert "[red]x[/red]" in said
    assert said.count("ü") == 59
    assert "and 5 more" in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--seconds", "0"], "--seconds 0"),
        (["--seconds", "soon"], "--seconds soon"),
        (["-g", "nonsense"], "nonsense"),
        (["--key", "nosuch.pem"], "nosuch.pem"),
        (["fw.example.org", "-p", "99"], "name fw.example.org"),
    ],
)
def test_what_is_refused(inside: Inside, words: list[str], named: str) -> None:
    ended = inside("list", "-i", "lo", *words, "--json")
    assert ended.code in {2, 7}
    assert named in ended.last["error"]
