"""Joins, faults and repairs on the way through two routers."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.routed.figures import Figure, at_least, at_most, equal, routed
from tests.support import crossing
from tests.support.routed import GROUPS, address

PATH_MTU = 1_400


def joins(_runs: int) -> Iterator[Figure]:
    """Yield what a receiver of S gets, and one of silent T; what routers know, and for how long."""
    with routed() as (lab, folder):
        runs = crossing.both(lambda family: crossing.transfer(lab, family, folder))
    for family, run in runs.items():
        pair, silent = ((address(node, family), GROUPS[family]) for node in "ST")
        yield at_most(f"IPv{family}: cycles", run.result["cycles"], 1.05)
        yield equal(f"IPv{family}: packets of T", run.other["packets"], 0)
        yield equal(f"IPv{family}: forwarded", run.joined - {silent}, {pair})
        yield at_most(f"IPv{family}: s until it is gone", run.gone, 12)


def refused(_runs: int) -> Iterator[Figure]:
    """Yield what was reported of groups that can't be joined as they were given."""
    told = crossing.heard("S", 6)
    with routed(1) as (lab, folder):
        for group, options in ((GROUPS[6], ()), (GROUPS[4], ()), ("ff3e::1:2", told)):
            reports = crossing.refused(lab, folder, *options, group=group)
            yield equal(f"reports of {group} {' '.join(options)}", len(reports), 0)


def beside(_runs: int) -> Iterator[Figure]:
    """Yield losses of two receivers of one host and group, with the routers' usual times."""
    with routed(1) as (lab, folder):
        runs = crossing.both(lambda family: crossing.two_sources(lab, family, folder, 300))
    for family, run in runs.items():
        for result in run.results:
            yield equal(f"IPv{family}: lost in {result['seconds']:.0f} s", result["lost"], 0)
        yield at_most(f"IPv{family}: s between packets", run.silence, 1)


def faults(_runs: int) -> Iterator[Figure]:
    """Yield the seconds until data came again."""
    limits = {"port": 1, "interface": 1, "router": 10}
    with routed(3) as (lab, folder):
        found = crossing.faults(lab, folder)
    for what, seen in found.items():
        for family, run in seen.items():
            yield equal(f"IPv{family}, {what}: packets meanwhile", run.during, 0)
            yield at_most(f"IPv{family}, {what}: s until data again", run.again, limits[what])


def first_hop(_runs: int) -> Iterator[Figure]:
    """Yield the seconds until data came again after the sender's router began anew."""
    with routed(3) as (lab, folder):
        receivers = crossing.listeners(lab, folder, 4)
        found = crossing.flap(lab, receivers, lambda: lab.stop("A"), lambda: lab.start("A"))
        for family, run in found.items():
            yield at_most(f"IPv{family}: s until data again", run.again, 65)
            code = receivers[family][1].popen.poll()
            yield equal(f"IPv{family}: exit code by then", code, None)


def repairer(_runs: int) -> Iterator[Figure]:
    """Yield the cycles of receivers whose LAN has a repairer, and without one."""
    with routed(3) as (lab, folder):
        lab.loss(0.05, ["R1", "R3"])
        runs = crossing.both(lambda family: crossing.repaired(lab, family, folder))
    for family, run in runs.items():
        for result in run.results:
            yield at_most(f"IPv{family}: cycles", result["cycles"], 1.5)
        yield equal(f"IPv{family}: RDATA of", run.addresses, {address("P", family)})


def mtu(_runs: int) -> Iterator[Figure]:
    """Yield what a receiver says of packets that do not fit the link between the routers."""
    with routed(1) as (lab, folder):
        lab.ip("A", f"link set ab mtu {PATH_MTU}")
        runs = crossing.both(lambda family: crossing.too_large(lab, family, folder))
    for family, (warning, _) in runs.items():
        yield at_least(f"IPv{family}: packet size named", warning["packet_size"], PATH_MTU + 1)
        yield Figure(f"IPv{family}", warning["warning"], "--mtu 1280" in warning["warning"])
