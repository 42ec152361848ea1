"""Power cuts while a receiver is at work, on real file systems; as root.

    python -m tests.bench.power_cuts [CUTS [SEED [FILE_SYSTEM...]]]

A disk is a loop device over an image, and a cut is a copy of that image as it is between two of the
receiver's own system calls, while pieces of its files were written to the disk or not, as a kernel
may do it. Every copy is mounted, which recovers its journal, and the next run goes on there. Half
of the objects have repair symbols, which lie in the places of what is lost until a block is
decoded. For each file system, 500 cuts by default, it prints what was found; in capitals what must
never be, and then the exit code is 1.

One thing of a real disk is missing: a cache of its own that loses what was not flushed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Self
from unittest.mock import patch

import numpy as np

from pgmlite.core.machine import Prepare
from pgmlite.errors import DiskError
from pgmlite.storage import hints, writeback
from pgmlite.storage.floors import FloorFiles
from pgmlite.storage.hints import Spans
from pgmlite.storage.record import Identity, Publication, PublishedRecord, identity_of
from pgmlite.storage.writeback import WriteBack
from pgmlite.wire.manifest import Release
from tests.support.builders import GRO_SEGMENTS, Sample, make_object
from tests.support.disks import Disk, clone, seclude, sh, workshop
from tests.support.parts import Run, System

SYMBOL, PER_BLOCK, BLOCKS = 1_404, 64, 24
REPAIRS = 64
NEW = make_object(BLOCKS * PER_BLOCK * SYMBOL + 777, symbol_size=SYMBOL, block_symbols=PER_BLOCK)
CODED = make_object(
    BLOCKS * PER_BLOCK * SYMBOL + 777,
    symbol_size=SYMBOL,
    block_symbols=PER_BLOCK,
    repair_symbols=REPAIRS,
)
"""The same bytes."""

SYMBOLS = NEW.manifest.symbols
SPARE = 8 * (BLOCKS + 1)
"""Symbols that blocks with repair symbols may fetch beyond what they need."""

SUSPECT = 64
"""And those that were believed and are wrong, before they are fetched anew."""

STRANGE = b"old firmware" * 20_000
OLDER = NEW.data[:700_000] + bytes(60_000) + NEW.data[760_000:1_500_000]

FLUSH_BYTES = 256 << 10
FLUSH_EVERY = 0.05
"""The product's bounds, made small so that there are flushes in an object that is small."""

AT_ONCE = GRO_SEGMENTS * SYMBOL
"""Bytes that are stored in one go."""

STREAM, KEY = "example/router", b"some key"
"""What is published is release 2, what was there before release 1."""

MODE = 0o640
OWNER = 4_321

SHARES = (
    dict.fromkeys(System.NAMES | System.LOOKS | System.WRITES, 0.4)  # most are of a publication
    | dict.fromkeys(System.SYNCS, 0.05)
    | dict.fromkeys({"pwrite", "pwritev", "open"}, 0.012)
)
"""Calls that change a disk, and the share of them that have a cut before them, or after."""

libc = ctypes.CDLL(None, use_errno=True)
WRITE_AND_WAIT = 7
"""sync_file_range: all of it."""


@dataclass(frozen=True)
class Cut:
    """A disk as a cut left it, and what the receiver had done by then."""

    image: Path
    where: str
    written: int
    """Symbols."""

    flushed: np.ndarray
    """(symbols,): whether each place was filled before the last flush that ended, and its block was
    not put in place since."""

    is_published: bool
    is_prompt: bool
    """The disk takes flushes as fast as the network brings data."""


