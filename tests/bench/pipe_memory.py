"""Memory of a receiver whose object leaves by standard output, with a small and a large object.

    python -m tests.bench.pipe_memory [GIGABYTES [LOSS]]

As `tests.bench.memory`, with the partial file in a spool and a pump that passes everything on. The
exit code is 1 if an object of GIGABYTES, 2.147 by default, takes 16 MiB more than one of 64 MiB: it
keeps the state of the object, and the buffer of one block. Nothing is written but lengths; what is
passed on is read back, hashed, and led to /dev/null.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import Action, Complete
from pgmlite.core.receive.receiver import Receiver
from pgmlite.net.destinations import pipe
from pgmlite.net.destinations.pipe import PipeDestination
from pgmlite.net.loop import attend
from pgmlite.net.waiting import block
from pgmlite.storage import content
from tests.bench.memory import SMALL, Holes, packets, zeros
from tests.support.builders import batches

ALLOWED = 16 << 10
"""KiB."""


def receive(size: int, loss: float) -> None:
    """Receive and pass on zeros; print the peak in KiB, seconds, and bytes that were passed on."""
    sample, began = zeros(size), time.monotonic()
    machine = Receiver(ReceiverConfig(naks=False), rng=Random(0))
    pipe.STANDARD_OUTPUT = os.open(os.devnull, os.O_WRONLY)  # type: ignore[misc]
    content.os = Holes()  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        destination = PipeDestination(Path(folder), lambda _: None, lambda _: None)
        part = destination.part
        done: list[Complete] = []

        def perform(actions: list[Action]) -> None:
            todo = actions
            while todo:
                done.extend(one for one in todo if isinstance(one, Complete))
                todo = [one for a in todo for one in attend(a, machine, part, lambda _: None)]

        def give(come: object) -> None:
            perform(machine.receive(0, come))  # type: ignore[arg-type]
            while not done and machine.deadline == 0:
                perform(machine.tick(0))

        for one in batches([sample.spm(), *sample.nodes()]):
            give(one)
        for come in packets(sample, loss):
            give(come)
            if done:
                break
        waits, passed = destination.publish(done[0]), 0
        while True:
            try:
                block(next(waits))
            except StopIteration as end:
                passed = size if end.value else 0
                break
        destination.close()
    status = Path("/proc/self/status").read_text()
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    print(peak, f"{time.monotonic() - began:.1f}", passed)


def measure(size: int, loss: float) -> int:
    """Let a process of its own receive an object; return how much memory it took, KiB."""
    command = [sys.executable, "-m", "tests.bench.pipe_memory", "--one", str(size), str(loss)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, seconds, passed = done.stdout.split()
    print(
        f"{size / 1e9:6.2f} GB: {int(peak) / 1024:.1f} MiB, {seconds} s, {passed} bytes passed on"
    )
    return int(peak)


def main(gigabytes: float = 2.147483648, loss: float = 0.05) -> int:
    """Compare a large object with a small one; return 1 if it takes too much."""
    more = -measure(SMALL, loss) + measure(int(gigabytes * 1e9), loss)
    print(f"{more / 1024:+.1f} MiB")
    return int(more > ALLOWED)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        receive(int(sys.argv[2]), float(sys.argv[3]))
    else:
        sys.exit(main(*map(float, sys.argv[1:])))
