"""Hashing or copying a file beside everything else: in a thread, as work that can be waited for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from pgmlite.core.events import Event, Hashing, Tell
from pgmlite.core.machine import SECOND
from pgmlite.errors import Interrupted
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.storage.signed import SignedFile
from pgmlite.storage.source import SourceFile
from pgmlite.storage.spooled import Report
from pgmlite.wire.digests import BlockTree
from pgmlite.wire.geometry import Geometry

T = TypeVar("T")

TELL_EVERY = 1 * SECOND


def hash_beside(call: Callable[[Callable[[int, int], None]], T], tell: Tell) -> Waits[T]:
    """Return what `call` returns; it is given what it reports its progress to, in bytes.

    Raises:
        Interrupted: It was asked to stop.
    """
    return (yield from work_beside(call, tell, _hashing))


def _hashing(now: int, done: int, total: int | None) -> Hashing:
    return Hashing(now, done, total or 0)


def work_beside(
    call: Callable[[Report], T], tell: Tell, event: Callable[[int, int, int | None], Event]
) -> Waits[T]:
    """Return what `call` returns; it is given what it reports its progress to.

    Args:
        event: Makes what is told of that once a second, from the time, ns, and the progress.

    Raises:
        Interrupted: It was asked to stop.
    """
    latest: tuple[int, int | None] = (0, None)
    has_to_end = False

    def progress(done: int, total: int | None) -> None:
        nonlocal latest
        if has_to_end:
            raise Interrupted("it was stopped")
        latest = (done, total)

    with ExitStack() as opened:
        fd = os.eventfd(0)
        opened.callback(os.close, fd)
        pool = opened.enter_context(ThreadPoolExecutor(1))  # it waits for its thread
        working = pool.submit(call, progress)
        working.add_done_callback(lambda _: os.eventfd_write(fd, 1))
        tell_at = time.monotonic_ns()
        try:
            while not working.done():
                yield Wait(POLL, (fd,))
                now = time.monotonic_ns()
                if latest[0] and now >= tell_at:
                    tell_at = now + TELL_EVERY
                    tell(event(now, *latest))
        finally:
            has_to_end = True
        return working.result()


def hash_content(source: SourceFile, geometry: Geometry, tell: Tell) -> Waits[BlockTree]:
    """Return the tree of blocks of a file.

    Raises:
        DiskError: It can't be read, or changed meanwhile.
        Interrupted: It was asked to stop.
    """
    return (yield from hash_beside(partial(source.block_tree, geometry), tell))


def hash_signed(source: SourceFile, signed: SignedFile, tell: Tell) -> Waits[BlockTree]:
    """Return the tree of blocks of a file that has to be the content of a signed object.

    Raises:
        ObjectError: It is not.
        DiskError: It can't be read, or changed meanwhile.
        Interrupted: It was asked to stop.
    """
    signed.check_length(source)
    tree = yield from hash_content(source, signed.manifest.geometry, tell)
    signed.check_content(source, tree)
    return tree
