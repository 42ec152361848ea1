"""Groups, interfaces and the addresses of this machine, in whatever state they are."""

import errno
import socket
from contextlib import closing
from types import SimpleNamespace

import pytest

from pgmlite.errors import Interrupted, NetworkError, UsageError
from pgmlite.net import address
from pgmlite.net.address import (
    AddressState,
    Channel,
    await_addresses,
    check_own,
    interface_mtu,
    own_addresses,
    resolve,
)
from pgmlite.net.sender_socket import SenderSocket
from pgmlite.net.waiting import Stop
from tests.support.loopback import LO, Cli, endpoint, make_file
from tests.support.loops import Heard, to_the_end
from tests.support.sockets import identity, twin

# Names to channels.


@pytest.mark.parametrize(
    ("group", "port", "interface", "error", "named"),
    [
        ("nonsense", 5, LO, UsageError, "nonsense"),
        ("192.0.2.1", 5, LO, UsageError, "192.0.2.1"),
        ("::1", 5, LO, UsageError, "::1"),
        ("239.1.1.1", 0, LO, UsageError, "port 0"),
        ("239.1.1.1", 65_536, LO, UsageError, "port 65536"),
        ("239.1.1.1%nosuch0", 5, LO, UsageError, "another interface"),
        ("239.1.1.1%nosuch0", 5, None, NetworkError, "nosuch0"),
        ("239.1.1.1", 5, "x" * 100, NetworkError, "x" * 100),
    ],
)
def test_resolve_refuses(group, port, interface, error, named):
    with pytest.raises(error, match=named) as caught:
        resolve(group, port, interface)
    assert "\n" not in str(caught.value)


def test_resolve():
    channel = resolve(f"239.1.1.1%{LO}", 5, None)
    assert channel == resolve("239.1.1.1", 5, LO)
    assert (channel.family, channel.overhead) == (socket.AF_INET, 28)
    assert channel.address == ("239.1.1.1", 5)
    assert str(channel) == "239.1.1.1:5 on lo"
    assert interface_mtu(channel) >= 1_500


def test_unknown_interface_lists_those_there_are():
    with pytest.raises(NetworkError, match=rf"nosuch0.*\b{LO}\b"):
        resolve("239.1.1.1", 5, "nosuch0")


@pytest.mark.parametrize(("group", "kind"), [("ff15::1", "IPv6"), ("239.1.1.1", "IPv4")])
@pytest.mark.parametrize("verb", ["send", "recv"])
def test_interface_without_the_family(tmp_path, monkeypatch, capsys, verb, group, kind):
    monkeypatch.setattr(address.psutil, "net_if_addrs", lambda: {LO: []})
    target = make_file(tmp_path / "source", 1) if verb == "send" else "-o"
    rest = [] if verb == "send" else [tmp_path / "copy", "--timeout", 1]
    code, error = Cli(monkeypatch, capsys).refuse(verb, target, *rest, "-g", group, "-i", LO)
    assert code == 3
    assert f"interface {LO}: has no {kind} address" in error
    assert not (tmp_path / "copy.part").exists()


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], "no interface is up"), (["a0", "b0"], "name one of a0, b0")],
)
def test_interface_that_can_not_be_guessed(monkeypatch, names, expected):
    # spec: NET-1
    stats = SimpleNamespace(isup=True, flags="up,broadcast,running,multicast", mtu=1_500)
    loop = SimpleNamespace(isup=True, flags="up,loopback,running,multicast", mtu=65_536)
    down = SimpleNamespace(isup=False, flags="broadcast,multicast", mtu=1_500)
    known = {LO: loop, "down0": down} | dict.fromkeys(names, stats)
    one = SimpleNamespace(family=socket.AF_INET)
    monkeypatch.setattr(address.psutil, "net_if_stats", lambda: known)
    monkeypatch.setattr(address.psutil, "net_if_addrs", lambda: {key: [one] for key in known})
    with pytest.raises(NetworkError, match=expected):
        resolve("239.1.1.1", 5, None)


@pytest.mark.parametrize("is_up", [True, False])
def test_an_interface_that_is_down_is_said_to_be(monkeypatch, is_up):
    stats = SimpleNamespace(isup=is_up, flags="broadcast,multicast", mtu=1_500)
    monkeypatch.setattr(address.psutil, "net_if_stats", lambda: {LO: stats})
    monkeypatch.setattr(address.psutil, "net_if_addrs", lambda: {LO: []})
    with pytest.raises(NetworkError, match=f"interface {LO}: ") as caught:
        resolve("ff15::1", 5, LO)
    assert ("is down" in str(caught.value)) != is_up


NODE_SCOPES = [
    *("ff00::1", "ff01::7067:6d", "ff10::1", "ff11::7067:6d", "ff31::8000:1", "ff70::5"),
    "fff1::1",
]


