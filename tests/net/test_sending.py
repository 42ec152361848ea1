"""A sender's loop where packets can't be sent: links that go, addresses that go, filters, MTUs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.send.rate import Fixed
from pgmlite.core.send.sender import Sender
from pgmlite.errors import Interrupted, NetworkError
from pgmlite.net import sending
from pgmlite.net.sending import Refusals, SendLoop
from pgmlite.storage.source import SourceFile
from pgmlite.storage.symbols import SymbolFile
from pgmlite.wire.buffers import SendBuffer
from tests.support.builders import make_object, ring_of
from tests.support.loopback import HEADER, ODATA, SPM, TREE
from tests.support.loops import CHANNEL, Heard, Until, to_the_end

SYMBOL = 400
SAMPLE = make_object(SYMBOL * 300, symbol_size=SYMBOL, block_symbols=50)
HERE, ELSEWHERE = ("192.0.2.1", 4_000), ("192.0.2.9", 5_000)


class Link:
    """A sender's socket whose network a test breaks: takes packets, call by call."""

    channel = CHANNEL
    has_segmentation = True

    def __init__(self) -> None:
        self.address, self.port = HERE
        self.sent: list[tuple[tuple[str, int], bytes]] = []
        """From where, and what."""

        self.refuses: Callable[[list[bytes]], int] = lambda packets: 0
        """Return the error for a call with these packets; 0: they are taken."""

        self.gone = ""
        """Why packets must not come from here any more."""

        self.ways: list[tuple[str, int] | None] = []
        """Where from, each time the socket is opened anew; None: from nowhere yet."""

        self.calls = self.reopened = 0

    def send(self, pieces: list[bytes], stride: int) -> None:
        self.calls += 1
        packets = [b"".join(pieces[at : at + 2]) for at in range(0, len(pieces), 2)]
        if number := self.refuses(packets):
            raise OSError(number, os.strerror(number))
        self.sent += [((self.address, self.port), bytes(one)) for one in packets]

    def why_not_here(self) -> str:
        return self.gone

    def reopen(self) -> None:
        self.reopened += 1
        way = self.ways.pop(0) if self.ways else (self.address, self.port)
        if way is None:
            raise NetworkError("not back yet")
        self.address, self.port = way
        self.gone = ""


def fails(*numbers: int, after: int = 0) -> Callable[[list[bytes]], int]:
    """Return what refuses calls with these errors, two calls each, after some that pass."""
    todo = [0] * after + [number for number in numbers for _ in range(2)]
    return lambda packets: todo.pop(0) if todo else 0


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SendLoop]]:
    """Make loops that send `SAMPLE` once through a link, and try on soon where there is none."""
    monkeypatch.setattr(sending, "POLL", 5 * MS)
    path = tmp_path / "source"
    path.write_bytes(SAMPLE.data)
    with ExitStack() as opened:

        def build(*links: Link, inputs: Any = (), **how: Any) -> SendLoop:
            source = SourceFile(path)
            opened.callback(source.close)
            repair = how.pop("repair", None)
            rings = [ring_of(SAMPLE.manifest.geometry, how) for _ in links]
            values = {"rate": 20_000_000, "packet_overhead": 28, "cycles": 1} | how
            config = SenderConfig(**values)
            machine = Sender(
                config,
                SAMPLE.manifest,
                SAMPLE.tree,
                rings=rings,
                repair=repair,
                rng=Random(1),
                rates=[Fixed(config.rate) for _ in links],
            )
            buffer = SendBuffer(SAMPLE.manifest.symbol_size, config.transmit_limit)
            burst = config.max_burst
            return SendLoop(
                machine,
                links,
                SymbolFile(source, SAMPLE.manifest.geometry),
                buffer,
                burst,
                Heard(),
                inputs,
            )

        yield build


def fields(packet: bytes) -> dict[str, int]:
    names = ("magic", "version", "type", "channel", "flags", "symbol_size")
    names += ("tsi", "oid", "size", "offset", "sqn", "esi")
    return dict(zip(names, HEADER.unpack_from(packet), strict=True))


