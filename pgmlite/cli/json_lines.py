"""Events as lines of ``--json``: ``spec/events.md`` has what readers may count on, and
``spec/events.json`` is their schema.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from pgmlite.cli.codes import EXIT_OK, exit_code, line_of, with_options
from pgmlite.core.events import Event, Examined, Failed, Followed, Stopped, Warned
from pgmlite.core.events_listening import Listed
from pgmlite.core.events_signing import Verified
from pgmlite.core.machine import SECOND
from pgmlite.errors import PgmliteError
from pgmlite.wire.manifest import Manifest

SCHEMA = 1
"""The version of the lines: keys and events are only added within one."""

UnixTime = Callable[[int], int]
"""What returns the ns since 1970 of a moment on the clock of events."""

OIDS = frozenset({"oid", "by", "replaces"})
"""Fields that are object identifiers."""


def oid_text(oid: int) -> str:
    """Return an object identifier as the user sees it."""
    return f"{oid:016x}"


def warning_text(event: Warned) -> str:
    """Return a warning, with the options that help."""
    text = with_options(event.warning, event.cause)
    mtu = (event.facts or {}).get("mtu")
    return f"{text} (--mtu {mtu})" if mtu else text


def by_system_clock(at: int) -> int:
    """Return the ns since 1970 of a moment of the monotonic clock, as the system has it now."""
    return time.time_ns() - (time.monotonic_ns() - at)


def by_capture(at: int) -> int:
    """Return a moment of a capture: its clock counts from 1970."""
    return at


def moment_text(unix_time: int) -> str:
    """Return ns since 1970 as RFC 3339 has them, in UTC and whole ms."""
    try:
        whole = datetime.fromtimestamp(unix_time // SECOND, UTC)
    except (ValueError, OverflowError, OSError):  # of a capture whose clock is no calendar's
        whole = datetime.fromtimestamp(0, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{unix_time % SECOND // 1_000_000:03}Z"


class EventStream:
    """Where lines of ``--json`` go: one place decides it.

    Attributes:
        stdout_is_data: Standard output takes a file's bytes: lines go to standard error, and
            people are told nothing beside them.
    """

    def __init__(self) -> None:
        self.stdout_is_data = False

    @property
    def file(self) -> TextIO:
        """What they are written to."""
        return sys.stderr if self.stdout_is_data else sys.stdout

    def write(self, said: dict[str, Any]) -> None:
        """Print a line."""
        print(json.dumps(said), file=self.file, flush=True)


EVENTS = EventStream()


def line(event: Event, began: int, unix_time: UnixTime = by_system_clock) -> dict[str, Any]:
    """Return what ``--json`` prints of an event.

    Args:
        began: ns on the event's clock that count as the start.
    """
    said = _head(event.NAME, unix_time(event.at))
    said["at"] = round((event.at - began) / SECOND, 9)
    if event.job:
        said["job"] = event.job
    if isinstance(event, Warned):
        cause = {"cause": event.cause} if event.cause else {}
        return said | {"warning": warning_text(event)} | cause | dict(event.facts or {})
    if isinstance(event, Followed) or (
        isinstance(event, Stopped | Examined | Listed | Verified) and event.error is None
    ):
        said["exit_code"] = EXIT_OK
    return said | facts(event)


def failure(error: PgmliteError) -> dict[str, Any]:
    """Return what ``--json`` prints of an error that ended a command, if no event has said it."""
    return _head(Failed.NAME, time.time_ns()) | _of_error(error)


def _head(name: str, unix_time: int) -> dict[str, Any]:
    return {"event": name, "schema": SCHEMA, "time": moment_text(unix_time)}


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
            is_oid = field.name in OIDS and part is not None
            said[field.name] = oid_text(part) if is_oid else _plain(part)
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
        "members": manifest.archive.entries if manifest.archive else None,
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
