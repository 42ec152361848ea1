"""Words of the command line to values."""

from __future__ import annotations

import re
from decimal import Decimal

from pgmlite.core.config import MAX_RATE, MIN_RATE
from pgmlite.core.human import human_rate
from pgmlite.errors import UsageError
from pgmlite.net.arguments import LEAST_FEC
from pgmlite.wire.geometry import MOST_REPAIRS
from pgmlite.wire.manifest import MAX_OBJECT_SIZE

SUFFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_rate(text: str) -> int | None:
    """Return ``10M``, ``2.5G``, ``64000`` in bit/s; None for ``max``.

    Raises:
        UsageError: It is none of these.
    """
    if text == "max":
        return None
    try:
        rate = _number(text, "kKMG")
        if not MIN_RATE <= rate <= MAX_RATE:
            raise UsageError(
                f"rate {text}: must be {human_rate(MIN_RATE)} to {human_rate(MAX_RATE)}"
            )
    except ArithmeticError:
        raise UsageError(
            f"rate {text}: give bits a second such as 500k, 10M or 2.5G, or max"
        ) from None
    return int(rate)


def _number(text: str, suffixes: str) -> Decimal:
    """Return a number with one of some suffixes, or none.

    Raises:
        ArithmeticError: It is none.
    """
    number, suffix = (text[:-1], text[-1]) if text[-1:] in set(suffixes) else (text, "")
    return Decimal(number) * SUFFIXES[suffix]


def parse_size(option: str, text: str | None) -> int | None:
    """Return ``500M``, ``1.5G``, ``64000`` in bytes; None: nothing was said.

    Args:
        option: What names it in the error.

    Raises:
        UsageError: It is none of these.
    """
    if text is None:
        return None
    try:
        size = _number(text, "kKMGT")
        if 1 <= size <= MAX_OBJECT_SIZE:
            return int(size)
    except ArithmeticError:
        pass
    raise UsageError(f"{option} {text}: give bytes such as 64000, 500M or 4G")


def parse_channel(text: str) -> tuple[str, int]:
    """Return ``GROUP,RATE`` as a group, which may be any text, and bit/s.

    Raises:
        UsageError: It is something else, or has no limit.
    """
    group, comma, rate = text.rpartition(",")
    if not (group and comma and rate) or rate == "max":
        raise UsageError(f"--channel {text}: give a group and a rate, such as ff15::1,20M")
    try:
        return group, parse_rate(rate) or 0
    except UsageError as error:
        raise UsageError(f"--channel {text}: {error}") from None


def parse_rate_limit(text: str | None) -> int | None:
    """Return a rate as of `parse_rate`; None: there is no limit.

    Raises:
        UsageError: It is something else.
    """
    try:
        return None if text is None else parse_rate(text)
    except UsageError as error:
        raise UsageError(f"--rate-limit {text}: {error}") from None


def parse_fec(text: str) -> float:
    """Return ``off`` as 0, ``50%`` as 0.5.

    Raises:
        UsageError: It is neither.
    """
    if text == "off":
        return 0.0
    percent = text.removesuffix("%")
    try:
        share = float(percent) / 100 if percent != text else 0.0
    except ValueError:
        share = 0.0
    if not LEAST_FEC <= share <= MOST_REPAIRS:
        raise UsageError(
            f"--fec {text}: give off, or {LEAST_FEC:.0%} to {MOST_REPAIRS:.0%} of what is sent"
        )
    return share


def parse_share(option: str, text: str) -> float:
    """Return ``5%`` or ``0.05`` as a number from 0 to 1; `option` names it in the error.

    Raises:
        UsageError: It is neither.
    """
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{option} {text}: give a share such as 5% or 0.05")
    return share


DURATIONS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
"""Units of a time, in seconds."""


def parse_duration(option: str, text: str) -> float:
    """Return ``500ms``, ``90s``, ``5m``, ``1.5h``, ``90d`` or ``8w`` in seconds, as a plain number.

    Args:
        option: What names it in the error.

    Raises:
        UsageError: It is something else.
    """
    found = re.fullmatch(
        r"([0-9]{1,12}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ms|[smhdw]?)", text, re.ASCII
    )
    if not found:
        raise UsageError(
            f"{option} {text}: give a time such as 500ms, 90s, 5m, 12h or 90d; "
            "a plain number is seconds"
        )
    return float(found[1]) * DURATIONS[found[2]]


def parse_interval(option: str, text: str) -> float:
    """Return as of `parse_duration` how often something is said; 0, as ``off`` is: never.

    Raises:
        UsageError: It is none.
    """
    return 0.0 if text == "off" else parse_duration(option, text)
