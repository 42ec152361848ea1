"""What the formats of captures have in common: packets as columns, damage, and how to go on."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

MAX_KEPT = 1 << 18
"""Bytes of one packet, at most, as tcpdump and Wireshark have it; more is damage, not a packet."""

PCAP_MAGICS = {
    bytes.fromhex("a1b2c3d4"): (">", 1_000),
    bytes.fromhex("d4c3b2a1"): ("<", 1_000),
    bytes.fromhex("a1b23c4d"): (">", 1),
    bytes.fromhex("4d3cb2a1"): ("<", 1),
}
"""First bytes of a pcap -> byte order, and ns in its unit of time."""

PCAP_STARTS = tuple(
    magic + struct.pack(order + "2H", 2, 4) for magic, (order, _) in PCAP_MAGICS.items()
)
"""The same with the version behind them."""

SECTION_MAGIC = bytes.fromhex("0a0d0d0a")
"""First bytes of a section, hence of a pcapng, in either byte order."""

SECTION_ORDERS = {bytes.fromhex("4d3c2b1a"): "<", bytes.fromhex("1a2b3c4d"): ">"}
"""What stands 8 bytes into a section -> its byte order."""

ANOTHER = "another capture begins"
"""What is wrong with a place where a file begins in a file."""

LONGEST_START = 12
"""Bytes that show where a file begins."""


def begins_file(data: bytes, at: int) -> bool:
    """Whether a pcap or a section of a pcapng begins at byte `at`."""
    if data.startswith(SECTION_MAGIC, at):
        return data[at + 8 : at + 12] in SECTION_ORDERS
    return data.startswith(PCAP_STARTS, at)


def find_file(data: bytes, start: int, stop: int) -> int:
    """Return the first byte from `start` to `stop` where one begins; `stop` if none does."""
    for magic in (SECTION_MAGIC, *PCAP_STARTS):
        at = start
        while 0 <= (at := data.find(magic, at, stop + len(magic) - 1)) < stop:
            if begins_file(data, at):
                stop = at
            at += 1
    return stop


class Damaged(Exception):
    """A place in a capture can't be understood.

    Attributes:
        at: Byte at which it begins.
        what: What is there.
        look_from: Byte from which on something that can be understood may be found.
        is_end: If nothing is found, then the file just ends in the middle of something.
    """

    def __init__(self, at: int, what: str, look_from: int, *, is_end: bool = False) -> None:
        super().__init__(what)
        self.at = at
        self.what = what
        self.look_from = look_from
        self.is_end = is_end


@dataclass(slots=True)
class Records:
    """Packets found in one piece of the file, as columns."""

    stamps: list[int] = field(default_factory=list)
    """ns since 1970, as the file has them."""

    starts: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
    interfaces: list[int] = field(default_factory=list)
    """Numbers that tell the interfaces of a file apart, whatever sections they are of."""

    new_links: list[int] = field(default_factory=list)
    """Link types of the interfaces that were described."""

    damaged: list[Damaged] = field(default_factory=list)
    """Places that cost no more than what is in them."""

    foreign: int = 0
    """Packets of interfaces that were not described."""

    def __len__(self) -> int:
        return len(self.stamps)

    def end_at(self, at: int) -> None:
        """Forget what the packets have from byte `at` on."""
        columns = (self.stamps, self.starts, self.kept, self.lengths, self.links, self.interfaces)
        while self.starts and self.starts[-1] > at:
            for column in columns:
                column.pop()
        if self.starts:
            self.kept[-1] = min(self.kept[-1], at - self.starts[-1])


class Format(ABC):
    """Cuts one stretch of a file into records.

    Positions are those in `data`, which is what was read of the file and not used yet.
    """

    order = "<"
    """Byte order, as `struct` has it."""

    @abstractmethod
    def cut(self, data: bytes, at: int, found: Records, *, is_last: bool) -> int:
        """Add the records in `data` from `at` on to `found`; return where they end.

        What is not whole is left for the next time. A position behind the data says how much of
        the file is of no interest.

        Args:
            is_last: There is no more than `data`.

        Raises:
            Damaged: What follows can't be understood, or is not whole at the end.
        """

    @abstractmethod
    def find(self, data: bytes, start: int, stop: int, *, is_last: bool) -> tuple[int, bool]:
        """Look for a record that begins at one of the bytes from `start` to `stop`.

        Returns:
            Where the first one begins, and True. Or False and `stop`, or less if one might begin
            there, which shows only when more was read.
        """

    def words(self, data: bytes) -> npt.NDArray[np.uint32]:
        """Return the 32-bit integer that begins at each byte of `data`; a view."""
        count = max(0, len(data) - 3)
        return np.ndarray((count,), np.dtype(self.order + "u4"), data, 0, (1,))
