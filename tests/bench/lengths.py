"""Object lengths that transfers with repair symbols take, through real sockets in a lab.

A length is counted in symbols of the carousel, as each receiver saw them go by, lost ones included:
what receivers call cycles. Needs root, as labs do::

    python -m tests.bench.lengths loss --share 0.05 --runs 10
    python -m tests.bench.lengths late --share 0 --runs 2
    python -m tests.bench.lengths bursts
    python -m tests.bench.lengths senders --share 0.05
    python -m tests.bench.lengths small
    python -m tests.bench.lengths repairer --rate 200M --mib 32 --send "--fec off --order blocks"
"""

from __future__ import annotations

import argparse
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random

from tests.support.lab import Lab, Process

SYMBOL_SIZE = 1_404
BURST, PERIOD = 20, 397
"""Packets lost in a row, and from the start of one burst to the next: 5%, out of step with all."""

LATE = 10
"""Receivers that join one after another in one run."""


def object_file(folder: Path, size: int, seed: int) -> Path:
    """Write an object of `size` random bytes."""
    path = folder / "source"
    path.write_bytes(Random(seed).randbytes(size))
    return path


def finished(receivers: dict[Path, Process], source: Path) -> list[dict[str, float]]:
    """Wait for receivers; check what they wrote; return their figures."""
    results = [process.result() for process in receivers.values()]
    for path in receivers:
        assert path.read_bytes() == source.read_bytes(), f"{path} is not what was sent"
        path.unlink()
    return results


def impair(lab: Lab, share: float, *, bursts: bool) -> None:
    """Let every receiver lose packets for itself."""
    if not bursts:
        lab.loss(share)
        return
    for node in lab.receivers:
        lab.drop(f"oifname v{node} meta l4proto udp numgen inc mod {PERIOD} < {BURST}")


def one_transfer(args: argparse.Namespace, size: int, seed: int, *, bursts: bool = False) -> float:
    """Return the lengths until the last of three receivers was done, that were there before."""
    with tempfile.TemporaryDirectory() as name, Lab(receivers=args.receivers) as lab:
        folder = Path(name)
        source = object_file(folder, size, seed)
        impair(lab, args.share, bursts=bursts)
        receivers = {folder / node: lab.recv(node, folder / node) for node in lab.receivers}
        sender = lab.send("S", source, *args.send, rate=args.rate)
        results = finished(receivers, source)
        sender.stop()
    return max(result["cycles"] for result in results)


