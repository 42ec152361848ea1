"""Networks that let too little through, and what receivers say of them."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support import lab as lab_module
from tests.support.lab import PLAIN, Lab, random_file, until

pytestmark = pytest.mark.lab


def test_a_path_for_small_packets_only_is_named_and_its_cure_works(tmp_path: Path) -> None:
    source = random_file(tmp_path / "source", 1)
    with Lab(receivers=2) as lab:
        lab.ip("R1", "link set eth0 mtu 1400")
        lab.ip("SW", "link set vR1 mtu 1400")
        other = lab.recv("R2", tmp_path / "other")
        receiver = lab.recv("R1", tmp_path / "out", "--timeout", "5")
        sender = lab.send("S", source)
        warning = receiver.event("warning", lambda event: event.get("cause") == "mtu")
        assert warning["packet_size"] == 1_500
        assert "--mtu 1280" in warning["warning"]
        result = receiver.result(code=5)
        assert "1500 bytes" in result["error"]
        assert result["lost"] + result["lost_unbelieved"] > 1_000
        assert other.result()["lost_unbelieved"] == 0
        assert not other.has("warning")
        sender.stop()
        receiver = lab.recv("R1", tmp_path / "out")
        lab.send("S", source, "--mtu", "1280")
        receiver.result()
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


SMALL_BUFFER = (
    "import pgmlite.net.receiver_socket as receiving; receiving.MAX_RECEIVE_BUFFER = 4 << 20; "
    "from pgmlite.cli import main; main()"
)


def test_packets_dropped_here_are_counted_as_packets(tmp_path: Path) -> None:
    """However many of them the system joins: all that is lost in this network is lost here."""
    source = random_file(tmp_path / "source", 32)
    with Lab(receivers=1, mode="offload") as lab:
        with patch.object(lab_module, "PGMLITE", (sys.executable, "-c", SMALL_BUFFER)):
            receiver = lab.recv("R1", tmp_path / "out")
        sender = lab.send("S", source, rate="200M")
        receiver.stored(0.02)
        receiver.popen.send_signal(signal.SIGSTOP)
        enough = sender.sent()[2] + 4 * (4 << 20)
        until(lambda: sender.sent()[2] > enough, "more was sent than the buffer takes")
        receiver.popen.send_signal(signal.SIGCONT)
        result = receiver.result()
    print(f"{result['lost']} lost, {result['kernel_drops']} of them dropped here")
    assert result["lost"] > 500
    assert 0.5 * result["lost"] <= result["kernel_drops"] <= 1.5 * result["lost"]
    warnings = [event for event in receiver.events if event["event"] == "warning"]
    # A call for the disk may have been what was stopped.
    assert [event["cause"] in {"buffer", "disk"} for event in warnings] == [True], warnings


def test_a_receiver_without_a_way_back_says_so_and_completes(tmp_path: Path) -> None:
    source = random_file(tmp_path / "source", 1)
    with Lab(receivers=1) as lab:
        lab.loss(0.05)
        out = "{ type filter hook output priority 0; }"
        refuse = "add rule inet shut output udp dport 28776 reject"
        lab.nft("R1", "add table inet shut", f"add chain inet shut output {out}", refuse)
        receiver = lab.recv("R1", tmp_path / "out")
        lab.send("S", source, *PLAIN, "--repair")
        result = receiver.result()
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert result["naks_unsent"] > 0
    assert [event["cause"] for event in receiver.events if event["event"] == "warning"] == ["nak"]
