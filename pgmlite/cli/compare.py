"""``compare``: carousels, repair symbols and NAKs, simulated on the product's own machines."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgmlite.cli.lines import Priority, columns, say
from pgmlite.cli.options import PATH, option
from pgmlite.cli.output import PLAIN_LINES_EVERY
from pgmlite.cli.tables import Column, render
from pgmlite.cli.values import parse_fec, parse_share
from pgmlite.core.human import human_bytes, human_rate, human_time
from pgmlite.errors import DiskError, Interrupted, NetworkError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from pgmlite.sim.cases import Case
    from pgmlite.sim.plan import Plan, Setting
    from pgmlite.sim.rates_plan import RatesPlan, RatesReport
    from pgmlite.sim.report import Report

EXAMPLES = """\b
Examples:
  pgmlite compare
  pgmlite compare --size 64MiB --rate 50M --receivers 30 --loss 2% --plot 30.png
  pgmlite compare kinds
  pgmlite compare plan.toml --csv out.csv
  pgmlite compare rates
"""

DASK_PATIENCE = 10
"""Seconds to wait for a scheduler."""

PIPED_COLUMNS = 128
"""Characters of a line where there is neither a terminal nor COLUMNS."""


@click.command(epilog=EXAMPLES, short_help="Compare carousels, FEC and NAK repair, simulated.")
@click.argument("plan", metavar="[PLAN]", required=False)
@option("--size", metavar="BYTES", help="Object: bytes, such as 64MiB.")
@option("-r", "--rate", metavar="RATE", help="Bits a second: 20M.")
@option("--receivers", metavar="N,N", help="How many: 1,10,100.")
@option("--loss", metavar="SHARE", help="Share of packets lost: 1%,5%.")
@option("--loss-kind", metavar="KIND", help="independent, shared or bursts; others need a plan.")
@option("--burst", type=float, metavar="N", help="Mean packets in a burst of losses.")
@option(
    "--modes",
    metavar="MODES",
    help="Of carousel, fec, nak, fec+nak, repairer, senders: carousel,fec.",
)
@option("--fec", metavar="SHARE", help="Repair symbols of a block, in its source symbols: 50%.")
@option("--order", metavar="ORDER", help="Of what has repair symbols: rounds or blocks.")
@option("--repair-share", metavar="SHARE", help="Share of the rate for repairs: 50%.")
@option("--latency", metavar="MS", help="One way, ms: 2, or 1,5,20.")
@option("--join", metavar="HOW", help="together or spread (over a cycle).")
@option("--repetitions", type=int, metavar="N", help="Runs of each combination.")
@option("--seed", type=int, metavar="N", help="Same seed, same results.")
@option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Processes; default: one a core.",
)
@option("--dask", metavar="tcp://HOST:PORT", help="Have a Dask cluster do the trials.")
@option("--csv", type=PATH, metavar="FILE", help="Write the table to a file.")
@option("--plot", type=PATH, metavar="FILE", help="Draw it: FILE.png or FILE.svg.")
@option("--json", "as_json", is_flag=True, help="Print the result as JSON, on stdout.")
@option("--list", "show_plans", is_flag=True, help="List the plans that come with pgmlite.")
def compare(
    plan: str | None,
    size: str | None,
    rate: str | None,
    receivers: str | None,
    loss: str | None,
    loss_kind: str | None,
    burst: float | None,
    modes: str | None,
    fec: str | None,
    order: str | None,
    repair_share: str | None,
    latency: str | None,
    join: str | None,
    repetitions: int | None,
    seed: int | None,
    jobs: int | None,
    dask: str | None,
    csv: Path | None,
    plot: Path | None,
    as_json: bool,
    show_plans: bool,
) -> None:
    """Compare ways to send before you build any.

    The plain carousel, one with repair symbols (FEC), NAK repair without and with them, a repairer
    beside the receivers, and several senders.

    Runs the very machines of send, recv and repair on a simulated network: how long until half,
    95% and all receivers are done, and how much is sent for it. Closed forms stand beside the
    measurements where there are any.

    PLAN is a TOML file, or one of the plans that come with pgmlite (--list). Without one: 1 to
    1000 receivers at 1% and 5% loss. The plan "rates" is of receivers that choose among channels;
    of the options that change a plan it takes --repetitions and --seed.
    """
    if show_plans:
        _list_plans()
        return
    changes = {
        "sizes": [size] if size is not None else None,
        "rates": [rate] if rate is not None else None,
        "receivers": _numbers("receivers", receivers, int),
        "modes": modes.split(",") if modes is not None else None,
        "loss": _loss(loss, loss_kind, burst),
        "fec": parse_fec(fec) if fec is not None else None,
        "order": order,
        "repair_share": parse_share("--repair-share", repair_share)
        if repair_share is not None
        else None,
        "latency_ms": _numbers("latency", latency, float),
        "join": join,
        "repetitions": repetitions,
        "seed": seed,
    }
    chosen = _plan(plan, {key: value for key, value in changes.items() if value is not None})
    if repetitions is not None and repetitions < 1:
        raise UsageError(f"repetitions {repetitions}: must be at least 1")
    if plot:
        _check_plot(plot, chosen)
    started = time.monotonic()
    with _workers(chosen, jobs, dask) as executor, _Progress(quiet=as_json) as progress:
        report = _report(chosen, executor, progress.show)
    _keep(report, csv, plot)
    if as_json:
        print(report.json())
    else:
        _print(report, time.monotonic() - started)


def _report(
    plan: Plan | RatesPlan, executor: Executor | None, progress: Callable[[float], None]
) -> Report | RatesReport:
    """Return what all runs of a plan came to."""
    from pgmlite.sim.experiment import perform_all
    from pgmlite.sim.rates import climb
    from pgmlite.sim.rates_plan import RatesPlan, RatesReport
    from pgmlite.sim.report import Report
    from pgmlite.sim.work import do_all

    if isinstance(plan, RatesPlan):
        return RatesReport(plan, do_all(plan.trials(), climb, executor, progress))
    return Report(plan, perform_all(plan, executor, progress))


def _keep(report: Report | RatesReport, csv: Path | None, plot: Path | None) -> None:
    """Write the table and the picture that were asked for."""
    # Imported here: other verbs start faster without the simulation.
    from pgmlite.sim.report import Report

    if csv:
        _write(csv, report.csv())
    if plot and isinstance(report, Report):
        from pgmlite.sim.plot import save

        save(report, plot)


# The plan.


def _numbers(name: str, text: str | None, kind: type[int] | type[float]) -> list[Any] | None:
    if text is None:
        return None
    try:
        return [kind(one) for one in text.split(",")]
    except ValueError:
        raise UsageError(f"{name} {text}: give numbers such as 1,10,100") from None


def _loss(loss: str | None, kind: str | None, burst: float | None) -> dict[str, Any] | None:
    table: dict[str, Any] = {}
    if loss is not None:
        table["mean"] = [parse_share("--loss", one) for one in loss.split(",")]
    if kind is not None:
        table["kind"] = kind
    if burst is not None:
        table["burst"] = burst
    return table or None


def _parse(text: str, changes: dict[str, Any]) -> Plan | RatesPlan:
    from pgmlite.sim.planfile import parse_plan
    from pgmlite.sim.rates_plan import is_rates_plan, parse_rates_plan

    return (parse_rates_plan if is_rates_plan(text) else parse_plan)(text, changes)


def _plan(name: str | None, changes: dict[str, Any]) -> Plan | RatesPlan:
    if name is None:
        return _parse("", changes)
    path = Path(name)
    if shipped := _shipped().get(name):
        return _parse(shipped, changes)
    try:
        return _parse(path.read_text(), changes)
    except OSError as error:
        text = f"plan {name}: {error.strerror}"
        if path.suffix != ".toml":
            text += f"; plans that come with pgmlite: {', '.join(_shipped())}"
        raise DiskError(text) from error
    except UnicodeDecodeError:
        raise UsageError(f"plan {name}: not a text file") from None


def _list_plans() -> None:
    for name, text in _shipped().items():
        print(f"{name:<14} {_parse(text, {}).title}")


def _shipped() -> dict[str, str]:
    """Return the plans that come with pgmlite, name and text."""
    found = [one for one in files("pgmlite.sim.plans").iterdir() if one.name.endswith(".toml")]
    found.sort(key=lambda one: one.name)
    return {one.name.removesuffix(".toml"): one.read_text() for one in found}


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror}") from error


# Who does the work.


def _prepare_worker() -> None:
    """Let a worker end at once when the terminal says so; the parent speaks for all."""
    # A simulation makes many objects and few cycles of them: looking for those takes a tenth.
    gc.set_threshold(50_000)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _workers(
    plan: Plan | RatesPlan, jobs: int | None, dask: str | None
) -> Iterator[Executor | None]:
    """Yield who does the trials; None: this process.

    Raises:
        UsageError: Dask is not installed.
        NetworkError: There is no scheduler.
        Interrupted: A signal came.
    """
    try:
        if dask is not None:
            with _dask_client(dask) as client:
                yield client.get_executor()
            return
        count = min(jobs or len(os.sched_getaffinity(0)), len(plan.trials()))
        if count == 1:
            yield None
            return
        # Not fork: what other threads hold at that moment would stay locked in the child.
        pool = ProcessPoolExecutor(
            count, multiprocessing.get_context("spawn"), initializer=_prepare_worker
        )
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; nothing was kept") from None


def _dask_client(address: str) -> Any:
    try:
        # Imported here: it costs a second, and only some have it.
        from distributed import Client
    except ImportError:
        raise UsageError("--dask needs Dask: pip install 'pgmlite[cluster]'") from None
    try:
        client: Any = Client  # it has no types
        return client(address, timeout=DASK_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise NetworkError(f"--dask {address}: no scheduler answers there") from error
    except ValueError as error:
        raise UsageError(f"--dask {address}: give tcp://HOST:PORT") from error


class _Progress(ExitStack):
    """A bar with the time left on a terminal, a line now and then elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__()
        self._quiet = quiet
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("simulating"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=1.0)
            self.enter_context(self._bar)

    def show(self, done: float) -> None:
        """Show that the share `done` of the work is done."""
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=done)
        elif not self._quiet and now - self._last_line >= PLAIN_LINES_EVERY and done < 1:
            self._last_line = now
            left = (now - self._started) * (1 - done) / done
            say(f"simulating: {done:.0%}, {human_time(left)} left", Priority.DEBUG)


