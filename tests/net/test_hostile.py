"""Datagrams of strangers: counted by reason, harmless, and no heavier for being many."""

import resource
import socket
import time

import pytest

from pgmlite.net.sender_socket import SenderSocket
from pgmlite.wire.manifest import Manifest
from tests.bench.hostile import RATE, attack
from tests.support.builders import Drive, Sample, make_object, packet, spm_body
from tests.support.loopback import (
    ODATA,
    PATIENCE,
    SPM,
    SYMBOL,
    Running,
    drain,
    raw_receiver,
    receiving,
    sending,
)

MEMORY_LIMIT_KIB = 200 << 10


@pytest.mark.slow
def test_a_transfer_under_attack(tmp_path):
    count = 40_000
    result = attack(tmp_path, count, count / RATE)
    assert result.ended.code == 0, result.ended.stderr
    assert result.is_equal
    assert "Traceback" not in "\n".join(result.ended.stderr)
    assert result.sent > count // 2  # all of them, but on the busiest of machines
    refused = result.ended.last["refused"]
    assert refused.keys() >= {"magic", "short", "length", "offset", "object", "manifest", "spm"}
    assert sum(refused.values()) > 1_000
    assert result.peak_kib < MEMORY_LIMIT_KIB
    # Dozens of MiB may be in use for large datagrams at one moment and not at another.
    assert result.growth_kib < 80 << 10


def broadcast(sock: socket.socket, sample: Sample, receiver: Running) -> None:
    """Send the object until the receiver has it."""
    end = time.monotonic() + PATIENCE / 2
    sqn = 0
    while receiver.is_running and time.monotonic() < end:
        for one in (sample.spm(), *sample.nodes(), *sample.all_odata(sqn=sqn)):
            sock.send(one)
        sqn += sample.manifest.symbols
        time.sleep(0.05)


def hostile_packets(sample: Sample) -> dict[str, tuple[bytes, str]]:
    """Return packets that are wrong in one way each, and the reason they are refused for."""
    size, payload = sample.manifest.size, bytes(SYMBOL)
    fields = sample.fields
    # The last symbol boundary before 2**63: its end does not fit 64 bits with a sign.
    far = ((1 << 63) - 1) // SYMBOL * SYMBOL
    other = make_object(size, symbol_size=SYMBOL, block_symbols=8, seed=1)
    tiny_blocks = Manifest(64, 1, 64 << 24, bytes(32), "many blocks")
    tiny = {"oid": tiny_blocks.oid, "size": tiny_blocks.size, "symbol_size": 64}
    return {
        "end past 2**63": (packet(ODATA, payload, **fields, offset=far), "offset"),
        "offset past 2**63": (packet(ODATA, payload, **fields, offset=1 << 63), "offset"),
        "past the object": (packet(ODATA, payload, **fields, offset=size), "offset"),
        "between symbols": (packet(ODATA, payload, **fields, offset=4), "offset"),
        "short in the middle": (packet(ODATA, payload[:-4], **fields, offset=0), "offset"),
        "too long": (packet(ODATA, payload + b"x", **fields, offset=0), "length"),
        "no payload": (packet(ODATA, b"", **fields, offset=0), "length"),
        "other size": (
            packet(ODATA, payload, **(fields | {"size": size + SYMBOL}), offset=0),
            "object",
        ),
        "other object": (other.all_odata()[0], "object"),
        "other manifest": (other.spm(), "object"),
        "manifest of another": (packet(SPM, spm_body(other.manifest.raw), **fields), "manifest"),
        "no manifest": (packet(SPM, spm_body(b""), **fields), "manifest"),
        "large manifest": (packet(SPM, spm_body(bytes(60_000)), **fields), "spm"),
        "no body": (packet(SPM, b"", **fields), "spm"),
        "flags": (packet(ODATA, payload, **fields, offset=0, flags=2), "reserved"),
        "block before the object": (packet(ODATA, payload, **fields, offset=0, esi=1), "esi"),
        "repair symbol": (packet(ODATA, payload, **fields, offset=0, flags=1, esi=8), "esi"),
        # Too many for any receiver, but who has an object does not look so far.
        "millions of blocks": (packet(SPM, spm_body(tiny_blocks.raw), **tiny), "object"),
        "empty": (b"", "short"),
    }


