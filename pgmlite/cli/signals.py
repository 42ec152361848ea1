"""SIGINT and SIGTERM: they end a command in order."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from pgmlite.api import Handle
from pgmlite.errors import Interrupted


class Signals:
    """Turns both signals into `Interrupted` at the next safe point."""

    def __init__(self) -> None:
        self._reason = ""
        self._handle: Handle[Any] | None = None

    def install(self) -> None:
        """Take over both signals, in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._came)

    def _came(self, number: int, frame: FrameType | None) -> None:
        self._reason = f"stopped by {signal.Signals(number).name}"
        if self._handle:
            self._handle.stop(self._reason)

    def stop(self, handle: Handle[Any]) -> None:
        """Let them stop a sender or receiver: one that came already, too."""
        self._handle = handle
        if self._reason:
            handle.stop(self._reason)

    def check(self) -> None:
        """
        Raises:
            Interrupted: A signal came.
        """
        if self._reason:
            raise Interrupted(self._reason)
