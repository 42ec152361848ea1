"""The command of ``--on-complete`` is found and named before the first packet."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.net.hook import MAX_SAFE_NAME, find_command, safe_name
from tests.support.loopback import Cli, endpoint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("''", "is empty"),
        ("no-such-program-anywhere --force", "no-such-program-anywhere: not found"),
        ("/no/such/program", "/no/such/program: not found"),
        ("'open", "'open"),
        ("{folder}", "can be run"),
        ("{folder}/plain.txt", "can be run"),
        ("plain.txt", "can be run"),
    ],
)
def test_a_command_that_can_not_run_is_refused_before_the_first_packet(
    tmp_path, monkeypatch, capsys, text, why
):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "plain.txt").write_text("exit 0\n")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    output = tmp_path / "out"
    code, error = Cli(monkeypatch, capsys).refuse(
        *("recv", "-o", output, *endpoint().flags),
        *("--on-complete", text.format(folder=folder)),
    )
    assert code == 2
    assert "--on-complete" in error
    assert why in error
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_command_is_split_as_a_shell_does_and_found_in_the_path():
    command = find_command("sh -c 'echo \"$@\"' two\\ words")
    assert command.words == ("sh", "-c", 'echo "$@"', "two words")
    assert os.access(command.program, os.X_OK)
    assert Path(command.program).name == "sh"


def test_a_time_limit_without_a_command_is_refused(tmp_path, monkeypatch, capsys):
    refuse = Cli(monkeypatch, capsys).refuse
    arguments = ("recv", "-o", tmp_path / "out", *endpoint().flags, "--hook-timeout")
    code, error = refuse(*arguments, 5)
    assert (code, "--on-complete" in error) == (2, True)
    code, error = refuse(*arguments, 0, "--on-complete", "true")
    assert (code, "--hook-timeout 0" in error) == (2, True)


@given(name=st.text())
@example(name="")
@example(name="../../etc/passwd")
@example(name="--force")
@example(name="-.-.hidden")
@example(name="...")
@example(name="$(reboot)")
@example(name="größe – 1.bin")
@example(name="x" * 300)
@example(name="." * 200 + "x")
def test_safe_names(name):
    safe = safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", safe)
    assert len(safe) <= MAX_SAFE_NAME
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,100}", name):
        assert safe == name
