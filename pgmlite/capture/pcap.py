"""Captures: UDP datagrams out of pcap and pcapng files, many at a time and without a copy.

What the file says is never believed: lengths are bounded, odd packets are counted by reason, and
only a file that can't be understood at all is an error.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pgmlite.capture.frames import LINK_TYPES, Place, Skipped, checksums_hold, find_udp
from pgmlite.errors import DiskError, ObjectError
from pgmlite.wire.batch import Octets

CHUNK = 4 << 20
"""Bytes read at a time: what a capture costs in memory, however long it is."""

MAX_RECORD = 1 << 24
"""Bytes of one record, at most; a larger number is damage, not a packet."""

SECTION_HEADER = 0x0A0D0D0A
INTERFACE = 1
SIMPLE_PACKET = 3
ENHANCED_PACKET = 6
BYTE_ORDER = 0x1A2B3C4D

PCAP_MAGICS = {
    bytes.fromhex("a1b2c3d4"): (">", 1_000),
    bytes.fromhex("d4c3b2a1"): ("<", 1_000),
    bytes.fromhex("a1b23c4d"): (">", 1),
    bytes.fromhex("4d3cb2a1"): ("<", 1),
}
"""First bytes of a pcap -> byte order, and ns in its unit of time."""

PCAPNG_MAGIC = SECTION_HEADER.to_bytes(4, "big")

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Datagrams:
    """UDP datagrams of one flow and one length that follow one another.

    Attributes:
        times: (n,) ns since 1970, never falling.
        source: Address and port.
        destination: Address and port.
        octets: (n, width), what is behind the UDP headers; a view on what was read.
    """

    times: Times
    source: tuple[str, int]
    destination: tuple[str, int]
    octets: Octets

    def __len__(self) -> int:
        return len(self.times)


@dataclass(slots=True)
class _Records:
    """Packets found in one piece of the file, as columns."""

    times: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    links: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Interface:
    """What a pcapng file says of an interface."""

    link: int
    unit: tuple[int, int] = (1_000, 1)
    """ns in each step of its clock, as a fraction."""

    offset: int = 0
    """ns."""

    def time(self, high: int, low: int) -> int:
        """Return a time stamp in ns."""
        return self.offset + (high << 32 | low) * self.unit[0] // self.unit[1]


def is_capture(head: bytes) -> bool:
    """Whether a file that starts with `head` calls itself a pcap or a pcapng."""
    return head[:4] in PCAP_MAGICS or head[:4] == PCAPNG_MAGIC


class Capture:
    """One file of packets.

    Attributes:
        packets: Packets read so far, of whatever kind.
        skipped: Packets that are no use, by reason.
        is_cut: The file ends inside a packet.
        first: Time of the first packet, ns since 1970; None before it was read.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            DiskError: The file can't be read.
            ObjectError: It is no capture.
        """
        self.path = path
        self._begin()
        with self._open() as file:
            head = self._read(file, 4)
        if not is_capture(head):
            raise ObjectError(f"{path}: neither a pcap nor a pcapng capture")

    def _begin(self) -> None:
        self.packets = 0
        self.skipped: Counter[str] = Counter()
        self.is_cut = False
        self.first: int | None = None
        self.last = 0

    def _open(self) -> BinaryIO:
        try:
            if self.path.is_fifo() or self.path.is_char_device():
                # A capture is read twice: once to find the session.
                raise DiskError(f"{self.path}: is no regular file; save the capture first")
            return self.path.open("rb")
        except OSError as error:
            raise DiskError(f"{self.path}: {error.strerror}") from error

    def _read(self, file: BinaryIO, size: int) -> bytes:
        try:
            return file.read(size)
        except OSError as error:
            raise DiskError(f"{self.path}: {error.strerror}") from error

    def datagrams(self) -> Iterator[Datagrams]:
        """Yield what the file has, from its beginning, and count anew.

        Raises:
            DiskError: The file can't be read.
            ObjectError: It is damaged.
        """
        self._begin()
        with self._open() as file:
            head = self._read(file, 4)
            if head == PCAPNG_MAGIC:
                yield from _Pcapng(self, head).datagrams(file)
            elif head in PCAP_MAGICS:
                yield from _Pcap(self, head).datagrams(file)
            else:
                raise ObjectError(f"{self.path}: neither a pcap nor a pcapng capture")


class _Reader(ABC):
    """Cuts a file into records; the formats differ in `_records`."""

    def __init__(self, capture: Capture, head: bytes) -> None:
        self._capture = capture
        self._rest = head
        self._at = 0
        """Byte of the file at which the rest begins, for messages."""

    @abstractmethod
    def _records(self, data: bytes, found: _Records) -> int:
        """Add the records that are whole in `data` to `found`; return the bytes they take.

        Raises:
            ObjectError: The file is damaged.
        """

    def _damaged(self, at: int, what: str) -> ObjectError:
        return ObjectError(f"{self._capture.path}: damaged at byte {self._at + at}: {what}")

    def datagrams(self, file: BinaryIO) -> Iterator[Datagrams]:
        """Yield the datagrams of the file."""
        capture = self._capture
        while True:
            more = capture._read(file, CHUNK)
            data, found = self._rest + more, _Records()
            used = self._records(data, found)
            yield from self._cut(data, found)
            self._rest = data[used:]
            self._at += used
            if not more:
                capture.is_cut = bool(self._rest)
                return

    def _cut(self, data: bytes, found: _Records) -> Iterator[Datagrams]:
        capture = self._capture
        if not found.times:
            return
        capture.packets += len(found.times)
        if capture.first is None:
            capture.first = capture.last = found.times[0]
        # Stamps of several queues may go back; the clock of a receiver does not.
        times = np.maximum.accumulate(np.maximum(np.array(found.times, np.int64), capture.last))
        capture.last = int(times[-1])
        starts = np.array(found.starts)
        columns = np.array([found.kept, found.lengths, found.links])
        strides = np.diff(starts, prepend=starts[0])
        changed = (columns[:, 1:] != columns[:, :-1]).any(axis=0)
        # The step to the first of a run comes from the run before it: it says nothing of this one.
        starts_run = np.concatenate(([True], changed[:-1]))
        changed |= (strides[1:] != strides[:-1]) & ~starts_run
        edges = [0, *(np.flatnonzero(changed) + 1).tolist(), len(starts)]
        for first, stop in pairwise(edges):
            kept, length, link = found.kept[first], found.lengths[first], found.links[first]
            stride = int(strides[first + 1]) if stop - first > 1 else max(kept, 1)
            frames: Octets = np.ndarray(
                (stop - first, kept), np.uint8, data, int(starts[first]), (stride, 1)
            )
            yield from _flows(frames, times[first:stop], link, length, capture.skipped)


class _Pcap(_Reader):
    """The classic format."""

    def __init__(self, capture: Capture, head: bytes) -> None:
        super().__init__(capture, head)
        self._order, self._unit = PCAP_MAGICS[head]
        self._link: int | None = None

    def _records(self, data: bytes, found: _Records) -> int:
        at = 0
        if self._link is None:
            if len(data) < 24:
                return 0
            (network,) = struct.unpack_from(self._order + "I", data, 20)
            self._link = network & 0xFFFF
            if self._link not in LINK_TYPES:
                raise ObjectError(
                    f"{self._capture.path}: link type {self._link} is not supported; "
                    f"known: {', '.join(LINK_TYPES.values())}"
                )
            at = 24
        unpack = struct.Struct(self._order + "4I").unpack_from
        unit, end = self._unit, len(data)
        times, starts, kept, lengths = found.times, found.starts, found.kept, found.lengths
        while at + 16 <= end:
            seconds, fraction, here, length = unpack(data, at)
            if here > MAX_RECORD:
                raise self._damaged(at, f"a packet of {here} bytes")
            if at + 16 + here > end:
                break
            times.append(seconds * 1_000_000_000 + fraction * unit)
            starts.append(at + 16)
            kept.append(here)
            lengths.append(length)
            at += 16 + here
        found.links = [self._link] * len(times)
        return at


class _Pcapng(_Reader):
    """The format of blocks: sections, interfaces, packets, and others that are passed over."""

    def __init__(self, capture: Capture, head: bytes) -> None:
        super().__init__(capture, head)
        self._order = "<"
        self._interfaces: list[_Interface] = []

    def _records(self, data: bytes, found: _Records) -> int:
        at, end = 0, len(data)
        while at + 12 <= end:
            if data[at : at + 4] == PCAPNG_MAGIC:
                self._section(data, at)
            kind, length = struct.unpack_from(self._order + "2I", data, at)
            if length < 12 or length % 4 or length > MAX_RECORD:
                raise self._damaged(at, f"a block of {length} bytes")
            if at + length > end:
                break
            if kind == ENHANCED_PACKET:
                self._packet(data, at, length, found)
            elif kind == INTERFACE:
                self._interface(data, at, length)
            elif kind == SIMPLE_PACKET:
                self._simple(data, at, length, found)
            at += length
        return at

    def _section(self, data: bytes, at: int) -> None:
        for order in "<>":
            if struct.unpack_from(order + "I", data, at + 8)[0] == BYTE_ORDER:
                self._order, self._interfaces = order, []
                return
        raise self._damaged(at, "a section without byte order")

    def _interface(self, data: bytes, at: int, length: int) -> None:
        if length < 20:
            raise self._damaged(at, "an interface without link type")
        (link,) = struct.unpack_from(self._order + "H", data, at + 8)
        interface = _Interface(link)
        self._interfaces.append(interface)
        at, end = at + 16, at + length - 4
        while at + 4 <= end:
            code, size = struct.unpack_from(self._order + "2H", data, at)
            if not code or at + 4 + size > end:
                return
            if code == 9 and size == 1:  # if_tsresol
                value = data[at + 4]
                steps = 1 << (value & 0x7F) if value & 0x80 else 10**value
                interface.unit = (1_000_000_000, steps)
            elif code == 14 and size == 8:  # if_tsoffset, s
                (seconds,) = struct.unpack_from(self._order + "q", data, at + 4)
                interface.offset = seconds * 1_000_000_000 if abs(seconds) < 1 << 32 else 0
            at += 4 + size + -size % 4

    def _packet(self, data: bytes, at: int, length: int, found: _Records) -> None:
        if length < 32:
            raise self._damaged(at, "a packet without its head")
        number, high, low, kept, whole = struct.unpack_from(self._order + "5I", data, at + 8)
        if kept > length - 32:
            raise self._damaged(at, f"a packet of {kept} bytes in a block of {length}")
        if number >= len(self._interfaces):
            raise self._damaged(at, f"interface {number} is unknown")
        interface = self._interfaces[number]
        # What lies outside of 64 bits with a sign is no time.
        time = min(max(interface.time(high, low), 0), (1 << 62))
        self._add(found, time, at + 28, kept, whole, interface.link)

    def _simple(self, data: bytes, at: int, length: int, found: _Records) -> None:
        if length < 16 or not self._interfaces:
            raise self._damaged(at, "a packet without an interface")
        (whole,) = struct.unpack_from(self._order + "I", data, at + 8)
        # Such packets have no time: that of the one before has to do.
        time = found.times[-1] if found.times else self._capture.last
        kept = min(whole, length - 16)
        self._add(found, time, at + 12, kept, whole, self._interfaces[0].link)

    @staticmethod
    def _add(found: _Records, time: int, start: int, kept: int, whole: int, link: int) -> None:
        found.times.append(time)
        found.starts.append(start)
        found.kept.append(kept)
        found.lengths.append(whole)
        found.links.append(link)


MAX_GEOMETRIES = 16
"""Kinds of headers in one stretch that are compared at once; others go packet by packet."""


def _flows(
    frames: Octets, times: Times, link: int, length: int, skipped: Counter[str]
) -> Iterator[Datagrams]:
    """Yield the datagrams in (n, width) frames of one link type and length.

    Args:
        length: Bytes that the frames had before the capture cut them.
    """
    breaks: dict[tuple[int, tuple[int, ...]], npt.NDArray[np.bool_]] = {}
    at, count = 0, len(frames)
    while at < count:
        try:
            place = find_udp(frames[at, :256].tobytes(), link, frames.shape[1], length)
        except Skipped as reason:
            skipped[str(reason)] += 1
            at += 1
            continue
        stop = _run(frames, at, place, breaks)
        datagrams = frames[at:stop, place.udp : place.udp + 8 + place.width]
        good = checksums_hold(datagrams, place)
        here = times[at:stop]
        at = stop
        octets = datagrams[:, 8:]
        if not good.all():
            skipped["checksum"] += int(np.count_nonzero(~good))
            if not good.any():
                continue
            here, octets = here[good], octets[good]
        yield Datagrams(here, place.source, place.destination, octets)


def _run(
    frames: Octets,
    at: int,
    place: Place,
    breaks: dict[tuple[int, tuple[int, ...]], npt.NDArray[np.bool_]],
) -> int:
    """Return where the frames from `at` on stop to have the same headers."""
    if at + 1 == len(frames):
        return at + 1
    geometry = (place.udp, place.varying)
    changed = breaks.get(geometry)
    if changed is None:
        if len(breaks) >= MAX_GEOMETRIES:
            return at + 1
        compared = np.ones(place.udp + 8, np.bool_)
        compared[list(place.varying)] = False
        headers = frames[:, : place.udp + 8][:, compared]
        changed = breaks[geometry] = (headers[1:] != headers[:-1]).any(axis=1)
    step = int(changed[at:].argmax())
    return at + 1 + step if changed[at + step] else len(frames)
