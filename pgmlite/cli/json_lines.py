"""Events as lines of ``--json``; ``spec/events.json`` is their schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pgmlite.cli.codes import EXIT_OK, exit_code, line_of, with_options
from pgmlite.core.events import Event, Examined, Failed, Followed, Stopped, Warned
from pgmlite.core.events_signing import Verified
from pgmlite.core.machine import SECOND
from pgmlite.errors import PgmliteError
from pgmlite.wire.manifest import Manifest

OIDS = frozenset({"oid", "by"})
"""Fields that are object identifiers."""


def oid_text(oid: int) -> str:
    """Return an object identifier as the user sees it."""
    return f"{oid:016x}"


def warning_text(event: Warned) -> str:
    """Return a warning, with the options that help."""
    text = with_options(event.warning, event.cause)
    mtu = (event.facts or {}).get("mtu")
    return f"{text} (--mtu {mtu})" if mtu else text


def line(event: Event, began: int) -> dict[str, Any]:
    """Return what ``--json`` prints of an event.

    Args:
        began: ns on the event's clock that count as the start.
    """
    said = {"event": event.NAME, "at": round((event.at - began) / SECOND, 9)}
    if event.job:
        said["job"] = event.job
    if isinstance(event, Warned):
        cause = {"cause": event.cause} if event.cause else {}
        return said | {"warning": warning_text(event)} | cause | dict(event.facts or {})
    if isinstance(event, Followed) or (
        isinstance(event, Stopped | Examined | Verified) and event.error is None
    ):
        said["exit_code"] = EXIT_OK
    return said | facts(event)


def failure(error: PgmliteError) -> dict[str, Any]:
    """Return what ``--json`` prints of an error that ended a command, if no event has said it."""
    return {"event": Failed.NAME, **_of_error(error)}


def _of_error(error: PgmliteError) -> dict[str, Any]:
    return {"error": line_of(error), "exit_code": exit_code(error)}


def facts(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON has them; those that are dataclasses are spread."""
    said: dict[str, Any] = {}
    for field in fields(value):
        part = getattr(value, field.name)
        if isinstance(value, Event) and field.name in {"at", "job"}:
            continue
        if isinstance(part, Manifest):
            said |= _of_manifest(part)
        elif isinstance(part, PgmliteError):
            said |= _of_error(part)
        elif is_dataclass(part):
            said |= facts(part)
        elif part is not None or not _is_spread(str(field.type)):
            said[field.name] = oid_text(part) if field.name in OIDS else _plain(part)
    return said


def _is_spread(annotation: str) -> bool:
    """Whether a field that is None has no key of its own."""
    return annotation.startswith(("PgmliteError", "HookEnding")) or "Figures" in annotation


def _of_manifest(manifest: Manifest) -> dict[str, Any]:
    return {
        "oid": oid_text(manifest.oid),
        "name": manifest.name,
        "size": manifest.size,
        "symbol_size": manifest.symbol_size,
        "symbols": manifest.symbols,
        "blocks": manifest.blocks,
        "block_symbols": manifest.block_symbols,
        "repair_symbols": manifest.repair_symbols,
        "tree_digest": manifest.tree_digest.hex(),
        "stream": manifest.release.stream if manifest.release else None,
        "release": manifest.release.number if manifest.release else None,
    }


def _plain(part: Any) -> Any:
    """Return a value of a field as JSON has it."""
    if isinstance(part, bytes):
        return part.hex()
    if isinstance(part, Mapping):
        return dict(part)
    if isinstance(part, tuple):
        return [facts(one) if is_dataclass(one) else _plain(one) for one in part]
    return part
