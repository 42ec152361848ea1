"""What it costs a receiver to know of each symbol that it was signed, beside one that can't.

    python -m tests.bench.signed_cost [MEBIBYTES [TURNS]]

One object, signed and not, comes in rounds through a receive buffer, in batches of 720 packets and
of 44, without loss and with 5%. Prints the processor time of a packet of data, in what stands
between a socket and a disk, the least of 3 turns that take turns.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import numpy as np

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import Action, Decode, Held, Prepare, Transmit, Verify
from pgmlite.core.receive.receiver import Receiver
from pgmlite.wire.buffers import ReceiveBuffer
from pgmlite.wire.layout import DATA_TYPES
from tests.support.builders import Sample, encode, fill, joined, make_sender, play
from tests.support.poison import SENDER
from tests.support.signed import make_signed

SYMBOL = 1_404
BLOCK = 1_024


def reads(sample: Sample, limit: int) -> list[tuple[bytes, int]]:
    """Return one length of a carousel, as the system gives it."""
    sender = make_sender(sample, rate=1_000_000_000, cycles=1, rng=Random(0))
    sender.start(0)
    packets = (
        one
        for _, action in play(sender)
        if isinstance(action, Transmit)
        for one in encode(action, sample.data)
    )
    return [(read.data, read.stride) for read in joined(packets, limit=limit)]


def lossy(reads_: list[tuple[bytes, int]], share: float) -> Iterator[tuple[bytes, int]]:
    """Yield reads without some of their packets."""
    rng = np.random.default_rng(1)
    for data, stride in reads_:
        kept = rng.random(-(-len(data) // stride)) >= share
        rest = b"".join(data[n * stride : (n + 1) * stride] for n in np.flatnonzero(kept))
        if rest:
            yield rest, stride


class Receiving:
    """A receiver that is given reads, and what it takes.

    Attributes:
        seconds: Of the processor.
        packets: Of data.
    """

    def __init__(self) -> None:
        self.seconds, self.packets = 0.0, 0
        self._machine = Receiver(ReceiverConfig(naks=False), rng=Random(0))
        self._machine.start(0)
        self._buffer, self._refused = ReceiveBuffer(SYMBOL), Counter[str]()

    def hear(self, came: list[tuple[bytes, int]], most: int) -> None:
        """Take reads, up to `most` packets in a batch."""
        waiting = 0
        for data, stride in came:
            room = self._buffer.room()
            assert room is not None
            fill(room, data)
            self._buffer.add(len(data), stride, SENDER)
            waiting += len(data) // stride
            if waiting >= most:
                self._read()
                waiting = 0
        self._read()

    def _read(self) -> None:
        began = time.process_time()
        batches = self._buffer.batches(self._refused)
        self.seconds += time.process_time() - began
        for batch in batches:
            self.packets += len(batch) if batch.kind in DATA_TYPES else 0
            began = time.process_time()
            actions = self._machine.receive(0, batch)
            self.seconds += time.process_time() - began
            self._answer(actions)
            while self._machine.deadline == 0:
                self._answer(self._machine.tick(0))

    def _answer(self, actions: list[Action]) -> None:
        machine = self._machine
        for action in actions:
            match action:
                case Prepare():
                    self._answer(machine.resume(action.oid, Held()))
                case Verify():
                    self._answer(machine.verified(action.oid, action.block, ok=True))
                case Decode():
                    self._answer(machine.decoded(action.oid, action.block, ok=True))


def cost(came: list[tuple[bytes, int]], most: int) -> float:
    """Return what a packet of data cost, us."""
    receiving = Receiving()
    receiving.hear(came, most)
    return receiving.seconds / receiving.packets * 1e6


def main(mebibytes: int = 32, turns: int = 3) -> None:
    """Print what packets cost."""
    signed = make_signed(
        # Whole groups of blocks.
        max(1, (mebibytes << 20) // (8 * BLOCK * SYMBOL)) * 8 * BLOCK * SYMBOL - 5,
        symbol_size=SYMBOL,
        block_symbols=BLOCK,
        repair_symbols=BLOCK // 2,
        tile_blocks=8,
    )
    plain = replace(signed.manifest, release=None, tiles_digest=None)
    both = {"signed": signed, "unsigned": Sample(signed.data, plain, signed.tree)}
    came = {name: reads(one, 44) for name, one in both.items()}
    for loss in (0.0, 0.05):
        some = {name: list(lossy(one, loss)) for name, one in came.items()}
        for most in (720, 44):
            least = dict.fromkeys(both, float("inf"))
            for _ in range(turns):
                for name in both:
                    least[name] = min(least[name], cost(some[name], most))
            print(
                f"loss {loss:.0%}, batches of {most}: {least['unsigned']:.2f} us a packet, signed "
                f"{least['signed']:.2f}: {least['signed'] - least['unsigned']:+.2f} us",
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
