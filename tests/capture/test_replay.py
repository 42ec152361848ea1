"""``replay``: files out of captures, what is missing, and errors of one line."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from pgmlite.cli import run
from pgmlite.core.machine import MS, SECOND
from pgmlite.wire.layout import Order, PacketType
from pgmlite.wire.request import build_request
from tests.support import pcaps
from tests.support.builders import make_object, packet
from tests.support.event_schema import read_line
from tests.support.nak_builders import spm_packet
from tests.support.pcaps import EPOCH, frame, pcap, pcapng

ONE = make_object(20_000, symbol_size=256, block_symbols=16)
TWO = make_object(9_000, symbol_size=256, block_symbols=16, name="two.bin", seed=2)


@pytest.fixture
def replay(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a replay into `out`; give the exit code, the events and the lines on stderr."""

    def call(path: Path, *options: str) -> tuple[int, list[dict], list[str]]:
        code = run(["replay", str(path), "-o", str(tmp_path / "out"), "--json", *options])
        captured = capsys.readouterr()
        return code, list(map(read_line, captured.out.splitlines())), captured.err.splitlines()

    return call


def last(events: list[dict], name: str) -> dict:
    assert events[-1]["event"] == name
    return events[-1]


def test_a_cycle_gives_the_file(tmp_path: Path, replay) -> None:
    code, events, errors = replay(pcaps.write(tmp_path / "c.pcap", ONE))
    assert (code, errors) == (0, [])
    assert (tmp_path / "out").read_bytes() == ONE.data
    complete = last(events, "complete")
    assert complete["tree_digest"] == ONE.manifest.tree_digest.hex()
    assert (complete["lost"], complete["refused"], complete["skipped"]) == (0, {}, {})
    assert [event["event"] for event in events] == ["start", "manifest", "complete"]


def test_for_people(tmp_path: Path, capsys) -> None:
    path = pcaps.write(tmp_path / "c.pcap", ONE)
    assert run(["replay", str(path), "-o", str(tmp_path / "out")]) == 0
    assert "complete: " in capsys.readouterr().err


def test_losses_are_named_and_the_next_capture_fills_them(tmp_path: Path, replay) -> None:
    frames = [(at, frame(one)) for at, one in pcaps.carousel(ONE)]
    gone = [place for place, (_, one) in enumerate(frames) if one[62 + 3] == PacketType.ODATA]
    lost = {gone[3], gone[4], gone[-1]}
    kept = [one for place, one in enumerate(frames) if place not in lost]
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap(kept))
    code, events, errors = replay(path)
    assert code == 5
    size = len(ONE.data)
    assert last(events, "failed")["missing"] == [[768, 1_280], [size - size % 256, size]]
    assert len(errors) == 1
    assert "3 of 79 symbols are missing: bytes 768-1279, 19968-19999" in errors[0]
    assert not (tmp_path / "out").exists()
    # Blocks that are whole were kept; the others come once more.
    again = [(at, frame(one)) for at, one in pcaps.carousel(ONE, order=Order.BLOCKS, first=4)]
    path.write_bytes(pcap(again[:42]))
    assert replay(path)[0] == 0
    assert (tmp_path / "out").read_bytes() == ONE.data