@pytest.mark.parametrize("group", NODE_SCOPES)
def test_groups_that_stay_on_this_machine(monkeypatch, group):
    # spec: NET-10
    for named in ("nosuch0", None):
        with pytest.raises(UsageError, match=f"group {group}.*never leave this machine") as caught:
            resolve(group, 5, named)
        rest = group.partition("::")[2]
        flags = f"{int(group[2], 16) | 1:x}"
        assert f"ff{flags}2::{rest}" in str(caught.value)
        assert f"ff{flags}5::{rest}" in str(caught.value)
    monkeypatch.setattr(address, "has_family", lambda *_: True)
    assert resolve(group, 5, LO).group == group


@pytest.mark.parametrize("group", ["ff02::1:5", "ff12::1", "ff15::1", "ff1e::1", "239.1.1.1"])
def test_groups_that_others_can_hear(monkeypatch, group):
    monkeypatch.setattr(address, "has_family", lambda *_: True)
    assert resolve(group, 5, LO).group == group


@pytest.mark.parametrize("verb", ["send", "recv", "repair"])
def test_every_verb_refuses_them(tmp_path, monkeypatch, capsys, verb):
    # spec: NET-10
    target = ("-o", tmp_path / "copy") if verb == "recv" else (make_file(tmp_path / "source", 1),)
    code, error = Cli(monkeypatch, capsys).refuse(verb, *target, "-g", "ff11::5", "-i", "eth7")
    assert code == 2
    assert "use ff12::5 for this link or ff15::5 for the site" in error


# Addresses.

