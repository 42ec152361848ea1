"""The table of ``compare rates``."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pgmlite.cli.tables import Column, render
from pgmlite.core.human import human_rate

if TYPE_CHECKING:
    from pgmlite.sim.rates_plan import RatesReport


def conditions(report: RatesReport) -> str:
    """Return how it was simulated."""
    plan = report.plan
    return (
        f"A link of {human_rate(plan.capacity)} with a queue of 50 ms, {plan.duration:g} s, "
        f"{plan.repetitions} runs of each, seed {plan.seed}; times are from a receiver's own start "
        "until it was on the highest channel that fits, to stay"
    )


def table(report: RatesReport, width: int) -> list[str]:
    """Return its lines."""
    cases = report.cases
    ladders = ["/".join(f"{rate / 1e6:g}" for rate in one.ladder) for one in cases]
    groups = [(one.ladder, one.leave_latency, one.random_loss) for one in cases]
    ends = [place for place, (one, other) in enumerate(pairwise(groups)) if one != other]
    return render(
        report.plan.title,
        [
            Column("ladder\n(Mbit/s)", ladders, is_number=False),
            Column("leave\n(s)", [f"{one.leave_latency:g}" for one in cases]),
            Column("loss", [f"{one.random_loss:.0%}" for one in cases]),
            Column("receiver", [f"{one.receiver} of {one.receivers}" for one in cases]),
            Column("fits\n(Mbit/s)", [f"{one.ladder[one.right] / 1e6:g}" for one in cases], 4),
            Column("10%\n(s)", [_time(one.early) for one in cases], 5),
            Column("half\n(s)", [_time(one.half) for one in cases]),
            Column("90%\n(s)", [_time(one.late) for one in cases]),
            Column("failed\ntries", [f"{one.failed:.2f}" for one in cases]),
            Column("at\nmost", [str(one.most_failed) for one in cases], 2),
            Column("disturbed", [f"{one.disturbed:.2f}" for one in cases], 6),
            Column("downs", [f"{one.left:.2f}" for one in cases], 3),
            Column("came\n(Mbit/s)", [f"{one.goodput / 1e6:.1f}" for one in cases]),
            Column("10% had\nless than", [f"{one.least_goodput / 1e6:.1f}" for one in cases], 1),
        ],
        width,
        ends,
    )


def _time(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f}"
