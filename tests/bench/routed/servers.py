"""Several servers that add up, and those that DNS names: knot serves on router B."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.routed.figures import Figure, at_most, equal, routed
from tests.support.crossing import ended, heard, sender, stopped
from tests.support.dns_server import BROKEN, ZONE
from tests.support.lab import PORT, random_file, until
from tests.support.routed import GROUPS, RoutedLab, address
from tests.support.services import RATE, SERVICE, named, records, served

SIZE = 4
"""MiB."""

SILENCE = 15
"""Seconds of it within which a standby is joined."""


def timed(
    lab: RoutedLab, folder: Path, source: Path, servers: dict[str, tuple[str, ...]], *whom: str
) -> dict[str, Any]:
    """Return the end of a receiver on R1 for which servers send, each with its options."""
    out = folder / "out"
    out.unlink(missing_ok=True)
    receiver = lab.recv("R1", out, *whom, group=GROUPS[6])
    senders = [
        sender(lab, node, 6, source, *options, rate=RATE) for node, options in servers.items()
    ]
    for process in (receiver, *senders):
        process.hurry()
    result = ended(receiver)
    assert out.read_bytes() == source.read_bytes()
    for one in senders:
        stopped(one)
    return result


def adding(runs: int) -> Iterator[Figure]:
    """Yield the time with two senders over that with one."""
    alone, both = heard("S", 6), (*heard("S", 6), *heard("T", 6))
    with routed(1) as (lab, folder):
        source = random_file(folder / "source", SIZE)
        one = timed(lab, folder, source, {"S": ()}, *alone)["transfer_seconds"]
        parts = {node: ("--start", f"{part}/2") for part, node in enumerate("ST")}
        seen = timed(lab, folder, source, parts, *both)["transfer_seconds"] / one
        yield at_most("0/2 and 1/2", seen, 0.55)
        for limit, more in ((0.68, ()), (0.63, ("--fec", "100%"))):
            options = ("--start", "random", *more)
            shares = [
                timed(lab, folder, source, {"S": options, "T": options}, *both)["transfer_seconds"]
                / one
                for _ in range(runs)
            ]
            what = f"{' '.join(options)}, mean of {runs}, worst {max(shares):.3f}"
            yield at_most(what, statistics.mean(shares), limit)


def names(_runs: int) -> Iterator[Figure]:
    """Yield the time with two servers of a name over that with one; and one of them is killed."""
    with routed(2) as (lab, folder), served(lab, folder, records("ST")):
        source = random_file(folder / "source", SIZE)
        alone = timed(lab, folder, source, {"S": ()}, *heard("S", 6))["transfer_seconds"]
        receiver = named(lab, "R1", folder / "both", SERVICE)
        resolved = receiver.event("resolved")
        yield equal("sources", set(resolved["sources"]), {address("S"), address("T")})
        senders = {
            node: sender(lab, node, 6, source, "--start", f"{part}/2", rate=RATE)
            for part, node in enumerate("ST")
        }
        for process in (receiver, *senders.values()):
            process.hurry()
        result = ended(receiver)
        yield at_most("time with two", result["transfer_seconds"] / alone, 0.55)
        yield equal("servers heard", set(result["per_source"]), set(resolved["sources"]))
        receiver = named(lab, "R2", folder / "one", SERVICE)
        receiver.stored(0.2)
        senders["T"].stop()
        ended(receiver)
        yield Figure("complete after one was killed", receiver.popen.returncode, True)


def standby(_runs: int) -> Iterator[Figure]:
    """Yield when the standby was joined after both servers were killed, and how it ended."""
    with routed(2) as (lab, folder), served(lab, folder, records("ST", "P")):
        source = random_file(folder / "source", SIZE)
        senders = [sender(lab, node, 6, source, rate=RATE) for node in "STP"]
        receiver = named(lab, "R2", folder / "out", SERVICE)
        receiver.stored(0.2)
        for one in senders[:2]:
            one.stop()
        killed = time.monotonic()
        joined = receiver.event("joined", lambda event: event["source"] == address("P"))
        yield at_most("s until the standby is joined", joined["at"] - killed, SILENCE)
        ended(receiver)
        yield Figure("complete", receiver.popen.returncode, True)


MANY = 40
TEXT = f'TXT "txtvers=1" "c0={GROUPS[6]},{RATE}"'
CASES = "\n".join(
    [
        f"s1 AAAA {address('S')}",
        "_pgmlite._udp.alias CNAME _pgmlite._udp.fw",
        f"_pgmlite._udp.fw {TEXT}",
        f"_pgmlite._udp.fw SRV 0 0 {PORT} s1",
        f"_pgmlite._udp.many {TEXT}",
        *(f"_pgmlite._udp.many SRV 0 0 {PORT} m{number}" for number in range(MANY)),
        *(f"m{number} AAAA fd0a::4:{number}" for number in range(MANY)),
        "_pgmlite._udp.off SRV 0 0 0 .",
        '_pgmlite._udp.nodata TXT "txtvers=1"',
        "",
    ]
)

WANTED = {
    "fw": "resolved",
    "alias": "resolved",
    "many": "resolved",
    "off": 3,
    "nothing": 5,
    "nodata": 5,
    "broken": 5,
}
"""What comes of a name within a few seconds: an event, or an exit code."""


def answers(_runs: int) -> Iterator[Figure]:
    """Yield what becomes of names with unusual records, or none."""
    with routed(2) as (lab, folder), served(lab, folder, CASES):
        for name, wanted in WANTED.items():
            out = folder / name
            where = BROKEN if name == "broken" else f"{name}.{ZONE}"
            receiver = named(lab, "R1", out, where, "--timeout", "6")
            until(lambda process=receiver: process.popen.poll() is not None, "it ends")
            events = {event["event"]: event for event in receiver.events}
            seen = wanted if wanted in events else receiver.popen.returncode
            said = [event["warning"] for event in receiver.events if event["event"] == "warning"]
            last = receiver.events[-1].get("error") or receiver.events[-1].get("reason")
            yield equal(f"{name}: {said}, {last}", seen, wanted)
            if name == "many":
                yield equal("sources of many", len(events["resolved"]["sources"]), MANY)
        # The first server is dead: nothing listens on A.
        lab.resolve("R2", address("A"), address("B"))
        receiver = named(lab, "R2", folder / "dead", SERVICE, "--timeout", "12")
        yield equal("first server dead", receiver.event("resolved")["name"], SERVICE)
