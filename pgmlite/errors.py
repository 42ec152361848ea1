"""Every exception that pgmlite raises on purpose, and the exit code that each one means.

    PgmliteError
    |- UsageError      the call is wrong, most often on any machine            exit 2
    |- NetworkError    this machine's network refuses                          exit 3
    |- ObjectError     an object does not verify                               exit 4
    |- TimedOut        the time limit passed; what was received is kept        exit 5
    |- Interrupted     SIGINT or SIGTERM; what was received is kept              exit 6
    |- DiskError       this machine's file system refuses                      exit 7
    |- HookError       the command run after completion failed                 exit 8
    `- RefusedPacket   bytes from the network are not a valid packet: a counter, never an exit

Any other exception that escapes is a defect of pgmlite (exit 1).
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_INTERNAL = 1


class PgmliteError(Exception):
    """Base of all errors; ``str(error)`` is one line that names the thing and what to do."""

    exit_code = EXIT_INTERNAL
    is_told = False
    """A JSON event has said it, as the last one of its run."""


class UsageError(PgmliteError):
    """An argument or a call is wrong: on any machine, or because a program is not there."""

    exit_code = 2


class NetworkError(PgmliteError):
    """An interface, address or port can't be used as asked."""

    exit_code = 3


class ObjectError(PgmliteError):
    """An object or its manifest does not verify."""

    exit_code = 4


class TimedOut(PgmliteError):
    """The time limit passed before the object was complete; the partial file stays."""

    exit_code = 5


class Interrupted(PgmliteError):
    """SIGINT or SIGTERM came; the partial file stays."""

    exit_code = 6


class DiskError(PgmliteError):
    """A file or folder can't be read or written as asked."""

    exit_code = 7


class HookError(PgmliteError):
    """The object was published, and the command to run afterwards failed."""

    exit_code = 8


class RefusedPacket(PgmliteError):
    """Bytes are not a valid packet.

    Attributes:
        reason: One word from ``spec/protocol.md`` section "Refusals"; what counters are keyed by.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
