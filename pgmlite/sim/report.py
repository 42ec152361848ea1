"""What the trials of a plan add up to: numbers beside their closed forms, and what they advise."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from pgmlite.core.machine import SECOND
from pgmlite.sim import theory
from pgmlite.sim.advice import advise
from pgmlite.sim.cases import CURVE, Case
from pgmlite.sim.experiment import BACKOFF_FACTOR, Outcome, Result, SharedOutcome, announced_gsize
from pgmlite.sim.fec_theory import fec_completion, nak_count_sent
from pgmlite.sim.plan import Join, LossKind, LossShared, Mode, Plan, Trial
from pgmlite.sim.planfile import as_json
from pgmlite.wire.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Suppression:
    """NAKs for each loss that all receivers share, and GRTT from the loss to the first of them."""

    receivers: int
    gsize: int
    losses: int
    naks: float
    naks_error: float
    naks_theory: float
    first: float
    first_theory: float


def _error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _at(times: Sequence[float], percent: int) -> float:
    """Return when `percent` of the receivers were complete."""
    return times[-(-len(times) * percent // 100) - 1]


def expected(trial: Trial, receivers: int | None = None) -> tuple[float | None, float | None]:
    """Return the object lengths and the time in s that the closed form has for a trial.

    Args:
        receivers: Of as many instead.
    """
    setting, loss = trial.setting, trial.loss
    if loss.kind in {LossKind.TREE, LossKind.BURSTS} or trial.mode is Mode.REPAIRER:
        return None, None
    if setting.join is not Join.TOGETHER:
        return None, None
    # What the first link loses is lost by all: they are like one.
    number = 1 if loss.kind is LossKind.SHARED else receivers or trial.receivers
    losses = sorted(Counter(loss.shares(number)).items())
    cycle = trial.symbols * trial.packet_time / SECOND
    match trial.mode:
        case Mode.CAROUSEL:
            lengths = theory.carousel_time(trial.symbols, losses)
        case Mode.NAK:
            lengths = theory.EM_nofec(losses)
        case Mode.FEC_NAK:
            lengths = _least_sent(trial.geometry, losses)
        case _:
            senders = setting.senders if trial.mode is Mode.SENDERS else 1
            alone = fec_completion(trial.geometry, losses, senders=senders).mean
            return alone * senders, alone * cycle
    return lengths, lengths * cycle


def _least_sent(geometry: Geometry, losses: theory.Losses) -> float:
    """Return the object lengths with which counts repair everything, if nothing else is sent."""
    sources = [geometry.source(block) for block in (0, geometry.blocks - 1)]
    full, last = (nak_count_sent(source, losses) * source for source in sources)
    return ((geometry.blocks - 1) * full + last) / geometry.symbols


def _case(trial: Trial, results: Sequence[Result]) -> Case:
    done: list[Outcome] = []
    unfinished = 0
    for result in results:
        if isinstance(result, list):
            done += result
        else:
            unfinished += 1
    lengths, time = expected(trial)
    lasts = [one.times[-1] for one in done]
    sent = [one.symbols / trial.symbols for one in done]

    def mean(values: Sequence[float]) -> float:
        return fmean(values) if values else math.nan

    return Case(
        size=trial.size,
        rate=trial.rate,
        loss=trial.loss,
        receivers=trial.receivers,
        mode=trial.mode,
        repetitions=len(done),
        unfinished=unfinished,
        half=mean([_at(one.times, 50) for one in done]),
        most=mean([_at(one.times, 95) for one in done]),
        last=mean(lasts),
        last_error=_error(lasts),
        lengths=mean(sent),
        lengths_error=_error(sent),
        theory=lengths,
        theory_time=time,
        wire_bytes=mean([one.wire_bytes for one in done]),
        rdata=mean([one.rdata for one in done]),
        naks=mean([one.naks for one in done]),
        naks_suppressed=mean([one.naks_suppressed for one in done]),
        ncfs=mean([one.ncfs for one in done]),
        curve=tuple(mean([_at(one.times, percent) for one in done]) for percent in CURVE),
    )


def _suppression(receivers: int, outcomes: Sequence[SharedOutcome]) -> Suppression:
    naks = [count for one in outcomes for count in one.naks]
    first = [time for one in outcomes for time in one.first]
    gsize = announced_gsize(receivers)
    shape = theory.backoff_shape(gsize)
    return Suppression(
        receivers=receivers,
        gsize=gsize,
        losses=len(naks),
        naks=fmean(naks),
        naks_error=_error(naks),
        naks_theory=theory.nb_expected(receivers, shape, BACKOFF_FACTOR, 1),
        first=fmean(first),
        first_theory=theory.nb_first(receivers, shape, BACKOFF_FACTOR),
    )


class Report:
    """All results of a plan."""

    def __init__(self, plan: Plan, results: Sequence[tuple[Trial | LossShared, Result]]) -> None:
        self.plan = plan
        self.cases: list[Case] = []
        self.suppression: list[Suppression] = []
        transfers = [(trial, result) for trial, result in results if isinstance(trial, Trial)]
        for _, pairs in groupby(
            transfers,
            lambda pair: (
                pair[0].size,
                pair[0].rate,
                pair[0].loss,
                pair[0].receivers,
                pair[0].mode,
            ),
        ):
            group = list(pairs)
            self.cases.append(_case(group[0][0], [result for _, result in group]))
        shared = [
            (trial.receivers, result)
            for trial, result in results
            if isinstance(trial, LossShared) and isinstance(result, SharedOutcome)
        ]
        for receivers, ones in groupby(shared, lambda pair: pair[0]):
            self.suppression.append(_suppression(receivers, [one for _, one in ones]))

    # For programs.

    def json(self) -> str:
        """Return everything as JSON: the same plan gives the same bytes."""
        values = {
            "plan": as_json(self.plan),
            "cases": [asdict(case) for case in self.cases],
            "suppression": [asdict(one) for one in self.suppression],
            "advice": self.advice(),
        }
        return json.dumps(_rounded(values), indent=1, allow_nan=False)

    def csv(self) -> str:
        """Return the cases as a table with commas, without their curves."""
        rows = []
        for case in self.cases:
            values = asdict(case) | {"loss": str(case.loss)}
            del values["curve"]
            rows.append(_rounded(values))
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def advice(self) -> str:
        """Return which mode to use for these parameters, and why."""
        return advise(self.plan, self.cases)


def _rounded(value: Any) -> Any:
    """Return `value` with its floats to nine digits, and none that JSON can't have."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value


def off(measured: float, expected_value: float | None) -> str:
    """Return by how much a measurement differs from theory, for a table."""
    if expected_value is None or not math.isfinite(measured):
        return ""
    return f"{measured / expected_value - 1:+.1%}"
