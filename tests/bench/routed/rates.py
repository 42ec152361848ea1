"""Several channels at different rates, over a link that not all of them fit."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.bench.routed.figures import Figure, at_least, at_most, equal, routed
from tests.support.channels import receive, send
from tests.support.crossing import ended
from tests.support.lab import Process, random_file, until

BOTTLENECK = 20
"""Mbit/s between the routers."""

SPAN = 80
"""Seconds that are looked at."""

LATER = 9
"""Seconds after which a second receiver begins."""

LASTING = 160_000_000
"""Bytes of an object that is not complete by then; more would be more to encode beside it."""

LADDERS = {(2, 6, 14, 40): 2, (5, 20, 80): 0, (1, 3, 10, 30): 2}
"""Mbit/s of the channels, and the number of the highest that fits."""


class Climb(NamedTuple):
    """What a receiver did, in seconds from its beginning."""

    reached: float
    """When it came to the channel that fits; infinite: never."""

    failed: int
    """Tries that failed."""

    channel: int
    """Where it was at the end."""

    left: int
    """How often it went down from the channel that fits."""

    goodput: float
    """Mbit/s of the object."""


def judge(process: Process, right: int, seconds: float) -> Climb:
    """Say what a receiver did within some seconds."""
    start = process.event("start")["at"]
    events = [event for event in list(process.events) if event["at"] <= start + seconds]
    rates = [event for event in events if event["event"] == "rate"]
    chosen = [event for event in rates if event["reason"] != "failed"]
    reached = [event["at"] - start for event in chosen if event["channel"] == right]
    stored = max((event["stored"] for event in events if "stored" in event), default=0)
    size = process.event("manifest")["symbol_size"]
    return Climb(
        min(reached, default=float("inf")),
        sum(event["reason"] == "failed" for event in rates),
        chosen[-1]["channel"] if chosen else 0,
        sum(event["reason"] == "down" for event in rates),
        stored * size * 8 / seconds / 1e6,
    )


def climbs(ladder: Sequence[int], right: int, loss: float) -> tuple[Climb, Climb, float]:
    """Return what two receivers behind one link did, of which one began later.

    The last figure is the share of its rates that the sender kept to: less than 1 says that this
    machine was too slow for the measurement.
    """
    with routed(2) as (lab, folder):
        lab.rate("B", f"{BOTTLENECK}mbit")
        if loss:
            lab.loss(loss)
        source = random_file(folder / "source", 1)
        os.truncate(source, LASTING)
        sender = send(lab, source, ladder)
        sender.event("start")
        first = receive(lab, "R1", folder / "first", "auto")
        time.sleep(LATER)
        second = receive(lab, "R2", folder / "second", "auto")
        for process in (sender, first, second):
            process.hurry()
        time.sleep(SPAN - LATER + 1)
        sent = sender.events[-1]["achieved_rate"] / (sum(ladder) * 1e6)
        return judge(first, right, SPAN), judge(second, right, SPAN - LATER), sent


def climb(runs: int) -> Iterator[Figure]:
    """Yield how receivers find the channel that fits a link, each ladder without and with loss."""
    for ladder, right in LADDERS.items():
        for loss in (0.0, 0.02):
            what = f"{'/'.join(map(str, ladder))}, {loss:.0%} lost"
            seen = [climbs(ladder, right, loss) for _ in range(runs)]
            first, second = ([run[0] for run in seen], [run[1] for run in seen])
            for run in seen:
                yield Figure(f"{what}: first and second", run[:2], True)
            yield at_least(f"{what}: sent, of its rates", min(run[2] for run in seen), 0.95)
            good = sum(one.reached <= 20 for one in first)
            yield at_least(f"{what}: on {ladder[right]} within 20 s, of {runs}", good, 0.9 * runs)
            worst = max(one.failed for one in first)
            yield at_most(f"{what}: failed tries in {SPAN} s, worst", worst, 1)
            goodput = statistics.median(one.goodput for one in first)
            least = 11 / 14 * ladder[right]
            yield at_least(f"{what}: Mbit/s of the first, median", goodput, least)
            late = sum(one.reached <= 60 for one in second)
            yield at_least(f"{what}: second within 60 s, of {runs}", late, 0.9 * runs)
            stays = all(one.channel == right and not one.left for one in first)
            yield equal(f"{what}: the first stays", stays, True)


OBJECT = 64
"""MiB."""


def change(_runs: int) -> Iterator[Figure]:
    """Yield what came twice for a receiver that goes from one channel to the other halfway."""
    with routed(1) as (lab, folder):
        source = random_file(folder / "source", OBJECT)
        send(lab, source, (5, 20)).event("start")
        out = folder / "out"
        first = receive(lab, "R1", out, "0")
        until(lambda: has(first, 0.5), "half of it has come", 120)
        first.popen.send_signal(signal.SIGTERM)
        before = first.result(6)
        second = receive(lab, "R1", out, "1")
        after = ended(second)
        assert out.read_bytes() == source.read_bytes()
        again = (before["duplicates"] + after["duplicates"]) / after["symbols"]
        yield at_most("duplicates, of the object", again, 0.05)


def has(process: Process, share: float) -> bool:
    """Whether a receiver has this share of its object."""
    seen = [event for event in list(process.events) if event.get("symbols")]
    return bool(seen) and seen[-1]["stored"] >= share * seen[-1]["symbols"]
