"""Receivers that are killed at random instants and started again, on the loopback interface.

    python -m tests.bench.kills [COUNT [SEED]]

Each of COUNT receivers, 200 by default, takes 8 MiB from one carousel, loses 5% of it, and is
killed once, at whatever it is doing: storing source and repair symbols, decoding, putting blocks in
place. The record says what it had stored; what the next run stores again is counted, and every name
that the record gives to something else. At every instant the output is the old one or the new one.
Prints the sums; if more than 1% was stored again, or a record or an output was wrong, the exit code
is 1.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from pgmlite.core.config import DEFAULT_BLOCK_SYMBOLS
from pgmlite.core.machine import LYING, Lying
from pgmlite.core.receive.coded import SPARE_SYMBOLS
from pgmlite.fec.codec import RandomLinear
from pgmlite.net.arguments import DEFAULT_FEC
from pgmlite.storage.hints import HEADER, NAME
from pgmlite.wire.geometry import Geometry
from tests.support.loopback import (
    PATIENCE,
    SYMBOL,
    Endpoint,
    Running,
    endpoint,
    make_file,
    receiving,
    sending,
)

SIZE = 8 << 20
SYMBOLS = -(-SIZE // SYMBOL)
RATE = "250M"

EARLY = 0.2
"""Share of the kills that come at any time from the start, the others once the object is known."""

LATEST = 1.0
"""Seconds to the latest kill: by then some are done."""

AT_ONCE = 3
"""Receivers that run side by side."""

SPARE = SPARE_SYMBOLS * -(-SYMBOLS // DEFAULT_BLOCK_SYMBOLS)
"""Symbols beyond those that are missing, of which there may be some until a block is decoded."""

ALLOWED = 0.01
"""Share of what was stored that may be stored again."""


@dataclass(frozen=True)
class Killed:
    """What became of one receiver.

    Attributes:
        recorded: Symbols that the first run had stored, by its record.
        written: The same, by what lies in the partial file: the record is written a moment later.
        fetched: Symbols that the second run stored.
        repairs: Repair symbols among those of the record.
        decoded: Blocks that the second run decoded.
        wrong: What was wrong, if anything was.
    """

    recorded: int
    written: int
    fetched: int
    repairs: int
    decoded: int
    wrong: str

    @property
    def again(self) -> int:
        """Symbols that were stored twice, by the record."""
        return self._again(self.recorded)

    @property
    def again_at_most(self) -> int:
        """The same, by what lay in the partial file."""
        return self._again(self.written)

    def _again(self, stored: int) -> int:
        return max(0, self.fetched - (SYMBOLS - stored) - SPARE)


class Rings:
    """The encoding symbols of an object: which of them lie in a partial file."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.geometry = Geometry.planned(SIZE, SYMBOL, DEFAULT_BLOCK_SYMBOLS, DEFAULT_FEC)
        self._blocks = [self._ring(block) for block in range(self.geometry.blocks)]

    def _ring(self, block: int) -> dict[bytes, int]:
        offset, length = self.geometry.extent(block)
        k = self.geometry.source(block)
        padded = self.data[offset : offset + length].ljust(k * SYMBOL, b"\0")
        source = np.frombuffer(padded, np.uint8).reshape(k, SYMBOL)
        ring = RandomLinear().encode(source, np.arange(self.geometry.ring(block)))
        return {one.tobytes(): esi for esi, one in enumerate(ring)}

    def lying(self, part: bytes) -> Lying:
        """Return what lies in the places of a partial file."""
        lying = np.zeros(SYMBOLS, LYING)
        for place in range(SYMBOLS):
            ring = self._blocks[self.geometry.block_of(place)]
            symbol = part[place * SYMBOL : (place + 1) * SYMBOL].ljust(SYMBOL, b"\0")
            lying[place] = ring.get(symbol, -1) + 1
        return lying


class Watch(threading.Thread):
    """Looks at an output all the time: it must be one of two contents, whenever it changes."""

    def __init__(self, output: Path, allowed: Iterable[bytes | None]) -> None:
        super().__init__(daemon=True)
        self.wrong = ""
        self._output, self._allowed = output, list(allowed)
        self._ended = threading.Event()

    def run(self) -> None:
        seen: object = ()
        while not self._ended.wait(0.002):
            now = self._identity()
            if now != seen:
                seen = now
                self._look()

    def _identity(self) -> object:
        try:
            status = self._output.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _look(self) -> None:
        try:
            content = self._output.read_bytes()
        except FileNotFoundError:
            content = None
        if content not in self._allowed:
            self.wrong = "the output was neither old nor new"

    def end(self) -> str:
        """Look once more; return what was wrong."""
        self._ended.set()
        self.join()
        self._look()
        return self.wrong


