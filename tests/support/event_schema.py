"""The schema of ``--json``, made from the classes of events; and who checks lines by it."""

from __future__ import annotations

import functools
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pgmlite.cli.json_lines import OIDS, SCHEMA
from pgmlite.core import events, events_listening, events_signing
from pgmlite.core.causes import CAUSES
from pgmlite.core.events import Event, Examined, Failed, Followed, Stopped, Warned
from pgmlite.core.events_listening import Listed
from pgmlite.core.events_signing import Verified
from pgmlite.errors import PgmliteError
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.manifest import Manifest

Schema = dict[str, Any]

HEX: Schema = {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
OID: Schema = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"type": "string"}
PLAIN: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: COUNT,
    float: {"type": "number"},
    str: TEXT,
    bytes: HEX,
    Endpoint: {"type": "array", "prefixItems": [TEXT, COUNT], "minItems": 2, "maxItems": 2},
}
MANIFEST: dict[str, Schema] = {
    "oid": OID,
    "name": TEXT,
    "size": COUNT,
    "symbol_size": COUNT,
    "symbols": COUNT,
    "blocks": COUNT,
    "block_symbols": COUNT,
    "repair_symbols": COUNT,
    "tree_digest": DIGEST,
    "stream": {"anyOf": [TEXT, {"type": "null"}]},
    "release": {"anyOf": [COUNT, {"type": "null"}]},
    "members": {"anyOf": [COUNT, {"type": "null"}]},
}
TIME: Schema = {
    "type": "string",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
}
ERROR: dict[str, Schema] = {"error": TEXT, "exit_code": COUNT}


def classes() -> list[type[Event]]:
    """Return the classes of events that become lines, as they stand in their module."""
    modules = vars(events) | vars(events_listening) | vars(events_signing)
    found = [one for one in modules.values() if isinstance(one, type)]
    return [one for one in found if issubclass(one, Event) and one.NAME]


def of_type(kind: Any) -> Schema:
    """Return the schema of a value."""
    if kind in PLAIN:
        return PLAIN[kind]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        (inner,) = [part for part in parts if part is not type(None)]
        return {"anyOf": [of_type(inner), {"type": "null"}]}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": of_type(parts[1])}
    if origin is tuple and parts[1:] == (Ellipsis,):
        return {"type": "array", "items": of_type(parts[0])}
    if origin is tuple:
        return {
            "type": "array",
            "prefixItems": [of_type(part) for part in parts],
            "minItems": len(parts),
            "maxItems": len(parts),
        }
    assert is_dataclass(kind), kind
    return an_object(*properties(kind))


def properties(kind: Any) -> tuple[dict[str, Schema], list[str]]:
    """Return the keys that the fields of a dataclass become, and those that are always there."""
    known: dict[str, Schema] = {}
    always: list[str] = []
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        parts = typing.get_args(hint)
        is_optional = type(None) in parts
        inner = next(part for part in parts if part is not type(None)) if is_optional else hint
        if inner is Manifest:
            more, needed = MANIFEST, list(MANIFEST)
        elif isinstance(inner, type) and issubclass(inner, PgmliteError):
            more, needed = ERROR, list(ERROR)
        elif is_dataclass(inner):
            more, needed = properties(inner)
        else:
            schema = of_type(hint)
            if field.name in OIDS:
                schema = OID if hint is int else {"anyOf": [OID, {"type": "null"}]}
            more, needed, is_optional = {field.name: schema}, [field.name], False
        both = known.keys() & more.keys()
        assert not both, f"{kind.__name__}: one key for two facts: {both}"
        known |= more
        always += [] if is_optional else needed
    return known, always


def an_object(known: dict[str, Schema], always: list[str], **more: Any) -> Schema:
    """Return the schema of an object that has these keys and, as things are, no others."""
    return more | {
        "type": "object",
        "properties": known,
        "required": always,
        "additionalProperties": False,
    }


