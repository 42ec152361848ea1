"""Plans from TOML files and from options: what each key means, and what is said of junk."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from pgmlite.core.machine import MS
from pgmlite.errors import UsageError
from pgmlite.sim.plan import Join, LossKind, LossPattern, Method, Mode, Plan, Schedule, Setting

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def parse_number(name: str, text: str | int) -> int:
    """Return ``20M``, ``64MiB`` or 1000 as a number of bit/s or bytes.

    Raises:
        UsageError: It is none of these.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    number = str(text).removesuffix("B")
    for unit in sorted(UNITS, key=len, reverse=True):
        if number.endswith(unit):
            try:
                return int(float(number.removesuffix(unit)) * UNITS[unit])
            except (ValueError, OverflowError):
                break
    raise UsageError(f"{name} {text!r}: give a number such as 4000000, 20M or 64MiB")


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, list | tuple):
        return tuple(value)
    if isinstance(value, str | int | float):
        return (value,)
    raise UsageError(f"{name}: must be a value or a list of values")


def _choice(name: str, kinds: type[StrEnum], value: Any) -> Any:
    try:
        return kinds(value)
    except ValueError:
        raise UsageError(f"{name} {value!r}: must be one of {', '.join(kinds)}") from None


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} {value!r}: must be a number")
    return float(value)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} {value!r}: must be a whole number")
    return value


def losses_of(table: Mapping[str, Any]) -> tuple[LossPattern, ...]:
    """Return the losses of a ``[loss]`` table: one for each of its means.

    Raises:
        UsageError: It has an unknown key, or a value that makes no sense.
    """
    unknown = set(table) - {"kind", "mean", "burst", "levels", "bad", "bad_share"}
    if unknown:
        raise UsageError(f"{min(unknown)!r}: there is no such setting of losses")
    kind = _choice("loss kind", LossKind, table.get("kind", "independent"))
    values: dict[str, Any] = {
        name: _real(name, table[name]) for name in ("burst", "bad", "bad_share") if name in table
    }
    if "levels" in table:
        values["levels"] = tuple(_real("levels", one) for one in _tuple("levels", table["levels"]))
    if kind is LossKind.TREE:
        if "mean" in table:
            raise UsageError("loss.mean: a tree has levels instead")
        return (LossPattern(kind, mean=0.0, **values),)
    means = _tuple("loss.mean", table.get("mean", (0.01, 0.05)))
    return tuple(LossPattern(kind, mean=_real("loss", mean), **values) for mean in means)


def _losses(_: str, given: Any) -> tuple[LossPattern, ...]:
    tables = given if isinstance(given, list) else [given]
    if not all(isinstance(one, Mapping) for one in tables):
        raise UsageError("loss: must be a table, such as [loss], or several, such as [[loss]]")
    return tuple(pattern for one in tables for pattern in losses_of(one))


def _each(parse: Callable[[str, Any], Any], name: str = "") -> Callable[[str, Any], Any]:
    """Return what parses a value or a list of values; `name` is what one of them is called."""
    return lambda key, given: tuple(parse(name or key, one) for one in _tuple(key, given))


def _ms(name: str, value: Any) -> int:
    return int(_real(name, value) * MS)


def _mode(name: str, value: Any) -> Mode:
    return Mode(_choice(name, Mode, value))


def _join(name: str, value: Any) -> Join:
    return Join(_choice(name, Join, value))


def _order(name: str, value: Any) -> Schedule:
    return Schedule(_choice(name, Schedule, value))


def _method(name: str, value: Any) -> Method:
    return Method(_choice(name, Method, value))


OF_PLAN: dict[str, Callable[[str, Any], Any]] = {
    "title": lambda _, value: str(value),
    "sizes": _each(parse_number),
    "rates": _each(parse_number),
    "receivers": _each(_whole),
    "modes": _each(_mode, "mode"),
    "loss": _losses,
    "repetitions": _whole,
    "shared_losses": _whole,
    "seed": _whole,
}
"""Keys of a file that are the plan's own, and what reads each."""

OF_SETTING: dict[str, Callable[[str, Any], Any]] = {
    "symbol_size": _whole,
    "block_symbols": _whole,
    "fec": _real,
    "order": _order,
    "method": _method,
    "senders": _whole,
    "repair_share": _real,
    "latency_ms": _each(_ms),
    "read_interval_ms": _ms,
    "join": _join,
}
"""Those of the setting that all its trials have in common."""

FIELDS = {"loss": "losses", "latency_ms": "latencies", "read_interval_ms": "read_interval"}
"""Keys whose field has another name, or another unit."""


AS_THEY_ARE = (
    "symbol_size",
    "block_symbols",
    "fec",
    "order",
    "repair_share",
    "join",
    "senders",
    "method",
)
"""Keys that are called and measured in the setting as they are in a plan."""


def plan_of(table: Mapping[str, Any]) -> Plan:
    """Return the plan that the keys of a TOML file describe.

    Raises:
        UsageError: A key is unknown, or a value makes no sense.
    """
    if unknown := set(table) - set(OF_PLAN) - set(OF_SETTING):
        raise UsageError(f"{min(unknown)!r}: there is no such setting in a plan")
    plan, setting = (
        {FIELDS.get(key, key): read(key, table[key]) for key, read in keys.items() if key in table}
        for keys in (OF_PLAN, OF_SETTING)
    )
    return Plan(**plan, setting=Setting(**setting))


def parse_plan(text: str, changes: Mapping[str, Any] | None = None) -> Plan:
    """Return the plan of a TOML file's text; `changes` are keys that outrank those in it.

    Raises:
        UsageError: It is no TOML, or no plan.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"plan: {error}") from None
    changes = dict(changes or {})
    if "loss" in changes and isinstance(table.get("loss"), Mapping):
        loss = changes["loss"]
        # Another kind of loss has other values: only the same kind keeps those of the file.
        same = loss.get("kind", table["loss"].get("kind")) == table["loss"].get("kind")
        changes["loss"] = {**table["loss"], **loss} if same else loss
    return plan_of({**table, **changes})


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON has it."""
    values = asdict(plan)
    setting = values.pop("setting")
    return values | {
        **{name: setting[name] for name in AS_THEY_ARE},
        "latency_ms": [one / MS for one in setting["latencies"]],
        "read_interval_ms": setting["read_interval"] / MS,
    }
