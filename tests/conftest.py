"""Hypothesis profiles, which tests run when, and the rule for those that need a lab of networks.

Tests that take seconds are marked `slow`, all of labs are. Where nothing says which tests are
meant, a quarter of them runs with all that are quick: another one after each commit.
"""

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fast", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("deep", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("PGMLITE_HYPOTHESIS", "fast"))


PARTS = 4
"""Of the slow tests one is run."""

TESTPATHS = pytest.Config.ArgsSource.TESTPATHS
"""Nothing was named on the command line."""

OPTIONS_THAT_CHOOSE = ("keyword", "markexpr", "lf", "failedfirst", "deselect")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let all slow tests be asked for, or another part of them."""
    parser.addoption("--all", action="store_true", help="run all slow tests, not a quarter of them")
    parser.addoption(
        "--part", type=int, metavar="N", help=f"run this part of the slow tests, 1 to {PARTS}"
    )


def _part(config: pytest.Config) -> int | None:
    """Return which part of the slow tests is run; None: all."""
    part: int | None = config.getoption("part")
    if part is not None:
        if not 1 <= part <= PARTS:
            raise pytest.UsageError(f"--part {part}: give 1 to {PARTS}")
        return part
    chosen = any(config.getoption(name, None) for name in OPTIONS_THAT_CHOOSE)
    if chosen or config.getoption("all") or config.args_source is not TESTPATHS:
        return None
    return _commits() % PARTS + 1


@cache
def _commits() -> int:
    """Return how many commits there are; 0: that can't be told."""
    # Not the date: a failure must not come and go with the calendar.
    command = ["git", "-C", str(Path(__file__).parent), "rev-list", "--count", "HEAD"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except OSError:
        return 0
    return int(said) if said.strip().isdigit() else 0


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which slow tests run."""
    part = _part(config)
    return part and f"slow tests: part {part} of {PARTS}; --all runs all, --part N another one"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slow tests whose turn it is not."""
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.slow)
    part = _part(config)
    if part is None:
        return
    slow = sorted(item.nodeid for item in items if item.get_closest_marker("slow"))
    others = {nodeid for number, nodeid in enumerate(slow) if number % PARTS + 1 != part}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in others])
    items[:] = [item for item in items if item.nodeid not in others]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a `lab` test where the lab can't run; in CI that is a failure, never a silent skip."""
    if item.get_closest_marker("lab") is None:
        return
    from tests.support import frr, lab

    reason = lab.missing()
    if not reason and item.get_closest_marker("routed"):
        reason = frr.missing()
    if not reason:
        return
    if os.environ.get("CI"):
        pytest.fail(f"the lab can't run: {reason}", pytrace=False)
    pytest.skip(f"the lab can't run: {reason}")
