"""What signing costs: python -m tests.bench.signing [MiB ...]

Time, CPU and memory of `write_signed` and of opening what it wrote, each in a process of its own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pgmlite.storage.signed import SignedFile, write_signed
from pgmlite.storage.source import SourceFile
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import DIGEST_SIZE
from pgmlite.wire.manifest import Manifest, Release

SYMBOL, BLOCK, FEC = 1_404, 1_024, 0.5

SIZES = (64, 256, 1_024)
"""MiB."""


def memory() -> int:
    """Return the MiB that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def planned(size: int) -> Manifest:
    """Return the manifest of an object of so many bytes, without its digests."""
    geometry = Geometry.planned(size, SYMBOL, BLOCK, FEC, is_signed=True)
    shape = (geometry.repair_symbols, geometry.tile_blocks, (), Release("bench", 1, 1))
    blank = bytes(DIGEST_SIZE)
    return Manifest(SYMBOL, geometry.block_symbols, size, blank, "bench", (), *shape, blank)


def measure(what: str, path: Path) -> None:
    """Print what one step costs."""
    before = memory()
    began, cpu = time.monotonic(), time.process_time()
    if what == "sign":
        source = SourceFile(path)
        write_signed(path.with_suffix(".pglm"), source, planned(source.size), lambda _: ())
        source.close()
    else:
        SignedFile(path.with_suffix(".pglm")).close()
    took, cpu = time.monotonic() - began, time.process_time() - cpu
    print(f"  {what}: {took:.2f} s, CPU {cpu:.2f} s, {before} -> {memory()} MiB", flush=True)


def main(words: list[str]) -> None:
    """Measure all sizes."""
    if words[:1] in (["sign"], ["open"]):
        measure(words[0], Path(words[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "content"
        for size in map(int, words or SIZES):
            with path.open("wb") as file:
                for _ in range(size):
                    file.write(os.urandom(1 << 20))
            print(f"{size} MiB", flush=True)
            for what in ("sign", "open"):
                command = [sys.executable, "-m", "tests.bench.signing", what, str(path)]
                subprocess.run(command, check=True)
            share = path.with_suffix(".pglm").stat().st_size / path.stat().st_size
            print(f"  FILE.pglm: {share:.2%} of the content")


if __name__ == "__main__":
    main(sys.argv[1:])
