"""Numbers of a configuration that can be set: their units and limits, beside their defaults."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any, NamedTuple, TypeVar

from pgmlite.errors import UsageError

Value = TypeVar("Value", int, float)


class Limits(NamedTuple):
    """What a tunable may be: `least` to `most`, both allowed; None: no upper limit."""

    unit: str
    least: float
    most: float | None


def tunable(
    default: Value, unit: str = "", *, least: float = 1, most: float | None = None
) -> Value:
    """Return a field of a configuration that is a number with limits.

    Args:
        unit: What is counted, as section 9 of the specification names it; ns for times.
    """
    return field(default=default, metadata={"limits": Limits(unit, least, most)})


def limits_of(config: Any) -> dict[str, Limits]:
    """Return the limits of the tunables of a configuration, or of its class, by name."""
    return {one.name: one.metadata["limits"] for one in fields(config) if one.metadata}


def check(config: Any) -> None:
    """Compare the tunables of a configuration with their limits.

    Raises:
        UsageError: One is out of them.
    """
    for name, (_, least, most) in limits_of(config).items():
        value = getattr(config, name)
        if value is None or (least <= value and (most is None or value <= most)):
            continue
        allowed = f"at least {least}" if most is None else f"{least} to {most}"
        raise UsageError(f"{name} {value}: must be {allowed}")