def stored(output: Path, rings: Rings) -> tuple[Lying, Lying]:
    """Return what a run has stored, by its record and by its partial file."""
    part, record = output.with_name("out.part"), output.with_name("out.part.map")
    own = (np.arange(SYMBOLS) % rings.geometry.block_symbols + 1).astype(LYING)
    if not part.exists():
        is_done = output.exists() and output.read_bytes() == rings.data
        return (own, own) if is_done else (own[:0], own[:0])
    values = record.read_bytes()[HEADER.size :] if record.exists() else b""
    recorded = np.frombuffer(values.ljust(2 * SYMBOLS, b"\0"), LYING) & NAME
    return recorded, rings.lying(part.read_bytes())


def kill_one(folder: Path, number: int, rings: Rings, place: Endpoint, rng: Random) -> Killed:
    """Let a receiver be killed, and another one finish; return what became of it."""
    folder.mkdir()
    output, right = folder / "out", rings.data
    old = rng.choice((None, b"old" * 1_000, Random(number).randbytes(SIZE)))
    if old is not None:
        output.write_bytes(old)
    options = ["--drop", "5%", "--no-nak", "--seed"]
    watch = Watch(output, (old, right))
    watch.start()
    with receiving(output, place, *options, number) as first:
        if rng.random() >= EARLY:
            first.event("manifest")
        _wait(first, rng.uniform(0, LATEST))
        first.stop(signal.SIGKILL)
    recorded, written = stored(output, rings)
    with receiving(output, place, *options, number + 1_000_000) as second:
        ended = second.end()
    wrong = watch.end()
    if ended.code or output.read_bytes() != right:
        wrong = wrong or f"code {ended.code}: {ended.stderr}"
    elif left := {path.name for path in folder.iterdir()} - {"out"}:
        wrong = wrong or f"left: {left}"
    lies = int(np.count_nonzero((recorded != written) & (recorded != 0)))
    if lies:
        wrong = wrong or f"{lies} places have something else than the record says"
    if len(recorded) and not wrong and ended.last["damaged"]:
        wrong = f"{ended.last['damaged']} blocks were spoilt"
    own = np.arange(len(recorded)) % rings.geometry.block_symbols + 1
    return Killed(
        int(np.count_nonzero(recorded)),
        int(np.count_nonzero(written)),
        ended.last.get("fetched", 0),
        int(np.count_nonzero((recorded != own) & (recorded != 0))),
        ended.last.get("decoded", 0),
        wrong,
    )


def _wait(process: Running, seconds: float) -> None:
    end = time.monotonic() + seconds
    while process.is_running and time.monotonic() < end:
        time.sleep(0.001)


def kill_many(count: int, seed: int, folder: Path) -> list[Killed]:
    """Let so many receivers be killed."""
    rng, place = Random(seed), endpoint()
    source = make_file(folder / "source", SIZE, seed=seed)
    seeds = [Random(rng.random()) for _ in range(count)]
    rings = Rings(source)
    with sending(source, place, rate=RATE), ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [
            pool.submit(kill_one, folder / str(number), number, rings, place, seeds[number])
            for number in range(count)
        ]
        return [job.result(PATIENCE * count) for job in jobs]


def main(count: int = 200, seed: int = 1) -> int:
    """Kill receivers; return 1 if that did harm."""
    with tempfile.TemporaryDirectory() as folder:
        killed = kill_many(count, seed, Path(folder))
    had = sum(one.recorded for one in killed)
    again = sum(one.again for one in killed)
    at_most = sum(one.again_at_most for one in killed)
    worst = max(killed, key=lambda one: one.again_at_most / max(one.written, 1))
    under_way = sum(0 < one.recorded < SYMBOLS for one in killed)
    print(f"{count} receivers killed, {under_way} of them with the object under way:")
    print(f"{had} symbols stored by the record, {again} of them ({again / max(had, 1):.2%}) again")
    print(f"by what lay in the partial files {at_most}; the worst {worst}")
    print(
        f"{sum(one.repairs for one in killed)} of them lay in other places than their own; "
        f"{sum(one.decoded for one in killed)} blocks were decoded by the second runs"
    )
    for one in killed:
        if one.wrong or one.again > ALLOWED * one.recorded:
            print("WRONG:", one)
    wrong = any(one.wrong or one.again > ALLOWED * one.recorded for one in killed)
    return int(wrong or at_most > ALLOWED * had)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
