"""Strips that are hashed while they are written, so that blocks need not be read back."""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from pgmlite.wire.digests import digest, strip_digests, strip_size
from pgmlite.wire.geometry import pieces
from pgmlite.wire.layout import DIGEST_SIZE

ENTRY = 256
"""Bytes that a block costs here beside its digests, about."""


END = 1 << 63
"""Behind the bytes of any object."""


@dataclass(slots=True)
class _Strips:
    """What is known of the strips of one block: a digest for each place where `has` is 1."""

    has: bytearray
    digests: bytearray


class StripStream:
    """Hashes strips that are written in order, whatever the order of the strips.

    One that came in pieces with a hole, or not from its start, is not here: the caller reads it.
    Nor is one in which another symbol lies than the object has there.
    """

    KEPT = 8 << 20
    """Bytes that digests of blocks take which are not asked for yet; the oldest block makes room
    for one that begins. Enough for 5 GB of blocks of 1024 symbols of 1404 bytes."""

    OPEN = 64
    """Strips that wait for their rest; the oldest makes room."""

    def __init__(self) -> None:
        self._size = self._symbol_size = self._block_size = self._strip_size = 0
        self._most = 0
        self._blocks: dict[int, _Strips] = {}
        self._open: dict[int, tuple[int, blake3]] = {}

    def begin(self, size: int, symbol_size: int, block_symbols: int) -> None:
        """Cut what follows as an object of `size` bytes is cut."""
        self._size, self._symbol_size = size, symbol_size
        self._block_size = symbol_size * block_symbols
        self._strip_size = strip_size(symbol_size)
        each = ENTRY + DIGEST_SIZE * pieces(self._block_size, self._strip_size)
        self._most = max(1, self.KEPT // each)
        self._blocks.clear()
        self._open.clear()

    def update(self, offset: int, run: memoryview, *, follower: int = END) -> None:
        """Take bytes that are written at `offset`.

        Args:
            follower: Where what came with them goes on, behind them: a strip with a hole between is
                not worth its hash.
        """
        begin, size = offset, self._strip_size
        end = min(offset + len(run), self._size)
        while offset < end:
            start = offset - offset % self._block_size
            block_end = min(start + self._block_size, self._size)
            place, odd = divmod(offset - start, size)
            strips, stop = self._strips(start, block_end, place), min(end, block_end)
            if strips is None:
                offset = stop
                continue
            if not odd and stop - offset == size == len(run):
                # A visit of a carousel in rounds: nearly all that comes then.
                self._one(strips, place, offset, run)
                return
            while offset < stop:
                place, odd = divmod(offset - start, size)
                if not odd and stop - offset >= size:
                    piece = run[offset - begin : stop - begin]
                    offset += self._whole(strips, place, offset, piece)
                    continue
                first = offset - odd
                last = min(first + size, block_end)
                after = min(last, stop)
                begins = not odd or first in self._open
                if begins and (after == last or follower >= last):
                    piece = run[offset - begin : after - begin]
                    self._part(strips, place, (first, last), offset, piece)
                else:
                    strips.has[place] = 0
                    self._open.pop(first, None)
                offset = after

    def forget(self, offset: int, end: int) -> None:
        """Take note that something else than the object's own bytes is written there."""
        end, size = min(end, self._size), self._strip_size
        while offset < end:
            start = offset - offset % self._block_size
            place = (offset - start) // size
            if strips := self._blocks.get(start):
                strips.has[place] = 0
            self._open.pop(start + place * size, None)
            offset = min(start + (place + 1) * size, start + self._block_size)

    def _one(self, strips: _Strips, place: int, offset: int, strip: memoryview) -> None:
        """Hash a full strip."""
        at = DIGEST_SIZE * place
        strips.digests[at : at + DIGEST_SIZE] = digest(strip)
        strips.has[place] = 1
        if self._open:
            self._open.pop(offset, None)

    def _whole(self, strips: _Strips, place: int, offset: int, run: memoryview) -> int:
        """Hash the full strips that `run` begins with, from the one at `place` on.

        They are nearly all that comes: one by one with the rest they would cost twice as much.

        Returns:
            Their bytes.
        """
        size = self._strip_size
        count = len(run) // size
        found = strip_digests(run[: count * size], self._symbol_size)
        strips.digests[DIGEST_SIZE * place : DIGEST_SIZE * (place + count)] = found
        strips.has[place : place + count] = bytes([1]) * count
        if self._open:
            for first in range(offset, offset + count * size, size):
                self._open.pop(first, None)
        return count * size

    def _part(
        self, strips: _Strips, place: int, span: tuple[int, int], offset: int, piece: memoryview
    ) -> None:
        """Take a piece of the strip at `place`, of the bytes of `span`."""
        found = self._hash(*span, offset, piece)
        strips.has[place] = found is not None
        if found:
            strips.digests[DIGEST_SIZE * place : DIGEST_SIZE * (place + 1)] = found

    def _strips(self, start: int, stop: int, place: int) -> _Strips | None:
        """Return what is known of a block; None: there is no room for it.

        Args:
            place: Of the strip that is written.
        """
        strips = self._blocks.get(start)
        if strips is None:
            if len(self._blocks) >= self._most:
                # In rounds all blocks are under way: who made room for every one would keep none.
                if place:
                    return None
                self._blocks.pop(next(iter(self._blocks)))
            count = pieces(stop - start, self._strip_size)
            strips = self._blocks[start] = _Strips(bytearray(count), bytearray(DIGEST_SIZE * count))
        return strips

    def _hash(self, first: int, last: int, offset: int, piece: memoryview) -> bytes | None:
        """Return the digest of the strip of bytes `first` to `last` if `piece` completes it."""
        after, hasher = self._open.pop(first, None) or (first, None)
        if len(piece) == last - first:
            return digest(piece)
        if offset == first:
            hasher = blake3()
        elif hasher is None or offset != after:
            return None  # a hole, or bytes behind us replaced
        hasher.update(piece)
        if offset + len(piece) == last:
            return hasher.digest()
        while len(self._open) >= self.OPEN:
            self._open.pop(next(iter(self._open)))
        self._open[first] = offset + len(piece), hasher
        return None

    def take(self, offset: int) -> list[bytes | None]:
        """Return the digests of the strips of the block at `offset`, None where one is not known.

        They are forgotten here; nothing at all is an empty list.
        """
        strips = self._blocks.pop(offset, None)
        if strips is None:
            return []
        return [
            bytes(strips.digests[DIGEST_SIZE * place : DIGEST_SIZE * (place + 1)]) if has else None
            for place, has in enumerate(strips.has)
        ]
