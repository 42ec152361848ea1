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

MEANINGS = {
    EXIT_OK: "verified and published (`recv`, `replay`); sent as asked (`send`); signed, or right "
    "(`sign`, `verify`)",
    EXIT_INTERNAL: "internal error: please report it",
    2: "usage: the command is wrong on any machine, or the program of `--on-complete` is not there",
    3: "network: an interface, address or port of this machine can't be used, or it let nothing "
    "out; DNS says that a service is not offered",
    4: "a file, copy, signature or capture does not verify or can't be understood",
    5: "`--timeout` passed, or the capture ended, and what came is kept; `doctor`: no data "
    "arrives; `list`: nothing is announced",
    6: "interrupted by SIGINT or SIGTERM; what came is kept. `send --follow` and `recv --follow` "
    "end so with 0",
    7: "disk: a file, a folder or the output can't be read or written, the disk is full, the "
    "source changed",
    8: "`--on-complete` failed; the file is in place, and the next `recv` runs the command again",
}
"""What each code means, as README and the manual pages say."""

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
        "follow",
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
        "verify_media",
    )
}
"""Arguments that errors begin with, and the options that set them."""

HINTS = {
    "ambiguous": "with --name, --object or --key; `pgmlite list` names all of them",
    "hook_timed_out": "(--hook-timeout)",
    "hops": "(--hops)",
    "interface": "(-i)",
    "not_heard": "(`pgmlite doctor`, given the same, says why)",
    "nothing_to_take": "(`pgmlite list` names all that is sent)",
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