def lines_of(kind: type[Event]) -> Iterator[Schema]:
    """Yield the schemas of the lines that a class becomes."""
    about = {"title": kind.__name__, "description": (kind.__doc__ or "").partition("\n")[0]}
    first: dict[str, Schema] = {
        "event": {"const": kind.NAME},
        "schema": {"const": SCHEMA},
        "time": TIME,
    }
    head = first | {"at": {"type": "number"}}
    job = {"job": TEXT}
    if kind is Warned:
        known = head | {"warning": TEXT}
        yield an_object(known | job, list(known), **about)
        for cause, facts in CAUSES.items():
            more: dict[str, Schema] = {
                name: {"anyOf": [PLAIN[what], {"type": "null"}]} for name, what in facts.items()
            }
            named = known | {"cause": {"const": cause}}
            yield an_object(named | more | job, list(named), **about)
        return
    known, always = properties(kind)
    known.pop("at", None)
    for name in ("at", "job"):
        always.remove(name)
    if kind is Followed:
        known["exit_code"] = COUNT
    if kind in (Stopped, Examined, Followed, Listed, Verified):
        always.append("exit_code")
    if kind is Failed:  # one of several, or the command line's: that has no start to count from
        yield an_object(head | known, [*first, *always], **about)
        return
    yield an_object(head | known, [*head, *always], **about)


def schema() -> Schema:
    """Return the schema of one line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A line of --json, schema {SCHEMA}; spec/events.md has what may be added",
        "anyOf": [line for kind in classes() for line in lines_of(kind)],
    }


def opened(rule: Any) -> Any:
    """Return a schema that lets objects have more keys: who reads lines must bear them."""
    if isinstance(rule, list):
        return [opened(one) for one in rule]
    if not isinstance(rule, dict):
        return rule
    return {key: opened(one) for key, one in rule.items() if one is not False}


def text() -> str:
    """Return the schema as a file."""
    return json.dumps(opened(schema()), indent=1) + "\n"


def table() -> str:
    """Return what the events are, as a table for the page that names them."""
    rows: dict[str, list[str]] = {}
    for kind in classes():
        rows.setdefault(kind.NAME, []).append(f"`{kind.__name__}`")
    lines = ["| event | class |", "|---|---|"]
    lines += [f"| `{name}` | {', '.join(kinds)} |" for name, kinds in rows.items()]
    return "\n".join(lines)


# Checking.


TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def complaints(value: Any, rule: Schema, at: str = "line") -> Iterator[str]:
    """Yield what is wrong with a value, by the words of JSON Schema that are used here."""
    if not rule:
        return  # anything
    if "anyOf" in rule:
        found = [list(complaints(value, one, at)) for one in rule["anyOf"]]
        if all(found):
            yield min(found, key=len)[0]
        return
    if "const" in rule:
        if value != rule["const"]:
            yield f"{at}: {value!r} is not {rule['const']!r}"
        return
    is_bool = isinstance(value, bool) and rule["type"] != "boolean"
    if is_bool or not isinstance(value, TYPES[rule["type"]]):
        yield f"{at}: {value!r} is no {rule['type']}"
    elif isinstance(value, dict):
        known = rule.get("properties", {})
        yield from (f"{at}: no {key}" for key in rule.get("required", ()) if key not in value)
        for key, part in value.items():
            one = known.get(key, rule.get("additionalProperties", {}))
            if one is False:
                yield f"{at}: {key} is not known"
            else:
                yield from complaints(part, one, f"{at}.{key}")
    elif isinstance(value, list):
        items = rule.get("prefixItems") or [rule["items"]] * len(value)
        if len(items) != len(value):
            yield f"{at}: {len(value)} items"
        for place, (part, one) in enumerate(zip(value, items, strict=False)):
            yield from complaints(part, one, f"{at}[{place}]")
    elif "pattern" in rule and not re.search(rule["pattern"], str(value)):
        yield f"{at}: {value!r} does not match {rule['pattern']}"
    elif "minimum" in rule and value < rule["minimum"]:
        yield f"{at}: {value} is too small"


@functools.cache
def _by_name() -> dict[str, list[Schema]]:
    found: dict[str, list[Schema]] = {}
    for one in schema()["anyOf"]:
        found.setdefault(one["properties"]["event"]["const"], []).append(one)
    return found


def read_line(line: str | bytes) -> dict[str, Any]:
    """Return a line of ``--json``, checked by the schema if it is an event."""
    value: dict[str, Any] = json.loads(line)
    if "event" in value:
        rules = _by_name().get(value["event"])
        assert rules, f"no such event: {line!r}"
        wrong = list(complaints(value, {"anyOf": rules}))
        assert not wrong, f"{wrong}: {line!r}"
    return value
