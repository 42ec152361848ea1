"""Errors on the command line: their exit codes, and the options that their words are about."""

from __future__ import annotations

from pgmlite.errors import (
    DiskError,
    HookError,
    Interrupted,
    NetworkError,
    ObjectError,
    PgmliteError,
    TimedOut,
    UsageError,
)

EXIT_OK = 0
EXIT_INTERNAL = 1

EXIT_CODES: dict[type[PgmliteError], int] = {
    UsageError: 2,
    NetworkError: 3,
    ObjectError: 4,
    TimedOut: 5,
    Interrupted: 6,
    DiskError: 7,
    HookError: 8,
}
"""README has what each means."""

OPTIONS = {
    name: f"--{name.replace('_', '-')}"
    for name in (
        "allow_rollback",
        "base",
        "block_symbols",
        "channel",
        "channels",
        "content",
        "device",
        "duration",
        "expires",
        "fec",
        "hook_timeout",
        "keep",
        "key",
        "listen",
        "log_interval",
        "mtu",
        "name",
        "object",
        "on_complete",
        "order",
        "output",
        "rate_limit",
        "release",
        "repairer",
        "seconds",
        "signature",
        "source",
        "spool",
        "start",
        "stream",
        "symbol_size",
        "timeout",
    )
}
"""Arguments that errors begin with, and the options that set them."""

HINTS = {
    "hook_timed_out": "(--hook-timeout)",
    "hops": "(--hops)",
    "interface": "(-i)",
    "sources": "with --source",
}
"""Causes, and how a line that is about them ends: with the option that helps."""


class Told(Exception):
    """An error that ends the command, and that an event has said."""

    def __init__(self, error: PgmliteError) -> None:
        super().__init__(str(error))
        self.error = error


def exit_code(error: PgmliteError) -> int:
    """Return what a command that ends by `error` returns."""
    return EXIT_CODES.get(type(error), EXIT_INTERNAL)


def with_options(text: str, cause: str) -> str:
    """Return what is said of a cause as users know it: by the names of options."""
    name = next((name for name in OPTIONS if text.startswith((f"{name} ", f"{name}:"))), "")
    if cause and name:
        text = OPTIONS[name] + text.removeprefix(name)
    return f"{text} {HINTS[cause]}" if cause in HINTS else text


def line_of(error: PgmliteError) -> str:
    """Return the line that says why a command ends."""
    return with_options(str(error), error.cause)