def test_choice_of_group_port_and_object(tmp_path: Path, replay) -> None:
    places = {
        "a": ("ff15::1", 28_775),
        "b": ("ff15::2", 28_775),
        "c": ("ff15::2", 4_000),
    }
    frames = []
    for name, sample in (("a", ONE), ("b", TWO), ("c", ONE)):
        frames += [(at, frame(one, group=places[name])) for at, one in pcaps.carousel(sample)]
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap(sorted(frames, key=lambda stamped: stamped[0])))
    for options, sample in (
        ((), ONE),
        (("--group", "ff15::2", "--port", "28775"), TWO),
        (("-g", "[ff15::2]", "-p", "4000"), ONE),
        (("--port", "4000"), ONE),
        (("-g", "ff15::2", "-p", "28775", "--object", f"{TWO.manifest.oid:016x}"), TWO),
    ):
        code, _, errors = replay(path, *options)
        assert (code, errors) == (0, [])
        assert (tmp_path / "out").read_bytes() == sample.data
    code, _, errors = replay(path, "--port", "9")
    assert code == 4
    assert errors[0].endswith(
        "no pgmlite packets as asked for; there are: ff15::1 port 28775, ff15::2 port 28775, "
        "ff15::2 port 4000"
    )
    code, _, _ = replay(path, "--object", f"{TWO.manifest.oid:016x}")
    assert code == 0
    assert (tmp_path / "out").read_bytes() == TWO.data
    code, _, errors = replay(path, "--object", "0" * 16)
    assert (code, len(errors)) == (4, 1)


def test_one_of_two_objects_in_a_group(tmp_path: Path, replay) -> None:
    frames = [(at, frame(one)) for sample in (ONE, TWO) for at, one in pcaps.carousel(sample)]
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap(sorted(frames, key=lambda stamped: stamped[0])))
    code, events, _ = replay(path, "--object", f"{TWO.manifest.oid:016x}")
    assert code == 0
    assert (tmp_path / "out").read_bytes() == TWO.data
    assert last(events, "complete")["refused"]["object"] > 10


def test_overlays(tmp_path: Path, replay) -> None:
    path = pcaps.write(tmp_path / "c.pcap", ONE, cycles=12, rate=4_000_000)
    results = [replay(path, "--drop", "20%", "--seed", str(seed)) for seed in (1, 1, 2)]
    ends = [last(events, "complete") for _, events, _ in results]
    assert ends[0]["lost"] > 10
    facts = [{k: v for k, v in end.items() if k != "seconds"} for end in ends]
    assert facts[0] == facts[1] != facts[2]
    code, events, _ = replay(path, "--reorder", "30%")
    assert code == 0
    assert last(events, "complete")["lost"] < 9
    assert (tmp_path / "out").read_bytes() == ONE.data


def test_part_of_the_time(tmp_path: Path, replay) -> None:
    path = pcaps.write(tmp_path / "c.pcap", ONE, cycles=3, rate=1_000_000)
    cycle = 79 * (256 + 96) * 8 / 1e6
    code, events, _ = replay(path, "--from", "0", "--until", f"{cycle / 2}")
    assert code == 5
    missing = last(events, "failed")["missing"]
    assert len(missing) == 1
    assert 8_000 < missing[0][0] < 12_000
    (tmp_path / "out.part").unlink()
    code, events, _ = replay(path, "--from", f"{cycle}")
    assert code == 0
    assert last(events, "complete")["lost"] == 0
    code, events, errors = replay(path, "--from", "1000")
    assert code == 5
    assert "no valid packet was in the chosen part" in errors[0]


def test_original_timing(tmp_path: Path, replay) -> None:
    path = pcaps.write(tmp_path / "c.pcap", ONE, rate=800_000)
    began = time.monotonic()
    assert replay(path, "--realtime")[0] == 0
    assert 0.2 < time.monotonic() - began < 5


