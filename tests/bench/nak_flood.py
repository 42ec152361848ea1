"""A sender with repairs while strangers who hear its session flood it with NAKs (root).

    python -m tests.bench.nak_flood [SHARE [SECONDS]]

Fifty thousand well-formed NAKs a second, from a thousand IPv6 addresses of as many /64, each with
the right nonce and random symbols. Prints the rates of carousel and repairs before and meanwhile,
what was refused, and the sender's memory. SHARE is `--repair-share`, 50% by default.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

from tests.support.lab import GROUPS, NAK_PORT, PORT, Lab, Process, random_file

SOURCES = 1_000
BURST = 25
NAKS_A_SECOND = 50_000
UDP_SEGMENT = 103
IPV6_FREEBIND = 78
HEADER = ">HBBBBHQQQQII"
IPV6_UDP_HEADERS = 48


def flood(seconds: float) -> None:
    """Send NAKs; runs in the namespace of the strangers."""
    index = socket.if_nametoindex("eth0")
    ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    ear.bind((GROUPS[6], PORT))
    join = socket.inet_pton(socket.AF_INET6, GROUPS[6]) + struct.pack("@I", index)
    ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, join)
    voices = []
    for number in range(SOURCES):
        voice = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        voice.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        voice.bind((f"fd02:{number:x}::1", 0))
        voices.append(voice)
    rng = random.Random(1)
    sent, head, nonce = 0, (), 0
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        while sent == 0 or now * NAKS_A_SECOND < sent:
            packet = ear.recv(65_536)
            fields = struct.unpack_from(HEADER, packet)
            if fields[2] == 0:
                nonce = struct.unpack_from(">Q", packet, 48 + 24)[0]
                head = fields
            if head and sent == 0:
                break
            now = time.monotonic() - start
        symbols = -(-head[8] // head[5])
        naks = b"".join(
            struct.pack(HEADER, *head[:2], 8, *head[3:4], *head[4:9], 0, head[10], 0)
            + struct.pack(">QQHH", nonce, 0, 0, 0)
            + struct.pack(">BBHIII", 0, 0, 1, rng.randrange(symbols - 20), 0, 20)
            for _ in range(BURST)
        )
        control = [(17, UDP_SEGMENT, struct.pack("@H", len(naks) // BURST))]
        voices[rng.randrange(SOURCES)].sendmsg([naks], control, 0, ("fd01::1", NAK_PORT))
        sent += BURST
        if sent % (40 * BURST) == 0:
            ear.setblocking(False)
            try:
                while True:
                    packet = ear.recv(65_536)
                    if packet[3] == 0:
                        nonce = struct.unpack_from(">Q", packet, 48 + 24)[0]
            except BlockingIOError:
                ear.setblocking(True)
    print(f"{sent / (time.monotonic() - start):.0f} NAKs a second sent", file=sys.stderr)


def memory(process: Process) -> float:
    """Return resident MiB."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1_024


def rates(sender: Process, seconds: float) -> tuple[float, float, float]:
    """Return ODATA and RDATA packets a second, and the bit/s of all packets, headers included."""
    time.sleep(1.5)
    first = sender.events[-1]
    time.sleep(seconds)
    last = sender.events[-1]
    span = last["seconds"] - first["seconds"]
    odata, rdata, packets, octets = (
        (last[name] - first[name]) / span for name in ("odata", "rdata", "packets", "bytes")
    )
    return odata, rdata, 8 * (octets + packets * IPV6_UDP_HEADERS)


def main(share: str = "50%", seconds: float = 10.0) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, Lab(receivers=1) as lab:
        source = random_file(Path(folder) / "source", 64)
        options = ("--repair", "--repair-share", share)
        sender = lab.send("S", source, *options, rate="50M")
        sender.event("progress")
        before, _, rate = rates(sender, 4)
        resident = memory(sender)
        stranger = lab.spawn("R1", sys.executable, __file__, "flood", str(seconds + 4))
        odata, rdata, flooded = rates(sender, seconds)
        grown = memory(sender)
        stranger.popen.wait(30)
        last = sender.events[-1]
        print(stranger.stderr.strip())
    print(
        f"carousel {before:.0f} packets a second before, {odata:.0f} meanwhile: "
        f"{odata / before:.1%}; repairs {rdata / (odata + rdata):.1%} of the rate (share {share})"
    )
    print(
        f"carousel and repairs {(odata + rdata) / before:.1%} of before, with NCFs "
        f"{flooded / rate:.1%} of its bit/s; memory {resident:.1f} MiB before, {grown:.1f} after"
    )
    print(f"NAKs looked at {last['naks_received']}, refused {last['refused']}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["flood"]:
        flood(float(sys.argv[2]))
    else:
        main(*sys.argv[1:2], *map(float, sys.argv[2:3]))
