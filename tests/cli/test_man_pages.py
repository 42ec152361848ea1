"""Manual pages: all of the command line is in them, and formatters have no complaint."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pgmlite.cli import VERBS
from pgmlite.cli.codes import EXIT_CODES, EXIT_INTERNAL, EXIT_OK, MEANINGS
from tests.generate import ROOT, SHARE
from tests.support.command_line import verbs
from tests.support.man_pages import plain, running

FOLDER = SHARE / "man" / "man1"
PAGES = sorted(FOLDER.iterdir())


def test_every_verb_has_a_page() -> None:
    assert {path.name for path in PAGES} == {"pgmlite.1", *(f"pgmlite-{verb}.1" for verb in VERBS)}


@pytest.mark.parametrize("verb", verbs(), ids=lambda verb: verb.name)
def test_a_page_has_every_option_with_its_default_and_its_variable(verb) -> None:
    page = (FOLDER / f"pgmlite-{verb.name}.1").read_text()
    for option in verb.options:
        head = ", ".join(rf"\fB{plain(name)}\fR" for name in option.names)
        _, found, rest = page.partition(f".TP\n{head}")
        assert found, option.names
        said = " ".join(rest.partition("\n.TP")[0].partition("\n.SH")[0].split())
        assert plain(option.value) in said
        assert plain(option.default) in said
        assert option.variable in said


def test_readme_and_the_pages_say_the_same_of_exit_codes() -> None:
    assert MEANINGS.keys() == {EXIT_OK, EXIT_INTERNAL, *EXIT_CODES.values()}
    readme = (ROOT / "README.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code} | {meaning} |" in readme


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as `recv --key` does", r"as \fBrecv \-\-key\fR does"),
        ("in place of -o and --rate-limit.", r"in place of \fB\-o\fR and \fB\-\-rate\-limit\fR."),
        ("a stand-alone one", "a stand-alone one"),
        ("~/x, C:\\ and 'y'", r"\(ti/x, C:\e and \(aqy\(aq"),
        ("-o - or /dev/a-b", r"\fB\-o\fR \- or /dev/a-b"),
    ],
)
def test_words_are_set_as_they_are_typed(text, shown) -> None:
    assert running(text) == shown


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_formatters_have_no_complaint(path: Path) -> None:
    if not shutil.which("man"):
        pytest.skip("man is not here")
    env = os.environ | {"LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    command = ["man", "--warnings", "-Tutf8", "-l", str(path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub("\x1b\\[[0-9;]*m|.\b", "", done.stdout)
    assert "EXIT STATUS" in shown
    assert not re.search(r"\\f|\\\(|\(aq", shown)
    if shutil.which("mandoc"):
        lint = ["mandoc", "-Tlint", "-Wwarning", str(path)]
        done = subprocess.run(lint, capture_output=True, text=True, timeout=60)
        # A date would differ from one build to another.
        complaints = [one for one in done.stdout.splitlines() if "missing date" not in one]
        assert complaints == []


def test_nothing_around_changes_what_is_written() -> None:
    script = (
        "import json\n"
        "from tests.support import completions, man_pages\n"
        "print(json.dumps(man_pages.pages() | completions.completions()))"
    )
    elsewhere = {
        "COLUMNS": "40",
        "LC_ALL": "tr_TR.UTF-8",
        "PGMLITE_RATE": "1M",
        "PGMLITE_INTERFACE": "eth9",
        "PYTHONHASHSEED": "7",
        "FORCE_COLOR": "1",
    }
    made = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | elsewhere,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    files = [*PAGES, *(SHARE / "completions").iterdir()]
    assert json.loads(made) == {path.name: path.read_text() for path in files}
