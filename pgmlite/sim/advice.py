"""What a comparison advises: which way to send, and whether a way back is worth it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pgmlite.core.config import RepairConfig
from pgmlite.sim.cases import Case
from pgmlite.sim.plan import LossPattern, Mode, Plan

HARDLY = 1.1
"""Who is not faster by this factor does not count as faster."""

Pairs = list[tuple[Case, Case]]


def advise(plan: Plan, cases: Sequence[Case]) -> str:
    """Return what to use under the conditions of a plan, and why, as far as it compares that."""
    said = []
    if fec := _pairs(cases, Mode.CAROUSEL, Mode.FEC):
        said.append(_of_fec(fec))
        if naks := _pairs(cases, Mode.FEC, Mode.NAK):
            said.append(_of_naks_alone(naks))
    elif naks := _pairs(cases, Mode.CAROUSEL, Mode.NAK):
        said.append(_of_naks(naks, plan))
    for mode, ways in ((Mode.FEC_NAK, "send --repair"), (Mode.REPAIRER, "repair")):
        if beside := _pairs(cases, Mode.FEC, mode):
            said.append(_of_naks_beside(beside, ways))
    if several := _pairs(cases, Mode.FEC, Mode.SENDERS):
        times = [one.last / alone.last for alone, one in several]
        said.append(
            f"{plan.setting.senders} senders with a share of the ring each take "
            f"{_range(times, '.2f')} of the time of one."
        )
    return " ".join(said)


def _pairs(cases: Sequence[Case], first: Mode, second: Mode) -> Pairs:
    """Return the cases of two modes under the same conditions."""
    firsts = {_conditions(case): case for case in cases if case.mode is first and case.repetitions}
    return [
        (firsts[_conditions(case)], case)
        for case in cases
        if case.mode is second and case.repetitions and _conditions(case) in firsts
    ]


def _conditions(case: Case) -> tuple[int, int, LossPattern, int]:
    return case.size, case.rate, case.loss, case.receivers


def _of_fec(pairs: Pairs) -> str:
    gains = _gains(pairs)
    if max(gains) < HARDLY:
        return "Repair symbols gain nothing here, and cost nothing: a carousel is done as soon."
    if min(gains) < HARDLY:
        return (
            f"Use repair symbols for {_those(pairs, _gains_much)}: up to {max(gains):.1f} times "
            f"sooner than from the plain carousel. For {_those(pairs, _gains_little)} they make no "
            "difference."
        )
    saved = [1 - fec.wire_bytes / plain.wire_bytes for plain, fec in pairs]
    return (
        "Use repair symbols, as `send` does unless told otherwise: all are done "
        f"{_range(gains, '.1f')} times sooner than from the plain carousel, with "
        f"{_range(saved, '.0%')} fewer bytes, and nothing has to travel back."
    )


def _of_naks_alone(pairs: Pairs) -> str:
    """Say what NAKs are without repair symbols, beside repair symbols without NAKs."""
    ratios = [1 / gain for gain in _gains(pairs)]
    if max(ratios) < HARDLY:
        return ""
    return f"NAKs without repair symbols take {_range(ratios, '.1f')} times as long as these."


def _of_naks_beside(pairs: Pairs, ways: str) -> str:
    gains = _gains(pairs)
    if max(gains) < HARDLY:
        return (
            f"`{ways}` hardly matters beside them: all are done {_range(gains, '.2f')} times as "
            "soon. NAKs gain where sends are finite (`--cycles`), with `--order blocks`, and where "
            "a sender should fall silent once nobody lacks anything."
        )
    return (
        f"`{ways}` gains beside them for {_those(pairs, _gains_much)}: all are done up to "
        f"{max(gains):.1f} times sooner, if packets can travel back."
    )


def _of_naks(pairs: Pairs, plan: Plan) -> str:
    """Say what NAKs are worth where there are no repair symbols."""
    gains = _gains(pairs)
    saved = [1 - naks.wire_bytes / plain.wire_bytes for plain, naks in pairs]
    ways = "send --repair"
    if plan.setting.repair_share != RepairConfig().share:
        ways += f" --repair-share {plan.setting.repair_share * 100:g}%"
    if min(gains) >= HARDLY:
        return (
            f"Use `{ways}` if packets can travel back: all are done {_range(gains, '.1f')} times "
            f"sooner than from the carousel alone, with {_range(saved, '.0%')} fewer bytes."
            + _no_sooner(pairs)
        )
    if max(gains) < HARDLY:
        return (
            f"Use the carousel alone: with NAKs all are done {_range(gains, '.2f')} times as "
            "soon, which is not worth a way back."
        )
    return (
        f"It depends. Use `{ways}` for {_those(pairs, _gains_much)}: up to {max(gains):.1f} times "
        f"sooner. Use the carousel alone for {_those(pairs, _gains_little)}: NAKs gain less than "
        "10% there."
    )


def _no_sooner(pairs: Pairs) -> str:
    """Return where half of the receivers gain nothing: repairs for the others delay them."""
    same = _those(pairs, lambda plain, naks: naks.half * HARDLY > plain.half)
    return f" Half of the receivers are done no sooner, or later, for {same}." if same else ""


def _gains(pairs: Pairs) -> list[float]:
    return [before.last / after.last for before, after in pairs]


def _gains_much(before: Case, after: Case) -> bool:
    return before.last / after.last >= HARDLY


def _gains_little(before: Case, after: Case) -> bool:
    return not _gains_much(before, after)


def _those(pairs: Pairs, chosen: Callable[[Case, Case], bool]) -> str:
    return "; ".join(_where(after) for before, after in pairs if chosen(before, after))


def _where(case: Case) -> str:
    return f"{case.receivers} receiver{'s' * (case.receivers > 1)} at loss {case.loss}"


def _range(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