def symbols(packets: list[bytes]) -> list[int]:
    """Return the symbols of ODATA packets, in order."""
    headers = [fields(packet) for packet in packets]
    return [one["offset"] // SYMBOL for one in headers if one["type"] == ODATA]


def gaps(packets: list[bytes]) -> int:
    """Return how many numbers are missing."""
    sqns = [fields(packet)["sqn"] for packet in packets]
    return (sqns[-1] - sqns[0]) % (1 << 32) + 1 - len(sqns)


# What holds for all packets.

LINK = [errno.ENETDOWN, errno.ENETUNREACH, errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENODEV]


@pytest.mark.parametrize("rate", [20_000_000, None])
@pytest.mark.parametrize("number", LINK, ids=os.strerror)
def test_nothing_is_lost_while_there_is_no_link(make, monkeypatch, number, rate):
    # spec: SND-10
    link = Link()
    link.refuses = fails(number, number, after=2)
    link.ways = [None, HERE, HERE]
    loop = make(link, rate=rate)
    stood: list[int] = []
    monkeypatch.setattr(loop.machine, "stood", stood.append)
    to_the_end(loop.run())
    assert len(stood) == 1
    assert stood[0] > 0
    packets = [packet for _, packet in link.sent]
    assert symbols(packets) == [*range(300)]
    assert gaps(packets) == 0
    assert {place for place, _ in link.sent} == {HERE}
    assert loop.machine.counters.unsent == 0
    first, last = loop.tell.warnings
    assert f"{os.strerror(number)}; trying on" in first
    assert "sending again after 0." in last
    assert "session" not in last


@pytest.mark.parametrize("way", [ELSEWHERE, (HERE[0], 5_000), (ELSEWHERE[0], 4_000)], ids=str)
@pytest.mark.parametrize("rate", [20_000_000, 300_000_000, None])
def test_from_another_place_it_is_another_session(make, rate, way):
    # spec: SND-12
    link = Link()
    link.refuses = fails(errno.ENETUNREACH, after=4)
    link.ways = [None, way]
    loop = make(link, rate=rate)
    before = loop.machine.tsi
    to_the_end(loop.run())
    packets = {place: [p for at, p in link.sent if at == place] for place in (HERE, way)}
    assert {fields(one)["tsi"] for one in packets[HERE]} == {before}
    assert {fields(one)["tsi"] for one in packets[way]} == {loop.machine.tsi} != {before}
    assert [fields(one)["type"] for one in packets[way]][:2] == [SPM, TREE]
    assert gaps(packets[way]) == gaps(packets[HERE]) == 0
    # The carousel goes on with what it could not send.
    assert symbols([packet for _, packet in link.sent]) == [*range(300)]
    assert loop.machine.counters.odata == 300
    assert loop.machine.counters.packets - loop.machine.counters.unsent == len(link.sent)
    assert f"from {way[0]} as a new session" in loop.tell.warnings[-1]


def test_it_is_said_which_channel_is_refused(make):
    # spec: SND-11
    one, other = Link(), Link()
    other.channel = replace(CHANNEL, group="239.9.9.9")
    other.refuses = lambda packets: errno.EPERM
    loop = make(one, other)
    to_the_end(loop.run())
    assert symbols([packet for _, packet in one.sent]) == [*range(300)]
    # What one channel takes says nothing of the other.
    (warning,) = loop.tell.warnings
    assert warning.startswith(f"{other.channel}: ")
    assert str(one.channel) not in warning


def test_each_channel_has_its_socket_and_they_stand_and_move_together(make):
    # spec: SND-10, SND-12, PKT-7
    one, other = Link(), Link()
    other.refuses = fails(errno.ENETUNREACH, after=4)
    other.ways = [None, ELSEWHERE]
    loop = make(one, other)
    before = loop.machine.tsi
    to_the_end(loop.run())
    for channel, link in enumerate((one, other)):
        packets = [packet for _, packet in link.sent]
        assert {fields(packet)["channel"] for packet in packets} == {channel}
        assert symbols(packets) == [*range(300)]
        assert [fields(packet)["tsi"] for packet in packets][:: len(packets) - 1] == [
            before,
            loop.machine.tsi,
        ]
    assert before != loop.machine.tsi
    assert loop.machine.counters.odata == 600


def test_an_address_that_is_gone_is_noticed_though_packets_still_leave(make, monkeypatch):
    # spec: SND-12
    monkeypatch.setattr(sending, "REPORT_EVERY", 5 * MS)
    link = Link()
    seen = []

    def look(packets: list[bytes]) -> int:
        if len(link.sent) == 50:
            link.gone = "192.0.2.1 is not an address of none0 any more"
            link.ways = [None, None, ELSEWHERE]
        if link.gone:
            seen.append(packets)
        return 0

    link.refuses = look
    loop = make(link, rate=2_000_000)
    to_the_end(loop.run())
    # Some leave until it is looked at; and none while there is no other address.
    assert len(seen) <= 100
    assert link.reopened == 3
    assert {place for place, _ in link.sent} == {HERE, ELSEWHERE}
    assert symbols([packet for _, packet in link.sent]) == [*range(300)]
    first, last = loop.tell.warnings
    assert "192.0.2.1 is not an address of none0 any more; trying on" in first
    assert "from 192.0.2.9 as a new session" in last


def test_a_time_limit_ends_it_without_a_link_too(make):
    # spec: SND-9
    link = Link()
    link.refuses = lambda packets: errno.ENETDOWN
    loop = make(link, cycles=None, duration=300 * MS)
    with pytest.raises(NetworkError, match=r"nothing could be sent to .* Network is down"):
        to_the_end(loop.run())
    assert loop.machine.counters.unsent == loop.machine.counters.packets == 1
    assert loop.tell.warnings == [f"{CHANNEL}: Network is down; trying on"]


def test_a_signal_ends_it_without_a_link_too(make):
    link = Link()
    link.refuses = lambda packets: errno.ENETDOWN
    loop = make(link)
    with pytest.raises(Interrupted):
        to_the_end(loop.run(), Until(lambda: link.calls > 2))
    assert loop.machine.counters.unsent == 1


class Ear:
    """Where NAKs would arrive; it can be opened anew only later."""

    READS_AT_ONCE = 1

    def __init__(self, refusals: int) -> None:
        self._ready, self._written = os.pipe()
        self.refusals = refusals
        self.rejoined = 0

    def fileno(self) -> int:
        return self._ready

    def read_into(self, pieces: Any) -> None:
        return None

    def rejoin(self) -> None:
        self.rejoined += 1
        if self.rejoined <= self.refusals:
            raise NetworkError("can't listen for NAKs")

    def release(self) -> None:
        os.close(self._ready)
        os.close(self._written)


@pytest.mark.parametrize("refusals", [0, 3])
def test_the_carousel_does_not_wait_for_where_naks_arrive(make, monkeypatch, refusals):
    # spec: NET-9
    monkeypatch.setattr(sending, "REPORT_EVERY", 1 * MS)
    link, ear = Link(), Ear(refusals)
    link.refuses = fails(errno.ENODEV, after=2)
    repair = RepairConfig(port=9, linger=50 * MS)
    loop = make(link, inputs=[ear], repair=repair, spm_min=10 * MS, spm_max=10 * MS)
    to_the_end(loop.run())
    ear.release()
    assert symbols([packet for _, packet in link.sent]) == [*range(300)]
    assert ear.rejoined == refusals + 1
    said = [one for one in loop.tell.warnings if "NAKs" in one]
    assert len(said) == min(1, refusals)


# What is of single packets.


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOBUFS, errno.EAGAIN], ids=os.strerror)
@pytest.mark.parametrize("rate", [20_000_000, None])
def test_packets_that_are_refused_leave_a_gap_and_cost_no_time(make, monkeypatch, number, rate):
    # spec: SND-11
    monkeypatch.setattr(sending, "POLL", 1_000 * SECOND)  # the pause where there is no link
    link = Link()
    rng = Random(2)
    refused: list[bytes] = []

    def look(packets: list[bytes]) -> int:
        if link.calls % 2 and refused[-1:] != packets[-1:] and rng.random() < 0.1:
            refused.extend(packets)
        return number if packets[-1] in refused else 0

    link.refuses = look
    loop = make(link, rate=rate, max_burst=4, cycles=2)
    to_the_end(loop.run())
    packets = [packet for _, packet in link.sent]
    counters = loop.machine.counters
    assert 0 < counters.unsent == len(refused) < 200
    assert counters.packets == len(packets) + len(refused)
    everything = sorted(packets + refused, key=lambda packet: fields(packet)["sqn"])
    assert gaps(everything) == 0
    assert symbols(everything) == [*range(300)] * 2
    assert not link.reopened
    assert loop.machine.tsi == fields(packets[0])["tsi"]
    (only,) = loop.tell.warnings
    assert os.strerror(number) in only
    assert ("filter" in only) == (number == errno.EPERM)


