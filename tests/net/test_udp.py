"""Sockets: groups, interfaces, segmentation, drops; and networks that refuse."""

import errno
import os
import select
import socket
import struct
from contextlib import closing, suppress
from dataclasses import replace

import pytest

from pgmlite.errors import NetworkError
from pgmlite.net import address, receiver_socket, sender_socket, udp
from pgmlite.net.nak_socket import NakSocket
from pgmlite.net.receiver_socket import ReceiverSocket
from pgmlite.net.sender_socket import SenderSocket
from tests.support.builders import fill, make_object
from tests.support.loopback import (
    LO,
    PATIENCE,
    Endpoint,
    drain,
    endpoint,
    raw_receiver,
    raw_sender,
    receiving,
    run,
)
from tests.support.sockets import identity, twin

HEADER_BYTES, STRIDE = 48, 148


@pytest.fixture
def place():
    return endpoint()


@pytest.fixture
def sender(place):
    sock = SenderSocket(place.channel, hops=3)
    yield sock
    sock.close()


@pytest.fixture
def receiver(place):
    sock = ReceiverSocket(place.channel)
    yield sock
    sock.close()


def make_pieces(packets: list[bytes]) -> list[bytes]:
    """Cut packets as a send buffer holds them: header, payload, header ..."""
    return [part for one in packets for part in (one[:HEADER_BYTES], one[HEADER_BYTES:])]


def make_packets(count: int, last: int = STRIDE) -> list[bytes]:
    packets = [bytes([number]) * STRIDE for number in range(count)]
    packets[-1] = packets[-1][:last]
    return packets


def read_all(receiver: ReceiverSocket, packets: int, seconds: float = PATIENCE) -> list[bytes]:
    """Read until `packets` came, cut by the stride of each arrival."""
    came: list[bytes] = []
    poller = select.poll()
    poller.register(receiver, select.POLLIN)
    while len(came) < packets and poller.poll(seconds * 1_000):
        buffer = bytearray(65_536)
        arrival = receiver.read_into([buffer])
        if arrival:
            data = bytes(buffer[: arrival.length])
            came += [data[at : at + arrival.stride] for at in range(0, len(data), arrival.stride)]
    return came


# Receiving.


def test_a_port_that_somebody_else_owns(tmp_path, place):
    # spec: NET-5
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as owner:
        owner.bind(("", place.port))
        ended = run("recv", "-o", tmp_path / "copy", *place.flags, "--timeout", PATIENCE)
    assert ended.code == 3
    assert f"{place.group}:{place.port}" in ended.error
    assert "taken" in ended.error
    assert list(tmp_path.iterdir()) == []


def test_several_receivers_share_a_group(place, sender):
    # spec: NET-5
    first, second = ReceiverSocket(place.channel), ReceiverSocket(place.channel)
    packets = make_packets(3)
    sender.send(make_pieces(packets), STRIDE)
    assert read_all(first, 3) == read_all(second, 3) == packets
    first.close()
    second.close()


def test_groups_on_one_port_do_not_mix(place):
    # spec: NET-5
    other = Endpoint(endpoint().group, place.port)
    ends = [(SenderSocket(p.channel, hops=1), ReceiverSocket(p.channel)) for p in (place, other)]
    for number, (sender, _) in enumerate(ends):
        sender.send([b"group", b"%d" % number], STRIDE)
    for number, (sender, receiver) in enumerate(ends):
        assert read_all(receiver, 1) == [b"group%d" % number]
        assert receiver.read_into([bytearray(65_536)]) is None
        sender.close()
        receiver.close()


def test_what_is_sent_to_the_host_is_not_heard(place, receiver, sender):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for host in ("127.0.0.1", "127.255.255.255"):
            with suppress(OSError):  # nobody listens there
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.sendto(b"to the host", (host, place.port))
    sender.send([b"to the ", b"group"], STRIDE)
    assert read_all(receiver, 1) == [b"to the group"]


def test_nothing_is_there(receiver):
    assert receiver.read_into([bytearray(65_536)]) is None


def test_empty_datagrams_arrive(place, receiver):
    with raw_sender(place) as sock:
        sock.send(b"")
        sock.send(b"x")
        address = sock.getsockname()
    poller = select.poll()
    poller.register(receiver, select.POLLIN)
    assert poller.poll(PATIENCE * 1_000)
    empty = receiver.read_into([bytearray(65_536)])
    full = receiver.read_into([bytearray(65_536)])
    assert (empty.length, full.length, full.source) == (0, 1, address)


def test_rejoin_goes_on(receiver, sender):
    for round_number in range(3):
        sender.send([b"round", b"%d" % round_number], STRIDE)
        assert read_all(receiver, 1) == [b"round%d" % round_number]
        receiver.rejoin()


