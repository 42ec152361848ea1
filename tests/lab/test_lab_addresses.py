"""Links, addresses, filters and MTUs that change under a sender, and what receivers make of it."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.lab import (
    ETHERNET_HEADER,
    GROUPS,
    PLAIN,
    PORT,
    Capture,
    Lab,
    Process,
    random_file,
    until,
)

pytestmark = pytest.mark.lab

IP_HEADER = {6: 40, 4: 20}
OUTAGE = 0.5
"""Seconds."""

SLOW = "5M"
"""So slow that an outage is less than half a block, even if this machine is busy."""

ADDRESSES = {"S": "fd01::1", "R2": "fd01::12"}
IPV4 = {"S": "10.9.0.1", "R2": "10.9.0.12"}
"""What nodes had before a test took it from them."""

OTHER_GROUP = "ff15::7067:2"


def places(capture: Capture, family: int) -> list[tuple[str, int]]:
    """Return the source addresses and ports of captured packets, in the order they came up."""
    found: dict[tuple[str, int], None] = {}
    for _, frame in capture.frames:
        packet = frame[ETHERNET_HEADER:]
        raw = packet[8:24] if family == 6 else packet[12:16]
        port = int.from_bytes(packet[IP_HEADER[family] :][:2])
        found[str(ipaddress.ip_address(raw)), port] = None
    return list(found)


def warned(process: Process, text: str) -> None:
    """Wait for a warning."""
    process.event("warning", lambda event: text in event["warning"])


def has_warned(process: Process, text: str) -> bool:
    """Return whether a warning came."""
    return any(text in event.get("warning", "") for event in list(process.events))


def latest(process: Process, counter: str) -> int:
    """Return a counter as a process reported it last."""
    return max(event.get(counter, 0) for event in list(process.events))


def stopped(process: Process) -> dict[str, int]:
    """End a sender or repairer by a signal; return its counters."""
    process.popen.terminate()
    return process.result(6)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three blocks."""
    return random_file(tmp_path_factory.mktemp("addresses") / "source", 4)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab that each test leaves as it was."""
    with Lab(receivers=2) as shared:
        yield shared


Transfer = Callable[..., tuple[Process, Process]]


@pytest.fixture
def transfer(lab: Lab, source: Path, tmp_path: Path) -> Iterator[Transfer]:
    """Start transfers; return the sender and the receiver, which has a tenth of the object."""
    started: list[Process] = []

    def start(
        *options: str, group: str = GROUPS[6], rate: str = "8M", told: tuple[str, ...] = ()
    ) -> tuple[Process, Process]:
        receiver = lab.recv("R1", tmp_path / f"out{len(started)}", *told, group=group)
        sender = lab.send("S", source, *PLAIN, *options, rate=rate, group=group)
        started.extend((sender, receiver))
        sender.event("start")
        receiver.stored(0.1)
        return sender, receiver

    yield start
    for process in started:
        process.stop()
    for node, address in ADDRESSES.items():
        lab.ip(node, "addr flush dev eth0 scope global", f"addr add {address}/64 dev eth0 nodad")
        lab.ip(node, f"addr add {IPV4[node]}/24 brd + dev eth0")


def check(source: Path, receiver: Process) -> dict[str, int]:
    """Wait for a receiver to be done, with the right bytes; return its counters."""
    result = receiver.result()
    assert Path(result["path"]).read_bytes() == source.read_bytes()
    print({key: result[key] for key in ("cycles", "lost", "naks_sent", "rdata")})
    return result


@pytest.fixture
def refusing(lab: Lab) -> Iterator[Callable[[str], None]]:
    """Let S refuse some of what it sends to the group."""
    lab.nft("S", "add table inet own")

    def refuse(match: str) -> None:
        hook = "{ type filter hook output priority 0; }"
        rule = f"add rule inet own out udp dport {PORT} {match} drop"
        lab.nft("S", f"add chain inet own out {hook}", rule)

    yield refuse
    lab.nft("S", "delete table inet own")


@pytest.mark.parametrize("way", ["down", "unplugged"])
def test_a_session_outlives_its_link(lab: Lab, transfer: Transfer, source: Path, way: str) -> None:
    # spec: SND-10, SND-12
    with lab.capture("SW", "vR1") as capture:
        rate = SLOW if way == "unplugged" else "8M"
        sender, receiver = transfer("--repair", group=GROUPS[4], rate=rate)
        node, interface = ("S", "eth0") if way == "down" else ("SW", "vS")
        lab.link(node, "down", interface)
        time.sleep(OUTAGE)
        lab.link(node, "up", interface)
        result = check(source, receiver)
        stopped(sender)
    ((address, _),) = places(capture, 4)
    assert address == "10.9.0.1"
    # A sender without a link stands still. What leaves for a cable that is not there is lost: it
    # is counted and repaired, for it is one session.
    assert result["cycles"] <= 1.1
    if way == "unplugged":
        assert result["lost"] > 20
        assert result["rdata"] > 20
    else:
        assert has_warned(sender, "trying on")
        assert has_warned(sender, "sending again after")
        assert not has_warned(sender, "session")


def test_a_filter_that_refuses_a_twentieth(
    lab: Lab, transfer: Transfer, source: Path, refusing: Callable[[str], None]
) -> None:
    # spec: SND-11
    # Two in a row: what is refused is tried once more.
    refusing("numgen inc mod 20 < 2")
    with lab.capture("SW", "vR1") as capture:
        sender, receiver = transfer("--repair", rate=SLOW)
        result = check(source, receiver)
        counters = stopped(sender)
    assert counters["unsent"] > 0.02 * counters["packets"]
    assert result["lost"] > 0.02 * result["packets"]
    assert result["rdata"] > 0
    assert result["cycles"] <= 1.05
    said = [event for event in sender.events if "filter" in event.get("warning", "")]
    assert len(said) == 1
    assert len(places(capture, 6)) == 1


def test_a_filter_that_refuses_all(lab: Lab, source: Path, refusing: Callable[[str], None]) -> None:
    # spec: SND-11
    refusing("")
    for limit in (("--cycles", "1"), ("--duration", "0.5")):
        sender = lab.send("S", source, *limit, rate="200M")
        last = sender.result(code=3)
        assert "nothing could be sent" in last["reason"]
        assert "Operation not permitted" in last["reason"]
        assert last["unsent"] == last["packets"] > 0


def test_an_mtu_that_is_lowered(lab: Lab, transfer: Transfer, source: Path) -> None:
    # spec: NET-3, SND-11
    sender, receiver = transfer("--repair")
    lab.ip("S", "link set eth0 mtu 1400")
    warned(sender, "packets of 1500 bytes do not fit eth0, whose MTU is 1400 now")
    assert lab.carried("R1", 1.2) > 0  # SPMs
    lab.ip("S", "link set eth0 mtu 1500")
    warned(sender, "sending again after")
    seen = latest(receiver, "odata")
    until(lambda: latest(receiver, "odata") > seen, "large packets again")
    assert stopped(sender)["unsent"] > 0


def test_addresses_that_are_replaced(lab: Lab, transfer: Transfer, source: Path) -> None:
    # spec: SND-12, REP-8, NAK-9
    lift = lab.drop("oifname vR1 meta l4proto udp numgen random mod 20 < 1")
    told = ("--repairer", "[fd01::12]:28776", "--repairer", "[fd01::98]:28776")
    repairer = lab.repair("R2", source, group=OTHER_GROUP)
    with lab.capture("SW", "vR1", match=f"udp dst port {PORT} and ip6 dst {GROUPS[6]}") as capture:
        sender, receiver = transfer("--repair", rate=SLOW)
        silent, other = transfer(rate=SLOW, told=told, group=OTHER_GROUP)
        lab.ip("S", "addr add fd01::99/64 dev eth0 nodad", "addr del fd01::1/64 dev eth0")
        lab.ip("R2", "addr add fd01::98/64 dev eth0 nodad", "addr del fd01::12/64 dev eth0")
        for asked, asking, address in (
            (sender, receiver, "fd01::99"),
            (repairer, other, "fd01::98"),
        ):
            warned(asked, f"from {address} as a new session")
            naks, rdata = latest(asked, "naks_received"), latest(asking, "rdata")
            until(lambda one=asked, n=naks: latest(one, "naks_received") > n, "NAKs again")
            until(lambda one=asking, n=rdata: latest(one, "rdata") > n, "repairs again")
        stopped(sender)
    lift()
    assert [address for address, _ in places(capture, 6)] == ["fd01::1", "fd01::99"]
    assert stopped(repairer)["rdata"] > 0
    assert has_warned(silent, "from fd01::99 as a new session")


def test_an_address_that_was_asked_for_is_waited_for(
    lab: Lab, transfer: Transfer, source: Path
) -> None:
    # spec: SND-12, NET-9
    with lab.capture("SW", "vR1") as capture:
        sender, receiver = transfer("--repair", "--listen", "[fd01::1]:28776")
        lab.ip("S", "addr del fd01::1/64 dev eth0")
        warned(sender, "fd01::1 is not an address of eth0 any more; trying on")
        assert lab.carried("R1", 0.3) == 0
        lab.ip("S", "addr add fd01::1/64 dev eth0 nodad")
        result = check(source, receiver)
        stopped(sender)
    assert len(places(capture, 6)) == 1
    assert has_warned(sender, "sending again")
    assert result["cycles"] <= 1.1


def test_a_start_right_after_the_link_came_up(lab: Lab, source: Path, tmp_path: Path) -> None:
    # spec: NET-11
    lab.sh("S", "echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_dad")
    # The check of addresses begins when the cable is there.
    lab.link("SW", "down", "vS")
    lab.link("S", "down")
    lab.ip("S", "link set eth0 up", "addr add fd01::1/64 dev eth0")
    pinned = ("--repair", "--listen", "[fd01::1]:28790")
    group = OTHER_GROUP
    senders = [lab.send("S", source, "--cycles", "1", *how, rate="50M") for how in ((), pinned)]
    repairer = lab.repair("S", source, "--listen", "[fd01::1]:28791", group=group)
    receiver = lab.recv("S", tmp_path / "out", group=group)  # who listens needs no address
    other = lab.send("R1", source, group=group)
    for process in (*senders, repairer):
        until(lambda one=process: "waiting for fd01::1" in one.stderr, "it waits")
    lab.link("SW", "up", "vS")
    for sender in senders:
        assert sender.result()["reason"] == "finished"
    repairer.event("start")
    check(source, receiver)
    for process in (other, repairer):
        process.stop()