def test_bad_input_is_an_error_of_one_line(tmp_path: Path, replay) -> None:
    whole = pcaps.write(tmp_path / "c.pcap", ONE).read_bytes()
    foreign = pcap([(EPOCH, frame(b"hello", group=("ff15::9", 53)))])
    text = b"this is a text file\n" * 10
    for name, data, code, message in (
        ("foreign", foreign, 4, "no pgmlite packets"),
        ("none", pcap([]), 4, "no pgmlite packets"),
        ("text", text, 4, "neither a pcap nor a pcapng capture"),
        ("empty", b"", 4, "neither a pcap nor a pcapng capture"),
        ("head", whole[:20], 4, "cut off inside a packet, and no pgmlite packets"),
        ("cut", whole[:9_000], 5, "cut off inside a packet, "),
        ("damaged", whole[:9_000] + b"\xff" * 9_000, 5, "damaged at byte"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        found, _, errors = replay(path)
        assert (name, found, len(errors)) == (name, code, 1)
        assert message in errors[0]
        assert not (tmp_path / "out").exists()
    code, _, errors = replay(tmp_path / "missing")
    assert (code, len(errors)) == (7, 1)
    code, _, errors = replay(tmp_path / "c.pcap", "-o", str(tmp_path / "no" / "out"))
    assert (code, len(errors)) == (7, 1)
    for options in (("--group", "x"), ("--from", "-1"), ("--drop", "2"), ("--object", "z")):
        code, _, errors = replay(tmp_path / "c.pcap", *options)
        assert (code, len(errors)) == (2, 1)


def stream(sample, *, lost: set[int], answer: bool) -> list[tuple[int, bytes]]:
    """Return frames of a sender with repairs that loops `sample`, 1 ms a packet."""
    fields = {"nonce": 5, "grtt": 85, "gsize": 0, "backoff_factor": 6}
    fields |= {"repair_share": 50, "repair_port": 28_776}
    frames, now, sqn = [], EPOCH, 0

    def add(one: bytes) -> None:
        frames.append((now, frame(one)))

    add(spm_packet(sample, {"sqn": 0}, timestamp=1, **fields))
    for piece in sample.nodes(sqn=1):
        sqn += 1
        add(piece)
    for cycle in range(2):
        for symbol in range(sample.manifest.symbols):
            now += MS
            sqn += 1
            if not cycle and symbol in lost:
                continue
            add(sample.odata([symbol], sqn=sqn)[0])
            if answer and not cycle and symbol == max(lost) + 8:
                body, _ = build_request(np.array(sorted(lost)), 1_184)
                sqn += 1
                add(packet(PacketType.NCF, body, **(sample.fields | {"sqn": sqn})))
    return frames


def test_naks_that_the_receiver_would_send_are_listed(tmp_path: Path, replay) -> None:
    # spec: NAK-3, NAK-5, NAK-14
    sample = make_object(256 * 400, symbol_size=256, block_symbols=40)
    lost = {45, 46, 50}
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap(stream(sample, lost=lost, answer=False)))
    code, events, _ = replay(path)
    assert code == 0
    naks = [event for event in events if event["event"] == "nak"]
    assert naks
    assert naks[0]["symbols"] == [[45, 46], [50, 50]]
    assert naks[0]["endpoint"] == ["fd01::1", 28_776]
    # Not before the block's end has gone past, by the three packets that may overtake.
    assert 0.080 < naks[0]["at"] < 0.12
    assert bytes.fromhex(naks[0]["packet"])[3] == PacketType.NAK
    again = [event for event in replay(path)[1] if event["event"] == "nak"]
    assert again == naks, "the same seed"
    assert not [event for event in replay(path, "--no-nak")[1] if event["event"] == "nak"]


def test_naks_by_count_are_listed(tmp_path: Path, replay) -> None:
    """Block after block; of the first one more is lost than is asked for by name."""
    sample = make_object(256 * 400, symbol_size=256, block_symbols=40, repair_symbols=64)
    names = [(block, esi) for block in range(10) for esi in range(40)]
    at, frames = EPOCH, []
    fields = {"nonce": 5, "grtt": 85, "gsize": 0, "backoff_factor": 6}
    fields |= {"repair_share": 50, "repair_port": 28_776}
    packets = [spm_packet(sample, {"sqn": 0}, timestamp=1, **fields)]
    packets += sample.nodes(sqn=1)
    packets += sample.encoded(names, sqn=10)
    lost = {len(packets) - 400 + esi for esi in range(5, 15)}
    for place, one in enumerate(packets):
        at += MS
        if place not in lost:
            frames.append((at, frame(one)))
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap(frames))
    code, events, errors = replay(path)
    assert code == 5
    assert len(errors) == 1
    naks = [event for event in events if event["event"] == "nak"]
    assert naks
    assert naks[0]["symbols"] == []
    ((block, count),) = naks[0]["counts"]
    assert block == 0
    assert 13 <= count <= 20  # three beside, and more for what gets lost on the way
    assert run(["replay", str(path), "-o", str(tmp_path / "out")]) == 5


