"""Configuration of a receiver that takes one object after another (see `config`)."""

from __future__ import annotations

from dataclasses import dataclass

from pgmlite.core.machine import SECOND
from pgmlite.core.tunables import check, tunable
from pgmlite.errors import UsageError


@dataclass(frozen=True, slots=True)
class FollowConfig:
    """When a follower takes another object, and when it tries again; times in ns.

    Raises:
        UsageError: A value is out of its limits.
    """

    patience: int = tunable(60 * SECOND, "ns")
    """The object in place must not have been announced for as long, while others were, before one
    takes its place that was published here before."""

    gap: int = tunable(5 * SECOND, "ns")
    """Where nothing is announced for as long nobody can be heard: that time does not count."""

    max_published: int = tunable(256, "objects")
    """Objects remembered that were published here; the oldest makes room."""

    retry_min: int = tunable(1 * SECOND, "ns")
    """Time from an error to the next try; it doubles with each."""

    retry_max: int = tunable(30 * SECOND, "ns")
    """It doubles no further; a try that lasts longer ends the row."""

    hook_retry_min: int = tunable(60 * SECOND, "ns")
    """Time from a failed command to its next run; it doubles with each."""

    hook_retry_max: int = tunable(3_600 * SECOND, "ns")
    """It doubles no further."""

    def __post_init__(self) -> None:
        check(self)
        if self.retry_min > self.retry_max or self.hook_retry_min > self.hook_retry_max:
            raise UsageError("tries of a follower: the shortest time first")
