"""A sender that follows: how long nothing is sent between two contents, and whether memory stays.

    python -m tests.bench.resending [CONTENTS] [MIB] [RATE]

replaces a file on the loopback interface so many times by renames, each as soon as the one before
is sent, and prints the pauses between the last packet of each session and the first of the next,
how many packets of the old content came after its name was gone, and the memory of the sender.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.loopback import endpoint, make_file, sending
from tests.support.resending import Listening


def main(contents: int = 200, mib: int = 4, rate: str = "50M") -> None:
    """Run it, and print figures."""
    place = endpoint()
    with tempfile.TemporaryDirectory() as name:
        file = make_file(Path(name) / "firmware.bin", mib << 20)
        with Listening(place) as heard, sending(file, place, "--follow", rate=rate) as sender:
            oid = sender.event("start")["oid"]
            oids, memory, files = [oid], [], []
            for number in range(1, contents + 1):
                make_file(file.with_suffix(".new"), mib << 20, seed=number).replace(file)
                started = sender.event("start", partial(_replaces, oid))
                oid = started["oid"]
                oids.append(oid)
                memory.append(sender.memory_kib())
                files.append(len(list(Path(f"/proc/{sender.pid}/fd").iterdir())))
            ended = sender.stop()
    sessions = [heard.of(int(oid, 16)) for oid in oids]
    pauses = [1e3 * (new[0].at - old[-1].at) for old, new in pairwise(sessions) if old and new]
    print(f"{contents} contents of {mib} MiB at {rate}bit/s, exit code {ended.code}")
    print(
        f"pauses: median {statistics.median(pauses):.1f} ms, "
        f"longest {max(pauses):.1f} ms, of {len(pauses)}"
    )
    tenth = max(1, len(memory) // 10)
    means = [
        f"{statistics.mean(memory[at : at + tenth]) / 1024:.1f}"
        for at in range(0, tenth * 10, tenth)
    ]
    print(f"memory: {', '.join(means)} MiB by tenths, peak {sender.peak_kib / 1024:.1f}")
    print(f"open files: {files[tenth]} early, {files[-1]} late")


def _replaces(oid: str, event: dict[str, Any]) -> bool:
    return bool(event["replaces"] == oid)


if __name__ == "__main__":
    number, size, speed = (sys.argv[1:] + ["200", "4", "50M"][len(sys.argv) - 1 :])[:3]
    main(int(number), int(size), speed)
