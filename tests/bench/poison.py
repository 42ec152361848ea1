"""What forged symbols and nodes cost a receiver, under a virtual clock, with real bytes.

    python -m tests.bench.poison [SEEDS [BLOCKS]]

A carousel of 8 blocks of 1024 symbols and 512 repair symbols each, by default. A stranger knows
all that is public, and takes the sender's own address, tsi and channel: forged symbols, 0.1, 1, 10
and 100% of the true ones, aimed just ahead of the carousel, and 10 forged nodes before each true
one. Signed: at no loss, and at 5%, the median of 20 seeds. Then unsigned, 1% forged from another
address, with repair symbols and without. Every symbol that is written is compared.
"""

from __future__ import annotations

import sys
from statistics import median

from pgmlite.wire.endpoint import Endpoint
from tests.support.builders import Sample, make_object
from tests.support.poison import SENDER, STRANGER, Attack, Outcome, receive
from tests.support.signed import make_signed

SHARES = (0.001, 0.01, 0.1, 1.0)
NODES = 10
SYMBOL, SHORT_SYMBOL = 1_056, 256
BLOCK, REPAIRS = 1_024, 512
RATE, SLOW = 1_000_000_000, 200_000_000


def hear(
    sample: Sample, share: float, nodes: int, source: Endpoint, loss: float, seeds: int, rate: int
) -> tuple[float, list[Outcome]]:
    """Return the median of the cycles that receivers take, and what became of each."""
    attack = Attack(share, nodes, source)
    outcomes = [receive(sample, attack, loss=loss, seed=one, rate=rate) for one in range(seeds)]
    return median(one.cycles for one in outcomes), outcomes


def judge(outcomes: list[Outcome]) -> str:
    """Return in words whether all is as it should be."""
    right = sum(one.is_complete and one.is_right for one in outcomes)
    wrong = sum(one.wrong for one in outcomes)
    refused = outcomes[0].refused
    return f"{right} of {len(outcomes)} right, {wrong} wrong symbols written, refused {refused}"


def compare(name: str, sample: Sample, source: Endpoint, loss: float, seeds: int) -> bool:
    """Print what an attack costs; return whether that is as it should be."""
    is_signed = sample.manifest.tiles_digest is not None
    rate, nodes = (RATE, NODES) if is_signed else (SLOW, 0)
    before, outcomes = hear(sample, 0.0, 0, source, loss, seeds, rate)
    print(f"{name}, loss {loss:.0%}: {before:.3f} cycles without attack; {judge(outcomes)}")
    most = (1.15 * before if loss else 1.05) if is_signed else 2 * before
    good = True
    for share in SHARES if is_signed else (0.01,):
        cycles, outcomes = hear(sample, share, nodes, source, loss, seeds, rate)
        is_fine = cycles <= most and all(one.is_complete and one.is_right for one in outcomes)
        is_fine &= not (is_signed and any(one.wrong for one in outcomes))
        good &= is_fine
        print(
            f"  {share:.1%} forged: {cycles:.3f}, {cycles / before:.3f} times, "
            f"{'fine' if is_fine else 'TOO MUCH'}; {judge(outcomes)}",
            flush=True,
        )
    return good


def main(seeds: int = 20, blocks: int = 8) -> int:
    """Attack, and print the figures; return how many of them are not as they should be."""
    coded = {"block_symbols": BLOCK, "repair_symbols": REPAIRS, "tile_blocks": 8}
    signed = make_signed(SYMBOL * BLOCK * blocks - 5, symbol_size=SYMBOL, **coded)
    size = SHORT_SYMBOL * BLOCK * blocks - 5
    fec = make_object(size, symbol_size=SHORT_SYMBOL, **coded)
    plain = make_object(size, symbol_size=SHORT_SYMBOL, block_symbols=BLOCK)
    results = [
        compare("signed", signed, SENDER, 0.0, 1),
        compare("signed", signed, SENDER, 0.05, seeds),
        compare("signed, another address", signed, STRANGER, 0.05, max(1, seeds // 4)),
        compare("unsigned, with repair symbols", fec, STRANGER, 0.0, 1),
        compare("unsigned, with repair symbols", fec, STRANGER, 0.05, max(1, seeds // 4)),
        compare("unsigned, without", plain, STRANGER, 0.0, 1),
        compare("unsigned, without", plain, STRANGER, 0.05, max(1, seeds // 4)),
    ]
    return results.count(False)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
