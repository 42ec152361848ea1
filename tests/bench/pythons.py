"""Each Python: install as README says, run the demonstration, write what is generated.

    python -m tests.bench.pythons [PYTHON...]

Of each interpreter, python3.11, python3.12 and python3.13 by default, as far as they are here: an
environment of its own, the package with all extras, `demo`, and all generated files, which must be
the same bytes. Then, by name, whether every dependency and extra has wheels on the next Python,
on x86-64 and ARM64; nothing of it is installed. Needs a package index; without one it says so.
Exit code 1 if anything was not as it should be.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("python3.11", "python3.12", "python3.13")
NEXT = "3.14"
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")
EXTRAS = "captures,cluster,dns,plots,trust"
PATIENCE = 600.0

SAME = """
from tests import generate
wrong = [str(path) for path, text in generate.files() if path.read_text() != text]
print("generated files differ: " + ", ".join(wrong) if wrong else "generated files: the same bytes")
raise SystemExit(bool(wrong))
"""


class Failed(Exception):
    """A step failed; the message has its last words."""


def step(name: str, *command: str | Path) -> str:
    """Run a step in the repository; return the last line that it printed."""
    began = time.monotonic()
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.strip()] or [""]
    print(
        f"  {name}: {time.monotonic() - began:.0f} s, code {done.returncode}; {lines[-1]}",
        flush=True,
    )
    if done.returncode:
        raise Failed("\n".join(lines[-8:]))
    return done.stdout


def environment(python: str, folder: Path) -> Path:
    """Make a virtual environment; return its folder of programs."""
    step("environment", python, "-m", "venv", folder)
    return folder / "bin"


def tried(python: str, folder: Path) -> None:
    """Install with a Python, and use it."""
    programs = environment(python, folder)
    step("install", programs / "pip", "install", "--quiet", f".[{EXTRAS}]")
    step("demo", programs / "pgmlite", "demo", "--size", "4")
    step("generate", programs / "python", "-c", SAME)


def resolved(folder: Path) -> None:
    """Find wheels of all dependencies for the next Python."""
    programs = environment(sys.executable, folder)
    step("uv", programs / "pip", "install", "--quiet", "uv")
    for platform in PLATFORMS:
        options = ["--no-build", "--all-extras", "--no-header", "--no-annotate", "--quiet"]
        where = ["--python-version", NEXT, "--python-platform", platform]
        found = step(
            f"{NEXT} on {platform}",
            programs / "uv",
            "pip",
            "compile",
            *options,
            *where,
            "pyproject.toml",
        )
        print(f"    {sum('==' in line for line in found.splitlines())} packages, all as wheels")


def main(*pythons: str) -> int:
    """Try them; return the exit code."""
    code = 0
    with tempfile.TemporaryDirectory() as name:
        for python in pythons or PYTHONS:
            if not shutil.which(python):
                print(f"{python} is not here")
                continue
            print(python, flush=True)
            try:
                tried(python, Path(name) / python.replace("/", "_"))
            except Failed as error:
                print(error)
                code = 1
        print(f"Python {NEXT}", flush=True)
        try:
            resolved(Path(name) / "uv")
        except Failed as error:
            print(f"not found, or no package index can be reached:\n{error}")
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