def test_without_a_rate_to_keep_a_refusal_is_followed_by_a_rest(make):
    # As fast as this machine can ask, it would be refused for ever.
    link = Link()
    link.refuses = fails(*[errno.EPERM] * 3, after=2)
    waits = [wait.time for wait in make(link, rate=None).run()]
    assert max(waits) == 3 * sending.REFUSED_NAP


def test_one_by_one_each_is_refused_for_itself(make):
    # spec: SND-11
    link = Link()
    link.has_segmentation = False
    link.refuses = lambda packets: errno.EPERM if fields(packets[0])["offset"] == 10 * SYMBOL else 0
    loop = make(link, rate=None)
    to_the_end(loop.run())
    assert {len(one) for _, one in link.sent if fields(one)["type"] == ODATA} == {
        HEADER.size + SYMBOL
    }
    assert symbols([packet for _, packet in link.sent]) == [*range(10), *range(11, 300)]
    assert loop.machine.counters.unsent == 1


@pytest.mark.parametrize("rate", [20_000_000, None])
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOBUFS], ids=os.strerror)
def test_a_filter_that_lets_nothing_out(make, number, rate):
    # spec: SND-11
    link = Link()
    link.refuses = lambda packets: number
    loop = make(link, rate=rate)
    with pytest.raises(NetworkError, match=f"nothing could be sent.*{os.strerror(number)}"):
        to_the_end(loop.run())
    assert loop.machine.counters.unsent == loop.machine.counters.packets > 300


