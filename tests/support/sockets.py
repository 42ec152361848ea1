"""What a test can learn of a socket by its descriptor alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class HasDescriptor(Protocol):
    """Something open."""

    def fileno(self) -> int:
        """File descriptor."""
        ...


def identity(of: HasDescriptor) -> int:
    """Return a number that no other open socket has."""
    return os.fstat(of.fileno()).st_ino


@contextmanager
def twin(of: HasDescriptor) -> Iterator[socket.socket]:
    """Yield a second descriptor of the same socket: options set here hold there."""
    with socket.socket(fileno=os.dup(of.fileno())) as sock:
        yield sock
