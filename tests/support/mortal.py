"""A receiver of folders whose process ends, or whose system refuses, at any of its calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import pytest

from pgmlite.net.destinations import folder
from pgmlite.storage import exchange, listing, neighbours, removal, syscalls, unpack
from tests.support import parts

OWN_CALLS = ("exchange_names", "rename_alone")
"""Calls that Python does not have."""


class Killed(BaseException):
    """The process is gone."""


class AtOnce:
    """Stands for a thread: always at the same time as the same of the others' calls."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target

    def start(self) -> None:
        with suppress(Killed):  # as a thread dies, and nobody has waited for it
            self._target()

    def join(self) -> None:
        """It has ended."""


class FolderSystem(parts.System):
    """Stands between all that replaces folders and the system."""

    MODULES = (*parts.System.MODULES, exchange, listing, neighbours, removal, unpack)

    def __init__(self, *, exchanges: bool) -> None:
        """
        Args:
            exchanges: The file system can exchange names.
        """
        self._exchanges = exchanges

    @contextmanager
    def on(self) -> Iterator[Self]:
        with pytest.MonkeyPatch.context() as patches, super().on():
            for name in OWN_CALLS:
                for module in (exchange, neighbours):
                    patches.setattr(module, name, self._named(name), raising=False)
            patches.setattr(folder, "Thread", AtOnce)
            yield self

    def _named(self, name: str) -> Any:
        function = getattr(syscalls, name)
        if name == "exchange_names" and not self._exchanges:
            function = lambda *args, **named: False  # noqa: E731
        return lambda *args, **named: self.call(name, function, *args, **named)


class Mortal(FolderSystem):
    """Kills at a call that changes names, before or after it; nothing happens after that.

    Attributes:
        left: Such calls until then.
    """

    DEADLY = frozenset({"replace", "rmdir", *OWN_CALLS})

    def __init__(self, left: int, *, exchanges: bool) -> None:
        super().__init__(exchanges=exchanges)
        self.left, self.is_dead = left, False

    def call(self, name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        if self.is_dead and name not in ("close", "fstat"):
            raise Killed
        if name not in self.DEADLY:
            return function(*args, **kwargs)
        self.left -= 1
        if self.left < 0 and self.left % 2:
            self.is_dead = True
            raise Killed
        done = function(*args, **kwargs)
        self.left -= 1
        if self.left < 0:
            self.is_dead = True
            raise Killed
        return done


class Refusing(FolderSystem):
    """Refuses one call.

    Attributes:
        left: Calls until then.
        refused: What was refused; empty: nothing yet.
    """

    CALLS = parts.System.CALLS | {"symlink", "utime", "scandir", "readlink"}

    def __init__(self, left: int, number: int, *, exchanges: bool) -> None:
        super().__init__(exchanges=exchanges)
        self.left, self.refused = left, ""
        self._number = number

    def call(self, name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        if name != "close":
            self.left -= 1
            if self.left == -1:
                self.refused = name
                raise OSError(self._number, os.strerror(self._number))
        return function(*args, **kwargs)
