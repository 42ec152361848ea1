"""Results of checks: their states, and what is common to their words."""

from __future__ import annotations

from pgmlite.core.figures import CheckResult

OK, WARN, FAIL = "ok", "warn", "fail"


def ok(cause: str, text: str) -> CheckResult:
    """Return that nothing is wrong with something."""
    return CheckResult(OK, cause, text)


def warn(cause: str, text: str, advice: str = "", command: str = "") -> CheckResult:
    """Return what may be wrong, may become so, or could not be looked at."""
    return CheckResult(WARN, cause, text, advice, command)


def fail(cause: str, text: str, advice: str = "", command: str = "") -> CheckResult:
    """Return what keeps data from arriving."""
    return CheckResult(FAIL, cause, text, advice, command)
