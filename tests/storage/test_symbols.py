"""What is sent of an object: symbols in any order, repair symbols kept or made anew."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core.ring import Ring
from pgmlite.errors import DiskError
from pgmlite.fec.codec import RandomLinear
from pgmlite.storage import encoded as encoded_module
from pgmlite.storage.encoded import EncodedSymbols
from pgmlite.storage.source import SourceFile
from pgmlite.storage.symbols import SymbolFile
from pgmlite.wire.geometry import Geometry, Ids
from pgmlite.wire.layout import Order
from tests.support.rounds import up_to_last

SIZE, SHORT = 64, 20
CODEC = RandomLinear()


def geometry_of(symbols: int, k: int, repairs: int = 0, tile: int = 8) -> Geometry:
    """Return the geometry of an object whose last symbol is short."""
    return Geometry(symbols * SIZE - SHORT, SIZE, min(k, symbols), repairs, tile)


def expected(data: bytes, geometry: Geometry, ids: Ids) -> bytes:
    """Return the bytes of symbols, each by itself."""
    found = []
    padded = data + bytes(-len(data) % SIZE)
    for block, esi in zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True):
        span = geometry.span(block, block + 1)
        source = np.frombuffer(padded, np.uint8).reshape(-1, SIZE)[span]
        found.append(CODEC.encode(source, np.array([esi]))[0].tobytes())
    joined = b"".join(found)
    return joined[: geometry.length(ids)]


PASS_SYMBOLS = 128
"""Repair symbols of a pass: fewer than there are, so that small objects have several."""


@pytest.fixture(autouse=True)
def _short_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_module, "PASS_SYMBOLS", PASS_SYMBOLS)


@contextmanager
def opened(
    folder: Path, geometry: Geometry, *rings: Ring, room: str | None = None
) -> Iterator[tuple[bytes, SymbolFile, EncodedSymbols]]:
    """Open a source of random bytes and its repair symbols, which are kept in `room`."""
    path = folder / "source"
    data = Random(geometry.size).randbytes(geometry.size)
    path.write_bytes(data)
    source = SourceFile(path)
    carousels = [(ring, float(speed)) for speed, ring in enumerate(rings, 1)]
    made = EncodedSymbols(source, geometry, carousels=carousels, folder=lambda: room or str(folder))
    try:
        yield data, SymbolFile(source, geometry, made), made
    finally:
        made.close()
        source.close()


def sent(file: SymbolFile, geometry: Geometry, ids: Ids) -> bytes:
    """Return what a burst of these symbols carries."""
    buffer = bytearray(b"\xee" * (len(ids) * SIZE))
    file.fill(memoryview(buffer), geometry.named(ids))
    return bytes(buffer[: geometry.length(ids)])


@settings(max_examples=20)
@given(
    symbols=st.integers(1, 700),
    k=st.sampled_from([5, 16, 50, 64]),
    repairs=st.sampled_from([64, 70, 200]),
    order=st.sampled_from([Order.BLOCKS, Order.ROUNDS, Order.RANDOM]),
    seed=st.integers(0, 1 << 30),
)
def test_what_a_carousel_sends_is_what_the_code_says(
    tmp_path_factory: pytest.TempPathFactory,
    symbols: int,
    k: int,
    repairs: int,
    order: Order,
    seed: int,
) -> None:
    geometry = geometry_of(symbols, k, repairs)
    ring = Ring(geometry, order)
    rng = Random(seed)
    with opened(tmp_path_factory.mktemp("symbols"), geometry) as (data, file, _):
        place = rng.randrange(ring.turn)
        for _ in range(6):
            ids = up_to_last(geometry, ring.ids(place, rng.randint(1, 150)))
            assert sent(file, geometry, ids) == expected(data, geometry, ids)
            place += len(ids)


@settings(max_examples=5)
@given(seed=st.integers(0, 1 << 30))
def test_symbols_that_nobody_sends_in_a_row(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    # What is asked for by NAKs: from anywhere, more strips than are kept.
    geometry = geometry_of(4_000, 64, 64)
    draws = np.random.default_rng(seed)
    with opened(tmp_path_factory.mktemp("symbols"), geometry) as (data, file, _):
        blocks = draws.integers(0, geometry.blocks - 1, 200)
        ids = Ids(blocks, draws.integers(0, 128, 200))
        assert sent(file, geometry, ids) == expected(data, geometry, ids)


def test_plain_objects_in_runs(tmp_path: Path) -> None:
    geometry = geometry_of(300, 64, tile=1)
    with opened(tmp_path, geometry) as (data, file, _):
        for order in (Order.BLOCKS, Order.ROUNDS, Order.RANDOM):
            ids = up_to_last(geometry, Ring(geometry, order).ids(0, 200))
            assert sent(file, geometry, ids) == expected(data, geometry, ids)


def test_each_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    encode = encoded_module.CODEC.encode

    class Counting(RandomLinear):
        def encode(self, source, esis, dense=None):  # type: ignore[no-untyped-def]
            calls.append(len(esis))
            return encode(source, esis, dense)

    monkeypatch.setattr(encoded_module, "CODEC", Counting())
    geometry = geometry_of(640, 64, 2 * PASS_SYMBOLS)
    ring = Ring(geometry)
    with opened(tmp_path, geometry) as (_, file, made):
        for _ in range(2):
            for place in range(ring.turn - 2_560, ring.turn, 100):
                sent(file, geometry, up_to_last(geometry, ring.ids(place, 100)))
        assert calls == [PASS_SYMBOLS] * (2 * geometry.blocks)
        assert not made.is_at_work


def test_the_thread_begins_in_time_and_computes_all_in_order(tmp_path: Path) -> None:
    geometry = geometry_of(640, 64, 2 * PASS_SYMBOLS)
    ring = Ring.of_sector(geometry, Order.ROUNDS, 1, 2)
    with opened(tmp_path, geometry, ring) as (_, file, made):
        # A half of the source symbols, then repair symbols of the second half.
        sent(file, geometry, ring.ids(0, 200))
        assert (file.encoding, made.made) == (None, 0)
        sent(file, geometry, ring.ids(200, 41))
        thread = made._thread
        assert thread
        thread.join(30)
        assert made.made == made.total == 640 * 4
        assert made._order == [1, 0]


def test_what_comes_first_on_any_channel_is_computed_first(tmp_path: Path) -> None:
    geometry = geometry_of(640, 64, 4 * PASS_SYMBOLS)
    # 4 visits of source symbols and 32 of repair symbols; the second goes twice as fast.
    slow, fast = (Ring.in_territory(geometry, t, 2, 1, 2) for t in (1, 0))
    with opened(tmp_path, geometry, slow, fast) as (_, file, made):
        sent(file, geometry, fast.ids(0, 1))
        assert made._thread, "one has nothing but repair symbols"
        made._thread.join(30)
        assert made.made == made.total
        # They begin in their middles: within pass 2 and within pass 0. The slow one comes to the
        # end of its pass first.
        assert made._order == [0, 2, 3, 1]


def test_without_room_all_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = geometry_of(640, 64, 64)
    monkeypatch.setattr(encoded_module, "ROOM_SHARE", 0)
    ring = Ring(geometry)
    with opened(tmp_path, geometry, ring) as (data, file, made):
        assert made.total == 0
        ids = ring.ids(700, 100)
        assert sent(file, geometry, ids) == expected(data, geometry, ids)
        assert file.take_warnings() == []


def test_room_for_some_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = geometry_of(640, 64, 64)

    class Small:
        f_bavail, f_frsize = 7 * 64 * SIZE, 1

    monkeypatch.setattr(os, "statvfs", lambda _: Small)
    ring = Ring(geometry)
    with opened(tmp_path, geometry, ring) as (data, file, made):
        assert made.total == 3 * 64
        ids = ring.ids(640, 200)
        assert sent(file, geometry, ids) == expected(data, geometry, ids)


def test_what_is_replaced_gives_its_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # spec: SND-16
    geometry = geometry_of(640, 64, 64)
    with opened(tmp_path, geometry, Ring(geometry)) as (_, file, made):
        file.fill(memoryview(bytearray(640 * SIZE)), geometry.named(Ring(geometry).ids(640, 640)))
        assert file.occupied == made.occupied >= made.made * SIZE > 0
        disk = os.statvfs_result((1, 1, 0, 0, 0, 0, 0, 0, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda _: disk)  # it is full
        source = SourceFile(tmp_path / "source")
        for spare, blocks in ((0, 0), (4 * 64 * SIZE, 2)):
            fresh = EncodedSymbols(source, geometry, folder=lambda: str(tmp_path), spare=spare)
            assert fresh.total == blocks * 64
            fresh.close()
        source.close()


def test_a_disk_that_gets_full_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry = geometry_of(640, 64, 64)
    ring = Ring(geometry)
    writes = []

    def pwrite(fd: int, octets: memoryview, offset: int) -> int:
        writes.append(offset)
        if len(writes) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, octets, offset)

    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", pwrite)
    with opened(tmp_path, geometry) as (data, file, _):
        for _ in range(2):
            ids = ring.ids(640, 300)
            assert sent(file, geometry, ids) == expected(data, geometry, ids)
        (warning,) = file.take_warnings()
        assert "No space left" in warning
        assert file.take_warnings() == []
        assert len(writes) == 3


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    geometry = geometry_of(100, 50, 64)
    with opened(tmp_path, geometry, room="/nowhere") as (data, file, _):
        ids = Ring(geometry).ids(100, 60)
        assert sent(file, geometry, ids) == expected(data, geometry, ids)


def test_a_source_that_is_cut_off_ends_it(tmp_path: Path) -> None:
    geometry = geometry_of(640, 64, 64)
    ring = Ring(geometry, Order.RANDOM)  # the thread begins at once
    with opened(tmp_path, geometry, ring) as (_, file, made):
        os.truncate(tmp_path / "source", 100)
        with pytest.raises(DiskError, match="source"):
            sent(file, geometry, Ids(np.array([9]), np.array([0])))
        if made._thread:
            made._thread.join(30)


def test_the_end_does_not_wait_for_the_rest(tmp_path: Path) -> None:
    geometry = geometry_of(64 * 2_000, 64, 448)
    with opened(tmp_path, geometry, Ring(geometry, Order.RANDOM)) as (_, file, made):
        sent(file, geometry, Ids(np.array([0]), np.array([64])))
        thread = made._thread
        assert thread
    assert not thread.is_alive()
    assert made.made < made.total
