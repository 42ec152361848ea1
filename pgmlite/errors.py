"""Every exception that pgmlite raises on purpose.

    PgmliteError
    |- UsageError      the call is wrong, most often on any machine
    |- NetworkError    this machine's network refuses
    |- ObjectError     an object does not verify
    |- TimedOut        the time limit passed; what was received is kept
    |- Interrupted     it was asked to stop; what was received is kept
    |- DiskError       this machine's file system refuses
    |- HookError       the command run after completion failed
    `- RefusedPacket   bytes from the network are not a valid packet: a counter, never an end

Any other exception that escapes is a defect of pgmlite.
"""

from __future__ import annotations


class PgmliteError(Exception):
    """Base of all errors; ``str(error)`` is one line that names the thing and what is wrong.

    Attributes:
        cause: A word for programs; empty: there is none. Where an argument of a call is wrong it
            is the argument's name, and the line begins with it.
    """

    def __init__(self, text: str, *, cause: str = "") -> None:
        super().__init__(text)
        self.cause = cause


class UsageError(PgmliteError):
    """An argument or a call is wrong: on any machine, or because a program is not there."""


class NetworkError(PgmliteError):
    """An interface, address or port can't be used as asked."""


class ObjectError(PgmliteError):
    """An object or its manifest does not verify."""


class TimedOut(PgmliteError):
    """The time limit passed before the object was complete; the partial file stays."""


class Interrupted(PgmliteError):
    """It was asked to stop; the partial file stays."""


class DiskError(PgmliteError):
    """A file or folder can't be read or written as asked."""


class HookError(PgmliteError):
    """The object was published, and the command to run afterwards failed."""


class RefusedPacket(PgmliteError):
    """Bytes are not a valid packet.

    Attributes:
        reason: One word from ``spec/protocol.md`` section "Refusals"; what counters are keyed by.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
