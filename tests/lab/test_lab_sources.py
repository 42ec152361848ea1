"""Source-specific groups on one link: who is heard, what is asked of the network, and repairs."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.lab import NAK_PORT, PGMLITE, Lab, random_file

pytestmark = pytest.mark.lab

GROUPS = {6: "ff3e::8000:1", 4: "232.70.67.1"}
S = {6: "fd01::1", 4: "10.9.0.1"}
R2 = {6: "fd01::12", 4: "10.9.0.12"}
SECOND = ("fd01::99/64", "10.9.0.99/24")
"""More addresses of S, so that it has to choose."""

REPORTS = "igmp or ip6[6] = 0"
"""MLD alone has a hop-by-hop header here."""


def packed(group: str) -> bytes:
    """Return an address as packets have it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in group else socket.AF_INET, group)


def test_a_receiver_hears_its_source_and_no_other(tmp_path: Path) -> None:
    # spec: NET-13, NET-16
    with Lab(receivers=2) as lab:
        # Before the first query: of an older version, it would have hosts speak that one.
        versions = "mcast_mld_version 2 mcast_igmp_version 3"
        for options in (versions, "mcast_snooping 1", "mcast_querier 1"):
            lab.ip("SW", f"link set br0 type bridge {options}")
        lab.ip("S", *(f"addr add {one} dev eth0" for one in SECOND))
        for node in ("S", "R2"):
            random_file(tmp_path / node, 1, seed=ord(node[0]))
        with lab.capture("R1", match=REPORTS, keep=512) as reports:
            receivers = {
                (family, node): lab.recv(
                    "R1",
                    tmp_path / f"{node}.{family}.out",
                    *("--source", where[family]),
                    group=group,
                    wait=False,
                )
                for family, group in GROUPS.items()
                for node, where in (("S", S), ("R2", R2))
            }
            for receiver in receivers.values():
                receiver.event("start")
            senders = [
                (
                    where[family],
                    lab.send(
                        node,
                        tmp_path / node,
                        *("--source", where[family]),
                        rate="10M",
                        group=group,
                    ),
                )
                for family, group in GROUPS.items()
                for node, where in (("S", S), ("R2", R2))
            ]
            for address, sender in senders:
                assert sender.event("start")["source"] == address
                assert sender.event("warning")["cause"] == "hops"
            for (family, node), receiver in receivers.items():
                result = receiver.result()
                where = S if node == "S" else R2
                assert result["per_source"].keys() == {where[family]}
                assert result["cycles"] < 1.1
                out = tmp_path / f"{node}.{family}.out"
                assert out.read_bytes() == (tmp_path / node).read_bytes()
    for family, group in GROUPS.items():
        asked = [frame for _, frame in reports.frames if packed(group) in frame]
        for where in (S, R2):
            assert any(packed(where[family]) in frame for frame in asked)


def test_nothing_is_asked_of_the_network_without_a_source(tmp_path: Path) -> None:
    # spec: NET-14
    source = random_file(tmp_path / "source", 1)
    with Lab(receivers=1) as lab, lab.capture("R1", match=REPORTS, keep=512) as reports:
        for group in GROUPS.values():
            for verb in (("recv", "-o", str(tmp_path / "out")), ("repair", str(source))):
                command = lab.inside("R1", *PGMLITE, *verb, "-g", group, "-i", "eth0")
                done = subprocess.run(command, capture_output=True, text=True, timeout=30)
                assert done.returncode == 2
                named = f"group {group}: is source-specific: name the sender with --source"
                assert done.stderr == f"pgmlite: {named}\n"
        # What is asked for is seen.
        receiver = lab.recv("R1", tmp_path / "out", "--source", S[6], group=GROUPS[6])
        receiver.event("progress")
    asked = [frame for _, frame in reports.frames if packed(GROUPS[6]) in frame]
    assert asked
    assert all(packed(S[6]) in frame for frame in asked)
    assert not [frame for _, frame in reports.frames if packed(GROUPS[4]) in frame]


def test_the_repairer_of_the_manifest_is_heard(tmp_path: Path) -> None:
    # spec: NET-13
    source, group = random_file(tmp_path / "source", 8), GROUPS[6]
    with Lab(receivers=2) as lab:
        lab.loss(0.05, ["R1"])
        repairer = lab.repair("R2", source, "--source", S[6], group=group)
        receiver = lab.recv("R1", tmp_path / "out", "--source", S[6], group=group)
        named = f"[{R2[6]}]:{NAK_PORT}"
        options = ("--fec", "off", "--order", "blocks", "--repairer", named)
        lab.send("S", source, *options, rate="40M", group=group)
        assert repairer.event("start")["sources"] == [S[6]]
        result = receiver.result()
    joined = [event["source"] for event in receiver.events if event["event"] == "joined"]
    assert joined == [S[6], R2[6]]
    left = {
        event["source"]: event["reason"] for event in receiver.events if event["event"] == "left"
    }
    assert left == {S[6]: "end", R2[6]: "end"}
    assert result["rdata"] > 0
    # Besides what is sent again: SPMs, and the announcements of it.
    assert result["per_source"][R2[6]] >= result["rdata"]
    assert result["cycles"] < 2
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
