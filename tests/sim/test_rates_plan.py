"""``compare rates``: receivers that choose a rate behind one link."""

from __future__ import annotations

import csv
import io
import json
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from pgmlite.cli import run
from pgmlite.core.machine import SECOND
from pgmlite.errors import UsageError
from pgmlite.sim.rates import RatesTrial, climb
from pgmlite.sim.rates_plan import RatesPlan, RatesReport, is_rates_plan, parse_rates_plan
from pgmlite.sim.work import do_all

M = 1_000_000
SHIPPED = (files("pgmlite.sim.plans") / "rates.toml").read_text()
SMALL = """
ladders = [["2M", "6M", "14M"]]
capacity = "10M"
duration_s = 20
leave_latency_s = 2
starts_s = [[0, 3]]
repetitions = 2
"""


def trial(
    *, ladder: tuple[int, ...] = (2, 6, 14, 40), starts: tuple[int, ...] = (0,), seed: int = 1
) -> RatesTrial:
    return RatesTrial(
        tuple(rate * M for rate in ladder),
        20 * M,
        11 * SECOND,
        0.0,
        tuple(start * SECOND for start in starts),
        80 * SECOND,
        seed,
        0,
    )


@cache
def report(text: str = SMALL) -> RatesReport:
    plan = parse_rates_plan(text, {})
    return RatesReport(plan, do_all(plan.trials(), climb, None, lambda _: None))


class TestClimbing:
    """What is promised of the default leave latency of routers, for a few seeds of many."""

    def test_one_is_soon_on_the_channel_that_fits_and_tries_in_vain_once_at_most(self) -> None:
        # spec: RTE-4, RTE-5, RTE-6
        for seed in range(4):
            (one,) = climb(trial(seed=seed))
            assert one.climbed is not None
            assert one.climbed <= 20
            assert one.failed <= 1
            assert one.left == 0
            assert one.goodput >= 11 * M

    def test_so_is_a_second_one_and_the_first_stays(self) -> None:
        # spec: RTE-8, RTE-10
        for seed in range(3):
            first, second = climb(trial(starts=(0, 9), seed=seed))
            assert first.climbed is not None
            assert first.climbed <= 20
            assert second.climbed is not None
            assert second.climbed <= 60
            assert (first.left, second.left) == (0, 0)
            assert max(first.failed, second.failed) <= 1

    @pytest.mark.parametrize(
        ("ladder", "right"), [((2, 6, 14, 40), 2), ((5, 20, 80), 0), ((1, 3, 10, 30), 2)]
    )
    def test_headers_of_the_link_count(self, ladder: tuple[int, ...], right: int) -> None:
        assert trial(ladder=ladder).right == right

    def test_the_same_seed_gives_the_same(self) -> None:
        plan = parse_rates_plan(SMALL, {})
        again = RatesReport(plan, do_all(plan.trials(), climb, None, lambda _: None))
        assert again.json() == report().json()


class TestReport:
    def test_each_receiver_has_a_case(self) -> None:
        cases = report().cases
        assert [(one.receiver, one.receivers, one.repetitions) for one in cases] == [
            (1, 2, 2),
            (2, 2, 2),
        ]
        first = cases[0]
        assert (first.right, first.leave_latency, first.random_loss) == (1, 2, 0)
        assert first.early is not None
        assert first.half is not None
        assert 2 <= first.early <= first.half <= 12
        assert 3 * M <= first.least_goodput <= first.goodput <= 8 * M

    def test_nobody_got_there_in_no_time(self) -> None:
        cases = report(SMALL.replace("= 20", "= 4")).cases
        assert (cases[1].early, cases[1].late) == (None, None)

    def test_programs_can_read_it(self) -> None:
        values = json.loads(report().json())
        assert values["plan"]["ladders"] == [[2 * M, 6 * M, 14 * M]]
        assert len(values["cases"]) == 2
        rows = list(csv.DictReader(io.StringIO(report().csv())))
        assert [one["ladder"] for one in rows] == ["2000000/6000000/14000000"] * 2

    def test_progress_is_told(self) -> None:
        told: list[float] = []
        plan = parse_rates_plan(SMALL, {"duration_s": 5})
        do_all(plan.trials(), climb, None, told.append)
        assert told == [0.5, 1.0]


class TestPlan:
    def test_what_is_shipped_is_what_is_promised(self) -> None:
        assert is_rates_plan(SHIPPED)
        plan = parse_rates_plan(SHIPPED, {})
        assert plan.ladders[0] == (2 * M, 6 * M, 14 * M, 40 * M)
        assert (plan.capacity, plan.repetitions, plan.duration) == (20 * M, 20, 80)
        assert len(plan.trials()) == 3 * 2 * 2 * 2 * 20
        assert len({one.repetition for one in plan.trials()}) == 20

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"ladders": [["2M"]]}, "each has 2 to 6 rates"),
            ({"ladders": [["2M", "2M"]]}, "which rise"),
            ({"ladders": ["2M", "6M"]}, "list of lists"),
            ({"ladders": [["1", "2M"]]}, "rates are 10000 to"),
            ({"capacity": "1"}, "capacity 1"),
            ({"duration_s": 0}, "duration_s 0"),
            ({"duration_s": "long"}, "duration_s: must be a number"),
            ({"leave_latency_s": -1}, "leave_latency_s: must be 0"),
            ({"random_loss": [1]}, "random_loss: must be 0 to 0.9"),
            ({"starts_s": [[20]]}, "before the end of the run"),
            ({"starts_s": [[]]}, "a number or a list"),
            ({"repetitions": 0}, "repetitions 0"),
            ({"repetitions": 1.5}, "must be a whole number"),
            ({"sizes": 5}, "'sizes': there is no such setting"),
        ],
    )
    def test_what_makes_no_sense(self, change: dict, reason: str) -> None:
        with pytest.raises(UsageError, match=reason):
            parse_rates_plan(SMALL, change)

    def test_what_it_needs(self) -> None:
        with pytest.raises(UsageError, match="needs 'capacity'"):
            parse_rates_plan('ladders = [["2M", "6M"]]', {})

    def test_junk_is_none(self) -> None:
        assert not is_rates_plan("= 5")
        assert not is_rates_plan('sizes = ["1M"]')

    def test_its_limits_hold_however_it_is_made(self) -> None:
        with pytest.raises(UsageError, match="ladders"):
            RatesPlan(((1,),), 20 * M)


class TestCommand:
    def test_it_prints_a_table(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        plan = tmp_path / "plan.toml"
        plan.write_text(SMALL)
        assert run(["compare", str(plan), "-j", "1", "--csv", str(tmp_path / "out.csv")]) == 0
        shown = capsys.readouterr().out
        assert "A link of 10 Mbit/s with a queue of 50 ms" in shown
        assert "2/6/14" in shown
        assert "2 of 2" in shown
        assert (tmp_path / "out.csv").read_text() == report().csv()

    def test_as_json(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        plan = tmp_path / "plan.toml"
        plan.write_text(SMALL)
        assert run(["compare", str(plan), "-j", "1", "--json", "--repetitions", "1"]) == 0
        assert json.loads(capsys.readouterr().out)["plan"]["repetitions"] == 1

    def test_there_is_no_plot(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["compare", "rates", "--plot", "x.png"]) == 2
        assert "there is no plot of rates" in capsys.readouterr().err

    def test_options_of_other_plans_are_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["compare", "rates", "--size", "1M"]) == 2
        assert "'sizes': there is no such setting in a plan of rates" in capsys.readouterr().err

    def test_it_is_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["compare", "--list"]) == 0
        assert "rates" in capsys.readouterr().out
