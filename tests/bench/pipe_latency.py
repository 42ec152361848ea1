"""When the first byte leaves ``recv -o -``, by the order of sending, on the loopback interface.

    python -m tests.bench.pipe_latency [MEBIBYTES [MBIT]]

Receivers that wait before the sender starts take one object of MEBIBYTES, 32 by default, at MBIT,
40 by default, without loss and with 2%, with repairs and without. Prints when the first byte and
half of the bytes had come out, as shares of the time to the last one.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from pathlib import Path

from tests.support.loopback import endpoint, make_file, sending
from tests.support.piping import Piped

ORDERS = {
    "rounds": (),
    "blocks from the start": ("--order", "blocks", "--start", "0/1"),
    "blocks from the start, repairs": ("--order", "blocks", "--start", "0/1", "--repair"),
}
LOSSES = ("0%", "2%")


def measure(
    source: Path, spool: Path, mbit: int, loss: str, options: tuple[str, ...]
) -> list[float]:
    """Return the seconds from the first packet to the first byte, to half of them, to all."""
    place, size = endpoint(), source.stat().st_size
    with Piped(spool, place, "--drop", loss) as receiver:
        receiver.event("joined")
        with sending(source, place, *options, rate=f"{mbit}M") as sender:
            sender.event("start")
            began, came, times = time.monotonic(), 0, []
            stdout = receiver.process.stdout
            assert stdout is not None
            for share in (1, size // 2, size):
                while came < share:
                    came += len(stdout.read1(1 << 20))
                times.append(time.monotonic() - began)
            assert receiver.end() == 0, receiver.say()
    return times


def main(mebibytes: int = 32, mbit: int = 40) -> int:
    """Measure each order."""
    with tempfile.TemporaryDirectory(prefix="pipe-latency-") as name:
        source = make_file(Path(name) / "source", mebibytes << 20)
        spool = Path(name) / "spool"
        spool.mkdir()
        for (order, options), loss in itertools.product(ORDERS.items(), LOSSES):
            first, half, last = measure(source, spool, mbit, loss, options)
            print(
                f"{order}, {loss} lost: first byte after {first:.1f} s "
                f"({first / last:.0%}), half of them after {half:.1f} s "
                f"({half / last:.0%}), the last after {last:.1f} s"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
