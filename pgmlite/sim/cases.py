"""What the repetitions of one combination of a plan add up to."""

from __future__ import annotations

from dataclasses import dataclass

from pgmlite.sim.plan import LossPattern, Mode

CURVE = tuple(range(1, 101))
"""Percent of the receivers that a completion curve has a point for."""


@dataclass(frozen=True, slots=True)
class Case:
    """Means over all repetitions of one combination; `error` is the standard error of the mean.

    Attributes:
        unfinished: Repetitions that would have taken unreasonably long; not in the means.
        half, most: When half and 95% of the receivers were complete, s.
        last: When all were, s.
        lengths: Packets with symbols, repairs included, over the symbols of the object.
        theory: The same by the closed form; None where there is none.
        theory_time: When all would be complete if there were nothing but these packets, s.
        wire_bytes: All packets of all senders and the NAKs, with IP headers.
        curve: (100,), when 1%, 2% ... of the receivers were complete, s.
    """

    size: int
    rate: int
    loss: LossPattern
    receivers: int
    mode: Mode
    repetitions: int
    unfinished: int
    half: float
    most: float
    last: float
    last_error: float
    lengths: float
    lengths_error: float
    theory: float | None
    theory_time: float | None
    wire_bytes: float
    rdata: float
    naks: float
    naks_suppressed: float
    ncfs: float
    curve: tuple[float, ...]
