"""A receiver's loop: reads, naps, time limits, and what it tells when it does not get on."""

import errno
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace

import pytest

from pgmlite.core.config import ReceiverConfig, SenderConfig
from pgmlite.core.events import Adopted, ReceiveStarted
from pgmlite.core.events_listening import Joined, Left
from pgmlite.core.impair import Loss
from pgmlite.core.machine import Join, Leave, SendNak
from pgmlite.core.receive import diagnosis as diagnosis_module
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.sources import Sources
from pgmlite.core.ring import Ring
from pgmlite.core.send.sender import Sender
from pgmlite.errors import Interrupted, NetworkError, TimedOut
from pgmlite.net import nak_sender
from pgmlite.net import receiving as receive_module
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.sending import SendLoop
from pgmlite.net.udp import Arrival
from pgmlite.net.waiting import Stop, Wait
from pgmlite.storage.part import PartFile
from pgmlite.storage.source import SourceFile
from pgmlite.storage.symbols import SymbolFile
from pgmlite.wire.buffers import SendBuffer
from pgmlite.wire.digests import BlockTree, block_digest
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import Order, PacketType
from pgmlite.wire.manifest import Manifest
from tests.support.builders import Judging, Sample, joined, make_object, packet
from tests.support.loopback import BLOCK, HEADER, ODATA, SPM, SYMBOL, TREE
from tests.support.loops import (
    GROUP,
    FakeMemberships,
    FakeReceiverSocket,
    FakeSenderSocket,
    Heard,
    Until,
    to_the_end,
)

MS = 1_000_000
GIB = 1 << 30


@dataclass
class Site:
    """A receiver's loop, and all that is around it."""

    socket: FakeReceiverSocket
    memberships: FakeMemberships
    machine: Judging
    part: PartFile
    heard: Heard
    loop: ReceiveLoop

    def run(self, stop: Stop | None = None) -> Manifest:
        """Run the loop to its end."""
        complete = to_the_end(self.loop.run(), stop)
        self.part.publish(complete)
        return complete.manifest


@pytest.fixture
def site(tmp_path):
    """Make receivers of ``out``; times in ms."""
    with ExitStack() as opened:

        def make(
            timeout: int = 20_000, loss: Loss | None = None, sources: tuple[str, ...] = (), **config
        ) -> Site:
            sock = FakeReceiverSocket()
            opened.callback(sock.release)
            part = PartFile(tmp_path / "out")
            opened.callback(part.close)
            listening = Listening([GROUP], Sources(sources))
            machine = Judging(ReceiverConfig(**config), rng=Random(0), listening=listening)
            heard, memberships = Heard(), FakeMemberships(sock)
            loop = ReceiveLoop(
                machine,
                memberships,
                part,
                heard,
                output=str(tmp_path / "out"),
                timeout=timeout * MS,
                loss=loss,
            )
            return Site(sock, memberships, machine, part, heard, loop)

        yield make


@pytest.fixture
def sample():
    return make_object(4_321)


def put_all(sock: FakeReceiverSocket, sample: Sample) -> None:
    packets = [sample.spm(), *sample.nodes(), *sample.all_odata(sqn=50)]
    for read in joined(packets):
        sock.put(read.data, stride=read.stride)


def test_a_whole_object(site, sample, tmp_path):
    here = site()
    put_all(here.socket, sample)
    assert here.run() == sample.manifest
    assert (tmp_path / "out").read_bytes() == sample.data
    assert here.socket.closed
    kinds = [type(event) for event in here.heard.events]
    assert kinds == [ReceiveStarted, Joined, Adopted, Left]


