"""The loops between machines, sockets and disks; signals, time limits, and what is kept."""

import errno
import os
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random

import pytest

from pgmlite.core.config import ReceiverConfig, SenderConfig
from pgmlite.core.impair import Loss
from pgmlite.core.machine import SendNak
from pgmlite.core.receive import diagnosis as diagnosis_module
from pgmlite.core.send.sender import Sender
from pgmlite.errors import DiskError, Interrupted, NetworkError, TimedOut
from pgmlite.net import receiving as receive_module
from pgmlite.net.loop import Stop
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.sending import SendLoop
from pgmlite.net.udp import Arrival
from pgmlite.storage.part import PartFile
from pgmlite.storage.source import SourceFile
from pgmlite.wire.batch import SendBuffer
from pgmlite.wire.control import Manifest
from pgmlite.wire.digests import BlockTree, block_digest
from tests.support.builders import Judging, Sample, joined, make_object
from tests.support.loopback import (
    BLOCK,
    CHANNEL,
    HEADER,
    ODATA,
    SPM,
    SYMBOL,
    TREE,
    FakeReceiverSocket,
    FakeSenderSocket,
    Heard,
    Running,
    Until,
    endpoint,
    make_file,
    receive,
    receiving,
    sending,
    until,
)

MS = 1_000_000
GIB = 1 << 30


# Sending.


@pytest.fixture
def sample():
    return make_object(4_321)


@pytest.fixture
def send_loop(tmp_path, sample):
    """Make loops that send `sample` through a socket given."""
    with ExitStack() as opened:

        def make(sock: FakeSenderSocket, **config) -> SendLoop:
            path = tmp_path / "source"
            path.write_bytes(sample.data)
            source = SourceFile(path)
            opened.callback(source.close)
            values = {"rate": None, "packet_overhead": 28, "cycles": 1} | config
            settings = SenderConfig(**values)
            machine = Sender(settings, sample.manifest, sample.tree, rng=Random(1))
            buffer = SendBuffer(sample.manifest.symbol_size, settings.transmit_limit)
            return SendLoop(machine, [sock], source, buffer, settings.max_burst, Heard(), Stop())

        yield make


def content(packets: list[bytes]) -> bytes:
    """Put ODATA together again."""
    data = bytearray()
    for packet in packets:
        fields = HEADER.unpack_from(packet)
        if fields[2] == ODATA:
            at = fields[9]
            data[at : at + len(packet) - HEADER.size] = packet[HEADER.size :]
    return bytes(data)


@pytest.mark.parametrize("config", [{}, {"rate": 50_000_000}, {"max_burst": 7}], ids=str)
def test_a_cycle_is_the_file(send_loop, sample, config):
    sock = FakeSenderSocket()
    loop = send_loop(sock, **config)
    loop.run()
    assert content(sock.sent) == sample.data
    assert len(sock.sent) == loop.machine.counters.packets
    assert sum(map(len, sock.sent)) == loop.machine.counters.bytes


def test_a_link_that_is_down_is_warned_of_once(send_loop):
    # spec: SND-10
    sock = FakeSenderSocket(*[errno.ENETUNREACH] * 6)
    loop = send_loop(sock, cycles=5, max_burst=8, unpaced_bursts=1)
    loop.run()
    first, last = loop.listener.warnings
    assert "Network is unreachable; trying on" in first
    assert "sending again after 0." in last
    assert sock.sent
    # The socket may be tied to an address that the interface lost: a new one is not.
    assert sock.reopened == 4
    # Nothing is lost, however often it is tried: what could not go out goes out first.
    assert len(sock.sent) == loop.machine.counters.packets
    assert loop.machine.counters.unsent == 0


@pytest.mark.parametrize(
    "numbers",
    [[errno.EMSGSIZE], [errno.EACCES], [errno.ECONNREFUSED] * 9, [errno.ENOPROTOOPT] * 2],
    ids=str,
)
def test_icmp_messages_change_nothing(send_loop, numbers):
    # spec: SND-10
    sock = FakeSenderSocket(*numbers)
    loop = send_loop(sock, cycles=3)
    loop.run()
    assert sock.sent
    assert not sock.reopened
    assert not loop.listener.warnings


def test_a_full_queue_is_no_reason_for_a_new_socket(send_loop):
    sock = FakeSenderSocket(errno.ENOBUFS, errno.ENOBUFS)
    loop = send_loop(sock, cycles=3)
    loop.run()
    assert sock.sent
    assert not sock.reopened


