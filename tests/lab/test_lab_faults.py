"""What goes wrong in networks: senders and links that come and go, packets that mean harm."""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.lab import GROUPS, PGMLITE, PLAIN, PORT, Lab, Process, random_file, until

pytestmark = pytest.mark.lab

REJOIN_AFTER = 5.0
"""Seconds of silence after which a receiver joins its group anew."""


def test_sender_killed_and_started_again(tmp_path: Path) -> None:
    source = random_file(tmp_path / "source", 8)
    with Lab(receivers=1) as lab:
        receiver = lab.recv("R1", tmp_path / "out")
        sender = lab.send("S", source, "--start", "0/2", rate="20M")
        # What the other one begins with, source and repairs, is three quarters of what is needed.
        receiver.stored(0.3)
        sender.stop()
        time.sleep(REJOIN_AFTER + 0.5)
        last = receiver.events[-1]
        assert last["event"] == "progress"
        # The other half first, so that one cycle is enough if what came before is still there.
        lab.send("S", source, "--start", "1/2", rate="20M")
        result = receiver.result()
    print(f"{last['stored']} of {last['symbols']} before, {result['fetched']} fetched in all")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert not receiver.has("superseded")
    # Not its cycles: they go on while a busy machine decodes.
    assert result["fetched"] <= 1.03 * last["symbols"]


FORGE = """
import socket, struct, sys
from scapy.all import IPv6, UDP, ICMPv6DestUnreach, ICMPv6PacketTooBig, send
ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
ear.bind((sys.argv[1], int(sys.argv[2])))
index = socket.if_nametoindex("eth0")
join = socket.inet_pton(socket.AF_INET6, sys.argv[1]) + struct.pack("@I", index)
ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, join)
_, (address, port, *_) = ear.recvfrom(65536)
quoted = IPv6(src=address, dst=sys.argv[1]) / UDP(sport=port, dport=int(sys.argv[2]))
for error in (ICMPv6DestUnreach(code=4), ICMPv6DestUnreach(code=1), ICMPv6PacketTooBig(mtu=1280)):
    send(IPv6(dst=address) / error / quoted, count=20, iface="eth0", inter=0.01, verbose=False)
"""


def test_forged_icmp_messages_do_not_stop_a_sender(tmp_path: Path) -> None:
    # spec: SND-2, SND-10
    source = random_file(tmp_path / "source", 16)
    with Lab(receivers=1) as lab:
        sender = lab.send("S", source, rate="30M")
        sender.event("progress")
        lab.run("R1", sys.executable, "-c", FORGE, GROUPS[6], str(PORT))
        before = lab.sh("S", "cat /proc/net/snmp6")
        assert "Icmp6InDestUnreachs" in before
        assert "Icmp6InDestUnreachs             \t0" not in before.expandtabs(32)
        receiver = lab.recv("R1", tmp_path / "out")
        result = receiver.result()
        warnings = [event["warning"] for event in sender.events if event["event"] == "warning"]
        assert not [one for one in warnings if "trying on" in one]
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert result["lost"] <= 0.001 * result["packets"]


OUTAGE = 1.2
"""Seconds: time for one report of a receiver, at least, that nothing comes."""


def interrupt(lab: Lab, node: str, fault: str) -> None:
    """Take the link of a node away for a moment."""
    if fault == "replaced":
        lab.ip(node, "link del eth0")
        time.sleep(OUTAGE)
        lab.plug(node, 20)
        return
    lab.link(node, "down")
    time.sleep(OUTAGE)
    if fault == "renumbered":
        lab.ip(node, "addr flush dev eth0", "addr add 10.9.0.30/24 dev eth0")
    lab.link(node, "up")


def reported(receiver: Process) -> int:
    """Return how many packets a receiver has reported."""
    return max(event.get("packets", 0) for event in list(receiver.events))


def wait_for_more(receiver: Process, what: str) -> None:
    """Wait until a receiver reports more packets than now."""
    seen = reported(receiver)
    until(lambda: reported(receiver) > seen or receiver.has("complete"), what)


# So slow that the faults all come within the first cycle.
@pytest.mark.parametrize(
    ("node", "rate", "faults"),
    [("S", "10M", ("down", "renumbered", "replaced")), ("R1", "20M", ("down", "replaced"))],
)
def test_link_goes_and_comes_back(
    tmp_path: Path, node: str, rate: str, faults: tuple[str, ...]
) -> None:
    source = random_file(tmp_path / "source", 6)
    with Lab(receivers=1) as lab:
        outputs = {family: tmp_path / str(family) for family in GROUPS}
        receivers = {
            family: lab.recv("R1", output, group=GROUPS[family])
            for family, output in outputs.items()
        }
        senders = [lab.send("S", source, rate=rate, group=group) for group in GROUPS.values()]
        for receiver in receivers.values():
            receiver.stored(0)
        for fault in faults:
            interrupt(lab, node, fault)
            for family, receiver in receivers.items():
                wait_for_more(receiver, f"packets of IPv{family} after it was {fault}")
        for family, receiver in receivers.items():
            result = receiver.result()
            print(f"IPv{family}: {result['cycles']} cycles, {result['lost']} lost")
            assert outputs[family].read_bytes() == source.read_bytes()
        if node == "S":
            for sender in senders:
                sender.event("warning", lambda event: "trying on" in event["warning"])
                sender.event("warning", lambda event: "sending again" in event["warning"])


