"""``recv --key`` and what belongs to it: what is refused before packets flow, and the words."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgmlite.cli import run
from pgmlite.cli.words import text_of
from pgmlite.core.events import Adopted, Superseded
from tests.support.loopback import Cli, endpoint
from tests.support.releases import pem, release


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--stream", "x"], "--stream: needs a key"),
        (["--stream", ""], "--stream: is empty"),
        (["--allow-rollback"], "--allow-rollback: needs a key"),
        # Of variables that are not set: not the present folder, nor any name.
        (["--key", ""], "--key: is empty"),
        (["--name", ""], "--name: is empty"),
    ],
)
def test_what_chooses_is_complete_or_refused(
    cli: Cli, tmp_path: Path, options: list[str], said: str
) -> None:
    code, error = cli.refuse("recv", "-o", tmp_path / "out", *endpoint().flags, *options)
    assert (code, error.startswith(f"pgmlite: {said}")) == (2, True), error


def test_keys_that_are_none(cli: Cli, tmp_path: Path) -> None:
    empty = tmp_path / "keys"
    empty.mkdir()
    recv = ("recv", "-o", tmp_path / "out", *endpoint().flags, "--key")
    code, error = cli.refuse(*recv, empty)
    assert (code, str(empty) in error) == (2, True)
    code, error = cli.refuse(*recv, tmp_path / "nothing")
    assert (code, str(tmp_path / "nothing") in error) == (7, True)


def test_a_state_folder_that_cannot_be(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PGMLITE_STATE", str(tmp_path / "file" / "state"))
    keys = pem(tmp_path, 0)
    code, error = cli.refuse("recv", "-o", tmp_path / "out", *endpoint().flags, "--key", keys)
    assert (code, "PGMLITE_STATE" in error) == (7, True)


def test_replay_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["replay", str(tmp_path / "c.pcap"), "-o", str(tmp_path / "out"), "--stream", "x"]
    assert run(words) == 2
    assert "--stream: needs a key" in capsys.readouterr().err


def test_words() -> None:
    manifest = release(5).manifest
    claimed = text_of(Adopted(0, manifest, 10_000_000), 0)
    assert "release" not in claimed, "nobody has checked it"
    signed = text_of(Adopted(0, manifest, 10_000_000, signed_by=(b"\x01" * 8,)), 0)
    assert signed.endswith("; release 5 of example/router, signed by 0101010101010101")
    assert "release 6 is there" in text_of(Superseded(0, 1, 2, 6), 0)
    assert "is no longer sent" in text_of(Superseded(0, 1, 2), 0)
