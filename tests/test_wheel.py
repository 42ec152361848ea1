"""What is installed: the package, and beside it what shells, man and systemd look for."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

from pgmlite import __version__
from tests.generate import ROOT, SHARE

COMPLETIONS = {
    "pgmlite.bash": "share/bash-completion/completions/pgmlite",
    "_pgmlite": "share/zsh/site-functions/_pgmlite",
    "pgmlite.fish": "share/fish/vendor_completions.d/pgmlite.fish",
}


def places() -> dict[str, Path]:
    """Return where each file of ours belongs, from the root of an installation."""
    pages = (SHARE / "man" / "man1").iterdir()
    found = {f"share/man/man1/{page.name}": page for page in pages}
    found |= {f"lib/systemd/system/{unit.name}": unit for unit in (SHARE / "systemd").iterdir()}
    return found | {place: SHARE / "completions" / name for name, place in COMPLETIONS.items()}


def pip(*words: object) -> None:
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    command = [sys.executable, "-m", "pip", *map(str, words), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (one,) = folder.iterdir()
    return one


def test_the_wheel_has_the_package_and_what_goes_beside_it(wheel: Path) -> None:
    assert wheel.name == f"pgmlite-{__version__}-py3-none-any.whl"
    data = f"pgmlite-{__version__}.data/data/"
    with ZipFile(wheel) as opened:
        names = set(opened.namelist())
        beside = {name.removeprefix(data) for name in names if name.startswith(data)}
        assert beside == places().keys()
        for place, source in places().items():
            assert opened.read(data + place) == source.read_bytes()
    package = {name for name in names if name.startswith("pgmlite/")}
    tracked = {path for path in (ROOT / "pgmlite").rglob("*") if path.is_file()}
    wanted = {str(path.relative_to(ROOT)) for path in tracked if "__pycache__" not in path.parts}
    assert package == {name for name in wanted if not name.startswith("pgmlite/share/")}


def test_man_finds_the_pages_once_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    if not shutil.which("man"):
        pytest.skip("man is not here")
    # Without the last of these, what runs the tests would be replaced, and its command be gone.
    options = ("--no-warn-script-location", "--no-compile", "--ignore-installed")
    command = Path(sysconfig.get_path("scripts")) / "pgmlite"
    before = command.exists()
    pip("install", "--prefix", tmp_path, *options, wheel)
    assert command.exists() == before
    folder = tmp_path / "share" / "man"
    # As of git, a page of a verb is found by both its names.
    for words, name in [("pgmlite", "pgmlite"), ("pgmlite recv", "pgmlite-recv")]:
        command = ["man", "-M", str(folder), "-w", *words.split()]
        env = os.environ | {"LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines() == [str(folder / "man1" / f"{name}.1")], done.stderr
    assert (tmp_path / "bin" / "pgmlite").exists()
