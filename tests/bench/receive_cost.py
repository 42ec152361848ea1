"""What a symbol costs a receiver behind its socket: its machine, digests, and writing to memory.

    python -m tests.bench.receive_cost [MEGABYTES [TURNS]]

An object of 128 MiB of zeros comes whole, in batches as large as they are read: of a plain
carousel, of one with repair symbols block after block, and of one in rounds. Prints the processor
time of a symbol, the least of 3 turns that take turns, and what it is beside the plain one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from random import Random

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import Action
from pgmlite.core.receive.receiver import Receiver
from pgmlite.net.arguments import DEFAULT_FEC
from pgmlite.net.loop import attend
from pgmlite.storage.part import PartFile
from pgmlite.wire.layout import Order
from tests.bench.memory import packets, zeros
from tests.support.builders import batches

WAYS = {
    "plain": (0.0, Order.BLOCKS),
    "blocks": (DEFAULT_FEC, Order.BLOCKS),
    "rounds": (DEFAULT_FEC, Order.ROUNDS),
}


def cost(size: int, fec: float, order: Order) -> float:
    """Receive one length of a carousel; return what a symbol cost, us."""
    sample = zeros(size, fec)
    symbols = sample.manifest.symbols
    machine = Receiver(ReceiverConfig(naks=False), rng=Random(0))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        part = PartFile(Path(folder) / "out")

        def perform(actions: list[Action]) -> None:
            todo = actions
            while todo:
                todo = [one for a in todo for one in attend(a, machine, part, lambda _: None)]

        for batch in batches([sample.spm(), *sample.nodes()]):
            perform(machine.receive(0, batch))
        taken, came = 0.0, 0
        for batch in packets(sample, 0.0, order):
            began = time.process_time()
            perform(machine.receive(0, batch))
            while machine.deadline == 0:
                perform(machine.tick(0))
            taken += time.process_time() - began
            came += len(batch)
            if came >= symbols - 1:  # the short one does not come
                break
        part.close()
    return taken / came * 1e6


def main(megabytes: int = 128, turns: int = 3) -> None:
    """Print what symbols cost."""
    found = {name: float("inf") for name in WAYS}
    for _ in range(turns):
        for name, (fec, order) in WAYS.items():
            found[name] = min(found[name], cost(megabytes << 20, fec, order))
    for name, least in found.items():
        print(
            f"{name:6}: {least:.2f} us a symbol, {least / found['plain']:.2f} times the plain one"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
