"""What `send` sends: repair symbols, the order and the start that it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgmlite.core.ring import Ring
from pgmlite.fec.codec import RandomLinear
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.layout import Order
from tests.support.loopback import (
    HEADER,
    ODATA,
    Inside,
    drain,
    endpoint,
    make_file,
    raw_receiver,
)


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inside:
    """The command line in this process."""
    return Inside(monkeypatch, capfd)


def begun(start: dict[str, Any]) -> Ring:
    """Return the order in which a sender says that it sends."""
    geometry = Geometry(
        start["size"], start["symbol_size"], start["block_symbols"], start["repair_symbols"]
    )
    (channel,) = start["channels"]
    where = channel["first"], channel["sector"], channel["sectors"]
    return Ring(geometry, Order[channel["order"].upper()], *where)


@pytest.mark.parametrize(
    ("options", "order", "share", "repairs"),
    [
        ([], Order.ROUNDS, (0, 1), 64),
        (["--start", "random", "--fec", "300%"], Order.RANDOM, (0, 1), 270),
        (["--start", "2/3"], Order.ROUNDS, (2, 3), 64),
        (["--order", "blocks", "--start", "0/2", "--fec", "100%"], Order.BLOCKS, (0, 2), 90),
        (["--order", "blocks", "--fec", "off"], Order.BLOCKS, (0, 1), 0),
        (["--order", "rounds", "--fec", "off", "--start", "1/2"], Order.ROUNDS, (1, 2), 0),
    ],
    ids=str,
)
def test_what_is_sent_in_which_order(
    tmp_path: Path,
    inside: Inside,
    options: list[str],
    order: Order,
    share: tuple[int, int],
    repairs: int,
) -> None:
    # spec: FEC-1, FEC-4, SND-6, SND-9, PKT-4
    source, place = make_file(tmp_path / "source", 64 * 90 - 3), endpoint()
    flags = [*place.flags, "-r", "10M", "--symbol-size", 64, "--cycles", 2, "--json"]
    with raw_receiver(place) as tap:
        sent = inside("send", source, *flags, *options)
        packets = drain(tap)
    assert sent.code == 0, sent.stderr
    ring = begun(sent.event("start"))
    assert (ring.order, (ring.sector, ring.sectors)) == (order, share)
    assert (ring.geometry.block_symbols, ring.geometry.repair_symbols) == (90, repairs)
    found = [(HEADER.unpack_from(one), one[HEADER.size :]) for one in packets]
    odata = [(fields, payload) for fields, payload in found if fields[2] == ODATA]
    assert [fields[11] for fields, _ in odata] == ring.ids(0, 180).esis.tolist()
    symbols = np.zeros((90, 64), np.uint8)
    symbols.reshape(-1)[: 64 * 90 - 3] = np.frombuffer(source.read_bytes(), np.uint8)
    for (*_, flag, _, _, _, _, offset, _, esi), payload in odata:
        is_repair = esi >= 90
        assert (flag, offset) == (is_repair, 0 if is_repair else esi * 64)
        wanted = RandomLinear().encode(symbols, np.array([esi]))[0].tobytes()
        assert payload == (wanted[:-3] if esi == 89 else wanted)
    assert (sent.last["odata"], sent.last["cycles"], sent.last["unsent"]) == (180, 2, 0)
    assert sent.last["packets"] == len(packets)
    assert 0 < sent.last["achieved_rate"] <= 10_000_000


def test_without_a_start_it_begins_anywhere(tmp_path: Path, inside: Inside) -> None:
    # spec: SND-6
    source, place = make_file(tmp_path / "source", 64 * 900), endpoint()
    flags = [*place.flags, "--symbol-size", 64, "--json", "--duration", 0.01]
    starts = [inside("send", source, *flags).event("start") for _ in range(4)]
    assert len({start["channels"][0]["first"] for start in starts}) > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "repair symbols 50%"),
        (["--fec", "120%"], "repair symbols 120%"),
        (["--fec", "off"], "no repair symbols"),
    ],
)
def test_it_says_how_many_repair_symbols_there_are(
    tmp_path: Path, inside: Inside, options: list[str], words: str
) -> None:
    source = make_file(tmp_path / "source", 1_024 * 64)
    flags = [*endpoint().flags, "--symbol-size", 64, "--duration", 0.01]
    ended = inside("send", source, *flags, *options)
    assert ended.code == 0, ended.stderr
    (line,) = [line for line in ended.stderr if line.startswith("sending ")]
    assert f"; {words}; " in line
