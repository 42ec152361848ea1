"""A sender's loop: a cycle is the file, links that go, refusals, requests to stop."""

import errno
import os
from contextlib import ExitStack
from random import Random

import pytest

from pgmlite.core.config import SenderConfig
from pgmlite.core.send.sender import Sender
from pgmlite.errors import DiskError, Interrupted, NetworkError
from pgmlite.net.sending import SendLoop
from pgmlite.net.udp import Arrival
from pgmlite.net.waiting import Stop
from pgmlite.storage.source import SourceFile
from pgmlite.storage.symbols import SymbolFile
from pgmlite.wire.buffers import SendBuffer
from tests.support.builders import make_object, ring_of
from tests.support.loopback import HEADER, ODATA
from tests.support.loops import CHANNEL, FakeSenderSocket, Heard, to_the_end


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
            rings = [ring_of(sample.manifest.geometry, config)]
            values = {"rate": None, "packet_overhead": 28, "cycles": 1} | config
            settings = SenderConfig(**values)
            machine = Sender(settings, sample.manifest, sample.tree, rings=rings, rng=Random(1))
            buffer = SendBuffer(sample.manifest.symbol_size, settings.transmit_limit)
            return SendLoop(
                machine,
                [sock],
                SymbolFile(source, sample.manifest.geometry),
                buffer,
                settings.max_burst,
                Heard(),
            )

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
    to_the_end(loop.run())
    assert content(sock.sent) == sample.data
    assert len(sock.sent) == loop.machine.counters.packets
    assert sum(map(len, sock.sent)) == loop.machine.counters.bytes


def test_a_link_that_is_down_is_warned_of_once(send_loop):
    # spec: SND-10
    sock = FakeSenderSocket(*[errno.ENETUNREACH] * 6)
    loop = send_loop(sock, cycles=5, max_burst=8, unpaced_bursts=1)
    to_the_end(loop.run())
    first, last = loop.tell.warnings
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
    to_the_end(loop.run())
    assert sock.sent
    assert not sock.reopened
    assert not loop.tell.warnings


def test_a_full_queue_is_no_reason_for_a_new_socket(send_loop):
    sock = FakeSenderSocket(errno.ENOBUFS, errno.ENOBUFS)
    loop = send_loop(sock, cycles=3)
    to_the_end(loop.run())
    assert sock.sent
    assert not sock.reopened


def test_an_interface_that_went_away_is_opened_anew(send_loop):
    sock = FakeSenderSocket(*[errno.ENODEV] * 4)
    loop = send_loop(sock, cycles=3)
    to_the_end(loop.run())
    assert sock.reopened == 3
    assert len(loop.tell.warnings) == 2


def test_errors_that_do_not_pass(send_loop):
    with pytest.raises(NetworkError, match="Permission denied") as caught:
        to_the_end(send_loop(FakeSenderSocket(errno.EACCES, errno.EACCES)).run())
    assert str(CHANNEL) in str(caught.value)


def test_sending_is_stopped_by_a_signal(send_loop):
    sock = FakeSenderSocket()
    loop = send_loop(sock, cycles=None)
    stop = Stop()
    sock.after = lambda: stop.ask("SIGTERM")
    with pytest.raises(Interrupted, match="SIGTERM"):
        to_the_end(loop.run(), stop)


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
    loop.inputs = naks, group = Endless(1), Endless(8)
    to_the_end(loop.run())
    assert content(sock.sent) == sample.data
    # Both have their turn, however long the other could go on.
    assert group.reads == 8 * naks.reads > 0
    naks.release()
    group.release()


def test_a_change_in_the_last_moment_is_noticed(send_loop, tmp_path, sample):
    sock = FakeSenderSocket()
    loop = send_loop(sock)
    sock.after = lambda: (tmp_path / "source").write_bytes(bytes(len(sample.data)))
    with pytest.raises(DiskError, match="changed"):
        to_the_end(loop.run())
