"""Completions, as shells show them to people; the command itself is never started for it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.generate import SHARE
from tests.support.command_line import verbs
from tests.support.completions import Offer, offer, words
from tests.support.shells import ECHO, Shell, shell

FOLDER = SHARE / "completions"
ODD = "two words: a.bin"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where there is a file, one with an odd name, and a folder."""
    made = tmp_path_factory.mktemp("place")
    (made / "image.iso").touch()
    (made / ODD).touch()
    (made / "folder").mkdir()
    return made


def needed(name: str) -> str:
    if not shutil.which(name):
        pytest.skip(f"{name} is not here")
    return name


@pytest.fixture(scope="module")
def bash(place: Path) -> Iterator[Shell]:
    command = (needed("bash"), "--norc", "--noprofile")
    with shell(*command, set_prompt="PS1='>'' > '", folder=place) as one:
        one.type(f"{ECHO}; source {FOLDER / 'pgmlite.bash'}\n")
        yield one


@pytest.fixture(scope="module")
def zsh(place: Path) -> Iterator[Shell]:
    quiet = "PS1='>'' > '; unsetopt prompt_cr prompt_sp; unset zle_bracketed_paste"
    with shell(needed("zsh"), "-f", set_prompt=quiet, folder=place) as one:
        one.type(f"{ECHO}; fpath=({FOLDER} $fpath); autoload -U compinit; compinit -u -D\n")
        yield one


TYPED = [
    ("pgmlite se\t--ord\troun\t", "<send><--order><rounds>"),
    ("pgmlite --vers\t", "<--version>"),
    ("pgmlite send im\t", "<send><image.iso>"),
    ("pgmlite send --order=bl\t", "<send><--order=blocks>"),
    ("pgmlite send -r m\t--fec of\t", "<send><-r><max><--fec><off>"),
    ("pgmlite send --json two\t", f"<send><--json><{ODD}>"),
    ("pgmlite recv -o fol\t", "<recv><-o><folder/>"),
    ("pgmlite recv -i l\t", "<recv><-i><lo>"),
    ("pgmlite recv --spool f\t", "<recv><--spool><folder/>"),
    ("pgmlite recv --on-complete true\t", "<recv><--on-complete><true>"),
    ("pgmlite recv --timeout im\t", "<recv><--timeout><im>"),
    ("pgmlite compare kin\t", "<compare><kinds>"),
    ("pgmlite compare im\t", "<compare><image.iso>"),
]


@pytest.mark.parametrize(("keys", "shown"), TYPED, ids=[keys.strip() for keys, _ in TYPED])
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_what_is_typed_is_completed(
    name: str, keys: str, shown: str, request: pytest.FixtureRequest
) -> None:
    said = request.getfixturevalue(name).type(f"{keys}\n")
    # Of a long option with a value zsh makes one word, and cuts the slash of a mere folder.
    said = said.replace("=", "><") if "=" not in keys else said
    assert shown in said or shown.replace("/>", ">") in said.replace("/>", ">"), said
    if "-o " in keys:
        assert shown in said


def offered(line: str, folder: Path) -> set[str]:
    """Return what fish offers behind a line."""
    script = f"source {FOLDER / 'pgmlite.fish'}; complete -C '{line}'"
    home = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    command = [needed("fish"), "--no-config", "-c", script]
    done = subprocess.run(
        command, cwd=folder, env=home, capture_output=True, text=True, check=True, timeout=60
    )
    assert not done.stderr
    return {one.partition("\t")[0] for one in done.stdout.splitlines()}


def test_fish_offers_the_same(place: Path) -> None:
    assert offered("pgmlite se", place) == {"send"}
    assert offered("pgmlite send --ord", place) == {"--order"}
    assert offered("pgmlite send --order ", place) == {"rounds", "blocks"}
    assert offered("pgmlite send im", place) == {"image.iso"}
    assert offered("pgmlite recv -o fo", place) == {"folder/"}
    assert offered("pgmlite recv -i l", place) == {"lo"}
    assert offered("pgmlite recv --timeout im", place) == set()
    assert offered("pgmlite compare kin", place) == {"kinds"}


def test_all_verbs_and_options_are_offered(place: Path) -> None:
    known = verbs()
    assert {one.name for one in known} == offered("pgmlite ", place)
    for verb in known:
        names = {name for option in verb.options for name in option.names}
        assert names == offered(f"pgmlite {verb.name} -", place), verb.name


NOTHING = (
    "ADDR ADDR[%IF] ADDR|NAME ADDR:PORT [ADDR]:PORT GROUP,RATE NAME GLOB "
    "N N,N I/N ID PORT RATE SHARE DURATION BYTES MIB MS TIME "
    "KIND MODES ORDER HOW SEED tcp://HOST:PORT"
)
"""Values for which nothing can be offered."""


def test_every_value_is_offered_something_or_is_known_to_have_nothing() -> None:
    """A new kind of value has to be decided on, and does not fall to nothing by itself."""
    given = [one for verb in verbs() for one in (*verb.options, *verb.arguments) if one.value]
    unknown = {one.value for one in given if offer(one) is Offer.NOTHING and not words(one)}
    assert unknown - set(NOTHING.split()) == set()