# What people see.


def _check_plot(path: Path, plan: Plan | RatesPlan) -> None:
    """Say so before hours are spent on what can't be drawn."""
    from pgmlite.sim.plot import check
    from pgmlite.sim.rates_plan import RatesPlan

    if isinstance(plan, RatesPlan):
        raise UsageError(f"--plot {path}: there is no plot of rates")
    check(path, len(plan.sizes) * len(plan.rates) * len(plan.losses))


def _print(report: Report | RatesReport, seconds: float) -> None:
    from pgmlite.cli.rates_table import conditions, table
    from pgmlite.sim.report import Report

    if isinstance(report, Report):
        _print_trials(report, seconds)
        return
    width = columns(sys.stdout, PIPED_COLUMNS)
    _say(f"{conditions(report)}; {human_time(seconds)}", width)
    print("", *table(report, width), sep="\n")


def _print_trials(report: Report, seconds: float) -> None:
    plan, setting = report.plan, report.plan.setting
    width = columns(sys.stdout, PIPED_COLUMNS)
    _say(
        f"Symbols of {setting.symbol_size} bytes, {_conditions(setting)}, seed {plan.seed}; "
        f"{len(plan.trials())} trials in {human_time(seconds)}",
        width,
    )
    print("", *_table(report, width), sep="\n")
    if report.suppression:
        print("", *_suppression_table(report, width), sep="\n")
    if advice := report.advice():
        print()
        _say(advice, width)


