"""Configurations with what TOML can say and nothing here can have."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from pgmlite.cli.config_file import read_config
from pgmlite.cli.recv import recv
from pgmlite.errors import UsageError


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('output = "/a\\u0000b"', r"\[a\]: output: has a NUL"),
        ('key = ["/a", "/b\\u0000"]', r"\[a\]: key: has a NUL"),
        ('interface = "\\u0000"', r"\[a\]: interface: has a NUL"),
        (f"port = {'1' * 5_000}", "has a number that is too long"),
    ],
)
def test_what_nothing_can_have_is_an_error_of_the_file(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "recv.toml"
    path.write_text(f"[a]\n{line}\n")
    assert isinstance(recv, click.Command)
    with pytest.raises(UsageError, match=why):
        read_config(path, recv)
