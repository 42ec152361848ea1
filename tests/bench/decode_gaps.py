"""How long a receiver does not look at its socket while it decodes, on the loopback interface.

    python -m tests.bench.decode_gaps [MEGABYTES [MBIT [LOSS]]]

A sender of its own process sends a file in rounds, 128 MiB at 500 Mbit/s by default; the receiver
drops 5% of it, so that nearly all blocks can be decoded at once when the repair symbols begin. Each
gap goes from the moment when packets are there to the one when the loop waits for more, without the
naps that it takes to let them gather; before anything was decoded, and from the first block to the
last. Once more without the time that threads of this process waited for a processor, as a quiet
machine would show it. If 1% of the gaps while decoding are longer than 5 ms on that count, or
packets are lost in the kernel, the exit code is 1.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.decode import Decoded
from pgmlite.core.impair import Loss
from pgmlite.core.machine import SECOND, Complete, Decode
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.receive.sources import Sources
from pgmlite.net.membership import Memberships
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.waiting import Waits, block
from pgmlite.storage.part import PartFile
from pgmlite.wire.endpoint import Endpoint
from tests.support.loopback import endpoint, make_file, sending

LONGEST = 5.0
"""ms that 99% of the gaps may have."""


class TimedPart(PartFile):
    """A partial file that notes when it decodes: (begin, end) in ns."""

    def __init__(self, output: Path) -> None:
        super().__init__(output)
        self.times: list[tuple[int, int]] = []

    def decode(self, action: Decode) -> Decoded:
        began = time.monotonic_ns()
        decoded = super().decode(action)
        self.times.append((began, time.monotonic_ns()))
        return decoded


def waited() -> int:
    """Return how long the threads of this process have waited for a processor, ns."""
    tasks = Path("/proc/self/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks)


@dataclass
class Gaps:
    """When each gap ended, how long it was, and without waiting for a processor; ns."""

    found: list[tuple[int, int, int]] = field(default_factory=list)

    def drive(self, waits: Waits[Complete], memberships: Memberships) -> None:
        """Do the work to its end, and note how long it is away from its socket each time."""
        wait, napped = next(waits), 0
        try:
            while True:
                ready = block(wait)
                away, delay = time.monotonic_ns(), waited()
                wait = waits.send(ready)
                while not wait.fds:
                    napped += wait.time
                    wait = waits.send(block(wait))
                if not set(memberships.fds).isdisjoint(ready):
                    now = time.monotonic_ns()
                    gap = now - away - napped
                    self.found.append((now, gap, max(0, gap - (waited() - delay))))
                napped = 0
        except StopIteration:
            return

    def show(self, name: str, begin: int, end: int) -> float:
        """Print the gaps of a time; return how long 99% of them are, at a processor, ms."""
        some = [one for one in self.found if begin <= one[0] <= end]
        raw, quiet = (quantiles([one[at] for one in some]) for at in (1, 2))
        print(f"{name}: {len(some)} gaps, 50/90/99% and longest: {raw}; at a processor {quiet} ms")
        return quiet[2] if quiet else 0.0


def quantiles(values: Sequence[int]) -> list[float]:
    """Return 50%, 90%, 99% and all of some ns, in ms."""
    order = sorted(values)
    shares = (0.5, 0.9, 0.99, 1.0)
    return [
        round(order[min(len(order) - 1, int(len(order) * q))] / 1e6, 2) for q in shares if order
    ]


def main(megabytes: float = 128, mbit: float = 500, loss: float = 0.05) -> int:
    """Receive once; return 1 if the gaps are too long."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        place = endpoint()
        source = make_file(Path(folder) / "source", int(megabytes * 1_048_576))
        part = TimedPart(Path(folder) / "out")
        memberships = Memberships(place.channel.interface)
        group = Endpoint(place.group, place.port)
        loop = ReceiveLoop(
            machine := Receiver(
                ReceiverConfig(naks=False), rng=Random(0), listening=Listening([group], Sources())
            ),
            memberships,
            part,
            lambda _: None,
            output=folder,
            timeout=60 * SECOND,
            loss=Loss(loss, Random(1)),
        )
        gaps = Gaps()
        with sending(source, place, "--start", "0/1", rate=f"{mbit:g}M"):
            gaps.drive(loop.run(), memberships)
        first = min(began for began, _ in part.times)
        last = max(end for _, end in part.times)
        each = sum(end - began for began, end in part.times) / len(part.times) / 1e6
        print(
            f"{len(part.times)} blocks decoded in {(last - first) / 1e6:.0f} ms, {each:.1f} ms "
            f"each; lost in the kernel: {memberships.kernel_drops}; "
            f"{machine.counters.recovered} symbols"
        )
        gaps.show("before", 0, first)
        slowest = gaps.show("while decoding", first, last)
        part.close()
    return int(slowest > LONGEST or memberships.kernel_drops > 0)


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:])))
