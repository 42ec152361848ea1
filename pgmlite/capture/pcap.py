"""The classic format: a header, and packets with a head of 16 bytes each."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from pgmlite.capture.records import (
    ANOTHER,
    MAX_KEPT,
    PCAP_MAGICS,
    Damaged,
    Format,
    Records,
    begins_file,
)

HEADER = 24
HEAD = 16
FIELDS = (0, 4, 8, 12)
"""Of a head: seconds, fraction, bytes kept, bytes that there were."""

NEAR = 86_400
"""s between packets in a row; one behind damage is believed sooner if it is so near to those
before."""

MAX_LENGTH = 1 << 24
"""Bytes of a packet before it was cut, at most."""

CHAIN_NEAR = 2
CHAIN_FAR = 4
"""Heads in a row that show that the first of them is one."""

Words = npt.NDArray[np.uint32]


class Pcap(Format):
    """A pcap, from its header on."""

    def __init__(self, magic: bytes, interface: int) -> None:
        """
        Args:
            interface: Number of the only one it has.
        """
        self.order, self._unit = PCAP_MAGICS[magic]
        self._limit = 1_000_000_000 // self._unit
        self._link: int | None = None
        self._interface = interface
        self._seconds: int | None = None
        """Of the last packet that another one stands behind."""

    def cut(self, data: bytes, at: int, found: Records, *, is_last: bool) -> int:
        """Add the packets in `data`, but the last one only once it is known what follows it."""
        if self._link is None:
            if len(data) < at + HEADER:
                if is_last:
                    raise Damaged(at, "more of a header than is left", at + 1, is_end=True)
                return at
            (network,) = struct.unpack_from(self.order + "I", data, at + 20)
            self._link = network & 0xFFFF
            found.new_links.append(self._link)
            at += HEADER
        unpack = struct.Struct(self.order + "4I").unpack_from
        unit, end, begin, before = self._unit, len(data), at, len(found)
        stamps, starts, kept, lengths = found.stamps, found.starts, found.kept, found.lengths
        what = ""
        while at + HEAD <= end:
            seconds, fraction, here, length = unpack(data, at)
            if not 0 < here <= MAX_KEPT or length > MAX_LENGTH:
                what = _oddity(data, at, here, length)
                if what:
                    break
            if at + HEAD + here > end:
                break
            stamps.append(seconds * 1_000_000_000 + fraction * unit)
            starts.append(at + HEAD)
            kept.append(here)
            lengths.append(length)
            at += HEAD + here
        count = len(found) - before
        found.links += [self._link] * count
        found.interfaces += [self._interface] * count
        return self._end(found, before, begin, at, what, is_whole=at == end, is_last=is_last)

    def _end(
        self,
        found: Records,
        before: int,
        begin: int,
        at: int,
        what: str,
        *,
        is_whole: bool,
        is_last: bool,
    ) -> int:
        """Return from where on to go on behind the packets from `begin` to `at`.

        Args:
            before: Packets in `found` that are not of these.
            what: What is at `at` and can't be understood; empty: nothing is wrong there.
            is_whole: There is no more data.
        """
        last = len(found) - 1
        while last >= before and not found.kept[last] and at - found.starts[last] < MAX_KEPT:
            last -= 1
        if last > before:
            self._seconds = found.stamps[last - 1] // 1_000_000_000
        # How long the last packet is may be what is wrong.
        start = found.starts[last] - HEAD if last >= before else begin
        if what == ANOTHER:
            raise Damaged(at, what, at)
        if what:
            raise Damaged(at, what, start + 1)
        if not is_last:
            found.end_at(start)
            return start
        if not is_whole:
            raise Damaged(at, "more of a packet than is left", start + 1, is_end=True)
        return at

    def find(self, data: bytes, start: int, stop: int, *, is_last: bool) -> tuple[int, bool]:
        """Look for packets in a row, so many that they can't be there by chance."""
        words = self.words(data)
        room = len(words) - FIELDS[-1]
        end = min(stop, room)
        if start < end:
            heads = (words[start + at : end + at] for at in FIELDS)
            places = np.flatnonzero(self._plausible(*heads)) + start
            behind = places + HEAD + words[places + 8]
            good = behind >= room
            seen = behind[~good]
            good[~good] = self._plausible(*(words[seen + at] for at in FIELDS))
            for place in places[good].tolist():
                if (is_chain := self._is_chain(data, place, is_last=is_last)) is not False:
                    return place, bool(is_chain)
        return (stop if is_last else min(stop, max(start, end))), False

    def _plausible(
        self, seconds: Words, fraction: Words, here: Words, length: Words
    ) -> npt.NDArray[np.bool_]:
        """Return (n,) whether each of n heads may be one."""
        # Less than 0 is a large number here.
        good: npt.NDArray[np.bool_] = (here - np.uint32(1) < MAX_KEPT) & (fraction < self._limit)
        good &= (length >= here) & (length <= MAX_LENGTH)
        return good

    def _is_chain(self, data: bytes, at: int, *, is_last: bool) -> bool | None:
        """Whether head follows upon head from `at` on; None if more has to be read to know."""
        unpack = struct.Struct(self.order + "4I").unpack_from
        first, needed = 0, CHAIN_FAR
        for number in range(CHAIN_FAR):
            if at + HEAD > len(data):
                # The file ends: half as many have to do.
                return number >= needed // 2 and at <= len(data) if is_last else None
            if number == needed:
                return True
            seconds, fraction, here, length = unpack(data, at)
            if not 0 < here <= min(length, MAX_KEPT) or length > MAX_LENGTH:
                return False
            if fraction >= self._limit:
                return False
            if not number:
                first = seconds
                is_near = self._seconds is not None and abs(seconds - self._seconds) <= NEAR
                needed = CHAIN_NEAR if is_near else CHAIN_FAR
            elif abs(seconds - first) > NEAR:
                return False
            at += HEAD + here
        return True


def _oddity(data: bytes, at: int, here: int, length: int) -> str:
    """Return what is wrong with a head that has no bytes, or too many; empty: nothing.

    Args:
        here: Bytes that it keeps.
        length: Bytes that there were.
    """
    if begins_file(data, at):
        return ANOTHER
    if here > MAX_KEPT or length > MAX_LENGTH:
        return f"a packet of {here if here > MAX_KEPT else length} bytes"
    return "" if any(data[at : at + HEAD]) else "zeros"
