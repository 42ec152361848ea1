"""Runs, done one by one or by many processes: the results are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from typing import Protocol, TypeVar


class Run(Protocol):
    """Something to do that says everything its outcome depends on."""

    @property
    def effort(self) -> float:
        """How long it takes, in units that all runs of a plan have in common."""


R = TypeVar("R", bound=Run)
O = TypeVar("O")  # noqa: E741


def do_all(
    runs: Sequence[R],
    do: Callable[[R], O],
    executor: Executor | None,
    progress: Callable[[float], None],
) -> list[tuple[R, O]]:
    """Do all runs; return each with its result, in their order.

    Args:
        do: A function of a module, so that other processes find it.
        executor: Does the runs; None: this process does, one by one.
        progress: Is told what share of the work is done, 0 to 1.
    """
    total, done = sum(run.effort for run in runs), 0.0
    # The long ones first: at the end nobody waits for one that began late.
    order = sorted(range(len(runs)), key=lambda place: -runs[place].effort)
    results: dict[int, O] = {}
    for place, result in _results(runs, do, order, executor):
        results[place] = result
        done += runs[place].effort
        progress(done / total)
    return [(run, results[place]) for place, run in enumerate(runs)]


def _results(
    runs: Sequence[R], do: Callable[[R], O], order: Sequence[int], executor: Executor | None
) -> Iterator[tuple[int, O]]:
    """Yield the place and the result of each run as it is done."""
    if executor is None:
        yield from ((place, do(runs[place])) for place in order)
        return
    futures = {executor.submit(do, runs[place]): place for place in order}
    for future in as_completed(futures):
        yield futures[future], future.result()
