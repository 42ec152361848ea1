"""How much memory a receiver takes for a large object, and how much for a small one.

    python -m tests.bench.memory [GIGABYTES [LOSS]]

Each is an object of zeros, sent in rounds, of which 5% is lost: every block is decoded. Its repair
symbols are zeros, too, and so is what was written to a file that is nothing but a hole: so no disk
has to have room for 10 GB, the default, and all the rest is the product. Prints the largest
resident memory of one process each; if the large object takes 64 MiB more than one of 64 MiB, the
exit code is 1.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import Action, Complete
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.ring import Ring
from pgmlite.net.arguments import DEFAULT_FEC
from pgmlite.net.loop import attend
from pgmlite.storage import content
from pgmlite.storage.part import PartFile
from pgmlite.wire.batch import HEADER_DTYPE, PacketBatch
from pgmlite.wire.buffers import ReceiveBuffer
from pgmlite.wire.digests import BlockTree, block_digest
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import MAGIC, VERSION, Flag, Order, PacketType
from pgmlite.wire.manifest import Manifest
from tests.support.builders import Sample, batches

SYMBOL, BLOCK = 1_404, 1_024
SMALL = 64 << 20
ALLOWED = 64 << 10
"""KiB."""

SOURCE = Endpoint("192.0.2.1", 7)


class Holes:
    """Stands for the system: what is written to the partial file makes it longer, no more."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @staticmethod
    def pwritev(fd: int, pieces: Sequence[memoryview], offset: int) -> int:
        """Write nothing."""
        length = sum(map(len, pieces))
        if os.fstat(fd).st_size < offset + length:
            os.ftruncate(fd, offset + length)
        return length


def zeros(size: int, fec: float = DEFAULT_FEC) -> Sample:
    """Return what its sender knows of an object of zeros."""
    geometry = Geometry.planned(size, SYMBOL, BLOCK, fec)
    full = block_digest(bytes(geometry.block_size), SYMBOL)
    last = block_digest(bytes(geometry.extent(geometry.blocks - 1)[1]), SYMBOL)
    tree = BlockTree(full * (geometry.blocks - 1) + last, SYMBOL)
    manifest = Manifest(
        SYMBOL,
        BLOCK,
        size,
        tree.root,
        "zeros",
        repair_symbols=geometry.repair_symbols,
        tile_blocks=geometry.tile_blocks,
    )
    return Sample(b"", manifest, tree)


def packets(sample: Sample, loss: float, order: Order = Order.ROUNDS) -> Iterator[PacketBatch]:
    """Yield what comes of a carousel, as much as is read at once."""
    geometry, rng = sample.manifest.geometry, np.random.default_rng(1)
    ring = Ring(geometry, order, 0, 0, 1)
    count = ReceiveBuffer.ROWS
    payload = np.zeros((count, SYMBOL), np.uint8)
    for place in range(0, 10 * geometry.symbols, count):
        ids = ring.ids(place, count)
        kept = np.flatnonzero(rng.random(len(ids)) >= loss)
        # The object's last symbol is short: it never comes.
        kept = kept[geometry.symbols_of(ids)[kept] != geometry.symbols - 1]
        are_repairs = geometry.are_repairs(ids)
        for some in (kept[~are_repairs[kept]], kept[are_repairs[kept]]):
            if len(some):
                picked = Ids(ids.blocks[some], ids.esis[some])
                rows = np.zeros(len(some), HEADER_DTYPE)
                fields = sample.fields | {
                    "magic": MAGIC,
                    "version": VERSION,
                    "type": PacketType.ODATA,
                    "flags": Flag.REPAIR_SYMBOL if are_repairs[some[0]] else 0,
                }
                for name, value in fields.items():
                    rows[name] = value
                rows["offset"] = offsets = geometry.named(picked).offsets
                rows["esi"] = picked.esis
                rows["sqn"] = (place + some) & 0xFFFFFFFF
                yield PacketBatch(
                    PacketType.ODATA, rows, offsets, payload[: len(some)], SOURCE, at=0
                )


def receive(size: int, loss: float) -> None:
    """Receive an object of zeros; print how much memory that took, KiB, and how long, s."""
    sample, began = zeros(size), time.monotonic()
    machine = Receiver(ReceiverConfig(naks=False), rng=Random(0))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        part = PartFile(Path(folder) / "out")
        opened.callback(part.close)
        is_done = False

        def perform(actions: list[Action]) -> None:
            nonlocal is_done
            todo = actions
            while todo:
                is_done = is_done or any(isinstance(one, Complete) for one in todo)
                todo = [one for a in todo for one in attend(a, machine, part, lambda _: None)]

        def give(batch: PacketBatch) -> None:
            perform(machine.receive(0, batch))
            while not is_done and machine.deadline == 0:
                perform(machine.tick(0))

        content.os = Holes()
        for batch in batches([sample.spm(), *sample.nodes()]):
            give(batch)
        for batch in packets(sample, loss):
            give(batch)
            if is_done:
                break
        status = Path("/proc/self/status").read_text()
        (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        print(peak, f"{time.monotonic() - began:.1f}", machine.counters.decoded, int(is_done))


def measure(size: int, loss: float) -> int:
    """Let a process of its own receive an object; return how much memory it took, KiB."""
    command = [sys.executable, "-m", "tests.bench.memory", "--one", str(size), str(loss)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, seconds, decoded, is_done = done.stdout.split()
    print(
        f"{size / 1e9:6.2f} GB: {int(peak) / 1024:.1f} MiB, {seconds} s, {decoded} blocks decoded"
        + ("" if int(is_done) else ", NOT DONE")
    )
    return int(peak)


def main(gigabytes: float = 10, loss: float = 0.05) -> int:
    """Compare a large object with a small one; return 1 if it takes too much."""
    more = -measure(SMALL, loss) + measure(int(gigabytes * 1e9), loss)
    print(f"{more / 1024:+.1f} MiB")
    return int(more > ALLOWED)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        receive(int(sys.argv[2]), float(sys.argv[3]))
    else:
        sys.exit(main(*map(float, sys.argv[1:])))
