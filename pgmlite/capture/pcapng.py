"""The format of blocks: sections, interfaces, packets, and others that are passed over."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pgmlite.capture.clock import LATEST
from pgmlite.capture.records import (
    ANOTHER,
    MAX_KEPT,
    PCAP_STARTS,
    SECTION_ORDERS,
    Damaged,
    Format,
    Records,
    begins_file,
)

MAX_BLOCK = 1 << 24
"""Bytes of a block that is looked into, at most; what is longer is passed over, or damage."""

MAX_FOUND = 1 << 19
"""The same of the first block behind damage: a packet with long comments."""

MAX_INTERFACES = 4_096
"""Interfaces of one section that are remembered."""

SMALLEST = 12
"""Bytes of a block that has nothing but its type and, twice, its length."""

SECTION = 0x0A0D0D0A
INTERFACE = 1
OLD_PACKET = 2
SIMPLE_PACKET = 3
ENHANCED_PACKET = 6
LAST_STANDARD = 0x0B
CUSTOM = (0x0BAD, 0x40000BAD)
LOOKED_INTO = frozenset({SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET})

RESOLUTION, OFFSET = 9, 14
"""Options of an interface: units of its clock, and s to be added."""

PACKET_HEAD = 20
"""Bytes of a packet's block between its length and its frame."""


@dataclass(slots=True)
class _Interface:
    """What a section says of an interface."""

    number: int
    link: int
    unit: tuple[int, int] = (1_000, 1)
    """ns in each step of its clock, as a fraction."""

    offset: int = 0
    """ns."""

    def time(self, high: int, low: int) -> int:
        """Return a time stamp in ns."""
        time = self.offset + (high << 32 | low) * self.unit[0] // self.unit[1]
        if 0 <= time <= LATEST:
            return time
        return 0 if time < 0 else LATEST


