"""Captures of carousels with repair symbols, and of NAKs by count: the specification in them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgmlite.cli import run
from pgmlite.core.ring import Ring
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.control import parse_spm
from pgmlite.wire.layout import HEADER, Order, PacketType
from pgmlite.wire.manifest import Manifest, parse_manifest
from pgmlite.wire.request import parse_nak, parse_request
from tests.capture.test_captures import INDEX, VALID, packets, path_of
from tests.support.ring_vectors import named
from tests.support.vectors import count_items

# NAKs by count.


def manifest_in(name: str) -> Manifest:
    """Return the manifest of a capture's object."""
    for _, _, one in packets(path_of(name)):
        if HEADER.parse(one).type == PacketType.SPM:
            return parse_manifest(parse_spm(one[HEADER_SIZE:]).manifest)
    raise AssertionError("no SPM")


def test_counts_are_what_brings_what_was_lacking() -> None:
    """Every NAK of the recording, against the formula: steps of the cursor, as NCFs and RDATA show
    it, that bring three symbols too many, and more for those that will be lost."""
    # spec: NAK-6, NAK-17, REQ-5, REP-3
    name = "loss-counts-receiver-side"
    geometry = manifest_in(name).geometry
    held: dict[int, set[int]] = {block: set() for block in range(geometry.blocks)}
    cursors = {block: geometry.ring(block) - 1 for block in held}
    asked_of = set()
    for _, _, one in packets(path_of(name)):
        header, body = HEADER.parse(one), one[HEADER_SIZE:]
        block = header.offset // geometry.block_size
        if header.type in (PacketType.ODATA, PacketType.RDATA):
            held[block].add(header.esi)
            if header.type == PacketType.RDATA:
                cursors[block] = (header.esi - 1) % geometry.ring(block)
        elif header.type == PacketType.NCF:
            counts = parse_request(body, geometry.symbols, geometry.rings)
            cursors |= {block: first for block, first, _ in count_items(counts)}
        elif header.type == PacketType.NAK:
            nak = parse_nak(body, geometry.symbols, geometry.rings)
            assert nak.counts
            for block, _, count in count_items(nak.counts):
                lacks = geometry.source(block) + 3 - len(held[block])
                ring, cursor = geometry.ring(block), cursors[block]
                steps = [(cursor - step) % ring for step in range(count)]
                brings = len(set(steps) - held[block])
                # Some packets are on their way from the socket to the machine.
                assert abs(brings - math.ceil(lacks / (1 - nak.loss))) <= 4
                assert lacks <= max(16, geometry.source(block) // 2) + 3
                asked_of.add(block)
    assert asked_of == {0, 1}


def test_a_replay_tells_what_it_would_ask_for_by_count(tmp_path: Path, capsys) -> None:
    path = str(path_of("loss-counts-receiver-side"))
    assert run(["replay", path, "-o", str(tmp_path / "out"), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    counts = [event["counts"] for event in events if event["event"] == "nak"]
    assert {block for some in counts for block, _ in some} == {0, 1}
    assert run(["replay", path, "-o", str(tmp_path / "again")]) == 0
    block, count = counts[0][0]
    assert f"port 28776: {count} of block {block}" in "".join(capsys.readouterr())


def test_repairs_by_count_go_down_the_rings() -> None:
    # spec: REP-4, REP-12
    name = "loss-counts-sender-side"
    geometry = manifest_in(name).geometry
    sent: dict[int, list[int]] = {block: [] for block in range(geometry.blocks)}
    promised: set[tuple[int, int]] = set()
    for _, _, one in packets(path_of(name)):
        header = HEADER.parse(one)
        if header.type == PacketType.RDATA:
            block = header.offset // geometry.block_size
            sent[block].append(header.esi)
            assert (block, header.esi) in promised
        elif header.type == PacketType.NCF:
            counts = parse_request(one[HEADER_SIZE:], geometry.symbols, geometry.rings)
            for block, first, count in count_items(counts):
                ring = geometry.ring(block)
                promised |= {(block, (first - step) % ring) for step in range(count)}
    for block, esis in sent.items():
        last = geometry.ring(block) - 1
        assert esis == list(range(last, last - len(esis), -1))
        assert esis


# Carousels.


def sessions(name: str) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the packets of each channel of a session in order, with places in it, each once."""
    found: dict[tuple[int, int], dict[int, bytes]] = {}
    firsts: dict[tuple[int, int], int] = {}
    for _, _, one in packets(path_of(name)):
        header = HEADER.parse(one)
        if header.type != PacketType.NAK:
            key = header.tsi, header.channel
            place = (header.sqn - firsts.setdefault(key, header.sqn) + (1 << 31)) % (1 << 32)
            found.setdefault(key, {})[place] = one
    yield from (sorted(session.items()) for session in found.values())


@pytest.mark.parametrize("name", sorted(set(VALID) - {"signed"}))  # in whose name others send
def test_carousels_send_what_their_positions_say(name: str) -> None:
    # spec: FEC-4, FEC-5, SND-6, PKT-8
    checked = 0
    for session in sessions(name):
        ring: Ring | None = None
        place = before = -1
        for at, one in session:
            header = HEADER.parse(one)
            is_next, before = at == before + 1, at
            if header.type == PacketType.SPM:
                spm = parse_spm(one[HEADER_SIZE:])
                if spm.position:
                    known, place = ring, spm.position.place
                    ring = Ring.at(parse_manifest(spm.manifest).geometry, spm.position)
                    assert known in (None, ring)
            elif not is_next:
                place = -1  # something was lost: the next SPM tells
            elif header.type == PacketType.ODATA and ring and place >= 0:
                block, esi = named(ring, place, 1)[0]
                is_repair = esi >= ring.geometry.source(block)
                offset = ring.geometry.offset(block, 0 if is_repair else esi)
                assert (header.offset, header.esi, header.flags) == (offset, esi, is_repair)
                place, checked = place + 1, checked + 1
    assert checked > 60


def test_repair_symbols_stand_for_what_was_lost_or_went_by() -> None:
    # spec: FEC-6
    for name in ("late-join", "loss-fec", "loss-counts-receiver-side"):
        facts = INDEX[name]["complete"]
        assert facts["decoded"] > 0, name
        assert facts["cycles"] < 1.2, name


def test_senders_with_sectors_send_nothing_twice() -> None:
    # spec: SND-8, FEC-4
    facts = INDEX["two-senders"]["complete"]
    assert facts["duplicates"] == 0
    sectors = set()
    for _, _, one in packets(path_of("two-senders")):
        if HEADER.parse(one).type == PacketType.SPM:
            position = parse_spm(one[HEADER_SIZE:]).position
            assert position
            sectors.add((position.sector, position.sectors))
    assert sectors == {(0, 2), (1, 2)}


def test_channels_send_territories_and_their_object_names_them() -> None:
    # spec: MAN-7, SND-13, FEC-4
    name = "two-channels-sender-side"
    ladder = manifest_in(name).ladder
    assert [rung.rate for rung in ladder] == [600_000, 1_200_000]
    where, esis = set(), {0: set(), 1: set()}
    for _, _, one in packets(path_of(name)):
        header = HEADER.parse(one)
        if header.type == PacketType.SPM:
            spm = parse_spm(one[HEADER_SIZE:])
            assert spm.position
            assert spm.rate == ladder[header.channel].rate
            where.add((header.channel, spm.position.order, spm.position.sector))
        elif header.type == PacketType.ODATA:
            esis[header.channel].add(header.esi)
    assert where == {(0, Order.TERRITORY, 1), (1, Order.TERRITORY, 0)}
    assert not esis[0] & esis[1]
    assert INDEX[name]["complete"]["decoded"] == 1
    assert INDEX[name]["complete"]["cycles"] < 1.2
