"""Captures: formats, link types, and what is skipped."""

from __future__ import annotations

import os
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pgmlite.capture import file as module
from pgmlite.capture.datagrams import Datagrams, split
from pgmlite.capture.file import Capture
from pgmlite.core.machine import MS
from pgmlite.errors import DiskError, ObjectError
from tests.support import pcaps
from tests.support.builders import make_object
from tests.support.pcaps import (
    EPOCH,
    GROUP,
    LINKS,
    SOURCE,
    block,
    frame,
    interface,
    ip_packet,
    pcap,
    pcapng,
)

V4 = {"source": ("10.9.0.1", 40_000), "group": ("239.70.67.1", 28_775)}
V6 = {"source": SOURCE, "group": GROUP}
PAYLOADS = [bytes([number]) * 100 for number in range(5)] + [b"\7" * 33, b""]
STAMPED = [(EPOCH + number * MS, payload) for number, payload in enumerate(PAYLOADS)]


def read(path: Path, data: bytes) -> tuple[list[Datagrams], Capture]:
    path.write_bytes(data)
    capture = Capture(path)
    return list(capture.datagrams()), capture


def payloads(found: list[Datagrams]) -> list[tuple[int, bytes]]:
    return [
        (int(at), octets.tobytes())
        for datagrams in found
        for at, octets in zip(datagrams.times, datagrams.octets, strict=True)
    ]


@pytest.mark.parametrize("family", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("form", [pcap, pcapng])
def test_every_link_type(tmp_path: Path, form, link: str, family: dict) -> None:
    frames = [(at, frame(payload, link, **family)) for at, payload in STAMPED]
    found, capture = read(tmp_path / "c", form(frames, link))
    assert payloads(found) == STAMPED
    assert {(one.source, one.destination) for one in found} == {(family["source"], family["group"])}
    assert (capture.packets, capture.skipped, capture.is_cut) == (len(STAMPED), Counter(), False)
    assert len(found[0]) == 5, "equal lengths stay together"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nano", [True, False])
def test_byte_orders_and_units_of_time(tmp_path: Path, order: str, nano: bool) -> None:
    frames = [(at, frame(payload)) for at, payload in STAMPED]
    found, _ = read(tmp_path / "c", pcap(frames, order=order, nano=nano))
    assert payloads(found) == STAMPED
    found, _ = read(tmp_path / "c", pcapng(frames, order=order))
    assert payloads(found) == STAMPED


@pytest.mark.parametrize(
    ("resolution", "value"), [(6, 1_500_000), (3, 1_500), (12, 1_500_000_000_000), (0x81, 3)]
)
def test_resolutions_of_pcapng(tmp_path: Path, resolution: int, value: int) -> None:
    interface = struct.pack("<HHIHHB3x", 1, 0, 0, 9, 1, resolution)
    interface += struct.pack("<HHqHH", 14, 8, 100, 0, 0)
    one = frame(b"x")
    head = struct.pack("<5I", 0, value >> 32, value & 0xFFFFFFFF, len(one), len(one))
    section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    found, _ = read(tmp_path / "c", section + block(1, interface) + block(6, head + one))
    assert payloads(found) == [(101_500_000_000, b"x")]


def test_simple_packets_have_the_time_before(tmp_path: Path) -> None:
    frames = [(at, frame(payload)) for at, payload in STAMPED]
    found, _ = read(tmp_path / "c", pcapng(frames, how="simple"))
    assert [payload for _, payload in payloads(found)] == PAYLOADS


@pytest.mark.parametrize("order", "<>")
def test_obsolete_packet_blocks(tmp_path: Path, order: str) -> None:
    frames = [(at, frame(payload)) for at, payload in STAMPED]
    found, capture = read(tmp_path / "c", pcapng(frames, how="old", order=order))
    assert payloads(found) == STAMPED
    assert (capture.packets, capture.damaged) == (len(STAMPED), 0)


def test_clock_never_goes_back(tmp_path: Path) -> None:
    frames = [(EPOCH + at, frame(b"x")) for at in (5, 3, 9, 1)]
    found, capture = read(tmp_path / "c", pcap(frames))
    assert [at - EPOCH for at, _ in payloads(found)] == [5, 5, 9, 9]
    assert (capture.first, capture.clock.now) == (EPOCH + 5, EPOCH + 9)
    assert not capture.clock.count


def test_file_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 100)
    for form in (pcap, pcapng):
        frames = [(at, frame(payload)) for at, payload in STAMPED * 20]
        found, capture = read(tmp_path / "c", form(frames))
        assert [payload for _, payload in payloads(found)] == PAYLOADS * 20
        assert not capture.is_cut


