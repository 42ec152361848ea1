"""A relay between two interfaces that repeats and delays packets: what netem would do.

    python -m tests.support.relay FROM TO

Frames from FROM to TO that are UDP come late with one probability, twice with another; all others,
and those of the other direction, pass as they are. Runs until it is killed.
"""

from __future__ import annotations

import select
import socket
import sys
from random import Random
from typing import Any

LATE = 0.10
TWICE = 0.05
FURTHEST = 6
"""Packets that may pass one that is late."""

UDP_BEHIND_IPV6 = 20
"""Byte of an Ethernet frame with the next header of IPv6."""


def main(first: str, second: str) -> None:
    """Relay for ever."""
    rng = Random(first)
    ends = {}
    for name in (first, second):
        ends[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        ends[name].bind((name, 0))
    held: list[list[Any]] = []
    print('{"event": "start"}', flush=True)
    while True:
        ready, _, _ = select.select(list(ends.values()), (), ())
        if ends[second] in ready:
            frame, where = ends[second].recvfrom(65_536)
            if where[2] != socket.PACKET_OUTGOING:
                ends[first].send(frame)
        if ends[first] not in ready:
            continue
        frame, where = ends[first].recvfrom(65_536)
        if where[2] == socket.PACKET_OUTGOING:
            continue
        if len(frame) <= UDP_BEHIND_IPV6 or frame[UDP_BEHIND_IPV6] != socket.IPPROTO_UDP:
            ends[second].send(frame)
            continue
        if rng.random() < LATE:
            held.append([rng.randrange(1, FURTHEST + 1), frame])
        else:
            for _ in range(2 if rng.random() < TWICE else 1):
                ends[second].send(frame)
        for one in held:
            one[0] -= 1
            if one[0] < 0:
                ends[second].send(one[1])
        held = [one for one in held if one[0] >= 0]


if __name__ == "__main__":
    main(*sys.argv[1:])
