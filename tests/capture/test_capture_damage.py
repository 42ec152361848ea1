"""Captures with damaged places: what stands before and behind them is read, the place is named."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.capture import file as module
from pgmlite.capture.file import Capture, Damage
from pgmlite.capture.pcap import Pcap
from pgmlite.core.machine import MS
from tests.support import pcaps
from tests.support.pcaps import EPOCH, block, enhanced, frame, interface, pcap, pcapng, section

STAMPED = [(EPOCH + number * MS, frame(bytes([number]) * 90)) for number in range(40)]
FORMS = {
    "pcap": pcap,
    "big-endian pcap": lambda frames: pcap(frames, order=">", nano=False),
    "pcapng": pcapng,
    "big-endian pcapng": lambda frames: pcapng(frames, order=">"),
}
HEADER = {name: len(form([])) for name, form in FORMS.items()}
RECORD = {name: len(form(STAMPED[:1])) - HEADER[name] for name, form in FORMS.items()}


def read(path: Path, data: bytes) -> tuple[list[int], Capture]:
    """Return the numbers of the packets that were found, and the capture."""
    path.write_bytes(data)
    capture = Capture(path)
    return [
        int(octets[0]) for one in capture.datagrams() for octets in one.octets if len(octets) == 90
    ], capture


def places(capture: Capture) -> list[tuple[int, int | None]]:
    return [(one.at, one.until) for one in capture.damages]


NOISE = Random(1).randbytes(700)
GARBAGE = {
    "zeros": bytes(16),
    "many zeros": bytes(100_000),
    "ones": b"\xff" * 333,
    "noise": NOISE,
    "text": b"a kernel wrote its log into this file\n" * 20,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("where", ["in the middle", "at the end", "in front", "three times"])
def test_garbage_between_packets(tmp_path: Path, form: str, garbage: str, where: str) -> None:
    bad = GARBAGE[garbage]
    counts = {
        "in the middle": [20, 20],
        "at the end": [40, 0],
        "in front": [0, 40],
        "three times": [8, 9, 10, 13],
    }[where]
    whole = FORMS[form](STAMPED)
    pieces, at, expected = [whole[: HEADER[form]]], HEADER[form], []
    for count in counts:
        size = count * RECORD[form]
        pieces.append(whole[at : at + size])
        at += size
    data = pieces[0] + bad.join(pieces[1:])
    position = HEADER[form]
    for count in counts[:-1]:
        position += count * RECORD[form]
        expected.append(position)
        position += len(bad)
    found, capture = read(tmp_path / "c", data)
    assert found == list(range(40))
    assert capture.packets == 40
    assert [at for at, _ in places(capture)] == expected
    if where == "at the end":
        assert places(capture) == [(expected[0], None)]
    else:
        assert [until for _, until in places(capture)] == [at + len(bad) for at in expected]
    assert not capture.is_cut


@pytest.mark.parametrize("form", FORMS)
def test_bytes_overwritten_or_missing_in_the_middle(tmp_path: Path, form: str) -> None:
    whole = FORMS[form](STAMPED)
    start = HEADER[form] + 10 * RECORD[form] + 30
    size = 4 * RECORD[form]
    overwritten = whole[:start] + Random(2).randbytes(size) + whole[start + size :]
    missing = whole[:start] + whole[start + size + 7 :]
    for data in (overwritten, missing):
        found, capture = read(tmp_path / "c", data)
        assert found[:10] == list(range(10))
        assert set(found) >= {*range(10), *range(16, 40)}
        assert capture.damaged == 1
        ((at, until),) = places(capture)
        assert start - RECORD[form] < at < start + RECORD[form]
        assert until is not None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", [400, -40, 20_000, 1 << 20, (1 << 32) - 1])
def test_a_wrong_length_costs_one_packet_at_most(tmp_path: Path, form: str, change: int) -> None:
    data = bytearray(FORMS[form](STAMPED))
    at = HEADER[form] + 10 * RECORD[form]
    order = ">" if form.startswith("big") else "<"
    field = at + (4 if "pcapng" in form else 8)
    (length,) = struct.unpack_from(order + "I", data, field)
    struct.pack_into(order + "I", data, field, (length + change) % (1 << 32))
    found, capture = read(tmp_path / "c", bytes(data))
    assert set(found) >= set(range(40)) - {10}
    assert found == sorted(set(found)), "no byte is of two packets"
    if form.endswith("pcap") and change == 400:
        assert found == list(range(40)), "it ends where the next one begins"
    assert capture.damaged == 1
    assert places(capture)[0][0] >= at
    assert not capture.is_cut


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_one_capture_behind_another(tmp_path: Path, first: str, second: str) -> None:
    one, other = FORMS[first](STAMPED[:15]), FORMS[second](STAMPED[15:])
    found, capture = read(tmp_path / "c", one + other)
    assert found == list(range(40))
    if "pcapng" in first and "pcapng" in second:
        assert not capture.damaged, "sections may follow one another"
    else:
        assert capture.damages == [Damage(len(one), "another capture begins", len(one))]
    # With the end of the first cut off.
    found, capture = read(tmp_path / "c", one[:-50] + other)
    assert found == [*range(14), *range(15, 40)]
    assert capture.damaged == 1


def test_a_capture_in_a_packet_is_not_read(tmp_path: Path) -> None:
    # Who pushes captures by pgmlite has them in captures.
    inner = pcap([(EPOCH, frame(bytes([99]) * 90))] * 4)
    frames = [(at, frame(bytes([n]) * 90)) for n, (at, _) in enumerate(STAMPED)]
    frames[20] = (frames[20][0], frame(inner))
    for form in (pcap, pcapng):
        found, capture = read(tmp_path / "c", form(frames))
        assert found == [n for n in range(40) if n != 20]
        assert not capture.damaged


def test_no_byte_is_of_two_packets(tmp_path: Path) -> None:
    # Garbage behind a packet with a capture in it: what is inside looks like what comes next.
    inner = pcap([(at, frame(bytes([99]) * 90)) for at, _ in STAMPED[:9]])
    front = [*STAMPED[:20], (STAMPED[20][0], frame(inner))]
    path = tmp_path / "c"
    path.write_bytes(pcap(front) + NOISE + pcap(STAMPED[21:])[HEADER["pcap"] :])
    capture = Capture(path)
    found = [octets.tobytes() for one in capture.datagrams() for octets in one.octets]
    assert sum(map(len, found)) < path.stat().st_size
    assert (inner in found) != (bytes([99]) * 90 in found)
    assert [one[0] for one in found if len(one) == 90 and one[0] != 99] == [
        n for n in range(40) if n != 20
    ]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (pcap([]) + struct.pack("<4I", 0, 0, 0xFFFFFFFF, 0xFFFFFFFF), "a packet of 4294967295"),
        (pcap([]) + struct.pack("<4I", 0, 0, 0, 0), "zeros"),
        (pcapng([]) + struct.pack("<3I", 6, 11, 0), "a block of 11 bytes"),
        (pcapng([]) + struct.pack("<3I", 6, 0xFFFFFFF0, 0), "a block of 4294967280 bytes"),
        (pcapng([]) + block(6, struct.pack("<5I", 0, 0, 0, 500, 500)), "a packet of 500 bytes in"),
        (pcapng([]) + block(2, struct.pack("<5I", 0, 0, 0, 500, 500)), "a packet of 500 bytes in"),
        (pcapng([]) + block(6, struct.pack("<5I", 7, 0, 0, 0, 0)), "interface 7 is unknown"),
        (pcapng([]) + block(6, b""), "a packet without its head"),
        (pcapng([]) + block(1, b""), "an interface without link type"),
        (section() + block(3, bytes(8)), "a packet without an interface"),
        (pcapng([]) + block(0x0A0D0D0A, bytes(16)), "a section without byte order"),
        (pcapng([]) + block(5, bytes(16))[:-4] + bytes(4), "does not end as it begins"),
    ],
)
def test_damage_is_named_with_its_place(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "c"
    path.write_bytes(data)
    capture = Capture(path)
    assert not list(capture.datagrams())
    (damage,) = capture.damages
    head = len(section()) if data.startswith(section() + block(3, bytes(8))) else None
    start = head or (24 if data.startswith(pcap([])) else len(pcapng([])))
    assert damage.at == start
    assert what in damage.what


def test_a_section_that_has_no_byte_order_at_the_start_of_a_file(tmp_path: Path) -> None:
    found, capture = read(tmp_path / "c", block(0x0A0D0D0A, bytes(16)) + pcapng(STAMPED))
    assert found == list(range(40))
    assert places(capture) == [(0, 28)]


def test_packets_of_an_interface_that_is_gone(tmp_path: Path) -> None:
    data = section() + b"".join(enhanced(at, one) for at, one in STAMPED)
    found, capture = read(tmp_path / "c", data)
    assert not found
    assert (capture.packets, capture.skipped) == (40, {"interface": 40})
    assert [(one.at, one.what) for one in capture.damages] == [(28, "interface 0 is unknown")]


@pytest.mark.parametrize("cut", [0, 1, 4, 5])
def test_big_blocks_are_passed_over(tmp_path: Path, cut: int) -> None:
    from pgmlite.capture import pcapng as blocks

    size = blocks.MAX_BLOCK + 1_000
    path = tmp_path / "c"
    big = block(10, bytes(size))
    with path.open("wb") as file:
        file.write(pcapng(STAMPED[:20]))
        file.write(big[:8])
        file.seek(len(big) - 12, 1)
        file.write(big[-4:])
        for at, one in STAMPED[20:]:
            file.write(enhanced(at, one))
        file.truncate(file.tell() - cut)
    import tracemalloc

    tracemalloc.start()
    try:
        capture = Capture(path)
        found = [int(octets[0]) for one in capture.datagrams() for octets in one.octets]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == list(range(40 if not cut else 39))
    assert (capture.damaged, capture.is_cut) == (0, bool(cut))
    assert peak < 4 * module.CHUNK


def test_a_big_block_that_is_none(tmp_path: Path) -> None:
    head = struct.pack("<2I", 10, 1 << 28)
    for behind in (b"", bytes(40)):
        data = pcapng(STAMPED[:20]) + head + behind + b"".join(enhanced(*s) for s in STAMPED[20:])
        found, capture = read(tmp_path / "c", data)
        assert found == list(range(40))
        assert capture.damaged == 1


@pytest.mark.parametrize("form", FORMS)
def test_where_the_file_is_cut_into_pieces_does_not_matter(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FORMS[form](STAMPED)
    middle = HEADER[form] + 20 * RECORD[form]
    data = (
        whole[:middle]
        + NOISE
        + whole[middle : -RECORD[form]]
        + bytes(64)
        + FORMS[form](STAMPED[39:])
    )
    expected = None
    for chunk in (1 << 20, 4_000, 1_000, 333, 100):
        monkeypatch.setattr(module, "CHUNK", chunk)
        found, capture = read(tmp_path / "c", data)
        assert found == list(range(40))
        facts = (places(capture), capture.packets, capture.is_cut)
        assert facts == (expected := expected or facts)


def test_damage_without_end_is_counted_and_read_in_linear_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = [0]
    find = Pcap.find

    def counting(self, data: bytes, start: int, stop: int, *, is_last: bool) -> tuple[int, bool]:
        looked_at[0] += stop - start
        return find(self, data, start, stop, is_last=is_last)

    monkeypatch.setattr(Pcap, "find", counting)
    bad = struct.pack("<4I", 1, 1, 0xFFFFFFFF, 1)
    pieces = []
    for number in range(2_000):
        at, one = STAMPED[number % 40]
        record = struct.pack("<4I", at // 10**9, 0, len(one), len(one)) + one
        pieces.append(record + record + bad)
    for count in (500, 2_000):
        looked_at[0] = 0
        data = pcap([]) + b"".join(pieces[:count])
        found, capture = read(tmp_path / "c", data)
        assert len(found) == 2 * count
        assert capture.damaged == count
        assert len(capture.damages) == module.MAX_DAMAGES
        assert looked_at[0] < 4 * len(data)


@given(st.data())
def test_whatever_is_changed_the_rest_is_found(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FORMS)))
    whole = FORMS[name](STAMPED)
    at = HEADER[name] + data.draw(st.integers(0, 39)) * RECORD[name]
    kind = data.draw(st.sampled_from(["insert", "overwrite", "remove"]))
    size = data.draw(st.integers(1, 400))
    bad = data.draw(
        st.sampled_from([bytes(size), b"\xff" * size, data.draw(st.randoms()).randbytes(size)])
    )
    if kind == "insert":
        made, hurt = whole[:at] + bad + whole[at:], set()
    else:
        offset = data.draw(st.integers(0, RECORD[name] - 1))
        start, stop = at + offset, at + offset + size
        made = whole[:start] + (bad if kind == "overwrite" else b"") + whole[stop:]
        first = (start - HEADER[name]) // RECORD[name]
        hurt = set(range(first, (min(stop, len(whole)) - HEADER[name] - 1) // RECORD[name] + 1))
    import os

    number = os.memfd_create("capture")
    try:
        os.write(number, made)
        capture = Capture(Path(f"/proc/self/fd/{number}"))
        found = [int(o[0]) for one in capture.datagrams() for o in one.octets if len(o) == 90]
    finally:
        os.close(number)
    lost = set(range(40)) - hurt - set(found)
    # Those around the place may seem to be part of it, and the last two too few in a row.
    assert len(lost) <= 2, (lost, capture.damages)


def test_interfaces_survive_damage(tmp_path: Path) -> None:
    head = section() + interface(127) + interface("sll2")
    some = [
        enhanced(at, frame(bytes([n]) * 90, "sll2"), interface=1)
        for n, (at, _) in enumerate(STAMPED)
    ]
    found, capture = read(tmp_path / "c", head + b"".join(some[:9]) + NOISE + b"".join(some[9:]))
    assert found == list(range(40))
    assert capture.damaged == 1
    assert (capture.first or 0) >= pcaps.EPOCH
