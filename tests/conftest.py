"""Hypothesis profiles, and the rule for tests that need a lab of network namespaces."""

import os

import pytest
from hypothesis import settings

settings.register_profile("fast", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("deep", max_examples=5_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("PGMLITE_HYPOTHESIS", "fast"))


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
