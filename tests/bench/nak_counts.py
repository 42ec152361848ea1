"""What do NAKs by count cost beside an FEC carousel, and how often is asked for a block?

    python -m tests.bench.nak_counts [RECEIVERS ...]

prints, for each number of receivers (3 and 100 by default; 1000 takes minutes) that lose 5% of an
object of 55 blocks: symbols sent in object lengths and the mean rounds of asking for a block, with
`--order blocks` and in rounds; and whether a receiver that loses half of everything ends.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from statistics import fmean

from pgmlite.core.machine import Transmit
from pgmlite.sim.experiment import TrialNetwork
from pgmlite.sim.network import Node
from pgmlite.sim.plan import LossPattern, Mode, Schedule, Setting, Trial
from pgmlite.sim.report import expected
from pgmlite.wire.layout import PacketType
from pgmlite.wire.request import parse_request

BLOCKS = 55
RATE = 100_000_000


def rounds_of(trial: Trial, bodies: list[bytes]) -> list[int]:
    """Return how often each block that was asked for was: NCFs that go on where another ended."""
    geometry = trial.geometry
    ends: dict[int, list[int]] = defaultdict(list)
    for body in bodies:
        counts = parse_request(body, geometry.symbols, geometry.rings)
        for block, first, count in zip(counts.blocks, counts.firsts, counts.counts, strict=True):
            ring = geometry.ring(int(block))
            seen = ends[int(block)]
            # The cursor runs down; an NCF for a round that goes on begins above the latest end.
            if not seen or (seen[-1] - int(first)) % ring < ring // 2:
                seen.append(0)
            seen[-1] = (int(first) - int(count)) % ring
    return [len(seen) for seen in ends.values()]


def measure(receivers: int, loss: float, order: Schedule, blocks: int = BLOCKS) -> None:
    """Simulate one transfer and print what it took."""
    started = time.perf_counter()
    # As in the closed form there is hardly a carousel beside the repairs.
    setting = Setting(order=order, repair_share=0.9)
    size = blocks * setting.block_symbols * setting.symbol_size
    pattern = LossPattern(mean=loss)
    trial = Trial(setting, size, RATE, receivers, pattern, Mode.FEC_NAK, 3, 0)
    simulated = TrialNetwork(trial)
    bodies: list[bytes] = []
    transmit = simulated.network._transmit

    def noting(sender: Node, burst: Transmit) -> None:
        if int(burst.rows["type"][0]) == PacketType.NCF:
            bodies.append(bytes(burst.payload))
        transmit(sender, burst)

    simulated.network._transmit = noting
    outcomes = simulated.run()
    rounds = rounds_of(trial, bodies)
    asked = f"{fmean(rounds):.2f} rounds for {len(rounds)} blocks" if rounds else "nobody asked"
    sent = "never ended" if outcomes is None else f"sent {outcomes[0].symbols / trial.symbols:.4f}"
    print(
        f"{receivers} receivers, loss {loss:.0%}, {order}, {blocks} blocks: {sent}, {asked}; "
        f"least {expected(trial)[0]:.4f} ({time.perf_counter() - started:.0f} s)",
        flush=True,
    )


def main(numbers: list[int]) -> None:
    """Measure."""
    for receivers in numbers or [3, 100]:
        measure(receivers, 0.05, Schedule.BLOCKS)
    measure(3, 0.05, Schedule.ROUNDS)
    for order in Schedule:
        measure(1, 0.5, order, blocks=8)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