def test_rejoin_mends_a_lost_membership(place, receiver, sender):
    request = struct.pack("@4s4si", socket.inet_aton(place.group), bytes(4), receiver.channel.index)
    with twin(receiver) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, request)
    sender.send([b"un", b"heard"], STRIDE)
    assert read_all(receiver, 1, 0.2) == []
    receiver.rejoin()
    sender.send([b"he", b"ard"], STRIDE)
    assert read_all(receiver, 1) == [b"heard"]


def test_rejoin_while_the_interface_is_gone(monkeypatch, receiver, sender):
    def gone(*arguments: object) -> None:
        raise NetworkError("interface lo: not found")

    with monkeypatch.context() as patch:
        patch.setattr(receiver_socket, "resolve", gone)
        with pytest.raises(NetworkError):
            receiver.rejoin()
    receiver.rejoin()
    sender.send([b"ba", b"ck"], STRIDE)
    assert read_all(receiver, 1) == [b"back"]


def test_rejoin_is_tried_again_if_the_new_interface_was_not_ready(monkeypatch, place):
    """An interface that comes back has a new index, and may not take the group at once."""
    receiver = ReceiverSocket(place.channel)
    with closing(receiver):
        before = identity(receiver)
        stale = address.Channel(place.group, place.port, LO, place.channel.index + 1_000)
        monkeypatch.setattr(receiver, "channel", stale)  # as if lo had had another index

        def refuse(*arguments: object) -> None:
            raise OSError(errno.ENODEV, "No such device")

        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "bind", refuse)
            with pytest.raises(NetworkError, match="No such device"):
                receiver.rejoin()
        assert identity(receiver) == before
        receiver.rejoin()
        assert identity(receiver) != before


def test_kernel_drops_are_counted(place, receiver):
    # spec: NET-6
    with twin(receiver) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    with raw_sender(place) as sock:
        for _ in range(200):
            sock.send(bytes(1_400))
        kept = len(read_all(receiver, 200, 0.2))
        assert kept < 200
        sock.send(b"the count comes with the next packet")
        read_all(receiver, 1)
    assert receiver.kernel_drops == 200 - kept


def test_stride_and_drops_come_from_the_control_data(monkeypatch, receiver):
    def arrives(ancillary: list[tuple[int, int, bytes]]) -> None:
        def read(sock: socket.socket, pieces, size):
            fill(pieces, bytes(250))
            return 250, ancillary, 0, ("192.0.2.1", 7, 0, 0)

        monkeypatch.setattr(socket.socket, "recvmsg_into", read)

    ancillary = [
        (udp.SOL_UDP, udp.UDP_GRO, struct.pack("@i", 100)),
        (socket.SOL_SOCKET, udp.SO_RXQ_OVFL, struct.pack("@I", 7)),
    ]
    arrives(ancillary)
    arrival = receiver.read_into([bytearray(65_536)])
    assert (arrival.length, arrival.stride, arrival.source) == (250, 100, ("192.0.2.1", 7))
    assert receiver.kernel_drops == 7 * 3  # what is read at once is three packets
    arrives([])
    assert receiver.read_into([bytearray(65_536)]).stride == 250
    assert receiver.kernel_drops == 7 * 3
    for traffic_class in range(256):
        arrives([(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, struct.pack("@i", traffic_class))])
        arrival = receiver.read_into([bytearray(65_536)])
        assert arrival.is_congested == (traffic_class % 4 == 3)
        assert (arrival.length, arrival.stride) == (250, 250)


@pytest.mark.parametrize("tos", [0, 1, 2, 3, 0xB8, 0xBB])
def test_what_routers_mark_is_read(place, receiver, tos):
    # spec: NET-12
    with raw_sender(place) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        sock.send(b"marked on the way, or not")
    poller = select.poll()
    poller.register(receiver, select.POLLIN)
    assert poller.poll(PATIENCE * 1_000)
    arrival = receiver.read_into([bytearray(65_536)])
    assert arrival.is_congested == (tos % 4 == 3)


@pytest.mark.parametrize("segmentation", [True, False])
def test_what_is_joined_is_marked_alike(place, receiver, segmentation):
    # spec: NET-12
    marked, packets = [], make_packets(40)
    with raw_sender(place) as sock:
        for at in range(0, 40, 10):
            tos = 3 if at in (10, 30) else 2
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
            if segmentation:
                with suppress(OSError):
                    sock.setsockopt(udp.SOL_UDP, udp.UDP_SEGMENT, STRIDE)
                    sock.send(b"".join(packets[at : at + 10]))
                    continue
                pytest.skip("the kernel has no UDP_SEGMENT")
            for one in packets[at : at + 10]:
                sock.send(one)
    poller = select.poll()
    poller.register(receiver, select.POLLIN)
    while len(marked) < 40 and poller.poll(PATIENCE * 1_000):
        arrival = receiver.read_into([bytearray(65_536)])
        marked += [arrival.is_congested] * (arrival.length // arrival.stride)
    assert marked == [10 <= n < 20 or n >= 30 for n in range(40)]


def test_a_receiver_counts_what_routers_mark(tmp_path, place):
    # spec: NET-12
    sample = make_object(64 * 500)
    marked = sample.all_odata()
    with receiving(tmp_path / "copy", place) as receiver, raw_sender(place) as sock:
        receiver.event("start")
        for one in (sample.spm(), *sample.nodes()):
            sock.send(one)
        receiver.event("manifest")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 3)
        for one in marked:
            sock.send(one)
        ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert ended.last["congested"] == len(marked)
    assert ended.last["packets"] == len(marked) + 1 + len(sample.nodes())


