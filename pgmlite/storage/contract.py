"""What the loops ask of a partial file, whatever becomes of it in the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from pgmlite.core.decode import Decoded
from pgmlite.core.machine import Complete, Decode, Held, Lying, Prepare
from pgmlite.wire.manifest import Manifest


class Part(Protocol):
    """What a receiver has so far. `pgmlite.storage.part.PartFile` says what each does, and raises.

    Attributes:
        path: The partial file.
        warnings: What the user should know; whoever shows it empties the list.
        reused: Bytes that came from files that were there already.
    """

    warnings: list[str]
    reused: int

    @property
    def path(self) -> Path:
        """The partial file."""

    def has_room(self, size: int) -> bool:
        """Whether so many bytes fit."""

    def prepare(self, wanted: Prepare) -> Held:
        """Say what of an object is there before its first packet."""

    def begin(self, manifest: Manifest) -> None:
        """Expect the object of `manifest`; make sure it fits."""

    def store(
        self, pieces: Iterable[Sequence[tuple[int, memoryview]]], lying: Lying | None = None
    ) -> None:
        """Write what came."""

    def matches(self, offset: int, length: int, expected: bytes) -> bool:
        """Whether a block is there, and has the digest `expected`: it is verified then."""

    def decode(self, action: Decode) -> Decoded:
        """Decode a block, in any thread."""

    def place(self, decoded: Decoded) -> bool:
        """Write a decoded block; return whether all of it is right now: it is verified then."""

    def settle(self, complete: Complete) -> list[int]:
        """Make sure that what was verified is what is there; return the blocks that are not."""

    def idle(self) -> None:
        """Have the disk take what it was not given yet."""

    def close(self) -> None:
        """Close it; what came stays for the next run."""
