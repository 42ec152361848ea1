"""Decoding beside reception: packets are read meanwhile, and it ends when the loop does."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.decode import Decoded
from pgmlite.core.machine import LYING, Complete, Decode
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.receive.sources import Sources
from pgmlite.errors import DiskError, Interrupted
from pgmlite.net.decoding import Decoder
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.waiting import Stop, Waits, Work
from pgmlite.storage.part import PartFile
from tests.support.builders import joined, make_object
from tests.support.loopback import until
from tests.support.loops import GROUP, FakeMemberships, FakeReceiverSocket, Heard, Until, to_the_end
from tests.support.parts import System

SAMPLE = make_object(4 * 32 * 64 - 9, block_symbols=32, repair_symbols=64, tile_blocks=4)
GEOMETRY = SAMPLE.manifest.geometry
BLOCKS = range(SAMPLE.manifest.blocks)
LOSSY = [(block, esi) for block in BLOCKS for esi in range(5, 32 + 15)]
"""What somebody gets who lost five symbols of each block."""


def action(block: int) -> Decode:
    lying = np.arange(1, GEOMETRY.source(block) + 1, dtype=LYING)
    no = np.zeros((0, 64), np.uint8)
    return Decode(1, block, GEOMETRY, lying, no, np.zeros(0, np.int64), bytes(32))


def readable(decoder: Decoder, seconds: float = 0.0) -> bool:
    return bool(decoder.fds and select.select(decoder.fds, (), (), seconds)[0])


# The thread.


class Gate:
    """Decodes nothing, and each block only when it may."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.threads: set[int] = set()
        self._may = threading.Semaphore(0)

    def let(self, count: int = 1) -> None:
        """Let so many blocks be decoded."""
        self._may.release(count)

    def __call__(self, one: Decode) -> Decoded:
        self.begun.append(one.block)
        self.threads.add(threading.get_ident())
        assert self._may.acquire(timeout=30)
        return Decoded(one)


def test_blocks_are_decoded_one_after_another_in_another_thread() -> None:
    gate = Gate()
    decoder = Decoder(gate)
    assert (decoder.fds, decoder.take()) == ((), [])  # nothing begins by itself
    for block in (2, 0, 1):
        decoder.add(action(block))
    assert not readable(decoder)
    assert decoder.take() == []
    found = []
    while len(found) < 3:
        gate.let()
        assert readable(decoder, 30)
        found += [decoded.action.block for decoded in decoder.take()]
    assert found == gate.begun == [2, 0, 1]
    assert not decoder.fds
    assert len(gate.threads) == 1
    assert threading.get_ident() not in gate.threads
    decoder.close()
    assert gate.threads.isdisjoint(thread.ident for thread in threading.enumerate())


def test_what_is_forgotten_is_not_answered_and_wakes_nobody() -> None:
    gate = Gate()
    decoder = Decoder(gate)
    for block in (0, 1):
        decoder.add(action(block))
    until(lambda: gate.begun)
    decoder.forget()
    assert not decoder.fds
    decoder.add(action(3))
    gate.let(2)
    assert readable(decoder, 30)
    until(lambda: [one.action.block for one in decoder.take()] == [3])
    assert gate.begun == [0, 3]  # the other one was still in the queue
    decoder.add(action(2))
    decoder.take()
    assert not readable(decoder)
    gate.let()
    decoder.close()


def test_closing_waits_for_the_block_under_way_and_no_other() -> None:
    gate = Gate()

    class Forgetful(Decoder):
        def forget(self) -> None:
            super().forget()
            gate.let()

    decoder = Forgetful(gate)
    for block in (0, 1):
        decoder.add(action(block))
    until(lambda: gate.begun)
    decoder.close()
    assert gate.begun == [0]
    decoder.close()


def test_what_goes_wrong_in_the_thread_comes_up() -> None:
    def fail(_: Decode) -> Decoded:
        raise MemoryError

    decoder = Decoder(fail)
    decoder.add(action(0))
    assert readable(decoder, 30)
    with pytest.raises(MemoryError):
        decoder.take()
    decoder.close()


# The loop.


class Faulty(System):
    """Refuses calls of some name while symbols are decoded, or from then on."""

    def __init__(self, name: str, number: int, times: int) -> None:
        self.name, self.number, self.left = name, number, times
        self.is_on = False

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.is_on and name == self.name and self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))
        return super().call(name, function, *args, **kwargs)