@pytest.mark.parametrize(
    ("pause", "naps"), [(0.1, []), (0.3, [0.3]), (9, [9]), (19, [10]), (21, [])]
)
def test_naps_are_taken_where_they_gather_much(site, sample, monkeypatch, pause, naps):
    """Where a batch that is worth it takes so many ms to gather, at the rate of the last read."""
    clock = 1_000 * MS
    monkeypatch.setattr(receive_module, "time", SimpleNamespace(monotonic_ns=lambda: clock))
    here = site()
    packets = sample.odata(range(8))
    worth = here.socket.granted // 8
    waits = here.loop.run()
    assert next(waits).fds
    ready = [here.socket.fileno()]
    here.socket.put(packets[0])
    assert waits.send(ready).fds  # nothing is known yet of how fast they come
    clock += int(pause * MS * len(packets[1]) / worth)
    here.socket.put(packets[1])
    assert waits.send(ready).fds
    here.socket.put(packets[2])
    wait = waits.send(ready)
    assert [round(wait.time / MS, 1)] * (not wait.fds) == naps
    waits.close()


@pytest.mark.parametrize(("pause", "nap"), [(1, 1), (19, 19), (21, 20), (2_000, 20)])
def test_naps_are_longer_while_nothing_is_received(site, monkeypatch, pause, nap):
    # spec: TRU-4
    clock = 1_000 * MS
    monkeypatch.setattr(receive_module, "time", SimpleNamespace(monotonic_ns=lambda: clock))
    here = site()
    stranger = packet(PacketType.SPM, b"of nothing", symbol_size=64)
    worth = here.socket.granted // 8
    waits = here.loop.run()
    assert next(waits).fds
    ready = [here.socket.fileno()]
    here.socket.put(stranger)
    assert waits.send(ready).fds
    here.socket.put(stranger)
    assert waits.send(ready) == Wait(20 * MS)  # one came in all the time before
    clock += -(-pause * MS * len(stranger) // worth)
    assert waits.send([]).fds
    wait = waits.send(ready)
    assert (round(wait.time / MS), wait.fds) == (nap, ())
    waits.close()


def test_empty_datagrams_and_errors_are_survived(site, sample, tmp_path):
    here = site()
    for _ in range(5):
        here.socket.put(b"")
    here.socket.errors = [errno.ENETDOWN]
    put_all(here.socket, sample)
    here.run()
    assert here.machine.counters.refused == {"short": 5}
    assert (tmp_path / "out").read_bytes() == sample.data
    assert len(here.heard.warnings) == 1
    assert "Network is down" in here.heard.warnings[0]


def test_empty_datagrams_without_end_do_not_hold_it_up(site):
    """As fast as they come: the clock and the signals must be looked at all the same."""
    here = site(timeout=100)
    reads = 0

    def read_into(pieces) -> Arrival | None:
        nonlocal reads
        reads += 1
        return Arrival(0, 0, ("192.0.2.1", 7)) if reads < 1_000_000 else None

    here.socket.put(b"x")
    here.socket.read_into = read_into
    with pytest.raises(TimedOut):
        here.run()
    assert reads < 1_000_000


@pytest.mark.parametrize("state", ["nothing", "data", "manifest"])
def test_time_limit(site, sample, state, tmp_path):
    here = site(timeout=50)
    if state != "nothing":
        here.socket.put(sample.odata([3])[0])
    if state == "manifest":
        here.socket.put(sample.spm())
    with pytest.raises(TimedOut):
        here.run()
    here.part.close()
    assert (tmp_path / "out.part").exists() == (state != "nothing")
    assert not (tmp_path / "out").exists()


def test_what_can_not_be_joined_first_ends_it(site):
    # spec: NET-18
    here = site()
    here.memberships.refusals = [NetworkError("no")]
    with pytest.raises(NetworkError, match="no"):
        here.run()
    assert here.heard.events == []
    assert here.socket.closed


def test_what_can_not_be_joined_later_is_told_of(site, sample):
    # spec: NET-13, NET-18
    here = site(sources=("192.0.2.1", "192.0.2.2"))
    receive = here.machine.receive

    def receive_and_join(now, batch) -> list:
        here.memberships.refusals = [NetworkError("too many")]
        return [*receive(now, batch), Join(GROUP, "192.0.2.9"), Leave(GROUP, "192.0.2.2")]

    here.machine.receive = receive_and_join
    here.socket.put(sample.odata([3])[0])
    with pytest.raises(Interrupted, match="seen"):
        here.run(Until(lambda: here.heard.told("membership")))
    (begun,) = here.heard.of(ReceiveStarted)
    assert begun.sources == ("192.0.2.1", "192.0.2.2")
    assert [one.source for one in here.heard.of(Joined)] == ["192.0.2.1", "192.0.2.2"]
    lefts = [(one.source, one.reason) for one in here.heard.of(Left)]
    assert lefts == [("192.0.2.2", "source"), ("192.0.2.1", "end")]
    assert here.heard.told("membership") == ["too many; going on without"]


def test_receiving_is_stopped_by_a_signal(site):
    stop = Stop()
    stop.ask("SIGINT")
    with pytest.raises(Interrupted, match="SIGINT"):
        site().run(stop)


def test_silence_makes_it_join_anew_and_says_once_why_not(site, monkeypatch):
    # spec: NET-7
    monkeypatch.setattr(receive_module, "REJOIN_AFTER", 20 * MS)
    here = site()
    with pytest.raises(Interrupted, match="seen"):
        here.run(Until(lambda: len(here.socket.rejoins) > 4))
    assert here.heard.warnings == ["interface none0: not found; waiting for it"]


def test_loss_on_purpose(site, sample):
    here = site(timeout=300, loss=Loss(0.5, Random(1)))
    put_all(here.socket, sample)
    with pytest.raises(TimedOut):
        here.run()
    stored, symbols = here.machine.progress
    assert 0 < stored < symbols


def test_a_poisoned_block_is_fetched_again(site, sample, tmp_path):
    here = site()
    size = sample.manifest.symbol_size
    forged = bytearray(sample.odata([0])[0])
    forged[-1] ^= 1
    here.socket.put(sample.spm(), *sample.nodes(), bytes(forged), *sample.all_odata())
    put_all(here.socket, sample)
    here.run()
    adopted, damaged = here.heard.events[2:4]
    assert isinstance(adopted, Adopted)
    assert (damaged.oid, damaged.block) == (sample.manifest.oid, 0)
    assert (tmp_path / "out").read_bytes()[:size] == sample.data[:size]


def test_offsets_past_4_gib_from_source_to_partial_file(site, tmp_path):
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
    config = SenderConfig(rate=None, packet_overhead=28)
    rings = [Ring(manifest.geometry, Order.BLOCKS, blocks - 1)]
    sock, source = FakeSenderSocket(), SourceFile(path)
    sender = Sender(config, manifest, tree, rings=rings, rng=Random(1))
    buffer = SendBuffer(SYMBOL, config.transmit_limit)
    stop = Until(lambda: len(sock.sent) >= 2_500)
    with pytest.raises(Interrupted, match="seen"):
        to_the_end(
            SendLoop(
                sender,
                [sock],
                SymbolFile(source, manifest.geometry),
                buffer,
                config.max_burst,
                Heard(),
            ).run(),
            stop,
        )
    source.close()

    here = site()
    kinds = [HEADER.unpack_from(packet)[2] for packet in sock.sent]
    for kind in (SPM, TREE, ODATA):
        here.socket.put(*[p for p, k in zip(sock.sent, kinds, strict=True) if k == kind][:1_024])
        here.socket.pause()
    with pytest.raises(Interrupted, match="seen"):
        here.run(Until(lambda: here.machine.right))
    assert here.machine.progress == (1_024, manifest.symbols)
    assert here.machine.right == {blocks - 1}
    with (tmp_path / "out.part").open("rb") as file:
        assert not any(file.read(65_536))
        file.seek(last)
        assert file.read()[: len(data)] == data


def test_one_pass_is_enough_however_it_is_read(site, tmp_path):
    # Full nodes are nearly as long as ODATA; the last of them and the SPM before them are not.
    sample = make_object(100 * SYMBOL, symbol_size=SYMBOL, block_symbols=1)
    here = site(timeout=1_000)
    here.socket.put(sample.spm(), *sample.nodes(), *sample.all_odata())
    here.run()
    assert (tmp_path / "out").read_bytes() == sample.data


# What keeps a transfer from getting on.


@pytest.fixture
def often(monkeypatch):
    """Look every few milliseconds instead of every second."""
    monkeypatch.setattr(receive_module, "REPORT_EVERY", 5 * MS)


def test_other_objects_are_told_of_while_waiting_and_at_the_end(site, sample, often):
    here = site(timeout=300, oid=1)
    here.socket.put(sample.spm())
    with pytest.raises(TimedOut, match=f"{sample.manifest.oid:016x}"):
        here.run()
    assert len(here.heard.told("object")) == 1


def test_the_time_limit_says_since_when_it_is_silent(site, sample, often, monkeypatch):
    monkeypatch.setattr(diagnosis_module, "SILENT_AFTER", 50 * MS)
    here = site(timeout=300)
    here.socket.put(sample.spm(), *sample.odata([1]))
    with pytest.raises(TimedOut, match="nothing came from a sender"):
        here.run()
    assert len(here.heard.told("silence")) == 1


def test_drops_of_a_slow_disk_are_told_of(site, sample, often, monkeypatch):
    here = site(timeout=5_000)

    def slow(runs, lying) -> None:
        here.socket.kernel_drops += 5
        time.sleep(0.02)

    monkeypatch.setattr(here.part, "store", slow)
    for start in range(0, 40, 4):
        here.socket.put(sample.spm(), *sample.odata(range(start, start + 4)))
        here.socket.pause()
    with pytest.raises(Interrupted, match="seen"):
        here.run(Until(lambda: here.heard.told("disk")))
    assert len(here.heard.told("disk")) == 1


class Unreachable:
    """A socket for NAKs that gets some of them out."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)

    def send(self, packet: bytes, endpoint: Endpoint) -> None:
        number = self.numbers.pop(0)
        if number:
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        pass


def asking(here: Site, monkeypatch, *naks: SendNak) -> None:
    """Let a receiver ask, one NAK after another, and then stop."""
    todo = list(naks)
    monkeypatch.setattr(type(here.machine), "deadline", property(lambda _: 0))
    monkeypatch.setattr(here.machine, "tick", lambda now: [todo.pop(0)] if todo else [])
    with pytest.raises(Interrupted, match="seen"):
        here.run(Until(lambda: not todo))


HERE, SIX = Endpoint("192.0.2.1", 9), Endpoint("fd01::1", 9)


def test_naks_that_can_not_be_sent_are_counted_and_told_of_once_for_each_reason(site, monkeypatch):
    # spec: NET-9
    here = site()
    socket = Unreachable(errno.ENETUNREACH, 0, errno.EPERM, errno.ENETUNREACH)
    monkeypatch.setattr(nak_sender, "NakSocket", lambda channel, port: socket)
    asking(here, monkeypatch, *[SendNak(to, b"a NAK") for to in (HERE, HERE, HERE, SIX)])
    first, second = here.heard.told("nak")
    assert "192.0.2.1:9: Network is unreachable" in first
    assert "not permitted" in second
    assert here.machine.evidence.naks_unsent == 3


def test_a_socket_for_naks_that_is_refused_is_told_of_once(site, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise NetworkError("no socket: out of ports")

    monkeypatch.setattr(nak_sender, "NakSocket", refuse)
    here = site()
    asking(here, monkeypatch, *[SendNak(HERE, b"a NAK")] * 5)
    (text,) = here.heard.told("nak")
    assert "out of ports" in text
    assert here.machine.evidence.naks_unsent == 5
