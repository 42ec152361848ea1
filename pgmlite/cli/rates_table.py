"""The table of ``compare rates``."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pgmlite.cli.tables import Column, render
from pgmlite.core.human import human_rate

if TYPE_CHECKING:
    from pgmlite.sim.rates_plan import RatesCase, RatesReport


def conditions(report: RatesReport) -> str:
    """Return how it was simulated."""
    plan = report.plan
    return (
        f"A link of {human_rate(plan.capacity)} with a queue of 50 ms, {plan.duration:g} s, "
        f"{plan.repetitions} runs of each, seed {plan.seed}; times are from a receiver's own start "
        "until it was on the highest channel that fits, to stay"
    )


FIGURES = {
    "receiver": 0,
    "fits\n(Mbit/s)": 4,
    "10%\n(s)": 5,
    "half\n(s)": 0,
    "90%\n(s)": 0,
    "failed\ntries": 0,
    "at\nmost": 2,
    "disturbed": 6,
    "downs": 3,
    "came\n(Mbit/s)": 0,
    "10% had\nless than": 1,
}
"""Headings of what was measured, and which goes first where there is no room: the highest."""


def table(report: RatesReport, width: int) -> list[str]:
    """Return its lines."""
    cases = report.cases
    ladders = ["/".join(f"{rate / 1e6:g}" for rate in one.ladder) for one in cases]
    groups = [(one.ladder, one.leave_latency, one.random_loss) for one in cases]
    ends = [place for place, (one, other) in enumerate(pairwise(groups)) if one != other]
    rows = zip(*map(_row, cases), strict=True)
    return render(
        report.plan.title,
        [
            Column("ladder\n(Mbit/s)", ladders, is_number=False),
            Column("leave\n(s)", [f"{one.leave_latency:g}" for one in cases]),
            Column("loss", [f"{one.random_loss:.0%}" for one in cases]),
            *(
                Column(heading, cells, spare)
                for (heading, spare), cells in zip(FIGURES.items(), rows, strict=True)
            ),
        ],
        width,
        ends,
    )


def _row(case: RatesCase) -> list[str]:
    """Return what was measured, in the order of `FIGURES`."""
    return [
        f"{case.receiver} of {case.receivers}",
        f"{case.ladder[case.right] / 1e6:g}",
        _time(case.early),
        _time(case.half),
        _time(case.late),
        f"{case.failed:.2f}",
        str(case.most_failed),
        f"{case.disturbed:.2f}",
        f"{case.left:.2f}",
        f"{case.goodput / 1e6:.1f}",
        f"{case.least_goodput / 1e6:.1f}",
    ]


def _time(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f}"
