"""The recipes for installers do what they say: their own texts, and commands that stand in."""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.loopback import Running, endpoint, make_file, run, sending

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "spec" / "recipes.md").read_text()
RECIPES = {
    name: (suffix, body)
    for body in re.findall(r"^```toml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    for name, suffix in re.findall(r"^\[(\w+)\]\noutput = \".*(\.\w+)\"", body)
}
COMMANDS = {
    "rauc": ["rauc", "install"],
    "swupdate": ["swupdate-client", "-v", "-p"],
    "mender": ["mender-update", "install"],
}
"""Of the installers' own manuals; the path of the file follows."""

STUB = """#!/bin/sh
printf '%s\\n' "$0" "$@" "$PGMLITE_RELEASE" "$PGMLITE_ATTEMPT" > "{said}.new"
cat "$PGMLITE_PATH" >> "{said}.new"
mv "{said}.new" "{said}.$PGMLITE_RELEASE"
"""


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A device: the folders that recipes name, below one of its own."""
    for folder in ("etc/keys", "var", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def of_device(text: str, device: Path) -> str:
    """Return a recipe with the folders of a device in place of the system's."""
    moved = text.replace("/etc/pgmlite", str(device / "etc"))
    return moved.replace("/var/lib/pgmlite", str(device / "var"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with k.pub.pem, and 1.bin and 2.bin that are signed as the recipe says."""
    folder = tmp_path_factory.mktemp("signed")
    assert run("keygen", folder / "k.pem").code == 0
    line = next(line for line in TEXT.splitlines() if line.startswith("pgmlite sign update.raucb"))
    for release in (1, 2):
        source = make_file(folder / f"{release}.bin", 40_000, seed=release)
        ours = {"update.raucb": source, "k.pem": folder / "k.pem", "17": release}
        assert run(*(ours.get(word, word) for word in shlex.split(line)[1:])).code == 0
    return folder


def test_each_installer_has_a_recipe() -> None:
    assert RECIPES.keys() == COMMANDS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_the_recipe_installs_each_release_once(name: str, device: Path, signed: Path) -> None:
    suffix, recipe = RECIPES[name]
    program, *options = COMMANDS[name]
    said = device / "said"
    stub = device / "bin" / program
    stub.write_text(STUB.format(said=said))
    stub.chmod(0o755)
    shutil.copy(signed / "k.pub.pem", device / "etc" / "keys")
    config = device / "etc" / f"{name}.toml"
    config.write_text(of_device(recipe, device))
    output = device / "var" / name / f"update{suffix}"
    output.parent.mkdir()
    place = endpoint()
    env = {
        "PATH": f"{stub.parent}:{os.environ['PATH']}",
        "PGMLITE_STATE": str(device / "state"),
    }
    # What the command line says wins: a test has no eth0, and a group of its own.
    words = ("recv", "--follow", "--config", config, *place.flags, "--json")
    at = -1.0
    with Running(*words, env=env) as receiver:
        for release in (1, 2):
            source = signed / f"{release}.bin"
            with sending(Path(f"{source}.pglm"), place, rate="20M"):
                done = receiver.event(
                    "hook", lambda event, at=at: event["phase"] == "done" and event["at"] > at
                )
            assert done["attempt"] == 1
            at = done["at"]
            lines = Path(f"{said}.{release}").read_bytes()
            head = [str(stub), *options, str(output), str(release)]
            assert lines.startswith("\n".join(head).encode() + b"\n")
            assert lines.endswith(source.read_bytes())
            assert output.read_bytes() == source.read_bytes()
        ended = receiver.stop()
    assert ended.code == 0
    hooks = [event for event in ended.events if event["event"] == "hook"]
    assert [event["phase"] for event in hooks] == ["started", "done"] * 2
