"""Folders to send, and their archives."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from pgmlite.storage.spooled import open_source

CREATED = 1_700_000_000


def small_folder(folder: Path) -> Path:
    """Make a folder of seven members, whose archive is always the same if root makes it."""
    (folder / "etc").mkdir(parents=True)
    for inside, size in (("boot.img", 20_000), ("etc/config", 700), ("etc/empty", 0)):
        (folder / inside).write_bytes(Random(inside).randbytes(size))
        (folder / inside).chmod(0o644)
    os.link(folder / "boot.img", folder / "etc" / "boot")
    (folder / "etc" / "run").symlink_to("../boot.img")
    (folder / "boot.img").chmod(0o640)
    for path in (folder / "etc", folder):
        path.chmod(0o755)
    for path in (*folder.rglob("*"), folder / "etc", folder):
        os.utime(path, (0, CREATED), follow_symlinks=False)
    return folder


def archive_of(folder: Path, report: Callable[[int, int | None], None] | None = None) -> bytes:
    """Return the bytes of a folder's archive."""
    source = open_source(folder, None, report or (lambda done, total: None))
    try:
        memory = bytearray(source.size)
        source.read_into(memoryview(memory), 0)
        return bytes(memory)
    finally:
        source.close()