def test_an_interface_that_went_away_is_opened_anew(send_loop):
    sock = FakeSenderSocket(*[errno.ENODEV] * 4)
    loop = send_loop(sock, cycles=3)
    loop.run()
    assert sock.reopened == 3
    assert len(loop.listener.warnings) == 2


def test_errors_that_do_not_pass(send_loop):
    with pytest.raises(NetworkError, match="Permission denied") as caught:
        send_loop(FakeSenderSocket(errno.EACCES, errno.EACCES)).run()
    assert str(CHANNEL) in str(caught.value)


def test_sending_is_stopped_by_a_signal(send_loop):
    sock = FakeSenderSocket()
    loop = send_loop(sock, cycles=None)
    sock.after = lambda: loop.stop._handle(signal.SIGTERM, None)
    with pytest.raises(Interrupted, match="SIGTERM"):
        loop.run()


class Endless:
    """A socket from which there is always more to read, all of it empty."""

    def __init__(self, reads_at_once: int) -> None:
        self.READS_AT_ONCE = reads_at_once
        self.reads = 0
        self._ready, self._written = os.pipe()
        os.write(self._written, b"x")

    def fileno(self) -> int:
        return self._ready

    def read_into(self, pieces: list[memoryview]) -> Arrival:
        self.reads += 1
        assert self.reads < 1_000_000, "nobody looked at the time"
        return Arrival(0, 0, ("::1", 1))

    def release(self) -> None:
        os.close(self._ready)
        os.close(self._written)


@pytest.mark.parametrize("rate", [None, 50_000_000])
def test_packets_without_end_leave_the_carousel_its_time(send_loop, sample, rate):
    sock = FakeSenderSocket()
    loop = send_loop(sock, rate=rate)
    loop.ears = naks, group = Endless(1), Endless(8)
    loop.run()
    assert content(sock.sent) == sample.data
    # Both have their turn, however long the other could go on.
    assert group.reads == 8 * naks.reads > 0
    naks.release()
    group.release()


def test_a_change_in_the_last_moment_is_noticed(send_loop):
    sock = FakeSenderSocket()
    loop = send_loop(sock)
    sock.after = lambda: loop.source.path.write_bytes(bytes(loop.source.size))
    with pytest.raises(DiskError, match="changed"):
        loop.run()


# Receiving.


@pytest.fixture
def receive_loop(tmp_path):
    with ExitStack() as opened:

        def make(timeout: int = 20_000, loss: Loss | None = None, **config) -> ReceiveLoop:
            sock = FakeReceiverSocket()
            opened.callback(sock.release)
            part = PartFile(tmp_path / "out")
            opened.callback(part.close)
            machine = Judging(ReceiverConfig(**config), rng=Random(0))
            return ReceiveLoop(
                machine, sock, part, Heard(), Stop(), timeout=timeout * MS, loss=loss
            )

        yield make


def put_all(sock: FakeReceiverSocket, sample: Sample) -> None:
    packets = [sample.spm(), *sample.nodes(), *sample.all_odata(sqn=50)]
    for read in joined(packets):
        sock.put(read.data, stride=read.stride)


def test_a_whole_object(receive_loop, sample, tmp_path):
    loop = receive_loop()
    put_all(loop._socket, sample)
    assert loop.run().manifest == sample.manifest
    assert (tmp_path / "out").read_bytes() == sample.data
    assert loop._socket.closed
    assert loop._listener.events == ["adopted"]


@pytest.mark.parametrize(
    ("wait", "slept"), [(0.1, []), (0.3, [0.3]), (9, [9]), (19, [10]), (21, []), (-5, [])]
)
def test_naps_are_taken_where_they_gather_much(receive_loop, monkeypatch, wait, slept):
    loop = receive_loop()
    naps: list[float] = []
    monkeypatch.setattr(receive_module.time, "sleep", naps.append)
    loop._gathered_at = 1_000 * MS + int(wait * MS)
    loop._nap(1_000 * MS)
    assert naps == pytest.approx([one / 1_000 for one in slept])