@pytest.mark.parametrize("when", ["first", "later"])
def test_no_single_packet_does_harm(tmp_path, sample, place, stranger, when):
    """All of them, before the receiver knows its object and when it does."""
    # spec: PKT-5
    hostile = hostile_packets(sample)
    if when == "first":
        # Nobody can know yet which object is the right one: whoever is announced first wins.
        del hostile["other manifest"]
    with receiving(tmp_path / "copy", place, "--object", f"{sample.manifest.oid:016x}") as receiver:
        receiver.event("start")
        if when == "later":
            stranger.send(sample.spm())
            receiver.event("manifest")
        for data, _ in hostile.values():
            stranger.send(data)
        broadcast(stranger, sample, receiver)
        ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert ended.stderr == []
    assert (tmp_path / "copy").read_bytes() == sample.data
    assert ended.last["refused"].keys() <= {reason for _, reason in hostile.values()}


def test_too_many_blocks_are_refused_by_who_has_no_object(sample):
    # spec: RCV-2
    drive = Drive()
    drive.give([hostile_packets(sample)["millions of blocks"][0]])
    assert drive.refused == {"too_large": 1}
    assert drive.machine.manifest is None


def test_what_every_packet_is_refused_for(sample):
    for kind, (data, reason) in hostile_packets(sample).items():
        drive = Drive()
        drive.give([sample.spm()])
        if data:  # reads without any bytes never get as far as the machine
            drive.give([data])
            assert (kind, drive.refused) == (kind, {reason: 1})


@pytest.mark.parametrize("before_manifest", [True, False])
def test_a_size_beyond_the_file_system_does_not_end_a_receiver(
    tmp_path, sample, place, stranger, before_manifest
):
    """A forged packet says 512 GiB; some file systems and limits do not hold such files."""
    forged = packet(
        ODATA, bytes(SYMBOL), symbol_size=SYMBOL, oid=7, size=SYMBOL << 28, offset=SYMBOL << 27
    )
    with receiving(tmp_path / "copy", place) as receiver:
        receiver.event("start")
        resource.prlimit(receiver.pid, resource.RLIMIT_FSIZE, (1 << 24, 1 << 24))
        if not before_manifest:
            stranger.send(sample.spm())
            receiver.event("manifest")
        stranger.send(forged)
        broadcast(stranger, sample, receiver)
        ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert (tmp_path / "copy").read_bytes() == sample.data


@pytest.mark.slow
def test_a_manifest_with_millions_of_blocks_takes_no_memory(tmp_path, place, stranger):
    manifest = Manifest(64, 1, 64 << 24, bytes(32), "many blocks")
    fields = {"oid": manifest.oid, "size": manifest.size, "symbol_size": 64}
    with receiving(tmp_path / "copy", place) as receiver:
        receiver.event("start")
        for _ in range(5):
            stranger.send(packet(SPM, spm_body(manifest.raw), **fields))
            time.sleep(0.1)
        receiver.event("progress")
        receiver.memory_kib()
        assert receiver.stop().code == 6
    assert 0 < receiver.peak_kib < MEMORY_LIMIT_KIB


def test_the_object_asked_for_wins_over_the_one_announced_first(tmp_path, sample, place, stranger):
    other = make_object(20 * SYMBOL, symbol_size=SYMBOL, block_symbols=8, seed=1)
    with receiving(tmp_path / "copy", place, "--object", f"{sample.manifest.oid:016x}") as receiver:
        receiver.event("start")
        for one in (other.spm(), *other.nodes(), *other.all_odata()):
            stranger.send(one)
        broadcast(stranger, sample, receiver)
        ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert ended.last["refused"]["object"] >= 20
    assert (tmp_path / "copy").read_bytes() == sample.data


def test_joined_packets_are_counted_one_by_one(tmp_path, sample, place, stranger):
    """The system may hand a burst over as one read: all of it is refused, packet by packet."""
    sender = SenderSocket(place.channel, hops=1)
    junk = [bytes([number]) * 100 for number in range(60)]
    with receiving(tmp_path / "copy", place) as receiver:
        receiver.event("start")
        sender.send([part for one in junk for part in (one[:48], one[48:])], 100)
        broadcast(stranger, sample, receiver)
        ended = receiver.end()
    sender.close()
    assert ended.code == 0, ended.stderr
    assert ended.last["refused"] == {"magic": 60}


def test_a_sender_takes_no_notice(tmp_path, place, stranger):
    source = tmp_path / "source"
    source.write_bytes(bytes(SYMBOL * 20))
    with raw_receiver(place) as tap, sending(source, place, "--cycles", 2, rate="3M") as sender:
        sender.event("start")
        for number in range(20):
            stranger.send(bytes(number))
        ended = sender.end()
        packets = [one for one in drain(tap) if one[:2] == b"pg"]
    assert ended.code == 0, ended.stderr
    assert ended.last["packets"] == len(packets)
    assert ended.last["odata"] == 40
