"""SIGINT and SIGTERM end a command in order; SIGHUP has one that stays look at its keys anew."""

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
        self._is_installed = False
        self._handle: Handle[Any] | None = None

    def install(self) -> None:
        """Take over both signals, in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._came)
        self._is_installed = True

    def _came(self, number: int, frame: FrameType | None) -> None:
        self._reason = f"stopped by {signal.Signals(number).name}"
        if self._handle:
            self._handle.stop(self._reason)

    def stop(self, handle: Handle[Any]) -> None:
        """Let them stop a sender or receiver: one that came already, too."""
        self._handle = handle
        if self._reason:
            handle.stop(self._reason)

    def reload(self, handle: Handle[Any]) -> None:
        """Let SIGHUP have it look anew at what it was given; else that ends a process."""
        self._handle = handle
        if self._is_installed:
            signal.signal(signal.SIGHUP, self._looks_anew)

    def _looks_anew(self, number: int, frame: FrameType | None) -> None:
        if self._handle:
            self._handle.reload()

    def check(self) -> None:
        """
        Raises:
            Interrupted: A signal came.
        """
        if self._reason:
            raise Interrupted(self._reason)
