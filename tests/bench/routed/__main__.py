"""Measure what is promised of reception across routers. Needs root, FRR, and knot for names:

    python -m tests.bench.routed CASE [--runs N]

Each line is what was promised and what was seen; the exit code is 1 if one is not as promised.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

from tests.bench.routed import paths, rates, servers
from tests.bench.routed.figures import Figure
from tests.support import frr, lab

CASES: dict[str, Callable[[int], Iterator[Figure]]] = {
    "joins": paths.joins,
    "refused": paths.refused,
    "beside": paths.beside,
    "faults": paths.faults,
    "first-hop": paths.first_hop,
    "repairer": paths.repairer,
    "mtu": paths.mtu,
    "adding": servers.adding,
    "names": servers.names,
    "standby": servers.standby,
    "answers": servers.answers,
    "climb": rates.climb,
    "change": rates.change,
}


def main() -> int:
    """Run one case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--runs", type=int, default=1, help="of what differs from run to run")
    arguments = parser.parse_args()
    if reason := lab.missing() or frr.missing():
        sys.exit(reason)
    are_good = True
    for figure in CASES[arguments.case](arguments.runs):
        print(figure, flush=True)
        are_good = are_good and figure.is_good
    return not are_good


if __name__ == "__main__":
    sys.exit(main())
