"""What files have in common here: limits of calls, names beside the output, words for refusals."""

from __future__ import annotations

import os
from pathlib import Path

from blake3 import blake3

PIECES_AT_ONCE = 1_024
"""Buffers that one call takes (IOV_MAX)."""

LONGEST_NAME = 255
"""Bytes in the name of a file (NAME_MAX)."""

DIGEST_IN_NAME = 16
"""Hexadecimal digits that keep shortened names apart."""


def beside(output: Path, suffix: str) -> Path:
    """Return the path of what is kept beside `output`: its name and `suffix`.

    A name that leaves no room for the suffix is cut at a character, and has its digest instead.
    """
    name = output.name
    if len(os.fsencode(name + suffix)) <= LONGEST_NAME:
        return output.with_name(name + suffix)
    tail = f".{blake3(os.fsencode(name)).hexdigest()[:DIGEST_IN_NAME]}{suffix}"
    while len(os.fsencode(name + tail)) > LONGEST_NAME:
        name = name[:-1]
    return output.with_name(name + tail)


def reason(error: OSError) -> str:
    """Return what the system says, in words."""
    return error.strerror or os.strerror(error.errno or 0)
