"""Mirrored and tunnelled traffic: our packets are found in it, or what was found is named."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from pgmlite.capture.file import Capture
from pgmlite.cli import run
from pgmlite.core.machine import MS
from tests.generate import ROOT
from tests.support import pcaps
from tests.support.pcaps import EPOCH, frame, pcap
from tests.support.wraps import LINKED, MACS, WRAPS, gre, labels, over_ip, over_udp, typed, vxlan


@pytest.mark.parametrize("name", ["clean-carousel", "clean-carousel-ipv4"])
@pytest.mark.parametrize("wrap", [*WRAPS, *LINKED])
def test_a_transfer_in_a_tunnel(tmp_path: Path, capsys, name: str, wrap: str) -> None:
    recorded = pcaps.frames_of(ROOT / "captures" / f"{name}.pcap")
    link, made = LINKED.get(wrap, (1, None))
    frames = [
        (at, made(one) if made else WRAPS[wrap](one, number))
        for number, (at, one) in enumerate(recorded)
    ]
    path, out = tmp_path / "c.pcap", tmp_path / "out"
    path.write_bytes(pcap(frames, link))
    capture = Capture(path)
    plain = Capture(ROOT / "captures" / f"{name}.pcap")
    found, expected = list(capture.datagrams()), list(plain.datagrams())
    assert not capture.skipped
    key = [(one.source, one.destination, one.octets.tobytes()) for one in found]
    # In as few pieces: what differs from packet to packet outside does not cut them.
    assert key == [(one.source, one.destination, one.octets.tobytes()) for one in expected]
    assert run(["replay", str(path), "-o", str(out)]) == 0
    index = json.loads((ROOT / "captures" / "index.json").read_text())
    assert hashlib.sha256(out.read_bytes()).hexdigest() == index[name]["sha256"]


PLAIN = frame(b"data")
TCP = PLAIN[:20] + b"\6" + PLAIN[21:]
ARP = MACS + b"\x08\x06" + bytes(28)
UNREAD = {
    "TCP in VXLAN": (vxlan(TCP, 0), "not_udp_in_vxlan"),
    "ARP in VXLAN": (vxlan(ARP, 0), "not_ip_in_vxlan"),
    "VXLAN without identifier": (over_udp(4_789, bytes(8) + PLAIN), "vxlan"),
    "GENEVE of another version": (over_udp(6_081, b"\x40\0\x65\x58" + bytes(4) + PLAIN), "geneve"),
    "TZSP of another version": (over_udp(37_008, b"\2\0\0\1\1" + PLAIN), "tzsp"),
    "TZSP with 802.11": (over_udp(37_008, b"\1\0\0\x12\1" + PLAIN), "tzsp"),
    "TZSP without an end": (over_udp(37_008, b"\1\0\0\1" + b"\2\0" * 20), "cut"),
    "TCP in GRE": (gre(0, 0x6558, TCP, 0), "not_udp_in_gre"),
    "PPTP": (gre(0x2001, 0x880B, bytes(20), 0), "gre"),
    "ARP in ERSPAN": (gre(0x1000, 0x88BE, bytes(8) + ARP, 0), "not_ip_in_erspan"),
    "TCP in IP": (over_ip(41, TCP[14:]), "not_udp_in_ip"),
    "TCP in MPLS": (typed(0x8847, labels(17) + TCP[14:]), "not_udp_in_mpls"),
    "LCP in PPPoE": (typed(0x8864, b"\x11\0\0\1\0\4\xc0\x21" + bytes(8)), "pppoe"),
    "spanning tree": (MACS + b"\0\x26\x42\x42\3" + bytes(35), "llc"),
    "CDP": (MACS + b"\0\x26\xaa\xaa\3\0\0\x0c\x20\0" + bytes(30), "snap"),
    "IPsec": (over_ip(50, bytes(40)), "ipsec"),
    "IPsec in UDP": (over_udp(4_500, bytes(40)), "ipsec"),
    "L2TP": (over_udp(1_701, bytes(40)), "l2tp"),
    "L2TPv3": (over_ip(115, bytes(40)), "l2tp"),
    "GTP": (over_udp(2_152, bytes(40)), "gtp"),
    "WireGuard": (over_udp(51_820, bytes(40)), "wireguard"),
    "MACsec": (typed(0x88E5, bytes(60)), "macsec"),
    "a fragment in GRE": (
        gre(0, 0x0800, over_ip(17, bytes(30))[14:20] + b"\x20\0" + over_ip(17, bytes(30))[22:], 0),
        "fragment",
    ),
    "tags without end": (MACS + b"\x81\0\0\7" * 100, "nested"),
    "labels without end": (typed(0x8847, labels(17)[:2] + b"\0\1" + b"\0\0\0\1" * 100), "nested"),
    "VXLAN that is cut": (vxlan(PLAIN, 0)[:80], "cut"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_counted_by_name(tmp_path: Path, name: str) -> None:
    odd, reason = UNREAD[name]
    path = tmp_path / "c"
    path.write_bytes(pcap([(EPOCH, odd), (EPOCH, PLAIN)]))
    capture = Capture(path)
    assert [one.octets.tobytes() for one in capture.datagrams()] == [b"data"]
    assert capture.skipped == {reason: 1}


@pytest.mark.parametrize("cut", range(14, 130, 3))
def test_a_snap_length_inside_a_tunnel(tmp_path: Path, cut: int) -> None:
    for wrap in ("VXLAN", "ERSPAN III with a time", "MPLS with three labels", "GENEVE"):
        whole = WRAPS[wrap](frame(bytes(200)), 1)
        record = struct.pack("<4I", 1, 0, cut, len(whole)) + whole[:cut]
        path = tmp_path / "c"
        path.write_bytes(pcap([]) + record)
        capture = Capture(path)
        assert not list(capture.datagrams())
        assert capture.skipped == {"cut": 1}


@pytest.mark.parametrize("port", [4_789, 8_472, 6_081, 37_008, 1_701, 4_500])
def test_a_session_at_the_port_of_a_tunnel(tmp_path: Path, capsys, port: int) -> None:
    recorded = pcaps.frames_of(ROOT / "captures" / "clean-carousel.pcap")
    ends = {"group": ("ff15::7067:1", port)}
    frames = [
        (EPOCH + n * MS, frame(pcaps.payload_of(one), **ends))
        for n, (_, one) in enumerate(recorded)
    ]
    path, out = tmp_path / "c.pcap", tmp_path / "out"
    path.write_bytes(pcap(frames))
    assert run(["replay", str(path), "-o", str(out)]) == 0