def test_a_confirmation_in_the_capture_suppresses(tmp_path: Path, replay) -> None:
    # spec: NAK-5
    sample = make_object(256 * 400, symbol_size=256, block_symbols=40)
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap(stream(sample, lost={45, 46, 50}, answer=True)))
    code, events, _ = replay(path)
    assert code == 0
    first = next((event["at"] for event in events if event["event"] == "nak"), 1.0)
    assert first > 0.058 + 7 * 0.002, "not while the confirmation holds"


def test_a_sender_that_starts_anew(tmp_path: Path, replay) -> None:
    frames = [(at, frame(one)) for at, one in pcaps.carousel(ONE)][:40]
    more = [(at + 10 * SECOND, frame(one)) for at, one in pcaps.carousel(TWO)]
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap(frames + more))
    code, events, _ = replay(path)
    assert code == 0
    assert "superseded" in [event["event"] for event in events]
    assert (tmp_path / "out").read_bytes() == TWO.data


# Captures from the wild.


def with_garbage(path: Path, form, place: int, *, gone: int = 0) -> int:
    """Write a cycle of ONE with garbage at packet `place`; return the byte at which that is."""
    frames = [(at, frame(one)) for at, one in pcaps.carousel(ONE)]
    front, behind = form(frames[:place]), form(frames[place + gone :])
    path.write_bytes(front + b"\xa5" * 999 + behind[len(form([])) :])
    return len(front)


