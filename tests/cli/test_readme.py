"""What README and the pages beside it tell people to type is understood, and leads somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pgmlite.cli import VERBS, app
from pgmlite.cli.config_file import read_config
from tests.generate import ROOT

README = ROOT / "README.md"
SPEC = sorted((ROOT / "spec").glob("*.md"))
PAGES = [README, *SPEC]
FOR_USERS = [page for page in PAGES if page.stem not in {"protocol", "decisions", "fec"}]
FIRST_SCREEN = 40
MOST_LINES = 450


def blocks(text: str) -> Iterator[str]:
    """Yield what is typed: lines of shell, and of sessions those behind a prompt."""
    for kind, body in re.findall(r"^```(sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in body.replace("\\\n", " ").splitlines():
            if kind == "sh":
                yield line
            elif found := re.match(r"(?:\w+)?[$#] (.*)", line):
                yield found[1]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of ours in blocks and in running text."""
    inline = re.findall(r"`(pgmlite [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    for line in [*blocks(text), *inline]:
        words = shlex.split(line.replace("\n", " "), comments=True)
        for at, word in enumerate(words):
            if word.rpartition("/")[2] == "pgmlite":
                rest = words[at + 1 :]
                end = next((n for n, one in enumerate(rest) if one in {"|", "&&", ";"}), len(rest))
                yield rest[:end]


TYPED = [words for path in FOR_USERS for words in commands(path.read_text()) if len(words) > 1]
"""A verb alone is only spoken of."""


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_what_is_typed_is_understood(words: list[str]) -> None:
    verb, *rest = words
    assert verb in VERBS
    command = app.get_command(click.Context(app), verb)
    assert command is not None
    command.make_context(verb, rest)


TABLES = [
    text
    for path in FOR_USERS
    for text in re.findall(r"^```toml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
]


@pytest.mark.parametrize("text", TABLES, ids=lambda text: re.findall(r"\[(\w+)\]", text)[0])
def test_configurations_are_understood(text: str, tmp_path: Path) -> None:
    command = app.get_command(click.Context(app), "recv")
    assert command is not None
    config = tmp_path / "config.toml"
    config.write_text(text)
    assert read_config(config, command)


def test_there_is_much_to_type() -> None:
    assert len(TYPED) > 60


def test_the_first_screen_has_what_a_newcomer_needs() -> None:
    screen = README.read_text().partition("\n## ")[0]
    assert screen.count("\n") + 1 <= FIRST_SCREEN
    assert {words[0] for words in commands(screen)} >= {"demo", "send", "recv", "doctor"}


def test_readme_is_short_enough_to_be_read() -> None:
    assert README.read_text().count("\n") <= MOST_LINES


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M)
    heads = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith("http"):
            continue
        place, _, anchor = target.partition("#")
        there = (path.parent / place).resolve() if place else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target
