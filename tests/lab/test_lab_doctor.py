"""What `doctor` says in networks that are broken in one way each, and whether its advice helps.

Four networks with a sender each; in each of their machines something else is wrong. All are looked
at side by side, then again with the advice taken.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import GROUPS, PGMLITE, Lab, Process, random_file

pytestmark = pytest.mark.lab

SSM = "ff3e::8000:1"
SECONDS = "3"
S = {6: "fd01::1", 4: "10.9.0.1"}


@dataclass(frozen=True)
class Report:
    """What one run printed, and its exit code."""

    code: int
    events: list[dict[str, Any]]
    stderr: str

    def of(self, state: str) -> list[dict[str, Any]]:
        """Return the results in a state."""
        return [one for one in self.events if one["event"] == "check" and one["state"] == state]

    def about(self, cause: str) -> dict[str, Any]:
        """Return the last that was found of a cause."""
        return [one for one in self.events if one.get("cause") == cause][-1]

    def options(self, cause: str) -> list[str]:
        """Return the options that are advised."""
        found = re.search(r"(?:--?[a-z]+ \S+ ?)+", self.about(cause)["advice"])
        return found[0].split() if found else []


def report(process: Process) -> Report:
    """Wait for the end of a run."""
    process.popen.wait(60)
    last = process.result(process.popen.returncode)
    assert last["event"] == "examined", str(process)
    return Report(process.popen.returncode, process.events, process.stderr)


def doctor(
    lab: Lab, node: str, *options: str, seconds: str = SECONDS, user: tuple[str, ...] = ()
) -> Process:
    """Start `doctor` on a node."""
    return lab.spawn(node, *user, *PGMLITE, "doctor", "--json", "--seconds", seconds, *options)


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
"""Runs a command without any rights."""


def sysctl(lab: Lab, node: str, name: str, value: int) -> None:
    lab.sh(node, f"echo {value} > /proc/sys/net/{name}")


def second_interface(lab: Lab, node: str) -> None:
    """Give a node an interface that leads nowhere."""
    lines = ["link add eth1 type veth peer name far", "link set eth1 up", "link set far up"]
    lab.ip(node, *lines, "addr add 10.7.0.1/24 dev eth1", "addr add fd07::1/64 dev eth1 nodad")


NFT_TABLE = ("add table inet fw", "add chain inet fw in { type filter hook input priority 0; }")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Report]]:
    source = random_file(tmp_path_factory.mktemp("doctor") / "source.bin", 1)
    with ExitStack() as opened:
        six = opened.enter_context(Lab(receivers=5))
        four = opened.enter_context(Lab(receivers=3))
        ssm = opened.enter_context(Lab(receivers=3))
        left = opened.enter_context(Lab(receivers=1))
        yield _examine(six, four, ssm, left, source)


def _examine(six: Lab, four: Lab, ssm: Lab, left: Lab, source: Path) -> dict[str, Report]:
    senders = [
        six.send("S", source, group=GROUPS[6], rate="5M"),
        four.send("S", source, group=GROUPS[4], rate="5M"),
        ssm.send("S", source, group=SSM, rate="5M"),
        left.send("S", source, group=GROUPS[6], rate="5M"),
    ]
    second_interface(six, "R2")
    six.nft("R4", *NFT_TABLE, "add rule inet fw in udp dport 28775 drop")
    six.drop("oifname vR5 meta length > 1400")
    second_interface(four, "R2")
    four.ip("R2", f"route add {S[4]}/32 dev eth1")
    sysctl(four, "R2", "ipv4/conf/eth0/rp_filter", 1)
    sysctl(ssm, "R3", "ipv6/conf/eth0/force_mld_version", 1)
    for sender in senders:
        sender.event("progress")
    g6, g4 = ("-g", GROUPS[6], "-i", "eth0"), ("-g", GROUPS[4], "-i", "eth0")
    gs, no = ("-g", SSM, "-i", "eth0"), ("-g", "ff3e::8000:2", "-i", "eth0")
    first = {
        "healthy": doctor(six, "R1", *g6),
        "interface": doctor(six, "R2", "-g", GROUPS[6], "-i", "eth1"),
        "unseen": doctor(six, "R2", "-g", GROUPS[6], "-i", "eth1", user=NOBODY),
        "group": doctor(six, "R3", "-g", "ff15::7067:99", "-i", "eth0"),
        "family": doctor(six, "R3", *g4),
        "nft": doctor(six, "R4", *g6),
        "mtu": doctor(six, "R5", *g6, seconds="6"),
        "rp_filter": doctor(four, "R2", *g4),
        "family4": doctor(four, "R3", *g6),
        "no source": doctor(ssm, "R1", *gs),
        "other source": doctor(ssm, "R2", *gs, "--source", "fd01::99"),
        "mld": doctor(ssm, "R3", *no, "--source", S[6]),
        "going": doctor(left, "R1", *g6, seconds="6"),
    }
    first["going"].event("check", lambda one: one["cause"] == "group")
    # It listens now, and soon hears the sender; then the sender dies.
    end = time.monotonic() + 1.5
    senders[3].event("progress", lambda one: one["at"] > end)
    senders[3].stop()
    found = {name: report(process) for name, process in first.items()}
    six.sh("R4", found["nft"].about("firewall")["command"])
    four.sh("R2", found["rp_filter"].about("rp_filter")["command"])
    ssm.sh("R3", found["mld"].about("mld")["command"])
    again = {
        "interface": doctor(six, "R2", "-g", GROUPS[6], *found["interface"].options("interface")),
        "group": doctor(six, "R3", "-i", "eth0", *found["group"].options("group")),
        "nft": doctor(six, "R4", *g6),
        "rp_filter": doctor(four, "R2", *g4),
        "no source": doctor(ssm, "R1", *gs, *found["no source"].options("source")),
        "mld": doctor(ssm, "R3", *gs, "--source", S[6]),
    }
    gone = doctor(left, "R1", *g6)
    found |= {f"{name}, mended": report(process) for name, process in again.items()}
    return found | {"gone": report(gone)}


@pytest.mark.parametrize(("name", "source"), [("healthy", S[6]), ("rp_filter, mended", S[4])])
def test_where_all_is_well_data_arrives(reports: dict[str, Report], name: str, source: str) -> None:
    healthy = reports[name]
    assert (healthy.code, healthy.of("fail")) == (0, [])
    assert re.match(
        rf"source\.bin, 1\.0 MiB, object .*, comes from {source} ", healthy.about("data")["text"]
    )


MENDED = ["interface", "group", "nft", "rp_filter", "no source", "mld"]


@pytest.mark.parametrize("name", MENDED)
def test_the_advice_mends_it(reports: dict[str, Report], name: str) -> None:
    mended = reports[f"{name}, mended"]
    assert (mended.code, mended.of("fail")) == (0, [])


@pytest.mark.parametrize(
    ("name", "cause", "text", "advice"),
    [
        ("interface", "interface", "comes in by eth0, from fd01::1", "-i eth0"),
        ("unseen", "interface", "comes in by eth0, from fd01::1", "-i eth0"),
        ("group", "group", rf"source\.bin.* is sent to \[{GROUPS[6]}\]", f"-g {GROUPS[6]}"),
        ("family", "family", "that is IPv6", f"-g {GROUPS[6]}"),
        ("family4", "family", "that is IPv4", f"-g {GROUPS[4]}"),
        ("nft", "firewall", r"rule \d+ of chain inet fw in drops UDP", "let it in"),
        ("mtu", "mtu", r"packets of 1500 bytes do not get through", "--mtu 1280"),
        ("rp_filter", "rp_filter", f"way back to {S[4]} leads by eth1: the strict", "by eth0"),
        ("no source", "source", "packets of fd01::1 come to eth0", "--source fd01::1"),
        ("other source", "source", "--source names others", "--source fd01::1"),
        ("gone", "silence", "nothing came to .* in 3 s", "is the sender running"),
        ("going", "silence", "came from fd01::1, and nothing for the last", "has ended"),
    ],
)
def test_the_cause_is_named(
    reports: dict[str, Report], name: str, cause: str, text: str, advice: str
) -> None:
    broken = reports[name]
    assert broken.code == 5
    last = broken.about(cause)
    assert re.search(text, last["text"])
    assert advice in last["advice"]
    assert broken.stderr.endswith(f"pgmlite: {broken.events[-1]['error']}\n")
    assert cause in broken.events[-1]["error"]


def test_a_forced_version_is_named(reports: dict[str, Report]) -> None:
    forced = reports["mld"].about("mld")
    assert (reports["mld"].code, forced["state"]) == (5, "fail")
    assert "MLDv1 is forced on eth0" in forced["text"]
    assert forced["command"].endswith("/force_mld_version=0")