def test_empty_datagrams_and_errors_are_survived(receive_loop, sample, tmp_path):
    loop = receive_loop()
    for _ in range(5):
        loop._socket.put(b"")
    loop._socket.errors = [errno.ENETDOWN]
    put_all(loop._socket, sample)
    loop.run()
    assert loop._machine.counters.refused == {"short": 5}
    assert (tmp_path / "out").read_bytes() == sample.data
    assert len(loop._listener.warnings) == 1
    assert "Network is down" in loop._listener.warnings[0]


def test_empty_datagrams_without_end_do_not_hold_it_up(receive_loop):
    """As fast as they come: the clock and the signals must be looked at all the same."""
    loop = receive_loop(timeout=100)
    reads = 0

    def read_into(pieces) -> Arrival | None:
        nonlocal reads
        reads += 1
        return Arrival(0, 0, ("192.0.2.1", 7)) if reads < 1_000_000 else None

    loop._socket.put(b"x")
    loop._socket.read_into = read_into
    with pytest.raises(TimedOut):
        loop.run()
    assert reads < 1_000_000


@pytest.mark.parametrize("state", ["nothing", "data", "manifest"])
def test_time_limit(receive_loop, sample, state, tmp_path):
    loop = receive_loop(timeout=50)
    if state != "nothing":
        loop._socket.put(sample.odata([3])[0])
    if state == "manifest":
        loop._socket.put(sample.spm())
    with pytest.raises(TimedOut):
        loop.run()
    loop._part.close()
    assert (tmp_path / "out.part").exists() == (state != "nothing")
    assert not (tmp_path / "out").exists()


def test_receiving_is_stopped_by_a_signal(receive_loop):
    loop = receive_loop()
    loop._stop._handle(signal.SIGINT, None)
    with pytest.raises(Interrupted, match="SIGINT"):
        loop.run()


def test_silence_makes_it_join_anew_and_says_once_why_not(receive_loop, monkeypatch):
    # spec: NET-7
    monkeypatch.setattr(receive_module, "REJOIN_AFTER", 20 * MS)
    loop = receive_loop()
    loop._stop = Until(lambda: len(loop._socket.rejoins) > 4)
    with pytest.raises(Interrupted, match="seen"):
        loop.run()
    assert loop._listener.warnings == ["interface none0: not found; waiting for it"]


def test_loss_on_purpose(receive_loop, sample):
    loop = receive_loop(timeout=300, loss=Loss(0.5, Random(1)))
    put_all(loop._socket, sample)
    with pytest.raises(TimedOut):
        loop.run()
    stored, symbols = loop._machine.progress
    assert 0 < stored < symbols


def test_a_poisoned_block_is_fetched_again(receive_loop, sample, tmp_path):
    loop = receive_loop()
    size = sample.manifest.symbol_size
    forged = bytearray(sample.odata([0])[0])
    forged[-1] ^= 1
    loop._socket.put(sample.spm(), *sample.nodes(), bytes(forged), *sample.all_odata())
    put_all(loop._socket, sample)
    loop.run()
    assert loop._listener.events[:2] == ["adopted", "damaged 0"]
    assert (tmp_path / "out").read_bytes()[:size] == sample.data[:size]


def test_offsets_past_4_gib_from_source_to_partial_file(receive_loop, tmp_path):
    """Sent from the last block of 4 GiB and some: the rest is a hole that nobody has to hash."""
    blocks = 4 * GIB // BLOCK + 2
    size, last = blocks * BLOCK - 7, (blocks - 1) * BLOCK
    data = Random(0).randbytes(size - last)
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.seek(last)
        file.write(data)
    tree = BlockTree(bytes(32 * (blocks - 1)) + block_digest(data, SYMBOL), SYMBOL)
    manifest = Manifest(SYMBOL, 1_024, size, tree.root, "large")
    config = SenderConfig(rate=None, packet_overhead=28, start=last)
    sock, source = FakeSenderSocket(), SourceFile(path)
    sender = Sender(config, manifest, tree, rng=Random(1))
    buffer = SendBuffer(SYMBOL, config.transmit_limit)
    stop = Until(lambda: len(sock.sent) >= 2_500)
    with pytest.raises(Interrupted, match="seen"):
        SendLoop(sender, [sock], source, buffer, config.max_burst, Heard(), stop).run()
    source.close()

    loop = receive_loop()
    kinds = [HEADER.unpack_from(packet)[2] for packet in sock.sent]
    for kind in (SPM, TREE, ODATA):
        loop._socket.put(*[p for p, k in zip(sock.sent, kinds, strict=True) if k == kind][:1_024])
        loop._socket.pause()
    loop._stop = Until(lambda: loop._machine.right)
    with pytest.raises(Interrupted, match="seen"):
        loop.run()
    assert loop._machine.progress == (1_024, manifest.symbols)
    assert loop._machine.right == {blocks - 1}
    with (tmp_path / "out.part").open("rb") as file:
        assert not any(file.read(65_536))
        file.seek(last)
        assert file.read()[: len(data)] == data