def _conditions(setting: Setting) -> str:
    """Return how it was simulated, as far as that makes a difference."""
    from pgmlite.sim.plan import Method

    if setting.method is Method.COUNTS:
        return (
            f"FEC {setting.fec:.0%} in rounds, simulated by counts: of each receiver how many "
            "symbols it lacks, drawn as independent losses have it, without delays, SPMs and nodes "
            "of the tree"
        )
    latencies = ", ".join(f"{one / 1e6:g}" for one in setting.latencies)
    return (
        f"FEC {setting.fec:.0%} in {setting.order}, repair share {setting.repair_share:.0%}, "
        f"latency {latencies} ms, receivers join {setting.join}"
    )


def _say(text: str, width: int) -> None:
    print(textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False))


def _table(report: Report, width: int) -> list[str]:
    plan, cases = report.plan, report.cases
    several = len(plan.sizes) * len(plan.rates) > 1
    objects = [f"{human_bytes(one.size)} at {human_rate(one.rate)}" for one in cases]
    rows = zip(*map(_row, cases), strict=True)
    spares = FIGURES | ({"runs": 0} if any(one.unfinished for one in cases) else {})
    wide = [
        *([Column("object", objects, wraps=True, is_number=False)] if several else []),
        Column("loss", [str(one.loss) for one in cases], wraps=True, is_number=False),
        Column("receivers", [str(one.receivers) for one in cases]),
        Column("mode", [one.mode for one in cases], is_number=False),
        *(
            Column(heading, cells, spare)
            for (heading, spare), cells in zip(spares.items(), rows, strict=True)
        ),
    ]
    groups = [(one.size, one.rate, one.loss) for one in cases]
    ends = [place for place, (one, other) in enumerate(pairwise(groups)) if one != other]
    return render(plan.title if several else f"{plan.title}: {objects[0]}", wide, width, ends)


