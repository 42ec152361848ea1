"""Does `compare` predict what happens? The plan `lab`, beside real transfers in namespaces (root).

    python -m tests.bench.prediction [RUNS]

prints the mean time from the sender's start to the last receiver's end: of RUNS real transfers in
each mode, 5 by default, and what `pgmlite compare lab` says.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, stdev

from tests.support.lab import PGMLITE, Lab, random_file

PLAIN = ("--fec", "off", "--order", "blocks")
MODES = {
    "carousel": PLAIN,
    "fec": (),
    "nak": (*PLAIN, "--repair"),
    "fec+nak": ("--repair",),
}


def transfer(source: Path, folder: Path, options: tuple[str, ...]) -> float:
    """Return the seconds that one transfer to three receivers takes; each loses 5%."""
    with Lab(receivers=3) as lab:
        lab.loss(0.05)
        outs = [folder / node for node in lab.receivers]
        receivers = [lab.recv(node, out) for node, out in zip(lab.receivers, outs, strict=True)]
        sender = lab.send("S", source, *options, rate="200M")
        started = sender.event("start")["at"]
        end = max(receiver.event("complete")["at"] for receiver in receivers)
        for receiver, out in zip(receivers, outs, strict=True):
            receiver.result()
            assert out.read_bytes() == source.read_bytes()
            out.unlink()
    return end - started


def main(runs: int = 5) -> None:
    """Measure, simulate and print."""
    # In memory: what a disk takes to sync is not the network's.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        source = random_file(Path(name) / "source", 64)
        times = {
            mode: [transfer(source, Path(name), options) for _ in range(runs)]
            for mode, options in MODES.items()
        }
    predicted = {case["mode"]: case["last"] for case in json.loads(simulated())["cases"]}
    for mode, seconds in times.items():
        real, said = fmean(seconds), predicted[mode]
        spread = stdev(seconds) if runs > 1 else 0.0
        print(
            f"{mode:9} real {real:6.2f} s (+-{spread:.2f})  predicted {said:6.2f} s  "
            f"off {said / real - 1:+.1%}"
        )


def simulated() -> str:
    """Return what the simulator says of the plan, as JSON."""
    return subprocess.run(
        [*PGMLITE, "compare", "lab", "--json"], capture_output=True, text=True, check=True
    ).stdout


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
