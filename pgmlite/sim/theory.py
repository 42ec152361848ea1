"""Closed forms that stand beside what is measured, of carousels, repairs and suppression.

The models behind them are simpler than a network: losses that do not depend on one another, and no
delays. Lengths are in object lengths: packets that carry symbols, over the symbols of the object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Losses = Sequence[tuple[float, int]]
"""(loss, receivers): how many receivers lose packets with which probability, 0 to less than 1."""

NEGLIGIBLE = 1e-12
"""What is left out of an infinite sum."""


def _log_all(share_lost: float, count: int) -> float:
    """Return ln((1 - share_lost)**count); -inf where that is 0 for certain."""
    return count * math.log1p(-share_lost) if share_lost < 1 else -math.inf


def carousel_time(symbols: int, losses: Losses) -> float:
    """Return the mean object lengths until all receivers have all symbols from a pure carousel.

    After c whole cycles and j symbols more, j symbols were sent c + 1 times and the others c times:
    P(T <= c N + j) = product over receivers of (1 - p**(c + 1))**j (1 - p**c)**(N - j). The mean
    is the sum of P(T > t) over all t. Where each receiver joins changes nothing: the time counts
    from there.
    """
    places = np.arange(symbols)
    total, cycle = 0.0, 0
    while True:
        more = sum(_log_all(loss ** (cycle + 1), count) for loss, count in losses)
        before = sum(_log_all(loss**cycle, count) for loss, count in losses)
        if math.isinf(before):  # nothing was sent before the first cycle
            unfinished = float(symbols)
        else:
            unfinished = float(-np.expm1(places * more + (symbols - places) * before).sum())
        total += unfinished
        if unfinished < NEGLIGIBLE * symbols:
            return total / symbols
        cycle += 1


def EM_nofec(losses: Losses) -> float:  # noqa: N802 - the name in the literature
    """Return the mean number of times that a symbol must be sent until all receivers have it.

    E[M] = sum over m >= 0 of 1 - product over receivers of (1 - p**m): Nonnenmacher, Biersack,
    Towsley, Parity-based loss recovery for reliable multicast transmission (1998). No repair
    without FEC can do with less, so it is also the least length of a transfer with NAKs.
    """
    total, times = 0.0, 0
    while True:
        missing = -math.expm1(sum(_log_all(loss**times, count) for loss, count in losses))
        total += missing
        if missing < NEGLIGIBLE:
            return total
        times += 1


def backoff_shape(gsize: int) -> float:
    """Return the L of RFC 5401 section 3.2.2 for a group that is announced as `gsize`."""
    return math.log(gsize) + 1


def nb_expected(receivers: int, shape: float, longest: float, delay: float) -> float:
    """Return the mean number of NAKs for one loss of all `receivers`.

    Each draws a truncated exponential back-off of up to `longest`, as of RFC 5401 section 3.2.2,
    and keeps quiet once it has heard the first NAK's confirmation, `delay` after it was sent. The
    model is that of Nonnenmacher and Biersack, Scalable feedback for large groups (1999).

    Args:
        shape: `backoff_shape` of the announced group size.
        longest: T, in any unit.
        delay: In the same unit, at most `longest`.
    """
    early = math.exp(shape * delay / longest)
    alone = receivers * (early - 1) / math.expm1(shape)
    return alone + early * (1 - ((1 - 1 / early) / -math.expm1(-shape)) ** receivers)


def nb_first(receivers: int, shape: float, longest: float) -> float:
    """Return the mean time to the first NAK for one loss of all `receivers`, as `nb_expected`.

    The integral of (1 - F(t))**receivers from 0 to `longest`, with F(t) =
    (exp(shape t / longest) - 1) / (exp(shape) - 1), in 20 000 steps: to four digits.
    """
    steps = 20_000
    times = (np.arange(steps) + 0.5) / steps
    silent = (1 - np.expm1(shape * times) / math.expm1(shape)) ** receivers
    return float(silent.mean()) * longest
