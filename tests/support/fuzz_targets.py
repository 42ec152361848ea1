"""What fuzzers call: one function for each thing that takes bytes from strangers.

Each takes bytes, and raises only if something is wrong with us. `test_fuzz` calls them with inputs
made to a plan, ``bench/fuzz.py`` with whatever coverage leads to.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np

from pgmlite.capture import file
from pgmlite.capture.datagrams import split
from pgmlite.capture.file import Capture
from pgmlite.capture.replay import Choice, ReplayLoop, find_group
from pgmlite.core.config import ReceiverConfig, RepairConfig
from pgmlite.core.decode import Decoded
from pgmlite.core.machine import MS, SECOND, Action, Complete, Decode, Held, Prepare, SendNak
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import ObjectError, RefusedPacket, TimedOut
from pgmlite.net.waiting import Waits
from pgmlite.wire import batch as wire
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.control import parse_spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import HEADER, PacketType
from pgmlite.wire.manifest import Manifest, parse_manifest
from pgmlite.wire.request import parse_nak, parse_request
from tests import witness
from tests.support import fuzz_signed, pcaps
from tests.support.answering import Answering
from tests.support.disk import Disk
from tests.support.fuzz_pieces import joined, pieces
from tests.support.invalid_vectors import invalid
from tests.support.signed_vectors import valid_signed
from tests.support.vector_files import Numbers
from tests.support.vectors import NONCE, SMALL, TSI, nak, sample, valid
from tests.support.wraps import WRAPS

OTHER = sample(500, 64, 4, "other.bin")


def reason_of(one: bytes) -> str:
    """Return why our parsers refuse a packet that stands alone; empty if they do not."""
    if len(one) < HEADER_SIZE:
        return "short"
    refused: Counter[str] = Counter()
    if not wire.read(np.frombuffer(one, np.uint8), len(one), Endpoint("a", 9), refused):
        ((reason, count),) = refused.items()
        assert count == 1
        return reason
    header, body = HEADER.parse(one), one[HEADER_SIZE:]
    total = -(-header.size // header.symbol_size)
    try:
        if header.type == PacketType.SPM:
            parse_manifest(parse_spm(body).manifest)
        elif header.type == PacketType.NAK:
            parse_nak(body, total)
        elif header.type == PacketType.NCF:
            parse_request(body, total)
    except RefusedPacket as refusal:
        return refusal.reason
    except ObjectError:
        return "manifest"
    return ""


def reason_of_witness(one: bytes) -> str:
    """Return the same of the witness."""
    try:
        header, body = witness.Header(one), one[HEADER_SIZE:]
        if header.type == witness.SPM:
            witness.Manifest(witness.parse_spm(body)[0])
        elif header.type == witness.NAK:
            witness.check(20 <= len(body) <= 1_184 and body[18:20] == b"\0\0", "request")
            witness.parse_request(body[20:], header.symbols)
        elif header.type == witness.NCF:
            witness.check(len(body) <= 1_184, "request")
            witness.parse_request(body, header.symbols)
    except witness.Refused as refusal:
        return str(refusal)
    return ""


def packet(data: bytes) -> None:
    """Every parser of packets, and the witness as their judge."""
    ours, other = reason_of(data), reason_of_witness(data)
    assert ours == other, f"{ours!r} here, {other!r} at the witness"


def rows(data: bytes) -> None:
    """A receive buffer of many packets: the first two bytes say how far they are apart."""
    stride = int.from_bytes(data[:2], "big") % 200 + 1
    octets = np.frombuffer(data[2:], np.uint8)
    if not len(octets):
        return
    refused: Counter[str] = Counter()
    batches = wire.read(octets, stride, Endpoint("a", 9), refused)
    count = -(-len(octets) // stride)
    assert sum(map(len, batches)) + refused.total() == count
    alone = [reason_of_rows(octets[at : at + stride]) for at in range(0, len(octets), stride)]
    assert Counter(filter(None, alone)) == refused


def reason_of_rows(octets: wire.Octets) -> str:
    """Return why `wire.read` refuses a packet; empty if it does not."""
    refused: Counter[str] = Counter()
    wire.read(octets, len(octets), Endpoint("a", 9), refused)
    return next(iter(refused), "")


def receiver(data: bytes) -> None:
    """The receiver machine: packets, with times and sources from the control bytes."""
    machine = Receiver(ReceiverConfig(), rng=Random(0))
    store, now, refused = Disk(b""), SECOND, machine.counters.refused

    def perform(actions: list[Action]) -> None:
        from pgmlite.core.machine import Store, Verify
        from pgmlite.sim.memory import answer

        todo = list(actions)
        while todo:
            action = todo.pop()
            match action:
                case Prepare() | Verify() | Decode():
                    todo += answer(machine, store, action)
                case Store():
                    store.store(action)
                case SendNak():
                    assert reason_of(action.packet) == ""
                case Complete():
                    assert machine.deadline is None

    machine.start(now)
    for how, one in pieces(data):
        now += (how & 3) ** 6 * 10 * MS
        source = Endpoint(f"fd01::{how >> 2 & 3}", 9)
        for batch in (
            wire.read(np.frombuffer(one, np.uint8), len(one), source, refused) if one else ()
        ):
            perform(machine.receive(now, batch))
        for _ in range(50):
            deadline = machine.deadline
            if deadline is None or deadline > now:
                break
            perform(machine.tick(now))
        else:
            raise AssertionError("due for ever")
        stored, symbols = machine.progress
        assert 0 <= stored <= symbols


def repairer(data: bytes) -> None:
    """The sender machine with repairs: NAKs and what else arrives at its port."""
    answering = Answering(SMALL, repair=RepairConfig(port=9), rng=Numbers(TSI, NONCE))
    for how, one in pieces(data):
        if one:
            answering.give(one, source=Endpoint(f"10.0.0.{how}", 9))
        answering.run(answering.now + how * MS // 16)


class _Memory:
    """A partial file that is nowhere."""

    def __init__(self) -> None:
        self.disk = Disk(b"")
        self.published = False
        self.warnings: list[str] = []

    def prepare(self, wanted: Prepare) -> Held:
        return self.disk.prepare(wanted)

    def begin(self, manifest: Manifest) -> None:
        pass

    def store(self, pieces: Iterable[Sequence[tuple[int, memoryview]]], lying: Any) -> None:
        for runs in pieces:
            self.disk.write(runs)

    def decode(self, action: Decode) -> Decoded:
        return self.disk.decode(action)

    def place(self, decoded: Decoded) -> bool:
        return decoded.ok

    def matches(self, offset: int, length: int, expected: bytes) -> bool:
        return self.disk.matches(offset, length, expected)

    def settle(self, complete: Complete) -> list[int]:
        return []

    def publish(self, complete: Complete) -> bool:
        self.published = True
        return True


def drive(work: Waits[Complete]) -> Complete:
    """Do work to its end, without a wait; return what it returns."""
    try:
        while True:
            next(work)
    except StopIteration as end:
        return cast("Complete", end.value)


def replay(data: bytes) -> None:
    """A whole capture file, replayed."""
    number = os.memfd_create("capture")
    try:
        os.write(number, data)
        path = Path(f"/proc/self/fd/{number}")
        part: Any = _Memory()
        try:
            capture = Capture(path)
            group = find_group(capture, Choice())
            machine = Receiver(ReceiverConfig(), rng=Random(0))
            loop = ReplayLoop(machine, capture, part, lambda _: None, choice=Choice(), group=group)
            part.publish(drive(loop.run()))
        except (ObjectError, TimedOut):
            assert not part.published
    finally:
        os.close(number)


def capture(data: bytes) -> None:
    """A capture file alone: what is read does not depend on the pieces in which it is."""
    number = os.memfd_create("capture")
    try:
        os.write(number, data)
        path = Path(f"/proc/self/fd/{number}")
        seen = []
        usual = file.CHUNK
        for size in (usual, 997):
            file.CHUNK = size
            try:
                one = Capture(path, checksums=size == usual)
                found = list(one.datagrams())
            except ObjectError:
                return
            finally:
                file.CHUNK = usual
            times = [at for some in found for at in some.times.tolist()]
            assert times == sorted(times)
            assert one.skipped.total() - one.skipped["checksum"] <= one.packets
            assert len(times) <= one.packets
            size = sum(some.octets.size for some in found)
            assert size <= len(data) or one.compression, "no byte is of two packets"
            places = [damage.at for damage in one.damages]
            assert all(0 <= at <= len(data) or one.compression for at in places)
            assert one.damaged >= len(places)
            seen.append((len(times) + one.skipped["checksum"], one.packets, one.damaged))
            for some in found:
                refused: Counter[str] = Counter()
                packets = split(some, refused)
                assert sum(map(len, packets)) + refused.total() >= len(some)
        assert seen[0] == seen[1] or seen[0][2] or seen[1][2]
    finally:
        os.close(number)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "packet": packet,
    "rows": rows,
    "receiver": receiver,
    "repairer": repairer,
    "replay": replay,
    "capture": capture,
    **fuzz_signed.TARGETS,
}


def seeds(name: str) -> list[bytes]:
    """Return inputs to begin with."""
    if name in fuzz_signed.SEEDS:
        return list(fuzz_signed.SEEDS[name]())
    good = [one for _, one in (*valid(), *valid_signed())]
    bad = [bytes.fromhex(case["hex"]) for case in invalid()]
    if name == "packet":
        return good + bad
    cycle = [one for _, one in pcaps.carousel(SMALL)]
    if name == "rows":
        return [max(0, len(one) - 1).to_bytes(2) + one * 3 for one in good] + [
            (111).to_bytes(2) + b"".join(SMALL.all_odata())
        ]
    if name == "receiver":
        return [
            joined((0, one) for one in cycle),
            joined((place % 16, one) for place, one in enumerate(good)),
            joined((1, one) for one in [SMALL.spm(), *bad]),
            joined((3, one) for one in [SMALL.spm(), OTHER.spm(), *OTHER.all_odata(), *cycle]),
        ]
    if name == "repairer":
        naks = [nak(SMALL, [number], sqn=number) for number in range(6)]
        return [joined((7, one) for one in naks), joined((99, one) for one in good + bad)]
    return captures(cycle, good + bad)


def captures(cycle: list[bytes], odd: list[bytes]) -> list[bytes]:
    """Return captures of all kinds."""
    links = ("ethernet", "sll2", "raw")
    stamped = list(pcaps.carousel(SMALL))
    frames = {link: [(at, pcaps.frame(one, link)) for at, one in stamped] for link in links}
    plain, junk = frames["ethernet"], Random(1).randbytes(90)
    groups = [(at, pcaps.frame(one)) for at, one, _ in pcaps.joined(stamped, Random(2))]
    tunnels = [(at, WRAPS[name](one, 5)) for name in sorted(WRAPS) for at, one in plain[3:4]]
    blocks = [pcaps.enhanced(at, one) for at, one in plain]
    later = [pcaps.enhanced(at - 10 * SECOND, one, interface=1) for at, one in plain]
    return [
        *(pcaps.pcap(frames[link], link) for link in links),
        pcaps.pcapng(plain),
        pcaps.pcapng(plain, how="old", order=">"),
        pcaps.pcapng(plain, how="simple"),
        pcaps.pcap(groups),
        pcaps.pcap(tunnels),
        pcaps.pcap(plain[:9]) + junk + pcaps.pcap(plain[9:])[24:],
        pcaps.pcapng(plain[:9]) + junk + b"".join(blocks[9:]),
        pcaps.pcap(plain[:9]) + pcaps.pcapng(plain[9:], order=">") + pcaps.pcap(plain),
        pcaps.section() + pcaps.interface() * 2 + b"".join(blocks + later),
        pcaps.pcap(
            [(at - 3_600 * SECOND * (n % 7 == 3), one) for n, (at, one) in enumerate(plain)]
        ),
        *(module.compress(pcaps.pcap(plain)) for module in (gzip, bz2, lzma)),
        pcaps.pcap([(SECOND * 100 + n * MS, pcaps.frame(one)) for n, one in enumerate(odd)]),
    ]
