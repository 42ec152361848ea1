"""The whole suite on two processors: the laboratories beside all the rest.

    python -m tests.suite [OPTION...]

runs pytest twice at the same time, with the same options, and prints what each of them said. Both
together take as long as the longer one. Laboratories wait more than they work, and are one after
another, so that no two of them measure each other.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NO_TESTS = 5
"""What pytest says if there are none."""

HALVES = {"laboratories": "lab", "all the rest": "not lab"}


def main(*options: str) -> int:
    """Run both; return 0 if both are good."""
    began, started = time.monotonic(), []
    for name, mark in HALVES.items():
        said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read when the process has ended
        # A cache for both would be written by both.
        command = [sys.executable, "-m", "pytest", "-m", mark, "-p", "no:cacheprovider", *options]
        started.append((name, said, subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)))
    codes = []
    for name, said, process in started:
        codes.append(process.wait())
        said.seek(0)
        print(f"{name}, after {time.monotonic() - began:.0f} s:\n{said.read()}", flush=True)
        said.close()
    # Of some files all tests are of one half.
    return max((code for code in codes if code != NO_TESTS), default=NO_TESTS)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