def test_one_pass_is_enough_however_it_is_read(receive_loop, tmp_path):
    # Full nodes are nearly as long as ODATA; the last of them and the SPM before them are not.
    sample = make_object(100 * SYMBOL, symbol_size=SYMBOL, block_symbols=1)
    loop = receive_loop(timeout=1_000)
    loop._socket.put(sample.spm(), *sample.nodes(), *sample.all_odata())
    loop.run()
    assert (tmp_path / "out").read_bytes() == sample.data


# What keeps a transfer from getting on.


@pytest.fixture
def often(monkeypatch):
    """Look every few milliseconds instead of every second."""
    monkeypatch.setattr(receive_module, "REPORT_EVERY", 5 * MS)


def told(loop: ReceiveLoop, cause: str) -> list[str]:
    """Return what was said of a cause."""
    pairs = zip(loop._listener.warnings, loop._listener.facts, strict=True)
    return [text for text, facts in pairs if facts.get("cause") == cause]


def test_other_objects_are_told_of_while_waiting_and_at_the_end(receive_loop, sample, often):
    loop = receive_loop(timeout=300, oid=1)
    loop._socket.put(sample.spm())
    with pytest.raises(TimedOut, match=f"{sample.manifest.oid:016x}"):
        loop.run()
    assert len(told(loop, "object")) == 1


def test_the_time_limit_says_since_when_it_is_silent(receive_loop, sample, often, monkeypatch):
    monkeypatch.setattr(diagnosis_module, "SILENT_AFTER", 50 * MS)
    loop = receive_loop(timeout=300)
    loop._socket.put(sample.spm(), *sample.odata([1]))
    with pytest.raises(TimedOut, match="nothing came from a sender"):
        loop.run()
    assert len(told(loop, "silence")) == 1


def test_drops_of_a_slow_disk_are_told_of(receive_loop, sample, often, monkeypatch):
    loop = receive_loop(timeout=5_000)
    loop._stop = Until(lambda: told(loop, "disk"))

    def slow(runs) -> None:
        loop._socket.kernel_drops += 5
        time.sleep(0.02)

    monkeypatch.setattr(loop._part, "store", slow)
    for start in range(0, 40, 4):
        loop._socket.put(sample.spm(), *sample.odata(range(start, start + 4)))
        loop._socket.pause()
    with pytest.raises(Interrupted, match="seen"):
        loop.run()
    assert len(told(loop, "disk")) == 1