class Pcapng(Format):
    """A pcapng, from the header of a section on."""

    def __init__(self, numbers: Iterator[int], ends: Callable[[int], bytes | None]) -> None:
        """
        Args:
            numbers: Tell the interfaces of a file apart.
            ends: Gives the 4 bytes before a position in the file that lies behind the data, if
                they can be had; fewer where the file ends sooner.
        """
        self._numbers = numbers
        self._ends = ends
        self._interfaces: list[_Interface] = []
        self._unknown: set[int] = set()
        """Numbers of interfaces that were named as damage."""

        self._passed: int = 0
        """Length of the block that was passed over but for its last 4 bytes."""

        self._stamp = 0
        self._stamper = -1
        """Time of the last packet, and the interface whose clock it is of."""

        self._set_order("<")

    def _set_order(self, order: str) -> None:
        """Take integers to be in `order` from here on."""
        self.order = order
        # Made once: there are many blocks.
        self._integer = struct.Struct(order + "I")
        self._block_head = struct.Struct(order + "2I")
        self._packet_head = struct.Struct(order + "5I")

    def cut(self, data: bytes, at: int, found: Records, *, is_last: bool) -> int:
        """Add the packets of the blocks that are whole in `data`."""
        if self._passed:
            if at + 4 > len(data) and not is_last:
                return at
            at = self._end_passed(data, at)
        end, last = len(data), at
        while at + SMALLEST <= end:
            kind, length = self._block_head.unpack_from(data, at)
            if kind == SECTION:
                length = self._section(data, at, last)
            stop: int = at + length
            if not self._may_be(data, at, kind, length):
                raise _damaged(data, at, last, length)
            if stop > end:
                if length <= MAX_BLOCK:
                    break
                self._passed = length
                return stop - 4
            if self._integer.unpack_from(data, stop - 4)[0] != length:
                raise _damaged(data, at, last, length, " that does not end as it begins")
            if kind == ENHANCED_PACKET:
                why = self._packet(kind, data, at, length, found)
            else:
                why = self._look(kind, data, at, length, found)
            if why:
                found.damaged.append(Damaged(at, why, stop))
            last, at = at, stop
        if is_last and at < end:
            raise Damaged(at, "more of a block than is left", last + 1, is_end=True)
        return at

    def _may_be(self, data: bytes, at: int, kind: int, length: int) -> bool:
        """Whether something at `at` is a block of this length, as far as it is seen."""
        if length < SMALLEST or length % 4:
            return False
        if at + length <= len(data):
            return True
        if data.startswith(PCAP_STARTS, at):
            return False
        return length <= MAX_BLOCK or self._may_pass(kind, at + length, length)

    def _end_passed(self, data: bytes, at: int) -> int:
        """Check the end of a long block that was passed over; return where the next one begins.

        Raises:
            Damaged: It was none.
        """
        length, self._passed = self._passed, 0
        if data[at : at + 4] != self._packed(length):
            begin = at + 4 - length
            raise Damaged(begin, f"a block of {length} bytes does not end as it begins", at)
        return at + 4

    def _packed(self, number: int) -> bytes:
        return self._integer.pack(number)

    def _may_pass(self, kind: int, stop: int, length: int) -> bool:
        """Whether a long block that ends at `stop` is one."""
        if kind in LOOKED_INTO:
            return False
        ends = self._ends(stop)
        if ends is None:
            return kind <= LAST_STANDARD or kind in CUSTOM
        return ends == self._packed(length)

    def _look(self, kind: int, data: bytes, at: int, length: int, found: Records) -> str:
        """Take what a block says; return what is wrong with it, or an empty string."""
        if kind == OLD_PACKET:
            return self._packet(kind, data, at, length, found)
        if kind == SIMPLE_PACKET:
            return self._simple(data, at, length, found)
        if kind == INTERFACE:
            return self._interface(data, at, length, found)
        if kind == SECTION:
            self._interfaces = []
            self._unknown = set()
        return ""

    def _section(self, data: bytes, at: int, last: int) -> int:
        """Take the byte order of a section; return the length of its header."""
        if not begins_file(data, at):
            raise Damaged(at, "a section without byte order", last + 1)
        self._set_order(SECTION_ORDERS[data[at + 8 : at + 12]])
        return int(self._integer.unpack_from(data, at + 4)[0])

    def _interface(self, data: bytes, at: int, length: int, found: Records) -> str:
        if length < 20:
            return "an interface without link type"
        (link,) = struct.unpack_from(self.order + "H", data, at + 8)
        interface = _Interface(next(self._numbers), link)
        found.new_links.append(link)
        if len(self._interfaces) < MAX_INTERFACES:
            self._interfaces.append(interface)
        at, end = at + 16, at + length - 4
        while at + 4 <= end:
            code, size = struct.unpack_from(self.order + "2H", data, at)
            if not code or at + 4 + size > end:
                break
            if code == RESOLUTION and size == 1:
                value = data[at + 4]
                steps = 1 << (value & 0x7F) if value & 0x80 else 10**value
                interface.unit = (1_000_000_000, steps)
            elif code == OFFSET and size == 8:
                (seconds,) = struct.unpack_from(self.order + "q", data, at + 4)
                interface.offset = seconds * 1_000_000_000 if abs(seconds) < 1 << 32 else 0
            at += 4 + size + -size % 4
        return ""

    def _packet(self, kind: int, data: bytes, at: int, length: int, found: Records) -> str:
        if length < SMALLEST + PACKET_HEAD:
            return "a packet without its head"
        number, high, low, kept, whole = self._packet_head.unpack_from(data, at + 8)
        if kind == OLD_PACKET:  # a count of drops stands behind the number
            (number,) = struct.unpack_from(self.order + "H", data, at + 8)
        if kept > length - SMALLEST - PACKET_HEAD or kept > MAX_KEPT:
            return f"a packet of {kept} bytes in a block of {length}"
        if number >= len(self._interfaces):
            found.foreign += 1
            if number in self._unknown or len(self._unknown) >= MAX_INTERFACES:
                return ""
            self._unknown.add(number)
            return f"interface {number} is unknown"
        interface = self._interfaces[number]
        self._stamp, self._stamper = interface.time(high, low), interface.number
        self._add(found, at + 8 + PACKET_HEAD, kept, whole, interface.link)
        return ""

    def _simple(self, data: bytes, at: int, length: int, found: Records) -> str:
        if length < SMALLEST + 4 or not self._interfaces:
            return "a packet without an interface"
        (whole,) = self._integer.unpack_from(data, at + 8)
        # Such packets have no time: that of the one before has to do.
        if self._stamper < 0:
            self._stamper = self._interfaces[0].number
        kept = min(whole, length - SMALLEST - 4)
        self._add(found, at + 12, kept, whole, self._interfaces[0].link)
        return ""

    def _add(self, found: Records, start: int, kept: int, whole: int, link: int) -> None:
        found.stamps.append(self._stamp)
        found.starts.append(start)
        found.kept.append(kept)
        found.lengths.append(whole)
        found.links.append(link)
        found.interfaces.append(self._stamper)

    def find(self, data: bytes, start: int, stop: int, *, is_last: bool) -> tuple[int, bool]:
        """Look for a block of a known type with its length at both ends."""
        words = self.words(data)
        end = min(stop, len(words) - 4)
        if start < end:
            kinds, lengths = words[start:end], words[start + 4 : end + 4]
            good = kinds - np.uint32(1) < LAST_STANDARD
            for kind in CUSTOM:
                good |= kinds == kind
            good &= (lengths - np.uint32(SMALLEST) < MAX_FOUND) & (lengths % 4 == 0)
            places = np.flatnonzero(good)
            lengths = lengths[places]
            ends = places + start + lengths.astype(np.intp)
            is_whole = ends <= len(data)
            good = ~is_whole & (not is_last)
            good[is_whole] = words[ends[is_whole] - 4] == lengths[is_whole]
            for place in np.flatnonzero(good)[:1].tolist():
                return int(places[place]) + start, bool(is_whole[place])
        return (stop if is_last else min(stop, max(start, end))), False


def _damaged(data: bytes, at: int, last: int, length: int, how: str = "") -> Damaged:
    """Return what is wrong with a block of `length` bytes.

    Args:
        last: Where the block before it begins, or itself: its length may be what is wrong.
    """
    if data.startswith(PCAP_STARTS, at):
        return Damaged(at, ANOTHER, at)
    return Damaged(at, f"a block of {length} bytes{how}", last + 1)
