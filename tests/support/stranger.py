"""A stranger who hears a session and sends junk to its group, in between.

    python -m tests.support.stranger GROUP PORT INTERFACE PACKETS_A_SECOND

Sends every invalid vector, random bytes, packets that it heard and then cut or changed, a datagram
that IP has to fragment, and once each a symbol with wrong bytes but a right header and one under a
number out of thin air. Then it ends.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "invalid.json"
ODATA = 4
HEADER = 48


def junk(heard: list[bytes], rng: Random) -> Iterator[bytes]:
    """Yield datagrams."""
    poisoned = next(one for one in reversed(heard) if one[3] == ODATA)
    size, symbol_size = int.from_bytes(poisoned[24:32]), int.from_bytes(poisoned[6:8])
    after = int.from_bytes(poisoned[32:40]) + 8 * symbol_size
    if after + symbol_size <= size:
        # Comes before the true one, which is then a duplicate: the block will not verify.
        esi = int.from_bytes(poisoned[44:48]) + 8  # one block has all symbols
        place = after.to_bytes(8) + poisoned[40:44] + esi.to_bytes(4)
        yield poisoned[:32] + place + bytes(symbol_size)
    sqn = (int.from_bytes(poisoned[40:44]) + (1 << 30)) % (1 << 32)
    yield poisoned[:40] + sqn.to_bytes(4) + poisoned[44:]
    yield rng.randbytes(2_000)  # more than the MTU: two fragments
    for case in json.loads(VECTORS.read_text())["packets"]:
        one = bytes.fromhex(case["hex"])
        if case["reason"] == "request":
            # Under the header of the session, so that somebody looks at the request.
            yield poisoned[:3] + one[3:4] + poisoned[4:32] + one[32:]
        else:
            yield one
    for _ in range(20):
        yield rng.randbytes(rng.randrange(200))
    for _ in range(20):
        one = rng.choice(heard)
        yield one[: rng.randrange(len(one))]
    for _ in range(20):
        flipped = bytearray(rng.choice(heard))
        flipped[rng.randrange(8)] ^= 1 << rng.randrange(8)
        yield bytes(flipped)


def main(group: str, port: str, interface: str, rate: str) -> None:
    """Listen for a moment, then send."""
    index = socket.if_nametoindex(interface)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((group, int(port), 0, index))
        member = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        print('{"event": "start"}', flush=True)
        heard = [sock.recv(65_536) for _ in range(12)]
        for one in junk(heard, Random("stranger")):
            sock.sendto(one, (group, int(port), 0, index))
            time.sleep(1 / float(rate))


if __name__ == "__main__":
    main(*sys.argv[1:])