class Unreachable:
    """A socket for NAKs that gets none of them out."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)

    def send(self, packet: bytes, endpoint: tuple[str, int]) -> None:
        number = self.numbers.pop(0)
        if number:
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        pass


def test_naks_that_can_not_be_sent_are_counted_and_told_of_once_for_each_reason(receive_loop):
    # spec: NET-9
    loop = receive_loop()
    loop._nak_socket = Unreachable(errno.ENETUNREACH, 0, errno.EPERM, errno.ENETUNREACH)
    for endpoint_ in [("192.0.2.1", 9)] * 3 + [("fd01::1", 9)]:
        loop._send_nak(SendNak(endpoint_, b"a NAK"))
    first, second = told(loop, "nak")
    assert "192.0.2.1:9: Network is unreachable" in first
    assert "not permitted" in second
    assert loop._machine.evidence.naks_unsent == 3


def test_a_socket_for_naks_that_is_refused_is_told_of_once(receive_loop, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise NetworkError("no socket: out of ports")

    monkeypatch.setattr(receive_module, "NakSocket", refuse)
    loop = receive_loop()
    for _ in range(5):
        loop._send_nak(SendNak(("192.0.2.1", 9), b"a NAK"))
    (text,) = told(loop, "nak")
    assert "out of ports" in text
    assert loop._machine.evidence.naks_unsent == 5


# Whole processes.


def open_files(pid: int) -> set[str]:
    names = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed a moment ago
            names.add(str(link.readlink()))
    return names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_signals_end_both_with_a_summary(tmp_path, number):
    source, place = make_file(tmp_path / "source", 2 * BLOCK), endpoint()
    with sending(source, place, rate="1M") as sender, receiving(tmp_path / "copy", place) as other:
        other.event("progress", lambda event: event["stored"] > 0)
        received, sent = other.stop(number), sender.stop(number)
    for ended, name in ((received, "failed"), (sent, "stopped")):
        assert ended.code == 6
        assert number.name in ended.error
        assert ended.last["event"] == name
        assert ended.last["packets"] > 0
    assert (tmp_path / "copy.part").exists()
    assert not (tmp_path / "copy").exists()


def test_the_summary_for_people(tmp_path):
    source, place = make_file(tmp_path / "source", 2 * BLOCK), endpoint()
    options = [*place.flags, "-r", "1M"]
    with Running("send", source, *options) as sender, receiving(tmp_path / "x", place) as receiver:
        receiver.event("manifest")
        ended = sender.stop()
    assert (ended.code, ended.lines) == (6, [])
    assert any("cycles" in line and "packets" in line for line in ended.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_signals_while_a_source_is_hashed(tmp_path, number):
    source = tmp_path / "huge"
    with source.open("wb") as file:
        file.truncate(1 << 40)
    with sending(source, endpoint()) as sender:
        until(lambda: str(source) in open_files(sender.pid))
        ended = sender.stop(number)
    assert ended.code == 6
    assert number.name in ended.error


def test_time_limit_keeps_what_came_and_the_next_run_goes_on(tmp_path):
    blocks, held = 4, 3
    source, copy, place = (
        make_file(tmp_path / "source", blocks * BLOCK),
        tmp_path / "copy",
        endpoint(),
    )
    # What an earlier run that heard the beginning left; one byte of it went bad since.
    part = tmp_path / "copy.part"
    part.write_bytes(source.read_bytes()[: held * BLOCK])
    with part.open("r+b") as file:
        file.seek(BLOCK + 5)
        file.write(b"\xff\x00"[source.read_bytes()[BLOCK + 5] == 0xFF :][:1])
    ended = receive(copy, place, "--timeout", 0.5)
    assert ended.code == 5
    assert part.stat().st_size == held * BLOCK

    with receiving(copy, place) as receiver:
        receiver.event("start")
        with sending(source, place, "--start", held * BLOCK, rate="40M") as sender:
            ended = receiver.end()
            assert sender.stop().code == 6
    assert ended.code == 0, ended.stderr
    assert copy.read_bytes() == source.read_bytes()
    assert not part.exists()
    if not ended.last["lost"]:
        # The end, the beginning as far as the bad block, and what is under way meanwhile.
        assert ended.last["odata"] < blocks * 1_024
        assert ended.last["odata"] >= (blocks - held) * 1_024
        assert ended.last["duplicates"] > 0  # the block before the bad one is not written again


def test_a_receiver_that_was_killed_goes_on(tmp_path):
    source, copy, place = make_file(tmp_path / "source", 8 * BLOCK), tmp_path / "copy", endpoint()
    with receiving(copy, place) as receiver:
        receiver.event("start")
        with sending(source, place, "--start", 0, rate="20M"):
            stored = receiver.event("progress", lambda event: event["stored"] > 1_024)["stored"]
            assert receiver.stop(signal.SIGKILL).code == -signal.SIGKILL
    assert not copy.exists()
    whole = stored // 1_024
    with receiving(copy, place) as receiver:
        receiver.event("start")
        with sending(source, place, "--start", whole * BLOCK, rate="80M"):
            ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert copy.read_bytes() == source.read_bytes()
    if not ended.last["lost"]:
        assert ended.last["odata"] < 8 * 1_024


def test_an_object_that_is_replaced(tmp_path):
    """The first sender is gone, and another file is on the air: the receiver takes that."""
    first, second = (make_file(tmp_path / f"source{n}", 2 * BLOCK, seed=n) for n in (1, 2))
    copy, place = tmp_path / "copy", endpoint()
    with receiving(copy, place) as receiver:
        with sending(first, place, rate="1M"):
            receiver.event("manifest")
        with sending(second, place):
            ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert "superseded" in [event["event"] for event in ended.events]
    assert ended.last["oid"] == ended.event("superseded")["by"]
    assert copy.read_bytes() == second.read_bytes()
