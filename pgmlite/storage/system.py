"""What files have in common here: limits of calls, and words for what the system refuses."""

from __future__ import annotations

import os

PIECES_AT_ONCE = 1_024
"""Buffers that one call takes (IOV_MAX)."""


def reason(error: OSError) -> str:
    """Return what the system says, in words."""
    return error.strerror or os.strerror(error.errno or 0)
