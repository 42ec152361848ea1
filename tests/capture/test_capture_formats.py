"""What captures of real transfers look like elsewhere: each still gives the object."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pgmlite.cli import run
from pgmlite.core.machine import MS, SECOND
from tests.generate import ROOT
from tests.support import pcaps
from tests.support.pcaps import LINKS, block, enhanced, interface, pcap, pcapng, section

NAME = "clean-carousel"
RECORDED = pcaps.frames_of(ROOT / "captures" / f"{NAME}.pcap")
INDEX = json.loads((ROOT / "captures" / "index.json").read_text())
IPV6 = 0x86DD

Stamped = list[tuple[int, bytes]]


def each(change: Callable[[bytes], bytes], link: int = 1) -> bytes:
    """Return the pcap with every frame changed."""
    return pcap([(at, change(one)) for at, one in RECORDED], link)


def tagged(*tags: int) -> Callable[[bytes], bytes]:
    """Return what puts VLAN tags of these types in front of the Ethernet type."""
    return lambda one: one[:12] + b"".join(tag.to_bytes(2) + b"\0\7" for tag in tags) + one[12:]


def as_link(name: str, number: int | None = None) -> bytes:
    link, head = LINKS[name]
    return each(lambda one: head(IPV6) + one[14:], link if number is None else number)


def with_lengths(length: Callable[[bytes], int]) -> bytes:
    """Return the pcap with another number of bytes that there are said to have been."""
    records = [
        struct.pack("<4I", at // SECOND, at % SECOND, len(one), length(one)) + one
        for at, one in RECORDED
    ]
    return pcap([]) + b"".join(records)


def hop_by_hop(one: bytes) -> bytes:
    length = int.from_bytes(one[18:20]) + 8
    return one[:18] + length.to_bytes(2) + b"\0" + one[21:54] + b"\x11\0\1\4\0\0\0\0" + one[54:]


def resolved(value: int, ticks: Callable[[int], int], offset: int = 0) -> bytes:
    """Return a pcapng whose clock counts in other units."""
    options = struct.pack("<HHB3x", 9, 1, value) + struct.pack("<HHq", 14, 8, offset)
    head = block(1, struct.pack("<HHI", 1, 0, 0) + options + bytes(4))
    return (
        section()
        + head
        + b"".join(enhanced(ticks(at - offset * SECOND), one) for at, one in RECORDED)
    )


def commented() -> bytes:
    """Return a pcapng with comments and options wherever they may be."""
    note = struct.pack("<HH", 1, 5) + b"hello" + bytes(3)
    end = struct.pack("<HH", 0, 0)
    parts = [
        block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + note + end),
        block(1, struct.pack("<HHI", 1, 0, 96) + note + struct.pack("<HHB3x", 9, 1, 9) + end),
        block(4, bytes(8)),
        block(0x80000001, b"of a maker"),
    ]
    for at, one in RECORDED:
        head = struct.pack("<5I", 0, at >> 32, at & 0xFFFFFFFF, len(one), len(one))
        padded = one + bytes(-len(one) % 4)
        parts.append(block(6, head + padded + note + struct.pack("<HHI", 2, 4, 1) + end))
        parts.append(block(5, struct.pack("<3I", 0, at >> 32, at & 0xFFFFFFFF)))
    return b"".join(parts)


def in_sections() -> bytes:
    """Return sections of both byte orders, with interfaces described when they are needed."""
    third = len(RECORDED) // 3
    first, second, last = RECORDED[:third], RECORDED[third : 2 * third], RECORDED[2 * third :]
    late = b"".join(
        (interface() if not place else b"") + enhanced(at, one, interface=1)
        for place, (at, one) in enumerate(last)
    )
    return pcapng(first, order=">") + pcapng(second) + section() + interface(127) + late


def duplicated(change: Callable[[bytes], bytes]) -> bytes:
    """Return each frame twice, as seen on two ports of a switch."""
    return pcap([(at, made) for at, one in RECORDED for made in (one, change(one))])


FORMATS: dict[str, Callable[[], bytes]] = {
    "big-endian, microseconds": lambda: pcap(RECORDED, order=">", nano=False),
    "nanoseconds": lambda: pcap(RECORDED),
    "big-endian pcapng": lambda: pcapng(RECORDED, order=">"),
    "simple packets": lambda: pcapng(RECORDED, how="simple"),
    "obsolete packets": lambda: pcapng(RECORDED, how="old"),
    "comments": commented,
    "sections": in_sections,
    "seconds": lambda: resolved(0, lambda ns: ns // SECOND),
    "milliseconds, with an offset": lambda: resolved(3, lambda ns: ns // MS, 1_000_000),
    "parts of two": lambda: resolved(0x80 | 20, lambda ns: (ns << 20) // SECOND),
    "units too small for anything": lambda: resolved(127, lambda ns: ns),
    "VLAN": lambda: each(tagged(0x8100)),
    "priority tag": lambda: each(lambda one: one[:12] + b"\x81\0\x60\0" + one[12:]),
    "QinQ": lambda: each(tagged(0x88A8, 0x8100)),
    "QinQ of old": lambda: each(tagged(0x9100, 0x8100)),
    "SLL with a tag": lambda: as_link("sll vlan"),
    "SLL2 with tags": lambda: as_link("sll2 vlan"),
    "frame check sequence": lambda: each(lambda one: one + b"\xde\xad\xbe\xef"),
    "padding": lambda: each(lambda one: one + bytes(18)),
    "hop-by-hop options": lambda: each(hop_by_hop),
    "null, big-endian": lambda: each(lambda one: struct.pack(">I", 24) + one[14:], 0),
    "null, little-endian": lambda: each(lambda one: struct.pack("<I", 30) + one[14:], 0),
    "loop": lambda: as_link("loop"),
    **{f"raw {n}": lambda n=n: as_link("raw", n) for n in (12, 14, 101, 229)},
    "SLL": lambda: as_link("sll"),
    "SLL2": lambda: as_link("sll2"),
    "no original length": lambda: with_lengths(lambda _: 0),
    "original length too small": lambda: with_lengths(lambda one: len(one) // 2),
    "empty packets between": lambda: pcap([(at, x) for at, one in RECORDED for x in (b"", one)]),
    "duplicates": lambda: duplicated(lambda one: one),
    "duplicates behind a router": lambda: duplicated(lambda one: one[:21] + b"\0" + one[22:]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_it_gives_the_object(tmp_path: Path, capsys, name: str) -> None:
    path, out = tmp_path / "c", tmp_path / "out"
    path.write_bytes(FORMATS[name]())
    assert run(["replay", str(path), "-o", str(out), "--json"]) == 0
    assert hashlib.sha256(out.read_bytes()).hexdigest() == INDEX[NAME]["sha256"]
    complete = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert complete["damaged_places"] == complete["clock_steps"] == []
    assert complete["lost"] == 0
    assert complete["refused"] == {}
    assert set(complete["skipped"]) <= ({"cut"} if name.startswith("empty") else set())
