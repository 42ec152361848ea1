"""``replay --key``: under the clock of the capture, and without what was installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgmlite.cli import run
from pgmlite.core.machine import MS, SECOND
from tests.support.event_schema import read_line
from tests.support.pcaps import EPOCH, frame, pcap
from tests.support.releases import cycle, pem, release
from tests.support.signed import STREAM, SignedSample, key_id, make_signed, private_key

Replay = Callable[..., tuple[int, dict[str, Any], str]]
MADE = EPOCH // SECOND
"""When captures begin, seconds since 1970."""


@pytest.fixture
def replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Replay:
    """Replay packets of objects, one after the other; give code, last event and errors."""
    keys = pem(tmp_path, 0)

    def call(*samples: SignedSample, options: tuple[str, ...] = ()) -> tuple[int, Any, str]:
        packets = [packet for sample in samples for packet in cycle(sample)]
        path = tmp_path / "c.pcap"
        path.write_bytes(pcap((EPOCH + n * MS, frame(one)) for n, one in enumerate(packets)))
        words = ["replay", path, "-o", tmp_path / "out", "--json", "--key", keys, *options]
        code = run([str(word) for word in words])
        captured = capsys.readouterr()
        return code, read_line(captured.out.splitlines()[-1]), captured.err

    return call


def test_what_is_signed(tmp_path: Path, replay: Replay) -> None:
    code, last, _ = replay(release(5))
    assert code == 0
    assert (tmp_path / "out").read_bytes() == release(5).data
    assert (last["release"], last["stream"]) == (5, STREAM)
    assert last["signed_by"] == [key_id(private_key()).hex()]


def test_what_is_not(tmp_path: Path, replay: Replay) -> None:
    code, last, errors = replay(release(5, keys=(1,)))
    assert code == 5
    assert last["refused"]["key"] == 1
    assert "unsigned" in last["refused"]
    assert not (tmp_path / "out").exists()
    assert "Traceback" not in errors


def test_the_clock_is_that_of_the_capture(replay: Replay) -> None:
    for expires, code in ((MADE + 60, 0), (MADE - 60, 5)):
        sample = make_signed(3_000, created=MADE - 3600, expires=expires)
        assert replay(sample)[0] == code


def test_no_floor_is_asked_or_made(
    tmp_path: Path, replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("PGMLITE_STATE", str(state))
    for number in (6, 5):
        assert replay(release(number))[0] == 0
    assert not state.exists()


def test_other_streams_and_names(replay: Replay) -> None:
    code, last, _ = replay(release(5), options=("--stream", "example/bridge"))
    assert (code, last["refused"]["stream"]) == (5, 1)
    code, last, _ = replay(release(5), options=("--name", "bridge-*"))
    assert (code, last["refused"]["name"]) == (5, 1)
    assert replay(release(5), options=("--stream", STREAM, "--name", "router-?.bin"))[0] == 0
