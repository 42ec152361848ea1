"""What is passed on while it comes: blocks of a small object, and receivers that are read."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pgmlite.core.machine import Complete, Prepare
from pgmlite.storage.part import PartFile
from pgmlite.storage.seeds import Block
from pgmlite.storage.spool import PlaceSeed, SpoolPart, blocks_of
from pgmlite.wire.manifest import Manifest
from tests.support.builders import Sample
from tests.support.event_schema import read_line
from tests.support.loopback import COMMAND, PATIENCE, Endpoint, environment


def complete(sample: Sample) -> Complete:
    """Return what a machine says of an object that is whole."""
    return Complete(sample.manifest.oid, sample.manifest, sample.tree.digests)


def blocks(sample: Sample) -> list[Block]:
    """Return the blocks of an object."""
    return list(blocks_of(complete(sample)))


def prepare(part: SpoolPart, sample: Sample, *, announced: bool = True) -> None:
    """Let an object begin."""
    manifest = sample.manifest
    part.prepare(Prepare(manifest.oid, manifest.size, manifest.symbol_size))
    if announced:
        part.begin(manifest)


def fill_in(part: SpoolPart, sample: Sample, wanted: Sequence[int] | None = None) -> None:
    """Let blocks come, all of them if none are named, in that order."""
    all_blocks = blocks(sample)
    for number in range(len(all_blocks)) if wanted is None else wanted:
        offset, length, _, digest = all_blocks[number]
        part.store([[(offset, memoryview(sample.data)[offset : offset + length])]])
        assert part.matches(offset, length, digest)


class Noted:
    """Passes nothing on, and notes what it is told; as `storage.spool.Passing` has it."""

    def __init__(self) -> None:
        self.begun: list[Path] = []
        self.told: list[tuple[int, bool]] = []
        self.spoilt: list[Block] = []
        self.ended = 0

    def place(self) -> PlaceSeed | None:
        """Return none."""
        return None

    def begin(self, part: PartFile) -> None:
        """Note a partial file."""
        self.begun.append(part.path)

    def expect(self, manifest: Manifest) -> None:
        """Take any."""

    def verified(self, block: Block, *, is_there: bool) -> None:
        """Note a block."""
        self.told.append((block.offset, is_there))

    def take_spoilt(self) -> Sequence[Block]:
        """Return what a test put there."""
        return self.spoilt

    def check(self) -> None:
        """Go on."""

    def look(self) -> None:
        """Go on."""

    def end(self) -> None:
        """Note it."""
        self.ended += 1


class Piped:
    """A ``recv -o -`` whose standard output is whatever is given; a context, so that it ends.

    Attributes:
        process: It, with its standard output if that is a pipe of ours.
    """

    def __init__(
        self,
        spool: Path,
        place: Endpoint,
        *options: object,
        stdout: Any = subprocess.PIPE,
        before: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        """
        Args:
            before: What starts it, in front of its own command.
        """
        flags = [*place.flags, "--json", "--timeout", str(PATIENCE / 2), *map(str, options)]
        self.process = subprocess.Popen(
            [*before, *COMMAND, "recv", "-o", "-", "--spool", str(spool), *flags],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment(env),
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            with self._changed:
                self.lines.append(line.decode().rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its lines on standard error: all are events."""
        return [read_line(line) for line in self.lines]

    @property
    def errors(self) -> list[str]:
        """Why it ended, if that was an error."""
        return [one["error"] for one in self.events if one["event"] == "failed"]

    def event(self, name: str, **facts: object) -> dict[str, Any]:
        """Wait for an event with such facts."""

        def found() -> dict[str, Any] | None:
            for one in self.events:
                if one["event"] == name and facts.items() <= one.items():
                    return dict(one)
            return None

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._reader.is_alive(), PATIENCE)
        one = found()
        assert one, f"no {name} in {self.lines}"
        return one

    def wait_for_progress(self, stored: int) -> None:
        """Wait until so many symbols are stored."""

        def is_there() -> bool:
            return any(one.get("stored", 0) >= stored for one in self.events)

        with self._changed:
            self._changed.wait_for(lambda: is_there() or not self._reader.is_alive(), PATIENCE)
        assert is_there(), self.lines

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def say(self) -> str:
        """Return all lines, for messages of tests."""
        return json.dumps(self.lines, indent=1)
