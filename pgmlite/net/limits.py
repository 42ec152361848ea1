"""How large an object this machine can receive (spec: RCV-25)."""

from __future__ import annotations

import psutil

from pgmlite.core.config import ReceiverConfig
from pgmlite.errors import UsageError

MEMORY_SHARE = 2
"""What is kept of an object's symbols may take at most one part in so many of the memory."""

SYMBOL_STATE = 4
"""Bytes that a symbol takes at most: what lies in its place, and which symbols are held, of which
there are at most twice as many."""


def symbols_in(memory: int) -> int:
    """Return how many symbols an object may have on a machine with so many bytes of memory."""
    default = ReceiverConfig().max_symbols
    return max(1, min(default, memory // MEMORY_SHARE // SYMBOL_STATE))


def symbols_here() -> int:
    """Return how many symbols an object may have on this machine."""
    return symbols_in(psutil.virtual_memory().total)


def check_size(name: str, size: int | None) -> int:
    """Return how many bytes an object may have; None: as many as any.

    Raises:
        UsageError: No object can be as small.
    """
    if size is None:
        return ReceiverConfig().max_object_size
    if size < 1:
        raise UsageError(f"{name} {size}: must be at least 1 byte", cause=name)
    return size