V6 = Channel("ff15::1", 5, "net0", 1_000_007)
V4 = Channel("239.1.1.1", 5, "net0", 1_000_007)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Give this machine other addresses: (interface, address, flags) each."""
    states = tmp_path / "if_inet6"
    monkeypatch.setattr(address, "IPV6_STATES", states)

    def have(*known):
        found = {}
        lines = []
        for name, text, flags in known:
            family = socket.AF_INET6 if ":" in text else socket.AF_INET
            zone = f"%{name}" if text.startswith("fe80") else ""
            found.setdefault(name, []).append(SimpleNamespace(family=family, address=text + zone))
            if ":" in text:
                digits = socket.inet_pton(family, text).hex()
                lines.append(f"{digits} 07 40 20 {flags:02x} {name:>8}\n")
        states.write_text("".join(lines))
        monkeypatch.setattr(address.psutil, "net_if_addrs", lambda: found)

    return have


def test_states_of_addresses(machine):
    machine(
        ("net0", "fd01::1", 0x80),
        ("net0", "fe80::5", 0xC0),
        ("net0", "fd01::2", 0xA0),  # deprecated: it may be used until it is gone
        ("net0", "fd01::3", 0xC8),
        ("net1", "fe80::5", 0x80),
        ("net1", "fd01::9", 0x40),
        ("net0", "10.0.0.1", 0),
    )
    assert own_addresses(V6) == {
        "fd01::1": AddressState.READY,
        "fe80::5": AddressState.CHECKING,
        "fd01::2": AddressState.READY,
        "fd01::3": AddressState.DUPLICATE,
    }
    assert own_addresses(V4) == {"10.0.0.1": AddressState.READY}
    assert own_addresses(V6, anywhere=True)["fd01::9"] is AddressState.CHECKING
    check_own("fe80::5", V6)
    with pytest.raises(NetworkError, match="fd01::3: another machine"):
        check_own("fd01::3", V6)
    with pytest.raises(NetworkError, match="fd01::9: not an address of net0, which has fd01::1"):
        check_own("fd01::9", V6)


def test_an_interface_that_was_renamed_keeps_its_addresses(machine):
    machine((LO, "fd01::1", 0x80), ("net0", "fd01::2", 0x80))
    before = Channel("ff15::1", 5, "net0", socket.if_nametoindex(LO))
    assert own_addresses(before) == {"fd01::1": AddressState.READY}


def test_without_states_addresses_count_as_ready(machine, monkeypatch, tmp_path):
    machine(("net0", "fd01::1", 0xC0))
    monkeypatch.setattr(address, "IPV6_STATES", tmp_path / "missing")
    assert own_addresses(V6) == {"fd01::1": AddressState.READY}


@pytest.mark.parametrize("pinned", ["", "fd01::2"])
def test_a_start_waits_for_addresses_that_are_checked(machine, pinned):
    # spec: NET-11
    first, second = ("net0", "fd01::1", 0x80), ("net0", "fd01::2", 0xC0)
    machine(first, second)
    heard = Heard()
    waits = await_addresses(V6, pinned, heard)
    next(waits)
    next(waits)
    machine(first, ("net0", "fd01::2", 0x80))
    with pytest.raises(StopIteration):
        next(waits)
    (waiting,) = heard.events
    assert waiting.cause == "addresses"
    assert waiting.waiting.startswith("fd01::2 on net0: ")


def test_a_start_does_not_wait_for_what_does_not_matter(machine):
    machine(("net0", "fd01::1", 0x80), ("net0", "fd01::2", 0xC8), ("net1", "fd01::3", 0xC0))
    assert list(await_addresses(V6, "", pytest.fail)) == []
    machine(("net0", "fd01::1", 0x80), ("net0", "fd01::2", 0xC0))
    assert list(await_addresses(V6, "fd01::1", pytest.fail)) == []
    assert list(await_addresses(V4, "", pytest.fail)) == []


def test_a_start_does_not_wait_for_ever_nor_past_a_signal(machine, monkeypatch):
    machine(("net0", "fd01::1", 0xC0))
    stop = Stop()
    stop.ask("a signal")
    with pytest.raises(Interrupted):
        to_the_end(await_addresses(V6, "", Heard()), stop)
    monkeypatch.setattr(address, "CHECK_PATIENCE", 0)
    assert list(await_addresses(V6, "", pytest.fail)) == []


# Sockets that outlive their address or their interface.


@pytest.fixture
def place():
    return endpoint()


@pytest.fixture(params=["", "127.0.0.1"])
def sender(place, request):
    sock = SenderSocket(place.channel, hops=1, source=request.param)
    yield sock
    sock.close()


def replaced(sender, monkeypatch):
    """Let it look as if the interface had had another index."""
    stale = Channel(sender.channel.group, sender.channel.port, LO, sender.channel.index + 1_000)
    monkeypatch.setattr(sender, "channel", stale)


def test_nothing_changes_where_nothing_happened(sender):
    before, place = identity(sender), (sender.address, sender.port)
    assert sender.why_not_here() == ""
    sender.reopen()
    assert identity(sender) == before
    assert (sender.address, sender.port) == place


def test_address_and_port_stay_if_the_interface_is_another(sender, monkeypatch):
    # spec: SND-12
    place = sender.address, sender.port
    replaced(sender, monkeypatch)
    before = identity(sender)
    sender.reopen()
    assert identity(sender) != before
    with twin(sender) as sock:
        assert (sender.address, sender.port) == place == sock.getsockname()
    assert sender.channel.index == socket.if_nametoindex(LO)


def test_a_port_that_somebody_took_meanwhile(sender, monkeypatch):
    # spec: SND-12
    address_before, port = sender.address, sender.port
    replaced(sender, monkeypatch)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as thief, twin(sender) as sock:
        for one in (sock, thief):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("", port))
        sender.reopen()
        assert sender.address == address_before
        assert sender.port != port


def test_other_errors_of_a_new_socket_are_passed_on_and_it_is_tried_again(sender, monkeypatch):
    place = sender.address, sender.port
    replaced(sender, monkeypatch)

    def refuse(*arguments):
        raise OSError(errno.ENODEV, "No such device")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        with pytest.raises(NetworkError, match="No such device"):
            sender.reopen()
    sender.reopen()
    assert (sender.address, sender.port) == place


def test_an_address_that_is_no_more(place, monkeypatch):
    # spec: SND-12
    with closing(SenderSocket(place.channel, hops=1)) as sender:
        known = address.psutil.net_if_addrs()
        rest = {name: [a for a in of if a.address != sender.address] for name, of in known.items()}
        rest[LO].append(SimpleNamespace(family=socket.AF_INET, address="127.0.0.9"))
        before = sender.address
        monkeypatch.setattr(address.psutil, "net_if_addrs", lambda: rest)
        assert sender.why_not_here() == f"{before} is not an address of {LO} any more"
        old = identity(sender)
        sender.reopen()
        assert identity(sender) != old


def test_a_pinned_address_is_waited_for(place, monkeypatch):
    # spec: SND-12
    with closing(SenderSocket(place.channel, hops=1, source="127.0.0.1")) as sender:
        at = sender.address, sender.port
        other = SimpleNamespace(family=socket.AF_INET, address="127.0.0.2")
        with monkeypatch.context() as patch:
            patch.setattr(address.psutil, "net_if_addrs", lambda: {LO: [other]})
            assert "127.0.0.1" in sender.why_not_here()
            with pytest.raises(NetworkError, match=r"127\.0\.0\.1: not an address of lo now"):
                sender.reopen()
        assert sender.why_not_here() == ""
        sender.reopen()
        assert (sender.address, sender.port) == at


def test_addresses_that_are_checked_are_waited_for(place, monkeypatch):
    # spec: SND-12, NET-11
    with closing(SenderSocket(place.channel, hops=1)) as sender:
        monkeypatch.setattr(sender, "address", "192.0.2.77")  # gone
        checking = {"127.0.0.1": AddressState.CHECKING}
        with monkeypatch.context() as patch:
            patch.setattr("pgmlite.net.sender_socket.own_addresses", lambda *_, **how: checking)
            with pytest.raises(NetworkError, match="not ready yet"):
                sender.reopen()
        sender.reopen()
        assert sender.address != "192.0.2.77"
