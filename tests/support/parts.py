"""A receiver with a partial file on a real disk, driven by hand: the product but its sockets."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from random import Random
from types import ModuleType, TracebackType
from typing import Any, Self
from unittest.mock import patch

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import Action
from pgmlite.core.trust import Trust
from pgmlite.storage import (
    content,
    floors,
    folder,
    hints,
    part,
    publish,
    record,
    seeds,
    system,
    writeback,
)
from pgmlite.storage.part import PartFile
from tests.support.builders import Judging, Sample, batches
from tests.support.loops import Heard, perform


class Run:
    """One run of a receiver, from its start to its end; a context, so that it always ends.

    Attributes:
        is_new: Once `is_done`: whether the output was published, and was not there already.
    """

    def __init__(
        self,
        output: Path,
        *,
        kind: type[PartFile] = PartFile,
        naks: bool = False,
        trust: Trust | None = None,
        **options: Any,
    ) -> None:
        """
        Args:
            trust: Whose objects are taken; None: anybody's.
            options: As `PartFile` takes them.
        """
        self.machine = Judging(ReceiverConfig(naks=naks), rng=Random(0), trust=trust)
        self.heard = Heard()
        self.part = kind(output, **options)
        self.is_done = self.is_new = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.part.close()

    @property
    def warnings(self) -> list[str]:
        """What the user is told."""
        return self.part.warnings

    @property
    def fetched(self) -> int:
        """Symbols that were stored from packets."""
        return self.machine.counters.fetched

    def announce(self, sample: Sample) -> Self:
        """Hear the manifest and the tree, and look at all that is there."""
        return self.give(announcement(sample))

    def give(self, packets: Iterable[bytes]) -> Self:
        """Let packets arrive, as many at once as a system joins; do all that follows."""
        for batch in batches(packets):
            if not self.is_done:
                self._perform(self.machine.receive(0, batch))
                self.settle()
        return self

    def settle(self) -> None:
        """Tick until nothing is due."""
        while not self.is_done and self.machine.deadline == 0:
            self._perform(self.machine.tick(0))

    def cycle(self, sample: Sample, *, lost: Iterable[int] = (), times: int = 1) -> Self:
        """Hear all of the object but the symbols that are lost, until it is done."""
        gone = set(lost)
        come = [one for n, one in enumerate(all_odata(sample)) if n not in gone]
        for _ in range(times):
            self.give(come)
        return self

    def _perform(self, actions: list[Action]) -> None:
        if complete := perform(actions, self.machine, self.part, self.heard):
            self.is_new = self.part.publish(complete)
            self.is_done = True


@cache
def announcement(sample: Sample) -> list[bytes]:
    """Return the packets that tell of an object."""
    return [sample.spm(), *sample.nodes()]


@cache
def all_odata(sample: Sample) -> list[bytes]:
    """Return one cycle of an object."""
    return sample.all_odata()


class System:
    """Stands between the storage modules and the system, as their `os` and `fcntl`."""

    MODULES: tuple[ModuleType, ...] = (
        content,
        floors,
        folder,
        hints,
        part,
        publish,
        record,
        seeds,
        system,
        writeback,
    )

    WRITES = frozenset({"write", "pwrite", "pwritev", "copy_file_range", "ftruncate"})
    SYNCS = frozenset({"fsync", "fdatasync"})
    NAMES = frozenset({"rename", "replace", "link", "unlink", "mkdir", "rmdir"})
    LOOKS = frozenset({"fchmod", "fchown"})
    READS = frozenset({"stat", "lstat", "fstat", "fstatvfs", "pread", "preadv", "lseek"})
    CALLS = WRITES | SYNCS | NAMES | LOOKS | READS | {"open", "close", "flock", "posix_fadvise"}

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do a call; others may do something before or after, or instead."""
        return function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        function = getattr(fcntl if name in {"flock", "LOCK_EX", "LOCK_NB"} else os, name)
        return partial(self.call, name, function) if name in self.CALLS else function

    @contextmanager
    def on(self) -> Iterator[Self]:
        """Let the modules call this."""
        with ExitStack() as patches:
            for module in self.MODULES:
                for name in {"os", "fcntl"} & vars(module).keys():
                    patches.enter_context(patch.object(module, name, self))
            yield self


def name_of(fd: int) -> str:
    """Return the name under which a file is open."""
    return Path(f"/proc/self/fd/{fd}").readlink().name.removesuffix(" (deleted)")
