"""The recipe for sites behind routers, command by command, in a routed lab."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.crossing import IP_HEADER, RDATA, UDP_HEADER, ended, sources
from tests.support.lab import NAK_PORT, PGMLITE, random_file
from tests.support.routed import GROUPS, RoutedLab, address
from tests.support.services import SERVICE, served

ROOT = Path(__file__).parents[2]

(TEXT,) = re.findall(
    r"^## Sites behind routers\n(.*)", (ROOT / "spec" / "recipes.md").read_text(), re.S | re.M
)


class Site(NamedTuple):
    """What became of the machines of one site.

    Attributes:
        results: Their ends.
        repairs: Addresses from which repairs crossed the link to the first of them.
    """

    results: list[dict[str, Any]]
    repairs: set[str]


class Recipe:
    """Its commands, with the lab's names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.S)
        self._lines = [line for block in blocks for line in block.splitlines()]

    def words(self, pattern: str, fw: Path) -> list[str]:
        """Return the words behind ``pgmlite`` of the one command that is like this.

        Args:
            fw: In place of ``fw.bin``.
        """
        (line,) = [line for line in self._lines if re.fullmatch(f"pgmlite {pattern}", line)]
        for theirs, ours in (
            ("fw.example.org", SERVICE),
            ("ff3e::8000:1", GROUPS[6]),
            ("2001:db8:a::1", address("S")),
            ("2001:db8:51::2", address("P")),
            ("28776", str(NAK_PORT)),
            ("fw.bin", str(fw)),
            ("k.pem", str(self._folder / "k.pem")),
            ("keys", str(self._folder / "k.pub.pem")),
        ):
            line = line.replace(theirs, ours)
        return shlex.split(line)[1:]


def supplied(lab: RoutedLab, folder: Path) -> Site:
    """A centre, a repairer at one site, and two machines there that lose a twentieth each."""
    recipe, source = Recipe(folder), random_file(folder / "fw.bin", 2)
    subprocess.run([*PGMLITE, "keygen", str(folder / "k.pem")], check=True)
    subprocess.run([*PGMLITE, *recipe.words("sign .*", source)], check=True)
    printed = lab.run("S", *PGMLITE, *recipe.words("send --print-dns .*", source))
    with served(lab, folder, printed):
        lab.resolve("P", address("B"))
        lab.pgmlite("S", *recipe.words("send fw.bin.pglm .*", source)).event("start")
        copy = folder / "P" / "fw.bin"
        copy.parent.mkdir()
        ended(lab.pgmlite("P", *recipe.words("recv .* --stream acme/x1", copy)))
        shutil.copy(folder / "fw.bin.pglm", copy.parent)
        return _repaired(lab, folder, recipe, copy)


def _repaired(lab: RoutedLab, folder: Path, recipe: Recipe, copy: Path) -> Site:
    lab.pgmlite("P", *recipe.words("repair .*", copy)).event("start")
    lab.loss(0.05, ["R1", "R3"])
    at = IP_HEADER[6] + UDP_HEADER + 3
    match = f"udp and dst host {GROUPS[6]} and ip6[{at}] == {RDATA}"
    with lab.capture("SW", "vR1", match=match) as capture:
        processes = [
            lab.pgmlite(node, *recipe.words("recv .* --repairer .*", folder / node))
            for node in ("R1", "R3")
        ]
        results = [ended(process) for process in processes]
    for node in ("R1", "R3"):
        assert (folder / node).read_bytes() == copy.read_bytes()
    return Site(results, sources(capture, 6))
