"""``compare``: its numbers beside theory, the same wherever they are made; tables and plots."""

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from unittest.mock import patch

import pytest

from pgmlite.cli import run
from pgmlite.core.machine import MS, SECOND
from pgmlite.sim.experiment import TrialNetwork, perform, perform_all
from pgmlite.sim.plan import (
    Join,
    LossKind,
    LossPattern,
    LossShared,
    Mode,
    Plan,
    Schedule,
    Setting,
    Trial,
)
from pgmlite.sim.planfile import parse_plan
from pgmlite.sim.plot import save
from pgmlite.sim.report import Report, expected

SMALL = """
sizes = [200_000]
rates = ["20M"]
receivers = [1, 12]
symbol_size = 512
block_symbols = 128
repetitions = 2
shared_losses = 10
[loss]
mean = [0.03]
"""


SHIPPED = {
    one.name.removesuffix(".toml"): one.read_text()
    for one in files("pgmlite.sim.plans").iterdir()
    if one.name.endswith(".toml")
}


@cache
def report(text: str = SMALL, modes: tuple[Mode, ...] = tuple(Mode)) -> Report:
    plan = replace(parse_plan(text), modes=modes)
    return Report(plan, perform_all(plan, None, lambda _: None))


def one_run(mode: Mode, **changes: object) -> Trial:
    values = {
        # What theory has no carousel beside comes near it with a large share for repairs.
        "setting": Setting(symbol_size=512, block_symbols=256, repair_share=0.9),
        "size": 1_000 * 512,
        "rate": 10_000_000,
        "receivers": 10,
        "loss": LossPattern(mean=0.05),
        "mode": mode,
        "seed": 3,
        "repetition": 0,
    }
    return Trial(**(values | changes))


def mean_lengths(run_: Trial) -> float:
    outcomes = perform(run_)
    assert isinstance(outcomes, list)
    return fmean(one.symbols / run_.symbols for one in outcomes)


class TestTheory:
    @pytest.mark.parametrize("receivers", [1, 10])
    @pytest.mark.parametrize("kind", [LossKind.INDEPENDENT, LossKind.MIXED])
    def test_a_carousel_takes_what_the_closed_form_says(
        self, receivers: int, kind: LossKind
    ) -> None:
        mixed = {"bad": 0.2, "bad_share": 0.2} if kind is LossKind.MIXED else {}
        loss = LossPattern(kind, 0.02, **mixed)
        one = one_run(Mode.CAROUSEL, receivers=receivers, loss=loss, copies=100)
        assert mean_lengths(one) == pytest.approx(expected(one)[0], rel=0.05)

    @pytest.mark.parametrize("mode", [Mode.FEC, Mode.SENDERS])
    @pytest.mark.parametrize(("receivers", "loss"), [(3, 0.05), (30, 0.2)])
    def test_so_does_one_with_repair_symbols(self, mode: Mode, receivers: int, loss: float) -> None:
        # Slow enough that whoever loses an SPM or two waits for no other; near, and read at once.
        setting = Setting(symbol_size=512, block_symbols=256, latencies=(1_000,), read_interval=1)
        pattern = LossPattern(mean=loss)
        one = one_run(
            mode, rate=10**6, setting=setting, receivers=receivers, loss=pattern, copies=20
        )
        assert mean_lengths(one) == pytest.approx(expected(one)[0], abs=0.015)

    def test_counts_are_as_theory_has_them(self) -> None:
        plan = replace(parse_plan(SHIPPED["million"]), receivers=(10_000,), repetitions=3)
        for case in Report(plan, perform_all(plan, None, lambda _: None)).cases:
            near = 0.06 if case.mode is Mode.CAROUSEL else 0.005
            assert case.lengths == pytest.approx(case.theory, rel=near)
            assert case.last == pytest.approx(case.lengths * case.theory_time / case.theory)
            assert case.half < case.most < case.last

    @pytest.mark.parametrize(("receivers", "loss"), [(1, 0.01), (10, 0.05), (20, 0.05)])
    def test_naks_take_hardly_more_than_they_must(self, receivers: int, loss: float) -> None:
        one = one_run(Mode.NAK, size=2_000 * 512, receivers=receivers, loss=LossPattern(mean=loss))
        # At the end a single loss takes rounds in which nothing else is asked for.
        end = 10 * 2 * (one.setting.latencies[0] + 16 * one.packet_time) / one.packet_time
        needed = expected(one)[0]
        assert 0.97 * needed <= mean_lengths(one) <= 1.15 * needed + end / one.symbols

    def test_repairs_of_few_slow_blocks_are_not_given_up(self) -> None:
        # Of the plan that runs by default: repairs of three blocks alternate, slowly.
        changes = {"receivers": [10], "loss": {"mean": [0.05]}, "modes": ["nak"]}
        plan = parse_plan("", changes | {"repair_share": 0.9, "repetitions": 1, "shared_losses": 0})
        (case,) = Report(plan, perform_all(plan, None, lambda _: None)).cases
        assert case.lengths == pytest.approx(case.theory, rel=0.1)

    def test_losses_that_all_share_are_like_those_of_one(self) -> None:
        loss = LossPattern(LossKind.SHARED, 0.05)
        for mode in (Mode.CAROUSEL, Mode.NAK):
            one = one_run(mode, receivers=40, loss=loss)
            assert expected(one) == expected(replace(one, receivers=1, loss=LossPattern(mean=0.05)))
        # The NAKs of forty for one loss are few, and its repair serves them all.
        (outcome,) = perform(one)
        assert outcome.symbols / one.symbols <= 1.15 * expected(one)[0]

    @pytest.mark.slow
    @pytest.mark.parametrize("receivers", [1, 30])
    def test_suppression_is_as_theory_has_it(self, receivers: int) -> None:
        results = [
            (one, perform(one))
            for number in range(4)
            for one in [LossShared(receivers, 50, 1, number)]
        ]
        (row,) = Report(Plan(), results).suppression
        assert row.naks == pytest.approx(row.naks_theory, rel=0.15)
        assert row.first == pytest.approx(row.first_theory, rel=0.15)
        assert row.losses == 200

    def test_where_there_is_none_it_says_so(self) -> None:
        assert expected(one_run(Mode.REPAIRER)) == (None, None)
        bursts = LossPattern(LossKind.BURSTS, 0.05, burst=20)
        assert expected(one_run(Mode.CAROUSEL, loss=bursts)) == (None, None)


