"""Captures for the tests, put together byte by byte."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import SECOND, Transmit
from pgmlite.core.send.sender import Sender
from tests.support.builders import Sample, encode, play, ring_of

SOURCE = ("fd01::1", 40_000)
GROUP = ("ff15::7067:6d", 28_775)
EPOCH = 1_700_000_000 * SECOND
"""ns; when captures of the tests begin."""

ETHERNET = bytes.fromhex("3333706700 6d 020000000001")
LINKS: dict[str, tuple[int, Callable[[int], bytes]]] = {
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
    "sll vlan": (
        113,
        lambda kind: struct.pack(">HHH8s3H", 2, 1, 6, b"\2\0\0\0\0\1", 0x8100, 7, kind),
    ),
    "sll2 vlan": (
        276,
        lambda kind: struct.pack(
            ">HHIHBB8s4H", 0x88A8, 0, 2, 1, 2, 6, b"\2\0\0\0\0\1", 7, 0x8100, 8, kind
        ),
    ),
}
"""Link types: number, and the header before an IP packet of an Ethernet type."""


def folded(data: bytes) -> int:
    """Return the one's complement sum of 16-bit words."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
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
    ecn: int = 0,
) -> tuple[int, bytes]:
    """Return the Ethernet type and the IP packet of a UDP payload.

    Args:
        checksum: "good", "bad", "none" or "partial", as an offloading card is given it.
        ecn: The two bits that routers mark.
    """
    ends = [ipaddress.ip_address(end[0]) for end in (source, group)]
    length = 8 + len(payload)
    packed = b"".join(end.packed for end in ends)
    pseudo = packed + struct.pack(">HH", 17, length)
    head = struct.pack(">HHH", source[1], group[1], length)
    good = (0xFFFF ^ folded(pseudo + head + payload)) or 0xFFFF
    partial = folded(pseudo)
    # One that holds for no reason: 0 and the sum of the pseudo header may be taken.
    bad = next(good ^ flip for flip in (0x55, 0xAA, 0xFF) if good ^ flip not in (0, partial))
    stored = {"good": good, "bad": bad, "none": 0, "partial": partial}[checksum]
    udp = head + stored.to_bytes(2) + payload
    if ends[0].version == 6:
        return 0x86DD, struct.pack(">IHBB", 6 << 28 | ecn << 20, length, 17, 1) + packed + udp
    ip = struct.pack(">BBHHHBBH", 0x45, ecn, 20 + length, number % 65_536, 0, 1, 17, 0) + packed
    ip = ip[:10] + (0xFFFF ^ folded(ip)).to_bytes(2) + ip[12:]
    return 0x0800, ip + udp


def frame(payload: bytes, link: str = "ethernet", **how: Any) -> bytes:
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


def section(order: str = "<") -> bytes:
    """Return the header of a section of a pcapng."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link: str | int = "ethernet", order: str = "<") -> bytes:
    """Return the description of an interface whose clock counts nanoseconds."""
    number = LINKS[link][0] if isinstance(link, str) else link
    body = struct.pack(order + "HHI", number, 0, 0)
    body += struct.pack(order + "HHB3x", 9, 1, 9) + struct.pack(order + "HH", 0, 0)
    return block(1, body, order)


def enhanced(at: int, one: bytes, order: str = "<", interface: int = 0) -> bytes:
    """Return the block of a packet."""
    head = struct.pack(order + "5I", interface, at >> 32, at & 0xFFFFFFFF, len(one), len(one))
    return block(6, head + one, order)


def pcapng(
    frames: Stamped, link: str | int = "ethernet", *, order: str = "<", how: str = "enhanced"
) -> bytes:
    """Return a pcapng with nanoseconds, options and blocks of kinds that nobody knows.

    Args:
        how: The blocks of its packets: "enhanced", "simple" or "old".
    """
    out = [section(order), interface(link, order), block(0x0BAD, b"unknown", order)]
    for at, one in frames:
        if how == "simple":
            out.append(block(3, struct.pack(order + "I", len(one)) + one, order))
        elif how == "old":
            sizes = (at >> 32, at & 0xFFFFFFFF, len(one), len(one))
            # An option behind the frame, as those that count drops have it.
            body = struct.pack(order + "2H4I", 0, 3, *sizes) + one + bytes(-len(one) % 4)
            out.append(block(2, body + struct.pack(order + "HHIHH", 2, 4, 0, 0, 0), order))
        else:
            out.append(enhanced(at, one, order))
    return b"".join(out)


def carousel(sample: Sample, *, repair: bool = False, **config: Any) -> Iterator[tuple[int, bytes]]:
    """Yield time and packet of a sender that loops `sample`; one cycle unless told otherwise.

    Args:
        repair: It says that it takes NAKs.
    """
    ring = ring_of(sample.manifest.geometry, config)
    values: dict[str, Any] = {"cycles": 1, "rate": 10_000_000, "packet_overhead": 48} | config
    sender = Sender(
        SenderConfig(**values),
        sample.manifest,
        sample.tree,
        rings=[ring],
        repair=RepairConfig(port=28_776) if repair else None,
        rng=Random("sender"),
    )
    sender.start(EPOCH)
    for now, action in play(sender, until=1 << 62):
        if isinstance(action, Transmit):
            for one in encode(action, sample.data):
                yield now, one


def write(path: Path, sample: Sample, link: str = "ethernet", **config: Any) -> Path:
    """Write a capture of one cycle of `sample`; return its path."""
    path.write_bytes(pcap(((at, frame(one, link)) for at, one in carousel(sample, **config)), link))
    return path


def frames_of(path: Path) -> list[tuple[int, bytes]]:
    """Return times and frames of a pcap that tcpdump wrote on a machine like ours."""
    data, at, found = path.read_bytes(), 24, []
    while at < len(data):
        seconds, micros, kept, _ = struct.unpack_from("<4I", data, at)
        found.append((seconds * SECOND + micros * 1_000, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


def payload_of(one: bytes) -> bytes:
    """Return the UDP payload of an Ethernet frame without tags."""
    start = 14 + (40 if one[12:14] == b"\x86\xdd" else 20)
    (length,) = struct.unpack_from(">H", one, start + 4)
    return one[start + 8 : start + length]


def joined(
    payloads: Iterable[tuple[int, bytes]], rng: Random, most: int = 40
) -> Iterator[tuple[int, bytes, bytes]]:
    """Join packets as GRO does: of one length, and a shorter one ends it, up to `most` of them.

    Yields:
        Time, all bytes, and the first packet.
    """
    some: list[tuple[int, bytes]] = []
    room = 0

    def flush() -> Iterator[tuple[int, bytes, bytes]]:
        if some:
            yield some[0][0], b"".join(one for _, one in some), some[0][1]
            some.clear()

    for at, one in payloads:
        if not some or len(some) >= room or len(one) > len(some[0][1]):
            yield from flush()
            room = rng.randrange(1, most)
        some.append((at, one))
        if len(one) < len(some[0][1]):
            yield from flush()
    yield from flush()