# Sending.


@pytest.mark.parametrize("segmentation", [True, False])
@pytest.mark.parametrize(("count", "last"), [(1, STRIDE), (5, STRIDE), (5, 60), (64, 49)])
def test_packets_arrive_as_they_were_given(place, sender, receiver, segmentation, count, last):
    # spec: NET-8
    if segmentation and not sender.has_segmentation:
        pytest.skip("the kernel has no UDP_SEGMENT")
    sender.has_segmentation = segmentation
    packets = make_packets(count, last)
    with raw_receiver(place) as tap:
        sender.send(make_pieces(packets), STRIDE)
        assert read_all(receiver, count) == packets
        assert drain(tap) == packets
    assert sender.has_segmentation == segmentation


def test_a_single_packet_may_be_longer_than_the_segments_before_it(place, sender):
    """An SPM is longer than a small symbol: it must not be cut as the burst before it was."""
    with raw_receiver(place) as tap:
        sender.send(make_pieces(make_packets(3)), STRIDE)
        sender.send([b"h" * HEADER_BYTES, b"p" * 500], STRIDE)
        assert drain(tap)[3:] == [b"h" * HEADER_BYTES + b"p" * 500]


def refuse_bursts(monkeypatch: pytest.MonkeyPatch, number: int) -> list[bytes]:
    """Let sockets refuse bursts, as a device without checksum offload does.

    Returns:
        What is sent nevertheless.
    """
    sent: list[bytes] = []

    def sendmsg(sock: socket.socket, pieces) -> None:
        if sock.getsockopt(udp.SOL_UDP, udp.UDP_SEGMENT):
            raise OSError(number, os.strerror(number))
        sent.append(b"".join(pieces))

    monkeypatch.setattr(socket.socket, "sendmsg", sendmsg)
    return sent


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_a_device_that_can_not_segment(monkeypatch, sender, number):
    if not sender.has_segmentation:
        pytest.skip("the kernel has no UDP_SEGMENT")
    sent = refuse_bursts(monkeypatch, number)
    packets = make_packets(4, 60)
    sender.send(make_pieces(packets), STRIDE)
    assert sent == packets
    assert not sender.has_segmentation
    sender.send(make_pieces(packets), STRIDE)
    assert sent == packets * 2


def test_other_errors_are_passed_on(monkeypatch, sender):
    if not sender.has_segmentation:
        pytest.skip("the kernel has no UDP_SEGMENT")
    refuse_bursts(monkeypatch, errno.ENETUNREACH)
    with pytest.raises(OSError, match="unreachable"):
        sender.send(make_pieces(make_packets(4)), STRIDE)
    assert sender.has_segmentation


def test_a_sender_hears_nothing(place, sender):
    # spec: NET-4
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", ("127.0.0.1", sender.port))
    sender.send([b"own", b"packet"], STRIDE)
    with twin(sender) as sock, pytest.raises(BlockingIOError):
        sock.recv(100, socket.MSG_DONTWAIT)


def test_hops(sender):
    # spec: NET-2
    with twin(sender) as sock:
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 3


def test_packets_are_never_fragmented(sender):
    # Past what UDP can carry: an error at once, not a fragment and not silence.
    # spec: NET-3
    with pytest.raises(OSError, match="too long"):
        sender.send([bytes(HEADER_BYTES), bytes(65_536)], 65_584)
    with twin(sender) as sock:
        mode = sock.getsockopt(socket.IPPROTO_IP, sender_socket.IP_MTU_DISCOVER)
    assert mode == sender_socket.PMTUDISC_PROBE


def test_reopen(sender, receiver):
    sender.send(make_pieces(make_packets(3)), STRIDE)
    sender.reopen()
    sender.send(make_pieces(make_packets(3)), STRIDE)
    assert read_all(receiver, 6) == make_packets(3) * 2


def test_reopen_while_the_interface_is_gone(monkeypatch, sender, receiver):
    def gone(*arguments: object) -> None:
        raise NetworkError("interface lo: not found")

    with monkeypatch.context() as patch:
        patch.setattr(sender_socket, "resolve", gone)
        with pytest.raises(NetworkError):
            sender.reopen()
    sender.send([b"st", b"ill"], STRIDE)
    assert read_all(receiver, 1) == [b"still"]


def test_repairers_of_both_families_share_a_port(place):
    six = replace(place.channel, group="ff15::7067:1")
    with closing(NakSocket(six, 0)) as first, closing(NakSocket(place.channel, first.port)) as two:
        assert two.port == first.port
