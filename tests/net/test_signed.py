"""Receivers with keys, from packets on the loopback interface to the output and its floor."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from pgmlite.errors import DiskError
from pgmlite.net.hook import OF_SIGNATURES
from pgmlite.storage.floors import FloorFiles, file_name
from tests.bench.floor_kills import CALLS, Trial, kill_one
from tests.support.loopback import Ended, Endpoint, Inside, endpoint, make_file, receive, sending
from tests.support.releases import floor_of, on_air, pem, release
from tests.support.signed import STREAM, key_id, private_key

KEY = key_id(private_key()).hex()


class Fleet:
    """A machine that installs releases."""

    def __init__(self, folder: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._inside = folder, inside
        self.output, self.state = folder / "out", folder / "state"
        self.place = endpoint()
        self.keys = pem(folder, 0)
        monkeypatch.setenv("PGMLITE_STATE", str(self.state))

    def receive(self, *options: object, timeout: float = 20) -> Ended:
        return self._inside(
            *("recv", "-o", self.output, *self.place.flags, "--json", "--timeout", timeout),
            *("--key", self.keys, *options),
        )

    @property
    def floor(self) -> int:
        return floor_of(self.state, self.keys)


@pytest.fixture
def fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Fleet:
    return Fleet(tmp_path, Inside(monkeypatch, capfd), monkeypatch)


def test_a_signed_object_is_received_and_remembered(fleet: Fleet) -> None:
    with on_air(fleet.place, release(5)):
        ended = fleet.receive()
    assert ended.code == 0
    assert fleet.output.read_bytes() == release(5).data
    for name in ("manifest", "complete"):
        event = ended.event(name)
        assert (event["stream"], event["release"]) == (STREAM, 5)
        assert event["signed_by"] == [KEY]
    assert ended.event("start")["keys"] == [KEY]
    assert fleet.floor == 5
    assert not [one for one in ended.events if one["event"] == "warning"]


@pytest.mark.slow
def test_releases_go_up_and_not_down(fleet: Fleet) -> None:
    for number in (5, 7):
        with on_air(fleet.place, release(number)):
            assert fleet.receive().code == 0
    with on_air(fleet.place, release(6)):
        ended = fleet.receive(timeout=3)
    assert ended.code == 5
    assert set(ended.last["refused"]) == {"rollback", "unsigned"}
    assert "rollback" in ended.error
    assert "older release than was installed" in "".join(ended.lines)
    assert fleet.output.read_bytes() == release(7).data
    with on_air(fleet.place, release(6)):
        ended = fleet.receive("--allow-rollback")
    assert ended.code == 0
    assert "takes the place of 7" in "".join(ended.lines)
    assert fleet.output.read_bytes() == release(6).data
    assert fleet.floor == 6
    with on_air(fleet.place, release(7)):
        assert fleet.receive().code == 0
    assert fleet.floor == 7


def test_what_is_in_place_already_is_remembered_as_well(fleet: Fleet) -> None:
    fleet.output.write_bytes(release(5).data)
    with on_air(fleet.place, release(5)):
        ended = fleet.receive()
    assert ended.code == 0
    assert not ended.last["is_new"]
    assert fleet.floor == 5


@pytest.mark.slow
def test_keys_are_exchanged_while_two_are_trusted(fleet: Fleet) -> None:
    with on_air(fleet.place, release(5)):
        assert fleet.receive().code == 0
    pem(fleet.folder, 1)  # the new one, brought by a release that the old one has signed
    with on_air(fleet.place, release(6, keys=(0, 1))):
        ended = fleet.receive()
    assert sorted(ended.last["signed_by"]) == sorted([KEY, key_id(private_key(1)).hex()])
    (fleet.keys / "0.pem").unlink()
    assert fleet.floor == 6, "the new key has a floor of its own"
    with on_air(fleet.place, release(5), release(9)):
        ended = fleet.receive(timeout=3)
    assert ended.code == 5
    assert set(ended.last["refused"]) == {"key", "unsigned"}
    with on_air(fleet.place, release(7, keys=(1,))):
        assert fleet.receive().code == 0


@pytest.mark.slow
def test_an_unsigned_object_of_a_real_sender_is_not_taken(fleet: Fleet) -> None:
    with sending(make_file(fleet.folder / "plain", 20_000), fleet.place) as sender:
        sender.event("start")
        ended = fleet.receive(timeout=3)
    assert ended.code == 5
    assert "unsigned" in ended.error
    assert "not signed" in "".join(ended.lines)
    assert [path.name for path in fleet.folder.iterdir() if path.name.startswith("out")] == []


def test_a_damaged_floor_is_an_error_before_anything_else(fleet: Fleet) -> None:
    with on_air(fleet.place, release(5)):
        assert fleet.receive().code == 0
    path = fleet.state / file_name(bytes.fromhex(KEY), STREAM)
    path.write_text("{")
    ended = fleet.receive("--allow-rollback")
    assert ended.code == 7
    assert str(path) in ended.error
    assert "remove it" in ended.error
    assert path.read_text() == "{"


def test_a_floor_that_cannot_be_written_loses_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DiskError("floor /x: No space left on device; what came is kept")

    fleet.output.write_text("before")
    with monkeypatch.context() as patched, on_air(fleet.place, release(5)):
        patched.setattr(FloorFiles, "install", refuse)
        ended = fleet.receive()
    assert ended.code == 7
    assert ended.last["is_kept"]
    assert fleet.output.read_text() == "before"
    with on_air(fleet.place, release(5)):
        ended = fleet.receive()
    assert ended.code == 0
    assert ended.last["fetched"] == 0


def hook_text(folder: Path) -> str:
    names = " ".join(sorted(OF_SIGNATURES))
    return f"sh -c 'for n in {names}; do eval echo $n=\\$$n; done > {folder}/said'"


def said(folder: Path) -> dict[str, str]:
    lines = (folder / "said").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_the_command_is_told_what_is_signed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGMLITE_RELEASE", "99")  # of somebody else
    with on_air(fleet.place, release(5)):
        assert fleet.receive("--on-complete", hook_text(fleet.folder)).code == 0
    wanted = {"PGMLITE_STREAM": STREAM, "PGMLITE_RELEASE": "5", "PGMLITE_KEY": KEY}
    assert said(fleet.folder) == wanted
    record = json.loads((fleet.folder / "out.pgmlite").read_text())
    assert (record["stream"], record["release"], record["keys"]) == (STREAM, 5, KEY)


def test_without_a_key_a_release_is_a_mere_claim(tmp_path: Path) -> None:
    place: Endpoint = endpoint()
    with on_air(place, release(5)):
        ended = receive(tmp_path / "out", place, "--on-complete", hook_text(tmp_path))
    assert ended.code == 0
    assert ended.event("complete")["signed_by"] == []
    assert ended.event("start")["keys"] == []
    assert said(tmp_path) == dict.fromkeys(OF_SIGNATURES, "")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with Trial.begun(tmp_path_factory.mktemp("kills")) as trial:
        yield trial


STEP = 1 if os.environ.get("PGMLITE_HYPOTHESIS") == "deep" else 2
"""All calls are gone through by ``tests.bench.floor_kills``, too."""


@pytest.mark.slow
@pytest.mark.parametrize("calls", range(CALLS - 9, CALLS, STEP))
def test_no_kill_leaves_a_new_output_with_an_old_floor(trial: Trial, calls: int) -> None:
    # spec: TRU-6
    killed = kill_one(trial, calls, Random(calls), calls=calls)
    assert killed.wrong == ""
    assert killed.code in (0, -signal.SIGKILL)
