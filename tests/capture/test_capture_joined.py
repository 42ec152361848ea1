"""Captures in which the system joined packets: they are taken apart as they came."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from pgmlite.capture.datagrams import Datagrams, split, stride_of
from pgmlite.capture.file import Capture
from pgmlite.wire.layout import PacketType
from pgmlite.wire.request import build_request
from tests.generate import ROOT
from tests.support import pcaps
from tests.support.builders import make_object, packet
from tests.support.pcaps import EPOCH, frame, ip_packet, joined, pcap

CAPTURES = ROOT / "captures"
RECORDED = ("clean-carousel", "loss-repair-receiver-side", "clean-carousel-ipv4", "loss-carousel")
SMALL = make_object(64 * 20 + 12)
"""Its last symbol is shorter than a node of its tree."""


def payloads_of(name: str) -> list[tuple[int, bytes]]:
    """Return the packets to the group in one of our captures."""
    frames = pcaps.frames_of(CAPTURES / f"{name}.pcap")
    found = [(at, pcaps.payload_of(one)) for at, one in frames]
    return [(at, one) for at, one in found if one[3] != PacketType.NAK]


def packets(path: Path, refused: Counter[str] | None = None) -> list[bytes]:
    """Return all packets of a capture, in order."""
    counted = Counter() if refused is None else refused
    found = [
        row.tobytes() + payload.tobytes()
        for datagrams in Capture(path).datagrams()
        for batch in split(datagrams, counted)
        for row, payload in zip(batch.rows, batch.payload, strict=True)
    ]
    assert refused is not None or not counted
    return found


def in_order(some: list[bytes]) -> list[bytes]:
    """Return packets with the nodes and NCFs first that came between two SPMs: readers may."""
    ordered: list[bytes] = []
    since: list[bytes] = []
    for one in some:
        since.append(one)
        if one[3] == PacketType.SPM:
            ordered += sorted(since, key=place_of)
            since = []
    return ordered + sorted(since, key=place_of)


def place_of(packet: bytes) -> tuple[int, bytes]:
    """Return where a packet may stand: what is no data by its bytes, what is data as it came."""
    is_ahead = packet[3] in {PacketType.TREE, PacketType.NCF}
    return (0, packet) if is_ahead else (1 + (packet[3] == PacketType.SPM), b"")


@pytest.mark.parametrize("checksum", ["good", "partial"])
@pytest.mark.parametrize("name", [*RECORDED, "small"])
def test_what_gro_joined(tmp_path: Path, name: str, checksum: str) -> None:
    some = list(pcaps.carousel(SMALL, cycles=4)) if name == "small" else payloads_of(name)
    kinds = set()
    for seed in range(6):
        groups = list(joined(some, Random(seed)))
        path = tmp_path / "c"
        path.write_bytes(pcap((at, frame(one, checksum=checksum)) for at, one, _ in groups))
        assert in_order(packets(path)) == in_order([one for _, one in some])
        for _, one, first in groups:
            last = one[(len(one) - 1) // len(first) * len(first) :]
            kinds.add((PacketType(first[3]).name, PacketType(last[3]).name, len(last) < len(first)))
    assert ("ODATA", "SPM", True) in kinds or name in ("small", "loss-repair-receiver-side")
    assert len(kinds) >= 4, kinds


def test_an_spm_and_a_node_in_one(tmp_path: Path) -> None:
    spm, node = SMALL.spm(), SMALL.nodes()[-1]
    whole = SMALL.all_odata()
    request, _ = build_request(np.array([1, 5, 9]), 1_184)
    ncf = packet(PacketType.NCF, request, **SMALL.fields)
    full_node = SMALL.nodes()[0]
    # Whole, where the object's last symbol is short.
    coded = packet(PacketType.RDATA, bytes(64), **SMALL.fields, flags=1, esi=9, offset=1_280)
    for parts in (
        [spm, node],
        [coded, coded],
        [whole[0], coded, whole[1]],
        [spm, coded],
        [full_node, coded],
        [spm, spm, node],
        [spm, whole[-1]],
        [node, whole[-1]],
        [node, node],
        [ncf, ncf],
        [whole[-1], ncf],
        [*whole[:5], ncf],
        [*whole[:5], whole[-1]],
    ):
        assert all(len(one) == len(parts[0]) for one in parts[:-1])
        assert len(parts[-1]) <= len(parts[0])
        octets = np.frombuffer(b"".join(parts), np.uint8)
        assert stride_of(octets) == len(parts[0])
        path = tmp_path / "c"
        path.write_bytes(pcap([(EPOCH, frame(b"".join(parts)))]))
        assert packets(path) == parts


def test_what_is_one_packet_stays_one(tmp_path: Path) -> None:
    # spec: PKT-1
    spm, node, whole = SMALL.spm(), SMALL.nodes()[0], SMALL.all_odata()
    for one in (spm, node, whole[0], whole[-1]):
        assert not stride_of(np.frombuffer(one, np.uint8))
    other = make_object(5_000, symbol_size=128)
    for parts, reason in (
        ([whole[0], bytes(64)], "length"),
        ([whole[0], whole[1][:47]], "length"),
        ([whole[0], b"\x70\x67\x03" + whole[1][3:]], "length"),
        ([whole[0], other.all_odata()[-1]], "length"),
        ([whole[0], bytes(len(whole[0])), whole[1]], "length"),
        ([b"\x70\x67\x03" + whole[0][3:]] * 2, "version"),
        ([bytes(112)] * 3, "magic"),
    ):
        path = tmp_path / "c"
        path.write_bytes(pcap([(EPOCH, frame(b"".join(parts)))]))
        refused: Counter[str] = Counter()
        assert packets(path, refused) == []
        assert refused == {reason: 1}
    # A datagram of joined packets of which one is wrong.
    wrong = whole[1][:44] + b"\1\1\1\1" + whole[1][48:]
    path.write_bytes(pcap([(EPOCH, frame(whole[0] + wrong + whole[2]))]))
    refused = Counter()
    assert packets(path, refused) == [whole[0], whole[2]]
    assert refused == {"esi": 1}


def test_joined_and_single_ones_of_one_length_take_turns() -> None:
    whole = SMALL.all_odata()
    wide = make_object(len(whole[0]) * 3 - 48, symbol_size=1_024)
    lone = wide.all_odata()[0]
    burst = b"".join(whole[3:6])
    assert len(lone) == len(burst)
    octets = np.frombuffer(lone + burst + burst + lone + lone, np.uint8).reshape(5, -1)
    found = split(Datagrams(np.arange(5), ("a", 1), ("b", 2), octets), refused := Counter())
    made = [
        row.tobytes() + payload.tobytes()
        for batch in found
        for row, payload in zip(batch.rows, batch.payload, strict=True)
    ]
    assert made == [lone, *whole[3:6], *whole[3:6], lone, lone]
    assert not refused


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("checksum", ["good", "partial"])
def test_lists_with_the_checksum_of_the_first(tmp_path: Path, family: int, checksum: str) -> None:
    ends = {"source": ("10.9.0.1", 4_000), "group": ("239.70.67.1", 28_775)} if family == 4 else {}
    some = list(pcaps.carousel(make_object(30_001, symbol_size=500)))
    frames, odd = [], 0
    for at, one, first in joined(some, Random(3), most=8):
        kind, whole = ip_packet(one, checksum=checksum, **ends)
        _, alone = ip_packet(first, checksum=checksum, **ends)
        udp = 20 if family == 4 else 40
        odd += whole[udp + 6 : udp + 8] != alone[udp + 6 : udp + 8]
        whole = whole[: udp + 6] + alone[udp + 6 : udp + 8] + whole[udp + 8 :]
        frames.append((at, pcaps.LINKS["ethernet"][1](kind) + whole))
    assert odd > 4
    path = tmp_path / "c"
    path.write_bytes(pcap(frames))
    assert packets(path) == [one for _, one in some]
    # That of another one stays wrong, and so does that of the first where there is no other.
    sqn = 14 + udp + 8 + 43
    broken = [(at, one[:sqn] + bytes([one[sqn] ^ 0x55]) + one[sqn + 1 :]) for at, one in frames]
    path.write_bytes(pcap(broken))
    capture = Capture(path)
    list(capture.datagrams())
    skipped = capture.skipped["checksum"]
    assert skipped == (len(frames) if checksum == "good" else 0)


def test_a_checksum_of_another_length_is_no_excuse(tmp_path: Path) -> None:
    one = frame(SMALL.all_odata()[0], checksum="bad")
    path = tmp_path / "c"
    path.write_bytes(pcap([(EPOCH, one)] * 3))
    capture = Capture(path)
    assert not list(capture.datagrams())
    assert capture.skipped == {"checksum": 3}
    assert capture.tally.checked == 3
    assert len(list(Capture(path, checksums=False).datagrams()))