class WatchedPart(PartFile):
    """A partial file that says when a block is decoded."""

    def __init__(self, output: Path) -> None:
        super().__init__(output)
        self.before: Callable[[Decode], object] = lambda _: None

    def decode(self, action: Decode) -> Decoded:
        self.before(action)
        return super().decode(action)


class Site:
    """A receiver's loop, and all that is around it."""

    def __init__(self, output: Path, opened: ExitStack) -> None:
        self.socket = FakeReceiverSocket()
        opened.callback(self.socket.release)
        self.part = WatchedPart(output)
        opened.callback(self.part.close)
        listening = Listening([GROUP], Sources())
        self.machine = Receiver(ReceiverConfig(naks=False), rng=Random(0), listening=listening)
        self.heard = Heard()
        self.loop = ReceiveLoop(
            self.machine,
            FakeMemberships(self.socket),
            self.part,
            self.heard,
            output=str(output),
            timeout=30_000_000_000,
        )

    def run(self) -> Waits[Complete]:
        """Receive, and put in place what came."""
        complete = yield from self.loop.run()
        self.part.publish(complete)
        return complete

    def put(self, names: list[tuple[int, int]]) -> None:
        """Let all that is to be known of the object arrive, and then these symbols."""
        for packets in ([SAMPLE.spm()], SAMPLE.nodes(), SAMPLE.encoded(names)):
            for read in joined(packets):
                self.socket.put(read.data, stride=read.stride)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def site(output: Path) -> Iterator[Site]:
    with ExitStack() as opened:
        yield Site(output, opened)


async def with_asyncio(waits: Waits[Complete]) -> None:
    async for _ in Work(waits, deque(), Stop()).arun():
        pass


@pytest.mark.parametrize("drive", [to_the_end, lambda waits: asyncio.run(with_asyncio(waits))])
def test_a_lossy_object_is_decoded(
    site: Site, output: Path, drive: Callable[[Waits[Complete]], object]
) -> None:
    decoded: list[int] = []
    site.part.before = lambda one: decoded.append(one.block)
    site.put(LOSSY)
    drive(site.run())
    assert output.read_bytes() == SAMPLE.data
    assert sorted(decoded) == [*BLOCKS]
    assert not [one for one in threading.enumerate() if one.name.startswith("decode")]


def test_packets_are_read_while_a_block_is_decoded(site: Site) -> None:
    gate, seen = Gate(), []
    site.part.before = gate
    for block in BLOCKS:
        site.put([name for name in LOSSY if name[0] == block])
        site.socket.pause()

    def all_read() -> bool:
        if site.socket.arrivals or not gate.begun:
            return False
        seen[:] = gate.begun
        gate.let(len(BLOCKS))
        return True

    with pytest.raises(Interrupted, match="seen"):
        to_the_end(site.run(), Until(all_read))
    assert site.machine.progress[0] == SAMPLE.manifest.symbols
    assert seen == [0]


def test_the_loop_waits_for_what_is_decoded(site: Site) -> None:
    gate = Gate()
    site.part.before = gate
    site.put(LOSSY)
    waits = site.run()
    wait = next(waits)
    while site.socket.arrivals:
        wait = waits.send([site.socket.fileno()])
    assert not select.select(wait.fds, (), (), 0)[0]
    gate.let(len(BLOCKS))
    assert select.select(wait.fds, (), (), 30)[0]
    waits.close()


def test_a_block_that_can_not_be_read_is_fetched_again(site: Site, output: Path) -> None:
    faulty = Faulty("preadv", errno.EIO, 1)
    site.part.before = lambda _: setattr(faulty, "is_on", True)
    site.put(LOSSY)
    more = [LOSSY, [(0, esi) for esi in range(GEOMETRY.ring(0))]]

    def send_more() -> bool:
        if site.heard.warnings and not site.socket.arrivals and more:
            site.put(more.pop(0))
        return False

    with faulty.on():
        to_the_end(site.run(), Until(send_more))
    assert output.read_bytes() == SAMPLE.data
    assert ["fetching it again" in one for one in site.heard.warnings] == [True]


def test_a_disk_that_is_full_when_a_block_is_put_in_place_ends_it(site: Site, output: Path) -> None:
    faulty = Faulty("pwritev", errno.ENOSPC, 1 << 30)
    site.part.before = lambda _: setattr(faulty, "is_on", True)
    site.put(LOSSY)
    with faulty.on(), pytest.raises(DiskError, match="No space left"):
        to_the_end(site.run())
    site.part.close()
    with ExitStack() as opened:
        again = Site(output, opened)
        again.put(LOSSY)
        to_the_end(again.run())
    assert output.read_bytes() == SAMPLE.data
