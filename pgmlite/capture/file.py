"""Captures: UDP datagrams out of pcap and pcapng files, many at a time and without a copy.

What the file says is never believed: lengths are bounded, odd packets are counted by reason, and
a place that can't be understood is noted and passed over. Only a file in which nothing can be
understood is an error.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, pairwise
from pathlib import Path

import numpy as np

from pgmlite.capture.clock import Clock
from pgmlite.capture.compressed import Stream, compression_of
from pgmlite.capture.datagrams import Datagrams
from pgmlite.capture.flows import Tally, flows
from pgmlite.capture.frames import LINK_TYPES
from pgmlite.capture.pcap import Pcap
from pgmlite.capture.pcapng import Pcapng
from pgmlite.capture.records import (
    LONGEST_START,
    PCAP_MAGICS,
    SECTION_MAGIC,
    Damaged,
    Format,
    Records,
    find_file,
)
from pgmlite.errors import ObjectError
from pgmlite.wire.batch import Octets

CHUNK = 4 << 20
"""Bytes read at a time: what a capture costs in memory, however long it is."""

LOOK_FIRST, LOOK_MOST = 1 << 10, 1 << 16
"""Bytes in which what can be understood is looked for at once: a few at first, then more."""

MAX_DAMAGES = 16
"""Damaged places that are remembered one by one."""


@dataclass(slots=True)
class Damage:
    """A damaged place.

    Attributes:
        at: Byte of the file, of what is in it if it is compressed.
        what: What is there.
        until: Byte at which reading went on; None: it did not.
    """

    at: int
    what: str
    until: int | None = None


def is_capture(head: bytes) -> bool:
    """Whether a file that starts with `head` calls itself a pcap or a pcapng, or is compressed."""
    return head[:4] in PCAP_MAGICS or head[:4] == SECTION_MAGIC or bool(compression_of(head))


class Capture:
    """One file of packets.

    Attributes:
        packets: Packets read so far, of whatever kind.
        tally: What became of them.
        is_cut: The file ends inside a packet.
        damages: The first damaged places, `MAX_DAMAGES` at most.
        damaged: All of them.
        links: Link types of its interfaces, as far as they were described.
        clock: The time of the packets, and where it was set.
        first: Time of the first packet, ns since 1970; None before it was read.
        compression: What compressed the file; empty: nothing.
    """

    def __init__(self, path: Path, *, checksums: bool = True) -> None:
        """
        Args:
            checksums: Datagrams whose UDP checksum does not hold are skipped.

        Raises:
            DiskError: The file can't be read.
            ObjectError: It is no capture.
        """
        self.path = path
        self._checksums = checksums
        self._begin()
        with Stream(path) as stream:
            self.compression = stream.compression
            self._head(stream)

    def _begin(self) -> None:
        self.packets = 0
        self.tally = Tally()
        self.is_cut = False
        self.damages: list[Damage] = []
        self.damaged = 0
        self.links: set[int] = set()
        self.clock = Clock()
        self.first: int | None = None

    @property
    def skipped(self) -> Counter[str]:
        """Packets that are no use, by reason."""
        return self.tally.skipped

    def _head(self, stream: Stream) -> bytes:
        """Return what the file begins with.

        Raises:
            ObjectError: It is no capture.
        """
        head = stream.read(LONGEST_START)
        if head[:4] in PCAP_MAGICS or head[:4] == SECTION_MAGIC:
            return head
        how = f"compressed by {self.compression}, and " if self.compression else ""
        what = stream.damage or f"{how}neither a pcap nor a pcapng capture"
        raise ObjectError(f"{self.path}: {what}")

    def datagrams(self) -> Iterator[Datagrams]:
        """Yield what the file has, from its beginning, and count anew.

        Raises:
            DiskError: The file can't be read.
            ObjectError: It has no link type that is supported.
        """
        self._begin()
        with Stream(self.path) as stream:
            yield from _Reader(self, stream, self._head(stream)).datagrams()
        if self.links and not self.links & LINK_TYPES.keys():
            raise ObjectError(f"{self.path}: {foreign_links(self)}")

    def note(self, at: int, what: str) -> Damage:
        """Take note of a damaged place."""
        damage = Damage(at, what)
        self.damaged += 1
        if len(self.damages) < MAX_DAMAGES:
            self.damages.append(damage)
        return damage

    def take(self, data: bytes, found: Records) -> Iterator[Datagrams]:
        """Yield the datagrams of `found`, records in `data`."""
        before = self.packets
        self.links.update(found.new_links)
        self.packets += len(found) + found.foreign
        if found.foreign:
            self.skipped["interface"] += found.foreign
        if not len(found):
            return
        times, steps = self.clock.times(
            np.array(found.stamps, np.int64), np.array(found.interfaces, np.int64), before
        )
        if self.first is None:
            self.first = int(times[0])
        starts = np.array(found.starts)
        columns = np.array([found.kept, found.lengths, found.links])
        strides = np.diff(starts, prepend=starts[0])
        changed = (columns[:, 1:] != columns[:, :-1]).any(axis=0)
        # The step to the first of a run comes from the run before it: it says nothing of this one.
        starts_run = np.concatenate(([True], changed[:-1]))
        changed |= (strides[1:] != strides[:-1]) & ~starts_run
        edges = np.flatnonzero(changed) + 1
        if steps:
            edges = np.union1d(edges, np.array([step for step in steps if step], np.int64))
        earlier = self.clock.count - len(steps)
        for first, stop in pairwise([0, *edges.tolist(), len(starts)]):
            kept, length, link = found.kept[first], found.lengths[first], found.links[first]
            stride = int(strides[first + 1]) if stop - first > 1 else max(kept, 1)
            frames: Octets = np.ndarray(
                (stop - first, kept), np.uint8, data, int(starts[first]), (stride, 1)
            )
            so_far = earlier + bisect_right(steps, first)
            for one in flows(
                frames, times[first:stop], link, length, self.tally, checksums=self._checksums
            ):
                yield replace(one, steps=so_far) if so_far else one


class _Reader:
    """Cuts a file into records, past whatever is damaged."""

    def __init__(self, capture: Capture, stream: Stream, head: bytes) -> None:
        self._capture = capture
        self._stream = stream
        self._data = head
        self._origin = 0
        """Byte of the file at which the data begins."""

        self._numbers = count()
        self._format = self._format_at(0)
        self._damage: Damage | None = None
        """What we are looking for the end of."""

    def _format_at(self, at: int) -> Format:
        magic = self._data[at : at + 4]
        if magic == SECTION_MAGIC:
            return Pcapng(self._numbers, self._ends)
        return Pcap(magic, next(self._numbers))

    def _ends(self, at: int) -> bytes | None:
        """Return the 4 bytes before `at`, a position behind the data."""
        return self._stream.peek(self._origin + at - 4, 4)

    def datagrams(self) -> Iterator[Datagrams]:
        """Yield the datagrams of the file."""
        at, is_last = 0, False
        while not is_last:
            more = self._stream.read(CHUNK)
            is_last = not more
            data = self._data = self._data[at:] + more
            self._origin += at
            found = Records()
            at = self._cut(found, is_last=is_last)
            yield from self._capture.take(data, found)
            if at > len(data):
                self._stream.skip(at - len(data))
        capture = self._capture
        capture.is_cut |= at != len(self._data) and self._damage is None
        if self._stream.damage:
            capture.note(self._origin + len(self._data), self._stream.damage)
            capture.is_cut = False

    def _cut(self, found: Records, *, is_last: bool) -> int:
        """Add the records that are whole in the data to `found`; return where they end."""
        data, at, is_found = self._data, 0, True
        if self._damage:
            at, is_found = self._look(at, is_last=is_last)
        while is_found:
            if self._damage:
                found.end_at(at)  # what the last one had for its length was wrong
                self._damage.until = self._origin + at
                self._damage = None
            try:
                at = self._format.cut(data, at, found, is_last=is_last)
                self._note_small(found)
                return at
            except Damaged as error:
                self._note_small(found)
                at, is_found = self._look(error.look_from, is_last=is_last)
                if error.is_end and not is_found:
                    self._capture.is_cut = True
                    return len(data)
                self._damage = self._note(error)
        return at

    def _note_small(self, found: Records) -> None:
        """Take note of the places that cost no more than what is in them."""
        for damage in found.damaged:
            self._note(damage).until = self._origin + damage.look_from
        found.damaged.clear()

    def _note(self, error: Damaged) -> Damage:
        return self._capture.note(self._origin + error.at, error.what)

    def _look(self, at: int, *, is_last: bool) -> tuple[int, bool]:
        """Return where something begins that can be understood, and True.

        Or False, and from where on to look once more was read.
        """
        data, size = self._data, LOOK_FIRST
        start = at
        while at < len(data):
            stop = min(at + size, len(data))
            begin = find_file(data, at, stop)
            place, is_found = self._format.find(data, at, begin, is_last=is_last)
            if is_found:
                return place, True
            if begin < stop:
                self._format = self._format_at(begin)
                return begin, True
            if place < stop:
                return place, False
            at, size = stop, min(size * 4, LOOK_MOST)
        if not is_last:
            at = max(start, min(at, len(data) - LONGEST_START + 1))
        return at, False


def foreign_links(capture: Capture) -> str:
    """Say which link types of a capture are not supported, and which are."""
    foreign = ", ".join(map(str, sorted(capture.links - LINK_TYPES.keys())))
    known = ", ".join(dict.fromkeys(LINK_TYPES.values()))
    return f"link type {foreign} is not supported; known: {known}"
