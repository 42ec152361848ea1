"""Plots of a comparison: completion curves, and time and bytes against the number of receivers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgmlite.errors import DiskError, UsageError
from pgmlite.sim.cases import CURVE, Case
from pgmlite.sim.plan import LossPattern, Mode, Trial
from pgmlite.sim.report import Report, expected

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COLUMNS = 4
THEORY_POINTS = 24

LOOKS: dict[Mode, tuple[str, str, str, str]] = {
    # Colours of Okabe and Ito, told apart by the colour-blind; markers and lines in print.
    Mode.CAROUSEL: ("plain carousel", "#0072B2", "o", "-"),
    Mode.FEC: ("FEC", "#000000", "v", "-"),
    Mode.NAK: ("NAKs without FEC", "#D55E00", "s", "--"),
    Mode.FEC_NAK: ("FEC, NAKs to the sender", "#56B4E9", "P", "--"),
    Mode.REPAIRER: ("FEC, NAKs to a repairer", "#009E73", "^", "-."),
    Mode.SENDERS: ("FEC, several senders", "#CC79A7", "D", ":"),
}


def load_matplotlib() -> Any:
    """Return matplotlib.

    Raises:
        UsageError: It is not installed.
    """
    try:
        # Imported here: it costs most of a second, and few need it.
        import matplotlib as mpl
    except ImportError:
        raise UsageError("plots need matplotlib: pip install 'pgmlite[plots]'") from None
    return mpl


def check(path: Path, columns: int) -> None:
    """Make sure that a plot can be drawn before hours are spent on what it shows.

    Raises:
        UsageError: matplotlib is missing, or `path` is no picture, or there is too much to show.
    """
    if path.suffix not in {".png", ".svg"}:
        raise UsageError(f"plot {path}: give a name that ends in .png or .svg")
    if columns > MOST_COLUMNS:
        raise UsageError(
            f"plot: {columns} combinations of size, rate and loss; it can show {MOST_COLUMNS}"
        )
    load_matplotlib()


def save(report: Report, path: Path) -> None:
    """Draw a report.

    Raises:
        UsageError: See `check`.
        DiskError: The file can't be written.
    """
    columns: dict[tuple[int, int, LossPattern], list[Case]] = {}
    for case in report.cases:
        columns.setdefault((case.size, case.rate, case.loss), []).append(case)
    check(path, len(columns))
    mpl = load_matplotlib()
    style = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "svg.hashsalt": "pgmlite",
    }
    with mpl.rc_context(style):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1.2 + 3.9 * len(columns), 10.2), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure, report, columns)
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        try:
            figure.savefig(path, metadata=metadata)
        except OSError as error:
            raise DiskError(f"{path}: {error.strerror}") from error


def _draw(
    figure: Figure, report: Report, columns: dict[tuple[int, int, LossPattern], list[Case]]
) -> None:
    axes = figure.subplots(3, len(columns), squeeze=False)
    for place, ((size, rate, loss), cases) in enumerate(columns.items()):
        curves, times, volumes = axes[:, place]
        curves.set_title(f"loss {loss}\n{size / 1e6:.3g} MB at {rate / 1e6:.3g} Mbit/s")
        most = max(case.receivers for case in cases)
        _curves(curves, [case for case in cases if case.receivers == most], most)
        _against_receivers(times, report, cases, "time until all are complete (s)", _time)
        _against_receivers(volumes, report, cases, "sent until then (MB)", _volume)
    for row in axes[1:]:
        top = max(one.get_ylim()[1] for one in row)
        for one in row:
            one.set_ylim(0, top)
    handles: dict[str, Any] = {}
    for one in axes.flat:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        [handles[label] for label in sorted(handles)],
        sorted(handles),
        loc="outside lower center",
        ncols=len({label.partition(":")[0] for label in handles}) if len(columns) > 1 else 1,
        frameon=False,
    )
    figure.suptitle(report.plan.title)


def _curves(axes: Axes, cases: Sequence[Case], receivers: int) -> None:
    latest = max(case.last for case in cases)
    for case in cases:
        label, colour, _, line = LOOKS[case.mode]
        # A step up whenever somebody was complete, from nobody on.
        axes.step(
            [0, *case.curve, latest],
            [0, *CURVE, 100],
            line,
            where="post",
            color=colour,
            lw=1.8,
            label=f"{label}: complete",
        )
    axes.set(
        xlabel="time since each one joined (s)",
        ylabel=f"complete, of {receivers:,} receivers (%)",
        ylim=(0, 103),
    )
    axes.set_xlim(left=0)


def _time(case: Case) -> tuple[float, float]:
    return case.last, case.last_error


def _volume(case: Case) -> tuple[float, float]:
    error = case.lengths_error / case.lengths * case.wire_bytes if case.lengths else 0.0
    return case.wire_bytes / 1e6, error / 1e6


def _against_receivers(
    axes: Axes, report: Report, cases: Sequence[Case], ylabel: str, value: Any
) -> None:
    """Draw measurements as markers, and the closed form as a line where there is one."""
    numbers_seen = [case.receivers for case in cases]
    for mode in report.plan.modes:
        mine = sorted((c for c in cases if c.mode is mode), key=lambda case: case.receivers)
        label, colour, marker, line = LOOKS[mode]
        numbers = [case.receivers for case in mine]
        points = [value(case) for case in mine]
        has_theory = mine[0].theory is not None
        axes.errorbar(
            numbers,
            [mean for mean, _ in points],
            [2 * error for _, error in points],
            fmt=marker,
            ls="none" if has_theory else line,
            lw=1,
            color=colour,
            ms=6,
            mfc="white",
            mew=1.6,
            capsize=3,
            label=f"{label}: measured, ± 2 standard errors",
            zorder=3,
        )
        if has_theory:
            xs, lengths, times = _theory(report, mine[0], max(numbers))
            volume = [one * mine[0].size / 1e6 * _wire_share(report) for one in lengths]
            ys = times if value is _time else volume
            axes.plot(xs, ys, line, lw=1.2, color=colour, label=f"{label}: closed form")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if len(set(numbers_seen)) == 1:
        axes.set_xticks(numbers_seen[:1])
        axes.minorticks_off()
    axes.set(xlabel="receivers", ylabel=ylabel)
    axes.set_ylim(bottom=0)


def _wire_share(report: Report) -> float:
    """Return bytes on the wire for each byte of the object."""
    return report.plan.setting.packet_size / report.plan.setting.symbol_size


def _theory(report: Report, case: Case, most: int) -> tuple[list[int], list[float], list[float]]:
    """Return numbers of receivers, and the lengths and times in s that the closed form has."""
    top = math.log10(max(most, 10))
    steps = sorted({round(10 ** (top * n / THEORY_POINTS)) for n in range(THEORY_POINTS + 1)})
    trial = Trial(
        report.plan.setting, case.size, case.rate, case.receivers, case.loss, case.mode, 0, 0
    )
    xs, lengths, times = [], [], []
    for receivers in steps:
        length, time = expected(trial, receivers)
        if length is not None and time is not None:
            xs.append(receivers)
            lengths.append(length)
            times.append(time)
    return xs, lengths, times
