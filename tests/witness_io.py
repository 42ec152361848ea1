"""What gives the witness its packets: a capture or a network, with the least that it takes.

python -m tests.witness_io CAPTURE OUT                     from a capture
python -m tests.witness_io GROUP PORT INTERFACE OUT        from a network (IPv4 or IPv6 group)
"""

import ipaddress
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.witness import HEADER
from tests.witness_signed import Receiver


def payloads(path):
    """Yield time in s, port and UDP payload from a pcap of Ethernet or SLL2, the least there is."""
    raw = Path(path).read_bytes()
    order = "<" if raw[:4] == bytes.fromhex("d4c3b2a1") else ">"
    link, at = struct.unpack_from(order + "I", raw, 20)[0], 24
    while at + 16 <= len(raw):
        seconds, micro, kept, _ = struct.unpack_from(order + "4I", raw, at)
        frame, at = raw[at + 16 : at + 16 + kept], at + 16 + kept
        kind, ip = (frame[12:14], frame[14:]) if link == 1 else (frame[:2], frame[20:])
        if kind == b"\x86\xdd" and ip[6] == 17:
            udp = ip[40:]
        elif kind == b"\x08\x00" and ip[9] == 17:
            udp = ip[(ip[0] & 15) * 4 :]
        else:
            continue
        payload = udp[8 : int.from_bytes(udp[4:6])]
        # The system may have cut bursts into packets only behind the capture (NET-8).
        step = HEADER.size + int.from_bytes(payload[6:8])
        joined = len(payload) > step and payload[:8] == payload[step : step + 8]
        step = step if joined else max(len(payload), 1)
        for place in range(0, max(len(payload), 1), step):
            one = payload[place : place + step]
            yield seconds + micro / 1e6, int.from_bytes(udp[2:4]), one


def listen(group, port, interface, patience=30.0):
    """Return what a live carousel carries, or None if it does not come."""
    index, address = socket.if_nametoindex(interface), ipaddress.ip_address(group)
    family, place, level, join, member = {
        4: (socket.AF_INET, (), socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, "@4xi"),
        6: (socket.AF_INET6, (0, index), socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, "@I"),
    }[address.version]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((group, port, *place))
        sock.setsockopt(level, join, address.packed + struct.pack(member, index))
        sock.settimeout(1)
        receiver, end = Receiver(), time.monotonic() + patience
        while receiver.data is None and time.monotonic() < end:
            with suppress(TimeoutError):
                receiver.feed(sock.recv(65_536), time.monotonic())
        return receiver.data


def replay(path, port=28_775, keys=()):
    """Return a receiver that was given all packets of a capture to `port`."""
    receiver = Receiver(keys=keys)
    for now, to, payload in payloads(path):
        if to == port:
            receiver.feed(payload, now)
    return receiver


if __name__ == "__main__":
    given, target = sys.argv[1:-1], Path(sys.argv[-1])
    got = listen(given[0], int(given[1]), given[2]) if len(given) == 3 else replay(given[0]).data
    if got is None:
        sys.exit("incomplete")
    target.write_bytes(got)