def test_flows_that_alternate(tmp_path: Path) -> None:
    flows = [V4 | {"source": ("10.9.0.2", 1)}, V4, V6 | {"group": ("ff15::1", 9)}]
    # Frames of one length, though the headers differ in theirs.
    sizes = [120, 120, 100]
    frames = [
        (EPOCH + place, frame(bytes([place]) * sizes[place % 3], **flows[place % 3]))
        for place in range(30)
    ]
    found, capture = read(tmp_path / "c", pcap(frames))
    assert [octets[0] for _, octets in payloads(found)] == list(range(30))
    for place, one in enumerate(found):
        assert one.source == flows[place % 3]["source"]
    assert not capture.skipped


@pytest.mark.parametrize("checksum", ["good", "bad", "none", "partial"])
@pytest.mark.parametrize("family", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("payload", [b"", b"odd", b"\xff" * 64, bytes(101)])
def test_checksums(tmp_path: Path, checksum: str, family: dict, payload: bytes) -> None:
    frames = [(EPOCH, frame(payload, checksum=checksum, **family)), (EPOCH, frame(payload))]
    found, capture = read(tmp_path / "c", pcap(frames))
    is_bad = checksum == "bad" or (checksum == "none" and family is V6)
    assert len(payloads(found)) == (1 if is_bad else 2)
    assert capture.skipped == ({"checksum": 1} if is_bad else {})


def test_one_bad_checksum_among_good_ones(tmp_path: Path) -> None:
    good, bad = frame(b"x" * 60), frame(b"x" * 60, checksum="bad")
    found, capture = read(tmp_path / "c", pcap([(EPOCH, good), (EPOCH, bad), (EPOCH, good)]))
    assert len(payloads(found)) == 2
    assert capture.skipped == {"checksum": 1}


def changed(raw: bytes, at: int, new: bytes) -> bytes:
    return raw[:at] + new + raw[at + len(new) :]


V4_FRAME, V6_FRAME = frame(b"data", **V4), frame(b"data", **V6)
ODD = {
    "first fragment": (changed(V4_FRAME, 20, b"\x20\x00"), "fragment"),
    "later fragment": (changed(V4_FRAME, 20, b"\x00\x10"), "fragment"),
    "fragment of IPv6": (changed(V6_FRAME, 20, b"\x2c"), "fragment"),
    "TCP": (changed(V4_FRAME, 23, b"\x06"), "not_udp"),
    "ICMPv6": (changed(V6_FRAME, 20, b"\x3a"), "not_udp"),
    "ARP": (changed(V4_FRAME, 12, b"\x08\x06"), "not_ip"),
    "no IP version": (changed(V4_FRAME, 14, b"\x55"), "not_ip"),
    "header too short": (changed(V4_FRAME, 14, b"\x44"), "malformed"),
    "UDP too short": (changed(V4_FRAME, 38, b"\0\7"), "malformed"),
    "UDP longer than IP": (changed(V4_FRAME, 38, b"\1\0"), "malformed"),
    "IP longer than the frame": (
        changed(changed(V4_FRAME, 16, b"\4\0"), 38, b"\3\0"),
        "malformed",
    ),
    "empty frame": (b"", "cut"),
    "half an Ethernet header": (V4_FRAME[:13], "cut"),
    "endless options": (changed(changed(V6_FRAME, 20, b"\0"), 54, b"\0\xff"), "cut"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_frames_are_counted_by_reason(tmp_path: Path, name: str) -> None:
    odd, reason = ODD[name]
    found, capture = read(tmp_path / "c", pcap([(EPOCH, odd), (EPOCH, V4_FRAME)]))
    assert [payload for _, payload in payloads(found)] == [b"data"]
    assert capture.skipped == {reason: 1}


@pytest.mark.parametrize("kept", [*range(0, 66, 5), 65])
def test_frames_that_the_capture_cut(tmp_path: Path, kept: int) -> None:
    whole = V6_FRAME
    record = struct.pack("<4I", 1, 0, kept, len(whole)) + whole[:kept]
    _, capture = read(tmp_path / "c", pcap([]) + record)
    assert capture.skipped == {"cut": 1}


def test_padding_and_extension_headers(tmp_path: Path) -> None:
    _, packet = ip_packet(b"data", **V6)
    options = b"\x3c\0" + bytes(6) + b"\x11\1" + bytes(14)
    longer = packet[:4] + (12 + 24).to_bytes(2) + b"\0" + packet[7:40] + options + packet[40:]
    frames = [(EPOCH, LINKS["ethernet"][1](0x86DD) + longer), (EPOCH, V4_FRAME + bytes(14))]
    found, capture = read(tmp_path / "c", pcap(frames))
    assert [payload for _, payload in payloads(found)] == [b"data", b"data"]
    assert not capture.skipped


def test_what_is_no_capture(tmp_path: Path) -> None:
    for data in (b"", b"hello", b"\xd4\xc3\xb2"):
        with pytest.raises(ObjectError, match="neither"):
            read(tmp_path / "c", data)
    for form in (pcap, pcapng):
        with pytest.raises(ObjectError, match="link type 105 is not supported; known: null, ") as e:
            read(tmp_path / "c", form([(EPOCH, b"radio")], 105))
        assert str(e.value).count("raw IP,") == 1, "each is listed once"
        with pytest.raises(ObjectError, match="link type 105"):
            read(tmp_path / "c", form([], 105))
    with pytest.raises(DiskError, match="No such file"):
        Capture(tmp_path / "none")
    with pytest.raises(DiskError, match="directory"):
        Capture(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DiskError, match="no regular file"):
        Capture(tmp_path / "fifo")


def test_one_of_two_interfaces_is_foreign(tmp_path: Path) -> None:
    head = pcapng([]) + interface(127)
    data = head + pcaps.enhanced(EPOCH, b"radio", interface=1) + pcaps.enhanced(EPOCH, V4_FRAME)
    found, capture = read(tmp_path / "c", data)
    assert [payload for _, payload in payloads(found)] == [b"data"]
    assert capture.skipped == {"link_type_127": 1}


@pytest.mark.parametrize("form", [pcap, pcapng])
def test_files_cut_anywhere(tmp_path: Path, form) -> None:
    whole = form([(at, frame(payload)) for at, payload in STAMPED[:3]])
    ends = []
    for size in range(4, len(whole)):
        found, capture = read(tmp_path / "c", whole[:size])
        assert payloads(found) == STAMPED[: len(payloads(found))]
        if not capture.is_cut:
            ends.append(size)
    assert len(ends) <= 5, "only between records"


def test_joined_packets_are_taken_apart(tmp_path: Path) -> None:
    sample = make_object(64 * 20 + 12)
    joined = b"".join(sample.all_odata())
    found, _ = read(tmp_path / "c", pcap([(EPOCH, frame(joined, checksum="partial"))]))
    refused: Counter[str] = Counter()
    batches = [batch for one in found for batch in split(one, refused)]
    assert sum(map(len, batches)) == 21
    assert np.concatenate([batch.payload.reshape(-1) for batch in batches]).tobytes() == sample.data
    assert not refused
    # Too long, but not because packets were joined: what follows is no packet.
    found, _ = read(tmp_path / "c", pcap([(EPOCH, frame(sample.odata([0])[0] + bytes(64)))]))
    assert not split(found[0], refused)
    assert refused == {"length": 1}


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    import tracemalloc

    sample = make_object(6_000_000, symbol_size=1_404, block_symbols=1_024)
    path = pcaps.write(tmp_path / "c", sample, rate=400_000_000)
    capture = Capture(path)
    tracemalloc.start()
    try:
        for _ in range(3):
            assert sum(map(len, capture.datagrams())) > 4_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * module.CHUNK


@pytest.mark.parametrize("family", [V4, V6], ids=["IPv4", "IPv6"])
def test_marks_of_routers_are_read(tmp_path: Path, family: dict) -> None:
    # spec: NET-12
    whole = make_object(64 * 12).all_odata()
    path = tmp_path / "c"
    path.write_bytes(
        pcap((EPOCH + n, frame(one, ecn=n // 3, **family)) for n, one in enumerate(whole))
    )
    refused: Counter[str] = Counter()
    found = [batch for some in Capture(path).datagrams() for batch in split(some, refused, 7)]
    assert {batch.at for batch in found} == {7}
    marks = [batch.congested / len(batch) for batch in found for _ in batch.rows]
    assert marks == [0] * 9 + [1] * 3
    # Many in one frame share it.
    path.write_bytes(pcap([(EPOCH, frame(b"".join(whole), ecn=3, **family))]))
    (datagrams,) = Capture(path).datagrams()
    (batch,) = split(datagrams, refused)
    assert (len(batch), batch.congested, batch.at) == (12, 12, None)
    assert not refused
