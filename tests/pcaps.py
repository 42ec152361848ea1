"""Captures for the tests, put together byte by byte."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

from builders import Sample, encode, play

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import SECOND, Transmit
from pgmlite.core.sender import Sender

SOURCE = ("fd01::1", 40_000)
GROUP = ("ff15::7067:6d", 28_775)
EPOCH = 1_700_000_000 * SECOND
"""ns; when captures of the tests begin."""

ETHERNET = bytes.fromhex("3333706700 6d 020000000001")
LINKS = {
    "null": (0, lambda kind: struct.pack("<I", 2 if kind == 0x0800 else 10)),
    "ethernet": (1, lambda kind: ETHERNET + kind.to_bytes(2)),
    "vlan": (1, lambda kind: ETHERNET + b"\x81\x00\x00\x07" + kind.to_bytes(2)),
    "double vlan": (
        1,
        lambda kind: ETHERNET + b"\x88\xa8\x00\x07\x81\x00\x00\x08" + kind.to_bytes(2),
    ),
    "raw": (101, lambda kind: b""),
    "loop": (108, lambda kind: struct.pack(">I", 2 if kind == 0x0800 else 24)),
    "sll": (113, lambda kind: struct.pack(">HHH8sH", 2, 1, 6, b"\2\0\0\0\0\1", kind)),
    "sll2": (276, lambda kind: struct.pack(">HHIHBB8s", kind, 0, 2, 1, 2, 6, b"\2\0\0\0\0\1")),
}
"""Link types: number, and the header before an IP packet of an Ethernet type."""


def folded(data: bytes) -> int:
    """Return the one's complement sum of 16-bit words."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ip_packet(
    payload: bytes,
    *,
    source: tuple[str, int] = SOURCE,
    group: tuple[str, int] = GROUP,
    checksum: str = "good",
    number: int = 0,
) -> tuple[int, bytes]:
    """Return the Ethernet type and the IP packet of a UDP payload.

    Args:
        checksum: "good", "bad", "none" or "partial", as an offloading card is given it.
    """
    ends = [ipaddress.ip_address(end[0]) for end in (source, group)]
    length = 8 + len(payload)
    packed = b"".join(end.packed for end in ends)
    pseudo = packed + struct.pack(">HH", 17, length)
    head = struct.pack(">HHH", source[1], group[1], length)
    good = (0xFFFF ^ folded(pseudo + head + payload)) or 0xFFFF
    stored = {"good": good, "bad": good ^ 0x55, "none": 0, "partial": folded(pseudo)}[checksum]
    udp = head + stored.to_bytes(2) + payload
    if ends[0].version == 6:
        return 0x86DD, struct.pack(">IHBB", 6 << 28, length, 17, 1) + packed + udp
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, number % 65_536, 0, 1, 17, 0) + packed
    ip = ip[:10] + (0xFFFF ^ folded(ip)).to_bytes(2) + ip[12:]
    return 0x0800, ip + udp


def frame(payload: bytes, link: str = "ethernet", **how: object) -> bytes:
    """Return a frame with a UDP payload."""
    kind, packet = ip_packet(payload, **how)
    return LINKS[link][1](kind) + packet


Stamped = Iterable[tuple[int, bytes]]
"""Time in ns and frame."""


def pcap(
    frames: Stamped, link: str | int = "ethernet", *, order: str = "<", nano: bool = True
) -> bytes:
    """Return a pcap."""
    number = LINKS[link][0] if isinstance(link, str) else link
    magic, unit = (0xA1B23C4D, 1) if nano else (0xA1B2C3D4, 1_000)
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262_144, number)]
    for at, one in frames:
        stamp = (at // SECOND, at % SECOND // unit)
        out.append(struct.pack(order + "4I", *stamp, len(one), len(one)) + one)
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Return a block of a pcapng."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def pcapng(
    frames: Stamped, link: str = "ethernet", *, order: str = "<", simple: bool = False
) -> bytes:
    """Return a pcapng with nanoseconds, options and blocks of kinds that nobody knows."""
    section = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    interface = struct.pack(order + "HHI", LINKS[link][0], 0, 0)
    interface += struct.pack(order + "HHB3x", 9, 1, 9) + struct.pack(order + "HH", 0, 0)
    out = [block(0x0A0D0D0A, section, order), block(1, interface, order)]
    out.append(block(0x0BAD, b"unknown", order))
    for at, one in frames:
        if simple:
            out.append(block(3, struct.pack(order + "I", len(one)) + one, order))
        else:
            head = struct.pack(order + "5I", 0, at >> 32, at & 0xFFFFFFFF, len(one), len(one))
            out.append(block(6, head + one, order))
    return b"".join(out)


def carousel(
    sample: Sample, *, repair: bool = False, **config: object
) -> Iterator[tuple[int, bytes]]:
    """Yield time and packet of a sender that loops `sample`; one cycle unless told otherwise.

    Args:
        repair: It says that it takes NAKs.
    """
    values = {"cycles": 1, "rate": 10_000_000, "packet_overhead": 48} | config
    sender = Sender(
        SenderConfig(**values),
        sample.manifest,
        sample.index,
        repair=RepairConfig(port=28_776) if repair else None,
        rng=Random("sender"),
    )
    sender.start(EPOCH)
    for now, action in play(sender, until=1 << 62):
        if isinstance(action, Transmit):
            for one in encode(action, sample.data):
                yield now, one


def write(path: Path, sample: Sample, link: str = "ethernet", **config: object) -> Path:
    """Write a capture of one cycle of `sample`; return its path."""
    path.write_bytes(pcap(((at, frame(one, link)) for at, one in carousel(sample, **config)), link))
    return path
