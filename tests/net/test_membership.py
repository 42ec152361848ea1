"""Memberships of real sockets: sources, their limit, joining anew, several groups."""

import ipaddress
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from pgmlite.core.events import Warned
from pgmlite.core.events_listening import Joined, Left
from pgmlite.core.machine import Join, Leave
from pgmlite.errors import NetworkError, UsageError
from pgmlite.net import membership as module
from pgmlite.net.address import Channel
from pgmlite.net.listener import Listener
from pgmlite.net.membership import MOST_REFUSED, Memberships
from pgmlite.net.receiver_socket import ReceiverSocket, group_request
from pgmlite.net.sender_socket import SenderSocket
from pgmlite.wire.endpoint import Endpoint
from tests.support.loopback import LO, PATIENCE, endpoint
from tests.support.loops import Heard
from tests.support.sockets import twin

OURS, OTHER = "127.0.0.1", "127.0.0.2"
MCAST_LEAVE_SOURCE_GROUP = 47


def group_of(place) -> Endpoint:
    """A group and a port as machines name them."""
    return Endpoint(place.group, place.port)


def says(place, text: bytes, source: str = OURS) -> None:
    """Send one packet from an address of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("@4s4si", bytes(4), bytes(4), socket.if_nametoindex(LO))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        sock.bind((source, 0))
        sock.sendto(text, (place.group, place.port))


def hears(receiver: ReceiverSocket, seconds: float = 0) -> list[bytes]:
    """Return what can be read, after waiting for the first of it."""
    came = []
    select.select([receiver], (), (), seconds)
    while arrival := receiver.read_into([buffer := bytearray(65_536)]):
        came.append(bytes(buffer[: arrival.length]))
    return came


@pytest.fixture
def place():
    return endpoint()


@contextmanager
def memberships(*joins: tuple[Endpoint, str]) -> Iterator[Memberships]:
    """Memberships on the loopback interface, of these."""
    made = Memberships(LO)
    for group, source in joins:
        made.join(group, source)
    yield made
    made.close()


def test_requests_are_as_the_system_has_them() -> None:
    # spec: NET-13: `struct group_source_req` of RFC 3678, as 64-bit Linux lays it out.
    six = Channel("ff3e::8000:1", 5, "x0", 7)
    request = group_request(six, "fd01::1")
    assert len(request) == 264
    assert struct.unpack_from("=I4xHHI16sI", request) == (
        *(7, socket.AF_INET6, 0, 0),
        *(ipaddress.ip_address("ff3e::8000:1").packed, 0),
    )
    assert request[136:].startswith(
        struct.pack("=HHI16s", 10, 0, 0, b"\xfd\x01" + bytes(13) + b"\1")
    )
    four = group_request(Channel("232.1.2.3", 5, "x0", 7), "10.9.0.1")
    assert struct.unpack_from("=I4xHH4s", four) == (7, socket.AF_INET, 0, b"\xe8\1\2\3")
    assert struct.unpack_from("=HH4s", four, 136) == (socket.AF_INET, 0, b"\n\t\0\1")
    assert group_request(six, "") == request[:136]


@pytest.mark.parametrize("group", [None, "232.1.2.3"])
def test_only_the_sources_that_are_named_are_heard(place, group) -> None:
    # spec: NET-13
    place = type(place)(group or place.group, place.port)
    with closing(ReceiverSocket(place.channel, [OURS])) as one:
        says(place, b"theirs", OTHER)
        says(place, b"ours")
        assert hears(one, PATIENCE) == [b"ours"]
        one.join(OTHER)
        says(place, b"theirs", OTHER)
        assert hears(one, PATIENCE) == [b"theirs"]
        one.leave(OURS)
        says(place, b"ours")
        says(place, b"theirs", OTHER)
        assert hears(one, PATIENCE) == [b"theirs"]


def test_receivers_of_one_group_have_sources_of_their_own(place) -> None:
    # spec: NET-13
    sources = ([OURS], [OTHER], [])
    ours, theirs, both = (ReceiverSocket(place.channel, one) for one in sources)
    with closing(ours), closing(theirs), closing(both):
        says(place, b"ours")
        says(place, b"theirs", OTHER)
        assert hears(both, PATIENCE) == [b"ours", b"theirs"]
        assert (hears(ours), hears(theirs)) == ([b"ours"], [b"theirs"])


def test_joining_anew_repeats_every_source(place) -> None:
    # spec: NET-17
    with closing(ReceiverSocket(place.channel, [OURS, OTHER])) as one:
        one.rejoin()
        with twin(one) as sock:  # as if the system had forgotten one of them
            request = group_request(place.channel, OTHER)
            sock.setsockopt(socket.IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, request)
        says(place, b"unheard", OTHER)
        one.rejoin()
        says(place, b"ours")
        says(place, b"theirs", OTHER)
        assert hears(one, PATIENCE) == [b"ours", b"theirs"]


def test_a_source_that_the_system_has_already_is_no_error(place) -> None:
    # spec: NET-17
    with closing(ReceiverSocket(place.channel, [OURS])) as one:
        with twin(one) as sock:
            request = group_request(place.channel, OTHER)
            sock.setsockopt(socket.IPPROTO_IP, 46, request)
        one.join(OTHER)
        says(place, b"theirs", OTHER)
        assert hears(one, PATIENCE) == [b"theirs"]


def test_the_limit_of_the_system_is_named(place) -> None:
    # spec: NET-18
    many = [f"10.0.0.{n}" for n in range(1, 12)]
    said = (
        rf"^can't receive {place.group}:{place.port} on lo from [\d.]+: the system takes no "
        "more than 10 sources of a group; as root: sysctl -w net.ipv4.igmp_max_msf=20$"
    )
    with pytest.raises(NetworkError, match=said):
        ReceiverSocket(place.channel, many)
    with closing(ReceiverSocket(place.channel, many[:10])) as one:
        with pytest.raises(NetworkError, match=said):
            one.join(OURS)
        one.leave(many[0])
        one.join(OURS)
        says(place, b"ours")
        assert hears(one, PATIENCE) == [b"ours"]


def test_a_source_of_the_other_family_is_refused(place) -> None:
    """A manifest may name any: the system calls it a member already."""
    with closing(ReceiverSocket(place.channel, [OURS])) as one:
        with pytest.raises(NetworkError, match="from fd01::1: another kind of address"):
            one.join("fd01::1")
        assert one.sources == {OURS}


# Several groups.


def test_a_group_has_a_socket_from_its_first_source_to_its_last(place) -> None:
    other = endpoint()
    first, second = group_of(place), group_of(other)
    with memberships() as made:
        assert (made.fds, made.in_turn(), made.channel) == ((), [], None)
        made.join(first, OURS)
        made.join(first, OTHER)
        made.join(second, OURS)
        assert len(made.fds) == len(made.in_turn()) == 2
        assert made.channel == place.channel
        assert made.granted > 0
        for at in (place, other):
            says(at, b"ours")
        assert [hears(one, PATIENCE) for one in made.in_turn()] == [[b"ours"]] * 2
        assert made.leave(first, OURS)
        assert not made.leave(first, OURS)
        assert len(made.fds) == 2
        assert made.leave(first, OTHER)
        assert len(made.fds) == 1
        says(place, b"unheard")
        says(other, b"heard")
        assert hears(made.in_turn()[0], PATIENCE) == [b"heard"]
        assert made.close() == [(second, OURS)]
        assert made.fds == ()


def test_each_group_is_read_first_in_its_turn(place) -> None:
    with memberships(*((group_of(endpoint()), "") for _ in range(3))) as made:
        firsts = [made.in_turn()[0] for _ in range(6)]
        assert len(set(firsts[:3])) == 3
        assert firsts[:3] == firsts[3:]


def test_drops_of_groups_that_were_left_still_count(place) -> None:
    # spec: NET-6
    with memberships((group_of(place), "")) as made:
        (one,) = made.in_turn()
        with twin(one) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        for _ in range(50):
            says(place, bytes(1_400))
        hears(one, PATIENCE)
        says(place, b"the count comes with the next packet")
        hears(one, PATIENCE)
        dropped = made.kernel_drops
        assert dropped > 0
        made.leave(group_of(place), "")
        assert made.kernel_drops == dropped


def test_groups_join_anew_whatever_happens_to_one_of_them(monkeypatch, place) -> None:
    # spec: NET-17
    where = endpoint()
    first, second = group_of(place), group_of(where)
    with memberships((first, ""), (second, OTHER)) as made:
        one, other = sorted(made.in_turn(), key=lambda socket: socket.channel != place.channel)
        was_at = made.fds
        stale = Channel(*second, LO, other.channel.index + 1_000)  # as if lo had come back
        monkeypatch.setattr(other, "channel", stale)

        def refuse() -> None:
            raise NetworkError("the port is taken")

        monkeypatch.setattr(one, "rejoin", refuse)
        with twin(other), pytest.raises(NetworkError, match="taken"):
            made.rejoin()
        assert set(made.fds) == {one.fileno(), other.fileno()} != set(was_at)
        assert other.channel != stale
        says(where, b"ours")
        says(where, b"theirs", OTHER)
        assert hears(other, PATIENCE) == [b"theirs"]
        made.leave(first, "")
        made.rejoin()
        assert made.channel == other.channel


@pytest.mark.parametrize("group", ["232.1.2.3", "127.0.0.1", "nonsense"])
def test_what_a_manifest_names_may_be_no_group(group: str) -> None:
    # spec: NET-14
    with memberships() as made:
        with pytest.raises(UsageError):
            made.join(Endpoint(group, 5), "")
        assert made.fds == ()
        assert made.retry() == []


def test_what_was_refused_is_tried_again(monkeypatch, place) -> None:
    # spec: NET-18
    many = [f"10.0.0.{n}" for n in range(10)]
    group = group_of(place)
    with memberships(*((group, one) for one in many)) as made:
        for n in range(2 * MOST_REFUSED):
            with suppress(NetworkError):
                made.join(group, f"10.1.0.{n}")
        assert made.retry() == []
        made.leave(group, many[0])
        made.leave(group, many[1])
        assert len(made.retry()) == 2
        tried: list[str] = []
        monkeypatch.setattr(module.ReceiverSocket, "join", lambda _, source: tried.append(source))
        assert len(made.retry()) == len(tried) == MOST_REFUSED - 2
        assert made.retry() == []


# What is told.


def listener(made: Memberships, heard: Heard, begun: list[object]) -> Listener:
    return Listener(made, heard, lambda *what: begun.append(what))


def test_joins_and_leaves_are_told_of(place) -> None:
    # spec: NET-13
    heard, begun, group = Heard(), [], group_of(place)
    with memberships() as made:
        one = listener(made, heard, begun)
        for source in (OURS, OTHER):
            one.join(1, Join(group, source))
        assert (heard.events, begun) == ([], [])
        one.tell_of_joined(2)
        assert begun == [(place.channel, (OURS, OTHER))]
        one.leave(3, Leave(group, OURS, "channel"))
        one.leave(4, Leave(group, "10.0.0.1"))
        one.join(5, Join(group, OURS))
        one.tell_of_joined(6)
        one.close(7)
        one.close(8)
    where = (place.group, place.port)
    assert heard.events == [
        Joined(2, *where, OURS),
        Joined(2, *where, OTHER),
        Left(3, *where, OURS, "channel"),
        Joined(6, *where, OURS),
        Left(7, *where, OURS, "end"),
        Left(7, *where, OTHER, "end"),
    ]
    assert len(begun) == 1


def test_what_can_not_be_joined_ends_it_only_at_the_start(place) -> None:
    # spec: NET-18
    heard, begun, group = Heard(), [], group_of(place)
    specific = Join(Endpoint("232.1.2.3", 5))
    with memberships() as made:
        one = listener(made, heard, begun)
        with pytest.raises(UsageError, match="source-specific"):
            one.join(1, specific)
        one.join(1, Join(group, OURS))
        one.tell_of_joined(1)
        for n in range(20):
            one.join(2, Join(group, f"10.0.0.{n}"))
        one.join(2, specific)
        one.tell_of_joined(2)
        assert len(heard.of(Joined)) == 10
        (said,) = heard.told("membership")
        assert said.endswith("; going on without")
        for n in range(9):
            one.leave(3, Leave(group, f"10.0.0.{n}"))
        one.rejoin(4)
        assert [joined.at for joined in heard.of(Joined)] == [1] + [2] * 9 + [4] * 9
        assert len(heard.of(Warned)) == 1


def test_a_sender_sends_from_the_address_it_is_given(place) -> None:
    # spec: NET-16
    with closing(ReceiverSocket(place.channel, [OTHER])) as one:
        with closing(SenderSocket(place.channel, hops=1, source=OTHER)) as sender:
            assert sender.address == OTHER
            sender.send([b"he", b"re"], 4)
        assert hears(one, PATIENCE) == [b"here"]
