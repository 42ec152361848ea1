"""A sender with two channels through real sockets: each is enough, and repairs come on its own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.lab import PGMLITE, PORT, Lab, random_file

pytestmark = pytest.mark.lab

SLOW, FAST = "ff15::7067:10", "ff15::7067:11"


def test_each_channel_alone_brings_all(tmp_path: Path) -> None:
    # spec: SND-13, FEC-4
    source = random_file(tmp_path / "source", 1)
    with Lab(receivers=3) as lab:
        lab.loss(0.02)
        places = {"R1": SLOW, "R2": FAST, "R3": FAST}
        receivers = {
            node: lab.recv(node, tmp_path / node, group=group) for node, group in places.items()
        }
        where = ["-p", str(PORT), "-i", "eth0", "--channel", f"{FAST},12M"]
        sender = lab.spawn(
            "S",
            *PGMLITE,
            "send",
            "--json",
            str(source),
            *where,
            "--channel",
            f"{SLOW},4M",
            "--repair",
        )
        ended = {node: process.result() for node, process in receivers.items()}
        sender.popen.send_signal(signal.SIGTERM)
        stopped = sender.result(6)
    start = sender.event("start")
    assert [(one["group"], one["rate"]) for one in start["channels"]] == [
        (SLOW, 4_000_000),
        (FAST, 12_000_000),
    ]
    for node, end in ended.items():
        assert (tmp_path / node).read_bytes() == source.read_bytes()
        # How soon is a matter of this machine, which decodes meanwhile.
        assert end["cycles"] <= 2
        assert end["oid"] == start["oid"]
    # What a channel repeats is little beside what it sends.
    assert stopped["rdata"] <= 0.2 * stopped["odata"]
