"""Which groups there are, and who may use which."""

import ipaddress
import socket

import pytest

from pgmlite.errors import UsageError
from pgmlite.net import address
from pgmlite.net.address import resolve
from pgmlite.net.groups import check_sources, is_source_specific
from tests.support.loopback import LO, Cli, make_file

SOURCE_SPECIFIC = [
    "ff3e::8000:1",
    "ff32::ffff:ffff",
    "ff35::8000:0",
    "232.0.0.1",
    "232.255.255.255",
]
ANY_SOURCE = [
    *("ff15::7067:6d", "ff1e::8000:1", "ff3e:40::8000:1", "ff3e:0:1::8000:1", "ff7e::8000:1"),
    *("231.255.255.255", "233.0.0.0", "239.1.2.3"),
]


@pytest.mark.parametrize("group", SOURCE_SPECIFIC + ANY_SOURCE)
def test_source_specific_groups(group: str) -> None:
    # spec: NET-14
    expected = group in SOURCE_SPECIFIC or group == "ff3e:0:1::8000:1"
    assert is_source_specific(group) == expected
    assert is_source_specific(ipaddress.ip_address(group)) == expected


@pytest.mark.parametrize("group", SOURCE_SPECIFIC)
def test_source_specific_groups_need_a_source(group: str) -> None:
    # spec: NET-14
    check_sources(group, ["fd01::1"])
    check_sources("ff15::7067:6d", [])
    with pytest.raises(UsageError) as caught:
        check_sources(group, [])
    assert str(caught.value) == f"group {group}: is source-specific: name the sender"
    assert caught.value.cause == "sources"


@pytest.mark.parametrize(
    ("group", "instead"),
    [
        ("ff3e::1", "ff3e::8000:1"),
        ("ff35::4000:1", "ff35::c000:1"),
        ("ff3e::7fff:ffff", "ff3e::ffff:ffff"),
        ("ff32::", "ff32::8000:0"),
    ],
)
def test_groups_that_are_not_for_hosts_to_choose(
    monkeypatch: pytest.MonkeyPatch, group: str, instead: str
) -> None:
    # spec: NET-15
    monkeypatch.setattr(address, "has_family", lambda *_: True)
    with pytest.raises(UsageError, match=f"^group {group}: .*8000:0000 to .*as {instead}$"):
        resolve(group, 5, LO)
    assert resolve(instead, 5, LO).group == instead


@pytest.mark.parametrize("verb", ["send", "recv", "repair"])
@pytest.mark.parametrize("group", ["ff3e::1", "ff3e::8000:1", "232.1.2.3"])
def test_nothing_is_opened_for_a_group_that_is_refused(tmp_path, monkeypatch, capsys, verb, group):
    # spec: NET-14, NET-15
    monkeypatch.setattr(address, "has_family", lambda *_: True)
    options = ("-o", tmp_path / "copy") if verb == "recv" else (make_file(tmp_path / "source", 9),)
    run = Cli(monkeypatch, capsys).refuse

    def opened(*arguments: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", opened)
    if verb == "send" and group != "ff3e::1":
        with pytest.raises(pytest.fail.Exception, match="a socket was opened"):
            run(verb, *options, "-g", group, "-i", LO)
        return
    code, error = run(verb, *options, "-g", group, "-i", LO)
    assert code == 2
    if group != "ff3e::1":
        said = f"pgmlite: group {group}: is source-specific: name the sender with --source"
        assert error == said
    assert not (tmp_path / "copy.part").exists()
