"""Is a simulated carousel with repair symbols as soon done as its closed form says?

    python -m tests.bench.fec_completion

prints, for 12 points, the median completion of the last receiver in object lengths, measured and
by `pgmlite.sim.fec_theory`; both have to agree within 0.012 and four standard errors.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from statistics import median, stdev

from pgmlite.sim.experiment import perform
from pgmlite.sim.fec_theory import fec_completion
from pgmlite.sim.plan import LossPattern, Mode, Schedule, Setting, Trial

SYMBOL_SIZE = 512


@dataclass(frozen=True)
class Point:
    """What is measured: so many runs of it."""

    symbols: int
    loss: float
    receivers: int
    runs: int
    fec: float = 0.5
    order: Schedule = Schedule.ROUNDS
    mode: Mode = Mode.FEC
    block: int = 1024


POINTS = [
    Point(8 * 1024, 0.01, 1, 60),
    Point(8 * 1024, 0.05, 3, 40),
    Point(20 * 1024, 0.05, 3, 20, order=Schedule.BLOCKS),
    Point(8 * 1024, 0.2, 3, 40),
    Point(12 * 1024 + 5, 0.05, 100, 4),
    Point(8 * 1024, 0.2, 100, 6),
    Point(5 * 1024, 0.05, 1000, 3),
    Point(5 * 1024, 0.01, 1000, 3),
    Point(4 * 1024, 0.5, 3, 40),
    Point(4 * 1024, 0.5, 3, 40, fec=1.0),
    Point(3 * 300, 0.3, 10, 60, block=300),
    Point(8 * 1024, 0.05, 3, 40, mode=Mode.SENDERS),
]


def measure(point: Point) -> tuple[float, float, float]:
    """Return the median, its standard error, and what the closed form has, in object lengths."""
    # Slow, near, and read at once: what the way takes is not what this is about.
    setting = Setting(
        symbol_size=SYMBOL_SIZE,
        block_symbols=point.block,
        fec=point.fec,
        order=point.order,
        latencies=(1_000,),
        read_interval=1,
    )
    loss = LossPattern(mean=point.loss)
    trial = Trial(
        setting,
        point.symbols * SYMBOL_SIZE,
        500_000,
        point.receivers,
        loss,
        point.mode,
        1,
        0,
        point.runs,
    )
    outcomes = perform(trial)
    assert isinstance(outcomes, list)
    senders = setting.senders if point.mode is Mode.SENDERS else 1
    lengths = [one.symbols / senders / trial.symbols for one in outcomes]
    error = 1.2533 * stdev(lengths) / math.sqrt(len(lengths))
    form = fec_completion(trial.geometry, [(point.loss, point.receivers)], senders=senders)
    return median(lengths), error, form.quantile()


def main() -> int:
    """Measure all points; return how many are too far off."""
    wrong = 0
    for point in POINTS:
        started = time.perf_counter()
        measured, error, needed = measure(point)
        is_near = abs(measured - needed) <= 0.012 + 4 * error
        wrong += not is_near
        print(
            f"{point.mode} {point.symbols} symbols, K {point.block}, FEC {point.fec:.0%}, "
            f"{point.order}, loss {point.loss:.0%}, {point.receivers} receivers: "
            f"{measured:.4f} +-{error:.4f}, closed form {needed:.4f}, {measured - needed:+.4f}"
            f"{'' if is_near else ' TOO FAR OFF'} ({time.perf_counter() - started:.1f} s)",
            flush=True,
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main())
