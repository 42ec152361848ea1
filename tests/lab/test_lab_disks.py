"""Disks whose power is cut, and disks that fail to take what was written: real file systems."""

from __future__ import annotations

import os

import pytest

from tests.support.disks import missing, secluded

pytestmark = pytest.mark.lab


@pytest.fixture(params=["ext4", "xfs"])
def system(request: pytest.FixtureRequest) -> str:
    """A file system that this machine can have in an image; in CI it must."""
    kind = str(request.param)
    if reason := missing(kind):
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return kind


def bench(name: str, *arguments: object) -> str:
    """Run a bench, which must find that all is well; return what it printed."""
    done = secluded("-m", f"tests.bench.{name}", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_power_cuts_cost_no_more_than_waits_for_a_flush(system: str) -> None:
    # spec: RCV-7, RCV-8, RCV-15
    said = bench("power_cuts", 5, 1, system)
    assert "cuts 5" in said


def test_what_a_disk_failed_to_take_is_never_said_to_be_complete(system: str) -> None:
    # spec: RCV-7, RCV-8
    way = {"ext4": "end", "xfs": "copy"}[system]
    said = bench("failed_writeback", 12, system, way)
    assert "0 pages wrong" in said