class Power(System):
    """Cuts the power now and then."""

    def __init__(self, disk: Disk, rng: Random, *, wanted: int, is_prompt: bool) -> None:
        self.cuts: list[Cut] = []
        self.written = np.zeros(SYMBOLS, np.bool_)
        self.flushed = self.written.copy()
        self.is_published = False
        self._is_prompt = is_prompt
        self._disk, self._rng, self._wanted = disk, rng, wanted
        self._lock = threading.RLock()  # the flusher is a thread

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if name not in SHARES:
            return function(*args, **kwargs)
        share = SHARES[name]
        self.maybe_cut(f"before {name}", share)
        result = function(*args, **kwargs)
        if name in {"pwrite", "pwritev"}:
            self._flush_some(args[0])
        self.maybe_cut(f"after {name}", share)
        return result

    def _flush_some(self, fd: int) -> None:
        """Do what the system's own flusher does, whenever it likes."""
        rng = self._rng
        chance = rng.random()
        if chance < 0.25:
            size = os.fstat(fd).st_size
            start = rng.randrange(0, size) & ~4_095
            length = ctypes.c_long(rng.randrange(4_096, 400_000) & ~4_095)
            libc.sync_file_range(fd, ctypes.c_long(start), length, WRITE_AND_WAIT)
        elif chance < 0.27:
            names = os.open(self._disk.folder / "d", os.O_RDONLY)
            os.fsync(names)
            os.close(names)

    def maybe_cut(self, where: str, share: float) -> None:
        with self._lock:
            if self._rng.random() >= share or (share < 1 and len(self.cuts) >= self._wanted):
                return
            cut = Cut(
                self._disk.image.with_name(f"cut{len(self.cuts)}"),
                where,
                int(self.written.sum()),
                self.flushed.copy(),
                self.is_published,
                self._is_prompt,
            )
            clone(self._disk.image, cut.image)
            self.cuts.append(cut)

    @contextlib.contextmanager
    def on(self) -> Iterator[Self]:
        wrote, flush, forget = WriteBack.wrote, WriteBack._flush, WriteBack.forget

        def watched_wrote(
            self_: WriteBack, wanted: Prepare | None, spans: Spans, *args: Any, **kwargs: Any
        ) -> None:
            for start, stop in spans:
                self.written[start // SYMBOL : -(-stop // SYMBOL)] = True
            wrote(self_, wanted, spans, *args, **kwargs)
            if self._is_prompt:
                self_.join()

        def watched_forget(self_: WriteBack, wanted: Prepare, spans: Spans) -> None:
            for first, stop in spans:
                self.flushed[first - first % PER_BLOCK : stop + -stop % PER_BLOCK] = False
            forget(self_, wanted, spans)

        def watched_flush(self_: WriteBack) -> None:
            before = self.written.copy()
            flush(self_)
            self.flushed |= before

        with (
            super().on(),
            patch.object(WriteBack, "wrote", watched_wrote),
            patch.object(WriteBack, "forget", watched_forget),
            patch.object(WriteBack, "_flush", watched_flush),
        ):
            yield self


@cache
def repairs() -> list[bytes]:
    """Return the packets of all repair symbols, those of each block together."""
    geometry = CODED.manifest.geometry
    return CODED.encoded(
        (block, esi)
        for block in range(geometry.blocks)
        for esi in range(geometry.source(block), geometry.ring(block))
    )


def transfer(sample: Sample, output: Path, rng: Random, power: Power, *, runs: int) -> None:
    """Receive an object, with losses, in so many runs, the last of which publishes it."""
    loss = rng.choice((0.0, 0.05, 0.3))
    stops = sorted(rng.randrange(SYMBOLS) for _ in range(runs - 1))
    with power.on():
        for stop in [*stops, SYMBOLS]:
            with Run(output, before_rename=partial(note, sample, output)) as run:
                run.announce(sample)
                while not run.is_done:
                    if sample is CODED and rng.random() < 0.5:  # who joins late has these first
                        run.give([one for one in repairs() if rng.random() >= loss])
                    lost = {n for n in range(SYMBOLS) if rng.random() < loss}
                    run.cycle(sample, lost=lost | set(range(stop, SYMBOLS)))
                    if stop < SYMBOLS:
                        break
                if run.is_done:
                    power.is_published = True
                    power.maybe_cut("published", 1)


def note(sample: Sample, output: Path, found: Identity) -> None:
    """Record a publication, as for a command that follows it, and its release."""
    floors(output).install(Release(STREAM, 2), NEW.manifest.oid, [KEY])
    record = PublishedRecord(output, print)
    record.write(Publication.of(sample.manifest, found))
    record.close()


def floors(output: Path) -> FloorFiles:
    """Return what is remembered of releases, in a folder beside that of the output."""
    return FloorFiles(output.parent.parent / "state" / "pgmlite", [KEY])


class Trial:
    """One disk, one transfer, and what its cuts left."""

    def __init__(self, shop: Path, kind: str, rng: Random, cuts: int) -> None:
        self.found: Counter[str] = Counter()
        self.worst = 0
        self._shop, self._kind = shop, kind
        self._old = rng.choice((None, STRANGE, OLDER))
        self._sample = rng.choice((NEW, CODED))
        with Disk(clone(shop / "fresh", shop / "image"), shop / "disk", kind) as disk:
            output = disk.folder / "d" / "out"
            output.parent.mkdir()
            if self._old is not None:
                output.write_bytes(self._old)
                output.chmod(MODE)
                os.chown(output, OWNER, OWNER)
            self._floor = rng.choice((-1, 1))
            if self._floor > 0:
                floors(output).install(Release(STREAM, self._floor), 1, [KEY])
            sh("sync", "-f", disk.folder)
            power = Power(disk, rng, wanted=cuts, is_prompt=rng.random() < 0.5)
            transfer(self._sample, output, rng, power, runs=rng.choice((1, 1, 2, 3)))
        for cut in power.cuts:
            self._check(cut)
            cut.image.unlink()
        (shop / "image").unlink()

    def _count(self, what: str, cut: Cut) -> None:
        self.found[what] += 1
        if what.isupper():
            print(f"{what}: {self._kind}, {cut.where}", flush=True)

    def _check(self, cut: Cut) -> None:
        self.found["cuts"] += 1
        self.found["in a publication"] += cut.where.split()[-1] in System.NAMES | System.LOOKS
        with Disk(cut.image, self._shop / "after", self._kind) as disk:
            output = disk.folder / "d" / "out"
            self._look_at_output(cut, output)
            self._look_at_floor(cut, output)
            with next_boot():
                self._go_on(cut, output)

    def _look_at_output(self, cut: Cut, output: Path) -> None:
        content = output.read_bytes() if output.exists() else None
        if content == NEW.data:
            self._count("output new", cut)
            status = output.stat()
            if self._old is not None and (status.st_mode & 0o777, status.st_uid) != (MODE, OWNER):
                self._count("OUTPUT WITH ANOTHER MODE OR OWNER", cut)
            record = PublishedRecord(output, print)
            found = record.read()
            record.close()
            if found is None or not replace(found, device=status.st_dev).names(identity_of(status)):
                self._count("PUBLISHED AND NOT RECORDED", cut)
        elif content == self._old:
            self._count("output old", cut)
        else:
            self._count("OUTPUT WRONG", cut)
        if cut.is_published and content != NEW.data:
            self._count("PUBLISHED AND LOST", cut)

    def _look_at_floor(self, cut: Cut, output: Path) -> None:
        try:
            floor = max((one.release for one in floors(output).of(STREAM)), default=-1)
        except DiskError as error:
            self._count("FLOOR DAMAGED", cut)
            print(f"  {error}")
            return
        self.found[f"floor {'new' if floor == 2 else 'old'}"] += 1
        if floor < self._floor:
            self._count("FLOOR LOST", cut)
        if floor < 2 and output.exists() and output.read_bytes() == NEW.data:
            self._count("FLOOR BELOW THE OUTPUT", cut)

    def _go_on(self, cut: Cut, output: Path) -> None:
        """Let the next run finish what the cut left."""
        with Run(output) as run:
            run.announce(self._sample)
            right = run.machine.right if not run.is_done else ()
            content = [path.read_bytes() for path in (output, run.part.path) if path.exists()]
            size = NEW.manifest.block_size
            for block in right:
                wanted = NEW.data[block * size : (block + 1) * size]
                if not any(one[block * size :].startswith(wanted) for one in content):
                    self._count("BLOCK BELIEVED AND WRONG", cut)
            for _ in range(3):
                run.cycle(self._sample)
                if self._sample is CODED:
                    run.give(repairs())
            if not run.is_done or output.read_bytes() != NEW.data:
                self._count("NOT RESUMED", cut)
            flushed = int(cut.flushed.sum())
            if cut.is_published:
                flushed = SYMBOLS
            fetched = run.fetched
            if self._sample is CODED:
                damaged = run.machine.counters.damaged
                fetched = max(0, fetched - SPARE - SUSPECT * damaged)
                self.found["blocks decoded"] += run.machine.counters.decoded
                self.found["blocks believed and damaged"] += damaged
            if fetched > SYMBOLS - flushed:
                self._count("FLUSHED AND LOST", cut)
                print(f"  {flushed} of {SYMBOLS} were flushed, {run.fetched} fetched")
            lost = (cut.written - (SYMBOLS - fetched)) * SYMBOL
            if cut.is_prompt and not cut.is_published:
                self.worst = max(self.worst, lost)
                if lost > FLUSH_BYTES + AT_ONCE:
                    self._count("MORE LOST THAN WAITS FOR A FLUSH", cut)
            self._count("resumed", cut)


@contextlib.contextmanager
def next_boot() -> Iterator[None]:
    """Let the storage modules believe that the machine was started anew."""
    with patch.object(hints, "boot_id", lambda: b"the next boot..."):
        yield


def cut_power(kind: str, cuts: int, seed: int) -> bool:
    """Cut so often on one file system; print what was found, return whether all was well."""
    rng, found, worst = Random(seed), Counter[str](), 0
    with workshop() as memory, Disk(memory / "host", memory / "shop", "xfs", size=8 << 30) as host:
        shop = host.folder
        with Disk(shop / "fresh", shop / "disk", kind):
            pass
        while found["cuts"] < cuts:
            trial = Trial(shop, kind, rng, cuts - found["cuts"] - 1)
            found += trial.found
            worst = max(worst, trial.worst)
    print(f"{kind}: {', '.join(f'{name} {count}' for name, count in sorted(found.items()))}")
    print(f"{kind}: at most {worst >> 10} KiB lost, flushed every {FLUSH_BYTES >> 10} KiB")
    return not any(name.isupper() for name in found)


def main(cuts: int = 500, seed: int = 1, systems: Sequence[str] = ("ext4", "xfs")) -> int:
    """Cut the power; return 1 if that did harm."""
    with (
        patch.object(writeback, "FLUSH_BYTES", FLUSH_BYTES),
        patch.object(writeback, "FLUSH_EVERY", FLUSH_EVERY),
    ):
        results = [cut_power(kind, cuts, seed) for kind in systems]
    return int(not all(results))


if __name__ == "__main__":
    seclude()
    numbers = list(map(int, sys.argv[1:3]))
    sys.exit(main(*numbers, **({"systems": sys.argv[3:]} if sys.argv[3:] else {})))
