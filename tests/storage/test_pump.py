"""What passes verified blocks on: in order or as they come, each once, and nothing that changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgmlite.errors import DiskError
from pgmlite.storage.pump import Pump, right_bytes
from pgmlite.storage.seeds import Block
from tests.support.builders import make_object
from tests.support.loopback import until
from tests.support.piping import blocks

SAMPLE = make_object(5 * 512 + 100)
BLOCKS = blocks(SAMPLE)


class Sink:
    """Takes what is passed on; `held` stops it for a while."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.data = b""
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None

    def __call__(self, block: Block, data: memoryview) -> bool:
        self.free.wait()
        if self.error:
            raise self.error
        self.taken.append(block.offset)
        self.data += bytes(data)
        return True


@pytest.fixture
def part(tmp_path: Path) -> Iterator[int]:
    """The object, as it lies in a partial file."""
    fd = os.open(tmp_path / "part", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, SAMPLE.data, 0)
    yield fd
    os.close(fd)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture(params=[True, False], ids=["in order", "as they come"])
def pump(request: pytest.FixtureRequest, part: int, sink: Sink) -> Iterator[Pump]:
    pump = Pump(sink, in_order=request.param)
    pump.begin(part, "partial file x")
    yield pump
    sink.free.set()
    pump.close()


@pytest.fixture
def orderly(part: int, sink: Sink) -> Iterator[Pump]:
    pump = Pump(sink, in_order=True)
    pump.begin(part, "partial file x")
    yield pump
    sink.free.set()
    pump.close()


def test_in_whatever_order_they_come_they_leave_from_byte_0_on(orderly: Pump, sink: Sink) -> None:
    # spec: RCV-26
    for number in (3, 5, 1, 2):
        orderly.add(BLOCKS[number])
    assert orderly.is_idle
    assert sink.taken == []
    orderly.add(BLOCKS[0])
    until(lambda: orderly.is_idle)
    assert sink.taken == [one.offset for one in BLOCKS[:4]]
    assert orderly.done == 4 * 512
    orderly.add(BLOCKS[4])
    until(lambda: orderly.is_idle)
    assert sink.data == SAMPLE.data


def test_each_leaves_once(orderly: Pump, sink: Sink) -> None:
    # spec: RCV-26
    for one in (*BLOCKS, *BLOCKS):
        orderly.add(one)
    until(lambda: orderly.is_idle)
    for one in BLOCKS:
        orderly.add(one)
    assert orderly.is_idle
    assert sink.data == SAMPLE.data


def test_what_was_changed_does_not_leave_until_it_is_right_again(
    pump: Pump, sink: Sink, part: int
) -> None:
    # spec: RCV-26
    offset = BLOCKS[1].offset
    os.pwrite(part, b"not it", offset + 7)
    for one in BLOCKS:
        pump.add(one)
    until(lambda: pump.is_idle)
    assert offset not in sink.taken
    assert b"not it" not in sink.data
    assert pump.take_spoilt() == [BLOCKS[1]]
    assert pump.take_spoilt() == []
    os.pwrite(part, SAMPLE.data, 0)
    pump.add(BLOCKS[1])
    until(lambda: pump.is_idle)
    assert sorted(sink.taken) == [one.offset for one in BLOCKS]
    assert pump.done == len(SAMPLE.data)


def test_who_takes_its_time_holds_nobody_up(pump: Pump, sink: Sink) -> None:
    sink.free.clear()
    for one in BLOCKS:
        pump.add(one)
    pump.check()
    assert not pump.is_idle
    sink.free.set()
    until(lambda: pump.is_idle)
    os.eventfd_read(pump.fd)
    pump.calm()
    assert sorted(sink.taken) == [one.offset for one in BLOCKS]


@pytest.mark.parametrize("error", [DiskError("gone"), OSError(5, "broken")])
def test_an_error_ends_it_and_is_told_each_time(pump: Pump, sink: Sink, error: Exception) -> None:
    sink.error = error
    pump.add(BLOCKS[0])
    for _ in range(2):
        with pytest.raises(DiskError, match=r"gone|partial file x: broken"):
            until(lambda: pump.check())
    pump.add(BLOCKS[1])
    assert sink.taken == []


def test_another_object_has_nothing_of_the_one_before(pump: Pump, sink: Sink, part: int) -> None:
    other = make_object(3 * 512, seed=1)
    pump.add(BLOCKS[2])
    pump.forget()
    os.pwrite(part, other.data, 0)
    sink.taken.clear()
    sink.data = b""
    pump.begin(part, "partial file y")
    for one in blocks(other):
        pump.add(one)
    until(lambda: pump.is_idle)
    assert sink.data == other.data


def test_a_file_that_ends_early_has_not_its_last_block(part: int) -> None:
    buffer = bytearray()
    assert bytes(right_bytes(part, BLOCKS[-1], buffer) or b"") == SAMPLE.data[-100:]
    os.ftruncate(part, len(SAMPLE.data) - 1)
    assert right_bytes(part, BLOCKS[-1], buffer) is None