class TestRuns:
    def test_a_repairer_of_its_own_answers(self) -> None:
        # Blocks in order: in rounds the carousel brings what is lacking before anybody asks.
        setting = Setting(symbol_size=512, block_symbols=64, order=Schedule.BLOCKS)
        (outcome,) = perform(one_run(Mode.REPAIRER, setting=setting))
        (alone,) = perform(one_run(Mode.FEC, setting=setting))
        assert outcome.rdata > 0
        assert outcome.naks > 0
        assert outcome.times[-1] < alone.times[-1]

    def test_two_senders_take_half_the_time(self) -> None:
        once = perform(one_run(Mode.FEC, copies=10))
        twice = perform(one_run(Mode.SENDERS, copies=10))
        ratio = fmean(o.times[-1] for o in twice) / fmean(o.times[-1] for o in once)
        assert ratio == pytest.approx(0.5, abs=0.02)

    def test_time_counts_from_when_each_one_joined(self) -> None:
        setting = Setting(symbol_size=512, join=Join.SPREAD)
        one = one_run(Mode.CAROUSEL, setting=setting, loss=LossPattern(mean=0.0), receivers=50)
        (outcome,) = perform(one)
        cycle = one.symbols * one.packet_time / SECOND
        assert outcome.times[0] >= 0.9 * cycle
        assert outcome.times[-1] <= 1.3 * cycle
        assert outcome.duration > 1.5 * cycle

    def test_those_far_away_are_done_later(self) -> None:
        setting = Setting(symbol_size=512, latencies=(MS, 300 * MS), read_interval=MS)
        (outcome,) = perform(one_run(Mode.CAROUSEL, setting=setting, loss=LossPattern(mean=0.0)))
        assert outcome.times[5] - outcome.times[4] == pytest.approx(0.299, abs=0.002)

    def test_copies_are_different(self) -> None:
        outcomes = perform(one_run(Mode.CAROUSEL, copies=20))
        assert len(outcomes) == 20
        assert len({one.times for one in outcomes}) > 15

    def test_a_run_that_never_ends_is_told(self) -> None:
        with patch.object(TrialNetwork, "limit", lambda _: SECOND // 10):
            plan = replace(parse_plan(SMALL), modes=(Mode.CAROUSEL,), shared_losses=0)
            stopped = Report(plan, perform_all(plan, None, lambda _: None))
        assert all(case.unfinished and not case.repetitions for case in stopped.cases)
        assert json.loads(stopped.json())["cases"][0]["last"] is None
        assert stopped.advice() == ""

    @pytest.mark.slow
    def test_another_seed_gives_other_times(self) -> None:
        one = one_run(Mode.CAROUSEL)
        assert perform(one) == perform(one)
        for changed in (replace(one, seed=4), replace(one, repetition=1)):
            assert perform(changed)[0].times != perform(one)[0].times


class TestReport:
    def test_progress_ends_at_the_end(self) -> None:
        shown: list[float] = []
        plan = replace(parse_plan(SMALL), modes=(Mode.CAROUSEL,))
        with ThreadPoolExecutor(2) as executor:
            perform_all(plan, executor, shown.append)
        assert shown == sorted(shown)
        assert shown[-1] == pytest.approx(1)

    def test_csv_has_a_row_for_each_case(self) -> None:
        rows = list(csv.DictReader(io.StringIO(report().csv())))
        assert [(row["receivers"], row["mode"]) for row in rows] == [
            (number, mode) for number in ("1", "12") for mode in Mode
        ]
        assert all(float(row["half"]) <= float(row["last"]) for row in rows)

    def test_the_curve_rises_to_the_last_completion(self) -> None:
        for case in report().cases:
            assert list(case.curve) == sorted(case.curve)
            assert case.curve[-1] == case.last

    def test_advice_names_what_is_faster(self) -> None:
        assert report().advice().startswith("Use repair symbols")
        assert report(SMALL, (Mode.NAK,)).advice() == ""

    @pytest.mark.slow
    @pytest.mark.parametrize("suffix", ["png", "svg"])
    def test_plots_have_labels_units_and_a_legend(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"plot.{suffix}"
        from matplotlib.figure import Figure

        figures: list[Figure] = []
        real = Figure.savefig
        with patch.object(
            Figure, "savefig", lambda self, *a, **k: (figures.append(self), real(self, *a, **k))[1]
        ):
            save(report(), path)
        (figure,) = figures
        assert path.stat().st_size > 10_000
        for axes in figure.axes:
            assert axes.get_xlabel()
            assert any(unit in axes.get_ylabel() for unit in ("(s)", "(MB)", "(%)"))
        (legend,) = figure.legends
        labels = [text.get_text() for text in legend.get_texts()]
        assert len(labels) == len(set(labels))
        assert sum("closed form" in label for label in labels) == len(Mode) - 1
        assert sum("measured" in label for label in labels) == len(Mode)
        # Nothing lies outside the picture, the legend lies on no axes.
        renderer = figure.canvas.get_renderer()
        box = legend.get_window_extent(renderer)
        assert all(not box.overlaps(axes.get_tightbbox(renderer)) for axes in figure.axes)


# The command.


def command(tmp_path: Path, *arguments: str) -> bytes:
    plan = tmp_path / "small.toml"
    plan.write_text(SMALL)
    done = subprocess.run(
        [sys.executable, "-m", "pgmlite", "compare", str(plan), "--json", *arguments],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return done.stdout


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A Dask scheduler with two worker processes, on the loopback interface."""
    file = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    modules = [("dask_scheduler", ["--host", "127.0.0.1", "--port", "0"])]
    modules += [("dask_worker", ["--nthreads", "1", "--no-nanny"])] * 2
    started = []
    try:
        for module, options in modules:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"distributed.cli.{module}", *options, *common],
                    cwd=tmp_path,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            for _ in range(300):
                if file.exists() and file.read_text().strip():
                    break
                time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(started):
            process.kill()
        for process in started:
            process.wait()


@pytest.mark.slow
def test_the_same_bytes_from_one_process_two_and_a_cluster(tmp_path: Path, scheduler: str) -> None:
    alone = command(tmp_path, "-j", "1")
    assert json.loads(alone)["cases"]
    assert command(tmp_path, "-j", "2") == alone
    assert command(tmp_path, "--dask", scheduler) == alone


@pytest.mark.slow
def test_the_table_shows_all_modes_and_theory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "small.toml"
    plan.write_text(SMALL)
    arguments = ["-j", "1", "--csv", str(tmp_path / "a.csv"), "--plot", str(tmp_path / "a.png")]
    assert run(["compare", str(plan), *arguments]) == 0
    shown = capsys.readouterr().out
    for word in (
        "carousel",
        "fec+nak",
        "theory",
        "NAKs for a loss that all receivers share",
        "Use ",
    ):
        assert word in shown
    assert (tmp_path / "a.csv").read_text().count("\n") == 9
    assert (tmp_path / "a.png").exists()


def test_plans_that_come_with_pgmlite_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "kinds",
        "lab",
        "large",
        "million",
        "rates",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--loss=-5%"],
        ["--loss", "nothing"],
        ["--receivers", "0"],
        ["--receivers", "many"],
        ["--modes", "pigeon"],
        ["--size", "0"],
        ["--rate", "fast"],
        ["--latency", "soon"],
        ["--burst", "20"],
        ["--join", "never"],
        ["--repetitions", "0"],
        ["--repair-share", "99%"],
        ["--fec", "off"],
        ["--fec", "0%"],
        ["--order", "random"],
        ["--plot", "picture.gif"],
        ["--loss", "1%,2%,3%,4%,5%", "--plot", "a.png"],
        ["--dask", "nonsense://x"],
    ],
)
def test_impossible_plans_are_refused_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert not captured.out


def test_a_plan_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "nowhere.toml"]) == 7
    assert capsys.readouterr().err == "pgmlite: plan nowhere.toml: No such file or directory\n"


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("matplotlib", ["--plot", "a.png"], "pgmlite[plots]"),
        ("distributed", ["--dask", "tcp://127.0.0.1:1"], "pgmlite[cluster]"),
    ],
)
def test_a_missing_extra_is_named(
    module: str, arguments: list[str], extra: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch.dict(sys.modules, {module: None}):
        assert run(["compare", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert extra in line
