"""A clock, a disk and a boot that a test has in its hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from pgmlite.storage import hints, writeback
from tests.support.flushes import Clock, Syncs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(writeback, "time", clock)
    return clock


@pytest.fixture
def syncs() -> Iterator[Syncs]:
    with Syncs().on() as syncs:
        yield syncs


@pytest.fixture
def next_boot(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what starts the system anew, as far as the record can tell."""
    return lambda: monkeypatch.setattr(hints, "boot_id", lambda: os.urandom(16))
