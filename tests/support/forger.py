"""A stranger who hears the session of a signed object and forges its packets, in between.

    python -m tests.support.forger GROUP PORT INTERFACE ANNOUNCEMENTS

Sends a symbol with wrong bytes ahead of each that it hears, a wrong leaf for each node of the tree
of tiles, and for each SPM all of ANNOUNCEMENTS, a file with the bytes of a packet in each line
(hexadecimal). Every other one leaves in the name of the sender: from its address and port. It goes
on until it is stopped.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from random import Random

SPM, ODATA, TREE = 0, 4, 7
HEADER = 48
AHEAD = 3
"""Symbols between the one that was heard and the one that is forged."""

IPV6_FREEBIND = 78


def forged(heard: bytes, announcements: list[bytes], rng: Random) -> Iterator[bytes]:
    """Yield what is sent after a packet."""
    kind, symbol_size = heard[3], int.from_bytes(heard[6:8])
    size, offset = int.from_bytes(heard[24:32]), int.from_bytes(heard[32:40])
    esi, payload = int.from_bytes(heard[44:48]), heard[HEADER:]
    if kind == SPM:
        yield from announcements
    elif kind == TREE and esi:
        yield heard[:32] + (offset + 1).to_bytes(8) + heard[40:HEADER] + rng.randbytes(len(payload))
    elif kind == ODATA:
        is_repair = heard[5]
        place = offset if is_repair else offset + AHEAD * symbol_size
        if place + symbol_size <= size or is_repair:
            name = place.to_bytes(8) + heard[40:44] + (esi + AHEAD).to_bytes(4)
            yield heard[:32] + name + rng.randbytes(symbol_size)


def sender_of(index: int, address: tuple[str, int] | None) -> socket.socket:
    """Return a socket that sends to the group, in the name of `address` if there is one."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    if address:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        sock.bind((*address, 0, index))
    return sock


def main(group: str, port: str, interface: str, path: str) -> None:
    """Listen, and answer each packet by what is forged."""
    index, rng = socket.if_nametoindex(interface), Random("forger")
    announcements = [bytes.fromhex(line) for line in Path(path).read_text().split()]
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind((group, int(port), 0, index))
        member = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
        print('{"event": "start"}', flush=True)
        heard, address = sock.recvfrom(65_536)
        out = cycle([sender_of(index, None), sender_of(index, address[:2])])
        # Who is there hears what the true sender announces first.
        while True:
            heard = sock.recv(65_536)
            for one in forged(heard, announcements, rng):
                next(out).sendto(one, (group, int(port), 0, index))


if __name__ == "__main__":
    main(*sys.argv[1:])