FIGURES = {
    "half\n(s)": 1,
    "95%\n(s)": 2,
    "all\n(s)": 0,
    "\N{PLUS-MINUS SIGN}": 4,
    "sent\n(lengths)": 0,
    "theory": 6,
    "off": 7,
    "sent\n(MB)": 5,
    "NAKs": 3,
    "runs": 8,
}
"""Headings of what was measured, and which goes first where there is no room: the highest."""


def _row(case: Case) -> list[str]:
    """Return what was measured, in the order of `FIGURES`."""
    from pgmlite.sim.report import off

    if not case.repetitions:
        return ["", "", "never", *[""] * 7]
    return [
        f"{case.half:.2f}",
        f"{case.most:.2f}",
        f"{case.last:.2f}",
        f"{case.last_error:.2f}",
        f"{case.lengths:.3f}",
        "" if case.theory is None else f"{case.theory:.3f}",
        off(case.lengths, case.theory),
        f"{case.wire_bytes / 1e6:.1f}",
        f"{case.naks:.0f}",
        str(case.repetitions) + (f" ({case.unfinished} never ended)" if case.unfinished else ""),
    ]


def _suppression_table(report: Report, width: int) -> list[str]:
    from pgmlite.sim.report import off

    rows = report.suppression
    return render(
        "NAKs for a loss that all receivers share",
        [
            Column("receivers", [str(one.receivers) for one in rows]),
            Column("announced\nas", [str(one.gsize) for one in rows], 4),
            Column("losses", [str(one.losses) for one in rows], 5),
            Column("NAKs\nfor each", [f"{one.naks:.2f}" for one in rows]),
            Column("\N{PLUS-MINUS SIGN}", [f"{one.naks_error:.2f}" for one in rows], 3),
            Column("theory", [f"{one.naks_theory:.2f}" for one in rows]),
            Column("off", [off(one.naks, one.naks_theory) for one in rows], 6),
            Column("first after\n(GRTT)", [f"{one.first:.2f}" for one in rows], 1),
            Column("its theory", [f"{one.first_theory:.2f}" for one in rows], 2),
        ],
        width,
    )
