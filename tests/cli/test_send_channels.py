"""What `send` does with several channels, and what it says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

import pgmlite
from pgmlite.errors import UsageError
from pgmlite.wire.control import parse_spm
from pgmlite.wire.manifest import parse_manifest
from tests.support.loopback import (
    HEADER,
    ODATA,
    SPM,
    Endpoint,
    Inside,
    Running,
    drain,
    endpoint,
    make_file,
    raw_receiver,
    run,
)

K = 150


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inside:
    """The command line in this process."""
    return Inside(monkeypatch, capfd)


def two() -> tuple[Endpoint, Endpoint]:
    """Return two groups at one port."""
    one, other = endpoint(), endpoint()
    return one, Endpoint(other.group, one.port)


def flags_of(*channels: tuple[Endpoint, str]) -> list[str]:
    """Return the options of a sender with channels."""
    place = channels[0][0]
    named = [part for at, rate in channels for part in ("--channel", f"{at.group},{rate}")]
    return ["-p", str(place.port), "-i", "lo", "--symbol-size", "64", *named]


def test_each_has_its_territory_its_rate_and_its_group(tmp_path: Path, inside: Inside) -> None:
    # spec: FEC-4, MAN-7, SND-6, SND-13
    source = make_file(tmp_path / "source", 64 * K - 3)
    slow, fast = two()
    # Numbers go by rate, not by the order in which they are named.
    flags = flags_of((fast, "8M"), (slow, "2M"))
    with raw_receiver(slow) as one, raw_receiver(fast) as other:
        ended = inside("send", source, *flags, "--start", "0/1", "--cycles", 1, "--json")
        packets = [drain(tap) for tap in (one, other)]
    assert ended.code == 0, ended.stderr
    start = ended.event("start")
    assert [(one["group"], one["rate"]) for one in start["channels"]] == [
        (slow.group, 2_000_000),
        (fast.group, 8_000_000),
    ]
    orders = [(one["order"], one["sector"], one["sectors"]) for one in start["channels"]]
    assert orders == [("territory", 1, 2), ("territory", 0, 2)]
    assert start["repair_symbols"] == -(-K * 5 // 3)
    sqns, esis, tsis = [], [], set()
    for channel, found in enumerate(packets):
        headers = [HEADER.unpack_from(one) for one in found]
        assert {fields[3] for fields in headers} == {channel}
        tsis |= {fields[6] for fields in headers}
        esis.append([fields[11] for fields in headers if fields[2] == ODATA])
        sqns.append(headers[0][10])
        spm = parse_spm(next(one for one in found if one[3] == SPM)[HEADER.size :])
        assert spm.rate == (2_000_000, 8_000_000)[channel]
        assert [(rung.rate, rung.group) for rung in parse_manifest(spm.manifest).ladder] == [
            (2_000_000, (slow.group, slow.port)),
            (8_000_000, (fast.group, fast.port)),
        ]
    assert len(tsis) == 1
    assert len(set(sqns)) == 2
    assert list(map(len, esis)) == [K, K]
    assert esis[1][:K] == [*range(K)]
    assert not set(esis[0]) & set(esis[1])


@pytest.mark.slow
def test_a_receiver_of_any_completes(tmp_path: Path) -> None:
    # spec: SND-13
    source = make_file(tmp_path / "source", 64 * 3_000)
    slow, fast = two()
    places = {slow: "4M", fast: "12M"}
    with Running("send", source, *flags_of(*places.items())):
        for number, place in enumerate(places):
            copy = tmp_path / f"copy{number}"
            ended = run("recv", "-o", copy, *place.flags, "--json", "--timeout", 60)
            assert ended.code == 0, ended.stderr
            assert copy.read_bytes() == source.read_bytes()
            # How soon is a matter of this machine, which decodes meanwhile.
            assert ended.last["cycles"] <= 2
    (oid,) = {ended.last["oid"]}
    assert len(oid) == 16


def test_it_says_where_each_goes(tmp_path: Path, inside: Inside) -> None:
    source = make_file(tmp_path / "source", 64 * K)
    slow, fast = two()
    ended = inside("send", source, *flags_of((slow, "2M"), (fast, "8M")), "--duration", 0.01)
    assert ended.code == 0, ended.stderr
    first, one, other = ended.stderr[:3]
    assert first.startswith("sending source, 9.4 KiB, as object ")
    assert " to 2 channels from " in first
    assert first.endswith("; repair symbols 167%")
    assert one.startswith(
        f"  channel 0: {slow.group}:{slow.port} on lo at 2 Mbit/s, order territory;"
    )
    assert other.startswith(f"  channel 1: {fast.group}:{fast.port} on lo at 8 Mbit/s")


def test_with_few_repair_symbols_each_sends_everything(tmp_path: Path, inside: Inside) -> None:
    # spec: SND-13
    source = make_file(tmp_path / "source", 64 * K)
    slow, fast = two()
    flags = [*flags_of((slow, "2M"), (fast, "8M")), "--duration", 0.01, "--json"]
    for fec, order in (("50%", "random"), ("off", "rounds")):
        start = inside("send", source, *flags, "--fec", fec).event("start")
        assert [one["order"] for one in start["channels"]] == [order] * 2


def test_one_is_the_same_as_a_group_and_a_rate(tmp_path: Path, inside: Inside) -> None:
    source, place = make_file(tmp_path / "source", 64 * K), endpoint()
    flags = [*flags_of((place, "2M")), "--start", "0/1", "--duration", 0.01, "--json"]
    start = inside("send", source, *flags).event("start")
    plain = ["--symbol-size", 64, "--start", "0/1", "--duration", 0.01, "--json"]
    other = inside("send", source, *place.flags, "-r", "2M", *plain).event("start")
    assert start["oid"] == other["oid"]
    assert start["channels"] == other["channels"]
    assert start["repair_symbols"] == other["repair_symbols"] == K // 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--channel", "239.1.2.3"], "--channel 239.1.2.3: give a group and a rate"),
        (["--channel", "239.1.2.3,"], "--channel 239.1.2.3,: give a group and a rate"),
        (["--channel", "239.1.2.3,max"], "--channel 239.1.2.3,max: give a group and a rate"),
        (["--channel", "239.1.2.3,fast"], "--channel 239.1.2.3,fast: rate fast: give bits"),
        (["--channel", "239.1.2.3,1M", "-g", "239.1.2.4"], "-g: each --channel has its own"),
        (["--channel", "239.1.2.3,1M", "-r", "2M"], "-r: each --channel has its own"),
        (
            ["--channel", "239.1.2.3,1M", "--channel", "239.1.2.4,1M"],
            "--channel 239.1.2.4: as fast as 239.1.2.3",
        ),
        (
            ["--channel", "239.1.2.3,1M", "--channel", "239.1.2.3,2M"],
            "--channel 239.1.2.3: twice",
        ),
        (
            ["--channel", "239.1.2.3,1M", "--channel", "ff15::1,2M"],
            "--channel ff15::1: 239.1.2.3 is of the other kind of IP addresses",
        ),
        (
            ["--channel", "239.1.2.3,1M", "--channel", "239.255.2.3,2M"],
            "--channel 239.255.2.3: is assigned to others, or not of the same scope as 239.1.2.3",
        ),
        (
            ["--channel", "239.1.2.3,1M", "--channel", "10.0.0.1,2M"],
            "group 10.0.0.1: not a multicast address",
        ),
        (
            ["--channel", "239.1.2.3,1M", "--channel", "239.1.2.4,2M", "--order", "blocks"],
            "--order blocks: goes with one channel",
        ),
        (
            [part for n in range(7) for part in ("--channel", f"239.1.2.{n},{n + 1}M")],
            "--channel: 7 of them; an object has at most 6",
        ),
    ],
    ids=str,
)
def test_what_it_does_not_take(
    tmp_path: Path, inside: Inside, options: list[str], words: str
) -> None:
    source = make_file(tmp_path / "source", 64 * K)
    ended = inside("send", source, "-i", "lo", *options)
    assert (ended.code, words in ended.error) == (2, True), ended.stderr


def test_a_program_gives_channels_or_a_group(tmp_path: Path) -> None:
    source = make_file(tmp_path / "source", 64)
    for more in ({"group": "239.1.2.3"}, {"rate": 20_000}):
        with pytest.raises(UsageError, match="channel: each has a group and a rate"):
            pgmlite.send(source, channels=[("239.1.2.4", 10_000)], **more)
