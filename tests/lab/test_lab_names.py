"""Senders that DNS names: they add up, and when they fall silent a standby is called in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dns_server import DnsServer, need
from tests.support.lab import PGMLITE, PORT, Lab, random_file

pytestmark = pytest.mark.lab

GROUP = "ff3e::8000:1"
S, R1, R2, DNS = "fd01::1", "fd01::11", "fd01::12", "fd01::14"
ZONE = f"""
_pgmlite._udp.fw SRV 0 0 {PORT} s
_pgmlite._udp.fw SRV 0 0 {PORT} r1
_pgmlite._udp.fw SRV 10 0 {PORT} r2
_pgmlite._udp.fw TXT "txtvers=1" "c0={GROUP},10M"
s AAAA {S}
r1 AAAA {R1}
r2 AAAA {R2}
"""


def test_a_standby_takes_over_from_senders_that_fell_silent(tmp_path: Path) -> None:
    # spec: DNS-5, DNS-6
    need()
    file, copy = random_file(tmp_path / "file", 8), tmp_path / "copy"
    with (
        Lab(receivers=4) as lab,
        DnsServer(tmp_path / "knot", ZONE, address=DNS, port=53, inside=lab.inside("R4")) as _,
    ):
        lab.resolve_at("R3", DNS)
        plan = {"S": ("0/2", "4M"), "R1": ("1/2", "4M"), "R2": ("0/1", "20M")}
        senders = {
            node: lab.send(node, file, "--start", share, rate=rate, group=GROUP)
            for node, (share, rate) in plan.items()
        }
        for sender in senders.values():
            sender.event("start")
        began = ("recv", "fw.example.org", "--json", "-i", "eth0", "-o", str(copy))
        receiver = lab.spawn("R3", *PGMLITE, *began)

        def state(address: str, name: str) -> float:
            """Return when a source was in a state."""
            wanted = {"address": address, "state": name}
            found = receiver.event("source", lambda e: wanted.items() <= e.items())
            return float(found["at"])

        told = receiver.event("resolved")
        assert (set(told["sources"]), told["standby"]) == ({S, R1}, [R2])
        for address in (S, R1):
            state(address, "heard")
        senders["R1"].stop()
        before = len(receiver.events)
        receiver.event("progress", lambda e: e in receiver.events[before + 1 :])
        senders["S"].stop()
        silent = max(state(S, "silent"), state(R1, "silent"))
        assert state(R2, "standby") - silent < 10, "15 s after they were heard last"
        result = receiver.result()
    assert copy.read_bytes() == file.read_bytes()
    assert result["per_source"].keys() == {S, R1, R2}
    assert result["duplicates"] < result["symbols"] / 2
