"""How many NAKs a loss of a whole group costs, beside theory (RFC 5401 section 3.2.2).

    python -m tests.bench.suppression [RECEIVERS [GSIZE [RUNS]]]

prints the mean NAKs for each loss and the mean time to the first, in GRTT, of RUNS losses that all
RECEIVERS share while the sender announces a group of GSIZE; 1000, 1000 and 20 by default.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from pgmlite.core.config import NakConfig, RepairConfig
from pgmlite.core.machine import MS, Action, Held, Prepare
from pgmlite.sim.memory import MemoryStore
from pgmlite.sim.theory import backoff_shape, nb_expected, nb_first
from pgmlite.wire.batch import HEADER_SIZE, PacketBatch
from pgmlite.wire.layout import PacketType
from tests.support.builders import make_object
from tests.support.nak_builders import GRTT, Group, Unlucky

BACKOFF_FACTOR = 6


class Unheeding(Unlucky):
    """Hears no NCF and gets no repair: nothing tells it that others asked."""

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        if batch.kind in {PacketType.NCF, PacketType.RDATA}:
            return []
        return super().receive(now, batch)


class Nowhere(MemoryStore):
    """A disk that keeps nothing and says that all is well: a thousand take no memory."""

    def prepare(self, wanted: Prepare) -> Held:
        return Held()

    def write(self, runs: Sequence[tuple[int, memoryview]]) -> None:
        return

    def matches(self, offset: int, length: int, expected: bytes) -> bool:
        return True


@dataclass(frozen=True)
class Suppression:
    """What a group whose receivers all lose the same packets did.

    Attributes:
        asked: Receivers that asked, for each loss.
        naks: NAKs, for each loss.
        first: From the start of the back-off to the first NAK, in GRTT, for each loss.
    """

    asked: list[int]
    naks: list[int]
    first: list[float]


def suppress(
    *, receivers: int, gsize: int, losses: int, seed: int = 1, kind: type[Unlucky] = Unlucky
) -> Suppression:
    """Let all receivers lose one symbol of every block; count the NAKs for each.

    The round trip is `GRTT` exactly, so that a NAK's NCF is heard one GRTT after it, as the
    formulas have it.
    """
    per_block, symbol_size, overhead = 44, 64, 28
    sample = make_object(
        (losses + 2) * per_block * symbol_size, symbol_size=symbol_size, block_symbols=per_block
    )
    lost = np.zeros(sample.manifest.symbols, np.bool_)
    # The sender is trusted after the first block; the last one's end is known only a cycle later.
    lost[per_block + per_block // 2 : -per_block : per_block] = True
    group = Group(sample, seed=seed)
    repair = RepairConfig(
        port=9,
        share=0.9,
        backoff_factor=BACKOFF_FACTOR,
        grtt_start=GRTT,
        grtt_min=GRTT,
        gsize_start=gsize,
        overlaps_wanted=10**9,
        ncf_share=1e6,
        naks_per_second=1e9,
        source_naks_per_second=1e9,
        source_symbols_per_second=1e9,
    )
    # Half a millisecond of the rate is one block: a receiver gets it as one batch.
    rate = per_block * (HEADER_SIZE + symbol_size + overhead) * 8 * 2_000
    # One cycle: the next would bring what was lost before the slowest have asked.
    group.add_sender(
        repair=repair, latency=GRTT // 2, rate=rate, cycles=1, tree_share=2 * per_block
    )
    group.add_receivers(
        receivers,
        latency=GRTT // 2,
        make=lambda values, rng: kind(values, rng, lost),
        store=Nowhere,
        # The carousel is short to save time; it must not be the reason to keep quiet.
        nak=NakConfig(carousel_margin=0.0, ask_silent=0),
    )
    group.network.run((losses + 2) * MS + 10 * GRTT)
    passed = group.receivers[0].machine.passed
    naks: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for at, name, symbols in group.naks():
        for symbol in symbols:
            naks[symbol].append((at, name))
    places = np.flatnonzero(lost).tolist()
    return Suppression(
        [len({name for _, name in naks[symbol]}) for symbol in places],
        [len(naks[symbol]) for symbol in places],
        [
            (min(naks[symbol])[0] - passed[symbol // per_block]) / GRTT
            for symbol in places
            if naks[symbol]
        ],
    )


def main(receivers: int = 1_000, gsize: int = 1_000, runs: int = 20) -> None:
    """Print what a group does beside what it should do."""
    result = suppress(receivers=receivers, gsize=gsize, losses=runs)
    shape = backoff_shape(gsize)
    print(f"{receivers} receivers, group size {gsize}, {runs} losses   measured (+-)   theory")
    rows = (
        ("NAKs for each loss", result.naks, nb_expected(receivers, shape, BACKOFF_FACTOR, 1)),
        ("GRTT to the first NAK", result.first, nb_first(receivers, shape, BACKOFF_FACTOR)),
    )
    for name, values, theory in rows:
        error = stdev(values) / math.sqrt(len(values))
        print(f"{name:<40} {fmean(values):8.2f} {error:6.2f} {theory:8.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
