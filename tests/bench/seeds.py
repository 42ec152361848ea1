"""What is there already is not fetched again: the output itself, and older versions.

    python -m tests.bench.seeds [MEBIBYTES]

prints how long a receiver takes whose output is right, 1 GiB by default, and how much of a quarter
of that is fetched when 10% of an older version changed; as root also on file systems that share
what two files have in common, and how much of the disk that takes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.support.disks import MIB, Disk, missing, seclude, workshop
from tests.support.loopback import PATIENCE, endpoint, receiving, sending

CHANGED = 0.1


@dataclass(frozen=True)
class Received:
    """What a receiver made of what was there."""

    code: int
    seconds: float
    """From the manifest to the end."""

    cycles: float
    """Object lengths that went by."""

    fetched: float
    """Share of the object."""

    is_right: bool
    is_same_file: bool
    left: set[str]
    """Files beside the output."""

    def __str__(self) -> str:
        return (
            f"code {self.code}, {self.seconds:.2f} s from the manifest to the end, "
            f"{self.fetched:.1%} fetched, right {self.is_right}, "
            f"the same file {self.is_same_file}, left {self.left or 'nothing'}"
        )


def receive(source: Path, output: Path, rate: str, *options: object) -> Received:
    """Receive a file where something is already."""
    before = output.stat().st_ino if output.exists() else None
    place = endpoint()
    with sending(source, place, rate=rate) as sender:
        sender.event("start")
        with receiving(output, place, *options, "--timeout", 10 * PATIENCE) as receiver:
            ended = receiver.end(10 * PATIENCE)
    manifest = ended.event("manifest")
    return Received(
        ended.code,
        ended.last["at"] - manifest["at"],
        ended.last["cycles"],
        ended.last["fetched"] / manifest["symbols"],
        same(source, output),
        output.stat().st_ino == before,
        {path.name for path in output.parent.iterdir()} - {output.name, "base"},
    )


def same(one: Path, other: Path) -> bool:
    """Whether two files have the same content; they may be larger than the memory."""
    with one.open("rb") as a, other.open("rb") as b:
        while True:
            left, right = a.read(MIB), b.read(MIB)
            if left != right:
                return False
            if not left:
                return True


def write(path: Path, mebibytes: int) -> Path:
    """Write random bytes, always the same ones, more than the memory takes at a time."""
    with path.open("wb") as file:
        for number in range(mebibytes):
            file.write(Random(number).randbytes(MIB))
    return path


def in_place(folder: Path, mebibytes: int, rate: str) -> Received:
    """Receive a file that is there already."""
    source = write(folder / "source", mebibytes)
    output = folder / "there" / "out"
    output.parent.mkdir()
    shutil.copyfile(source, output)
    os.sync()  # what is written back later is not what is measured
    return receive(source, output, rate)


def with_base(folder: Path, mebibytes: int, rate: str) -> tuple[Received, float]:
    """Receive a file of which there is an older version; return the share of the disk it takes."""
    size = mebibytes * MIB
    new, base = write(folder / "source", mebibytes), folder / "there" / "base"
    base.parent.mkdir()
    shutil.copyfile(new, base)
    with base.open("r+b") as file:
        file.seek(size // 3)
        file.write(bytes(int(CHANGED * size)))
    os.sync()
    before = os.statvfs(base.parent)
    received = receive(new, base.with_name("out"), rate, "--base", base)
    os.sync()
    after = os.statvfs(base.parent)
    return received, (before.f_bfree - after.f_bfree) * after.f_frsize / size


def main(mebibytes: int = 1_024) -> int:
    """Print what is fetched; return 1 if it was more than it should be."""
    results = []
    with tempfile.TemporaryDirectory() as name:
        results.append(in_place(Path(name), mebibytes, "100M"))
        print(f"{mebibytes} MiB in place: {results[-1]}", flush=True)
        is_good = results[0].seconds <= 3 and results[0].fetched == 0 and results[0].is_same_file
    for kind in ("ext4", "xfs", "btrfs"):
        if why := missing(kind):
            print(f"{kind}: {why}")
            continue
        with ExitStack() as opened:
            shop = opened.enter_context(workshop())
            size = 4 * mebibytes * MIB
            disk = opened.enter_context(Disk(shop / "image", shop / "disk", kind, size=size))
            received, taken = with_base(disk.folder, mebibytes // 4, "400M")
            print(f"{mebibytes // 4} MiB, {kind}, an older version: {received}")
            print(f"  {taken:.0%} of its size were taken of the disk", flush=True)
            results.append(received)
            is_good &= received.fetched <= 0.12 and (kind == "ext4" or taken < 0.2)
    return int(not is_good or any(one.code or not one.is_right or one.left for one in results))


if __name__ == "__main__":
    if not os.geteuid():
        seclude()
    sys.exit(main(*map(int, sys.argv[1:])))
