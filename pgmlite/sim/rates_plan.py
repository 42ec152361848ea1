"""What is compared of receivers that choose a rate: a plan, and what its runs add up to."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise, product
from statistics import fmean, median
from typing import Any

from pgmlite.core.config import MAX_RATE, MIN_RATE
from pgmlite.core.machine import SECOND
from pgmlite.errors import UsageError
from pgmlite.sim.planfile import parse_number
from pgmlite.sim.rates import RatesOutcome, RatesTrial
from pgmlite.wire.layout import MOST_CHANNELS

MOST_RECEIVERS = 8
MOST_SECONDS = 3_600
MOST_REPETITIONS = 1_000


@dataclass(frozen=True, slots=True)
class RatesPlan:
    """All combinations of ladders, leave latencies, losses and receivers; times in s.

    Raises:
        UsageError: A value is out of its limits.
    """

    ladders: tuple[tuple[int, ...], ...]
    """bit/s of the channels, rising."""

    capacity: int
    """bit/s of the link that all receivers share."""

    leave_latencies: tuple[float, ...] = (11.0, 2.0)
    random_losses: tuple[float, ...] = (0.0,)
    """Share of packets that each receiver loses besides."""

    starts: tuple[tuple[float, ...], ...] = ((0.0,),)
    """When the receivers of a run begin."""

    duration: float = 80.0
    repetitions: int = 20
    seed: int = 1
    title: str = "Rates"

    def __post_init__(self) -> None:
        _check_ladders(self.ladders)
        if not MIN_RATE <= self.capacity <= MAX_RATE:
            raise UsageError(f"capacity {self.capacity}: must be {MIN_RATE} to {MAX_RATE} bit/s")
        if not 1 <= self.duration <= MOST_SECONDS:
            raise UsageError(f"duration_s {self.duration:g}: must be 1 to {MOST_SECONDS}")
        _check_starts(self.starts, self.duration)
        if not all(0 <= one <= MOST_SECONDS for one in self.leave_latencies):
            raise UsageError(f"leave_latency_s: must be 0 to {MOST_SECONDS}")
        if not all(0 <= one <= 0.9 for one in self.random_losses):
            raise UsageError("random_loss: must be 0 to 0.9")
        if not 1 <= self.repetitions <= MOST_REPETITIONS:
            raise UsageError(f"repetitions {self.repetitions}: must be 1 to {MOST_REPETITIONS}")

    def trials(self) -> list[RatesTrial]:
        """Return all runs, those of one combination together."""
        return [
            RatesTrial(
                ladder,
                self.capacity,
                round(latency * SECOND),
                loss,
                tuple(round(one * SECOND) for one in starts),
                round(self.duration * SECOND),
                self.seed,
                repetition,
            )
            for ladder, latency, loss, starts, repetition in product(
                self.ladders,
                self.leave_latencies,
                self.random_losses,
                self.starts,
                range(self.repetitions),
            )
        ]


def _check_ladders(ladders: Sequence[Sequence[int]]) -> None:
    for ladder in ladders:
        rises = all(low < high for low, high in pairwise(ladder))
        if not 2 <= len(ladder) <= MOST_CHANNELS or not rises:
            raise UsageError(f"ladders: each has 2 to {MOST_CHANNELS} rates, which rise")
        if ladder[0] < MIN_RATE or ladder[-1] > MAX_RATE:
            raise UsageError(f"ladders: rates are {MIN_RATE} to {MAX_RATE} bit/s")


def _check_starts(starts: Sequence[Sequence[float]], duration: float) -> None:
    for some in starts:
        fit = all(0 <= one < duration for one in some)
        if not 1 <= len(some) <= MOST_RECEIVERS or not fit:
            raise UsageError(
                f"starts_s: each has 1 to {MOST_RECEIVERS} times before the end of the run"
            )


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    found = value if isinstance(value, list) else [value]
    if not found or any(isinstance(one, bool) or not isinstance(one, int | float) for one in found):
        raise UsageError(f"{name}: must be a number or a list of numbers")
    return tuple(map(float, found))


def _lists(name: str, value: Any) -> list[list[Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(one, list) for one in value):
        raise UsageError(f"{name}: must be a list of lists")
    return value


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} {value!r}: must be a whole number")
    return value


KEYS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "title": ("title", lambda _, value: str(value)),
    "ladders": (
        "ladders",
        lambda name, value: tuple(
            tuple(parse_number(name, one) for one in ladder) for ladder in _lists(name, value)
        ),
    ),
    "capacity": ("capacity", parse_number),
    "leave_latency_s": ("leave_latencies", _numbers),
    "random_loss": ("random_losses", _numbers),
    "starts_s": (
        "starts",
        lambda name, value: tuple(_numbers(name, one) for one in _lists(name, value)),
    ),
    "duration_s": ("duration", lambda name, value: _numbers(name, value)[0]),
    "repetitions": ("repetitions", _whole),
    "seed": ("seed", _whole),
}
"""Keys of a file: the field of the plan, and what reads the value."""


def is_rates_plan(text: str) -> bool:
    """Whether the text of a plan's file is one of rates: it has ladders."""
    try:
        return "ladders" in tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False


