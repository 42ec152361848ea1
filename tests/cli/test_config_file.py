"""`recv --config`: what a file may say, what wins, and how a mistake is said."""

from __future__ import annotations

import os
from importlib import import_module

import pytest

from tests.support.loopback import Cli

verb = import_module("pgmlite.cli.recv")

GOOD = 'output = "/srv/out"\n'


@pytest.fixture
def cli(monkeypatch, capsys):
    return Cli(monkeypatch, capsys)


@pytest.fixture
def config(tmp_path):
    def write(text: str):
        path = tmp_path / "c.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def given(cli, config, monkeypatch):
    """Return what `receive` is given for each table."""

    def parse(text: str, *options: object) -> list[dict]:
        seen: list[dict] = []

        def receive(output, **more):
            seen.append({"output": output} | more)
            return Nothing()

        monkeypatch.setattr(verb, "receive", receive)
        monkeypatch.setattr(verb, "together", lambda handles: Nothing())
        monkeypatch.setattr(verb, "told_of", lambda handle, *rest: handle)
        monkeypatch.setattr(verb.Output, "follow", lambda shown, handle: None)
        code, stderr = cli("recv", "--config", config(text), *options)
        assert code == 0, stderr
        return seen

    return parse


class Nothing:
    """Stands for a handle."""

    def follow(self):
        return self

    def stop(self, reason):
        raise AssertionError

    def reload(self):
        raise AssertionError


def test_each_table_is_a_receiver_and_what_stands_above_is_for_all(given):
    one, two = given(
        """
port = 9
rate-limit = "20M"
key = ["/etc/keys"]
no-nak = true
[t1]
output = "/srv/1"
max-size = 5000
timeout = "5m"
channels = 2
[t2]
output = "/srv/2"
rate-limit = "5M"
hook-timeout = 1.5
on-complete = "true"
"""
    )
    assert (one["output"], two["output"]) == ("/srv/1", "/srv/2")
    assert (one["port"], two["port"], one["naks"], two["naks"]) == (9, 9, False, False)
    assert (one["rate_limit"], two["rate_limit"]) == (20_000_000, 5_000_000)
    assert (one["max_size"], one["timeout"], one["channels"]) == (5_000, 300.0, "2")
    assert (two["hook_timeout"], two["on_complete"], two["timeout"]) == (1.5, "true", None)
    assert [str(path) for path in one["keys"]] == ["/etc/keys"]


def test_options_win_then_the_environment_then_the_table_then_what_is_above(given, monkeypatch):
    text = f'group = "239.0.0.1"\nport = 1\n[t]\n{GOOD}group = "239.0.0.2"\ninterface = "a"\n'
    assert (given(text)[0]["group"], given(text)[0]["port"]) == ("239.0.0.2", 1)
    monkeypatch.setenv("PGMLITE_GROUP", "239.0.0.3")
    monkeypatch.setenv("PGMLITE_INTERFACE", "b")
    (one,) = given(text)
    assert (one["group"], one["interface"]) == ("239.0.0.3", "b")
    (one,) = given(text, "-g", "239.0.0.4", "--port", 7)
    assert (one["group"], one["port"], one["interface"]) == ("239.0.0.4", 7, "b")


def test_a_service_takes_the_place_of_the_group_above(given):
    text = f'group = "239.0.0.1"\n[t]\n{GOOD}service = "fw.example.org"\n'
    assert "group" not in given(text)[0]
    text = f'service = "fw.example.org"\n[t]\n{GOOD}group = "239.0.0.1"\n'
    assert (given(text)[0]["name"], given(text)[0]["group"]) == (None, "239.0.0.1")


WRONG = {
    "": "has no table",
    GOOD: "has no table",
    "[t": "at end of document",
    "[t]\nx == 1": "line 2",
    f"[t]\n{GOOD}outptu = 1": "[t]: there is no 'outptu'; did you mean 'output'?",
    f"prot = 1\n[t]\n{GOOD}": "there is no 'prot'; did you mean 'port'?",
    f"[t]\n{GOOD}zzzzzzz = 1": "keys are the long names of options",
    f"[t]\n{GOOD}json = true": "for the command line",
    f"[t]\n{GOOD}config = 'x'": "for the command line",
    f"[t]\n{GOOD}port = '9'": "[t]: port: must be a whole number",
    f"[t]\n{GOOD}port = true": "must be a whole number",
    f"[t]\n{GOOD}follow = 1": "must be true or false",
    f"[t]\n{GOOD}key = '/k'": "must be a list of strings",
    f"[t]\n{GOOD}key = [1]": "must be a list of strings",
    f"[t]\n{GOOD}timeout = [1]": "must be a number of seconds",
    f"[t]\n{GOOD}timeout = 'soon'": "timeout soon",
    f"[t]\n{GOOD}drop = 1979-05-27": "must be a string",
    f"[t]\n{GOOD}rate-limit = 'x'": "[t]: rate-limit x",
    f"[t]\n{GOOD}keep = -1": "[t]: ",
    "[t]\noutput = 5": "must be a string",
    "[t]\noutput = 'out'": "output out: is relative",
    f"[t]\n{GOOD}base = ['x']": "base x: is relative",
    f"[t]\n{GOOD}on-complete = 'bin/x'": "on-complete bin/x: is relative",
    f"[t]\n{GOOD}on-complete = 'nosuchprogram'": "nosuchprogram: not found",
    f"[t]\n{GOOD}[u]\n{GOOD}": "[u]: output /srv/out: is that of [t], too",
    f"[t]\n{GOOD}follow = true\ntimeout = 5": "[t]: timeout: who follows never ends",
    f"[t]\n{GOOD}stream = 'x'": "[t]: stream",
    f"['a b']\n{GOOD}": "name it with",
    f"[t]\n{GOOD}[t.u]\n": "there is no 'u'",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_mistake_is_said_with_the_file_and_the_table(cli, config, text):
    path = config(text)
    code, error = cli.refuse("recv", "--config", path)
    assert (code, error.startswith(f"pgmlite: config {path}: ")) == (2, True)
    assert WRONG[text] in error


def test_a_file_that_others_may_change_is_refused(cli, config, tmp_path):
    path = config(f"[t]\n{GOOD}")
    path.chmod(0o664)
    assert cli.refuse("recv", "--config", path) == (
        7,
        f"pgmlite: config {path}: others may write it; chmod go-w {path}",
    )
    path.chmod(0o644)
    tmp_path.chmod(0o777)
    assert "others may replace" in cli.refuse("recv", "--config", path)[1]
    tmp_path.chmod(0o755)
    if not os.geteuid():
        os.chown(path, 12_345, 0)
        assert "belongs to user 12345" in cli.refuse("recv", "--config", path)[1]


def test_what_is_no_file_is_refused(cli, tmp_path):
    assert cli.refuse("recv", "--config", tmp_path / "nosuch")[0] == 7
    assert cli.refuse("recv", "--config", tmp_path)[0] == 7
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert "UTF-8" in cli.refuse("recv", "--config", tmp_path / "bytes")[1]
    (tmp_path / "long").write_bytes(b"#" * (1 << 21))
    assert "longer" in cli.refuse("recv", "--config", tmp_path / "long")[1]
    os.mkfifo(tmp_path / "fifo")
    assert "regular" in cli.refuse("recv", "--config", tmp_path / "fifo")[1]


def test_a_wrong_option_on_the_command_line_is_said_once(cli, config):
    code, error = cli.refuse("recv", "--config", config(f"[t]\n{GOOD}"), "--port", "x")
    assert (code, "port" in error) == (2, True)
