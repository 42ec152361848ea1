"""Across two routers, with PIM-SSM between them: what receivers join, and what that brings.

The cases wait more than they work. So all that are asked for run at the same time, each in a lab of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import channels, crossing, dns_server, sites
from tests.support.lab import GROUPS as ANY_SOURCE
from tests.support.lab import random_file
from tests.support.routed import GROUPS, RoutedLab, address
from tests.support.services import RATE, SERVICE, named, records, served

pytestmark = [pytest.mark.lab, pytest.mark.routed]

PATH_MTU = 1_400


def joins_cross_routers(folder: Path) -> None:
    """A receiver gets what it named and nothing else; routers know of that only."""
    with RoutedLab() as lab:
        runs = crossing.both(lambda family: crossing.transfer(lab, family, folder))
    for family, run in runs.items():
        print(f"IPv{family}: {run.result['cycles']} cycles, gone after {run.gone:.1f} s")
        group = GROUPS[family]
        silent = (address("T", family), group)
        assert run.result["cycles"] <= 1.05
        assert run.result["lost"] == 0
        assert run.joined - {silent} == {(address("S", family), group)}
        assert run.other["packets"] == 0


def nothing_is_reported_without_a_source(folder: Path) -> None:
    """Groups that are source-specific need one; who does not say it joins nothing."""
    with RoutedLab(receivers=1) as lab:
        told = crossing.heard("S", 6)
        for group, options in ((GROUPS[6], ()), (GROUPS[4], ()), ("ff3e::1:2", told)):
            assert not crossing.refused(lab, folder, *options, group=group)
        # The same finds the report of a join that is right.
        group = ANY_SOURCE[6]
        with lab.capture("R1", match="ip6", keep=400) as capture:
            lab.recv("R1", folder / "any", "--timeout", "1", group=group).result(5)
        assert crossing.naming(capture, group)


def sources_of_one_host_do_not_meet(folder: Path) -> None:
    """Each receiver goes on hearing its sender when the routers ask again."""
    with RoutedLab(receivers=1, query=5) as lab:
        runs = crossing.both(lambda family: crossing.two_sources(lab, family, folder, 60))
    for family, run in runs.items():
        print(f"IPv{family}: {run.silence} s between packets at most")
        assert not any(result["lost"] for result in run.results)
        assert all(result["cycles"] <= 1.05 for result in run.results)


def faults_of_the_path_pass(folder: Path) -> None:
    """A switch port, an interface and the last router go and come; the receiver stays."""
    with RoutedLab(receivers=3) as lab:
        found = crossing.faults(lab, folder)
    print(found)
    assert all(one.during == 0 for seen in found.values() for one in seen.values())


def a_repairer_of_the_manifest_is_heard(folder: Path) -> None:
    """Receivers told of the sender only hear the repairer on their own LAN."""
    with RoutedLab(receivers=3) as lab:
        lab.loss(0.05, ["R1", "R3"])
        run = crossing.repaired(lab, 4, folder)
    print(f"{[result['cycles'] for result in run.results]} cycles")
    assert run.addresses == {address("P", 4)}
    assert all(result["cycles"] <= 1.5 for result in run.results)
    assert all(result["rdata"] for result in run.results)


def a_path_of_small_packets_is_named(folder: Path) -> None:
    """What does not fit a link behind a router is told to the receiver's user."""
    with RoutedLab(receivers=1) as lab:
        lab.ip("A", f"link set ab mtu {PATH_MTU}")
        warning, _ = crossing.too_large(lab, 6, folder)
    assert warning["packet_size"] == 1_500
    assert "--mtu 1280" in warning["warning"]


def a_standby_of_a_name_is_called_in(folder: Path) -> None:
    """Both servers that DNS has for a name die; the one of the next priority finishes."""
    source = random_file(folder / "source", 2)
    with RoutedLab() as lab, served(lab, folder, records("ST", "P")):
        senders = [crossing.sender(lab, node, 6, source, rate=RATE) for node in "STP"]
        receiver = named(lab, "R2", folder / "out", SERVICE)
        resolved = receiver.event("resolved")
        receiver.stored(0.3)
        for one in senders[:2]:
            one.stop()
        receiver.event("joined", lambda event: event["source"] == address("P"))
        result = crossing.ended(receiver)
    assert set(resolved["sources"]) == {address("S"), address("T")}
    assert set(resolved["standby"]) == {address("P")}
    assert result["per_source"].keys() == {address(node) for node in "STP"}
    assert (folder / "out").read_bytes() == source.read_bytes()


def a_channel_that_does_not_fit_is_left(folder: Path) -> None:
    """A link of 5 Mbit/s carries the second of three channels, and not the third."""
    source = random_file(folder / "source", 24)
    with RoutedLab(receivers=1) as lab:
        lab.rate("B", "5mbit")
        channels.send(lab, source, (1, 3, 8)).event("start")
        receiver = channels.receive(lab, "R1", folder / "out", "auto")
        receiver.event("rate", lambda event: event["channel"] == 1)
        receiver.event("trying", lambda event: event["channel"] == 2)
        left = receiver.event("left", lambda event: event["group"] == channels.group(2))
        chosen = receiver.event("rate", lambda event: event["at"] >= left["at"] - 1)
    assert chosen["channel"] == 1


def sites_do_as_the_recipe_says(folder: Path) -> None:
    """What the machines of a site lost is repaired there."""
    with RoutedLab(receivers=3) as lab:
        site = sites.supplied(lab, folder)
    print(f"{[result['cycles'] for result in site.results]} cycles")
    assert site.repairs == {address("P")}
    assert all(result["rdata"] for result in site.results)


CASES: dict[str, Callable[[Path], None]] = {
    case.__name__: case
    for case in (
        sources_of_one_host_do_not_meet,  # the longest
        joins_cross_routers,
        nothing_is_reported_without_a_source,
        faults_of_the_path_pass,
        a_repairer_of_the_manifest_is_heard,
        a_path_of_small_packets_is_named,
        a_standby_of_a_name_is_called_in,
        a_channel_that_does_not_fit_is_left,
        sites_do_as_the_recipe_says,
    )
}


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """All cases that are asked for, at the same time."""
    items = [item for item in request.session.items if item.path == request.path]
    chosen = [item.callspec.params["case"] for item in items if isinstance(item, pytest.Function)]
    with ThreadPoolExecutor(len(chosen)) as pool:
        yield {case: pool.submit(CASES[case], tmp_path_factory.mktemp(case)) for case in chosen}


@pytest.mark.parametrize("case", CASES)
def test_routed(case: str, running: dict[str, Future[None]]) -> None:
    # spec: NET-13, DNS-5, DNS-6
    if case in (a_standby_of_a_name_is_called_in.__name__, sites_do_as_the_recipe_says.__name__):
        dns_server.need()
    running[case].result()
