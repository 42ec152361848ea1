"""Power cuts while a folder takes the place of another, on real file systems; as root.

    python -m tests.bench.folder_cuts [CUTS [SEED [FILE_SYSTEM...]]]

As in `tests.bench.power_cuts` a disk is a loop device over an image, and a cut is a copy of that
image as it is between two of the receiver's own calls. Every copy is mounted, which recovers its
journal. Then the folder is the old one or the new one, whole; the next run finds which, clears away
what was left, and goes on. For each file system, 150 cuts by default, it prints what was found; in
capitals what must never be, and then the exit code is 1.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from pgmlite.storage import exchange, listing, neighbours, removal, syscalls, unpack
from tests.bench.power_cuts import next_boot
from tests.support.disks import Disk, clone, seclude, sh, workshop
from tests.support.folders import Receiving, holds_version, names, receive, version
from tests.support.parts import System

OLD, NEW = 1, 2

CALLED = (
    (exchange, "exchange_names"),
    (exchange, "rename_alone"),
    (neighbours, "rename_alone"),
    (unpack, "sync_disk"),
)
"""Where calls of our own are called."""

SHARES = dict.fromkeys(System.NAMES | {name for _, name in CALLED}, 0.5) | dict.fromkeys(
    System.LOOKS | System.SYNCS | {"symlink", "utime", "write"}, 0.15
)


@dataclass(frozen=True)
class FolderCut:
    """A disk as a cut left it."""

    image: Path
    where: str
    is_published: bool


class FolderPower(System):
    """Cuts the power now and then."""

    MODULES = (*System.MODULES, exchange, listing, neighbours, removal, unpack)
    CALLS = System.CALLS | {"symlink", "utime"}

    def __init__(self, disk: Disk, rng: Random, *, exchanges: bool) -> None:
        self.cuts: list[FolderCut] = []
        self.is_published = False
        self._disk, self._rng, self._exchanges = disk, rng, exchanges
        self._lock = threading.RLock()

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        share = SHARES.get(name, 0.0)
        self.maybe_cut(f"before {name}", share)
        done = function(*args, **kwargs)
        self.maybe_cut(f"after {name}", share)
        return done

    def maybe_cut(self, where: str, share: float) -> None:
        with self._lock:
            if self._rng.random() >= share:
                return
            image = self._disk.image.with_name(f"cut{len(self.cuts)}")
            self.cuts.append(FolderCut(clone(self._disk.image, image), where, self.is_published))

    @contextmanager
    def on(self) -> Iterator[FolderPower]:
        with super().on():
            patches = [patch.object(module, name, self._own(name)) for module, name in CALLED]
            for one in patches:
                one.start()
            try:
                yield self
            finally:
                for one in patches:
                    one.stop()

    def _own(self, name: str) -> Callable[..., Any]:
        function = getattr(syscalls, name)
        if name == "exchange_names" and not self._exchanges:
            return lambda *args, **kwargs: False
        return lambda *args, **kwargs: self.call(name, function, *args, **kwargs)


class FolderTrial:
    """One disk, one folder that takes the place of another, and what the cuts left."""

    def __init__(self, shop: Path, kind: str, rng: Random) -> None:
        self.found: Counter[str] = Counter()
        self._shop, self._kind = shop, kind
        self._keep = rng.choice((0, 2))
        self._exchanges = rng.random() < 0.7
        with Disk(clone(shop / "fresh", shop / "image"), shop / "disk", kind) as disk:
            output = disk.folder / "d" / "out"
            output.parent.mkdir()
            receive(output, version(OLD).sample(), self._keep)
            sh("sync", "-f", disk.folder)
            power = FolderPower(disk, rng, exchanges=self._exchanges)
            with power.on(), closing(Receiving(output, self._keep)) as receiving:
                receiving.take(version(NEW).sample())
                power.is_published = True
                power.maybe_cut("published", 1)
        for cut in power.cuts:
            self._check(cut)
            cut.image.unlink()
        (shop / "image").unlink()

    def _count(self, what: str, cut: FolderCut) -> None:
        self.found[what] += 1
        if what.isupper():
            print(f"{what}: {self._kind}, {cut.where}, keep {self._keep}", flush=True)

    def _check(self, cut: FolderCut) -> None:
        self.found["cuts"] += 1
        with Disk(cut.image, self._shop / "after", self._kind) as disk, next_boot():
            output = disk.folder / "d" / "out"
            self._look(cut, output, is_first=True)
            with closing(Receiving(output, self._keep)) as receiving:
                is_new = self._look(cut, output, is_first=False)
                if any(name.startswith(("out.un", "out.old")) for name in names(output.parent)):
                    self._count("SOMETHING IS LEFT", cut)
                receiving.take(version(NEW).sample())
                if receiving.is_new == is_new:
                    self._count("FETCHED ALTHOUGH IT WAS THERE", cut)
            if not holds_version(output, NEW):
                self._count("NOT GONE ON", cut)
            if self._keep and not holds_version(output.parent / "out.1", OLD):
                self._count("NOT KEPT", cut)

    def _look(self, cut: FolderCut, output: Path, *, is_first: bool) -> bool:
        """Look at the folder; return whether it is the new one."""
        if not output.exists() and is_first and not self._exchanges:
            self._count("missing for an instant", cut)
        elif holds_version(output, NEW):
            self._count("new", cut)
            return True
        elif not holds_version(output, OLD):
            self._count("FOLDER WRONG", cut)
        elif cut.is_published:
            self._count("PUBLISHED AND LOST", cut)
        else:
            self._count("old", cut)
        return False


def cut_folders(kind: str, cuts: int, seed: int) -> bool:
    """Cut so often on one file system; print what was found, return whether all was well."""
    rng, found = Random(seed), Counter[str]()
    with workshop() as memory, Disk(memory / "host", memory / "shop", "xfs", size=8 << 30) as host:
        shop = host.folder
        with Disk(shop / "fresh", shop / "disk", kind):
            pass
        while found["cuts"] < cuts:
            found += FolderTrial(shop, kind, rng).found
    print(f"{kind}: {', '.join(f'{name} {count}' for name, count in sorted(found.items()))}")
    return not any(name.isupper() for name in found)


def main(cuts: int = 150, seed: int = 1, systems: Sequence[str] = ("ext4", "xfs", "btrfs")) -> int:
    """Cut the power; return 1 if that did harm."""
    results = [cut_folders(kind, cuts, seed) for kind in systems]
    return int(not all(results))


if __name__ == "__main__":
    seclude()
    numbers = list(map(int, sys.argv[1:3]))
    sys.exit(main(*numbers, **({"systems": sys.argv[3:]} if sys.argv[3:] else {})))
