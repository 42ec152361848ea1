"""What strangers say of sizes and places costs no more than the packets that say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgmlite.core.config import NakConfig
from pgmlite.core.course import Course
from pgmlite.core.machine import MS
from pgmlite.core.needs import NO_SYMBOLS
from pgmlite.core.receive.blocks import STRETCH, Blocks
from pgmlite.core.receive.lookout import Lookout
from pgmlite.core.ring import Ring
from pgmlite.wire.geometry import Geometry, Sizes
from pgmlite.wire.layout import Order, PacketType
from pgmlite.wire.manifest import Manifest
from pgmlite.wire.request import Symbols
from tests.support.asking import Asking
from tests.support.builders import Drive, Sample, make_object, packet, spm_body

SYMBOL = 1_404
LARGEST = 1 << 40
MIB = 1 << 20


def made_up(repair_symbols: int, seed: int = 0) -> Sample:
    """Return an object of 1 TiB that nobody has."""
    root = seed.to_bytes(32, "big")
    manifest = Manifest(SYMBOL, 1_024, LARGEST, root, "huge", repair_symbols=repair_symbols)
    return Sample(b"", manifest, make_object(64).tree)


def announced(sample: Sample, place: int = 0) -> bytes:
    """Return an SPM of a carousel of it that is at `place`."""
    body = spm_body(sample.manifest.raw, order=Order.ROUNDS, place=place, repair_port=9)
    return packet(PacketType.SPM, body, **sample.fields)


def resident() -> int:
    """Return the bytes of memory that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


@pytest.mark.parametrize("repair_symbols", [0, 512])
def test_announcements_take_no_memory_by_the_size_that_they_say(repair_symbols: int) -> None:
    # spec: RCV-18
    drives = [Drive() for _ in range(16)]
    drives[0].give([announced(made_up(repair_symbols))])  # modules and caches
    before = resident()
    for number, drive in enumerate(drives):
        huge = made_up(repair_symbols, number)
        drive.give([announced(huge, place << 20) for place in range(8)])
        assert drive.machine.manifest == huge.manifest
    assert resident() - before < 16 * MIB  # one array of its blocks has 3 MiB


@pytest.mark.parametrize("repair_symbols", [0, 8])
def test_blocks_are_grouped_when_a_symbol_comes(
    repair_symbols: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: RCV-18
    grouped: list[Geometry] = []
    sources = Geometry.sources

    def counted(geometry: Geometry, blocks: Symbols) -> Symbols:
        grouped.append(geometry)
        return sources(geometry, blocks)

    monkeypatch.setattr(Geometry, "sources", counted)
    monkeypatch.setattr(Blocks, "group", lambda blocks, geometry: counted(geometry, NO_SYMBOLS))
    sample = make_object(4_000, repair_symbols=repair_symbols)
    drive = Drive()
    drive.give([sample.spm(), sample.spm(head=20), sample.spm(head=20)])
    assert not grouped
    monkeypatch.undo()
    drive.give([*sample.nodes(), *sample.all_odata()])
    assert drive.is_complete


def test_an_announcement_of_the_largest_object_walks_through_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # spec: RCV-18: one packet took seconds, and stalled who waited for an object
    lengths: list[int] = []
    arange = np.arange

    def walked(*args: Any, **kwargs: Any) -> Any:
        array = arange(*args, **kwargs)
        lengths.append(len(array))
        return array

    drive = Drive()
    monkeypatch.setattr(np, "arange", walked)
    drive.give([announced(made_up(512), place) for place in (0, 0, 1 << 29, 1 << 29)])
    assert drive.machine.manifest
    assert max(lengths, default=0) < 10_000  # of 764 268 blocks


def test_what_came_before_the_manifest_is_found_without_a_walk() -> None:
    # spec: RCV-18
    size = 4 * STRETCH
    blocks = Blocks(Sizes(64 * size, 64))
    for symbols in ([5, 6, STRETCH - 1], [STRETCH, 3 * STRETCH + 1]):
        blocks.add(np.array(symbols, np.int64))
    assert sorted(blocks.touched) == [0, 1, 3]
    blocks.group(Geometry(64 * size, 64, 8))
    lacking = {int(block): int(blocks.lacks[block]) for block in np.flatnonzero(blocks.lacks < 8)}
    per_stretch = STRETCH // 8
    assert lacking == {0: 6, per_stretch - 1: 7, per_stretch: 7, 3 * per_stretch: 7}


def test_a_place_that_is_made_up_makes_no_block_due() -> None:
    # spec: NAK-3, NAK-6
    asking = Asking(100_000)
    asking.hear(range(40))
    for place in (60_000, 60_000, 99_000, 99_000):
        asking.now += 20 * MS
        asking.spm(head=place)
        assert asking.settle() == []
    assert not any(asking.state(block) for block in range(asking.geometry.blocks))


def test_rings_that_only_spms_say_are_not_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # spec: NAK-1, RCV-18
    worked: list[Ring] = []
    monkeypatch.setattr(
        Course, "ended", lambda course, *_: worked.append(course.ring) or NO_SYMBOLS
    )
    asking = Asking(10_000)
    asking.hear(range(40))
    asking.settle()
    assert set(worked) == {asking.ring}
    for number in range(16):
        ring = Ring(asking.geometry, Order.BLOCKS, first=number + 1)
        key = (("X", number), number, 0)
        for place in (5, 3_000):
            asking.machine.take_position(asking.now, key, ring, place, received=1)
    asking.hear(range(40, 80))
    asking.settle()
    assert set(worked) == {asking.ring}


def test_looks_at_a_large_object_are_rare() -> None:
    # spec: NAK-3
    config, ring = NakConfig(), Ring(make_object(4_000).manifest.geometry)
    for blocks, carousels, expected in (
        (1, 1, 10 * MS),
        (10_000, 1, 20 * MS),
        (10_000, 16, 320 * MS),
    ):
        lookout = Lookout(config, blocks)
        for number in range(carousels):
            lookout.tell(1, (("a", number), 1, 0), ring, 0, 0)
        lookout.look(MS, None, symbol_size=64, loss=0)
        lookout.stir(2 * MS)
        assert lookout.look_at == MS + expected