def late_joiners(args: argparse.Namespace, size: int, seed: int) -> list[float]:
    """Return the lengths that each of some receivers took that joined at any time."""
    rng = Random(seed)
    args.receivers = LATE
    with tempfile.TemporaryDirectory() as name, Lab(receivers=LATE) as lab:
        folder = Path(name)
        source = object_file(folder, size, seed)
        impair(lab, args.share, bursts=False)
        sender = lab.send("S", source, *args.send, rate=args.rate)
        sender.event("start")
        receivers = {}
        span = size * 8 / (float(args.rate.rstrip("M")) * 1e6)
        for number, node in enumerate(lab.receivers):
            # Within the first length, and later.
            time.sleep(rng.uniform(0.05, 0.35 if number < LATE // 2 else 0.5) * span)
            receivers[folder / node] = lab.recv(node, folder / node, wait=False)
        results = finished(receivers, source)
        sender.stop()
    return [result["cycles"] for result in results]


def two_senders(args: argparse.Namespace, size: int, seed: int) -> tuple[float, float, float]:
    """Return the seconds with two senders over those with one, duplicates, blocks decoded."""
    seconds: list[float] = []
    duplicates = decoded = 0.0
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as name, Lab(receivers=args.receivers + 1) as lab:
            folder = Path(name)
            source = object_file(folder, size, seed)
            for node in lab.receivers[:-1]:
                lab.loss(args.share, [node])
            receivers = {
                folder / node: lab.recv(node, folder / node) for node in lab.receivers[:-1]
            }
            senders = [
                lab.send(node, source, "--start", f"{number}/{count}", *args.send, rate=args.rate)
                for number, node in enumerate(("S", lab.receivers[-1])[:count])
            ]
            results = finished(receivers, source)
            for sender in senders:
                sender.stop()
        seconds.append(max(result["transfer_seconds"] for result in results))
        if count == 2:
            duplicates = max(one["duplicates"] / (one["odata"] or 1) for one in results)
            decoded = max(one.get("decoded", 0) for one in results)
    return seconds[1] / seconds[0], duplicates, decoded


def with_repairer(args: argparse.Namespace, size: int, seed: int) -> float:
    """Return the lengths as `one_transfer`, where a stand-alone repairer hears everything."""
    with tempfile.TemporaryDirectory() as name, Lab(receivers=args.receivers + 1) as lab:
        folder = Path(name)
        source = object_file(folder, size, seed)
        *losers, node = lab.receivers
        lab.loss(args.share, losers)
        repairer = lab.repair(node, source, rate="100M")
        receivers = {folder / one: lab.recv(one, folder / one) for one in losers}
        address = f"[fd01::{10 + args.receivers + 1}]:28776"
        sender = lab.send("S", source, "--repairer", address, *args.send, rate=args.rate)
        results = finished(receivers, source)
        sender.stop()
        repairer.popen.send_signal(signal.SIGTERM)
        grtt = repairer.result(6)["grtt"]
    print(f" (GRTT {1e3 * grtt:.0f} ms)", end="")
    return max(result["cycles"] for result in results)


def repeat(args: argparse.Namespace, run: Callable[[int], float]) -> Iterator[float]:
    """Yield a figure for each run, printing it."""
    for number in range(args.runs):
        figure = run(number)
        print(f"  {figure:.4f}", end="", flush=True)
        yield figure
    print()


def report(what: str, figures: Sequence[float]) -> None:
    """Print a mean and the worst."""
    print(f"{what}: mean {statistics.mean(figures):.4f}, worst {max(figures):.4f}", flush=True)


SMALL = (1, SYMBOL_SIZE, 2 * SYMBOL_SIZE, 5 * SYMBOL_SIZE, 16 * SYMBOL_SIZE, 64 * SYMBOL_SIZE)
ODD = tuple((1_024 * k + x) * SYMBOL_SIZE for k in (1, 3) for x in (1, 5, 100))


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("loss", "late", "bursts", "senders", "small", "repairer"))
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--receivers", type=int, default=3)
    parser.add_argument("--rate", default="40M")
    parser.add_argument("--send", action="append", default=[])
    args = parser.parse_args()
    args.send = [word for one in args.send for word in one.split()]
    size = args.mib << 20
    match args.what:
        case "loss":
            report("last done", [*repeat(args, partial(one_transfer, args, size))])
        case "repairer":
            report("last done", [*repeat(args, partial(with_repairer, args, size))])
        case "bursts":
            run = repeat(args, partial(one_transfer, args, size, bursts=True))
            report("last done, bursts", [*run])
        case "late":
            figures = [one for seed in range(args.runs) for one in late_joiners(args, size, seed)]
            print("  ".join(f"{one:.4f}" for one in figures))
            report("late joiners", figures)
        case "senders":
            for seed in range(args.runs):
                share, duplicates, decoded = two_senders(args, size, seed)
                print(f"two senders: {share:.4f} of the time, {duplicates:.2%} twice, {decoded}")
        case "small":
            for number in SMALL + ODD:
                symbols = -(-number // SYMBOL_SIZE)
                print(f"{symbols} symbols:", end="")
                rate = args.rate if symbols > 1_000 else "2M"
                small = argparse.Namespace(**vars(args) | {"rate": rate})
                figures = [*repeat(args, partial(one_transfer, small, number))]
                report(f"{symbols} symbols", figures)


if __name__ == "__main__":
    main()