def test_packets_that_do_not_fit_any_more(make, monkeypatch):
    # spec: NET-3, SND-11
    monkeypatch.setattr(sending, "interface_mtu", lambda channel: 400)
    monkeypatch.setattr(sending, "SECOND", 1 * MS)
    link = Link()

    def look(packets: list[bytes]) -> int:
        is_low = len(link.sent) >= 100 and loop.machine.counters.unsent < 100
        return errno.EMSGSIZE if is_low and max(map(len, packets)) > 400 else 0

    link.refuses = look
    loop = make(link, rate=5_000_000, spm_min=10 * MS, spm_max=10 * MS)
    to_the_end(loop.run())
    packets = [packet for _, packet in link.sent]
    assert 100 <= loop.machine.counters.unsent < 110
    # SPMs go on to tell that the session lives.
    kinds = "".join("S" if fields(packet)["type"] == SPM else " " for packet in packets)
    assert max(map(len, kinds.split())) > 2
    first, last = loop.tell.warnings
    assert f"packets of {SYMBOL + 48 + 28} bytes do not fit none0, whose MTU is 400 now" in first
    assert "MTU of 400; trying on" in first
    assert "sending again after" in last
    assert symbols(packets)[-1] == 299


def test_forged_errors_are_no_reason_for_words(make):
    # spec: SND-10
    link = Link()
    link.refuses = fails(errno.ECONNREFUSED, errno.ENOPROTOOPT, after=5)
    loop = make(link, max_burst=1)
    to_the_end(loop.run())
    assert loop.tell.warnings == []
    assert loop.machine.counters.unsent == 2


class TestWhatIsToldOfRefusals:
    EPERM = OSError(errno.EPERM, "no")

    def test_once_and_then_every_ten_seconds(self) -> None:
        told: list[str] = []
        refusals = Refusals(told.append)
        for step in range(250):
            now = step * 100 * MS
            refusals.refused(now, self.EPERM, "no", 2, 500)
            refusals.taken(now + 1, 500)  # others get through
        assert told == [
            "no; trying on",
            "no: 200 packets were not sent in 10 s",
            "no: 200 packets were not sent in 10 s",
        ]

    def test_that_they_are_taken_again(self) -> None:
        told: list[str] = []
        refusals = Refusals(told.append)
        for _ in range(2):
            told.clear()
            refusals.refused(0, self.EPERM, "no", 1, 500)
            refusals.refused(1 * SECOND, self.EPERM, "no", 1, 500)
            refusals.taken(2 * SECOND, 499)  # smaller ones always were
            refusals.taken(3 * SECOND, 500)
            refusals.taken(4 * SECOND, 500)
            assert told == ["no; trying on", "sending again after 3.0 s"]

    def test_another_reason_is_told_at_once(self) -> None:
        told: list[str] = []
        refusals = Refusals(told.append)
        refusals.refused(0, self.EPERM, "no", 1, 500)
        refusals.refused(1, OSError(errno.EMSGSIZE, "long"), "long", 1, 500)
        assert told == ["no; trying on", "long; trying on"]