def hostile_packets(real: list[bytes], count: int, rng: Random) -> Iterator[bytes]:
    """Yield `count` packets of which few are valid."""
    for number in range(count):
        packet = rng.choice(real)
        match number % 4:
            case 0:
                yield rng.randbytes(rng.randrange(1_460))
            case 1:
                yield packet[: rng.randrange(len(packet))]
            case 2:
                flipped = bytearray(packet)
                # Half of them in the header, which few of all bits belong to.
                for _ in range(rng.randint(1, 3)):
                    place = rng.randrange(rng.choice((48, len(packet))))
                    flipped[place] ^= 1 << rng.randrange(8)
                yield bytes(flipped)
            case _ if number % 20 == 3:
                yield packet + rng.randbytes(rng.randrange(1, 60_000))
            case _:
                yield packet[:8] + rng.randbytes(40) + packet[48:]


def attack(group: str, count: int) -> None:
    """Listen to `group`, then send it `count` hostile packets in bursts; runs on a node."""
    rng = Random(1)
    index = socket.if_nametoindex("eth0")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.settimeout(30)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as ears:
            ears.bind((group, PORT, 0, index))
            membership = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
            ears.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
            ears.settimeout(30)
            real = [ears.recv(65_535) for _ in range(1_000)]
        for number, packet in enumerate(hostile_packets(real, count, rng)):
            sock.sendto(packet, (group, PORT, 0, index))
            if number % 100 == 99:
                time.sleep(0.01)
        print(json.dumps({"event": "done"}), flush=True)


@pytest.fixture(scope="module")
def under_attack(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the last events of two receivers that were attacked, and if their files are equal."""
    folder = tmp_path_factory.mktemp("attack")
    source = random_file(folder / "source", 12)
    code = f"import {__name__} as here; here.attack({GROUPS[6]!r}, 20_000)"
    with Lab(receivers=3) as lab:
        early = lab.recv("R1", folder / "early")
        lab.send("S", source, rate="40M")
        attacker = lab.spawn("R3", sys.executable, "-c", code)
        # This one has nothing yet of what the attacker sends with flipped bits.
        late = lab.recv("R2", folder / "late", wait=False)
        attacker.event("done")
        results = [early.result(), late.result()]
    for result in results:
        result["equal"] = Path(result["path"]).read_bytes() == source.read_bytes()
    return results


def test_bad_packets_are_refused_by_name(under_attack: list[dict[str, Any]]) -> None:
    for result in under_attack:
        print(result)
        assert result["equal"]
        refused = result["refused"]
        assert {"magic", "short", "object", "length", "offset"} <= set(refused)
        assert all(count > 0 for count in refused.values())


def test_bad_packets_do_not_spoil_the_figures(under_attack: list[dict[str, Any]]) -> None:
    for result in under_attack:
        # 20 000 packets can't make more gaps than that, and only the sender's make cycles.
        assert result["lost"] <= 20_000
        assert result["cycles"] <= 10


def test_unusable_interfaces_are_named(tmp_path: Path) -> None:
    source = random_file(tmp_path / "source", 1)
    # Each has an output of its own: two receivers of one would refuse each other.
    outputs = (str(tmp_path / f"out {number}") for number in range(4))
    with Lab(receivers=0) as lab:
        lab.ip("S", "link add bare0 type bridge", "link set bare0 addrgenmode none")
        lab.link("S", "up", "bare0")
        processes = {
            (interface, family, words[0]): lab.spawn(
                "S", *PGMLITE, *words, "-g", GROUPS[family], "-i", interface
            )
            for interface in ("bare0", "nowhere0")
            for family in GROUPS
            for words in (("send", str(source)), ("recv", "-o", next(outputs)))
        }
        for (interface, family, _), process in processes.items():
            process.result(code=3)
            assert process.stderr.count("\n") == 1, process.stderr
            assert f"interface {interface}: " in process.stderr
            if interface == "bare0":
                assert f"no IPv{family} address" in process.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("node", ["S", "R1"])
def test_repairs_go_on_after_an_interface_was_replaced(tmp_path: Path, node: str) -> None:
    # spec: NET-7, NET-9
    source = random_file(tmp_path / "source", 16)
    with Lab(receivers=1) as lab:
        lab.loss(0.05)
        sender = lab.send("S", source, *PLAIN, "--repair", rate="30M")
        receiver = lab.recv("R1", tmp_path / "out")
        receiver.stored(0.1)
        interrupt(lab, node, "replaced")
        time.sleep(1.1)
        before = sender.events[-1]["naks_received"]
        result = receiver.result()
        until(lambda: sender.events[-1]["naks_received"] > before + 5, "NAKs again")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    print(f"{before} NAKs before, {result['naks_sent']} sent in all; {result['cycles']} cycles")