def parse_rates_plan(text: str, changes: Mapping[str, Any]) -> RatesPlan:
    """Return the plan of a TOML file's text; `changes` are keys that outrank those in it.

    Raises:
        UsageError: A key is unknown, or a value makes no sense.
    """
    table = {**tomllib.loads(text), **changes}
    if unknown := set(table) - set(KEYS):
        raise UsageError(
            f"{min(unknown)!r}: there is no such setting in a plan of rates; it has "
            f"{', '.join(KEYS)}"
        )
    if missing := {"ladders", "capacity"} - set(table):
        raise UsageError(f"a plan of rates needs {min(missing)!r}")
    return RatesPlan(**{KEYS[key][0]: KEYS[key][1](key, value) for key, value in table.items()})


@dataclass(frozen=True, slots=True)
class RatesCase:
    """What became of the n-th receiver in all runs of one combination; times in s from its start.

    Attributes:
        receiver: Its number, from 1, of how many.
        right: The channel that it should be on.
        early: When a tenth of the runs were on it to stay; None: fewer ever were. Alike `half`, and
            `late` for nine tenths.
        failed: Tries that failed, on average.
        most_failed: The most in one run.
        disturbed: Tries that said nothing, on average.
        left: Times that it went down, on average.
        goodput: Median of the bit/s that came, IP headers included; `least_goodput` a tenth had
            less.
    """

    ladder: tuple[int, ...]
    leave_latency: float
    random_loss: float
    receiver: int
    receivers: int
    repetitions: int
    right: int
    early: float | None
    half: float | None
    late: float | None
    failed: float
    most_failed: int
    disturbed: float
    left: float
    goodput: float
    least_goodput: float


def _at(times: Sequence[float | None], share: float) -> float | None:
    """Return when a share of the runs had got there; None: fewer ever did."""
    there = sorted(one for one in times if one is not None)
    place = max(1, round(len(times) * share)) - 1
    return there[place] if place < len(there) else None


def _case(trial: RatesTrial, number: int, outcomes: Sequence[RatesOutcome]) -> RatesCase:
    times = [one.climbed for one in outcomes]
    goodputs = sorted(one.goodput for one in outcomes)
    return RatesCase(
        ladder=trial.ladder,
        leave_latency=trial.leave_latency / SECOND,
        random_loss=trial.loss,
        receiver=number + 1,
        receivers=len(trial.starts),
        repetitions=len(outcomes),
        right=trial.right,
        early=_at(times, 0.1),
        half=_at(times, 0.5),
        late=_at(times, 0.9),
        failed=fmean(one.failed for one in outcomes),
        most_failed=max(one.failed for one in outcomes),
        disturbed=fmean(one.disturbed for one in outcomes),
        left=fmean(one.left for one in outcomes),
        goodput=median(goodputs),
        least_goodput=goodputs[len(goodputs) // 10],
    )


class RatesReport:
    """All results of a plan."""

    def __init__(
        self, plan: RatesPlan, results: Sequence[tuple[RatesTrial, list[RatesOutcome]]]
    ) -> None:
        self.plan = plan
        self.cases: list[RatesCase] = []
        for _, pairs in groupby(
            results,
            lambda pair: (pair[0].ladder, pair[0].leave_latency, pair[0].loss, pair[0].starts),
        ):
            group = list(pairs)
            trial = group[0][0]
            for number in range(len(trial.starts)):
                self.cases.append(_case(trial, number, [outcomes[number] for _, outcomes in group]))

    def json(self) -> str:
        """Return everything as JSON: the same plan gives the same bytes."""
        return json.dumps(
            {"plan": asdict(self.plan), "cases": [asdict(one) for one in self.cases]}, indent=1
        )

    def csv(self) -> str:
        """Return the cases as a table with commas."""
        rows = [asdict(one) | {"ladder": "/".join(map(str, one.ladder))} for one in self.cases]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
