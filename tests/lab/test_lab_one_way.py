"""The recipe for a link that carries packets one way: nothing at all comes back, not even ARP."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.lab import Lab, Process, random_file, until

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
RECIPES = (ROOT / "spec" / "recipes.md").read_text()

(TEXT,) = re.findall(r"## A one-way link\n.*?```sh\n(.*?)```", RECIPES, re.DOTALL)


def of_recipe(verb: str, folder: Path) -> list[str]:
    """Return the options of a command in the recipe, for the lab's links and a folder."""
    (line,) = re.findall(rf"^pgmlite {verb} (.*)$", TEXT, re.MULTILINE)
    there = line.replace("diode0", "eth0").replace("/srv/", f"{folder}/")
    return shlex.split(there)


def test_folders_cross_a_link_on_which_nothing_comes_back(tmp_path: Path) -> None:
    out, there = tmp_path / "out", tmp_path / "in"
    out.mkdir()
    random_file(out / "first", 2)
    with Lab(receivers=1) as lab:
        lab.drop("iifname vR1", shared=True)
        lab.loss(0.5)
        with lab.capture("S", match="src host fd01::11 or src host 10.9.0.11") as heard:
            receiver = lab.pgmlite("R1", "recv", *of_recipe("recv", tmp_path))
            lab.pgmlite("S", "send", *of_recipe("send", tmp_path))
            arrives(receiver, out, there, "first")
            new = tmp_path / "new"
            new.mkdir()
            random_file(new / "second", 1, seed=2)
            out.rename(tmp_path / "old")
            new.rename(out)
            arrives(receiver, out, there, "second")
        assert heard.matched == 0


def arrives(receiver: Process, out: Path, there: Path, name: str) -> None:
    """Wait until a file of the folder is in place at the other end."""
    until(lambda: (there / name).exists(), f"{name} {receiver}", 60)
    assert (there / name).read_bytes() == (out / name).read_bytes()
