"""``list``: real senders on the loopback interface, and nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import pgmlite
from pgmlite.cli.list import table
from pgmlite.core.events_listening import Listed, SessionHeard
from pgmlite.errors import Interrupted, TimedOut
from tests.support.builders import make_object
from tests.support.loopback import (
    LO,
    Endpoint,
    Inside,
    endpoint,
    make_file,
    raw_sender,
    run,
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
        sending(folder / "fw.bin.pglm", where, *naks, rate="5M"),
        sending(plain, where, "--fec", "off", "--order", "blocks", rate="2M"),
    ):
        yield where


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


@pytest.mark.parametrize(("key", "state"), [("k", "valid"), ("other", "claimed")])
def test_signatures_are_checked_by_a_key(
    inside: Inside, place: Place, key: str, state: str
) -> None:
    public = place.folder / f"{key}.pub.pem"
    ended = inside("list", *place.flags, "--seconds", "1.5", "--key", public)
    assert ended.code == 0
    assert f"({state})" in " ".join(ended.lines)


@pytest.mark.parametrize("width", [40, 80, 250])
def test_people_can_read_it(inside: Inside, place: Place, monkeypatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    ended = inside("list", *place.flags, "--seconds", "1.5s")
    assert ended.code == 0
    assert max(map(len, ended.lines)) <= width
    said = " ".join(" ".join(ended.lines).split())
    for word in ("2 objects", "fw.bin", "plain.bin", "976.6 KiB", "5 Mbit/s", "7 of acme/x1"):
        assert word in said
    for word in ("50%", "off", "blocks", "claimed", str(place.port + 2)):
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
    where = {"group": place.group, "port": place.port, "interface": LO}
    with pgmlite.list_sessions(**where, seconds=1.5) as handle:
        events = list(handle)
    assert isinstance(handle.result, Listed)
    names = [one.manifest.name for one in events if isinstance(one, SessionHeard)]
    assert sorted(names) == ["fw.bin", "plain.bin"]
    nobody = endpoint()
    with pytest.raises(TimedOut):
        pgmlite.list_sessions(group=nobody.group, port=nobody.port, interface=LO, seconds=0.1).run()
    stopped = pgmlite.list_sessions(**where, seconds=60)
    stopped.stop()
    with pytest.raises(Interrupted):
        stopped.run()


def heard(name: str) -> SessionHeard:
    return SessionHeard(
        *(0, "239.1.1.1", 9, make_object(64, name=name).manifest, None, None),
        *(("a",), 0, None, 1, True, ("rounds",), (), (), (), None),
    )


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
def test_what_is_refused(words: list[str], named: str) -> None:
    ended = run("list", "-i", "lo", *words, "--json")
    assert ended.code in {2, 7}
    assert named in ended.last["error"]
