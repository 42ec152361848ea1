"""Section 9 of the specification: the tunables of the machines, from their declarations."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from functools import cache
from typing import Any

from pgmlite.core import config, config_following, config_listening, config_trust
from pgmlite.core.config import NakConfig, ReceiverConfig, RepairConfig, SenderConfig
from pgmlite.core.config_following import FollowConfig
from pgmlite.core.config_listening import RatesConfig, SourcesConfig
from pgmlite.core.config_trust import TrustConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.tunables import Limits, limits_of

CONFIGS: dict[str, Any] = {
    "sender": SenderConfig,
    "receiver": ReceiverConfig,
    "sources": SourcesConfig,
    "nak": NakConfig,
    "rates": RatesConfig,
    "following": FollowConfig,
    "trust": TrustConfig,
    "repair": RepairConfig,
}
"""Configurations by the name of their table."""


@cache
def _texts() -> dict[tuple[str, str], str]:
    """Return what stands under each field, in one line, by class and field."""
    found = {}
    modules = (config, config_following, config_listening, config_trust)
    source = "".join(map(inspect.getsource, modules))
    for declared in ast.parse(source.replace("from __future__ import annotations", "")).body:
        if not isinstance(declared, ast.ClassDef):
            continue
        for field, text in zip(declared.body, declared.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[declared.name, field.target.id] = " ".join(str(text.value.value).split())
    return found


def _number(value: float) -> str:
    if value >= 1 << 16 and value == int(value) and int(value).bit_count() == 1:
        return f"2^{int(value).bit_length() - 1}"
    return f"{value:,g}".replace(",", " ") if value < 1e6 else f"{int(value):,}".replace(",", " ")


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit as the tables show it."""
    if unit == "ns":
        return f"{_number(value / SECOND)} s" if value >= SECOND else f"{_number(value / MS)} ms"
    if unit.startswith("of "):
        return f"{value * 100:g}% {unit}"
    if unit.startswith("th "):
        return f"1/{_number(value)} {unit.removeprefix('th ')}"
    return f"{_number(value)} {unit}".rstrip()


def _limits(limits: Limits) -> str:
    unit = "of " if limits.unit.startswith("of ") else ""
    least = quantity(limits.least, unit).rstrip(" of")
    if limits.most is not None:
        return f"{least} to {quantity(limits.most, unit).rstrip(' of')}"
    return "more than 0" if limits.unit == "ns" and limits.least == 1 else f"at least {least}"


def config_table(name: str) -> str:
    """Return the tunables of one configuration as a Markdown table: name, default, limits, text.

    Raises:
        KeyError: No such table, or a tunable has no text.
    """
    of = CONFIGS[name]
    lines = ["| name | default | limits | meaning |", "|---|---:|---|---|"]
    defaults: dict[str, Any] = {field.name: field.default for field in fields(of)}
    for field, limits in limits_of(of).items():
        default = quantity(defaults[field], limits.unit)
        text = _texts()[of.__name__, field]
        lines.append(f"| `{field}` | {default} | {_limits(limits)} | {text} |")
    return "\n".join(lines)