@pytest.mark.parametrize("form", [pcap, pcapng])
def test_a_damaged_place_is_named_whether_the_object_came_whole_or_not(
    tmp_path: Path, capsys, replay, form
) -> None:
    path = tmp_path / "c"
    at = with_garbage(path, form, 30)
    code, events, errors = replay(path)
    assert code == 0
    assert (tmp_path / "out").read_bytes() == ONE.data
    (warned,) = [event["warning"] for event in events if event["event"] == "warning"]
    assert f"damaged at byte {at}: " in warned
    assert warned.endswith(f", read on from byte {at + 999}")
    assert errors == [f"warning: {warned}"]
    (place,) = last(events, "complete")["damaged_places"]
    assert (place["at"], place["until"]) == (at, at + 999)
    assert run(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["damaged_places"] == [place]
    assert facts["sessions"][0]["lost"] == 0
    assert run(["info", str(path)]) == 0
    assert f"damaged at byte {at}: " in capsys.readouterr().out
    at = with_garbage(path, form, 30, gone=3)
    code, events, errors = replay(path)
    assert code == 5
    assert len(errors) == 1
    assert "3 of 79 symbols are missing: bytes " in errors[0]
    assert f"; damaged at byte {at}: " in errors[0]
    assert last(events, "failed")["damaged_places"][0]["at"] == at


def test_more_damage_than_is_worth_naming(tmp_path: Path, replay) -> None:
    frames = [(at, frame(one)) for at, one in pcaps.carousel(ONE)]
    path = tmp_path / "c"
    pieces = [pcap(frames[place : place + 4])[24:] for place in range(0, len(frames), 4)]
    path.write_bytes(pcap([]) + (b"\xff" * 50).join(pieces))
    code, _, errors = replay(path)
    assert code == 0
    assert (tmp_path / "out").read_bytes() == ONE.data
    assert len(errors) == 5
    assert errors[-1].endswith(f": and {len(pieces) - 1 - 4} more damaged places")


@pytest.mark.parametrize("checksum", ["none", "constant", "bad"])
def test_checksums_that_were_never_computed(tmp_path: Path, capsys, replay, checksum: str) -> None:
    frames = []
    for at, one in pcaps.carousel(ONE):
        made = frame(one, checksum="none" if checksum == "constant" else checksum)
        if checksum == "constant":
            made = made[: 14 + 40 + 6] + b"\x12\x34" + made[14 + 40 + 8 :]
        frames.append((at, made))
    path = tmp_path / "c"
    path.write_bytes(pcap(frames))
    for call in (replay(path)[2], info_errors(path, capsys)):
        assert len(call) == 1
        assert f"the UDP checksums of {len(frames)} of {len(frames)} datagrams are wrong" in call[0]
        assert call[0].endswith("--no-checksum takes them")
    code, events, errors = replay(path, "--no-checksum")
    assert (code, errors) == (0, [])
    assert (tmp_path / "out").read_bytes() == ONE.data
    assert last(events, "complete")["skipped"] == {}
    assert run(["info", str(path), "--no-checksum", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == {}
    # Only some: they are damaged, and nothing is said of cards.
    good = [(at, frame(one)) for at, one in pcaps.carousel(ONE)]
    path.write_bytes(pcap(good[:60] + frames[60:]))
    (error,) = replay(path)[2]
    assert "symbols are missing" in error
    assert "--no-checksum" not in error


def info_errors(path: Path, capsys) -> list[str]:
    assert run(["info", str(path)]) == 4
    return capsys.readouterr().err.splitlines()


def test_a_snap_length_is_called_one(tmp_path: Path, capsys, replay) -> None:
    frames = [(at, frame(one)) for at, one in pcaps.carousel(ONE)]
    records = [
        struct.pack("<4I", at // SECOND, at % SECOND, min(100, len(one)), len(one)) + one[:100]
        for at, one in frames
    ]
    path = tmp_path / "c"
    path.write_bytes(pcap([]) + b"".join(records))
    for errors in (replay(path)[2], info_errors(path, capsys)):
        assert len(errors) == 1
        assert f"(skipped: {len(frames)} cut by the capture); tcpdump -s0 keeps" in errors[0]
        assert "refused" not in errors[0]


def test_why_there_are_no_packets(tmp_path: Path, replay) -> None:
    path = tmp_path / "c"
    for data, message in (
        (pcap([(EPOCH, frame(b"\1" * 60))] * 3), "(other UDP datagrams: 3 magic)"),
        (pcap([(EPOCH, frame(b"\1"))] * 3), "(other UDP datagrams: 3 short)"),
        (
            pcapng([(EPOCH, frame(b"\1"))]) + pcaps.interface(127),
            "; link type 127 is not supported",
        ),
        (pcapng([(EPOCH, b"")], 127), "link type 127 is not supported; known: null, Ethernet"),
    ):
        path.write_bytes(data)
        code, _, errors = replay(path)
        assert (code, len(errors)) == (4, 1)
        assert message in errors[0]


def test_what_pieces_left_is_not_missing(tmp_path: Path, replay) -> None:
    """Captures of a third each, in blocks that none of them has whole."""
    sample = make_object(256 * 300 + 100, symbol_size=256, block_symbols=512)
    frames = [(at, frame(one)) for at, one in pcaps.carousel(sample)]
    path, part = tmp_path / "c", tmp_path / "out.part"
    stored: set[int] = set()
    head = [one for one in frames if one[1][62 + 3] != PacketType.ODATA][:2]
    data = [one for one in frames if one[1][62 + 3] == PacketType.ODATA]
    for start, stop in ((0, 100), (50, 180), (220, 301)):
        path.write_bytes(pcap(head + data[start:stop]))
        code, events, errors = replay(path)
        stored |= set(range(start, stop))
        gone = sorted(set(range(301)) - stored)
        assert code == 5
        assert f"{len(gone)} of 301 symbols are missing: bytes " in errors[0]
        ranges = last(events, "failed")["missing"]
        assert [symbol for a, b in ranges for symbol in range(a // 256, -(-b // 256))] == gone
    assert part.exists()
    path.write_bytes(pcap(head + data[180:220]))
    assert replay(path)[0] == 0
    assert (tmp_path / "out").read_bytes() == sample.data
