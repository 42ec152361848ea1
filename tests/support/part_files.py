"""Partial files by hand: opened for an object, written symbol by symbol, published."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pgmlite.core.machine import Complete, Held, Prepare
from pgmlite.storage.part import PartFile
from tests.support.builders import Sample, make_object

SAMPLE = make_object(10 * 512 - 5)  # 10 blocks of 8 symbols of 64 bytes; the last symbol is short


def wanted(sample: Sample = SAMPLE) -> Prepare:
    manifest = sample.manifest
    return Prepare(manifest.oid, manifest.size, manifest.symbol_size)


def complete(sample: Sample = SAMPLE) -> Complete:
    return Complete(sample.manifest.oid, sample.manifest, sample.tree.digests)


def open_part(output: Path, sample: Sample = SAMPLE, **how: Any) -> tuple[PartFile, Held]:
    """Open the partial file of a receiver that has the manifest."""
    part = PartFile(output, **how)
    held = part.prepare(wanted(sample))
    part.begin(sample.manifest)
    return part, held


def store(part: PartFile, symbols: Iterable[int], sample: Sample = SAMPLE) -> None:
    """Write symbols, each in its place."""
    size = sample.manifest.symbol_size
    part.store([[(size * n, memoryview(sample.data[size * n : size * n + size]))] for n in symbols])


def matches(part: PartFile, block: int, sample: Sample = SAMPLE) -> bool:
    """Whether a block is there."""
    size = sample.manifest.block_size
    length = min(size, sample.manifest.size - block * size)
    return part.matches(block * size, length, sample.tree.digests[32 * block : 32 * block + 32])


def publish(part: PartFile, sample: Sample = SAMPLE) -> bool:
    assert part.settle(complete(sample)) == []
    is_new = part.publish(complete(sample))
    part.close()
    return is_new


def held_symbols(held: Held) -> set[int]:
    return {first + int(n) for first, lying in held.lying for n in np.flatnonzero(lying)}


def descriptor_of(path: Path) -> int:
    """Return a descriptor of this process that is of a file."""
    wanted = path.stat()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.path.samestat(entry.stat(), wanted):
                return int(entry.name)
    raise FileNotFoundError(path)
